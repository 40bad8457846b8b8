//! Tables over `parse`: what is refused, with which code, where, and what the person is told to do.

mod agent;
mod broken;
mod changes;
mod clusters;
mod join;
mod ledger;
mod listeners;
mod rates;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use enforcer_traffic::{PathSpec, ValueTest, ValuesSpec};
use policies_engine::Role;
use serde_json::{Value as Json, json};

use super::keys::{self, Kind};
use super::{Loaded, changes as changed, explain, json_schema, parse, view};
use crate::messages::{Message, Severity};

/// A file that uses every section; the tables below replace one line of it.
const GOOD: &str = r#"version = 1
trust_domain = "example.org"
data_dir = "./data"
[ca]
[[ca.entry]]
spiffe_id = "spiffe://example.org/web"
selectors = ["unix:uid:1000"]
[agent]
[policies]
dir = "./policies"
[enforcer]
id = "spiffe://example.org/gateway"
[[enforcer.listener]]
name = "public"
bind = ["tcp://127.0.0.1:9443"]
[[enforcer.service]]
name = "orders"
methods = ["shop.Orders/Get"]
[[enforcer.route]]
name = "rpc"
service = "orders"
match = { grpc = "shop.Orders/*" }
to = ["h2c://127.0.0.1:50051"]
[[enforcer.route]]
name = "web"
service = "orders"
match = { path = "/" }
to = ["http://127.0.0.1:8000"]
[decisions]
[admin]
listen = ["http://127.0.0.1:8080"]
"#;

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, Vec<Message>> {
    let environment: BTreeMap<_, _> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parse(Path::new("/etc/portcullis/portcullis.toml"), text, &environment)
}

/// `GOOD` with its line `number`, which begins with `begins`, replaced.
fn with(number: usize, begins: &str, replacement: &str) -> String {
    let mut lines: Vec<_> = GOOD.lines().collect();
    assert!(lines[number - 1].starts_with(begins), "line {number} is `{}`", lines[number - 1]);
    lines[number - 1] = replacement;
    lines.join("\n")
}

/// `code line:column` of each message.
fn places(messages: &[Message]) -> Vec<String> {
    let place = |message: &Message| {
        message.place.as_ref().map_or("-".to_owned(), |place| format!("{}:{}", place.line, place.column))
    };
    messages.iter().map(|message| format!("{} {}", message.code, place(message))).collect()
}

#[test]
fn the_good_file_has_no_warning_and_every_default() {
    let loaded = read(GOOD, &[]).unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert_eq!(config.data_dir, Path::new("/etc/portcullis/data"));
    assert_eq!(config.agent.unwrap().socket, Path::new("/etc/portcullis/data/workload.sock"));
    let enforcer = config.enforcer.unwrap();
    assert!(!enforcer.observe);
    assert_eq!(enforcer.listeners[0].client_auth, "required");
    assert_eq!(
        enforcer.routes[0].matches.grpc.as_ref().map(|grpc| grpc.service.as_str()),
        Some("shop.Orders")
    );
    assert_eq!(config.admin.log, "info");
}

#[test]
fn rt_01_a_route_may_ask_for_everything_at_once() {
    let matches = r#"[enforcer.route.match]
hosts = ["a.example.org", "*.example.org"]
path_template = "/users/{id}"
method = ["GET"]
header = [{ name = "x-tenant", prefix = "ac", values = "all" }, { name = "x-any" }]
query = [{ name = "beta", exact = "1", values = "any" }]
cookie = [{ name = "session", regex = "[0-9]+", values = "any" }]
source = ["spiffe://example.org/ns/shop/*"]
source_ip = ["10.0.0.0/8"]
sni = ["*.example.org"]
port = [9443]
"#;
    let text = GOOD
        .replace("match = { path = \"/\" }\n", "")
        .replace("[decisions]", &format!("{matches}[decisions]"));
    let route = read(&text, &[]).unwrap().config.enforcer.unwrap().routes.remove(1).matches;
    assert_eq!(route.path, PathSpec::Template("/users/{id}".into()));
    assert_eq!(
        (route.hosts.len(), route.methods.as_slice(), route.ports.as_slice()),
        (2, &["GET".into()][..], &[9443][..])
    );
    let values = |name: &str, test, all| ValuesSpec { name: name.into(), test, all };
    assert_eq!(
        route.headers,
        [
            values("x-tenant", ValueTest::Prefix("ac".into()), true),
            values("x-any", ValueTest::Present, false)
        ]
    );
    assert_eq!(route.query, [values("beta", ValueTest::Exact("1".into()), false)]);
    assert_eq!(route.cookies, [values("session", ValueTest::Regex("[0-9]+".into()), false)]);
    assert_eq!((route.identities.len(), route.sources.len(), route.sni.len()), (1, 1, 1));
    // A change of one of them is a change of the route.
    let (old, new) = (read(&text, &[]).unwrap(), read(&text.replace("\"ac\"", "\"ab\""), &[]).unwrap());
    let found = changed(&old.config.values, &new.config.values);
    assert_eq!(found.live, ["enforcer.route[web].match.header[x-tenant].prefix"]);
}

