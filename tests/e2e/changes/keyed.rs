//! `Idempotency-Key`: who does not know whether a call arrived makes it again, and it is done once.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Answer, Gateway, Result, check};

use super::{READ, WRITE, started, verbs};

const CHANGES: &str = "/v1/policies/changes";

fn keyed(gateway: &Gateway, path: &str, key: &str, more: &[(&str, &str)], body: &Value) -> Result<Answer> {
    gateway.ask("POST", path, &[&[("idempotency-key", key)], more].concat(), Some(body))
}

fn new(text: &str) -> Value {
    json!({ "message": "keyed", "edits": [{ "file": "write.cedar", "text": text }] })
}

/// The same answer in every respect, marked as given again.
fn again(first: &Answer, second: &Answer) -> Result {
    check!(first.status < 300 && first.header("idempotent-replayed").is_none(), "{first:?}");
    check!(second.status == first.status && second.body == first.body, "{first:?}\n{second:?}");
    for name in ["etag", "location", "content-type"] {
        check!(second.header(name) == first.header(name), "{name}: {first:?}\n{second:?}");
    }
    check!(second.header("idempotent-replayed") == Some("true"), "not marked: {second:?}");
    Ok(())
}

fn operations(gateway: &Gateway, operation: &str) -> Result<usize> {
    let done = gateway.records("kind=administration")?;
    Ok(done.iter().filter(|record| record["body"]["operation"] == operation).count())
}

pub(super) fn once() -> Result {
    let mut gateway = started()?;
    let first = keyed(&gateway, CHANGES, "create-1", &[], &new(WRITE))?;
    again(&first, &keyed(&gateway, CHANGES, "create-1", &[], &new(WRITE))?)?;
    check!(first.header("location") == Some("/v1/policies/changes/c1"), "{first:?}");
    let other = keyed(&gateway, CHANGES, "create-1", &[], &new(READ))?;
    check!(other.status == 422 && other.body["code"] == "PC2047", "another body: {other:?}");
    let other = keyed(&gateway, "/v1/policies/changes/c1:abandon", "create-1", &[], &new(WRITE))?;
    check!(other.status == 422 && other.body["code"] == "PC2047", "another path: {other:?}");
    check!(operations(&gateway, "policy.draft")? == 1, "drafted more than once");

    // What is refused is free to be tried again with the same key.
    let early =
        keyed(&gateway, "/v1/policies/changes/c1:commit", "commit-1", &[("if-match", "\"1\"")], &json!({}))?;
    check!(early.status >= 400, "committed unchecked: {early:?}");
    let checked = gateway.ask("POST", "/v1/policies/changes/c1:validate", &[], Some(&json!({})))?;
    let tag = checked.header("etag").ok_or("no ETag")?.to_owned();
    let commit =
        || keyed(&gateway, "/v1/policies/changes/c1:commit", "commit-1", &[("if-match", &tag)], &json!({}));
    let committed = commit()?;
    again(&committed, &commit()?)?;
    check!(committed.body["version"] == 2 && operations(&gateway, "policy.commit")? == 1, "{committed:?}");
    let activate = || keyed(&gateway, "/v1/policies/versions/2:activate", "activate-1", &[], &json!({}));
    again(&activate()?, &activate()?)?;
    let back = json!({ "message": "no" });
    let rollback = keyed(&gateway, "/v1/policies/versions/1:rollback", "back-1", &[], &back)?;
    again(&rollback, &keyed(&gateway, "/v1/policies/versions/1:rollback", "back-1", &[], &back)?)?;
    check!(gateway.policies_version()? == 3, "rolled back more than once");

    gateway.kill()?;
    gateway.restart()?;
    again(&rollback, &keyed(&gateway, "/v1/policies/versions/1:rollback", "back-1", &[], &back)?)?;
    again(&first, &keyed(&gateway, CHANGES, "create-1", &[], &new(WRITE))?)?;
    check!(gateway.policies_version()? == 3, "rolled back again after a restart");

    for key in ["", "two words", &"k".repeat(256)] {
        let bad = keyed(&gateway, CHANGES, key, &[], &new(WRITE))?;
        check!(bad.status == 400 && bad.body["code"] == "PC0104", "`{key}`: {bad:?}");
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    check!(gateway.ask("POST", CHANGES, &twice, Some(&new(WRITE)))?.status == 400, "two keys are taken");
    Ok(())
}

/// The caller is gone before the answer comes, which is what keys are for.
pub(super) fn hung_up() -> Result {
    let gateway = started()?;
    let body = new(WRITE).to_string();
    let mut stream = UnixStream::connect(gateway.admin_socket())?;
    write!(
        stream,
        "POST {CHANGES} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nidempotency-key: gone\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    drop(stream);
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = keyed(&gateway, CHANGES, "gone", &[], &new(WRITE))?;
        if answer.status == 201 {
            break;
        }
        check!(answer.body["code"] == "PC2048" && Instant::now() < end, "{answer:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let listed = gateway.json(&["policy", "changes"])?;
    check!(listed["items"].as_array().map(Vec::len) == Some(1), "made twice: {listed}");
    Ok(())
}

pub(super) fn over_grpc() -> Result {
    let gateway = started()?;
    let create = json!(["Changes/Create", new(WRITE), { "idempotency-key": "g" }]);
    let other = json!(["Changes/Create", new(READ), { "idempotency-key": "g" }]);
    let answers = verbs::calls(&gateway, json!([create, create, other]))?;
    check!(answers[0]["code"] == "OK" && answers[0]["message"] == answers[1]["message"], "{answers:?}");
    check!(answers[2]["code"] == "FAILED_PRECONDITION", "{}", answers[2]);
    check!(answers[2]["infos"][0]["reason"] == "PC2047", "{}", answers[2]);
    Ok(())
}

/// Keys of one user are nothing to another, and who may no longer is not answered.
pub(super) fn of_others() -> Result {
    use super::builder;
    use tests::upstream::Upstream;
    let mut gateway =
        builder(Upstream::echo()).user(61_031, &["author"]).user(61_032, &["viewer"]).start()?;
    let asked = |gateway: &Gateway, uid: &str| -> Result<Value> {
        let create = json!([["Changes/Create", new(WRITE), { "idempotency-key": "mine" }]]);
        Ok(verbs::calls_as(gateway, create, uid)?.remove(0))
    };
    let mine = keyed(&gateway, CHANGES, "mine", &[], &new(WRITE))?;
    let author = asked(&gateway, "61031")?;
    check!(author["code"] == "OK" && author["message"]["id"] != mine.body["id"], "{author}");
    check!(asked(&gateway, "61032")?["code"] == "PERMISSION_DENIED", "a viewer drafts");
    let file = gateway.dir().join("portcullis.toml");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replacen("\"author\"", "\"viewer\"", 1))?;
    gateway.terminate()?;
    gateway.restart()?;
    check!(asked(&gateway, "61031")?["code"] == "PERMISSION_DENIED", "answered without a right");
    Ok(())
}
