//! What is no change, no version, no file of policies: refused with a code and a command that helps, and nothing moves.

use std::fs;

use serde_json::json;
use tests::{Result, check};

use super::{READ, WRITE, desk, expect, publish, shown, started};

pub(super) fn exported() -> Result {
    let gateway = started()?;
    let file = shown(&gateway.dir().join("export.json"));
    let first = gateway.policies_version()?;
    expect(&gateway, &["policy", "export", &file], 0)?;
    publish(&gateway, &desk(&gateway, "desk", &[("write.cedar", WRITE)])?, "write only")?;
    let imported = gateway.json(&["policy", "import", &file, "-m", "as it was", "--publish"])?;
    check!(imported["version"] == first + 2, "{imported}");
    let files = gateway.ask("GET", &format!("/v1/policies/versions/{}/files", first + 2), &[], None)?;
    check!(files.body["items"] == json!([{ "file": "web.cedar", "text": READ }]), "{files:?}");
    let same = gateway.json(&["policy", "import", &file])?;
    check!(same["change"].is_null(), "importing what is there makes a change: {same}");
    fs::write(&file, "{}")?;
    let bad = expect(&gateway, &["policy", "import", &file], 3)?;
    check!(bad.stderr.contains("is no export"), "{}", bad.stderr);
    Ok(())
}

pub(super) fn nonsense() -> Result {
    let gateway = started()?;
    let watched = shown(&gateway.dir().join("policies"));
    let same = expect(&gateway, &["policy", "push", &watched], 0)?.stdout;
    check!(same.contains("nothing differs"), "{same}");
    for (arguments, code) in [
        (vec!["policy", "show", "c99"], 3),
        (vec!["policy", "show", "banana"], 3),
        (vec!["policy", "commit", "c99"], 3),
        (vec!["policy", "get", "nothing"], 3),
        (vec!["policy", "history", "nothing"], 3),
        (vec!["policy", "blame", "nothing"], 3),
        (vec!["policy", "diff", "v98", "v99"], 3),
        (vec!["policy", "push", "/nonexistent"], 3),
        (vec!["policy", "push", &watched, "--change", "c99"], 3),
    ] {
        let outcome = expect(&gateway, &arguments, code)?;
        check!(
            outcome.stderr.contains("error[PC") && outcome.stderr.contains("next: "),
            "{arguments:?}: {}",
            outcome.stderr
        );
    }
    for (body, status) in [
        (json!({ "edits": [{ "file": "../etc/passwd", "text": "x" }] }), 400),
        (json!({ "edits": [{ "file": "a.exe", "text": "x" }] }), 400),
        (json!({ "edits": [{ "file": "a.cedar", "text": "x", "mode": 7 }] }), 400),
        (json!({ "edits": [], "base": 999 }), 404),
        (json!({ "edits": [{ "file": "a.cedar", "text": "x".repeat(300 << 10) }] }), 413),
        (json!({}), 400),
    ] {
        let answer = gateway.ask("POST", "/v1/policies/changes", &[], Some(&body))?;
        check!(
            answer.status == status,
            "{} is {answer:?}",
            &body.to_string()[..body.to_string().len().min(90)]
        );
        check!(answer.body["title"].is_string(), "{answer:?}");
    }
    for path in ["/v1/policies/versions/x", "/v1/policies/changes?limit=0", "/v1/policies/diff?form=1"] {
        check!(gateway.ask("GET", path, &[], None)?.status == 400, "{path}");
    }
    for (method, path) in
        [("POST", "/v1/policies/changes/c1:nonsense"), ("POST", "/v1/policies/versions/1:commit")]
    {
        check!(gateway.ask(method, path, &[], None)?.status == 404, "{method} {path}");
    }
    // An editor asks without leaving anything behind.
    let asked = |text: &str| {
        let body = json!({ "files": [{ "file": "a.cedar", "text": text }] });
        gateway.ask("POST", "/v1/policies:validate", &[], Some(&body))
    };
    check!(asked(READ)?.body["valid"] == true, "{:?}", asked(READ)?);
    let typo = asked(&READ.replace("permit (", "permitt ("))?;
    check!(typo.status == 422 && typo.body["errors"][0]["line"] == 2, "{typo:?}");
    check!(gateway.json(&["policy", "changes"])?["items"] == json!([]), "something was left behind");
    // Locking everybody out is no change that anybody makes by mistake (PS2).
    let lock = "@id(\"lock\")\n@owner(\"x\")\nforbid (principal, action in Portcullis::Action::\"admin\", resource);\n";
    let dir = desk(&gateway, "desk", &[("web.cedar", READ), ("lock.cedar", lock)])?;
    let locked = expect(&gateway, &["policy", "push", &shown(&dir), "--publish"], 3)?;
    check!(locked.stderr.contains("PC2031"), "{}", locked.stderr);
    Ok(())
}

/// What an editor gets from the API is what the command writes.
pub(super) fn formatted() -> Result {
    let gateway = started()?;
    let text = "@id(\"a\") permit(principal,action == Action::\"http:GET\",resource) when{context.request.method==\"GET\"};\n";
    let body =
        json!({ "files": [{ "file": "a.cedar", "text": text }, { "file": "read.cedar", "text": READ }] });
    let answer = gateway.ask("POST", "/v1/policies:format", &[], Some(&body))?;
    check!(answer.status == 200, "{} {}", answer.status, answer.body);
    let dir = desk(&gateway, "desk", &[("a.cedar", text), ("read.cedar", READ)])?;
    expect(&gateway, &["policy", "fmt", &shown(&dir)], 0)?;
    for (at, file) in ["a.cedar", "read.cedar"].into_iter().enumerate() {
        let written = fs::read_to_string(dir.join(file))?;
        check!(answer.body["items"][at]["text"] == written, "{file}: {} or {written}", answer.body);
    }
    check!(answer.body["items"][0]["changed"] == true, "{}", answer.body);
    let bad = json!({ "files": [{ "file": "a.cedar", "text": "\npermit (principal);" }] });
    let refused = gateway.ask("POST", "/v1/policies:format", &[], Some(&bad))?;
    check!(refused.status == 422 && refused.body["errors"][0]["line"] == 2, "{}", refused.body);
    Ok(())
}

/// Paths of ours do not hide policies of the same name.
pub(super) fn named_as_paths() -> Result {
    let gateway = started()?;
    for name in ["changes", "versions", "diff", "shadow", "snapshot", "signing"] {
        let text = READ.replace("site-read", name);
        gateway.publish(&format!("{name}.cedar"), &text)?;
        let policy = gateway.json(&["policy", "get", name])?;
        check!(policy["id"] == name, "{policy}");
        let link = policy["history"].as_str().ok_or("no link")?;
        let history = gateway.ask("GET", link, &[], None)?;
        check!(history.status == 200 && history.body["items"][0]["step"] == "added", "{}", history.body);
        let told = gateway.json(&["policy", "history", name])?;
        check!(told["items"].as_array().map(Vec::len) == Some(1), "{told}");
        expect(&gateway, &["policy", "blame", name], 0)?;
    }
    Ok(())
}
