//! One GET of what others publish, the bundle of a trust domain or the keys of an issuer: resolve, look where it leads,
//! connect, let the server prove itself, read at most 1 MiB (FE-05, FE-06, FB-02). Each redirect begins anew with the same
//! rules.
//!
//! Refused: special addresses, servers that are somebody else, permanent redirects, answers that are not 200 or too large.
//! No certificate of ours is shown. Whoever asks bounds the whole time.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base_ports::{Clock, Net, Stream, SystemNet};
use ca_authority::{Endpoint, EndpointPeer, FetchBundle, FetchError, Fetching, redirect};
use ca_identity::tls::{Expected, Trust, client_config, refusal_in, web_client_config};
use ca_identity::{BundleMap, IdentitySnapshot, Refusal};
use enforcer_traffic::{Network, off_limits};
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::once::{self, Answer, Unread};
use super::web_roots;

const CONNECT: Duration = Duration::from_secs(5);
const BODY_BYTES: usize = 1024 * 1024;
/// Addresses of one name that are tried.
const TRIED: usize = 4;
/// Fetches over the network of this machine.
#[derive(Debug, Clone)]
pub(super) struct Fetcher {
    clock: Arc<dyn Clock>,
    net: Arc<dyn Net>,
    /// None = those of the machine.
    web_roots: Option<PathBuf>,
    fetch_from: Arc<[Network]>,
}

impl Fetcher {
    /// One that may go to special addresses of `fetch_from` alone.
    pub(super) fn new(web_roots: Option<PathBuf>, fetch_from: Vec<Network>, clock: &Arc<dyn Clock>) -> Self {
        let fetch_from = fetch_from.into();
        Self { clock: Arc::clone(clock), net: Arc::new(SystemNet), web_roots, fetch_from }
    }

    /// What lies there.
    ///
    /// # Errors
    /// Why it could not be had.
    pub(super) async fn get(&self, endpoint: Endpoint) -> Result<Vec<u8>, FetchError> {
        let config = self.config(&endpoint.peer).await?;
        let parse = |url: &str| url.parse::<Uri>().map_err(|error| FetchError::Answer(error.to_string()));
        let mut uri = parse(&endpoint.url)?;
        let mut followed = 0_usize;
        loop {
            let answer = self.ask(&uri, &config).await?;
            let status = answer.status;
            if status.is_redirection() {
                let location = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
                uri = redirect(&uri, status.as_u16(), location, followed)?;
                followed = followed.saturating_add(1);
                continue;
            }
            if status != StatusCode::OK {
                return Err(FetchError::Status(status.as_u16()));
            }
            let body = answer.body(BODY_BYTES).await.map_err(|error| match error {
                Unread::TooLarge => FetchError::TooLarge,
                Unread::Broken(cause) => FetchError::Answer(cause.to_string()),
            })?;
            return Ok(body.to_vec());
        }
    }

    /// Who may answer (FE-05).
    async fn config(&self, peer: &EndpointPeer) -> Result<Arc<ClientConfig>, FetchError> {
        let alpn: &[&[u8]] = &[b"http/1.1"];
        match peer {
            EndpointPeer::Web => {
                let path = self.web_roots.clone();
                let read = tokio::task::spawn_blocking(move || web_roots::read(path.as_deref())).await;
                // Read for each fetch, so that a machine may renew them.
                let roots = read.unwrap_or_else(|error| Err(error.to_string())).map_err(FetchError::Roots)?;
                Ok(web_client_config(&roots, Arc::clone(&self.clock), alpn))
            }
            EndpointPeer::Spiffe { id, bundle } => {
                let trust = Trust::new(Arc::clone(&self.clock));
                // However old the bundle is: its roots have ends of their own, and only this fetch brings a newer one.
                let mut known = bundle.as_ref().clone();
                known.stale_after = None;
                let bundles = BundleMap::of(Arc::new(known));
                let snapshot = IdentitySnapshot { bundles, ..IdentitySnapshot::default() };
                trust.publish(snapshot).map_err(|error| FetchError::Tls(error.to_string()))?;
                Ok(client_config(&trust, Expected::Ids(vec![id.clone()]), alpn))
            }
        }
    }

