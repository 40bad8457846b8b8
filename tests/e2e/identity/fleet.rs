//! A gateway on another host: beside its agent in one process, with its identity and its policies from the authority, through
//! edits, rotations, the authority's death, its own restart, and the end of being an agent.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::host::Host;
use tests::peers::missing;
use tests::{Result, check};

use super::hosts::{Ca, PATIENCE, SECOND, within};
use crate::policies::permit;
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let curl = || missing("curl");
    vec![
        trial("st8_a_gateway_elsewhere_judges_by_the_policies_of_its_authority", curl(), followed),
        trial("st9_a_gateway_elsewhere_starts_again_without_its_authority", curl(), alone),
        trial("rv_08_what_was_denied_is_denied_after_a_restart_without_the_authority", curl(), denied),
        trial("sv_03_who_is_no_agent_any_more_follows_no_longer", curl(), banned),
        trial("st4_a_gateway_elsewhere_learns_rotated_keys_by_itself", curl(), rotated),
        trial("na_06_a_gateway_elsewhere_takes_new_svids_of_agent_and_entry_and_serves_on", curl(), renewed),
        trial(
            "decisions_ig1_the_records_of_a_gateway_elsewhere_reach_the_ledger_of_its_authority",
            curl(),
            shipped,
        ),
        trial("a_gateway_elsewhere_without_an_entry_says_what_it_needs", None, nameless),
    ]
}

/// The authority with an entry for the gateway, and the gateway on another host.
fn fleet() -> Result<(Ca, Host)> {
    let ca = Ca::start()?;
    ca.entry("/edge", &["--dns-name", "localhost"])?;
    let mut edge = ca.host()?.with_gateway(ca.upstream.address)?;
    edge.start()?;
    Ok((ca, edge))
}

/// How the authority sees the gateway.
fn seen(ca: &Ca) -> Result<Value> {
    let status = ca.gateway.json(&["status"])?;
    let all = status["policies"]["enforcers"].as_array().cloned().unwrap_or_default();
    let edge = all.into_iter().find(|enforcer| enforcer["name"] == "spiffe://example.org/edge");
    edge.ok_or_else(|| format!("it is not there: {status}").into())
}

fn version(edge: &Host) -> Result<Value> {
    Ok(edge.json(&["status"])?["policies"]["version"].clone())
}

/// Waits until what is in force has its file; a crash before begins with the snapshot before.
fn on_disk(edge: &Host) -> Result {
    let snapshot = edge.json(&["status"])?["policies"]["snapshot"].as_u64().ok_or("no snapshot")?;
    let file = edge.dir().join(format!("data/policies/{:020}.{snapshot:020}.pcsnap", 1));
    within(PATIENCE, "its file", || Ok(file.exists())).map(drop)
}