#[test]
fn local_users_hold_roles_on_a_socket_that_they_can_reach() {
    let users = "[admin]\nsocket = \"unix:///run/portcullis/admin.sock\"\nsocket_mode = \"0770\"\n[[admin.user]]\nuid = 1001\nroles = [\"author\", \"viewer\"]\n[[admin.user]]\nuid = 1002\nroles = [\"approver\"]\n";
    let text = GOOD.replace("[admin]\nlisten = [\"http://127.0.0.1:8080\"]\n", users);
    let admin = read(&text, &[]).unwrap().config.admin;
    assert_eq!(admin.socket, Path::new("/run/portcullis/admin.sock"));
    assert_eq!(admin.socket_mode, 0o770);
    assert_eq!((admin.users[0].uid, admin.users[1].uid), (1001, 1002));
    assert_eq!(admin.users[0].roles, [Role::Author, Role::Viewer]);
    assert_eq!(admin.users[1].roles, [Role::Approver]);
    assert!(admin.is_two_person(0), "1002 may approve");
    assert!(!admin.is_two_person(1002), "1002 is the owner, and 1001 may not approve");
    let admin = read(GOOD, &[]).unwrap().config.admin;
    assert_eq!(
        (admin.socket.as_path(), admin.socket_mode),
        (Path::new("/etc/portcullis/data/admin.sock"), 0o700)
    );
    assert!(admin.users.is_empty());
}

#[test]
fn cf4_all_faults_come_at_once_in_file_order() {
    let text = GOOD
        .replace("listen = [\"http://127.0.0.1:8080\"]", "log = 1")
        .replace("name = \"public\"", "nam = \"public\"")
        .replace("trust_domain = \"example.org\"", "trust_domain = \"A\"")
        .replace("selectors = [\"unix:uid:1000\"]", "selectors = [\"unx:uid:1\", \"unix:gd:1\"]");
    let faults = read(&text, &[("PORTCULLIS_ADMIN__LOGG", "x")]).unwrap_err();
    assert_eq!(
        places(&faults),
        ["PC0104 2:16", "PC0104 7:14", "PC0104 7:27", "PC0103 14:1", "PC0104 31:7", "PC0110 -"]
    );
    // What shows across sections comes at once as well.
    let text = GOOD
        .replace("service = \"orders\"", "service = \"payments\"")
        .replace("127.0.0.1:8080", "0.0.0.0:8080");
    assert_eq!(places(&read(&text, &[]).unwrap_err()), ["PC0105 21:11", "PC0105 26:11", "PC0131 31:10"]);
}

#[test]
fn a_role_without_what_it_needs_is_refused_at_its_section() {
    let head = "version = 1\ntrust_domain = \"example.org\"\ndata_dir = \"./data\"\n";
    let enforcer = "[enforcer]\nid = \"spiffe://example.org/gateway\"\n";
    let listener = "[[enforcer.listener]]\nname = \"public\"\nbind = [\"tcp://127.0.0.1:0\"]\n";
    for (text, expected) in [
        (format!("{head}[agent]\n"), vec!["PC0105 4:1"]),
        (format!("{head}[policies]\n{enforcer}{listener}"), vec!["PC0105 5:1"]),
        (format!("{head}[ca]\n{enforcer}{listener}"), vec!["PC0105 5:1"]),
        (format!("{head}{enforcer}{listener}"), vec!["PC0105 4:1", "PC0105 4:1"]),
        (format!("{head}[ca]\n[policies]\n{enforcer}"), vec!["PC0102 6:1"]),
    ] {
        let faults = read(&text, &[]).unwrap_err();
        assert_eq!(places(&faults), expected, "{text}");
        assert!(faults.iter().all(|fault| fault.next.is_some()), "no next step: {faults:?}");
    }
    assert!(read(head, &[]).is_ok(), "a file without roles is valid");
    assert!(read(&format!("{head}[ca]\n"), &[]).is_ok(), "a lone authority is valid");
}