    async fn ask(&self, uri: &Uri, config: &Arc<ClientConfig>) -> Result<Answer, FetchError> {
        let unreadable = |error: &dyn std::fmt::Display| FetchError::Answer(error.to_string());
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let request = Request::get(path)
            .header(header::HOST, host)
            .header(header::ACCEPT, HeaderValue::from_static("application/json"))
            .body(Full::default())
            .map_err(|error| unreadable(&error))?;
        let stream = self.connect(uri, config).await?;
        once::ask(stream, request).await.map_err(|error| unreadable(&error))
    }

    async fn connect(&self, uri: &Uri, config: &Arc<ClientConfig>) -> Result<TlsStream<Stream>, FetchError> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(443);
        let reached = match tokio::time::timeout(CONNECT, self.reach(&host, port)).await {
            Ok(reached) => reached?,
            Err(_elapsed) => {
                return Err(FetchError::Connect {
                    host,
                    reason: format!("no answer within {} s", CONNECT.as_secs()),
                });
            }
        };
        let name = ServerName::try_from(host).map_err(|error| FetchError::Tls(error.to_string()))?;
        let secured = TlsConnector::from(Arc::clone(config)).connect(name, reached).await;
        secured.map_err(|error| match refusal_in(&error) {
            Some(Refusal::UnexpectedId { seen }) => FetchError::Identity(format!("it is `{seen}`")),
            Some(refusal) => FetchError::Tls(refusal.to_string()),
            None => FetchError::Tls(error.to_string()),
        })
    }

    /// The first address that answers, of those that a name may lead to. One that is refused refuses the name: who can say
    /// that it leads there could as well say so alone.
    async fn reach(&self, host: &str, port: u16) -> Result<Stream, FetchError> {
        let found = tokio::net::lookup_host((host, port)).await;
        let unresolved = |reason: String| FetchError::Resolve { host: host.to_owned(), reason };
        let found: Vec<SocketAddr> = found.map_err(|error| unresolved(error.to_string()))?.collect();
        if let Some(refused) = found.iter().find(|at| off_limits(at.ip(), &self.fetch_from).is_some()) {
            return Err(FetchError::Address { host: host.to_owned(), address: refused.ip() });
        }
        let mut last = unresolved("the name has none".to_owned());
        for at in found.into_iter().take(TRIED) {
            match self.net.dial(&at.into()).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = FetchError::Connect { host: host.to_owned(), reason: error.to_string() },
            }
        }
        Err(last)
    }
}

impl FetchBundle for Fetcher {
    fn fetch(&self, endpoint: Endpoint) -> Fetching {
        let fetcher = self.clone();
        Box::pin(async move { fetcher.get(endpoint).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn na_07_special_addresses_are_refused_unless_they_are_listed() {
        let may_lead = |address, listed: &[Network]| off_limits(address, listed).is_none();
        let listed = [Network::parse("127.0.0.0/8").unwrap()];
        for (text, alone, with) in [
            ("192.0.2.1", true, true),
            ("10.0.0.1", true, true),
            ("2001:db8::1", true, true),
            ("127.0.0.1", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("::1", false, false),
            ("169.254.169.254", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("fe80::1", false, false),
            ("0.0.0.0", false, false),
            ("0.1.2.3", false, false),
            ("::", false, false),
            ("255.255.255.255", false, false),
            ("224.0.0.1", false, false),
            ("ff02::1", false, false),
            ("100.100.100.200", false, false),
            ("fd00:ec2::254", false, false),
        ] {
            let address = text.parse().unwrap();
            assert_eq!((may_lead(address, &[]), may_lead(address, &listed)), (alone, with), "{text}");
        }
    }
}
