//! Agents of other hosts: a process joins the authority of another one, serves its host, stays an agent over renewals and
//! outages, and ends when the authority says so.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::host::Host;
use tests::peers::{missing, missing_module};
use tests::port::free_port;
use tests::upstream::Upstream;
use tests::{Gateway, Result, Script, check, own_uid};

use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let curl = || missing("curl");
    vec![
        trial("ag_01_an_agent_of_another_host_serves_it_and_follows_its_authority", curl(), joined),
        trial(
            "ag_01_py_spiffe_verifies_what_an_agent_of_another_host_serves",
            missing_module("spiffe"),
            fetched,
        ),
        trial("ag_04_an_agent_elsewhere_serves_through_an_outage_and_comes_back_alone", None, outage),
        trial("ag_03_an_agent_elsewhere_starts_again_without_a_token", None, again),
        trial(
            "rg_21_an_agent_renews_after_a_sleep_and_says_what_it_needs_after_a_long_one",
            missing("faketime"),
            slept,
        ),
        trial("na_01_who_joins_with_what_does_not_hold_is_told_what_to_do", None, refused),
        trial("rv_02_a_ban_cuts_an_agent_and_denies_what_came_through_it", curl(), banned),
        trial("rv_02_an_evicted_agent_attests_anew_with_a_new_token", None, evicted),
        trial(
            "sc_01_a_gateway_of_another_host_has_its_identity_from_the_agent_there",
            curl(),
            gateway_elsewhere,
        ),
    ]
}

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway whose authority enrols agents of other hosts.
pub(super) struct Ca {
    pub(super) gateway: Gateway,
    pub(super) upstream: Upstream,
    port: u16,
}

impl Ca {
    pub(super) fn start() -> Result<Self> {
        let (upstream, port) = (Upstream::echo(), free_port());
        let listen = format!("listen = \"https://127.0.0.1:{port}\"");
        let gateway = Gateway::build().ca(&listen).site(upstream.address).start()?;
        Ok(Self { gateway, upstream, port })
    }

    pub(super) fn host(&self) -> Result<Host> {
        Host::of(&self.gateway, self.port)
    }

    fn joined(&self) -> Result<Host> {
        let mut host = self.host()?;
        host.start()?;
        Ok(host)
    }

    pub(super) fn token(&self, more: &[&str]) -> Result<String> {
        let token = self.gateway.json(&[&["agent", "token"], more].concat())?;
        Ok(token["token"].as_str().ok_or("no token")?.to_owned())
    }

    pub(super) fn agents(&self) -> Result<Vec<Value>> {
        Ok(self.gateway.json(&["agent", "list"])?["items"].as_array().cloned().unwrap_or_default())
    }

    /// Registers an identity for processes of this user; its entry.
    pub(super) fn entry(&self, path: &str, more: &[&str]) -> Result<String> {
        let (id, user) = (format!("spiffe://example.org{path}"), format!("unix:uid:{}", own_uid()));
        let entry = [&["entry", "create", "--id", &id, "--selector", &user], more].concat();
        Ok(self.gateway.json(&entry)?["id"].as_str().ok_or("no id")?.to_owned())
    }

    fn events(&self, name: &str) -> Result<usize> {
        let records = self.gateway.records("kind=authority")?;
        Ok(records.iter().filter(|record| record["body"]["event"] == name).count())
    }
}