#[test]
fn empty_and_hostile_files_are_refused_without_harm() {
    let required: Vec<_> =
        ["version", "trust_domain", "data_dir"].map(|key| format!("`{key}` is missing in the file")).into();
    for text in ["", "\n\n", "# nothing\n", "\u{feff}"] {
        let shown: Vec<_> = read(text, &[]).unwrap_err().into_iter().map(|fault| fault.text).collect();
        assert_eq!(shown, required, "{text:?}");
    }
    let deep = format!("x = {}", "[".repeat(100_000));
    let wide = format!("x = \"{}\"", "é\u{202e}\t".repeat(10_000));
    for text in ["\0", "\u{1b}[2J = 1", "=", "[[[", "é = 1", "a.b.c.d = 1", deep.as_str(), wide.as_str()] {
        let faults = read(text, &[]).unwrap_err();
        for fault in faults {
            let place = fault.place.as_ref().unwrap();
            assert!(place.line >= 1 && place.column >= 1 && place.length >= 1);
            assert!(!fault.to_string().contains(['\u{1b}', '\u{202e}', '\0']), "{fault}");
        }
    }
}

#[test]
fn cf2_environment_beats_the_file_and_the_file_beats_defaults() {
    let text = GOOD.replace("[admin]\n", "[admin]\nlog = \"debug\"\n");
    assert_eq!(read(GOOD, &[]).unwrap().config.admin.log, "info");
    assert_eq!(read(&text, &[]).unwrap().config.admin.log, "debug");
    assert_eq!(read(&text, &[("PORTCULLIS_ADMIN__LOG", "trace")]).unwrap().config.admin.log, "trace");
    // A list is written with commas; a required key may come from the environment; sections that are always there
    // need not be written.
    let bare = "version = 1\ntrust_domain = \"example.org\"\n";
    let loaded = read(
        bare,
        &[
            ("PORTCULLIS_DATA_DIR", "/srv/p"),
            ("PORTCULLIS_ADMIN__LISTEN", "http://127.0.0.1:1, http://[::1]:2"),
            ("PORTCULLIS_DECISIONS__NAME", "d"),
        ],
    )
    .unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.data_dir, Path::new("/srv/p"));
    assert_eq!(loaded.config.decisions.name, "d");
    let expected: Vec<SocketAddr> = vec!["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()];
    assert_eq!(loaded.config.admin.listen, expected);
    // A wrong value in the file does not hide behind the variable that overrides it.
    assert!(read(&text.replace("\"debug\"", "7"), &[("PORTCULLIS_ADMIN__LOG", "trace")]).is_err());
}

#[test]
fn cf2_a_bad_value_in_the_environment_names_its_variable() {
    for (name, value, hint) in [
        ("PORTCULLIS_CA__SVID_TTL", "3600", "write \"3600s\""),
        ("PORTCULLIS_CA__SVID_TTL", "1m", "between 5m and 28h"),
        ("PORTCULLIS_ENFORCER__WORKERS", "many", "from 0 to 256"),
        ("PORTCULLIS_ENFORCER__MODE", "observ", "did you mean `observe`?"),
        ("PORTCULLIS_ENFORCER__ID", "spiffe://other.org/gateway", "`spiffe://other.org/gateway`"),
        ("PORTCULLIS_ADMIN__LISTEN", "http://0.0.0.0:8080", "not on loopback"),
        ("PORTCULLIS_TRUST_DOMAIN", "Example", "`Example`"),
        ("PORTCULLIS_AGENT__SOCKET_MODE", "9", "no file mode"),
    ] {
        let faults = read(GOOD, &[(name, value)]).unwrap_err();
        let fault = faults
            .iter()
            .find(|fault| fault.text.contains(name))
            .unwrap_or_else(|| panic!("{name}: {faults:?}"));
        assert!(fault.to_string().contains(hint), "{name}={value}: {fault}");
        assert_eq!(fault.place, None, "{name} is no line of the file");
        assert_eq!(fault.severity, Severity::Error);
    }
}

