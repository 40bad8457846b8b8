//! A real Envoy that has certificate, key and roots from our SDS, on both ends of mutual TLS: it starts, goes through
//! rotations without a failed call, loses its entry, asks for what it may not have, and refuses what it cannot use.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::json;
use tests::envoy::{Envoy, get};
use tests::peers::{absent, missing};
use tests::port::free_port;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check, own_uid};

use super::{plain, rejected, web_entry};
use crate::trial;

/// The shipped example; a story replaces words of it.
const EXAMPLE: &str = include_str!("../../../deploy/examples/envoy/sds.yaml");
/// Words of the example.
const KIND: &str = "api_type: GRPC";
const CERTIFICATE: &str = "name: default";
const CONTEXT: &str = "name: ROOTCA";
const METADATA: &str = "metadata: {}";
const WEB: &str = "spiffe://example.org/web";
const PATIENCE: Duration = Duration::from_secs(30);
/// Envoy asks again after up to 30 s.
const LONG_PATIENCE: Duration = Duration::from_secs(90);

pub(super) fn trials() -> Vec<Trial> {
    let envoy = || absent("envoy");
    vec![
        trial("sd_02_an_envoy_takes_whole_states_and_rotates_under_traffic", envoy(), whole),
        trial("sd_02_an_envoy_takes_deltas_and_rotates_under_traffic", envoy(), delta),
        trial("sd_03_an_envoy_with_plain_roots_rotates_under_traffic", envoy(), plain_roots),
        trial(
            "sd_03_rv_06_an_envoy_with_plain_roots_refuses_what_a_revocation_list_names",
            envoy().or_else(|| missing("curl")),
            listed,
        ),
        trial(
            "sd_01_an_envoy_and_curl_meet_with_certificates_of_ours",
            envoy().or_else(|| missing("curl")),
            curl,
        ),
        trial("sd_01_an_envoy_whose_entry_is_deleted_is_renewed_when_it_is_back", envoy(), deleted),
        trial("sd_01_an_envoy_that_asks_for_another_name_gets_no_certificate", envoy(), other_name),
        trial("sd_02_an_envoy_that_cannot_use_a_secret_is_counted_once", envoy(), refused),
    ]
}

/// An Envoy in a directory of its own, and where it makes calls.
struct Peer {
    _envoy: Envoy,
    takes: SocketAddr,
    makes: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
}

impl Peer {
    fn start(gateway: &Gateway, origin: SocketAddr, words: &[(&str, &str)]) -> Result<Self> {
        let [takes, makes, admin] = [free_port(), free_port(), free_port()];
        let dir = gateway.dir().join(format!("envoy-{takes}"));
        fs::create_dir(&dir)?;
        let socket = gateway.dir().join("workload.sock").display().to_string();
        let mut text = EXAMPLE.to_owned();
        let own = [
            ("port_value: 9901", format!("port_value: {admin}")),
            ("port_value: 10000", format!("port_value: {takes}")),
            ("port_value: 10001", format!("port_value: {makes}")),
            ("port_value: 8081", format!("port_value: {}", origin.port())),
            ("./data/workload.sock", socket),
            // Each call is a handshake, with the secrets of its moment.
            (
                "explicit_http_config: {http_protocol_options: {}}",
                "common_http_protocol_options: {max_requests_per_connection: 1}\n        explicit_http_config: {http_protocol_options: {}}".to_owned(),
            ),
        ];
        let own = own.iter().map(|(word, value)| (*word, value.as_str()));
        for (word, value) in own.chain(words.iter().copied()) {
            check!(text.contains(word), "the example has no `{word}`");
            text = text.replace(word, value);
        }
        let envoy = Envoy::start(&dir, makes, &text)?;
        let [takes, makes, admin] =
            [takes, makes, admin].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        Ok(Self { _envoy: envoy, takes, makes, admin, log: dir.join("envoy.log") })
    }

    /// Status and body of a call through both ends.
    fn call(&self) -> Result<(u16, String)> {
        get(self.makes, "/")
    }