/// Waits until it holds; how long that took.
pub(super) fn within(
    limit: Duration,
    what: &str,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if holds()? {
            return Ok(begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(format!("not within {limit:?}: {what}").into())
}

fn has(host: &Host, path: &str) -> Result<bool> {
    Ok(host.ids()?.contains(&format!("spiffe://example.org{path}")))
}

fn joined() -> Result {
    let ca = Ca::start()?;
    let host = ca.joined()?;
    let agents = ca.agents()?;
    check!(agents.len() == 1 && agents[0]["connected"] == true, "{agents:?}");
    let status = host.json(&["status"])?;
    check!(status["identity"]["id"] == agents[0]["spiffe_id"], "{status}");

    // A process of the other host calls through the gateway of this one.
    let tls = host.identity()?;
    let (status, body) = ca.gateway.curl(&tls, "/", &[])?;
    check!(status == 200 && body.contains("portcullis-peer: spiffe://example.org/web"), "{status} {body}");
    check!(ca.upstream.calls() == 1, "{} calls", ca.upstream.calls());
    let issued = ca.gateway.json(&["svid", "list"])?;
    let through = issued["items"].as_array().into_iter().flatten();
    let through = through.filter(|svid| svid["agent"] == agents[0]["spiffe_id"]).count();
    check!(through == 2, "its own and the one of `web`: {issued}");

    // Entries come, change hands and go.
    let late = ca.entry("/late", &[])?;
    within(PATIENCE, "a new entry is pushed", || has(&host, "/late"))?;
    let name = agents[0]["spiffe_id"].as_str().ok_or("no id")?;
    ca.entry("/own", &["--parent", name])?;
    let other = "spiffe://example.org/portcullis/agent/join_token/0123456789abcdef";
    ca.entry("/others", &["--parent", other])?;
    within(PATIENCE, "an entry of this agent is pushed", || has(&host, "/own"))?;
    check!(!has(&host, "/others")?, "an entry of another agent is served");
    ca.gateway.cli(&["entry", "delete", &late, "--yes"])?;
    within(PATIENCE, "a deleted entry is withdrawn", || Ok(!has(&host, "/late")?))?;

    // What is denied is withdrawn there as well.
    ca.gateway.cli(&["svid", "revoke", "--id", "spiffe://example.org/own", "--reason", "test", "--yes"])?;
    within(PATIENCE, "a revoked identity is withdrawn", || Ok(!has(&host, "/own")?))?;
    Ok(())
}

fn fetched() -> Result {
    let ca = Ca::start()?;
    let host = ca.joined()?;
    let said = Script::run("spiffe_client", &["fetch", &host.workload_socket()])?;
    let found = said.first().ok_or("nothing")?;
    check!(found["svids"][0]["id"] == "spiffe://example.org/web", "{found}");
    Ok(())
}

fn outage() -> Result {
    let mut ca = Ca::start()?;
    let host = ca.joined()?;
    check!(has(&host, "/web")?, "{}", host.log());
    ca.gateway.kill()?;
    let status = host.until("without its authority", PATIENCE, |status| {
        status["conditions"].to_string().contains("does not answer")
    })?;
    check!(status["ready"] == true, "what is held holds: {status}");
    check!(has(&host, "/web")?, "{}", host.log());
    ca.gateway.restart()?;
    ca.entry("/after", &[])?;
    within(2 * PATIENCE, "it comes back by itself", || has(&host, "/after"))?;
    host.until("back", PATIENCE, |status| !status["conditions"].to_string().contains("does not answer"))?;
    check!(ca.agents()?.len() == 1, "it is the same agent: {:?}", ca.agents()?);
    Ok(())
}

fn again() -> Result {
    let ca = Ca::start()?;
    let mut host = ca.joined()?;
    std::fs::remove_file(host.dir().join("join.token"))?;
    host.start()?;
    within(PATIENCE, "it serves again", || has(&host, "/web"))?;
    check!(ca.agents()?.len() == 1 && ca.events("attested")? == 1, "{:?}", ca.agents()?);

    // The file with its key is nobody else's, and sealed.
    let file = host.dir().join("data/agent.svid");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file)?.permissions());
    check!(mode & 0o777 == 0o600, "{mode:o}");
    let bytes = std::fs::read(&file)?;
    check!(!bytes.windows(11).any(|window| window == b"PRIVATE KEY"), "the key of the agent is readable");
    Ok(())
}

