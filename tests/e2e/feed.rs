//! Several enforcers, one policy: a gateway that follows another one's policies, through edits, the publisher's death
//! and its own restart; what is refused on the way is said on both sides.

mod keys;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use crate::policies::permit;
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "st8_a_save_at_the_publisher_changes_verdicts_at_the_follower_also_after_either_was_gone",
            missing("curl"),
            followed,
        ),
        trial("st4_a_follower_that_pins_another_key_keeps_refusing_and_both_sides_say_so", None, other_key),
        trial(
            "st4_a_rotated_key_is_believed_by_followers_of_the_older_one_until_the_next",
            None,
            keys::rotated,
        ),
        trial("st5_a_raised_epoch_reaches_the_followers_and_is_on_record", None, keys::raised),
        trial("st9_a_follower_begins_with_the_file_that_was_exported", missing("curl"), keys::exported),
        trial("st8_versions_can_be_watched_with_curl", None, watched),
        trial("st8_a_route_may_be_more_patient_than_the_rest", missing("curl"), patient),
    ]
}

/// Asks until `is_so`, for 10 s; how long it took.
fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        if is_so()? {
            return Ok(begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("{what}: not within 10 s").into())
}

/// The key that signs the publisher's policies.
pub(crate) fn key(publisher: &Gateway) -> Result<String> {
    let status = publisher.json(&["status"])?;
    Ok(status["policies"]["keys"][0].as_str().ok_or_else(|| format!("no key: {status}"))?.to_owned())
}

pub(crate) fn follow(publisher: &Gateway, key: &str, upstream: &Upstream) -> Result<Gateway> {
    let socket = publisher.dir().join("data/admin.sock");
    Gateway::build()
        .policies(&format!("follow = \"unix://{}\"\nsigner = \"{key}\"", socket.display()))
        .site(upstream.address)
        .start()
}

fn followed() -> Result {
    let upstream = Upstream::echo();
    let mut publisher = Gateway::before(upstream.address)?;
    let mut follower = follow(&publisher, &key(&publisher)?, &upstream)?;
    let tls = follower.identity()?;
    check!(follower.curl(&tls, "/", &[])?.0 == 200, "the policies of the publisher are not in force");
    check!(!follower.dir().join("policies/web.cedar").exists(), "the follower has policies of its own");

    fs::write(publisher.dir().join("policies/web.cedar"), permit("nobody", "nobody", 0))?;
    let took = until("a denial at the follower", || Ok(follower.curl(&tls, "/", &[])?.0 == 403))?;
    let version = publisher.policies_version()?;
    check!(follower.policies_version()? == version, "another number than at the publisher");

    let mut seen = Value::Null;
    until("both sides in step", || {
        seen = publisher.json(&["status"])?["policies"]["enforcers"][0].clone();
        Ok(seen["current"] == true)
    })?;
    check!(seen["name"] == "spiffe://example.org/gateway" && seen["connected"] == true, "{seen}");
    let text = publisher.cli(&["status"])?.stdout;
    check!(text.contains("in step") && text.contains("policy key"), "status: {text}");
    let status = follower.json(&["status"])?;
    let follows = &status["policies"]["follows"];
    check!(follows["connected"] == true && follows["freshness"] == "fresh", "{follows}");
    check!(follows["running"] == follows["wanted"] && follows["refusal"].is_null(), "{follows}");
    check!(follower.cli(&["check"])?.code == 0, "check: {}", follower.cli(&["check"])?.stdout);
    check!(follower.http("/metrics")?.1.contains("portcullis_policy_stale 0"), "no gauge");

    let draft = json!({ "message": "mine", "edits": [{ "file": "x.cedar", "text": permit("x", "web", 0) }] });
    let answer = follower.ask("POST", "/v1/policies/changes", &[], Some(&draft))?;
    check!(answer.status == 409, "a follower takes drafts: {} {}", answer.status, answer.body);
    let socket = publisher.dir().join("data/admin.sock").display().to_string();
    check!(answer.body.to_string().contains(&socket), "the publisher is not named: {}", answer.body);

    publisher.kill()?;
    check!(follower.curl(&tls, "/", &[])?.0 == 403, "no verdict without publisher");
    until("the publisher is missed", || {
        Ok(follower.json(&["status"])?["policies"]["follows"]["connected"] == false)
    })?;
    follower.terminate()?;
    follower.restart()?;
    check!(follower.policies_version()? == version, "another version after the restart");
    let tls = follower.identity()?;
    check!(follower.curl(&tls, "/", &[])?.0 == 403, "no verdict after a restart without publisher");

    publisher.restart()?;
    publisher.publish("web.cedar", &permit("again", "web", 0))?;
    until("a permit at the follower", || Ok(follower.curl(&tls, "/", &[])?.0 == 200))?;
    let denied = follower.decisions(&["--effect", "deny", "--action", "http:GET"])?;
    let id = denied.first().and_then(|record| record["id"].as_str()).ok_or("no denial on record")?;
    let explained = follower.json(&["explain", id])?;
    check!(explained["nearest"][0]["policy"] == "nobody", "explained by other policies: {explained}");
    check!(took < Duration::from_secs(5), "a save took {took:?} to change a verdict elsewhere");
    Ok(())
}

