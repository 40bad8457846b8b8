//! The verbs of policies over gRPC with grpcio: the same way through a change as over REST, by the same rights, with the
//! same answers and refusals, and the same on record.

use std::path::Path;

use serde_json::{Value, json};
use tests::peers::missing_module;
use tests::upstream::Upstream;
use tests::{Gateway, Result, Script, check};

use super::{READ, WRITE, builder, started};

pub(super) fn missing() -> Option<String> {
    missing_module("grpc").or_else(|| missing_module("google.protobuf"))
}

fn descriptors() -> String {
    let below = "../portcullis/src/admin/policies/grpc/generated/verbs.binpb";
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below).display().to_string()
}

/// Makes calls one after the other.
pub(super) fn calls(gateway: &Gateway, calls: Value) -> Result<Vec<Value>> {
    let socket = gateway.admin_socket().display().to_string();
    Script::run("policies_client", &[&socket, &descriptors(), &calls.to_string()])
}

/// Makes them as another user of this machine.
pub(super) fn calls_as(gateway: &Gateway, calls: Value, uid: &str) -> Result<Vec<Value>> {
    let socket = gateway.admin_socket().display().to_string();
    Script::run("policies_client", &[&socket, &descriptors(), &calls.to_string(), uid])
}

/// One call that must be answered.
fn call(gateway: &Gateway, method: &str, request: Value) -> Result<Value> {
    let answers = calls(gateway, json!([[method, request]]))?;
    let answer = answers.into_iter().next().ok_or("nothing")?;
    check!(answer["code"] == "OK", "{method}: {answer}");
    Ok(answer["message"].clone())
}

/// One call that must be refused so.
fn refused(gateway: &Gateway, method: &str, request: Value, code: &str, reason: &str) -> Result<Value> {
    let answers = calls(gateway, json!([[method, request]]))?;
    let answer = answers.into_iter().next().ok_or("nothing")?;
    check!(answer["code"] == code, "{method} is no {code}: {answer}");
    let info = &answer["infos"][0];
    check!(info["reason"] == reason && info["domain"] == "portcullis", "{method}: {answer}");
    Ok(answer)
}