fn slept() -> Result {
    let (upstream, port) = (Upstream::echo(), free_port());
    // Its own SVID holds as long as anybody sleeps here.
    let lines = format!("listen = \"https://127.0.0.1:{port}\"\nsvid_ttl = \"28h\"");
    let gateway = Gateway::build().ca(&lines).site(upstream.address).start()?;
    let ca = Ca { gateway, upstream, port };
    let mut host = ca.joined()?;
    let serial =
        || -> Result<String> { Ok(ca.agents()?[0]["serial"].as_str().ok_or("it has used none")?.to_owned()) };
    let first = serial()?;
    host.ahead("+13h");
    host.start()?;
    within(PATIENCE, "it renews at once, past half of the life", || Ok(serial()? != first))?;
    within(PATIENCE, "it serves", || has(&host, "/web"))?;
    let second = serial()?;
    host.ahead("+0h");
    host.start()?;
    within(PATIENCE, "it is followed", || Ok(ca.agents()?[0]["connected"] == true))?;
    check!(serial()? == second, "what was renewed is kept");

    host.ahead("+25h");
    let said = host.refused()?;
    check!(said.contains("PC1024") && said.contains("ended at"), "{said}");
    check!(said.contains("portcullis agent token") && said.contains("nothing has to be deleted"), "{said}");
    host.ahead("+0h");
    host.start()?;
    check!(ca.agents()?.len() == 1, "nothing had to be deleted: {:?}", ca.agents()?);
    Ok(())
}

fn refused() -> Result {
    let ca = Ca::start()?;
    let mut stranger = ca.host()?;
    stranger.change("sha256:", "sha256:00")?;
    let said = stranger.refused()?;
    check!(said.contains("PC0104") && said.contains("64 hexadecimal digits"), "{said}");

    let mut stranger = ca.host()?;
    let config = std::fs::read_to_string(stranger.dir().join("portcullis.toml"))?;
    let root = config.split("sha256:").nth(1).and_then(|rest| rest.split('"').next()).ok_or("no root")?;
    stranger.change(root, &"0".repeat(64))?;
    let said = stranger.refused()?;
    check!(said.contains("PC1021") && said.contains(root), "it says what it saw: {said}");

    let mut host = ca.host()?;
    let (used, expired) = (ca.joined()?, ca.token(&["--ttl", "1s"])?);
    let token = std::fs::read_to_string(used.dir().join("join.token"))?;
    std::thread::sleep(2 * SECOND);
    for token in [token.as_str(), expired.as_str(), "0123456789abcdef0123456789abcdef"] {
        host.lay_token(token)?;
        let said = host.refused()?;
        check!(said.contains("PC1022") && said.contains("portcullis agent token"), "{said}");
        check!(!said.contains(token), "the token is told: {said}");
    }
    host.lay_token("")?;
    let said = host.refused()?;
    check!(said.contains("PC1020") && said.contains("portcullis agent token"), "{said}");
    check!(ca.agents()?.len() == 1, "{:?}", ca.agents()?);
    Ok(())
}

