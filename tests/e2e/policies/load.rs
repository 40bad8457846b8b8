//! Policies that flip between permit and no permit while calls flow: what no call may notice.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base_ports::SystemClock;
use ca_identity::tls::{Expected, Trust, client_config, install_provider};
use ca_identity::{Bundle, BundleMap, IdentitySnapshot, SpiffeId, TrustDomain, X509Svid, pem};
use h2::client::SendRequest;
use serde_json::Value;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::permit;

const FLIPS: usize = 20;
const CONNECTIONS: usize = 3;
const STREAMS: usize = 4;
/// Stands for the status of an answer that was broken off.
const CUT: u16 = 0;

pub(super) fn flips() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let tls = connector(&gateway.identity()?)?;
    let (stop, address) = (Arc::new(AtomicBool::new(false)), gateway.address);
    let until = Arc::clone(&stop);
    let client = std::thread::spawn(move || calls(&tls, address, &until));
    // Which policy each version holds, and what it says.
    let mut versions = BTreeMap::from([(gateway.policies_version()?, ("web-all".to_owned(), "allow"))]);
    let flipped = (0..FLIPS).try_for_each(|flip| -> Result {
        let id = format!("flip-{flip}");
        let (who, effect) = if flip % 2 == 0 { ("nobody", "deny") } else { ("web", "allow") };
        let version = gateway.publish("web.cedar", &permit(&id, who, 0))?;
        versions.insert(version, (id, effect));
        Ok(())
    });
    std::thread::sleep(Duration::from_millis(100));
    stop.store(true, Ordering::SeqCst);
    let answers = client.join().map_err(|_| "the client panicked")??;
    flipped?;
    let total: usize = answers.values().sum();
    check!(answers.keys().all(|status| [CUT, 200, 403].contains(status)), "other answers: {answers:?}");
    let has_both = answers.contains_key(&200) && answers.contains_key(&403);
    check!(has_both && total > 500, "too little was seen: {answers:?}");
    check!(versions.len() == FLIPS + 1, "some flips share a version: {versions:?}");

    let judged = account(&gateway, &answers, &versions)?;
    check!(judged.len() >= FLIPS, "versions that judged: {judged:?}");
    Ok(())
}

/// Every answer has its record, by one version, which says just that; how many calls each version judged. `versions` holds
/// for each its one policy and the verdict.
pub(super) fn account(
    gateway: &Gateway,
    answers: &BTreeMap<u16, usize>,
    versions: &BTreeMap<u64, (String, &str)>,
) -> Result<BTreeMap<u64, usize>> {
    let total: usize = answers.values().sum();
    let (mut ended, mut allowed) = (0, 0);
    let mut judged: BTreeMap<u64, usize> = BTreeMap::new();
    let mut order = Vec::new();
    each_decision(gateway, |record| {
        // A call that lost its permit under way has a second record and is answered like one that never had it (CT-05).
        if record["phase"] == "rejudge" {
            ended += 1;
            check!(record["effect"] == "deny" && record["reason"] == "revoked_by_change", "{record}");
            return Ok(());
        }
        let version = record["versions"]["policies"].as_u64().ok_or("no version")?;
        let (id, effect) = versions.get(&version).ok_or_else(|| format!("unknown version in {record}"))?;
        check!(record["effect"] == *effect, "version {version} says {effect}: {record}");
        let determining = record["determining"].as_array().map_or(0, Vec::len);
        match *effect {
            "allow" => check!(record["determining"][0] == id.as_str(), "not by `{id}`: {record}"),
            _ => check!(determining == 0 && record["reason"] == "no_permit", "why: {record}"),
        }
        allowed += usize::from(*effect == "allow");
        *judged.entry(version).or_default() += 1;
        order.push((record["id"].as_str().ok_or("no id")?.to_owned(), version));
        Ok(())
    })?;
    check!(order.len() == total, "{total} answers, {} records", order.len());
    let passed = answers.get(&200).copied().unwrap_or_default();
    check!(passed + ended == allowed, "{answers:?}, {allowed} allowed, {ended} of them ended");
    // A worker never goes back to older policies: on each stream, versions only rise. Ids of one worker rise with time.
    order.sort();
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    for (id, version) in &order {
        let worker = id.get(10..18).ok_or("a short id")?;
        let before = newest.insert(worker, *version).unwrap_or_default();
        check!(before <= *version, "{id}: judged by {version} after {before}");
    }
    Ok(judged)
}

