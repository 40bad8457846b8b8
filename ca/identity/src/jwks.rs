//! Bundles as JWK Sets, the form in which trust domains publish them (SPIFFE Trust Domain and Bundle 4, X5-16).
//!
//! Reading is lenient only where the standard says so: unknown members, kinds and uses are skipped (TB-02, TB-06).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value, json};

use crate::algorithm::{AllowedKey, KeyKind};
use crate::bundle::{Bundle, BundleError};
use crate::certificate::Certificate;
use crate::{TrustDomain, der};

const SIZE_LIMIT: usize = 1024 * 1024;
/// Without a hint consumers refresh every five minutes (TB-09).
const DEFAULT_REFRESH_HINT: Duration = Duration::from_secs(300);
const X509_USE: &str = "x509-svid";

/// Why a JWK Set is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// Over 1 MiB.
    #[error("the bundle document is larger than {SIZE_LIMIT} bytes")]
    TooLarge,
    /// Not JSON.
    #[error("the bundle document is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// TB-05: no array `keys`.
    #[error("the bundle document has no array `keys`")]
    NoKeys,
    /// A member has the wrong type.
    #[error("the member `{0}` of the bundle document has the wrong type")]
    Member(&'static str),
    /// An `x5c` value is not base64.
    #[error("an `x5c` value of the bundle document is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// An authority breaks a rule.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

impl Bundle {
    /// The bundle as a JWK Set document with sequence and refresh hint.
    pub fn to_jwks(&self) -> String {
        let keys: Vec<Value> = self.certificates().filter_map(|der| jwk(der)).collect();
        json!({
            "keys": keys,
            "spiffe_sequence": self.sequence,
            "spiffe_refresh_hint": self.refresh_hint.as_secs(),
        })
        .to_string()
    }

    /// Reads the X.509 authorities of a JWK Set document.
    ///
    /// # Errors
    /// When the document is malformed or an authority breaks a rule.
    pub fn from_jwks(trust_domain: TrustDomain, document: &[u8]) -> Result<Self, JwksError> {
        if document.len() > SIZE_LIMIT {
            return Err(JwksError::TooLarge);
        }
        let document: Value = serde_json::from_slice(document)?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(JwksError::NoKeys)?;
        let mut anchors = Vec::new();
        for key in keys {
            if let Some(der) = x5c(key)? {
                anchors.push(der);
            }
        }
        let sequence = unsigned(&document, "spiffe_sequence")?.unwrap_or_default();
        let hint =
            unsigned(&document, "spiffe_refresh_hint")?.map_or(DEFAULT_REFRESH_HINT, Duration::from_secs);
        Ok(Self::new(trust_domain, anchors, sequence)?.with_refresh_hint(hint))
    }
}

fn unsigned(document: &Value, member: &'static str) -> Result<Option<u64>, JwksError> {
    document.get(member).map(|value| value.as_u64().ok_or(JwksError::Member(member))).transpose()
}

/// The certificate of an X.509 entry, `None` for an entry that is to be ignored (TB-06, X5-17).
fn x5c(key: &Value) -> Result<Option<CertificateDer<'static>>, JwksError> {
    let text = |member| key.get(member).and_then(Value::as_str);
    let known_kind = matches!(text("kty"), Some("EC" | "RSA" | "OKP"));
    if !known_kind || text("use") != Some(X509_USE) {
        return Ok(None);
    }
    let Some(first) = key.get("x5c").and_then(Value::as_array).and_then(|list| list.first()) else {
        return Ok(None);
    };
    let first = first.as_str().ok_or(JwksError::Member("x5c"))?;
    Ok(Some(CertificateDer::from(STANDARD.decode(first)?)))
}

