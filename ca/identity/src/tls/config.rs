//! The TLS configurations themselves: algorithms, and everything that is off.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::UnixTime;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig, version};

use super::Trust;
use super::named::{ByName, NamedCertificate};
use super::verifier::{ClientVerifier, Expected, OwnSvid, Refused, ServerVerifier};

/// What a listener asks of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// A handshake without a valid SVID fails.
    Required,
    /// A client may come without a certificate; one that it shows must be valid.
    Optional,
    /// No certificate is asked for.
    None,
}

/// TL-01, TLS-01: hybrid key exchange first, three AEAD suites, nothing older than TLS 1.3.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
        ..default_provider()
    }
}

/// Makes our provider the process default, for libraries that ask for one (S18). A second call changes nothing.
pub fn install_provider() {
    // An earlier provider stays: every configuration of ours names its provider anyway.
    provider().install_default().ok();
}

/// A server configuration that reads `trust` at every handshake.
pub fn server_config(trust: &Arc<Trust>, auth: ClientAuth, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    server_config_by_name(trust, auth, alpn, &[])
}

/// The same, with certificates for names of their own beside the own SVID.
pub fn server_config_by_name(
    trust: &Arc<Trust>,
    auth: ClientAuth,
    alpn: &[&[u8]],
    named: &[Arc<NamedCertificate>],
) -> Arc<ServerConfig> {
    let provider = Arc::new(provider());
    let algorithms = provider.signature_verification_algorithms;
    let verifier = |mandatory| Arc::new(ClientVerifier { trust: Arc::clone(trust), algorithms, mandatory });
    #[expect(clippy::expect_used, reason = "INVARIANT: `provider` has TLS 1.3 suites and groups for them")]
    let builder = ServerConfig::builder_with_details(provider, Arc::new(TrustClock(Arc::clone(trust))))
        .with_protocol_versions(&[&version::TLS13])
        .expect("provider speaks TLS 1.3");
    let builder = match auth {
        ClientAuth::Required => builder.with_client_cert_verifier(verifier(true)),
        ClientAuth::Optional => builder.with_client_cert_verifier(verifier(false)),
        ClientAuth::None => builder.with_client_cert_verifier(WebPkiClientVerifier::no_client_auth()),
    };
    let config = match named {
        [] => builder.with_cert_resolver(Arc::new(OwnSvid(Arc::clone(trust)))),
        [..] => {
            builder.with_cert_resolver(Arc::new(ByName { trust: Arc::clone(trust), named: named.to_vec() }))
        }
    };
    bare_server(config, alpn)
}

/// A server that resumes nothing and takes no early data: who comes again proves himself again.
pub(super) fn bare_server(mut config: ServerConfig, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = names(alpn);
    Arc::new(config)
}

/// A client that resumes nothing and sends no early data.
pub(super) fn bare_client(mut config: ClientConfig, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = names(alpn);
    Arc::new(config)
}

fn names(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.to_vec()).collect()
}

/// A client configuration that reads `trust` at every handshake and accepts only `expected` servers.
pub fn client_config(trust: &Arc<Trust>, expected: Expected, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    client_config_telling(trust, expected, alpn).0
}

/// The same, and what tells why a server was refused: for QUIC, whose errors keep the alert alone.
pub fn client_config_telling(
    trust: &Arc<Trust>,
    expected: Expected,
    alpn: &[&[u8]],
) -> (Arc<ClientConfig>, Refused) {
    let provider = Arc::new(provider());
    let algorithms = provider.signature_verification_algorithms;
    let refused = Refused::default();
    let verifier =
        ServerVerifier { trust: Arc::clone(trust), algorithms, expected, refused: refused.clone() };
    #[expect(clippy::expect_used, reason = "INVARIANT: `provider` has TLS 1.3 suites and groups for them")]
    let builder = ClientConfig::builder_with_details(provider, Arc::new(TrustClock(Arc::clone(trust))))
        .with_protocol_versions(&[&version::TLS13])
        .expect("provider speaks TLS 1.3");
    let config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(OwnSvid(Arc::clone(trust))));
    (bare_client(config, alpn), refused)
}

/// rustls takes the time from the same clock as our verifiers.
#[derive(Debug)]
pub(super) struct TrustClock(pub(super) Arc<Trust>);

impl TimeProvider for TrustClock {
    fn current_time(&self) -> Option<UnixTime> {
        let nanos = u64::try_from(self.0.now().as_nanos()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_nanos(nanos)))
    }
}