#[test]
fn cf2_a_variable_that_changes_nothing_is_a_warning() {
    let label = |name: &str| {
        let warnings = read(GOOD, &[(name, "tcp://10.0.0.1:80")]).unwrap().warnings;
        assert_eq!(places(&warnings), ["PC0110 -"], "{name}");
        assert_eq!(warnings[0].severity, Severity::Warning);
        assert!(warnings[0].text.contains(name));
        warnings[0].label.clone()
    };
    // Kubernetes sets these for a Service named portcullis.
    assert_eq!(label("PORTCULLIS_PORT"), None);
    assert_eq!(label("PORTCULLIS_SERVICE_HOST"), None);
    assert_eq!(label("PORTCULLIS_ADMIN_LOG").unwrap(), "did you mean `PORTCULLIS_ADMIN__LOG`?");
    // Neither the version nor one of many objects can come from the environment.
    assert!(label("PORTCULLIS_VERSION").is_none());
    label("PORTCULLIS_CA__ENTRY__HINT");
    label("PORTCULLIS_ENFORCER__ROUTE__MATCH__PATH");
    // A variable switches no role on.
    let bare = "version = 1\ntrust_domain = \"example.org\"\ndata_dir = \"./data\"\n";
    let loaded = read(
        bare,
        &[("PORTCULLIS_CA__SVID_TTL", "2h"), ("PORTCULLIS_SERVER", "unix:///x"), ("PORTCULLIS_CONFIG", "x")],
    )
    .unwrap();
    assert!(loaded.config.ca.is_none());
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].label.as_ref().unwrap().contains("no section"));
}

#[test]
fn the_files_that_init_writes_are_valid_and_need_no_change() {
    let dir = tempfile::tempdir().unwrap();
    crate::cli::init::write(dir.path(), "corp.example", Default::default(), false).unwrap();
    let path = dir.path().join("portcullis.toml");
    let loaded = super::load(&path).unwrap();
    assert_eq!(loaded.config.trust_domain.as_str(), "corp.example");
    let enforcer = loaded.config.enforcer.as_ref().unwrap();
    assert_eq!(enforcer.id.as_str(), "spiffe://corp.example/gateway");
    let known = crate::assemble::entities::of(&loaded.config, &[]);
    let policies = &loaded.config.policies.as_ref().unwrap().dir;
    let report = policies_store::check_dir(policies, &known);
    assert!(report.diagnostics.is_empty() && report.policies > 0, "{:?}", report.diagnostics);
    let cases = policies_store::run_cases(policies, &known).cases;
    assert!(!cases.is_empty() && cases.iter().all(|case| case.failure.is_none()), "{cases:?}");
    let written: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
    let schema: Json =
        serde_json::from_str(&std::fs::read_to_string(dir.path().join("portcullis.schema.json")).unwrap())
            .unwrap();
    assert_fits(&schema, &serde_json::to_value(&written).unwrap(), "");
}

/// Holds `value` against the parts of JSON Schema that `json_schema` uses, except patterns.
fn assert_fits(schema: &Json, value: &Json, at: &str) {
    match schema["type"].as_str() {
        Some("object") => {
            for (name, below) in value.as_object().unwrap() {
                let known = &schema["properties"][name];
                assert!(known.is_object(), "`{at}.{name}` is not in the schema");
                assert_fits(known, below, &format!("{at}.{name}"));
            }
            for name in schema["required"].as_array().unwrap() {
                assert!(value.get(name.as_str().unwrap()).is_some(), "`{at}` lacks {name}");
            }
        }
        Some("array") => {
            value.as_array().unwrap().iter().for_each(|item| assert_fits(&schema["items"], item, at))
        }
        Some("integer") => assert!(value.is_i64(), "{at}: {value}"),
        Some("boolean") => assert!(value.is_boolean(), "{at}: {value}"),
        Some("string") => assert!(value.is_string(), "{at}: {value}"),
        _ => assert!(schema["enum"].as_array().unwrap().contains(value), "{at}: {value}"),
    }
}

#[test]
fn the_json_schema_holds_every_key_with_its_text_and_closes_every_table() {
    let schema = json_schema();
    for key in keys::all() {
        let mut part = &schema;
        for name in key.path.split('.') {
            let object = if part["type"] == "array" { &part["items"] } else { part };
            assert_eq!(object["additionalProperties"], json!(false), "above {}", key.path);
            part = &object["properties"][name];
        }
        assert_eq!(part["description"], key.text, "{}", key.path);
        if let Kind::Choice(words) = key.kind {
            assert_eq!(part["enum"], json!(words));
        }
    }
}