fn followed() -> Result {
    let (ca, edge) = fleet()?;
    let tls = ca.gateway.identity()?;
    let (status, body) = edge.curl(&tls, "/")?;
    check!(status == 200 && body.contains("portcullis-peer: spiffe://example.org/web"), "{status} {body}");
    check!(!edge.dir().join("policies").exists(), "it has policies of its own");

    // A save at the authority.
    ca.gateway.publish("web.cedar", &permit("nobody", "nobody", 0))?;
    let begun = Instant::now();
    within(PATIENCE, "a denial elsewhere", || Ok(edge.curl(&tls, "/")?.0 == 403))?;
    check!(begun.elapsed() < SECOND, "in force after {:?}", begun.elapsed());
    let last = ca.gateway.publish("web.cedar", &permit("again", "web", 0))?;
    within(SECOND, "a permit elsewhere", || Ok(edge.curl(&tls, "/")?.0 == 200))?;

    // Both sides say how it stands.
    within(PATIENCE, "both in step", || Ok(seen(&ca)?["current"] == true))?;
    let enforcer = seen(&ca)?;
    check!(enforcer["connected"] == true && enforcer["reported_seconds_ago"].is_u64(), "{enforcer}");
    let agent = ca.agents()?[0]["spiffe_id"].clone();
    let principal = enforcer["principal"].to_string();
    check!(agent.as_str().is_some_and(|agent| principal.contains(agent)), "{principal}, and not {agent}");
    let text = ca.gateway.cli(&["status"])?.stdout;
    check!(text.contains("spiffe://example.org/edge in step") && text.contains("reported"), "{text}");
    let status = edge.json(&["status"])?;
    let follows = &status["policies"]["follows"];
    check!(status["policies"]["version"] == last, "{status}");
    check!(status["identity"]["id"] == "spiffe://example.org/edge", "{}", status["identity"]);
    check!(follows["connected"] == true && follows["freshness"] == "fresh", "{follows}");
    let publisher = follows["publisher"].as_str().unwrap_or_default();
    check!(publisher.starts_with("https://127.0.0.1:"), "{follows}");
    check!(follows["problem"].is_null() && follows["refusal"].is_null(), "{follows}");
    let text = edge.cli(&["status"])?.stdout;
    check!(text.contains("fresh, heard") && text.contains(publisher), "{text}");
    let checked = edge.cli(&["check"])?;
    check!(checked.stdout.contains("of the authority at https://"), "{}", checked.stdout);

    // What it decided is on record there, with the version that judged.
    let refused = edge.decisions(&["--effect", "deny", "--action", "http:GET"])?;
    check!(!refused.is_empty(), "no denial on record");
    let id = refused[0]["id"].as_str().ok_or("no id")?;
    let explained = edge.json(&["explain", id])?;
    check!(explained["nearest"][0]["policy"] == "nobody", "explained by other policies: {explained}");
    let answer = edge.cli(&["policy", "versions"])?;
    check!(answer.code != 0 && answer.stderr.contains(publisher), "{answer:?}");
    Ok(())
}

fn alone() -> Result {
    let (mut ca, mut edge) = fleet()?;
    let tls = ca.gateway.identity()?;
    let last = ca.gateway.publish("web.cedar", &permit("second", "web", 0))?;
    within(PATIENCE, "it is in force", || Ok(version(&edge)? == last))?;
    check!(edge.curl(&tls, "/")?.0 == 200, "{}", edge.log());

    on_disk(&edge)?;
    ca.gateway.kill()?;
    check!(edge.curl(&tls, "/")?.0 == 200, "no verdict without the authority");
    edge.until("missed", PATIENCE, |status| status["policies"]["follows"]["connected"] == false)?;

    edge.start()?;
    check!(!edge.log().contains("authority_silent"), "it waited for the authority: {}", edge.log());
    check!(version(&edge)? == last, "another version: {}", version(&edge)?);
    check!(edge.curl(&tls, "/")?.0 == 200, "no verdict after a restart: {}", edge.log());
    let status = edge.json(&["status"])?;
    let follows = &status["policies"]["follows"];
    check!(follows["problem"].is_string() && follows["freshness"] == "fresh", "{follows}");
    let told = edge.log().matches("policy_feed_ended").count();
    check!(told <= 3, "it says {told} times that the authority is away: {}", edge.log());

    ca.gateway.restart()?;
    ca.gateway.publish("web.cedar", &permit("nobody", "nobody", 0))?;
    within(2 * PATIENCE, "a denial elsewhere", || Ok(edge.curl(&tls, "/")?.0 == 403))?;
    Ok(())
}

fn denied() -> Result {
    let (mut ca, mut edge) = fleet()?;
    let tls = ca.gateway.identity()?;
    check!(edge.curl(&tls, "/")?.0 == 200, "{}", edge.log());
    let web = ["svid", "revoke", "--id", "spiffe://example.org/web", "--reason", "test", "--yes"];
    ca.gateway.json(&web)?;
    let refused = || -> Result<bool> { Ok(edge.curl(&tls, "/").map_or(true, |(status, _)| status != 200)) };
    within(2 * SECOND, "what is denied is refused elsewhere", refused)?;
    on_disk(&edge)?;
    ca.gateway.kill()?;
    edge.start()?;
    let answer = edge.curl(&tls, "/");
    check!(answer.as_ref().map_or(true, |(status, _)| *status != 200), "forgotten: {answer:?}");
    check!(edge.json(&["status"])?["ready"] == true, "{}", edge.log());
    Ok(())
}

