//! Policies as a build checks them: lint in every form, edits, formatting, coverage, the schema; and lint with what the
//! running process knows.

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Outcome, Result, binary, check};

use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("do6_lint_speaks_to_people_and_to_builds", None, forms),
        trial("lint_fix_mends_what_is_safe_and_nothing_else", None, fix),
        trial("policy_fmt_forms_files_once", None, format),
        trial("te4_coverage_below_the_threshold_exits_3_and_says_what_is_missing", None, coverage),
        trial("schema_show_and_validate", None, schema),
        trial("pc2106_lint_live_knows_which_permits_are_always_overruled", missing("curl"), live),
    ]
}

/// A directory `policies` with those files, and a place to run commands beside it.
fn site(files: &[(&str, &str)]) -> Result<tempfile::TempDir> {
    let home = tempfile::tempdir()?;
    fs::create_dir(home.path().join("policies"))?;
    for (name, text) in files {
        fs::write(home.path().join("policies").join(name), text)?;
    }
    Ok(home)
}

fn run(home: &Path, arguments: &[&str]) -> Result<Outcome> {
    Ok(Command::new(binary::portcullis()).args(arguments).current_dir(home).output()?.into())
}

const WIDE: &str = "@id(\"wide\")\npermit (principal, action, resource);\n";
const TIMED: &str = "@id(\"timed\")\n@expires(\"2020-01-01T00:00:00Z\")\npermit (principal in Group::\"g\", action == Action::\"http:GET\", resource);\n";
const SNI: &str = "// by name\n@id(\"sni\")\npermit (principal in Group::\"g\", action == Action::\"http:GET\", resource)\nwhen { context.connection.sni == \"x\" };\n";

fn forms() -> Result {
    let home = site(&[("a.cedar", WIDE), ("b.cedar", TIMED)])?;
    let lint = |arguments: &[&str]| run(home.path(), &[&["policy", "lint", "policies"], arguments].concat());
    let pretty = lint(&[])?;
    check!(pretty.code == 3, "an error is found: {pretty:?}");
    for said in [
        "error[PC2103]",
        " --> policies/a.cedar:2:1",
        "help: ",
        "warning[PC2118]",
        "2 findings: 1 error, 1 warning in 2 files",
        "not asked: PC2105",
    ] {
        check!(pretty.stdout.contains(said), "`{said}` is not said: {}", pretty.stdout);
    }
    let compact = lint(&["--format", "compact"])?.stdout;
    check!(
        compact.lines().next().is_some_and(
            |line| line.starts_with("error: policies/a.cedar:2:1: ") && line.ends_with("[PC2103]")
        ),
        "{compact}"
    );
    let json: Value = serde_json::from_str(&lint(&["-o", "json"])?.stdout)?;
    check!(json["kind"] == "FindingList" && json["items"][0]["code"] == "PC2103", "{json}");
    let github = lint(&["--format", "github"])?.stdout;
    check!(
        github.starts_with("::error file=policies/a.cedar,line=2,col=1,endColumn=7,title=PC2103::"),
        "{github}"
    );
    let sarif: Value = serde_json::from_str(&lint(&["--format", "sarif"])?.stdout)?;
    let result = &sarif["runs"][0]["results"][0];
    check!(sarif["version"] == "2.1.0" && result["ruleId"] == "PC2103", "{sarif}");
    let place = &result["locations"][0]["physicalLocation"];
    check!(
        place["artifactLocation"]["uri"] == "policies/a.cedar" && place["region"]["startLine"] == 2,
        "{place}"
    );
    let junit = lint(&["--format", "junit"])?.stdout;
    check!(
        junit.contains("tests=\"2\" failures=\"2\"") && junit.trim_end().ends_with("</testsuites>"),
        "{junit}"
    );

    let only = lint(&["--rule", "pc2118"])?;
    check!(only.code == 0 && !only.stdout.contains("PC2103"), "a warning does not fail: {only:?}");
    check!(lint(&["--rule", "PC2118", "--fail-level", "warning"])?.code == 3, "the level is not reached");
    let unknown = lint(&["--rule", "PC2191"])?;
    check!(unknown.code == 64 && unknown.stderr.contains("did you mean"), "{unknown:?}");
    let file = run(home.path(), &["policy", "lint", "policies/b.cedar", "--format", "compact"])?;
    check!(file.code == 0 && !file.stdout.contains("PC2103"), "one file alone: {file:?}");
    let nothing = run(home.path(), &["policy", "lint", "nowhere"])?;
    check!(nothing.code == 3 && nothing.stdout.contains("PC2013"), "{nothing:?}");
    let warned = run(home.path(), &["policy", "validate", "policies/b.cedar", "--fail-level", "warning"])?;
    check!(warned.code == 0, "validate looks at the language, not at dates: {warned:?}");
    Ok(())
}

