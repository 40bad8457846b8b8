//! What a change would have done to the calls of yesterday: gates for a pipeline, groups for a person, and the truth
//! about what cannot be told.

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check, gateway};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("im2_a_candidate_is_replayed_on_what_was_called", missing("curl"), replayed),
        trial("im2_what_records_do_not_hold_is_undecided_and_exits_4", missing("curl"), undecided),
        trial("im2_a_change_and_a_version_are_replayed_too", missing("curl"), change_and_version),
        trial("im2_the_files_of_a_ledger_are_replayed_without_a_process", missing("curl"), offline),
        trial("ex8_denials_of_a_day_become_permits_and_cases", missing("curl"), mined),
        trial("te3_a_recorded_decision_becomes_a_case_that_passes", missing("curl"), recorded_case),
        trial("im2_a_candidate_that_is_not_valid_is_shown_not_replayed", None, invalid),
    ]
}

const NO_DELETE: &str = "@id(\"no-delete\")\n@owner(\"site-team\")\nforbid (principal, action == Action::\"http:DELETE\", resource == Route::\"site\");\n";

/// A directory of policies beside the one in force.
fn candidate(gateway: &Gateway, files: &[(&str, &str)]) -> Result<PathBuf> {
    let dir = gateway.dir().join("candidate");
    fs::create_dir_all(&dir)?;
    for (name, text) in files {
        fs::write(dir.join(name), text)?;
    }
    Ok(dir)
}

fn impact(gateway: &Gateway, dir: &Path, more: &[&str]) -> Result<(i32, Value, String)> {
    let shown = dir.display().to_string();
    let asked = [&["policy", "impact", &shown, "--since", "1h"], more].concat();
    let table = gateway.cli(&asked)?;
    let json = gateway.cli(&[&asked[..], &["-o", "json"]].concat())?;
    check!(table.code == json.code, "one question, two answers: {table:?} {json:?}");
    Ok((json.code, serde_json::from_str(&json.stdout)?, table.stdout))
}

fn replayed() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let tls = gateway.identity()?;
    for method in ["GET", "GET", "DELETE", "DELETE", "DELETE"] {
        check!(gateway.curl(&tls, "/orders", &["-X", method])?.0 == 200, "{method} was refused");
    }
    let same = candidate(&gateway, &[("web.cedar", gateway::ALLOW_WEB)])?;
    let (code, json, text) = impact(&gateway, &same, &["--fail-on", "any"])?;
    check!(code == 0 && json["same"] == 5 && json["considered"] == 5, "unchanged: {code} {json}");
    check!(text.contains("5  decisions judged again"), "{text}");

    let stricter = candidate(&gateway, &[("no-delete.cedar", NO_DELETE)])?;
    let (code, json, text) = impact(&gateway, &stricter, &["--fail-on", "newly-denied"])?;
    check!(code == 3 && json["newly_denied"] == 3 && json["same"] == 2, "stricter: {code} {json}");
    let group = &json["groups"][0];
    check!(group["change"] == "allow_to_deny" && group["count"] == 3, "{group}");
    check!(
        group["after"]["policies"][0] == "no-delete" && group["before"]["policies"][0] == "web-all",
        "{group}"
    );
    let example = group["examples"][0].as_str().unwrap_or_default().to_owned();
    let said = "allow -> deny  web -> site  http:DELETE site  3 calls  e.g. ";
    check!(text.contains(said) && text.contains(&example), "{text}");
    check!(text.contains("forbid no-delete [policies/no-delete.cedar:3]"), "{text}");
    let found = gateway.json(&["decisions", "get", &example])?;
    check!(found["action"] == "http:DELETE", "the example is another call: {found}");
    let (code, ..) = impact(&gateway, &stricter, &["--fail-on", "newly-allowed"])?;
    check!(code == 0, "nobody gains anything: {code}");
    let (code, json, _) = impact(&gateway, &stricter, &["--filter", "action=http:GET"])?;
    check!(code == 0 && json["considered"] == 2 && json["same"] == 2, "filtered: {json}");

    // Nothing of it is in force, and the read is on record.
    check!(gateway.curl(&tls, "/orders", &["-X", "DELETE"])?.0 == 200, "the candidate was put into force");
    let reads = gateway.json(&["decisions", "query", "--all", "--since", "1h"])?;
    let is_read =
        |row: &&Value| row["body"]["query"].as_str().is_some_and(|query| query.starts_with("impact since="));
    check!(reads["items"].as_array().into_iter().flatten().any(|row| is_read(&row)), "no read record");
    Ok(())
}