/// A document of REST as its message is printed: without null, kind and meaning; 64-bit numbers are texts.
fn told(document: &Value) -> Value {
    match document {
        Value::Object(members) => {
            let is_told = |name: &str| !["apiVersion", "kind", "meaning", "history"].contains(&name);
            let kept = members.iter().filter(|(name, value)| is_told(name) && !value.is_null());
            Value::Object(kept.map(|(name, value)| (name.clone(), told(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(told).collect()),
        Value::Number(number) => Value::String(number.to_string()),
        other => other.clone(),
    }
}

/// Without what is another from call to call.
fn moving(mut document: Value) -> Value {
    if let Some(members) = document.as_object_mut() {
        for name in ["at", "snapshot", "outside", "cases", "text"] {
            members.remove(name);
        }
    }
    document
}

/// Member by member: what one has, the other has, but for empty values, which gRPC prints where REST leaves them out.
fn same(path: &str, rest: &Value, grpc: &Value) -> Result {
    match (rest, grpc) {
        (Value::Object(rest), Value::Object(grpc)) => {
            for (name, value) in rest {
                same(&format!("{path}.{name}"), value, grpc.get(name).unwrap_or(&Value::Null))?;
            }
            let is_empty =
                |value: &Value| matches!(value.to_string().as_str(), "\"\"" | "[]" | "false" | "\"0\"");
            let more = grpc.iter().find(|(name, value)| !rest.contains_key(*name) && !is_empty(value));
            check!(more.is_none(), "{path}: only gRPC has {more:?}");
        }
        (Value::Array(rest), Value::Array(grpc)) => {
            check!(rest.len() == grpc.len(), "{path}: {} and {} items", rest.len(), grpc.len());
            for (at, (rest, grpc)) in rest.iter().zip(grpc).enumerate() {
                same(&format!("{path}[{at}]"), rest, grpc)?;
            }
        }
        _ => check!(rest == grpc, "{path}: {rest} over REST, {grpc} over gRPC"),
    }
    Ok(())
}

pub(super) fn whole_way() -> Result {
    let gateway = started()?;
    let tls = gateway.identity()?;
    check!(gateway.curl(&tls, "/", &["-X", "POST"])?.0 == 403, "POST is permitted before");
    let before = gateway.policies_version()?;
    let edits = json!([{ "file": "write.cedar", "text": WRITE.replace("principal ==", "principle ==") }]);
    let change = call(&gateway, "Changes/Create", json!({ "message": "web may write", "edits": edits }))?;
    let id = change["id"].as_str().ok_or("no id")?.to_owned();

    let found = refused(&gateway, "Changes/Check", json!({ "id": id }), "FAILED_PRECONDITION", "PC2040")?;
    check!(found["violations"][0][0] == "policies/write.cedar:3:3", "no place: {found}");
    let stale = json!({ "id": id, "revision": change["revision"], "edits": [{ "file": "write.cedar", "text": WRITE }] });
    refused(&gateway, "Changes/Edit", stale, "ABORTED", "PC2041")?;
    let unsaid = json!({ "id": id, "edits": [{ "file": "write.cedar", "text": WRITE }] });
    refused(&gateway, "Changes/Edit", unsaid, "FAILED_PRECONDITION", "PC2041")?;
    let read = call(&gateway, "Changes/Get", json!({ "id": id }))?;
    let edit = json!({ "id": id, "revision": read["revision"], "edits": [{ "file": "write.cedar", "text": WRITE }] });
    call(&gateway, "Changes/Edit", edit)?;
    let checks = call(&gateway, "Changes/Check", json!({ "id": id }))?;
    check!(checks["passed"] == true && checks["widens"] == true, "{checks}");

    let revision = &checks["change"]["revision"];
    let version = call(&gateway, "Changes/Commit", json!({ "id": id, "revision": revision }))?;
    let number = (before + 1).to_string();
    check!(version["version"] == number.as_str() && version["standing"] == "committed", "{version}");
    check!(gateway.policies_version()? == before, "a commit is in force");
    call(&gateway, "Versions/Activate", json!({ "version": number }))?;
    check!(gateway.curl(&tls, "/", &["-X", "POST"])?.0 == 200, "not in force");
    let back = call(&gateway, "Versions/Rollback", json!({ "version": before, "message": "no" }))?;
    check!(back["rollback_of"] == before.to_string().as_str(), "{back}");
    check!(gateway.curl(&tls, "/", &["-X", "POST"])?.0 == 403, "still in force");

    // Who did it is on record as over REST, and so are the decisions that permitted it.
    let done = gateway.records("kind=administration")?;
    let operations: Vec<_> =
        done.iter().rev().filter_map(|record| record["body"]["operation"].as_str()).collect();
    check!(
        operations == ["policy.draft", "policy.commit", "policy.activate", "policy.rollback"],
        "{operations:?}"
    );
    let decision = version["decision_id"].as_str().ok_or("no decision id")?;
    let explained = gateway.json(&["explain", decision])?;
    check!(explained.to_string().contains("policy:publish"), "{explained}");
    check!(gateway.decisions(&["--action", "policy:publish"])?.len() == 2, "one decision for each call");
    Ok(())
}

pub(super) fn twins() -> Result {
    let gateway = started()?;
    let create =
        json!({ "message": "twin", "ticket": "SEC-1", "edits": [{ "file": "write.cedar", "text": WRITE }] });
    call(&gateway, "Changes/Create", create)?;
    call(&gateway, "Changes/Check", json!({ "id": "c1" }))?;
    gateway.json(&["policy", "commit", "c1"])?;
    gateway.json(&["policy", "activate", "v2"])?;
    call(&gateway, "Changes/Create", json!({ "message": "next", "edits": [{ "file": "write.cedar" }] }))?;
    let pairs = [
        ("Policies/List", json!({}), "/v1/policies"),
        ("Policies/Get", json!({ "id": "site-write" }), "/v1/policies/site-write"),
        ("Policies/Get", json!({ "id": "site-read", "version": 1 }), "/v1/policies/site-read?version=1"),
        ("Changes/List", json!({ "limit": 1 }), "/v1/policies/changes?limit=1"),
        ("Changes/Get", json!({ "id": "c1" }), "/v1/policies/changes/c1"),
        ("Changes/Get", json!({ "id": "c2" }), "/v1/policies/changes/c2"),
        ("Versions/List", json!({}), "/v1/policies/versions"),
        ("Versions/Get", json!({ "version": 2 }), "/v1/policies/versions/2"),
        ("Versions/Files", json!({ "version": 2 }), "/v1/policies/versions/2/files"),
        ("Versions/Diff", json!({}), "/v1/policies/diff"),
        ("Versions/Diff", json!({ "from": 2, "to": 1 }), "/v1/policies/diff?from=2&to=1"),
        ("History/List", json!({ "id": "site-write" }), "/v1/policies/site-write/history"),
        ("History/Blame", json!({ "id": "site-write" }), "/v1/policies/site-write/blame"),
        ("Versions/Needs", json!({ "version": 2 }), "/v1/policies/versions/2/needs"),
        ("Signing/Get", json!({}), "/v1/policies/signing"),
        (
            "Policies/WhoCan",
            json!({ "action": "http:GET", "resource": "Route::\"site\"" }),
            "/v1/policies:who-can?action=http:GET&resource=Route::%22site%22",
        ),
        (
            "Policies/WhatCan",
            json!({ "principal": "anonymous", "limit": 2 }),
            "/v1/policies:what-can?principal=anonymous&limit=2",
        ),
    ];
    let asked: Vec<_> = pairs.iter().map(|(method, request, _)| json!([method, request])).collect();
    let rest = || -> Result<Vec<Value>> {
        let read = |path: &str| {
            let answer = gateway.ask("GET", path, &[], None)?;
            check!(answer.status == 200, "{path}: {}", answer.body);
            Ok(answer.body)
        };
        pairs.iter().map(|(_, _, path)| read(path)).collect()
    };
    // Snapshots go on by themselves while workloads become known; only what stood still can be compared.
    let mut before = rest()?;
    let (documents, answers) = loop {
        let answers = calls(&gateway, json!(asked))?;
        let after = rest()?;
        if after == before {
            break (after, answers);
        }
        before = after;
    };
    check!(answers.len() == pairs.len(), "{} answers", answers.len());
    for (((method, _, _), document), answer) in pairs.iter().zip(&documents).zip(&answers) {
        check!(answer["code"] == "OK", "{method}: {answer}");
        same(method, &told(document), &answer["message"])?;
    }

    let question = json!({ "principal": "spiffe://example.org/web", "action": "http:POST", "resource": "Route::\"site\"" });
    let range = json!({ "since": "1h" });
    let posted = [
        ("Policies/Can", question.clone(), "/v1/policies:can", question),
        (
            "Policies/Impact",
            json!({ "version": 1, "range": range }),
            "/v1/policies:impact",
            json!({ "version": 1, "range": range }),
        ),
        ("Policies/Usage", range.clone(), "/v1/policies:usage", range.clone()),
        ("Policies/Suggest", range.clone(), "/v1/policies:suggest", range.clone()),
        ("Changes/Test", json!({ "id": "c2" }), "/v1/policies/changes/c2:test", json!({})),
        ("Changes/Lint", json!({ "id": "c2" }), "/v1/policies/changes/c2:lint", json!({})),
        ("Changes/Impact", json!({ "id": "c2", "range": range }), "/v1/policies/changes/c2:impact", range),
    ];
    for (method, request, path, body) in &posted {
        let rest = gateway.ask("POST", path, &[], Some(body))?;
        check!(rest.status == 200, "{path}: {}", rest.body);
        let grpc = call(&gateway, method, request.clone())?;
        same(method, &moving(told(&rest.body)), &moving(grpc))?;
    }

    // Refusals have one text.
    for (method, request, code, (verb, path)) in [
        ("Versions/Get", json!({ "version": 99 }), "NOT_FOUND", ("GET", "/v1/policies/versions/99")),
        (
            "Changes/Get",
            json!({ "id": "banana" }),
            "INVALID_ARGUMENT",
            ("GET", "/v1/policies/changes/banana"),
        ),
        ("Policies/Get", json!({ "id": "none" }), "NOT_FOUND", ("GET", "/v1/policies/none")),
        (
            "Changes/List",
            json!({ "limit": 5000 }),
            "INVALID_ARGUMENT",
            ("GET", "/v1/policies/changes?limit=5000"),
        ),
        (
            "Versions/Activate",
            json!({ "version": 1 }),
            "ABORTED",
            ("POST", "/v1/policies/versions/1:activate"),
        ),
        ("History/Blame", json!({ "id": "none" }), "NOT_FOUND", ("GET", "/v1/policies/none/blame")),
    ] {
        let answer = calls(&gateway, json!([[method, request]]))?.remove(0);
        let rest = gateway.ask(verb, path, &[], None)?;
        check!(answer["code"] == code, "{method}: {answer}");
        let text = |name: &str| rest.body[name].as_str().unwrap_or_default().to_owned();
        check!(
            answer["details"] == format!("{}: {}", text("title"), text("detail")),
            "{answer}\n{}",
            rest.body
        );
        if rest.body["code"].is_string() {
            check!(answer["infos"][0]["reason"] == rest.body["code"], "{answer}\n{}", rest.body);
        }
    }
    let unformed = json!({ "files": [{ "file": "a.cedar", "text": READ.replace('\n', " ") }] });
    let formed = call(&gateway, "Policies/Format", unformed)?;
    check!(formed["items"][0]["changed"] == true && formed["items"][0]["text"] == READ, "{formed}");
    let valid =
        call(&gateway, "Policies/Validate", json!({ "files": [{ "file": "a.cedar", "text": READ }] }))?;
    check!(valid["valid"] == true, "{valid}");
    Ok(())
}

pub(super) fn rights() -> Result {
    let gateway = builder(Upstream::echo()).user(61_021, &["viewer"]).user(61_022, &["author"]).start()?;
    let asked = json!([
        ["Policies/List", {}],
        ["Changes/Create", { "message": "x", "edits": [{ "file": "write.cedar", "text": WRITE }] }],
        ["Versions/Activate", { "version": 1 }],
        ["Versions/Rollback", { "version": 1 }],
        ["Versions/StopShadow", {}],
        ["Signing/Rotate", {}],
    ]);
    let rows = [(61_021, [true, false]), (61_022, [true, true]), (61_023, [false, false])];
    for (uid, may) in rows {
        let answers = calls_as(&gateway, asked.clone(), &uid.to_string())?;
        check!(answers.len() == 6, "{answers:?}");
        for (at, answer) in answers.iter().enumerate() {
            let expected = if may.get(at) == Some(&true) { "OK" } else { "PERMISSION_DENIED" };
            check!(answer["code"] == expected, "uid {uid}, call {at}: {answer}");
            if expected != "OK" {
                let id = answer["trailing"]["portcullis-decision-id"].as_str().ok_or("no decision id")?;
                check!(answer["infos"][0]["metadata"]["decision_id"] == id, "{answer}");
                check!(gateway.cli(&["explain", id])?.code == 0, "decision {id} is not on record");
            }
        }
    }
    let done = gateway.records("kind=administration")?;
    check!(done.len() == 1, "what was refused is on record as done: {done:?}");
    Ok(())
}
