//! Certificates of names, which a listener shows besides the own SVID to callers that ask for one of their names (TL-07).
//!
//! They come from files and prove a name to stock clients. Who the peer is, the same verifier tells whatever is shown.

use std::fmt;
use std::sync::Arc;

use base_ports::UnixTime;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::{self, PemObject};

use super::Trust;
use super::verifier::OwnSvid;
use crate::pem::{PemError, read_certificates};
use crate::{Refusal, inspect};

/// A chain and its key, with the names that it is for.
pub struct NamedCertificate {
    names: Vec<String>,
    not_after: UnixTime,
    pub(super) key: Arc<CertifiedKey>,
}

impl PartialEq for NamedCertificate {
    /// The same chain; its key goes with it.
    fn eq(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert
    }
}

impl Eq for NamedCertificate {}

/// Why a chain and a key cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum NamedError {
    /// The chain cannot be read.
    #[error("the chain: {0}")]
    Chain(#[source] PemError),
    /// The key cannot be read.
    #[error("the key: {0}")]
    Key(#[source] pem::Error),
    /// The chain has no certificate.
    #[error("the chain is empty")]
    Empty,
    /// The leaf cannot be read.
    #[error("the certificate: {0}")]
    Leaf(#[source] Refusal),
    /// The leaf is for no name.
    #[error("the certificate has no DNS name")]
    NoName,
    /// The key cannot sign, or is another certificate's.
    #[error("the key does not fit the certificate: {0}")]
    Pair(#[source] rustls::Error),
}

impl NamedCertificate {
    /// From the PEM texts of a chain, leaf first, and of its key (PKCS#8, PKCS#1 or SEC1).
    ///
    /// # Errors
    /// When one cannot be read, or they do not belong together.
    pub fn read(chain: &[u8], key: &[u8]) -> Result<Self, NamedError> {
        let chain = read_certificates(chain).map_err(NamedError::Chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(NamedError::Key)?;
        let leaf = chain.first().ok_or(NamedError::Empty)?;
        let facts = inspect::certificate(leaf).map_err(NamedError::Leaf)?;
        let names: Vec<_> = facts.dns_names.iter().map(|name| name.to_ascii_lowercase()).collect();
        if names.is_empty() {
            return Err(NamedError::NoName);
        }
        let key = CertifiedKey::from_der(chain, key, &default_provider()).map_err(NamedError::Pair)?;
        key.keys_match().map_err(NamedError::Pair)?;
        Ok(Self { names, not_after: facts.not_after, key: Arc::new(key) })
    }

    /// Its names, lower-case.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// When it ends; from then on nobody sees it.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// Whether it is for that lower-case name: `*` stands for exactly one label (RFC 9525 6.3).
    pub fn covers(&self, name: &str) -> bool {
        let below = name.split_once('.').map(|(_, rest)| rest);
        self.names.iter().any(|known| match known.strip_prefix("*.") {
            Some(suffix) => below == Some(suffix),
            None => known == name,
        })
    }
}

impl fmt::Debug for NamedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedCertificate").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Shows the certificate of the name that is asked for, and the own SVID where that is nobody's.
#[derive(Debug)]
pub(super) struct ByName {
    pub(super) trust: Arc<Trust>,
    pub(super) named: Vec<Arc<NamedCertificate>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name();
        match asked.and_then(|name| self.named.iter().find(|known| known.covers(name))) {
            // One that has ended is not replaced by another: the caller asked for this name.
            Some(found) => (found.not_after >= self.trust.now()).then(|| Arc::clone(&found.key)),
            None => OwnSvid(Arc::clone(&self.trust)).resolve(hello),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pem::{write_certificates, write_private_key};
    use crate::testing::{self, TestCa};

    #[test]
    fn tl_07_a_certificate_is_for_its_names_and_no_other() {
        let svid = TestCa::new("example.org", testing::now()).svid_with(
            "/edge",
            &["shop.example.org", "*.api.example.org"],
            std::time::Duration::from_secs(60),
        );
        let (chain, key) = (write_certificates(&svid.chain), write_private_key(&svid.key));
        let named = NamedCertificate::read(chain.as_bytes(), key.as_bytes()).unwrap();
        for (name, covered) in [
            ("shop.example.org", true),
            ("a.api.example.org", true),
            ("api.example.org", false),
            ("a.b.api.example.org", false),
            ("xshop.example.org", false),
            ("org", false),
            ("", false),
        ] {
            assert_eq!(named.covers(name), covered, "{name}");
        }
        assert_eq!(named.not_after(), svid.not_after);
        assert!(!format!("{named:?}").contains("key"));
    }

    #[test]
    fn tl_07_what_does_not_belong_together_is_refused() {
        let ca = TestCa::new("example.org", testing::now());
        let life = std::time::Duration::from_secs(60);
        let (one, other) = (ca.svid_with("/a", &["a.test"], life), ca.svid_with("/b", &["b.test"], life));
        let (chain, key) = (write_certificates(&one.chain), write_private_key(&one.key));
        let read =
            |chain: &str, key: &str| NamedCertificate::read(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert!(matches!(read(&chain, &write_private_key(&other.key)), NamedError::Pair(_)));
        assert!(matches!(read("", &key), NamedError::Empty));
        assert!(matches!(read(&chain, ""), NamedError::Key(_)));
        assert!(matches!(read(&chain, &chain), NamedError::Key(_)));
        let nameless = ca.svid("/web");
        let key = write_private_key(&nameless.key);
        assert!(matches!(read(&write_certificates(&nameless.chain), &key), NamedError::NoName));
    }
}