#[test]
fn config_explain_tells_everything_about_every_key() {
    for key in keys::all() {
        let text = explain(key.path).unwrap();
        assert!(text.starts_with(&format!("{}\n", key.path)) && text.contains(key.text), "{text}");
        let first = text.lines().nth(2).unwrap();
        assert_eq!(first.ends_with("; required"), key.required, "{text}");
        if let Some(variable) = key.variable() {
            assert!(text.contains(&variable), "{text}");
        }
        if let Some(default) = key.default {
            assert!(text.contains(default), "{text}");
        }
    }
    assert!(explain("ca.entry").unwrap().contains("ca.entry.selectors"));
    assert!(!explain("ca.entry.hint").unwrap().contains("environment"));
    assert!(explain("admin.log").unwrap().contains("environment: PORTCULLIS_ADMIN__LOG"));
    assert!(!explain("version").unwrap().contains("environment"));
    assert_eq!(explain("ca.entry.nothing"), None);
}

#[test]
fn every_default_and_every_example_is_a_value_of_its_kind() {
    for key in keys::all() {
        let is_section = matches!(key.kind, Kind::Table | Kind::Tables)
            && key.example.starts_with('[')
            && !key.example.starts_with("[{");
        let written = match is_section {
            true => key.example.to_owned(),
            false => format!("{} = {}", key.path.rsplit('.').next().unwrap(), key.example),
        };
        assert!(written.parse::<toml::Table>().is_ok(), "{}: {written}", key.path);
        if let Some(section) = key.path.rsplit_once('.').map(|(section, _)| section).filter(|_| !is_section) {
            let repeated = keys::find(section).is_some_and(|above| above.kind == Kind::Tables);
            let above = match section.split('.').collect::<Vec<_>>().as_slice() {
                ["enforcer", kind @ ("route" | "cluster" | "listener"), _, ..] => {
                    format!("[[enforcer.{kind}]]\n")
                }
                _ => String::new(),
            };
            let text = match repeated {
                true => format!("{above}[[{section}]]\n{written}\n"),
                false => format!("{above}[{section}]\n{written}\n"),
            };
            let faults = read(&text, &[]).unwrap_err();
            let about: Vec<_> =
                faults.iter().filter(|fault| fault.code == "PC0104" || fault.code == "PC0103").collect();
            assert!(about.is_empty(), "{text}: {about:?}");
        }
    }
}

#[test]
fn config_view_tells_where_each_value_comes_from() {
    let loaded = read(GOOD, &[("PORTCULLIS_ENFORCER__WORKERS", "3")]).unwrap();
    let plain = view(&loaded.table, false);
    assert_eq!(plain["enforcer"]["workers"], 3);
    assert_eq!(plain["ca"]["svid_ttl"], "1h");
    assert_eq!(plain["enforcer"]["route"][0]["to"], json!(["h2c://127.0.0.1:50051"]));
    let origins = view(&loaded.table, true);
    assert_eq!(origins["trust_domain"], json!({ "value": "example.org", "origin": "line 2" }));
    assert_eq!(
        origins["enforcer"]["workers"],
        json!({ "value": 3, "origin": "PORTCULLIS_ENFORCER__WORKERS" })
    );
    assert_eq!(origins["ca"]["svid_ttl"], json!({ "value": "1h", "origin": "default" }));
    assert_eq!(origins["enforcer"]["route"][1]["match"]["path"]["origin"], "line 27");
    assert_eq!(origins["admin"]["log"]["origin"], "default");
}

#[test]
fn a_publisher_is_followed_in_place_of_a_directory_and_its_silence_may_be_endless() {
    let signer = "example.org/policies+8ec5fdd4+AQcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";
    let written = format!(
        "follow = \"unix:///run/p/admin.sock\"\nsigner = \"{signer}\"\ndeny_after = \"0s\"\nbootstrap = \"first.pcsnap\""
    );
    let config = read(&with(10, "dir", &written), &[]).unwrap().config;
    let follow = config.policies.unwrap().follow.unwrap();
    assert_eq!(follow.socket, Path::new("/run/p/admin.sock"));
    assert_eq!((follow.signer.to_string().as_str(), follow.signer.name()), (signer, "example.org/policies"));
    assert_eq!(follow.patience.stale_after, Some(std::time::Duration::from_secs(300)));
    assert_eq!(follow.patience.deny_after, None);
    assert_eq!(follow.bootstrap.unwrap(), Path::new("/etc/portcullis/first.pcsnap"));
    assert!(read(GOOD, &[]).unwrap().config.policies.unwrap().follow.is_none());
}