/// As a security team does with a copy, or on the machine of a gateway that is down.
fn offline() -> Result {
    let mut gateway = Gateway::before(Upstream::echo().address)?;
    let tls = gateway.identity()?;
    for method in ["GET", "GET", "DELETE"] {
        check!(gateway.curl(&tls, "/orders", &["-X", method])?.0 == 200, "{method} was refused");
    }
    let dir = candidate(&gateway, &[("web.cedar", gateway::ALLOW_WEB), ("no-delete.cedar", NO_DELETE)])?;
    let ledger = gateway.dir().join("data/ledger").display().to_string();
    let (code, asked, _) = impact(&gateway, &dir, &["--fail-on", "newly-denied"])?;
    check!(code == 3 && asked["newly_denied"] == 1 && asked["same"] == 2, "asked: {code} {asked}");
    // Asking is on record as well, outside of what is judged again.
    let told = |json: &Value| ["considered", "same", "undecided", "groups"].map(|name| json[name].clone());
    // From the files the same, while the process runs and when it does not.
    let offline = ["--ledger", &ledger, "--fail-on", "newly-denied"];
    let (code, running, _) = impact(&gateway, &dir, &offline)?;
    check!(code == 3 && told(&running) == told(&asked), "running: {code} {running}\n{asked}");
    gateway.terminate()?;
    let (code, stopped, text) = impact(&gateway, &dir, &offline)?;
    check!(code == 3 && told(&stopped) == told(&asked), "stopped: {code} {stopped}\n{asked}");
    check!(text.contains("allow -> deny  web -> site  http:DELETE site  1 call  e.g. "), "{text}");
    let (code, json, _) = impact(&gateway, &dir, &["--ledger", &ledger, "--filter", "action=http:GET"])?;
    check!(code == 0 && json["considered"] == 2, "filtered: {code} {json}");

    let shown = dir.display().to_string();
    let nowhere = gateway.dir().join("nowhere").display().to_string();
    let outcome = gateway.cli(&["policy", "impact", &shown, "--ledger", &nowhere])?;
    check!(outcome.code == 1 && outcome.stderr.contains("the directory that holds `wal`"), "{outcome:?}");
    let outcome =
        gateway.cli(&["policy", "impact", &shown, "--ledger", &ledger, "--filter", "principle=x"])?;
    check!(outcome.code == 3 && outcome.stderr.contains("did you mean `principal`?"), "{outcome:?}");
    fs::write(
        dir.join("bad.cedar"),
        "@id(\"a\")\npermit (principal == Wrkload::\"x\", action, resource);\n",
    )?;
    let outcome = gateway.cli(&["policy", "impact", &shown, "--ledger", &ledger])?;
    check!(outcome.code == 3 && outcome.stderr.contains("did you mean `Workload`?"), "{outcome:?}");
    Ok(())
}