fn banned() -> Result {
    let (ca, edge) = fleet()?;
    let tls = ca.gateway.identity()?;
    check!(edge.curl(&tls, "/")?.0 == 200, "{}", edge.log());
    within(PATIENCE, "both in step", || Ok(seen(&ca)?["current"] == true))?;
    let agent = ca.agents()?[0]["spiffe_id"].as_str().ok_or("no agent")?.to_owned();
    let ban = ["agent", "ban", &agent, "--reason", "lost", "--keep-svids", "--yes"];
    ca.gateway.json(&ban)?;
    within(SECOND, "its stream of policies ends", || Ok(seen(&ca)?["connected"] == false))?;

    let before = version(&edge)?;
    ca.gateway.publish("web.cedar", &permit("nobody", "nobody", 0))?;
    let status = edge.until("told why", PATIENCE, |status| {
        status["policies"]["follows"]["problem"].to_string().contains("banned")
    })?;
    check!(status["policies"]["version"] == before, "a banned agent follows: {status}");
    std::thread::sleep(2 * SECOND);
    check!(seen(&ca)?["connected"] == false, "it follows again: {}", seen(&ca)?);
    check!(edge.curl(&tls, "/")?.0 == 200, "the last good policies do not stay");

    // Evicted, its host is an agent again by a new token, and follows.
    ca.gateway.json(&["agent", "evict", &agent, "--yes"])?;
    edge.lay_token(&ca.token(&[])?)?;
    within(3 * PATIENCE, "it follows again", || Ok(edge.curl(&tls, "/")?.0 == 403))?;
    Ok(())
}

fn rotated() -> Result {
    let (ca, edge) = fleet()?;
    let tls = ca.gateway.identity()?;
    within(PATIENCE, "both in step", || Ok(seen(&ca)?["current"] == true))?;
    // After the second rotation nothing is signed by a key that it was told when it joined.
    ca.gateway.json(&["policy", "signing", "rotate"])?;
    ca.gateway.json(&["policy", "signing", "rotate", "--yes"])?;
    ca.gateway.publish("web.cedar", &permit("nobody", "nobody", 0))?;
    within(2 * PATIENCE, "the new keys are believed", || Ok(edge.curl(&tls, "/")?.0 == 403))?;
    let keys = std::fs::read_to_string(edge.dir().join("data/policies/keys"))?;
    let status = ca.gateway.json(&["status"])?;
    let newest = status["policies"]["keys"][0].as_str().ok_or("no key")?;
    check!(keys.contains(newest), "{keys}, and not {newest}");
    within(PATIENCE, "nothing is refused any more", || {
        Ok(edge.json(&["status"])?["policies"]["follows"]["refusal"].is_null())
    })?;
    Ok(())
}

fn renewed() -> Result {
    let (ca, edge) = fleet()?;
    let tls = ca.gateway.identity()?;
    let serial = || -> Result<Value> { Ok(edge.json(&["status"])?["identity"]["serial"].clone()) };
    let first = serial()?;
    let status = ca.gateway.json(&["entry", "list"])?;
    let entries = status["items"].as_array().cloned().unwrap_or_default();
    let entry = entries.iter().find(|entry| entry["spiffe_id"] == "spiffe://example.org/edge");
    let entry = entry.and_then(|entry| entry["id"].as_str()).ok_or("no entry")?;
    ca.gateway.json(&[
        "entry",
        "update",
        entry,
        "--dns-name",
        "localhost",
        "--dns-name",
        "edge.example.org",
    ])?;
    within(PATIENCE, "an SVID of the changed entry", || Ok(serial()? != first))?;
    check!(edge.curl(&tls, "/")?.0 == 200, "{}", edge.log());

    // A second SVID of the agent itself, which ends the first at its first use: it is followed by the new one.
    let own = || -> Result<Value> { Ok(ca.agents()?[0]["serial"].clone()) };
    let before = own()?;
    ca.gateway.json(&["policy", "signing", "rotate"])?;
    ca.gateway.json(&["policy", "signing", "rotate", "--yes"])?;
    ca.gateway.publish("web.cedar", &permit("nobody", "nobody", 0))?;
    within(2 * PATIENCE, "another SVID of the agent", || Ok(own()? != before))?;
    within(PATIENCE, "both in step", || Ok(seen(&ca)?["current"] == true))?;
    check!(edge.curl(&tls, "/")?.0 == 403, "{}", edge.log());

    // Without its entry it is nobody.
    ca.gateway.json(&["entry", "delete", entry, "--yes"])?;
    edge.until("without identity", PATIENCE, |status| status["identity"].is_null())?;
    Ok(())
}

