//! Why a peer's certificate chain was refused: a value that is counted and recorded, not an error to be retried.
//!
//! One variant per rule of the verifier (identity.md 5); the words of [`Refusal::code`] are stable and appear in
//! records and metrics. None of it is told to the peer beyond the TLS alert.

use crate::{IdError, SpiffeId, TrustDomain, der};

/// The first rule that a chain broke.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// VS-01: no certificate at all.
    #[error("no certificate was presented")]
    NoCertificate,
    /// VS-01: more than six certificates.
    #[error("the chain holds more than 6 certificates")]
    TooManyCertificates,
    /// VS-01: a certificate over 16 KiB, or a chain over 64 KiB.
    #[error("the chain is larger than allowed")]
    TooLarge,
    /// VS-01: not the DER of an X.509 certificate.
    #[error("the certificate is malformed")]
    Malformed,
    /// VS-01: bytes after the end of a certificate (XT-13).
    #[error("bytes follow the certificate")]
    TrailingBytes,
    /// VS-01: DER nested deeper than 16 levels.
    #[error("the certificate is nested too deeply")]
    TooDeep,
    /// VS-01: not version 3.
    #[error("the certificate is not of version 3")]
    NotVersion3,
    /// VS-01: inner and outer signature algorithm differ.
    #[error("the certificate names two different signature algorithms")]
    AlgorithmMismatch,
    /// VS-01: the same extension twice (RFC 5280 4.2).
    #[error("the certificate holds the same extension twice")]
    DuplicateExtension,
    /// VS-02: the signature algorithm is not on the list.
    #[error("the signature algorithm is not allowed")]
    SignatureAlgorithm,
    /// VS-02: the kind of key is not on the list.
    #[error("the kind of public key is not allowed")]
    KeyAlgorithm,
    /// VS-02: an RSA key below 2048 or above 8192 bits.
    #[error("the RSA key size is not allowed")]
    KeySize,
    /// VS-03: an unreadable subject alternative name (XT-12).
    #[error("a subject alternative name is unreadable")]
    SanInvalid,
    /// VS-03: a NUL or a non-ASCII byte in a name (HV-09).
    #[error("a subject alternative name holds a NUL or non-ASCII byte")]
    SanByte,
    /// VS-03, X5-01: no URI name.
    #[error("the certificate carries no SPIFFE ID")]
    NoUri,
    /// VS-03, X5-01: more than one URI name.
    #[error("the certificate carries more than one URI name")]
    ManyUris,
    /// VS-03: the URI is not a SPIFFE ID.
    #[error("the URI name is not a SPIFFE ID: {0}")]
    SpiffeId(IdError),
    /// VS-03, X5-02: a leaf whose SPIFFE ID has no path.
    #[error("the SPIFFE ID of a leaf has no path")]
    RootPath,
    /// VS-04, X5-10: a CA certificate presented as leaf.
    #[error("a CA certificate may not authenticate")]
    LeafIsCa,
    /// VS-04: a leaf without keyUsage.
    #[error("the leaf has no keyUsage")]
    KeyUsageMissing,
    /// VS-04: a leaf without digitalSignature.
    #[error("the leaf may not make digital signatures")]
    NoDigitalSignature,
    /// VS-04, X5-14: a leaf with keyCertSign or cRLSign.
    #[error("the leaf may sign certificates or revocation lists")]
    LeafMaySign,
    /// VS-04: the extended key usage leaves the purpose out.
    #[error("the extended key usage leaves this purpose out")]
    WrongPurpose,
    /// VS-05: an intermediate without cA.
    #[error("an intermediate is no CA certificate")]
    IntermediateNotCa,
    /// VS-05: an intermediate without keyUsage or keyCertSign.
    #[error("an intermediate may not sign certificates")]
    IntermediateKeyUsage,
    /// VS-05: an intermediate with a URI name of another trust domain, with a path, or with several.
    #[error("an intermediate carries a name outside its role")]
    IntermediateName,
    /// VS-06: no bundle for the leaf's trust domain.
    #[error("the trust domain `{0}` is not trusted")]
    UnknownTrustDomain(TrustDomain),
    /// VS-06, TB-05: the bundle of the trust domain holds no key.
    #[error("the bundle of the trust domain is empty")]
    BundleEmpty,
    /// VS-06, FE-10: the bundle is older than its limit.
    #[error("the bundle of the trust domain is too old")]
    BundleStale,
    /// VS-08: before notBefore by more than the tolerance.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// VS-08: after notAfter.
    #[error("the certificate has expired")]
    Expired,
    /// VS-08: every anchor of the bundle is outside its own validity.
    #[error("no authority of the trust domain is valid now")]
    AnchorExpired,
    /// VS-08: no path from the leaf to an anchor of its own trust domain.
    #[error("no authority of the trust domain issued the certificate")]
    NoPath,
    /// VS-08: a signature does not verify.
    #[error("a signature in the chain is wrong")]
    BadSignature,
    /// VS-08, X5-12: name constraints, which we do not take.
    #[error("a name constraint forbids the certificate")]
    NameConstraints,
    /// VS-09: the path is longer than an authority allows.
    #[error("the chain is longer than its authority allows")]
    PathLength,
    /// VS-09: a critical extension that nobody here understands.
    #[error("a critical extension is unknown")]
    CriticalExtension,
    /// VS-10, RV-03: a certificate of the path is on the deny set.
    #[error("a certificate of the chain is revoked")]
    RevokedCertificate,
    /// VS-10, RV-07: a key that issued a certificate of the path is on the deny set.
    #[error("an issuer of the chain is revoked")]
    RevokedIssuer,
    /// VS-10: the SPIFFE ID is on the deny set.
    #[error("the SPIFFE ID is revoked")]
    RevokedId,
    /// VS-10: a valid identity, but not the expected one.
    #[error("the peer is `{seen}`, which is not expected")]
    UnexpectedId {
        /// Who it is.
        seen: SpiffeId,
    },
    /// RFC 9525: the valid certificate of a server outside, for another name than the one it was called by.
    #[error("the certificate is for {seen}")]
    WrongName {
        /// The names in it.
        seen: String,
    },
}

