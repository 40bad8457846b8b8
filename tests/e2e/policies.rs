//! Policies as an operator lives with them: edits that are good, bad, many at once and under load; tests, shadow
//! policies, explanations of what is long replaced.

mod asked;
mod explained;
mod links;
mod lint;
pub(crate) mod load;
mod soak;
mod versions;

use std::fs;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = own();
    trials.extend(asked::trials());
    trials.extend(soak::trials());
    trials.extend(explained::trials());
    trials.extend(links::trials());
    trials.extend(lint::trials());
    trials.extend(versions::trials());
    trials
}

fn own() -> Vec<Trial> {
    vec![
        trial(
            "fs2_a_bad_edit_keeps_the_last_good_policies_and_is_shown_everywhere",
            missing("curl"),
            bad_edit,
        ),
        trial("fs2_a_start_with_bad_policies_serves_the_last_good_ones", missing("curl"), bad_start),
        trial("a_burst_of_policy_edits_loses_nothing", None, burst),
        trial("st_removed_policies_stop_to_grant_and_a_removed_directory_does_not", missing("curl"), removed),
        trial("st_policies_flip_under_load_without_a_lost_call_or_a_mixed_decision", None, load::flips),
        trial("ex6_a_decision_of_retired_policies_is_explained_by_them", missing("curl"), retired),
        trial("a_shadow_policy_changes_nothing_and_records_what_it_would", missing("curl"), shadow),
        trial("policy_test_names_the_failing_case_and_exits_3", None, failing_case),
        trial("er3_policy_validate_points_at_the_fault_and_tells_the_way_out", None, broken),
        trial("ex9_a_suggested_policy_is_valid_and_permits_just_that_call", missing("curl"), suggested),
    ]
}

/// A permit of every call for `who`, named `id`, with `lines` empty lines above it.
pub(crate) fn permit(id: &str, who: &str, lines: usize) -> String {
    format!(
        "{}@id(\"{id}\")\npermit (principal == Workload::\"spiffe://example.org/{who}\", action in Action::\"call\", resource);\n",
        "\n".repeat(lines)
    )
}

/// Asks until `answer` gives something.
fn until<T>(what: &str, mut answer: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if let Some(found) = answer()? {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    Err(format!("{what}: not within 10 s").into())
}

/// What `status` says of the last edit; waits until it says something.
fn refusal(gateway: &Gateway) -> Result<Value> {
    until("a diagnostic in status", || {
        let status = gateway.json(&["status"])?;
        Ok(status.pointer("/policies/diagnostics/0").cloned())
    })
}

fn bad_edit() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let tls = gateway.identity()?;
    let before = gateway.policies_version()?;
    let file = gateway.dir().join("policies/web.cedar");
    let good = fs::read_to_string(&file)?;
    let bad = format!("{good}\n@id(\"typo\")\npermit (principal == Wrkload::\"x\", action, resource);\n");
    fs::write(&file, &bad)?;
    let found = refusal(&gateway)?;
    check!(found["line"] == 5 && found["column"].as_u64() > Some(1), "place: {found}");
    check!(found["file"].as_str().is_some_and(|file| file.ends_with("web.cedar")), "file: {found}");
    check!(found["help"].is_string() || found["label"].is_string(), "no way out: {found}");
    check!(gateway.curl(&tls, "/", &[])?.0 == 200, "the last good policies are not in force");
    check!(gateway.policies_version()? == before, "a bad edit got a number");

    let place = format!("web.cedar:5:{}", found["column"]);
    let code = found["code"].as_str().unwrap_or_default().to_owned();
    let status = gateway.cli(&["status"])?.stdout;
    check!(status.contains(&place) && status.contains("last edit refused"), "status: {status}");
    let checked = gateway.cli(&["check"])?;
    check!(checked.code == 1, "check ended with {}", checked.code);
    let all = [&status, &checked.stdout].map(|said| said.contains("did you mean `Workload`?"));
    check!(all == [true, true], "no hint in status or check: {status}\n{}", checked.stdout);
    check!(checked.stdout.contains(&place) && checked.stdout.contains("next: "), "check: {}", checked.stdout);
    let line =
        gateway.log().lines().find(|line| line.contains("policies_refused")).unwrap_or_default().to_owned();
    check!(line.contains(&place) && line.contains(&code), "log: {line}");
    let explained = gateway.cli(&["code", &code])?;
    check!(explained.code == 0, "the code is in no registry: {explained:?}");

    let next = gateway.publish("web.cedar", &permit("fixed", "web", 0))?;
    check!(next == before + 1, "after {before} comes {next}");
    let status = gateway.json(&["status"])?;
    check!(status["policies"]["diagnostics"] == serde_json::json!([]), "stale diagnostics: {status}");
    check!(gateway.cli(&["check"])?.code == 0, "check still fails");
    Ok(())
}