const MAY_APPEND: &str = r#"@id("edge-appends")
permit (
  principal == Workload::"spiffe://example.org/edge",
  action == Portcullis::Action::"decisions:append",
  resource
);
"#;

fn shipped() -> Result {
    let (mut ca, edge) = fleet()?;
    let tls = ca.gateway.identity()?;
    check!(edge.curl(&tls, "/first")?.0 == 200, "{}", edge.log());
    // Nobody sends records whom no policy lets.
    let ships = |pointer: &str| -> Result<Value> {
        Ok(edge.json(&["status"])?["ledger"]["ships"].pointer(pointer).cloned().unwrap_or_default())
    };
    within(PATIENCE, "a refusal", || Ok(ships("/problem")?.to_string().contains("decisions:append")))?;
    let here = |ca: &Ca| -> Result<Vec<Value>> {
        let found = ca.gateway.decisions(&["--action", "http:GET", "--limit", "1000"])?;
        let is_edge = |record: &Value| record.to_string().contains("spiffe://example.org/edge");
        Ok(found.into_iter().filter(is_edge).collect())
    };
    check!(here(&ca)?.is_empty(), "{:?}", here(&ca)?);
    ca.gateway.publish("edge.cedar", MAY_APPEND)?;
    let mut edge = edge;
    edge.start()?;
    within(PATIENCE, "the first call is on record at the authority", || Ok(here(&ca)?.len() == 1))?;
    let ids = |records: &[Value]| {
        let mut ids: Vec<_> = records.iter().map(|record| record["id"].to_string()).collect();
        ids.sort();
        ids
    };
    check!(ids(&here(&ca)?) == ids(&edge.decisions(&["--action", "http:GET"])?), "other records than there");

    // What is decided while the authority is away comes later, once, and also after a crash of the sender.
    ca.gateway.kill()?;
    for n in 0..20 {
        check!(edge.curl(&tls, &format!("/{n}"))?.0 == 200, "{}", edge.log());
    }
    edge.start()?;
    check!(edge.curl(&tls, "/last")?.0 == 200, "{}", edge.log());
    ca.gateway.restart()?;
    within(3 * PATIENCE, "all of them are on record at the authority", || Ok(here(&ca)?.len() == 22))?;
    let own = edge.decisions(&["--action", "http:GET", "--limit", "1000"])?;
    check!(ids(&here(&ca)?) == ids(&own), "other records than there");
    within(PATIENCE, "nothing waits for long", || {
        let status = edge.json(&["status"])?;
        let waiting = status["ledger"]["ships"]["waiting"].as_str().and_then(|text| text.parse().ok());
        Ok(waiting.is_some_and(|waiting: u64| waiting < 10))
    })?;
    Ok(())
}

fn nameless() -> Result {
    let ca = Ca::start()?;
    let mut edge = ca.host()?.with_gateway(ca.upstream.address)?;
    edge.begin()?;
    let status = edge.until("told", Duration::from_secs(30), |status| {
        status["conditions"].to_string().contains("entry create --id spiffe://example.org/edge")
    })?;
    check!(status["ready"] == false, "{status}");
    ca.entry("/edge", &["--dns-name", "localhost"])?;
    edge.until("ready", PATIENCE, |status| status["ready"] == true)?;
    Ok(())
}