fn undecided() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let tls = gateway.identity()?;
    check!(gateway.curl(&tls, "/a", &["-H", "x-region: eu"])?.0 == 200, "refused");
    check!(gateway.curl(&tls, "/a", &["-X", "PUT"])?.0 == 200, "refused");
    let schema = "type SiteHeaders = { \"x-region\"?: Set<String> };\ntype SiteQuery = {};\ntype SiteParams = {};\ntype SiteClaims = {};\n";
    let policy = "@id(\"eu\")\npermit (principal, action == Action::\"http:GET\", resource)\nwhen { context.request.headers has \"x-region\" && context.request.headers[\"x-region\"] == [\"eu\"] };\n@id(\"writes\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"http:PUT\", resource == Route::\"site\");\n";
    let dir = candidate(&gateway, &[("eu.cedar", policy), ("site.cedarschema", schema)])?;
    let (code, json, text) = impact(&gateway, &dir, &[])?;
    check!(code == 4 && json["undecided"] == 1 && json["reason_changed"] == 1, "{code} {json}");
    check!(json["lacking"][0]["fact"] == "request.headers.x-region", "{json}");
    check!(text.contains("1 record lacks `request.headers.x-region`"), "{text}");
    Ok(())
}

fn invalid() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let dir = candidate(
        &gateway,
        &[("bad.cedar", "@id(\"a\")\npermit (principal == Wrkload::\"x\", action, resource);\n")],
    )?;
    let shown = dir.display().to_string();
    let outcome = gateway.cli(&["policy", "impact", &shown])?;
    check!(outcome.code == 3 && outcome.stderr.contains("did you mean `Workload`?"), "{outcome:?}");
    fs::write(dir.join("bad.cedar"), gateway::ALLOW_WEB)?;
    let outcome = gateway.cli(&["policy", "impact", &shown, "--filter", "principle=x"])?;
    check!(outcome.code == 3 && outcome.stderr.contains("did you mean `principal`?"), "{outcome:?}");
    for bad in [&["--filter", "x"][..], &["--time-limit", "x"], &["--change", "c1"]] {
        let outcome = gateway.cli(&[&["policy", "impact", &shown], bad].concat())?;
        check!(outcome.code == 64, "{bad:?}: {outcome:?}");
    }
    let outcome = gateway.cli(&["policy", "impact", &shown, "--time-limit", "0"])?;
    check!(outcome.code == 3 && outcome.stderr.contains("from 1 to 600"), "{outcome:?}");
    Ok(())
}

fn recorded_case() -> Result {
    let gateway = Gateway::build().policy(NO_DELETE).site(Upstream::echo().address).start()?;
    let tls = gateway.identity()?;
    check!(gateway.curl(&tls, "/orders?tenant=blue", &["-X", "DELETE"])?.0 == 403, "not refused");
    let denied = gateway.decisions(&["--deny", "--action", "http:DELETE"])?;
    let id = denied.first().and_then(|record| record["id"].as_str()).ok_or("no record")?.to_owned();
    let printed = gateway.cli(&["policy", "new", "--test", &id])?;
    let cases: Value = serde_json::from_str(&printed.stdout)?;
    check!(cases[0]["decision"] == "deny" && cases[0]["reason"][0] == "no-delete", "{cases}");

    let policies = gateway.dir().join("policies").display().to_string();
    let added = gateway.cli(&["policy", "new", "--test", &id, "--write", &policies])?;
    check!(added.code == 0 && added.stdout.contains("recorded_test.json"), "{added:?}");
    let tested = gateway.cli(&["policy", "test", &policies])?;
    check!(tested.code == 0 && tested.stdout.contains("1 passed, 0 failed"), "{tested:?}");
    let twice = gateway.cli(&["policy", "new", "--test", &id, "--write", &policies])?;
    check!(twice.code == 3 && twice.stderr.contains("already"), "{twice:?}");

    // Under other policies the same case tells that something changed.
    fs::write(gateway.dir().join("policies/web.cedar"), gateway::ALLOW_WEB)?;
    let broken = gateway.cli(&["policy", "test", &policies])?;
    check!(broken.code == 3 && broken.stdout.contains("expected deny"), "{broken:?}");
    let none = gateway.cli(&["policy", "new", "--test", "01JD8Z6N4T0B7K3Q5XW2M9E47Q"])?;
    check!(none.code == 3, "{none:?}");
    Ok(())
}

