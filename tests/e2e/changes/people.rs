//! Several people on one machine: each is a uid that the kernel tells apart, with the roles the configuration gives it.

use std::process::Command;

use serde_json::{Value, json};
use tests::upstream::Upstream;
use tests::{Gateway, Outcome, Result, check};

use super::{READ, WRITE, builder, desk, push, shown};

const AUTHOR: u32 = 61_001;
const APPROVER: u32 = 61_002;

fn team() -> Result<Gateway> {
    builder(Upstream::echo()).user(AUTHOR, &["author", "viewer"]).user(APPROVER, &["approver"]).start()
}

fn expect_as(gateway: &Gateway, uid: u32, arguments: &[&str], code: i32) -> Result<Outcome> {
    let outcome = gateway.cli_as(uid, arguments)?;
    check!(
        outcome.code == code,
        "uid {uid}: `{}` ended with {}, not {code}:\n{}{}",
        arguments.join(" "),
        outcome.code,
        outcome.stdout,
        outcome.stderr
    );
    Ok(outcome)
}

/// A directory that everybody can read.
fn shared(files: &[(&str, &str)]) -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::Builder::new()
        .prefix("portcullis-desk-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()?;
    for (file, text) in files {
        std::fs::write(dir.path().join(file), text)?;
    }
    Ok(dir)
}

pub(super) fn two_persons() -> Result {
    let gateway = team()?;
    let root = |arguments: &[&str], code: i32| super::expect(&gateway, arguments, code);
    let checked = root(&["check"], 0)?.stdout;
    check!(checked.contains("two-person rules hold"), "check: {checked}");
    let status = gateway.json(&["status"])?;
    check!(status["policies"]["two_person"] == true, "{status}");

    let dir = shared(&[("web.cedar", READ), ("write.cedar", WRITE)])?;
    let pushed =
        expect_as(&gateway, AUTHOR, &["policy", "push", &shown(dir.path()), "-m", "write", "-o", "json"], 0)?;
    let pushed: Value = serde_json::from_str(&pushed.stdout)?;
    let change = pushed["change"]["id"].as_str().ok_or("no change")?.to_owned();
    check!(pushed["widens"] == true, "{pushed}");

    // Neither the operator nor the author does it alone.
    let alone = root(&["policy", "commit", &change], 77)?;
    check!(
        alone.stderr.contains("two-person-widening") && alone.stderr.contains("policy approve"),
        "{}",
        alone.stderr
    );
    check!(alone.stderr.contains("error[PC2043]") && alone.stderr.contains("next: "), "{}", alone.stderr);
    expect_as(&gateway, AUTHOR, &["policy", "commit", &change], 77)?;
    expect_as(&gateway, AUTHOR, &["policy", "approve", &change], 77)?;
    // The refusal is on record, and explained by the rule.
    let refused = gateway.decisions(&["--action", "policy:publish", "--effect", "deny"])?;
    check!(
        refused.iter().any(|record| record["determining"] == json!(["two-person-widening"])),
        "{refused:?}"
    );

    expect_as(&gateway, APPROVER, &["policy", "approve", &change], 0)?;
    let version = gateway.json(&["policy", "commit", &change])?;
    check!(version["approvers"] == json!([format!("Portcullis::LocalUser::\"{APPROVER}\"")]), "{version}");
    check!(version["author"] == format!("Portcullis::LocalUser::\"{AUTHOR}\""), "{version}");
    let number = version["version"].as_u64().ok_or("no version")?;
    root(&["policy", "activate", &format!("v{number}")], 0)?;
    check!(gateway.policies_version()? == number, "not in force");

    // An edit drops the approval: what was approved is one content.
    std::fs::write(dir.path().join("write.cedar"), WRITE.replace("http:write", "http"))?;
    let wide = expect_as(&gateway, AUTHOR, &["policy", "push", &shown(dir.path()), "-o", "json"], 0)?;
    let wide: Value = serde_json::from_str(&wide.stdout)?;
    let change = wide["change"]["id"].as_str().ok_or("no change")?.to_owned();
    expect_as(&gateway, APPROVER, &["policy", "approve", &change], 0)?;
    std::fs::write(
        dir.path().join("more.cedar"),
        WRITE.replace("site-write", "more").replace("/web", "/batch"),
    )?;
    expect_as(&gateway, AUTHOR, &["policy", "push", &shown(dir.path()), "--change", &change], 0)?;
    let dropped = gateway.json(&["policy", "show", &change])?;
    check!(dropped["approvals"] == json!([]) && dropped["stage"] == "checked", "{dropped}");
    root(&["policy", "commit", &change], 77)?;

    // What only closes needs nobody else, and going back neither.
    let less = desk(&gateway, "less", &[("web.cedar", READ)])?;
    root(&["policy", "push", &shown(&less), "--publish"], 0)?;
    root(&["policy", "rollback"], 0)?;
    Ok(())
}