    /// Waits for the first call that passes.
    fn wait(&self) -> Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.call() {
                Ok((200, body)) => return Ok(body),
                other if Instant::now() > end => {
                    return Err(format!("{other:?}: {}", fs::read_to_string(&self.log)?).into());
                }
                _ => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// The sum of a counter over its secrets.
    fn counter(&self, name: &str) -> Result<u64> {
        let (_, text) = get(self.admin, "/stats?filter=sds")?;
        let ending = format!(".{name}");
        let counts = text.lines().filter_map(|line| line.split_once(": "));
        let counts = counts.filter(|(counter, _)| counter.ends_with(&ending));
        Ok(counts.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum())
    }
}

/// The words of a status as Envoy logs them: as they came over the wire.
fn in_log(words: &str) -> String {
    words.replace(' ', "%20").replace('"', "%22")
}

/// The digest of the certificate that `in` was shown, as it told the origin.
fn shown(body: &str) -> Result<String> {
    let line = body.lines().find_map(|line| line.strip_prefix("x-forwarded-client-cert: "));
    let line = line.ok_or_else(|| format!("no certificate: {body}"))?;
    check!(line.contains(&format!("URI={WEB}")), "{line}");
    let hash = line.split(';').find_map(|part| part.strip_prefix("Hash="));
    Ok(hash.ok_or("no digest")?.to_owned())
}

/// Has the SVID of `web` issued anew, by another DNS name in its entry.
pub(super) fn rotate(gateway: &Gateway, number: usize) -> Result {
    let entry = web_entry(gateway)?;
    let path = format!("/v1/entries/{}", entry["id"].as_str().ok_or("no id")?);
    let found = gateway.ask("GET", &path, &[], None)?;
    let tag = found.header("etag").ok_or("no etag")?.to_owned();
    let body = json!({ "spiffe_id": WEB, "selectors": entry["selectors"], "dns_names": ["localhost", format!("n{number}.local")] });
    let changed = gateway.ask("PUT", &path, &[("if-match", &tag)], Some(&body))?;
    check!(changed.status == 200, "{changed:?}");
    Ok(())
}

/// Six certificates one after another, on both ends, while calls go on: none fails.
fn rotates(words: &[(&str, &str)]) -> Result {
    let (gateway, origin) = (plain()?, Upstream::echo());
    let peer = Arc::new(Peer::start(&gateway, origin.address, words)?);
    let mut seen = BTreeSet::from([shown(&peer.wait()?)?]);
    let over = Arc::new(AtomicBool::new(false));
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let (peer, over) = (Arc::clone(&peer), Arc::clone(&over));
            thread::spawn(move || {
                let (mut hashes, mut calls) = (BTreeSet::new(), 0);
                while !over.load(Ordering::Relaxed) {
                    match peer.call().map_err(|error| error.to_string())? {
                        (200, body) => hashes.insert(shown(&body).map_err(|error| error.to_string())?),
                        other => return Err(format!("a call failed: {other:?}")),
                    };
                    calls += 1;
                }
                Ok((hashes, calls))
            })
        })
        .collect();
    for number in 0..5 {
        rotate(&gateway, number)?;
        let end = Instant::now() + PATIENCE;
        while !seen.insert(shown(&peer.wait()?)?) {
            check!(Instant::now() < end, "rotation {number} did not arrive\n{}", gateway.log());
            thread::sleep(Duration::from_millis(20));
        }
    }
    over.store(true, Ordering::Relaxed);
    let mut total = 0;
    for calling in calls {
        let (hashes, calls): (BTreeSet<String>, usize) =
            calling.join().map_err(|_| "a thread panicked")??;
        check!(hashes.is_subset(&seen), "a certificate that nobody issued");
        total += calls;
    }
    check!(seen.len() == 6 && total > 50, "{} certificates, {total} calls", seen.len());
    let (refused, taken) = (peer.counter("update_rejected")?, peer.counter("update_success")?);
    check!(refused == 0 && taken >= 7, "six certificates and the roots: {taken} taken, {refused} refused");
    Ok(())
}

fn whole() -> Result {
    rotates(&[(KIND, "api_type: GRPC")])
}

fn delta() -> Result {
    rotates(&[(KIND, "api_type: DELTA_GRPC"), (CONTEXT, "name: ALL")])
}

fn plain_roots() -> Result {
    rotates(&[
        (METADATA, "metadata: {disable_spiffe_cert_validation: true}"),
        (CERTIFICATE, "name: spiffe://example.org/web"),
    ])
}

fn curl() -> Result {
    let (gateway, origin) = (plain()?, Upstream::echo());
    let peer = Peer::start(&gateway, origin.address, &[(CONTEXT, "name: spiffe://example.org")])?;
    peer.wait()?;
    let tls = gateway.identity()?;
    let with = ask(&peer, &tls, true)?;
    check!(with.status.success(), "{}", String::from_utf8_lossy(&with.stderr));
    shown(&String::from_utf8_lossy(&with.stdout))?;
    check!(!ask(&peer, &tls, false)?.status.success(), "a caller without a certificate passed");
    Ok(())
}

/// A call of curl's, with the bundle in `tls`, and the certificate there or none.
fn ask(peer: &Peer, tls: &Path, own: bool) -> Result<std::process::Output> {
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sS", "--max-time", "10", "--cacert"]).arg(tls.join("bundle.pem"));
    if own {
        curl.arg("--cert").arg(tls.join("svid.pem")).arg("--key").arg(tls.join("svid.key"));
    }
    Ok(curl.arg(format!("https://localhost:{}/", peer.takes.port())).output()?)
}