fn fix() -> Result {
    let home = site(&[("a.cedar", SNI), ("b.cedar", WIDE)])?;
    let path = home.path().join("policies/a.cedar");
    let before = run(home.path(), &["policy", "lint", "policies"])?;
    check!(
        before.code == 3
            && before.stdout.contains("error[PC2107]")
            && before.stdout.contains("--fix mends 1"),
        "{before:?}"
    );
    check!(fs::read_to_string(&path)? == SNI, "lint alone changed a file");
    let fixed = run(home.path(), &["policy", "lint", "policies", "--fix"])?;
    check!(
        fixed.code == 3 && fixed.stdout.contains("PC2103") && !fixed.stdout.contains("PC2107"),
        "{fixed:?}"
    );
    check!(fixed.stderr.contains("policies/a.cedar: 1 edit"), "{}", fixed.stderr);
    let text = fs::read_to_string(&path)?;
    check!(text == SNI.replace("{ context", "{ context.connection has sni && context"), "{text}");
    check!(fs::read_to_string(home.path().join("policies/b.cedar"))? == WIDE, "b.cedar was changed");
    Ok(())
}

fn format() -> Result {
    let home = site(&[("a.cedar", "@id(\"a\") permit(principal in Group::\"g\",action,resource);// why\n")])?;
    let checked = run(home.path(), &["policy", "fmt", "--check", "policies"])?;
    check!(checked.code == 3 && checked.stdout.contains("policies/a.cedar: is not in form"), "{checked:?}");
    check!(run(home.path(), &["policy", "fmt", "policies"])?.code == 0, "fmt failed");
    let text = fs::read_to_string(home.path().join("policies/a.cedar"))?;
    check!(text.contains("// why") && text.lines().count() > 1, "{text}");
    check!(
        run(home.path(), &["policy", "fmt", "--check", "policies/a.cedar"])?.code == 0,
        "not in form: {text}"
    );
    fs::write(home.path().join("policies/a.cedar"), "permit (principal action, resource);")?;
    let broken = run(home.path(), &["policy", "fmt", "policies"])?;
    check!(broken.code == 3 && broken.stderr.contains("policies/a.cedar:1:19"), "{broken:?}");
    Ok(())
}

