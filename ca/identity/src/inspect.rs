//! What a person wants to know of a certificate or a token. Display only: nothing here is a decision about trust.

use base_ports::UnixTime;

use crate::SpiffeId;
use crate::algorithm::KeyKind;
use crate::certificate::Certificate;
use crate::jwt::{JwtAlgorithm, Token, TokenRefusal};
use crate::key_id::{KeyId, Serial, sha256};
use crate::refusal::Refusal;

/// Facts of one certificate, as they stand in it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CertificateFacts {
    /// The SPIFFE ID, when there is exactly one.
    pub id: Option<SpiffeId>,
    /// All URI names.
    pub uris: Vec<String>,
    /// All DNS names.
    pub dns_names: Vec<String>,
    /// Serial number.
    pub serial: Serial,
    /// Subject as text; empty for a leaf of ours.
    pub subject: String,
    /// Issuer as text.
    pub issuer: String,
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity.
    pub not_after: UnixTime,
    /// A signing certificate.
    pub is_ca: bool,
    /// Kind of the key, such as `ECDSA P-256`.
    pub key: String,
    /// Identifier of the key, computed from it.
    pub key_id: KeyId,
    /// Authority key identifier as written in the certificate.
    pub issuer_key_id: Option<KeyId>,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
}

/// What a token says, as it stands in it: nobody has checked who signed it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TokenFacts {
    /// `sub`.
    pub id: SpiffeId,
    /// `aud`.
    pub audience: Vec<String>,
    /// `exp`.
    pub expires: UnixTime,
    /// `iat`, where it is said.
    pub issued: Option<UnixTime>,
    /// `alg`.
    pub algorithm: JwtAlgorithm,
    /// `kid`, where it is said.
    pub key: Option<String>,
    /// `iss`, where it is said.
    pub issuer: Option<String>,
    /// `jti`, where it is said.
    pub jti: Option<String>,
}

/// Reads one token.
///
/// # Errors
/// When the text has not the form of a JWT-SVID.
pub fn token(text: &str) -> Result<TokenFacts, TokenRefusal> {
    let Token { id, signed: token } = Token::parse(text)?;
    let said = |name: &str| token.claims.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    Ok(TokenFacts {
        issuer: said("iss"),
        jti: said("jti"),
        id,
        audience: token.audience,
        expires: token.expires,
        issued: token.issued,
        algorithm: token.algorithm,
        key: token.kid,
    })
}

/// Reads one certificate.
///
/// # Errors
/// When the bytes are not a certificate, or a name in it is unreadable.
pub fn certificate(der: &[u8]) -> Result<CertificateFacts, Refusal> {
    let parsed = Certificate::parse(der)?;
    let names = parsed.names()?;
    let owned = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect();
    Ok(CertificateFacts {
        id: parsed.spiffe_id().ok(),
        uris: owned(&names.uris),
        dns_names: owned(&names.dns),
        serial: parsed.serial(),
        subject: parsed.subject(),
        issuer: parsed.issuer(),
        not_before: parsed.not_before(),
        not_after: parsed.not_after(),
        is_ca: parsed.is_ca(),
        key: parsed.key().map_or_else(|_| "not allowed".to_owned(), |key| describe(key.kind)),
        key_id: parsed.key_id(),
        issuer_key_id: parsed.authority_key_id().and_then(|id| id.try_into().ok()).map(KeyId::from_bytes),
        fingerprint: sha256(&[der]),
    })
}

fn describe(kind: KeyKind) -> String {
    match kind {
        KeyKind::P256 => "ECDSA P-256".to_owned(),
        KeyKind::P384 => "ECDSA P-384".to_owned(),
        KeyKind::P521 => "ECDSA P-521".to_owned(),
        KeyKind::Ed25519 => "Ed25519".to_owned(),
        KeyKind::Rsa { bits, .. } => format!("RSA {bits}"),
    }
}