fn banned() -> Result {
    let ca = Ca::start()?;
    let host = ca.joined()?;
    let kept = ca.joined()?;
    let own = |host: &Host| -> Result<String> {
        Ok(host.json(&["status"])?["identity"]["id"].as_str().ok_or("no id")?.to_owned())
    };
    let (id, kept_id) = (own(&host)?, own(&kept)?);
    let (tls, kept_tls) = (host.identity()?, kept.identity()?);
    let asked = ca.gateway.cli(&["agent", "ban", &id, "--reason", "lost"])?;
    check!(
        asked.code != 0 && asked.stderr.contains("2 live certificates"),
        "{}{}",
        asked.stdout,
        asked.stderr
    );
    check!(ca.agents()?.iter().all(|agent| agent["connected"] == true), "{:?}", ca.agents()?);

    let begun = Instant::now();
    let done = ca.gateway.cli(&["agent", "ban", &id, "--reason", "lost", "--yes"])?;
    check!(done.code == 0, "{}", done.stderr);
    let cut = within(SECOND, "its stream is cut", || {
        Ok(ca.agents()?.iter().any(|agent| agent["spiffe_id"] == id.as_str() && agent["connected"] == false))
    })?;
    check!(begun.elapsed() < 3 * SECOND, "{cut:?} after {:?}", begun.elapsed());
    let denied = ca.gateway.curl(&tls, "/", &[]);
    check!(
        denied.as_ref().map_or(true, |(status, _)| *status != 200),
        "what came through it is denied: {denied:?}"
    );
    check!(ca.gateway.curl(&kept_tls, "/", &[])?.0 == 200, "that of another agent is not");
    check!(ca.events("agent_banned")? == 1, "{:?}", ca.gateway.records("kind=authority")?);
    host.until("told", PATIENCE, |status| status["conditions"].to_string().contains("PC1023"))?;

    ca.gateway.cli(&["agent", "ban", &kept_id, "--reason", "moved", "--keep-svids", "--yes"])?;
    check!(ca.gateway.curl(&kept_tls, "/", &[])?.0 == 200, "it was to be kept");
    kept.until("told", PATIENCE, |status| status["conditions"].to_string().contains("PC1023"))?;
    let issued = ca.gateway.json(&["svid", "list"])?;
    ca.entry("/later", &[])?;
    std::thread::sleep(SECOND);
    let later = ca.gateway.json(&["svid", "list"])?;
    let through = |list: &Value| {
        let all = list["items"].as_array().into_iter().flatten();
        all.filter(|svid| svid["agent"] == kept_id.as_str()).count()
    };
    check!(through(&issued) == through(&later), "something was issued through a banned agent: {later}");

    // Evicted, its host attests anew with a new token, all by itself.
    ca.gateway.cli(&["agent", "evict", &id, "--yes"])?;
    host.lay_token(&ca.token(&[])?)?;
    within(3 * PATIENCE, "it is an agent again", || Ok(own(&host).is_ok_and(|new| new != id)))?;
    within(PATIENCE, "it serves what is new", || has(&host, "/later"))?;
    Ok(())
}

fn evicted() -> Result {
    let ca = Ca::start()?;
    let host = ca.joined()?;
    let name = ca.agents()?[0]["name"].as_str().ok_or("no name")?.to_owned();
    let shown = ca.gateway.json(&["agent", "get", &name])?;
    check!(shown["attested_by"] == "join_token" && shown["serial"].is_string(), "{shown}");
    let done = ca.gateway.cli(&["agent", "evict", &name, "--yes"])?;
    check!(done.code == 0 && done.stdout.contains("undo: portcullis agent token"), "{}", done.stdout);
    check!(ca.gateway.cli(&["agent", "get", &name])?.code != 0, "it is gone");
    let status =
        host.until("told", PATIENCE, |status| status["conditions"].to_string().contains("PC1024"))?;
    check!(status["ready"] == false, "{status}");
    host.lay_token(&ca.token(&[])?)?;
    host.until("ready again", 3 * PATIENCE, |status| status["ready"] == true)?;
    check!(ca.agents()?.len() == 1 && ca.agents()?[0]["name"] != name.as_str(), "{:?}", ca.agents()?);
    check!(ca.events("agent_evicted")? == 1, "no record of the eviction");
    Ok(())
}

fn gateway_elsewhere() -> Result {
    let ca = Ca::start()?;
    ca.entry("/edge", &["--dns-name", "localhost"])?;
    let host = ca.joined()?;
    let upstream = Upstream::echo();
    let edge = Gateway::build()
        .identity_from(&host.workload_socket(), "spiffe://example.org/edge")
        .site(upstream.address)
        .start()?;
    // A workload of the first host calls through the gateway of the other one.
    let tls = ca.gateway.identity()?;
    let (status, body) = edge.curl(&tls, "/", &[])?;
    check!(status == 200 && body.contains("portcullis-peer: spiffe://example.org/"), "{status} {body}");
    let decisions = edge.decisions(&["--action", "http:GET"])?;
    check!(decisions.len() == 1, "{decisions:?}");
    Ok(())
}
