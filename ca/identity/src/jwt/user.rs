//! Tokens of people, as issuers of OpenID Connect sign them: ID tokens, and access tokens in the form of RFC 9068.
//!
//! The enforcer calls [`verify_user_token`] with the keys of the one issuer that the token says it is from. Reading is as
//! strict as for JWT-SVIDs where readers could disagree; header members that only some issuers write are left alone, but for
//! those that change what was signed. What a claim means is the caller's business.

use base_ports::UnixTime;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::key::{JwtAlgorithm, JwtKey};
use super::parse::{Signed, signer_in, text_of};
use super::refusal::TokenRefusal;
use crate::jwks::public_key;

/// S39.
const SIZE_LIMIT: usize = 16 * 1024;
/// OpenID Connect Core 2: a subject has at most 255 characters.
const SUBJECT_LIMIT: usize = 255;
const DOCUMENT_LIMIT: usize = 1024 * 1024;
const KEYS_LIMIT: usize = 256;

/// The keys with which an issuer signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerKeys(Vec<JwtKey>);

/// Why a document holds no keys of an issuer.
#[derive(Debug, thiserror::Error)]
pub enum IssuerKeysError {
    /// Over 1 MiB, or over 256 keys.
    #[error("it is larger than 1 MiB, or holds more than {KEYS_LIMIT} keys")]
    TooLarge,
    /// Not JSON.
    #[error("it is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// No array `keys`.
    #[error("it has no array `keys`")]
    NoKeys,
    /// None with a `kid`, for signatures, of a kind that counts.
    #[error(
        "none of its keys can be used: each needs a `kid`, and to be EC (P-256, P-384, P-521) or RSA (2048 to 8192 bits)"
    )]
    Unusable,
}

impl IssuerKeys {
    /// Reads a JWK Set (RFC 7517 5). Keys of other kinds, for encryption, too weak, or without `kid`, are left out.
    ///
    /// # Errors
    /// When no key is left.
    pub fn from_jwks(document: &[u8]) -> Result<Self, IssuerKeysError> {
        if document.len() > DOCUMENT_LIMIT {
            return Err(IssuerKeysError::TooLarge);
        }
        let document: Value = serde_json::from_slice(document)?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(IssuerKeysError::NoKeys)?;
        if keys.len() > KEYS_LIMIT {
            return Err(IssuerKeysError::TooLarge);
        }
        let signs = |key: &&Value| key.get("use").is_none_or(|used| used == "sig");
        let kinds = |key: &&Value| key.get("kty").is_some_and(|kind| kind == "EC" || kind == "RSA");
        let keys: Vec<JwtKey> =
            keys.iter().filter(signs).filter(kinds).filter_map(|key| public_key(key).ok()).collect();
        if keys.is_empty() { Err(IssuerKeysError::Unusable) } else { Ok(Self(keys)) }
    }

    /// Whether there is a key of that name.
    pub fn has(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid() == kid)
    }
}

/// What a token says of a person. Only [`verify_user_token`] makes one.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct UserToken {
    /// `sub`.
    pub subject: String,
    /// Everybody for whom it was issued.
    pub audience: Vec<String>,
    /// `iat`.
    pub issued: UnixTime,
    /// When it ends, without leeway.
    pub expires: UnixTime,
    /// `kid` of the key that signed it.
    pub key: String,
    /// `jti`, where the issuer gave one.
    pub jti: Option<String>,
    /// All claims, as they were signed.
    pub claims: Map<String, Value>,
}

/// Judges a token that was sent to one of `audience` at `now`, and says that it is from `issuer`, whose keys these are.
///
/// # Errors
/// The first rule that the token breaks.
pub fn verify_user_token(
    token: &str,
    issuer: &str,
    audience: &[String],
    keys: &IssuerKeys,
    now: UnixTime,
) -> Result<UserToken, TokenRefusal> {
    let token = Signed::parse(token, SIZE_LIMIT, read_header)?;
    if text_of(&token.claims, "iss")? != Some(issuer) {
        return Err(TokenRefusal::UnknownIssuer);
    }
    let key = token.signer(&keys.0)?;
    token.check_times(now)?;
    if !token.audience.iter().any(|named| audience.contains(named)) {
        return Err(TokenRefusal::WrongAudience);
    }
    let subject = token.subject()?;
    if subject.is_empty() || subject.len() > SUBJECT_LIMIT || subject.chars().any(char::is_control) {
        return Err(TokenRefusal::WrongClaim("sub"));
    }
    Ok(UserToken {
        subject: subject.to_owned(),
        issued: token.issued.ok_or(TokenRefusal::MissingClaim("iat"))?,
        expires: token.expires,
        key: key.kid().to_owned(),
        jti: text_of(&token.claims, "jti")?.map(str::to_owned),
        audience: token.audience,
        claims: token.claims,
    })
}

/// Who the token says it is from. Nothing of it is believed yet: this chooses whose keys judge it.
pub fn issuer_of(token: &str) -> Option<String> {
    let payload = token.get(..SIZE_LIMIT.min(token.len()))?.split('.').nth(1)?;
    let payload: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    payload.get("iss")?.as_str().map(str::to_owned)
}

/// Types of tokens that say who somebody is: RFC 7519 5.1, RFC 9068 2.1. Other types say something else in the same form.
fn read_header(header: &Map<String, Value>) -> Result<(JwtAlgorithm, Option<String>), TokenRefusal> {
    // `crit` is what must be understood; `b64` and `zip` change what was signed.
    if ["crit", "b64", "zip"].iter().any(|name| header.contains_key(*name)) {
        return Err(TokenRefusal::HeaderMember);
    }
    let signer = signer_in(header)?;
    let Some(kind) = header.get("typ") else { return Ok(signer) };
    let kind = kind.as_str().ok_or(TokenRefusal::Type)?.to_ascii_lowercase();
    match kind.strip_prefix("application/").unwrap_or(&kind) {
        "jwt" | "jose" | "at+jwt" => Ok(signer),
        _ => Err(TokenRefusal::Type),
    }
}

#[cfg(test)]
mod tests;
