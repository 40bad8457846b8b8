//! TLS with the web: bundle endpoints, which strangers read, and the endpoints of others, which are known by a name (FE-02,
//! FE-05). TLS 1.2 with ECDHE and AEAD is spoken beside 1.3 here and nowhere else. No client shows a certificate.
//!
//! Refused: a server whose chain leads to none of the given roots, or is for another name.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base_ports::Clock;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite as suite, default_provider, kx_group};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert, VerifierBuilderError};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};

use super::Trust;
use super::config::{TrustClock, bare_client, bare_server};
use super::named::NamedCertificate;
use super::verifier::OwnSvid;

/// Why no server of the web can be verified.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// None of the certificates can serve as a root.
    #[error("none of {0} certificates can be used as a root")]
    NoRoots(usize),
    /// The library refuses the roots.
    #[error("the roots cannot be used: {0}")]
    Roots(#[from] VerifierBuilderError),
}

/// Suites and groups of Mozilla's intermediate profile, hybrid key exchange first.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        ..default_provider()
    })
}

/// A server that asks nobody who he is. It shows that certificate to everybody, or else the own SVID.
pub fn public_config(
    trust: &Arc<Trust>,
    shown: Option<&Arc<NamedCertificate>>,
    alpn: &[&[u8]],
) -> Arc<ServerConfig> {
    #[expect(clippy::expect_used, reason = "INVARIANT: `provider` has suites and groups of both versions")]
    let builder = ServerConfig::builder_with_details(provider(), Arc::new(TrustClock(Arc::clone(trust))))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .expect("provider speaks both versions")
        .with_no_client_auth();
    let config = match shown {
        Some(named) => builder.with_cert_resolver(Arc::new(Always(Arc::clone(trust), Arc::clone(named)))),
        None => builder.with_cert_resolver(Arc::new(OwnSvid(Arc::clone(trust)))),
    };
    bare_server(config, alpn)
}

/// Roots of servers that are known by name, read once and shared by whoever asks them.
#[derive(Clone)]
pub struct WebRoots {
    certificates: Arc<[CertificateDer<'static>]>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl WebRoots {
    /// From certificates; those that are none to us are left out.
    ///
    /// # Errors
    /// When no root is usable.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, WebError> {
        let mut store = RootCertStore::empty();
        let (added, _unusable) = store.add_parsable_certificates(certificates.iter().cloned());
        if added == 0 {
            return Err(WebError::NoRoots(certificates.len()));
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build()?;
        Ok(Self { certificates: certificates.into(), verifier })
    }
}

impl PartialEq for WebRoots {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }
}

impl Eq for WebRoots {}

impl fmt::Debug for WebRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A machine has more than a hundred.
        f.debug_struct("WebRoots").field("count", &self.certificates.len()).finish_non_exhaustive()
    }
}

/// A client of servers that are known by name (RFC 9525) under these roots. It shows no certificate.
pub fn web_client_config(roots: &WebRoots, clock: Arc<dyn Clock>, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    #[expect(clippy::expect_used, reason = "INVARIANT: `provider` has suites and groups of both versions")]
    let config = ClientConfig::builder_with_details(provider(), Arc::new(Wall(clock)))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .expect("provider speaks both versions")
        .with_webpki_verifier(Arc::clone(&roots.verifier))
        .with_no_client_auth();
    bare_client(config, alpn)
}

/// Shows one certificate, whatever name is asked for, until it ends.
#[derive(Debug)]
struct Always(Arc<Trust>, Arc<NamedCertificate>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Self(trust, named) = self;
        (named.not_after() >= trust.now()).then(|| Arc::clone(&named.key))
    }
}

#[derive(Debug)]
struct Wall(Arc<dyn Clock>);

impl TimeProvider for Wall {
    fn current_time(&self) -> Option<UnixTime> {
        let nanos = u64::try_from(self.0.now().wall.as_nanos()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_nanos(nanos)))
    }
}

#[cfg(test)]
mod tests {
    use base_ports::ManualClock;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConnection, ProtocolVersion, ServerConnection};

    use super::*;
    use crate::pem::{write_certificates, write_private_key};
    use crate::testing::{self, TestCa};

    fn clock() -> Arc<dyn Clock> {
        Arc::new(ManualClock::new(testing::now()))
    }

    /// What the client said at the end, and the version that was spoken.
    fn shake(
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
        name: &str,
    ) -> Result<ProtocolVersion, String> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(client, name).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets().map_err(|error| error.to_string())?;
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets().map_err(|error| error.to_string())?;
        }
        assert!(server.peer_certificates().is_none());
        Ok(client.protocol_version().unwrap())
    }

    #[test]
    fn fe_02_the_public_listener_speaks_tls_1_2_and_1_3_and_asks_for_no_certificate() {
        let ca = TestCa::new("example.org", testing::now());
        let svid = ca.svid_with("/edge", &["bundle.example.org"], Duration::from_secs(600));
        let named = NamedCertificate::read(
            write_certificates(&svid.chain).as_bytes(),
            write_private_key(&svid.key).as_bytes(),
        );
        let trust = Trust::new(clock());
        let server = public_config(&trust, Some(&Arc::new(named.unwrap())), &[]);
        let roots: Vec<_> = ca.bundle().certificates().cloned().collect();
        let client = web_client_config(&WebRoots::new(roots.clone()).unwrap(), clock(), &[]);
        let spoken = shake(Arc::clone(&client), Arc::clone(&server), "bundle.example.org");
        assert_eq!(spoken, Ok(ProtocolVersion::TLSv1_3));
        let refused = shake(client, Arc::clone(&server), "other.example.org").unwrap_err();
        assert!(refused.contains("not valid for name"), "{refused}");
        let other: Vec<_> =
            TestCa::new("other.org", testing::now()).bundle().certificates().cloned().collect();
        let stranger = web_client_config(&WebRoots::new(other).unwrap(), clock(), &[]);
        assert!(shake(stranger, Arc::clone(&server), "bundle.example.org").is_err());
        assert!(matches!(WebRoots::new(Vec::new()), Err(WebError::NoRoots(0))));

        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots);
        let old = ClientConfig::builder_with_details(provider(), Arc::new(Wall(clock())))
            .with_protocol_versions(&[&version::TLS12])
            .unwrap()
            .with_root_certificates(store)
            .with_no_client_auth();
        assert_eq!(shake(Arc::new(old), server, "bundle.example.org"), Ok(ProtocolVersion::TLSv1_2));
    }
}