fn mined() -> Result {
    let gateway = Gateway::build().policy(NO_DELETE).site(Upstream::echo().address).start()?;
    let tls = gateway.identity()?;
    for method in ["GET", "PUT", "PUT", "DELETE"] {
        check!(gateway.curl(&tls, "/orders", &["-X", method])?.0 == 403, "{method} was not refused");
    }
    let dir = gateway.dir().join("suggested");
    let shown = dir.display().to_string();
    let printed = gateway.cli(&["policy", "suggest", "--since", "1h"])?;
    check!(printed.code == 0 && printed.stdout.matches("@id(").count() == 1, "{printed:?}");
    for said in [
        "# 3 denied calls become 1 permits; no forbid is touched",
        "http:DELETE site  1 calls  no-delete  owner site-team",
        "allow 3 of the denied calls and deny 0 of the allowed ones",
    ] {
        check!(printed.stderr.contains(said), "`{said}` is not said: {}", printed.stderr);
    }
    let written = gateway.cli(&["policy", "suggest", "--since", "1h", "--write", &shown])?;
    check!(written.code == 0, "{written:?}");
    let again = gateway.cli(&["policy", "suggest", "--since", "1h", "--write", &shown])?;
    check!(again.code == 3 && again.stderr.contains("stands there already"), "{again:?}");
    let tested = gateway.cli(&["policy", "test", &shown])?;
    check!(tested.code == 0 && tested.stdout.contains("2 passed, 0 failed"), "{tested:?}");

    gateway.publish("suggested.cedar", &fs::read_to_string(dir.join("suggested.cedar"))?)?;
    check!(gateway.curl(&tls, "/orders", &["-X", "PUT"])?.0 == 200, "PUT is not permitted");
    check!(gateway.curl(&tls, "/orders", &[])?.0 == 200, "GET is not permitted");
    check!(gateway.curl(&tls, "/orders", &["-X", "DELETE"])?.0 == 403, "the forbid was lifted");
    check!(gateway.curl(&tls, "/orders", &["-X", "POST"])?.0 == 403, "more than was denied is permitted");
    let nothing = gateway.cli(&["policy", "suggest", "--since", "1h", "--filter", "action=http:PUT"])?;
    check!(nothing.code == 0 && nothing.stdout.trim().is_empty(), "proposed again: {nothing:?}");
    Ok(())
}

fn change_and_version() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let tls = gateway.identity()?;
    for method in ["GET", "DELETE", "DELETE"] {
        check!(gateway.curl(&tls, "/orders", &["-X", method])?.0 == 200, "{method} was refused");
    }
    let version = format!("v{}", gateway.policies_version()?);
    let same = gateway.json(&["policy", "impact", "--version", &version])?;
    check!(same["same"] == 3 && same["considered"] == 3, "the version in force: {same}");

    let dir = candidate(&gateway, &[("web.cedar", gateway::ALLOW_WEB), ("no-delete.cedar", NO_DELETE)])?;
    let pushed =
        gateway.cli(&["policy", "push", &dir.display().to_string(), "-m", "no deletes", "-o", "json"])?;
    let change: Value = serde_json::from_str(&pushed.stdout)?;
    let id = change["change"]["id"].as_str().ok_or_else(|| format!("no change: {pushed:?}"))?.to_owned();
    let gate =
        gateway.cli(&["policy", "impact", "--change", &id, "--fail-on", "newly-denied", "-o", "json"])?;
    let impact: Value = serde_json::from_str(&gate.stdout)?;
    check!(gate.code == 3 && impact["newly_denied"] == 2, "{gate:?}");
    let shown = gateway.json(&["policy", "show", &id])?;
    check!(shown["impact"]["newly_denied"] == 2, "not noted with the change: {shown}");
    check!(gateway.cli(&["policy", "impact", "--change", "c999"])?.code == 3, "an unknown change");
    check!(gateway.cli(&["policy", "impact", "--version", "v999"])?.code == 3, "an unknown version");
    Ok(())
}
