//! Exactly N requests over HTTP/3 with a client certificate, and what became of them, in the words of `oha`.
//!
//! `h3load ADDRESS DIR PATH REQUESTS CONNECTIONS STREAMS`: DIR holds `svid.pem`, `svid.key` and `bundle.pem`; each stream
//! asks for its next request when the answer is whole. One thread.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use http::Request;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

type Failed = Box<dyn Error + Send + Sync>;
type Sender = SendRequest<h3_quinn::OpenStreams, Bytes>;

#[derive(Default)]
struct Seen {
    statuses: BTreeMap<u16, usize>,
    took: Vec<Duration>,
}

fn main() -> Result<(), Failed> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, tls, path, requests, connections, streams] = &words[..] else {
        return Err("h3load ADDRESS DIR PATH REQUESTS CONNECTIONS STREAMS".into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(
        address.parse()?,
        Path::new(tls),
        path,
        requests.parse()?,
        connections.parse()?,
        streams.parse()?,
    ))
}

async fn run(
    address: SocketAddr,
    tls: &Path,
    path: &str,
    requests: usize,
    connections: usize,
    streams: usize,
) -> Result<(), Failed> {
    let config = settings(tls)?;
    let uri = format!("https://localhost:{}{path}", address.port());
    let left = Arc::new(AtomicUsize::new(requests));
    let mut asking = tokio::task::JoinSet::new();
    let mut endpoints = Vec::new();
    let began = Instant::now();
    for _ in 0..connections {
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?;
        let quic = endpoint.connect_with(config.clone(), address, "localhost")?.await?;
        let (mut connection, sender) = h3::client::new(h3_quinn::Connection::new(quic)).await?;
        tokio::spawn(async move { std::future::poll_fn(|context| connection.poll_close(context)).await });
        for _ in 0..streams {
            asking.spawn(ask(sender.clone(), uri.clone(), Arc::clone(&left)));
        }
        endpoints.push((endpoint, sender));
    }
    let mut all = Seen::default();
    while let Some(seen) = asking.join_next().await {
        let seen = seen??;
        all.took.extend(seen.took);
        seen.statuses.into_iter().for_each(|(status, count)| *all.statuses.entry(status).or_default() += count);
    }
    let seconds = began.elapsed().as_secs_f64();
    all.took.sort_unstable();
    let percentile = |of: usize| {
        let at = (all.took.len() * of / 100).min(all.took.len().saturating_sub(1));
        all.took.get(at).map_or(0.0, Duration::as_secs_f64)
    };
    let statuses: BTreeMap<String, usize> =
        all.statuses.iter().map(|(status, count)| (status.to_string(), *count)).collect();
    println!(
        "{}",
        serde_json::json!({
            "summary": { "requestsPerSec": all.took.len() as f64 / seconds },
            "latencyPercentiles": { "p50": percentile(50), "p99": percentile(99) },
            "statusCodeDistribution": statuses,
        })
    );
    Ok(())
}

/// One request after another, until all have been asked.
async fn ask(mut sender: Sender, uri: String, left: Arc<AtomicUsize>) -> Result<Seen, Failed> {
    let mut seen = Seen::default();
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        let began = Instant::now();
        let mut stream = sender.send_request(Request::get(&uri).body(())?).await?;
        stream.finish().await?;
        let status = stream.recv_response().await?.status().as_u16();
        while let Some(mut part) = stream.recv_data().await? {
            part.advance(part.remaining());
        }
        seen.took.push(began.elapsed());
        *seen.statuses.entry(status).or_default() += 1;
    }
    Ok(seen)
}

fn settings(tls: &Path) -> Result<quinn::ClientConfig, Failed> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(tls.join("bundle.pem"))? {
        roots.add(root?)?;
    }
    let chain = CertificateDer::pem_file_iter(tls.join("svid.pem"))?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(tls.join("svid.key"))?;
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h3".to_vec()];
    Ok(quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?)))
}