fn listed() -> Result {
    let (gateway, origin) = (plain()?, Upstream::echo());
    let plain = [(METADATA, "metadata: {disable_spiffe_cert_validation: true}")];
    let peer = Peer::start(&gateway, origin.address, &plain)?;
    peer.wait()?;
    let [lost, kept] = ["lost", "kept"].map(|name| gateway.dir().join(name));
    for dir in [&lost, &kept] {
        gateway.json(&["svid", "mint", WEB, "--dir", &dir.display().to_string()])?;
        let taken = ask(&peer, dir, true)?;
        check!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    }
    let file = lost.join("svid.pem").display().to_string();
    gateway.json(&["svid", "revoke", &file, "--reason", "lost", "--yes"])?;
    let end = Instant::now() + PATIENCE;
    while ask(&peer, &lost, true)?.status.success() {
        check!(Instant::now() < end, "it is still taken\n{}", fs::read_to_string(&peer.log)?);
        thread::sleep(Duration::from_millis(50));
    }
    check!(ask(&peer, &kept, true)?.status.success(), "another certificate is refused");
    check!(peer.call()?.0 == 200, "its own certificate is refused");
    check!(peer.counter("update_rejected")? == 0, "it refused a list\n{}", fs::read_to_string(&peer.log)?);
    Ok(())
}

fn deleted() -> Result {
    let (gateway, origin) = (plain()?, Upstream::echo());
    let kinds = ["api_type: GRPC", "api_type: DELTA_GRPC"];
    let peers: Result<Vec<Peer>> =
        kinds.iter().map(|kind| Peer::start(&gateway, origin.address, &[(KIND, kind)])).collect();
    let peers = peers?;
    let before: Result<Vec<String>> = peers.iter().map(|peer| shown(&peer.wait()?)).collect();
    let entry = web_entry(&gateway)?;
    let id = entry["id"].as_str().ok_or("no id")?.to_owned();
    let told = gateway.cli(&["entry", "delete", &id, "--yes"])?;
    check!(told.code == 0, "{told:?}");
    let end = Instant::now() + PATIENCE;
    for peer in &peers {
        while !fs::read_to_string(&peer.log)?.contains(&in_log("no identity issued")) {
            check!(Instant::now() < end, "the stream goes on: {}", fs::read_to_string(&peer.log)?);
            thread::sleep(Duration::from_millis(50));
        }
    }
    // It may use what it has to its end, as every workload; a new one gets nothing.
    let late = Peer::start(&gateway, origin.address, &[])?;
    check!(late.call()?.0 == 503, "an Envoy without an entry has a certificate");

    let body = json!({ "spiffe_id": WEB, "selectors": [format!("unix:uid:{}", own_uid())] });
    let created = gateway.ask("POST", "/v1/entries", &[], Some(&body))?;
    check!(created.status == 201, "{created:?}");
    let end = Instant::now() + LONG_PATIENCE;
    for (peer, before) in peers.iter().zip(&before?) {
        while shown(&peer.wait()?)? == *before {
            check!(Instant::now() < end, "no new certificate\n{}", fs::read_to_string(&peer.log)?);
            thread::sleep(Duration::from_millis(50));
        }
    }
    while late.call()?.0 != 200 {
        check!(Instant::now() < end, "no certificate\n{}", fs::read_to_string(&late.log)?);
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn other_name() -> Result {
    let (gateway, origin) = (plain()?, Upstream::echo());
    let name = "spiffe://example.org/other";
    let peer = Peer::start(&gateway, origin.address, &[(CERTIFICATE, &format!("name: {name}"))])?;
    let end = Instant::now() + PATIENCE;
    let told = in_log(&format!("no secret of this caller: \"{name}\""));
    while !fs::read_to_string(&peer.log)?.contains(&told) {
        check!(Instant::now() < end, "{}", fs::read_to_string(&peer.log)?);
        thread::sleep(Duration::from_millis(50));
    }
    check!(peer.call()?.0 == 503, "a call passed without a certificate");
    Ok(())
}

fn refused() -> Result {
    let (gateway, origin) = (plain()?, Upstream::echo());
    // Roots where a certificate belongs.
    let peer =
        Peer::start(&gateway, origin.address, &[(CONTEXT, "name: ALL"), (CERTIFICATE, "name: ROOTCA")])?;
    let end = Instant::now() + PATIENCE;
    while rejected(&gateway)? == 0 {
        check!(Instant::now() < end, "{}\n{}", gateway.log(), fs::read_to_string(&peer.log)?);
    }
    thread::sleep(Duration::from_secs(2));
    let (ours, theirs) = (rejected(&gateway)?, peer.counter("update_rejected")?);
    check!(ours == theirs && ours <= 2, "{ours} refusals counted, {theirs} made");
    check!(peer.call()?.0 == 503, "a call passed without a certificate");
    Ok(())
}