fn bad_start() -> Result {
    let mut gateway = Gateway::before(Upstream::echo().address)?;
    let tls = gateway.identity()?;
    let before = gateway.policies_version()?;
    gateway.terminate()?;
    fs::write(gateway.dir().join("policies/web.cedar"), "permit (principal, action, resource")?;
    gateway.restart()?;
    check!(gateway.policies_version()? == before, "other policies than before");
    check!(gateway.curl(&tls, "/", &[])?.0 == 200, "the last good policies are not in force");
    let found = refusal(&gateway)?;
    check!(found["line"] == 1, "place: {found}");
    Ok(())
}

fn burst() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let before = gateway.policies_version()?;
    let begun = Instant::now();
    for edit in 0..20 {
        let one = gateway.dir().join("policies/web.cedar");
        fs::write(&one, permit(&format!("last-{edit}"), "web", 0))?;
        fs::write(
            gateway.dir().join(format!("policies/new-{edit}.cedar")),
            permit(&format!("new-{edit}"), "web", 0),
        )?;
        std::thread::sleep(Duration::from_millis(30));
    }
    check!(begun.elapsed() < Duration::from_secs(3), "the burst took {:?}", begun.elapsed());
    until("the last edit in force", || {
        let listed = gateway.json(&["policy", "list"])?;
        let ids: Vec<_> = listed["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|policy| policy["id"].as_str())
            .collect();
        let all = (0..20).all(|edit| ids.contains(&format!("new-{edit}").as_str()));
        Ok((all && ids.contains(&"last-19")).then_some(()))
    })?;
    let after = gateway.policies_version()?;
    check!(after > before && after <= before + 20, "{before} became {after}");
    Ok(())
}

fn removed() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let tls = gateway.identity()?;
    let before = gateway.policies_version()?;
    fs::remove_file(gateway.dir().join("policies/web.cedar"))?;
    until("a version without the policy", || Ok((gateway.policies_version()? > before).then_some(())))?;
    check!(gateway.curl(&tls, "/", &[])?.0 == 403, "a removed policy still grants");
    gateway.publish("again.cedar", &permit("again", "web", 0))?;
    check!(gateway.curl(&tls, "/", &[])?.0 == 200, "a new file grants nothing");
    fs::rename(gateway.dir().join("policies"), gateway.dir().join("elsewhere"))?;
    let found = refusal(&gateway)?;
    check!(found["message"].as_str().is_some_and(|text| text.contains("cannot be read")), "{found}");
    check!(gateway.curl(&tls, "/", &[])?.0 == 200, "a directory that is gone changed decisions");
    fs::rename(gateway.dir().join("elsewhere"), gateway.dir().join("policies"))?;
    until("no diagnostic once the directory is back", || {
        let status = gateway.json(&["status"])?;
        Ok((status["policies"]["diagnostics"] == serde_json::json!([])).then_some(()))
    })?;
    gateway.publish("again.cedar", &permit("back", "web", 0))?;
    Ok(())
}

fn retired() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::build().policy(&permit("first", "nobody", 3)).site(upstream.address).start()?;
    let tls = gateway.identity()?;
    let first = gateway.policies_version()?;
    check!(gateway.curl(&tls, "/", &[])?.0 == 403, "the first version allows");
    gateway.publish("web.cedar", &permit("second", "web", 7))?;
    check!(gateway.curl(&tls, "/", &[])?.0 == 200, "the second version refuses");
    for number in 3..6 {
        gateway.publish("web.cedar", &permit(&format!("later-{number}"), "nobody", 0))?;
    }
    check!(gateway.curl(&tls, "/", &[])?.0 == 403, "the last version allows");
    let denied = gateway.decisions(&["--effect", "deny", "--action", "http:GET"])?;
    let allowed = gateway.decisions(&["--effect", "allow", "--action", "http:GET"])?;
    check!(
        denied.len() == 2 && allowed.len() == 1,
        "{} denials, {} permissions",
        denied.len(),
        allowed.len()
    );
    let explain = |record: &Value| gateway.json(&["explain", record["id"].as_str().unwrap_or_default()]);

    let oldest = explain(&denied[1])?;
    check!(oldest["recomputed"] == "same" || oldest["recomputed"] == true, "recomputed: {oldest}");
    check!(oldest["policies"] == first, "explained by other policies than {first}: {oldest}");
    check!(oldest["nearest"][0]["policy"] == "first", "nearest: {oldest}");
    check!(oldest["nearest"][0]["source"]["line"] == 5, "line of `permit`: {oldest}");
    let text = oldest["text"].as_str().unwrap_or_default();
    check!(text.contains(&format!("policies v{first}")) && text.contains("web.cedar:5"), "text: {text}");
    let second = explain(&allowed[0])?;
    check!(second["determining"][0]["policy"] == "second", "determining: {second}");
    check!(second["determining"][0]["source"]["line"] == 9, "line of `permit`: {second}");
    let newest = explain(&denied[0])?;
    check!(newest["nearest"][0]["policy"] == "later-5", "nearest: {newest}");
    Ok(())
}