fn patient() -> Result {
    let upstream = Upstream::echo();
    let to = format!("http://{}", upstream.address);
    let mut publisher = Gateway::before(upstream.address)?;
    let socket = publisher.dir().join("data/admin.sock");
    let signer = key(&publisher)?;
    // A publisher that is there is heard every 5 s.
    let limits = "stale_after = \"6s\"\ndeny_after = \"7s\"";
    let follower = Gateway::build()
        .policies(&format!("follow = \"unix://{}\"\nsigner = \"{signer}\"\n{limits}", socket.display()))
        .service("site", &[])
        .route("site", "site", "{ path = \"/\" }", &to)
        .route("steady", "site", "{ path = \"/steady\" }", &to)
        .route_line("stale_after = \"6s\"\ndeny_after = \"0s\"")
        .start()?;
    let tls = follower.identity()?;
    let both = || -> Result<(u16, u16)> {
        Ok((follower.curl(&tls, "/", &[])?.0, follower.curl(&tls, "/steady", &[])?.0))
    };
    check!(both()? == (200, 200), "{:?}", both()?);
    publisher.kill()?;
    until("a refusal where nothing else is said", || Ok(both()?.0 == 503))?;
    check!(both()? == (503, 200), "{:?}", both()?);
    let denied = follower.decisions(&["--effect", "deny", "--limit", "1"])?;
    check!(denied[0]["reason"] == "policy_stale", "{denied:?}");
    let allowed = follower.decisions(&["--effect", "allow", "--action", "http:GET", "--limit", "1"])?;
    check!(
        allowed[0]["resource"].to_string().contains("steady") && allowed[0]["engine"]["stale"] == true,
        "{allowed:?}"
    );
    publisher.restart()?;
    until("the publisher is heard again", || Ok(both()? == (200, 200)))?;
    Ok(())
}

fn other_key() -> Result {
    let upstream = Upstream::echo();
    let publisher = Gateway::before(upstream.address)?;
    let stranger = key(&Gateway::before(upstream.address)?)?;
    let socket = publisher.dir().join("data/admin.sock");
    let started = Gateway::build()
        .policies(&format!("follow = \"unix://{}\"\nsigner = \"{stranger}\"", socket.display()))
        .site(upstream.address)
        .start_unready()?;
    let mut seen = Value::Null;
    until("a refusal at the follower", || {
        seen = started.json(&["status"])?;
        Ok(seen["policies"]["follows"]["refusal"]["code"] == "PC2021")
    })?;
    check!(seen["ready"] == false && seen["policies"]["version"].is_null(), "in force: {seen}");
    let checked = started.cli(&["check"])?;
    check!(checked.code == 1 && checked.stdout.contains("PC2021"), "check: {}", checked.stdout);
    until("the refusal at the publisher", || {
        let text = publisher.cli(&["status"])?.stdout;
        Ok(text.contains("[PC2021]") && text.contains("runs nothing"))
    })?;
    Ok(())
}

fn watched() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let mut stream = UnixStream::connect(gateway.dir().join("data/admin.sock"))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET /v1/policies/versions?watch=true HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut text = String::new();
    let mut events = |count: usize| -> Result<Vec<Value>> {
        let mut buffer = [0; 4096];
        while text.matches("\n\n").count() < count {
            let read = stream.read(&mut buffer)?;
            text.push_str(&String::from_utf8_lossy(buffer.get(..read).unwrap_or_default()));
        }
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        Ok(data.map(serde_json::from_str).collect::<std::result::Result<_, _>>()?)
    };
    let first = events(1)?;
    let before = first[0]["snapshot"].as_u64().ok_or("no snapshot")?;
    check!(first[0]["note"].as_str().is_some_and(|note| note.contains("example.org/policies")), "{first:?}");
    gateway.publish("web.cedar", &permit("second", "web", 0))?;
    let mut after = before;
    until("an event for the edit", || {
        after = events(2)?.last().and_then(|event| event["snapshot"].as_u64()).unwrap_or(before);
        Ok(after > before)
    })?;
    let malformed = gateway.ask("GET", "/v1/policies/versions?watch=true&from=nonsense", &[], None)?;
    check!(malformed.status == 400, "{} {}", malformed.status, malformed.body);
    Ok(())
}
