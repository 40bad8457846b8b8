//! A trust bundle: the authorities that vouch for one trust domain. Checked once, at load (VS-07).
//!
//! webpki sees only name, key and constraints of an anchor (XT-31), so whatever else an authority must be is
//! checked here: signature, cA, keyCertSign, no name constraints. Bundles of different domains are never merged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base_ports::UnixTime;
use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::certificate::Certificate;
use crate::jwt::JwtKey;
use crate::key_id::KeyId;
use crate::refusal::Refusal;
use crate::{SpiffeId, TrustDomain};

/// Largest number of authorities and keys for tokens, each, in one bundle (identity.md 14).
const KEY_LIMIT: usize = 256;
/// Refresh hint to own agents (identity.md 3).
pub(crate) const OWN_REFRESH_HINT: Duration = Duration::from_secs(60);

/// Why a bundle was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// An authority's certificate is unsound.
    #[error("authority {position} of the bundle: {reason}")]
    Anchor {
        /// Position in the bundle, from 1.
        position: usize,
        /// The broken rule.
        #[source]
        reason: Refusal,
    },
    /// X5-12: webpki cannot use an authority with name constraints, and neither do we.
    #[error("authority {position} of the bundle has name constraints; such a CA cannot be used")]
    NameConstraints {
        /// Position in the bundle, from 1.
        position: usize,
    },
    /// X5-09: the certificate names another trust domain, or a path.
    #[error("authority {position} of the bundle carries the name `{name}`, which is not the trust domain's")]
    ForeignName {
        /// Position in the bundle, from 1.
        position: usize,
        /// The SPIFFE ID that it carries.
        name: SpiffeId,
    },
    /// The same certificate twice.
    #[error("authority {position} of the bundle is there twice")]
    Duplicate {
        /// Position of the second, from 1.
        position: usize,
    },
    /// More than 256 authorities, or keys for tokens.
    #[error("the bundle holds more than {KEY_LIMIT} authorities or keys")]
    TooMany,
    /// JW-11: two keys for tokens of one name.
    #[error("the key identifier `{0}` is in the bundle twice")]
    DuplicateKey(String),
    /// TB-10: an authority key of another trust domain.
    #[error(
        "an authority of `{domain}` is already trusted for `{other}`; one root key serves one trust domain"
    )]
    SharedRoot {
        /// The domain whose bundle was to be inserted.
        domain: TrustDomain,
        /// The domain that holds the key already.
        other: TrustDomain,
    },
}

/// One authority, checked, with what the verifier needs.
#[derive(Debug, Clone)]
pub struct Anchor {
    der: CertificateDer<'static>,
    trust: TrustAnchor<'static>,
    key_id: KeyId,
    not_before: UnixTime,
    not_after: UnixTime,
    path_len: Option<u32>,
}

/// The authorities of one trust domain.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Bundle {
    /// Whose authorities these are.
    pub trust_domain: TrustDomain,
    /// Grows with every change of content (TB-03).
    pub sequence: u64,
    /// False for a document that says no sequence; such bundles are ordered by nothing (FE-09).
    pub is_sequenced: bool,
    /// How often consumers should ask again.
    pub refresh_hint: Duration,
    /// After this time the bundle counts as stale (federated bundles); `None` for the own domain.
    pub stale_after: Option<UnixTime>,
    anchors: Vec<Anchor>,
    jwt_keys: Vec<JwtKey>,
}

impl Bundle {
    /// Checks every authority and keeps them. An empty list is legal and trusts nobody (TB-05).
    ///
    /// # Errors
    /// Names the authority that breaks a rule; a bundle is taken whole or not at all.
    pub fn new(
        trust_domain: TrustDomain,
        anchors: Vec<CertificateDer<'static>>,
        sequence: u64,
    ) -> Result<Self, BundleError> {
        if anchors.len() > KEY_LIMIT {
            return Err(BundleError::TooMany);
        }
        let mut checked: Vec<Anchor> = Vec::with_capacity(anchors.len());
        for (nth, der) in anchors.into_iter().enumerate() {
            let position = nth.saturating_add(1);
            if checked.iter().any(|earlier| earlier.der == der) {
                return Err(BundleError::Duplicate { position });
            }
            checked.push(Anchor::check(&trust_domain, der, position)?);
        }
        let (refresh_hint, stale_after) = (OWN_REFRESH_HINT, None);
        let jwt_keys = Vec::new();
        Ok(Self {
            trust_domain,
            sequence,
            is_sequenced: true,
            refresh_hint,
            stale_after,
            anchors: checked,
            jwt_keys,
        })
    }

    /// The same bundle with these keys for tokens.
    ///
    /// # Errors
    /// When there are too many, or two of one name.
    pub fn with_jwt_keys(mut self, keys: Vec<JwtKey>) -> Result<Self, BundleError> {
        if keys.len() > KEY_LIMIT {
            return Err(BundleError::TooMany);
        }
        let mut names: Vec<_> = keys.iter().map(JwtKey::kid).collect();
        names.sort_unstable();
        if let Some([twice, _]) = names.array_windows().find(|[one, other]| one == other) {
            return Err(BundleError::DuplicateKey((*twice).to_owned()));
        }
        self.jwt_keys = keys;
        Ok(self)
    }