fn shadow() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let tls = gateway.identity()?;
    gateway.publish(
        "shadow.cedar",
        "@id(\"no-deletes\")\n@mode(\"shadow\")\nforbid (principal, action == Action::\"http:DELETE\", resource);\n",
    )?;
    let (status, body) = gateway.curl(&tls, "/", &["-X", "DELETE"])?;
    check!(status == 200, "a shadow policy refuses: {status} {body}");
    check!(gateway.curl(&tls, "/", &[])?.0 == 200, "a shadow policy refuses what it does not name");
    let would = gateway.decisions(&["--would", "deny"])?;
    check!(would.len() == 1 && would[0]["effect"] == "allow", "records: {would:?}");
    check!(
        would[0]["would"].to_string().contains("no-deletes"),
        "the shadow policy is not named: {}",
        would[0]
    );
    check!(would[0]["determining"][0] == "web-all", "what decided is not named: {}", would[0]);

    gateway.publish("web.cedar", &format!("@mode(\"shadow\")\n{}", permit("soon", "web", 0)))?;
    check!(gateway.curl(&tls, "/", &[])?.0 == 403, "a shadow permit grants");
    let would = gateway.decisions(&["--would", "allow"])?;
    check!(would.len() == 1 && would[0]["effect"] == "deny", "records: {would:?}");
    check!(would[0]["would"].to_string().contains("soon"), "the shadow permit is not named: {}", would[0]);
    Ok(())
}

/// A case of `policy test`: `web` reads `site`.
fn case(name: &str, decision: &str, reason: &str) -> String {
    let context = r#"{"connection":{"mtls":true,"tls":13,"source_ip":{"fn":"ip","arg":"10.0.0.7"},"listener":"public","protocol":{"type":"Protocol","id":"h2"}},"request":{"method":"GET","host":"site","path":"/a","segments":{"0":"a"},"segment_count":1,"params":{},"query":{},"query_names":[],"headers":{}},"time":{"now":{"fn":"datetime","arg":"2026-11-22T07:00:00Z"},"weekday":7,"minute":420}}"#;
    format!(
        r#"{{"name":"{name}","request":{{"principal":"Workload::\"spiffe://example.org/web\"","action":"Action::\"http:GET\"","resource":"Route::\"site\"","context":{context}}},"entities":[],"decision":"{decision}","reason":[{reason}],"num_errors":0}}"#
    )
}

fn failing_case() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let cases = |list: &[String]| {
        fs::write(gateway.dir().join("policies/web_test.json"), format!("[{}]", list.join(",")))
    };
    let passes = case("web reads", "allow", "\"web-all\"");
    cases(std::slice::from_ref(&passes))?;
    let outcome = gateway.cli(&["policy", "test"])?;
    check!(outcome.code == 0 && outcome.stdout.contains("1 passed, 0 failed"), "{outcome:?}");
    cases(&[
        passes,
        case("web is refused", "deny", ""),
        case("another policy grants", "allow", "\"other\""),
    ])?;
    let outcome = gateway.cli(&["policy", "test"])?;
    check!(outcome.code == 3 && outcome.stdout.contains("1 passed, 2 failed"), "{outcome:?}");
    for said in ["web is refused", "another policy grants", "web_test.json", "deny", "web-all"] {
        check!(outcome.stdout.contains(said), "`{said}` is not said: {}", outcome.stdout);
    }
    let json = gateway.cli(&["policy", "test", "-o", "json"])?;
    let listed: Value = serde_json::from_str(&json.stdout)?;
    let failed: Vec<_> =
        listed["items"].as_array().into_iter().flatten().filter(|case| case["passed"] == false).collect();
    check!(json.code == 3 && failed.len() == 2, "{listed}");
    cases(&["{\"name\": 1}".to_owned()])?;
    let outcome = gateway.cli(&["policy", "test"])?;
    check!(outcome.code == 3 && outcome.stdout.contains("principal is missing"), "{outcome:?}");
    Ok(())
}

