//! The command line as a newcomer meets it: help with examples, exit codes, files of `init`, broken configurations.

use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Outcome, Result, binary, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("cl1_every_command_has_help_with_an_example", None, help),
        trial("exit_codes_are_those_of_the_manual", None, exit_codes),
        trial("su_05_the_binary_tells_what_it_is_made_of", missing("sha256sum"), made_of),
        trial("qs7_init_writes_what_check_and_test_accept", None, init),
        trial("xa3_commands_answer_in_json", None, json),
        trial("fs1_a_typo_in_the_file_stops_the_start_with_its_line_and_the_nearest_name", None, typo),
        trial("can_answers_allow_and_deny_by_exit_code", None, can),
        trial("entries_come_and_go", None, entries),
        trial("a_closed_pipe_ends_a_command_in_silence", None, closed_pipe),
        trial("pages_for_people_from_elsewhere_name_what_there_is", None, elsewhere),
    ]
}

fn run(arguments: &[&str]) -> Result<Outcome> {
    Ok(Command::new(binary::portcullis())
        .args(arguments)
        .current_dir("/")
        .env("NO_COLOR", "1")
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .output()?
        .into())
}

/// Every command, section and example of docs/coming-from exists.
fn elsewhere() -> Result {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let keys = std::fs::read_to_string(root.join("docs/reference/configuration.md"))?;
    let (mut commands, mut sections) = (0, 0);
    for page in std::fs::read_dir(root.join("docs/coming-from"))? {
        let page = page?.path();
        let text = std::fs::read_to_string(&page)?;
        let (name, mut is_code) = (page.display(), false);
        for word in text.split('`') {
            is_code = !is_code;
            if is_code || word.contains('\n') {
                continue;
            }
            if let Some(words) = word.strip_prefix("portcullis ") {
                commands += 1;
                let words: Vec<_> = words.split(' ').collect();
                let is_verb = |word: &&&str| word.starts_with(|c: char| c.is_ascii_lowercase());
                let verbs: Vec<&str> = words.iter().take_while(is_verb).copied().collect();
                let told = run(&[&verbs[..], &["--help"]].concat())?;
                check!(told.code == 0 && !verbs.is_empty(), "{name}: `{word}`: {told:?}");
                let options = words.iter().filter(|word| word.starts_with('-') && **word != "--");
                for option in options {
                    check!(told.stdout.contains(option), "{name}: `{word}` has no {option}");
                }
            } else if word.starts_with('[') && word.ends_with(']') {
                sections += 1;
                check!(keys.contains(&format!("`{word}`")), "{name}: there is no section {word}");
            }
        }
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let place = page.parent().unwrap_or(&root).join(link);
            check!(place.exists(), "{name}: {link} leads nowhere");
        }
    }
    check!(commands > 12 && sections > 8, "{commands} commands and {sections} sections were found");
    Ok(())
}

fn typo() -> Result {
    let dir = tempfile::tempdir()?;
    let told = run(&["init", &dir.path().display().to_string()])?;
    check!(told.code == 0, "{told:?}");
    let file = dir.path().join("portcullis.toml");
    let good = std::fs::read_to_string(&file)?;
    for (right, wrong) in [("data_dir", "data_dri"), ("[admin]", "[admni]"), ("trust_domain", "trust_doman")]
    {
        let Some(line) = good.lines().position(|line| line.starts_with(right)) else { continue };
        let bad = |(at, text): (usize, &str)| {
            if at == line { text.replacen(right, wrong, 1) } else { text.to_owned() }
        };
        let bad: Vec<_> = good.lines().enumerate().map(bad).collect();
        std::fs::write(&file, bad.join("\n"))?;
        let told = run(&["run", "-c", &file.display().to_string()])?;
        check!(told.code == 3, "{wrong}: {told:?}");
        let wanted = format!("did you mean `{}`?", right.trim_matches(['[', ']']));
        check!(told.stderr.contains(&wanted), "{wrong}: {told:?}");
        check!(told.stderr.contains(&format!("portcullis.toml:{}:", line + 1)), "{wrong}: {told:?}");
        check!(!dir.path().join("data/state").exists(), "it began all the same");
    }
    Ok(())
}

const COMMANDS: &[&[&str]] = &[
    &["demo"],
    &["init"],
    &["run"],
    &["check"],
    &["status"],
    &["wait"],
    &["svid", "fetch"],
    &["svid", "watch"],
    &["svid", "write"],
    &["svid", "exec"],
    &["svid", "inspect"],
    &["entry", "create"],
    &["entry", "list"],
    &["entry", "get"],
    &["entry", "count"],
    &["entry", "update"],
    &["entry", "apply"],
    &["entry", "explain"],
    &["entry", "delete"],
    &["bundle", "show"],
    &["ca", "show"],
    &["agent", "token"],
    &["policy", "validate"],
    &["policy", "test"],
    &["policy", "lint"],
    &["policy", "fmt"],
    &["policy", "signing"],
    &["policy", "signing", "rotate"],
    &["policy", "signing", "raise-epoch"],
    &["policy", "export"],
    &["route", "test"],
    &["schema", "show"],
    &["schema", "validate"],
    &["policy", "suggest"],
    &["can"],
    &["who-can"],
    &["what-can"],
    &["decisions", "query"],
    &["decisions", "tail"],
    &["decisions", "get"],
    &["decisions", "stats"],
    &["decisions", "report"],
    &["decisions", "export"],
    &["explain"],
    &["config", "view"],
    &["config", "schema"],
    &["config", "validate"],
    &["config", "reload"],
    &["completion"],
    &["version"],
];