pub(super) fn saved() -> Result {
    let gateway = team()?;
    let before = gateway.policies_version()?;
    let watched = gateway.dir().join("policies");
    std::fs::write(watched.join("write.cedar"), WRITE)?;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let found = loop {
        let status = gateway.json(&["status"])?;
        if let Some(found) = status.pointer("/policies/diagnostics/0") {
            break found.clone();
        }
        check!(std::time::Instant::now() < end, "a save opened something: {status}");
        std::thread::sleep(std::time::Duration::from_millis(30));
    };
    check!(
        found["code"] == "PC2043" && found["help"].as_str().is_some_and(|help| help.contains("policy push")),
        "{found}"
    );
    check!(gateway.policies_version()? == before, "a save opened something");
    // The way that is named works.
    let change = push(&gateway, &watched, "web may write")?;
    expect_as(&gateway, APPROVER, &["policy", "approve", &change], 0)?;
    let version = gateway.json(&["policy", "commit", &change])?["version"].as_u64().ok_or("no version")?;
    super::expect(&gateway, &["policy", "activate", &format!("v{version}")], 0)?;
    // What closes something is taken at once.
    let closed = gateway.publish("web.cedar", &READ.replace("http:read", "http:GET"))?;
    check!(closed == version + 1, "v{closed} after v{version}");
    Ok(())
}

pub(super) fn roles() -> Result {
    let people = [
        (61_003, "viewer"),
        (61_004, "auditor"),
        (61_005, "author"),
        (61_006, "approver"),
        (61_007, "operator"),
    ];
    let mut builder = builder(Upstream::echo());
    for (uid, role) in people {
        builder = builder.user(uid, &[role]);
    }
    let gateway = builder.start()?;
    let change = push(
        &gateway,
        &desk(&gateway, "desk", &[("web.cedar", &READ.replace("http:read", "http:GET"))])?,
        "less",
    )?;
    let at = |verb: &str| format!("/v1/policies/changes/{change}{verb}");
    let everybody = ["viewer", "auditor", "author", "approver", "operator"];
    // Method, path, and who may; everybody else gets 403. What may be done is malformed on purpose where it writes.
    let rows: Vec<(&str, String, &[&str])> = vec![
        ("GET", "/v1/policies".into(), &everybody),
        ("GET", "/v1/policies/site-read".into(), &everybody),
        ("GET", "/v1/policies/site-read/history".into(), &everybody),
        ("GET", "/v1/policies/site-read/blame".into(), &everybody),
        ("GET", "/v1/policies/changes".into(), &everybody),
        ("GET", at(""), &everybody),
        ("GET", "/v1/policies/versions".into(), &everybody),
        ("GET", "/v1/policies/versions/1/files".into(), &everybody),
        ("GET", "/v1/policies/diff".into(), &everybody),
        ("POST", "/v1/policies/changes".into(), &["author", "operator"]),
        ("POST", at(":validate"), &["author", "operator"]),
        ("POST", at(":test"), &["author", "operator"]),
        ("POST", at(":abandon"), &["author", "operator"]),
        ("POST", at(":approve"), &["approver", "operator"]),
        ("POST", at(":commit"), &["operator"]),
        ("POST", "/v1/policies/versions/99:activate".into(), &["operator"]),
        ("POST", "/v1/policies/versions/99:shadow".into(), &["operator"]),
        ("POST", "/v1/policies/versions/99:rollback".into(), &["operator"]),
        ("DELETE", "/v1/policies/shadow".into(), &["operator"]),
        ("GET", "/v1/policies/signing".into(), &everybody),
        ("POST", "/v1/policies:format".into(), &everybody),
        ("POST", "/v1/policies/signing:raise-epoch".into(), &["operator"]),
    ];
    let socket = gateway.admin_socket().display().to_string();
    for (method, path, may) in &rows {
        for (uid, role) in people.into_iter().chain([(61_009, "nobody")]) {
            let id = uid.to_string();
            let output = Command::new("setpriv")
                .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"])
                .args([
                    "curl",
                    "-sS",
                    "--unix-socket",
                    &socket,
                    "-X",
                    method,
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{http_code}",
                ])
                .arg(format!("http://localhost{path}"))
                .output()?;
            let status: u16 = String::from_utf8_lossy(&output.stdout).parse()?;
            let expected = may.contains(&role);
            check!((status != 403) == expected, "{role}: {method} {path} is {status}");
            check!(status != 500 && status != 401, "{role}: {method} {path} is {status}");
        }
    }
    // Each of them is one decision on record.
    let asked = gateway.decisions(&["--principal", "61009", "--limit", "1000"])?;
    check!(asked.len() == rows.len(), "{} decisions for {} calls", asked.len(), rows.len());
    Ok(())
}

pub(super) fn others() -> Result {
    let gateway = team()?;
    let dir = shared(&[("web.cedar", &READ.replace("http:read", "http:GET"))])?;
    let pushed = expect_as(&gateway, AUTHOR, &["policy", "push", &shown(dir.path()), "-o", "json"], 0)?;
    let change = serde_json::from_str::<Value>(&pushed.stdout)?["change"]["id"]
        .as_str()
        .ok_or("no change")?
        .to_owned();
    // Not even the operator, who could otherwise approve their own words under the author's name.
    let mine = desk(&gateway, "mine", &[("web.cedar", WRITE)])?;
    let refused = super::expect(&gateway, &["policy", "push", &shown(&mine), "--change", &change], 77)?;
    check!(refused.stderr.contains("belongs to") && refused.stderr.contains("next: "), "{}", refused.stderr);
    expect_as(&gateway, APPROVER, &["policy", "push", &shown(dir.path()), "--change", &change], 77)?;
    // Nobody approves their own, root included.
    let own = push(&gateway, &mine, "mine")?;
    let refused = super::expect(&gateway, &["policy", "approve", &own], 77)?;
    check!(refused.stderr.contains("no-self-approval"), "{}", refused.stderr);
    Ok(())
}