    /// The same bundle with another refresh hint.
    #[must_use]
    pub fn with_refresh_hint(mut self, hint: Duration) -> Self {
        self.refresh_hint = hint;
        self
    }

    /// The same bundle, stale after `time`.
    #[must_use]
    pub fn with_stale_after(mut self, time: UnixTime) -> Self {
        self.stale_after = Some(time);
        self
    }

    /// The same bundle of a document that said no sequence.
    #[must_use]
    pub(crate) fn without_sequence(mut self) -> Self {
        self.is_sequenced = false;
        self
    }

    /// The checked authorities.
    pub fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// The keys that verify tokens.
    pub fn jwt_keys(&self) -> &[JwtKey] {
        &self.jwt_keys
    }

    /// The authorities' certificates, in order.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.anchors.iter().map(|anchor| &anchor.der)
    }

    /// The certificates as concatenated DER, the form of the Workload API.
    pub fn to_der(&self) -> Vec<u8> {
        self.certificates().flat_map(|der| der.iter().copied()).collect()
    }
}

impl Anchor {
    fn check(
        domain: &TrustDomain,
        der: CertificateDer<'static>,
        position: usize,
    ) -> Result<Self, BundleError> {
        let fault = |reason| BundleError::Anchor { position, reason };
        let parsed = Certificate::parse(&der).map_err(fault)?;
        let key = parsed.key().map_err(fault)?;
        if parsed.has_name_constraints() {
            return Err(BundleError::NameConstraints { position });
        }
        let constraints = parsed.basic_constraints().filter(|found| found.ca);
        let constraints = constraints.ok_or(fault(Refusal::IntermediateNotCa))?;
        if !parsed.key_usage().is_some_and(|usage| usage.key_cert_sign()) {
            return Err(fault(Refusal::IntermediateKeyUsage));
        }
        if parsed.has_unknown_critical() {
            return Err(fault(Refusal::CriticalExtension));
        }
        if parsed.is_self_issued() {
            parsed.verify_signed_by(&key).map_err(fault)?;
        }
        // A CA of an upstream PKI may lack the URI; one that has it must be this domain's own (X5-09).
        match parsed.spiffe_id() {
            Err(Refusal::NoUri) => {}
            Err(reason) => return Err(fault(reason)),
            Ok(name) if name == domain.id() => {}
            Ok(name) => return Err(BundleError::ForeignName { position, name }),
        }
        let (key_id, path_len) = (parsed.key_id(), constraints.path_len);
        let (not_before, not_after) = (parsed.not_before(), parsed.not_after());
        let trust = webpki::anchor_from_trusted_cert(&der).or(Err(fault(Refusal::Malformed)))?.to_owned();
        Ok(Self { trust, key_id, not_before, not_after, path_len, der })
    }

    /// The certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Identifier of the authority's key.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Start of validity.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// End of validity.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// How many CAs may stand below it; `None` is unlimited.
    pub(crate) fn path_len(&self) -> Option<u32> {
        self.path_len
    }

    pub(crate) fn trust(&self) -> &TrustAnchor<'static> {
        &self.trust
    }

    pub(crate) fn is_valid_at(&self, time: UnixTime) -> bool {
        self.not_before <= time && time <= self.not_after
    }
}

/// Bundles by trust domain (TB-01). Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct BundleMap(BTreeMap<TrustDomain, Arc<Bundle>>);

impl BundleMap {
    /// Adds or replaces the bundle of its trust domain.
    ///
    /// # Errors
    /// TB-10: an authority key that another trust domain holds already is refused.
    pub fn insert(&mut self, bundle: Arc<Bundle>) -> Result<(), BundleError> {
        for (other, held) in &self.0 {
            let shared = held.anchors.iter().any(|a| bundle.anchors.iter().any(|b| a.key_id == b.key_id));
            if shared && *other != bundle.trust_domain {
                let (domain, other) = (bundle.trust_domain.clone(), other.clone());
                return Err(BundleError::SharedRoot { domain, other });
            }
        }
        self.insert_allowing_shared_roots(bundle);
        Ok(())
    }

    /// As `insert`, without TB-10: only after an operator said so, and audited.
    pub fn insert_allowing_shared_roots(&mut self, bundle: Arc<Bundle>) {
        self.0.insert(bundle.trust_domain.clone(), bundle);
    }

    /// A map with one bundle.
    pub fn of(bundle: Arc<Bundle>) -> Self {
        Self(BTreeMap::from([(bundle.trust_domain.clone(), bundle)]))
    }

    /// Takes a trust domain out.
    pub fn remove(&mut self, domain: &TrustDomain) -> Option<Arc<Bundle>> {
        self.0.remove(domain)
    }

    /// The bundle of a trust domain.
    pub fn get(&self, domain: &TrustDomain) -> Option<&Arc<Bundle>> {
        self.0.get(domain)
    }

    /// All bundles, ordered by trust domain.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        self.0.values()
    }

    /// Number of trust domains.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