fn help() -> Result {
    for command in COMMANDS {
        let outcome = run(&[command, &["--help"] as &[&str]].concat())?;
        check!(outcome.code == 0, "{command:?} --help ended with {}", outcome.code);
        let text = outcome.stdout.to_lowercase();
        check!(text.contains("usage:"), "{command:?} has no usage");
        let exempt =
            matches!(command.first(), Some(&"svid") | Some(&"decisions")) && command.last() == Some(&"get");
        check!(exempt || text.contains("example"), "{command:?} has no example: {text}");
    }
    Ok(())
}

fn exit_codes() -> Result {
    for (arguments, code) in [
        (vec!["--help"], 0),
        (vec!["version"], 0),
        (vec!["nonsense"], 64),
        (vec!["status", "--nonsense"], 64),
        (vec!["config", "validate", "-c", "/nonexistent.toml"], 3),
        (vec!["status", "--server", "unix:///nonexistent.sock"], 69),
        (vec!["status", "--server", "http://x"], 64),
        (vec!["config", "explain", "ca.entry"], 0),
        (vec!["config", "explain", "ca.entri"], 3),
        (vec!["code", "PC0103"], 0),
        (vec!["explain"], 64),
    ] {
        let outcome = run(&arguments)?;
        check!(
            outcome.code == code,
            "{arguments:?} ended with {}, not {code}: {}{}",
            outcome.code,
            outcome.stdout,
            outcome.stderr
        );
    }
    Ok(())
}

fn init() -> Result {
    let dir = tempfile::tempdir()?;
    let target = dir.path().join("gateway").display().to_string();
    let outcome = run(&["init", &target])?;
    check!(outcome.code == 0, "{outcome:?}");
    check!(run(&["init", &target])?.code == 1, "init overwrote files");
    let config = format!("{target}/portcullis.toml");
    let valid = run(&["config", "validate", "-c", &config])?;
    check!(valid.code == 0, "{valid:?}");
    let tested = run(&["policy", "test", "-c", &config])?;
    check!(tested.code == 0 && tested.stdout.contains("3 passed, 0 failed"), "{tested:?}");
    let validated = run(&["policy", "validate", "-c", &config])?;
    check!(validated.code == 0, "{validated:?}");
    let checked = run(&["check", "--pre", "-c", &config])?;
    check!(checked.code == 0, "{checked:?}");
    let sidecar = dir.path().join("sidecar").display().to_string();
    let outcome = run(&["init", &sidecar, "--template", "sidecar", "--trust-domain", "corp.example"])?;
    check!(outcome.code == 0, "{outcome:?}");
    let beside = format!("{sidecar}/portcullis.toml");
    for (command, said) in [
        (["config", "validate", "-c", &beside], ""),
        (["policy", "test", "-c", &beside], "3 passed, 0 failed"),
        (["policy", "validate", "-c", &beside], ""),
    ] {
        let outcome = run(&command)?;
        check!(outcome.code == 0 && outcome.stdout.contains(said), "{command:?}: {outcome:?}");
    }
    let system = dir.path().join("system").display().to_string();
    let outcome = run(&["init", &system, "--system"])?;
    check!(outcome.code == 0 && outcome.stdout.contains("systemctl enable --now portcullis"), "{outcome:?}");
    let written = std::fs::read_to_string(format!("{system}/portcullis.toml"))?;
    check!(
        written.contains("data_dir = \"/var/lib/portcullis\"")
            && written.contains("socket = \"unix:///run/portcullis/workload.sock\"")
            && !written.contains("./data"),
        "{written}"
    );
    let policy = std::fs::read_to_string(format!("{sidecar}/policies/sidecar.cedar"))?;
    check!(policy.contains("permit") && policy.contains("spiffe://corp.example/shop"), "{policy}");
    let schema: Value =
        serde_json::from_str(&std::fs::read_to_string(format!("{target}/portcullis.schema.json"))?)?;
    check!(schema["properties"]["trust_domain"].is_object(), "schema: {schema}");
    std::fs::write(
        format!("{target}/policies/orders.cedar"),
        "@id(\"x\")\npermit (principal == Workload::\"a\", action, resource)\n",
    )?;
    let broken = run(&["policy", "validate", "-c", &config])?;
    check!(broken.code == 3 && broken.stderr.contains("orders.cedar:"), "{broken:?}");
    Ok(())
}

