//! Why a token was refused: a value that is counted and recorded, like the refusal of a chain. The bearer is told no more
//! than that it was refused.

use crate::refusal::RefusalClass;
use crate::{IdError, TrustDomain};

/// The first rule that a token broke.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum TokenRefusal {
    /// VJ-01: the verifier was asked without an audience.
    #[error("no audience to check the token against was given")]
    NoAudienceExpected,
    /// VJ-01, S39: over 8 KiB, for users over 16.
    #[error("the token is too large")]
    TooLarge,
    /// VJ-01, JW-01: not the compact serialization.
    #[error("the token is not three segments of base64url without padding")]
    NotCompact,
    /// VJ-02, VJ-03: a part that is not one JSON object, or nested too deeply.
    #[error("the {0} of the token is not a JSON object")]
    NotJson(&'static str),
    /// VJ-02, VJ-03: a member twice.
    #[error("the {0} of the token holds a member twice")]
    DuplicateMember(&'static str),
    /// VJ-02, JW-03: a header member that no JWT-SVID has, such as `crit` or `jwk`.
    #[error("the header of the token has a member that no JWT-SVID has")]
    HeaderMember,
    /// JW-02: `none`, HMAC, EdDSA, or nothing known.
    #[error("the signature algorithm of the token is not allowed")]
    Algorithm,
    /// JW-04: another kind of token.
    #[error("the token is of another type than `JWT` or `JOSE`")]
    Type,
    /// VJ-02: a key identifier that is no text, or longer than 256 bytes.
    #[error("the key identifier of the token is unusable")]
    KeyIdentifier,
    /// VJ-03: a claim that is missing.
    #[error("the token has no claim `{0}`")]
    MissingClaim(&'static str),
    /// VJ-03: a claim of the wrong type or out of its range.
    #[error("the claim `{0}` of the token has the wrong type")]
    WrongClaim(&'static str),
    /// JW-06: a subject that is no SPIFFE ID.
    #[error("the subject of the token is not a SPIFFE ID: {0}")]
    Subject(IdError),
    /// JW-06: a subject without a path.
    #[error("the SPIFFE ID of the token has no path")]
    RootPath,
    /// JW-07: an empty audience, or one with empty names.
    #[error("the token is for nobody")]
    NoAudience,
    /// JW-12: no bundle for its trust domain.
    #[error("the trust domain `{0}` is not trusted")]
    UnknownTrustDomain(TrustDomain),
    /// FE-10: the bundle is older than its limit.
    #[error("the bundle of the trust domain is too old")]
    BundleStale,
    /// TB-05: the trust domain issues no tokens.
    #[error("no key is known that its tokens are signed with")]
    NoKeys,
    /// VJ-04: no key of that name, or none of that kind.
    #[error("no key of the trust domain signed the token")]
    UnknownKey,
    /// VJ-04: the key is for another algorithm.
    #[error("the key of that name is for another algorithm")]
    KeyMismatch,
    /// VJ-05: the signature does not hold.
    #[error("the signature of the token is wrong")]
    BadSignature,
    /// VJ-06: past its end.
    #[error("the token has expired")]
    Expired,
    /// VJ-06: before its beginning, or issued in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// VJ-06: issued for others.
    #[error("the token is for another audience")]
    WrongAudience,
    /// MO5: of no issuer whose users may call here.
    #[error("no issuer of that name is known here")]
    UnknownIssuer,
    /// RV-03: its key is on the deny set.
    #[error("the key of the token is revoked")]
    RevokedKey,
    /// RV-03: its SPIFFE ID is on the deny set.
    #[error("the SPIFFE ID is revoked")]
    RevokedId,
    /// RV-03: the token itself is on the deny set.
    #[error("the token is revoked")]
    RevokedToken,
}

impl TokenRefusal {
    /// The family, for records and for the reason of a denial.
    pub fn class(&self) -> RefusalClass {
        match self {
            Self::Expired | Self::NotYetValid | Self::BundleStale => RefusalClass::Expired,
            Self::RevokedKey | Self::RevokedId | Self::RevokedToken => RefusalClass::Revoked,
            _ => RefusalClass::Untrusted,
        }
    }

    /// A stable word for metrics and records.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoAudienceExpected => "no_audience_expected",
            Self::TooLarge => "too_large",
            Self::NotCompact => "not_compact",
            Self::NotJson(_) => "not_json",
            Self::DuplicateMember(_) => "duplicate_member",
            Self::HeaderMember => "header_member",
            Self::Algorithm => "algorithm",
            Self::Type => "type",
            Self::KeyIdentifier => "key_identifier",
            Self::MissingClaim(_) => "missing_claim",
            Self::WrongClaim(_) => "wrong_claim",
            Self::Subject(_) => "subject",
            Self::RootPath => "root_path",
            Self::NoAudience => "no_audience",
            Self::UnknownTrustDomain(_) => "unknown_trust_domain",
            Self::BundleStale => "bundle_stale",
            Self::NoKeys => "no_keys",
            Self::UnknownKey => "unknown_key",
            Self::KeyMismatch => "key_mismatch",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongAudience => "wrong_audience",
            Self::UnknownIssuer => "unknown_issuer",
            Self::RevokedKey => "revoked_key",
            Self::RevokedId => "revoked_id",
            Self::RevokedToken => "revoked_token",
        }
    }
}