/// X5-16: `use`, no `kid`, exactly one `x5c` value, and the key itself.
fn jwk(certificate: &CertificateDer<'_>) -> Option<Value> {
    let parsed = Certificate::parse(certificate).ok()?;
    let key = AllowedKey::of_spki(parsed.spki()).ok()?;
    let mut jwk = Map::new();
    let number = |bytes: &[u8]| Value::from(URL_SAFE_NO_PAD.encode(bytes));
    match key.kind {
        KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => {
            let (curve, size) = match key.kind {
                KeyKind::P256 => ("P-256", 32),
                KeyKind::P384 => ("P-384", 48),
                _ => ("P-521", 66),
            };
            let (x, y) = key.bits.strip_prefix(&[4])?.split_at_checked(size)?;
            jwk.insert("kty".into(), "EC".into());
            jwk.insert("use".into(), X509_USE.into());
            jwk.insert("crv".into(), curve.into());
            jwk.insert("x".into(), number(x));
            jwk.insert("y".into(), number(y));
        }
        KeyKind::Ed25519 => {
            jwk.insert("kty".into(), "OKP".into());
            jwk.insert("use".into(), X509_USE.into());
            jwk.insert("crv".into(), "Ed25519".into());
            jwk.insert("x".into(), number(key.bits));
        }
        KeyKind::Rsa { .. } => {
            let mut numbers = der::expect(&mut { key.bits }, der::SEQUENCE).ok()?.content;
            let modulus = der::expect(&mut numbers, der::INTEGER).ok()?.content;
            let exponent = der::expect(&mut numbers, der::INTEGER).ok()?.content;
            jwk.insert("kty".into(), "RSA".into());
            jwk.insert("use".into(), X509_USE.into());
            jwk.insert("n".into(), number(modulus.strip_prefix(&[0]).unwrap_or(modulus)));
            jwk.insert("e".into(), number(exponent));
        }
    }
    jwk.insert("x5c".into(), json!([STANDARD.encode(certificate)]));
    Some(Value::Object(jwk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, TestCa};

    #[test]
    fn x5_16_a_bundle_reads_back_from_its_jwk_set() {
        let bundle = TestCa::new("example.org", testing::now()).bundle();
        let text = bundle.to_jwks();
        let document: Value = serde_json::from_str(&text).unwrap();
        let key = &document["keys"][0];
        assert_eq!(key["use"], "x509-svid");
        assert!(key.get("kid").is_none());
        assert_eq!(key["x5c"].as_array().unwrap().len(), 1);
        assert_eq!(document["spiffe_sequence"], bundle.sequence);
        assert!(document["spiffe_refresh_hint"].is_u64());

        let again = Bundle::from_jwks(bundle.trust_domain.clone(), text.as_bytes()).unwrap();
        assert!(again.certificates().eq(bundle.certificates()));
        assert_eq!((again.sequence, again.refresh_hint), (bundle.sequence, bundle.refresh_hint));
    }

    fn read(keys: Value) -> Result<Bundle, JwksError> {
        let document = json!({ "keys": keys, "unknown": 1 }).to_string();
        Bundle::from_jwks(TrustDomain::parse("example.org").unwrap(), document.as_bytes())
    }

    #[test]
    fn tb_06_unknown_kinds_and_uses_and_x5_17_entries_without_x5c_are_skipped() {
        let bundle = TestCa::new("example.org", testing::now()).bundle();
        let x5c = STANDARD.encode(bundle.certificates().next().unwrap());
        let read = read(json!([
            { "kty": "EC", "use": "x509-svid" },
            { "kty": "EC", "use": "x509-svid", "x5c": [] },
            { "kty": "EC", "use": "X509-SVID", "x5c": [x5c] },
            { "kty": "EC", "x5c": [x5c] },
            { "kty": "PQ", "use": "x509-svid", "x5c": [x5c] },
            { "kty": "EC", "use": "jwt-svid", "kid": "k" },
            { "kty": "EC", "use": "x509-svid", "x5c": [x5c, "rubbish that is never read"] },
        ]));
        assert_eq!(read.unwrap().anchors().len(), 1);
    }

    #[test]
    fn tb_05_an_empty_key_list_is_a_bundle_and_a_missing_one_is_not() {
        assert!(read(json!([])).unwrap().anchors().is_empty());
        assert!(matches!(read(json!({})), Err(JwksError::NoKeys)));
        let domain = || TrustDomain::parse("example.org").unwrap();
        assert!(matches!(Bundle::from_jwks(domain(), b"{}"), Err(JwksError::NoKeys)));
        assert!(matches!(Bundle::from_jwks(domain(), b"["), Err(JwksError::Json(_))));
        let wrong = br#"{"keys":[],"spiffe_sequence":"1"}"#;
        assert!(matches!(Bundle::from_jwks(domain(), wrong), Err(JwksError::Member("spiffe_sequence"))));
        assert!(matches!(
            Bundle::from_jwks(domain(), &vec![b' '; SIZE_LIMIT.saturating_add(1)]),
            Err(JwksError::TooLarge)
        ));
    }

    #[test]
    fn tb_09_without_a_hint_the_refresh_is_five_minutes() {
        assert_eq!(read(json!([])).unwrap().refresh_hint, Duration::from_secs(300));
    }
}