fn json() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    for (command, kind) in [
        (vec!["status"], "Status"),
        (vec!["wait"], "Wait"),
        (vec!["entry", "list"], "EntryList"),
        (vec!["entry", "count"], "EntryCount"),
        (vec!["bundle", "show"], "Bundle"),
        (vec!["ca", "show"], "AuthorityList"),
        (vec!["agent", "token"], "JoinToken"),
        (vec!["policy", "list"], "PolicyList"),
        (vec!["decisions", "query"], "DecisionList"),
        (vec!["decisions", "stats"], "DecisionAggregate"),
        (vec!["decisions", "report"], "DecisionReport"),
        (vec!["config", "view", "--origin"], "Configuration"),
        (vec!["version"], "Version"),
        (vec!["check"], "CheckList"),
    ] {
        let answer = gateway.json(&command)?;
        check!(answer["apiVersion"] == "portcullis/v1" && answer["kind"] == kind, "{command:?}: {answer}");
        let lines = gateway.cli(&[command.as_slice(), &["-o", "ndjson"]].concat())?;
        for line in lines.stdout.lines() {
            serde_json::from_str::<Value>(line)
                .map_err(|error| format!("{command:?} -o ndjson: {error}: {line}"))?;
        }
        let table = gateway.cli(&command)?;
        check!(table.code == 0 && !table.stdout.trim().is_empty(), "{command:?} as table: {table:?}");
    }
    Ok(())
}

fn can() -> Result {
    let gateway = Gateway::build()
        .policy("@id(\"read\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"grpc\", resource == Method::\"shop.Orders/Get\");\n")
        .service("orders", &["shop.Orders/Get", "shop.Orders/Refund"])
        .route("orders", "orders", "{ grpc = \"shop.Orders/*\" }", "h2c://127.0.0.1:9")
        .start()?;
    let ask = |method: &str| {
        gateway.cli(&[
            "can",
            "spiffe://example.org/web",
            "grpc",
            &format!("Method::\"shop.Orders/{method}\""),
        ])
    };
    let (allow, deny) = (ask("Get")?, ask("Refund")?);
    check!(allow.code == 0 && allow.stdout.starts_with("ALLOW"), "{allow:?}");
    check!(deny.code == 2 && deny.stdout.contains("nearest: read"), "{deny:?}");
    check!(gateway.cli(&["can", "nonsense", "grpc", "Method::\"x\""])?.code == 3, "nonsense principal");
    Ok(())
}

fn entries() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let created = gateway.json(&[
        "entry",
        "create",
        "--id",
        "spiffe://example.org/batch",
        "--selector",
        "unix:uid:4711",
    ])?;
    let id = created["id"].as_str().ok_or("no id")?.to_owned();
    let ids = |gateway: &Gateway| -> Result<Vec<String>> {
        let list = gateway.json(&["entry", "list"])?;
        Ok(list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| entry["spiffe_id"].as_str().map(str::to_owned))
            .collect())
    };
    check!(ids(&gateway)?.contains(&"spiffe://example.org/batch".to_owned()), "not listed");
    check!(gateway.cli(&["entry", "delete", &id])?.code == 64, "deleting needs --yes");
    check!(gateway.cli(&["entry", "delete", &id, "--yes"])?.code == 0, "not deleted");
    check!(!ids(&gateway)?.contains(&"spiffe://example.org/batch".to_owned()), "still listed");
    let foreign =
        gateway.cli(&["entry", "create", "--id", "spiffe://other.org/x", "--selector", "unix:uid:1"])?;
    check!(foreign.code == 3 && foreign.stderr.contains("other.org"), "{foreign:?}");
    let unknown =
        gateway.cli(&["entry", "create", "--id", "spiffe://example.org/x", "--selector", "unix:uuid:1"])?;
    check!(unknown.code == 3, "{unknown:?}");
    Ok(())
}

fn closed_pipe() -> Result {
    let output = Command::new("sh")
        .args([
            "-c",
            &format!("{} config schema | head -1; echo ${{PIPESTATUS[0]}}", binary::portcullis().display()),
        ])
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    check!(!errors.contains("panicked") && !errors.contains("Broken pipe"), "{errors}");
    Ok(())
}

fn made_of() -> Result {
    let run = |arguments: &[&str]| Command::new(binary::portcullis()).args(arguments).output();
    let told: Value = serde_json::from_slice(&run(&["version", "-o", "json"])?.stdout)?;
    check!(told["features"].is_array() && told.get("commit").is_some(), "{told}");
    let listed = run(&["version", "--sbom"])?.stdout;
    let sbom: Value = serde_json::from_slice(&listed)?;
    check!(
        sbom["bomFormat"] == "CycloneDX" && sbom["metadata"]["component"]["name"] == "portcullis",
        "{told}"
    );
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("sbom"), &listed)?;
    let summed = Command::new("sha256sum").arg(dir.path().join("sbom")).output()?;
    let digest = String::from_utf8_lossy(&summed.stdout).into_owned();
    let digest = format!("sha256:{}", digest.split(' ').next().unwrap_or_default());
    check!(told["sbom"] == digest.as_str(), "{told} is not {digest}");
    Ok(())
}