fn coverage() -> Result {
    let context = r#"{"connection":{"mtls":true,"tls":13,"source_ip":{"fn":"ip","arg":"10.0.0.7"},"listener":"public","protocol":{"type":"Protocol","id":"h2"}},"request":{"method":"GET","host":"site","path":"PATH","segments":{},"segment_count":0,"params":{},"query":{},"query_names":[],"headers":{}},"time":{"now":{"fn":"datetime","arg":"2026-11-22T07:00:00Z"},"weekday":7,"minute":420}}"#;
    let case = |path: &str, decision: &str| {
        format!(
            r#"{{"name":"{path}","request":{{"principal":"Workload::\"spiffe://example.org/web\"","action":"Action::\"http:GET\"","resource":"Route::\"site\"","context":{}}},"entities":[],"decision":"{decision}","reason":[],"num_errors":0}}"#,
            context.replace("PATH", path)
        )
    };
    let policy = "@id(\"open\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"http:GET\", resource)\nwhen { context.request.path like \"/open/*\" };\n";
    let home = site(&[("a.cedar", policy), ("a_test.json", &format!("[{}]", case("/open/a", "allow")))])?;
    let test = |arguments: &[&str]| run(home.path(), &[&["policy", "test", "policies"], arguments].concat());
    check!(test(&[])?.code == 0 && !test(&[])?.stdout.contains("coverage"), "coverage was not asked for");
    let short = test(&["--threshold", "80"])?;
    check!(short.code == 3, "75 % pass 80: {short:?}");
    for said in ["coverage 75 %", "75 %  open", "never seen false: context.request.path like \"/open/*\""] {
        check!(short.stdout.contains(said), "`{said}` is not said: {}", short.stdout);
    }
    let json: Value = serde_json::from_str(&test(&["--coverage", "-o", "json"])?.stdout)?;
    check!(json["coverage"]["percent"] == 75 && json["coverage"]["policies"][0]["id"] == "open", "{json}");
    let linted = run(home.path(), &["policy", "lint", "policies", "--format", "compact"])?.stdout;
    check!(linted.contains("[PC2114]"), "lint does not count cases: {linted}");
    let both = format!("[{},{}]", case("/open/a", "allow"), case("/closed", "deny"));
    fs::write(home.path().join("policies/a_test.json"), both)?;
    let enough = test(&["--threshold", "100"])?;
    check!(enough.code == 0 && enough.stdout.contains("coverage 100 %"), "{enough:?}");
    let junit = test(&["--format", "junit"])?.stdout;
    check!(junit.contains("tests=\"2\" failures=\"0\""), "{junit}");
    Ok(())
}

fn schema() -> Result {
    let site_schema = "type SiteHeaders = { authorization?: Set<String> };\ntype SiteQuery = {};\ntype SiteParams = {};\ntype SiteClaims = {};\n";
    let home = site(&[("site.cedarschema", site_schema)])?;
    let shown = run(home.path(), &["schema", "show", "policies"])?;
    check!(
        shown.code == 0
            && shown.stdout.contains("entity Workload in")
            && shown.stdout.contains("authorization?"),
        "{shown:?}"
    );
    let shipped = run(home.path(), &["schema", "show", "-o", "json"])?;
    let json: Value = serde_json::from_str(&shipped.stdout)?;
    check!(json["parts"].as_array().is_some_and(|parts| parts.len() == 2), "{json}");
    let refused = run(home.path(), &["schema", "validate", "policies/site.cedarschema"])?;
    check!(
        refused.code == 3
            && refused.stderr.contains("error[PC2006]")
            && refused.stderr.contains("site.cedarschema:1:22"),
        "{refused:?}"
    );
    fs::write(
        home.path().join("policies/site.cedarschema"),
        site_schema.replace("authorization", "\"x-team\""),
    )?;
    let valid = run(home.path(), &["schema", "validate", "policies"])?;
    check!(valid.code == 0 && valid.stdout.contains("valid"), "{valid:?}");
    Ok(())
}

fn live() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let tls = gateway.identity()?;
    let rules = "@id(\"puts\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"http:PUT\", resource)\nwhen { context.connection.mtls };\n\n@id(\"no-puts\")\n@owner(\"ops\")\nforbid (principal, action == Action::\"http:PUT\", resource)\nwhen { context.connection.tls == 13 };\n";
    gateway.publish("puts.cedar", rules)?;
    for _ in 0..3 {
        check!(gateway.curl(&tls, "/a", &["-X", "PUT"])?.0 == 403, "the forbid is not in force");
        check!(gateway.curl(&tls, "/a", &[])?.0 == 200, "GET is refused");
    }
    let files = gateway.cli(&["policy", "lint", "--format", "compact"])?;
    check!(files.code == 0 && !files.stdout.contains("PC2106"), "{files:?}");
    let asked = gateway.cli(&["policy", "lint", "--format", "compact", "--live"])?;
    check!(asked.code == 0, "{asked:?}");
    let overruled = "`puts` granted nothing in 30 days: `no-puts` refused all";
    let line = asked.stdout.lines().find(|line| line.contains(overruled)).unwrap_or_default();
    check!(line.contains("puts.cedar:2:1") && line.contains("[PC2106]"), "{}", asked.stdout);
    check!(
        !asked.stdout.contains("`web-all` matched no call"),
        "a policy in use is called unused: {}",
        asked.stdout
    );
    Ok(())
}