/// A policy file, the code, where it is reported, and what is said.
const BROKEN: &[(&str, &str, &str, &str)] = &[
    ("@id(\"a\")\npermit (principal, action, resource)\n", "PC2001", "p.cedar:2:", ";"),
    ("@id(\"a\")\npermitt (principal, action, resource);\n", "PC2001", "p.cedar:2:1", "permit"),
    (
        "@id(\"a\")\npermit (principal == Wrkload::\"x\", action, resource);\n",
        "PC2002",
        "p.cedar:2:22",
        "did you mean `Workload`?",
    ),
    (
        "@id(\"a\")\npermit (principal, action == Action::\"http:GTE\", resource);\n",
        "PC2002",
        "p.cedar:2:30",
        "http:GET",
    ),
    (
        "@id(\"a\")\npermit (principal, action == Action::\"http:GET\", resource)\nwhen {\n  context.request.methd == \"GET\"\n};\n",
        "PC2111",
        "p.cedar:4:3",
        "did you mean `method`?",
    ),
    (
        "@id(\"a\")\npermit (principal, action == Action::\"http:GET\", resource)\nwhen { context.request.segment_count == \"1\" };\n",
        "PC2002",
        "p.cedar:3:",
        "Long",
    ),
    ("\npermit (principal, action, resource);\n", "PC2101", "p.cedar:2:1", "@id"),
    (
        "@id(\"a\")\npermit (principal, action, resource);\n@id(\"a\")\nforbid (principal, action, resource);\n",
        "PC2102",
        "p.cedar:3:1",
        "first used at p.cedar:1:1",
    ),
    (
        "@id(\"a\")\n@mode(\"shadwo\")\npermit (principal, action, resource);\n",
        "PC2007",
        "p.cedar:2:1",
        "did you mean `shadow`?",
    ),
    (
        "@id(\"a\")\n@expires(\"2027-01-01T00:00:00Z\")\nforbid (principal, action, resource);\n",
        "PC2008",
        "p.cedar:2:1",
        "forbid",
    ),
    (
        "@id(\"a\")\npermit (principal, action == ?action, resource);\n",
        "PC2001",
        "p.cedar:2:30",
        "slots stand for",
    ),
];

fn broken() -> Result {
    let dir = tempfile::tempdir()?;
    let mut wrong = String::new();
    for (policy, code, place, said) in BROKEN {
        fs::write(dir.path().join("p.cedar"), policy)?;
        let output = std::process::Command::new(tests::binary::portcullis())
            .args(["policy", "validate", "."])
            .current_dir(dir.path())
            .output()?;
        let outcome = tests::Outcome::from(output);
        let stderr = &outcome.stderr;
        let fits =
            stderr.contains(&format!("error[{code}]")) && stderr.contains(place) && stderr.contains(said);
        if outcome.code != 3 || !fits || !stderr.contains('^') {
            wrong.push_str(&format!(
                "wanted {code} at {place} with `{said}`, ended with {}:\n{stderr}\n",
                outcome.code
            ));
        }
    }
    check!(wrong.is_empty(), "{wrong}");
    Ok(())
}

fn suggested() -> Result {
    let gateway =
        Gateway::build().policy(&permit("nobody", "nobody", 0)).site(Upstream::echo().address).start()?;
    let tls = gateway.identity()?;
    check!(gateway.curl(&tls, "/a", &["-X", "PUT"])?.0 == 403, "not refused");
    let denied = gateway.decisions(&["--deny", "--action", "http:PUT"])?;
    let id = denied.first().and_then(|record| record["id"].as_str()).ok_or("no record")?.to_owned();
    let outcome = gateway.cli(&["policy", "suggest", &id])?;
    check!(outcome.code == 0 && outcome.stdout.contains("@id("), "{outcome:?}");
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("suggested.cedar"), &outcome.stdout)?;
    let valid = gateway.cli(&["policy", "validate", &dir.path().display().to_string()])?;
    check!(valid.code == 0 && valid.stderr.is_empty(), "the suggestion is not valid: {valid:?}");
    gateway.publish("suggested.cedar", &outcome.stdout)?;
    check!(gateway.curl(&tls, "/a", &["-X", "PUT"])?.0 == 200, "the suggestion does not permit the call");
    check!(gateway.curl(&tls, "/a", &["-X", "DELETE"])?.0 == 403, "the suggestion permits another method");
    Ok(())
}
