//! The keys that followers believe, and the file that they may begin with: rotated, raised and exported by command.

use std::fs;

use serde_json::{Value, json};
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use super::{follow, key, until};
use crate::policies::permit;

fn refused(follower: &Gateway) -> Result<Value> {
    Ok(follower.json(&["status"])?["policies"]["follows"]["refusal"]["code"].clone())
}

/// Waits until the follower runs what the publisher has.
fn in_step(publisher: &Gateway, follower: &Gateway) -> Result {
    until("both in step", || Ok(publisher.policies_version()? == follower.policies_version()?)).map(drop)
}

pub(super) fn rotated() -> Result {
    let upstream = Upstream::echo();
    let publisher = Gateway::before(upstream.address)?;
    let old = key(&publisher)?;
    let follower = follow(&publisher, &old, &upstream)?;
    let shown = publisher.cli(&["policy", "signing"])?;
    check!(shown.code == 0 && shown.stdout.contains(&old) && shown.stdout.contains("epoch 1"), "{shown:?}");

    let rotated = publisher.json(&["policy", "signing", "rotate"])?;
    let new = key(&publisher)?;
    check!(rotated["keys"] == json!([new, old]) && new != old, "{rotated}");
    publisher.publish("web.cedar", &permit("second", "web", 0))?;
    in_step(&publisher, &follower)?;
    check!(refused(&follower)?.is_null(), "a follower of the older key refuses what both sign");

    let asked = publisher.cli(&["policy", "signing", "rotate"])?;
    check!(asked.code == 64 && asked.stderr.contains("PC2046") && asked.stderr.contains(&old), "{asked:?}");
    check!(key(&publisher)? == new, "rotated in spite of the question");
    let last = publisher.json(&["policy", "signing", "rotate", "--yes"])?;
    check!(last["keys"][1] == new, "{last}");
    let version = publisher.publish("web.cedar", &permit("third", "web", 0))?;
    until("a refusal at the follower of a key that signs no more", || Ok(refused(&follower)? == "PC2021"))?;
    check!(follower.policies_version()? == version - 1, "the last good one does not stay");

    let done = publisher.records("kind=administration")?;
    let of = |operation: &str| {
        done.iter().filter(|record| record["body"]["operation"] == operation).cloned().collect::<Vec<_>>()
    };
    let rotations = of("policy.rotate_key");
    check!(rotations.len() == 2 && rotations[0].to_string().contains(&new), "{rotations:?}");
    Ok(())
}

pub(super) fn raised() -> Result {
    let upstream = Upstream::echo();
    let publisher = Gateway::before(upstream.address)?;
    let follower = follow(&publisher, &key(&publisher)?, &upstream)?;
    in_step(&publisher, &follower)?;
    let raised = publisher.json(&["policy", "signing", "raise-epoch"])?;
    check!(raised["epoch"] == 2 && raised["version"] == publisher.policies_version()?, "{raised}");
    until("the new epoch at the follower", || {
        let status = follower.json(&["status"])?;
        Ok(status["policies"]["follows"]["running"].as_str().is_some_and(|at| at.starts_with("2.")))
    })?;
    let activations = publisher.records("kind=activation")?;
    check!(activations[0].to_string().contains("\"epoch\":2"), "no activation on record: {}", activations[0]);
    let done = publisher.records("kind=administration")?;
    check!(done[0]["body"]["operation"] == "policy.raise_epoch", "{}", done[0]);
    Ok(())
}

pub(super) fn exported() -> Result {
    let upstream = Upstream::echo();
    let mut publisher = Gateway::before(upstream.address)?;
    let key = key(&publisher)?;
    publisher.publish("web.cedar", &permit("second", "web", 0))?;
    let version = publisher.policies_version()?;
    let file = publisher.dir().join("policies.pcsnap");
    let name = file.display().to_string();
    let exported = publisher.json(&["policy", "export", "--snapshot", &name])?;
    check!(exported["version"] == version && exported["epoch"] == 1, "{exported}");
    check!(fs::read(&file)?.starts_with(b"PCSNAP01"), "the file has another format");
    for (arguments, code) in [
        (vec!["policy", "export", "--snapshot", "-"], 64),
        (vec!["policy", "export", "--snapshot", &name, "--version", "v1"], 64),
        (vec!["policy", "export", "--snapshot", "/nonexistent/x"], 3),
    ] {
        let outcome = publisher.cli(&arguments)?;
        check!(outcome.code == code, "{arguments:?}: {outcome:?}");
    }

    // The publisher is gone: the file is all there is.
    publisher.kill()?;
    let socket = publisher.dir().join("data/admin.sock");
    let lines = |signer: &str| {
        format!("follow = \"unix://{}\"\nsigner = \"{signer}\"\nbootstrap = \"{name}\"", socket.display())
    };
    let built = |signer: &str| {
        let to = format!("http://{}", upstream.address);
        let gateway = Gateway::build().policies(&lines(signer)).service("site", &[]);
        gateway.route("site", "site", "{ path = \"/\" }", &to)
    };
    let follower = built(&key).start()?;
    let tls = follower.identity()?;
    check!(follower.curl(&tls, "/", &[])?.0 == 200, "the policies of the file are not in force");
    check!(follower.policies_version()? == version, "another version than in the file");
    let again = follower.dir().join("again.pcsnap").display().to_string();
    follower.json(&["policy", "export", "--snapshot", &again])?;
    check!(fs::read(&again)? == fs::read(&file)?, "a follower exports something else than it began with");

    let stranger = super::key(&Gateway::before(upstream.address)?)?;
    let unready = built(&stranger).start_unready()?;
    let status = unready.json(&["status"])?;
    check!(status["ready"] == false && status["policies"]["version"].is_null(), "a stranger's key: {status}");
    Ok(())
}