/// Every decision on a call, newest first.
pub(crate) fn all_decisions(gateway: &Gateway) -> Result<Vec<Value>> {
    let mut records = Vec::new();
    each_decision(gateway, |record| {
        records.push(record.clone());
        Ok(())
    })?;
    Ok(records)
}

fn each_decision(gateway: &Gateway, mut each: impl FnMut(&Value) -> Result) -> Result {
    let mut cursor: Option<String> = None;
    loop {
        let mut words = vec!["decisions", "query", "--action", "http:GET", "--limit", "1000"];
        words.extend(cursor.as_deref().map(|cursor| ["--cursor", cursor]).into_iter().flatten());
        let page = gateway.json(&words)?;
        page["items"].as_array().into_iter().flatten().try_for_each(&mut each)?;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return Ok(()),
        }
    }
}

/// A client over HTTP/2 with the identity in `dir` that accepts the gateway only.
pub(crate) fn connector(dir: &Path) -> Result<TlsConnector> {
    connector_of(dir, b"h2")
}

/// The same over another protocol.
pub(crate) fn connector_of(dir: &Path, alpn: &[u8]) -> Result<TlsConnector> {
    install_provider();
    let domain = TrustDomain::parse("example.org")?;
    let chain = pem::read_certificates(&fs::read(dir.join("svid.pem"))?)?;
    let key = pem::read_private_key(&fs::read(dir.join("svid.key"))?)?;
    let anchors = pem::read_certificates(&fs::read(dir.join("bundle.pem"))?)?;
    let bundles = BundleMap::of(Arc::new(Bundle::new(domain, anchors, 1)?));
    let own = Some(Arc::new(X509Svid::new(chain, key)?));
    let trust = Trust::new(Arc::new(SystemClock));
    trust.publish(IdentitySnapshot { own, bundles, ..IdentitySnapshot::default() })?;
    let gateway = SpiffeId::parse("spiffe://example.org/gateway")?;
    Ok(TlsConnector::from(client_config(&trust, Expected::Ids(vec![gateway]), &[alpn])))
}

/// Calls on several connections at once until told to stop; counts the answers by status.
pub(crate) fn calls(
    tls: &TlsConnector,
    address: SocketAddr,
    stop: &Arc<AtomicBool>,
) -> Result<BTreeMap<u16, usize>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let stream = tls.connect("localhost".try_into()?, stream).await?;
            let (sender, connection) = h2::client::handshake(stream).await?;
            tokio::spawn(connection);
            streams.extend(
                (0..STREAMS).map(|_| tokio::spawn(call_on(sender.clone(), address, Arc::clone(stop)))),
            );
        }
        let mut answers: BTreeMap<u16, usize> = BTreeMap::new();
        for stream in streams {
            for (status, count) in stream.await?? {
                *answers.entry(status).or_default() += count;
            }
        }
        Ok(answers)
    })
}

async fn call_on(
    sender: SendRequest<bytes::Bytes>,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
) -> Result<BTreeMap<u16, usize>> {
    let mut answers: BTreeMap<u16, usize> = BTreeMap::new();
    while !stop.load(Ordering::SeqCst) {
        let call = tokio::time::timeout(Duration::from_secs(10), one_call(sender.clone(), address));
        *answers.entry(call.await??).or_default() += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(answers)
}

async fn one_call(
    sender: h2::client::SendRequest<bytes::Bytes>,
    address: std::net::SocketAddr,
) -> Result<u16> {
    let request = http::Request::get(format!("https://localhost:{}/flip", address.port())).body(())?;
    let mut sender = sender.ready().await?;
    let (answer, _) = sender.send_request(request, true)?;
    let answer = answer.await?;
    let status = answer.status().as_u16();
    let mut body = answer.into_body();
    while let Some(chunk) = body.data().await {
        match chunk {
            Ok(chunk) => body.flow_control().release_capacity(chunk.len())?,
            // The permit went when the answer had begun (CT-05).
            Err(cut) if cut.reason() == Some(h2::Reason::CANCEL) => return Ok(CUT),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(status)
}