/// The three families that a decision record tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalClass {
    /// Not shown to be anybody.
    Untrusted,
    /// It was somebody, at another time.
    Expired,
    /// It was somebody, and was taken back.
    Revoked,
}

impl Refusal {
    /// The family, for records and for the reason of a denial.
    pub fn class(&self) -> RefusalClass {
        match self {
            Self::Expired | Self::NotYetValid | Self::AnchorExpired | Self::BundleStale => {
                RefusalClass::Expired
            }
            Self::RevokedCertificate | Self::RevokedIssuer | Self::RevokedId => RefusalClass::Revoked,
            _ => RefusalClass::Untrusted,
        }
    }

    /// A stable word for metrics and records.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::TooManyCertificates => "too_many_certificates",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::TrailingBytes => "trailing_bytes",
            Self::TooDeep => "too_deep",
            Self::NotVersion3 => "not_version_3",
            Self::AlgorithmMismatch => "algorithm_mismatch",
            Self::DuplicateExtension => "duplicate_extension",
            Self::SignatureAlgorithm => "signature_algorithm",
            Self::KeyAlgorithm => "key_algorithm",
            Self::KeySize => "key_size",
            Self::SanInvalid => "san_invalid",
            Self::SanByte => "san_byte",
            Self::NoUri => "no_uri",
            Self::ManyUris => "many_uris",
            Self::SpiffeId(_) => "spiffe_id",
            Self::RootPath => "root_path",
            Self::LeafIsCa => "leaf_is_ca",
            Self::KeyUsageMissing => "key_usage_missing",
            Self::NoDigitalSignature => "no_digital_signature",
            Self::LeafMaySign => "leaf_may_sign",
            Self::WrongPurpose => "wrong_purpose",
            Self::IntermediateNotCa => "intermediate_not_ca",
            Self::IntermediateKeyUsage => "intermediate_key_usage",
            Self::IntermediateName => "intermediate_name",
            Self::UnknownTrustDomain(_) => "unknown_trust_domain",
            Self::BundleEmpty => "bundle_empty",
            Self::BundleStale => "bundle_stale",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::AnchorExpired => "anchor_expired",
            Self::NoPath => "no_path",
            Self::BadSignature => "bad_signature",
            Self::NameConstraints => "name_constraints",
            Self::PathLength => "path_length",
            Self::CriticalExtension => "critical_extension",
            Self::RevokedCertificate => "revoked_certificate",
            Self::RevokedIssuer => "revoked_issuer",
            Self::RevokedId => "revoked_id",
            Self::UnexpectedId { .. } => "unexpected_id",
            Self::WrongName { .. } => "wrong_name",
        }
    }
}

impl From<der::Fault> for Refusal {
    fn from(fault: der::Fault) -> Self {
        match fault {
            der::Fault::Malformed => Self::Malformed,
            der::Fault::Trailing => Self::TrailingBytes,
            der::Fault::TooDeep => Self::TooDeep,
        }
    }
}
