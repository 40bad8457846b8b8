//! Our own X509-SVID: identity, chain and key, checked to belong together. What peers show is judged elsewhere.

use base_ports::UnixTime;
use rustls_pki_types::CertificateDer;

use crate::certificate::Certificate;
use crate::key_id::{KeyId, Serial};
use crate::refusal::Refusal;
use crate::{PathLink, PrivateKey, SpiffeId};

/// Why a chain and a key are no SVID.
#[derive(Debug, thiserror::Error)]
pub enum SvidError {
    /// The chain is empty.
    #[error("the certificate chain is empty")]
    Empty,
    /// A certificate is unsound, or the leaf is no SVID.
    #[error("certificate {position} of the chain: {reason}")]
    Certificate {
        /// Position in the chain, 1 is the leaf.
        position: usize,
        /// The broken rule.
        #[source]
        reason: Refusal,
    },
    /// The key is not the one that the leaf certifies.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
}

/// An X509-SVID with its private key. Fields are read-only facts of the leaf.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct X509Svid {
    /// The identity.
    pub id: SpiffeId,
    /// Leaf first, then intermediates; never the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the leaf.
    pub key: PrivateKey,
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity of the leaf.
    pub not_after: UnixTime,
    /// Serial number of the leaf.
    pub serial: Serial,
    /// Identifier of the leaf's key.
    pub key_id: KeyId,
    /// What the deny set knows the chain by, leaf first. The issuer of the last is what stands in it.
    pub path: Vec<PathLink>,
    /// How a workload tells several SVIDs apart (WA-07).
    pub hint: Option<String>,
}

impl X509Svid {
    /// Parses the chain, takes the identity from the leaf and checks that the key belongs to it.
    ///
    /// Judges neither trust nor time: that is `verify_svid`.
    ///
    /// # Errors
    /// Names the certificate and the rule that it breaks.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKey) -> Result<Self, SvidError> {
        let mut all = Vec::with_capacity(chain.len());
        for (nth, der) in chain.iter().enumerate() {
            let position = nth.saturating_add(1);
            let read = Certificate::parse(der);
            all.push(read.map_err(|reason| SvidError::Certificate { position, reason })?);
        }
        let parsed = all.first().ok_or(SvidError::Empty)?;
        let leaf_fault = |reason| SvidError::Certificate { position: 1, reason };
        let id = parsed.spiffe_id().map_err(leaf_fault)?;
        if id.path().is_empty() {
            return Err(leaf_fault(Refusal::RootPath));
        }
        if parsed.spki() != key.public_spki() {
            return Err(SvidError::KeyMismatch);
        }
        let (not_before, not_after) = (parsed.not_before(), parsed.not_after());
        let (serial, key_id, path) = (parsed.serial(), parsed.key_id(), path_of(&all));
        Ok(Self { id, chain, key, not_before, not_after, serial, key_id, path, hint: None })
    }

    /// The same SVID with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// The leaf certificate.
    pub fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.chain.first()
    }

    /// True when the leaf may be shown to a peer at `now`.
    pub fn is_valid_at(&self, now: UnixTime) -> bool {
        now <= self.not_after
    }
}

fn path_of(chain: &[Certificate<'_>]) -> Vec<PathLink> {
    let above = chain.iter().skip(1).map(|issuer| Some(issuer.key_id()));
    let last = chain.last().and_then(Certificate::authority_key_id);
    let issuers = above.chain([last.and_then(|id| id.try_into().ok()).map(KeyId::from_bytes)]);
    let link = |(certificate, issuer): (&Certificate<'_>, Option<KeyId>)| {
        Some(PathLink { issuer: issuer?, serial: certificate.serial() })
    };
    chain.iter().zip(issuers).filter_map(link).collect()
}
