//! Rows of the store: their keys, and JSON in and out. Every row type carries a version and refuses unknown fields.

use ca_identity::Serial;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::AuthorityError;

/// Everything of this crate stands below this prefix (S17).
pub(crate) const KEYS: &[u8] = b"ca/keys";
/// The content of the bundle; the revision of this row is the bundle's sequence (AU-08).
pub(crate) const BUNDLE: &[u8] = b"ca/bundle";
/// Registration entries by id.
pub(crate) const ENTRY: &str = "ca/entry/";
/// Entry ids by what makes an entry unique (EN-02).
pub(crate) const ENTRY_NAME: &str = "ca/entry-name/";
/// Join tokens by SHA-256.
pub(crate) const TOKEN: &str = "ca/token/";
/// Attested agents by SPIFFE ID path.
pub(crate) const AGENT: &str = "ca/agent";
/// Bans of agents by SPIFFE ID path.
pub(crate) const BANNED: &str = "ca/banned";
/// Issuance records by serial number, until their certificate has expired.
pub(crate) const ISSUED: &str = "ca/issued/";
/// What is denied, by its name.
pub(crate) const REVOKED: &str = "ca/revoked/";
/// The names of what is denied, by the second in which each leaves.
pub(crate) const REVOKED_END: &str = "ca/revoked-end/";
/// Its revision is the number of the newest revocation lists.
pub(crate) const CRL: &[u8] = b"ca/crl";
/// Relationships with other trust domains, by domain.
pub(crate) const FEDERATION: &str = "ca/federation/";
/// Their bundles, by domain.
pub(crate) const FEDERATED: &str = "ca/federated/";
/// When each was last seen unchanged, by domain.
pub(crate) const FEDERATED_SEEN: &str = "ca/federated-seen/";
/// Issuance records of JWT-SVIDs by the second in which they end, until then.
pub(crate) const ISSUED_JWT: &str = "ca/issued-jwt/";

/// The row as bytes.
pub(crate) fn write<T: Serialize>(key: &[u8], row: &T) -> Result<Vec<u8>, AuthorityError> {
    serde_json::to_vec(row).map_err(|source| unreadable(key, source))
}

/// The row of bytes.
pub(crate) fn read<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, AuthorityError> {
    serde_json::from_slice(bytes).map_err(|source| unreadable(key, source))
}

/// A row that says something impossible.
pub(crate) fn unreadable(
    key: &[u8],
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> AuthorityError {
    AuthorityError::Row { key: String::from_utf8_lossy(key).into_owned(), source: source.into() }
}

/// The hash of a hexadecimal text of a row.
pub(crate) fn hash(key: &[u8], text: &str) -> Result<[u8; 32], AuthorityError> {
    let hash = Serial::parse_hex(text).ok_or_else(|| unreadable(key, format!("`{text}` is no hash")))?;
    let mut bytes = [0; 32];
    bytes.iter_mut().rev().zip(hash.as_bytes().iter().rev()).for_each(|(to, from)| *to = *from);
    Ok(bytes)
}

/// Lower-case hexadecimal text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}
