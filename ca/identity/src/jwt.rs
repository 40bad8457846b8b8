//! JWT-SVIDs: the one verifier and the one composer of tokens (SPIFFE JWT-SVID, identity.md 6).
//!
//! Authority, agent, enforcer and command line call [`verify_jwt_svid`]; only the authority signs. Pure like
//! [`verify_svid`](crate::verify_svid): the same token, audience, snapshot and time always give the same answer. Nothing
//! of a token is believed before its signature holds, and no key is looked up before its header is known to be sound.

mod key;
mod parse;
mod refusal;
mod sign;
mod user;

use base_ports::UnixTime;
use serde_json::{Map, Value};

pub(crate) use key::{Curve, Numbers, numbers_of};
pub use key::{JwtAlgorithm, JwtKey, JwtKeyError};
pub use refusal::TokenRefusal;
pub use sign::{JwtClaims, JwtSigner};
pub use user::{IssuerKeys, IssuerKeysError, UserToken, issuer_of, verify_user_token};

use crate::bundle::Bundle;
use crate::key_id::sha256;
use crate::{IdentitySnapshot, SpiffeId};
pub(crate) use parse::Token;

/// Who a token names. Only [`verify_jwt_svid`] makes one.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct VerifiedToken {
    /// The identity, from `sub`.
    pub id: SpiffeId,
    /// Everybody for whom it was issued.
    pub audience: Vec<String>,
    /// When it ends, without leeway.
    pub expires: UnixTime,
    /// `kid` of the key that signed it.
    pub key: String,
    /// `jti`, where the issuer gave one.
    pub jti: Option<String>,
    /// All claims, as they were signed.
    pub claims: Map<String, Value>,
    /// Generation of the snapshot that judged.
    pub generation: u64,
}

/// Judges a token that was sent to `audience` at `now` against the JWT keys of the trust domain it names.
///
/// # Errors
/// The first rule that the token breaks, in the order of identity.md 6.
pub fn verify_jwt_svid(
    token: &str,
    audience: &str,
    snapshot: &IdentitySnapshot,
    now: UnixTime,
) -> Result<VerifiedToken, TokenRefusal> {
    if audience.is_empty() {
        return Err(TokenRefusal::NoAudienceExpected);
    }
    let Token { id, signed: token } = Token::parse(token)?;
    let bundle = bundle_of(&id, snapshot, now)?;
    let key = token.signer(bundle.jwt_keys())?;
    token.check_times(now)?;
    if !token.audience.iter().any(|named| named == audience) {
        return Err(TokenRefusal::WrongAudience);
    }
    let jti = token.claims.get("jti").and_then(Value::as_str).map(str::to_owned);
    snapshot.revoked.check_token(&id, key.kid(), jti.as_deref())?;
    Ok(VerifiedToken {
        id,
        audience: token.audience,
        expires: token.expires,
        key: key.kid().to_owned(),
        jti,
        claims: token.claims,
        generation: snapshot.generation,
    })
}

/// What stands for a token where it is compared with others and must not be kept itself: its SHA-256.
#[must_use]
pub fn token_digest(token: &[u8]) -> [u8; 32] {
    sha256(&[token])
}

/// JW-12: only the bundle of the domain that the token itself names.
fn bundle_of<'a>(
    id: &SpiffeId,
    snapshot: &'a IdentitySnapshot,
    now: UnixTime,
) -> Result<&'a Bundle, TokenRefusal> {
    let domain = id.trust_domain();
    let bundle =
        snapshot.bundles.get(domain).ok_or_else(|| TokenRefusal::UnknownTrustDomain(domain.clone()))?;
    if bundle.stale_after.is_some_and(|limit| limit < now) {
        return Err(TokenRefusal::BundleStale);
    }
    Ok(bundle)
}

#[cfg(test)]
mod tests;
