//! Bundles as JWK Sets, the form in which trust domains publish them (SPIFFE Trust Domain and Bundle 4, X5-16).
//!
//! Reading is lenient only where the standard says so: unknown members, kinds and uses are skipped (TB-02, TB-06).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value, json};

use crate::TrustDomain;
use crate::algorithm::{AllowedKey, KeyKind};
use crate::bundle::{Bundle, BundleError};
use crate::certificate::Certificate;
use crate::jwt::{Curve, JwtAlgorithm, JwtKey, JwtKeyError, Numbers, numbers_of};

const SIZE_LIMIT: usize = 1024 * 1024;
/// Without a hint consumers refresh every five minutes (TB-09).
const DEFAULT_REFRESH_HINT: Duration = Duration::from_secs(300);
const X509_USE: &str = "x509-svid";
const JWT_USE: &str = "jwt-svid";

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
    /// A key for tokens is unusable.
    #[error("key {position} of the bundle document: {reason}")]
    JwtKey {
        /// Position in the document, from 1.
        position: usize,
        /// The broken rule.
        #[source]
        reason: JwtKeyError,
    },
    /// An authority breaks a rule.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// Who reads a set of JWT keys: what `use` must say differs from place to place (DF-03).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwksReader {
    /// A client of the Workload API: no `use`.
    WorkloadApi,
    /// A client of OpenID Connect: `alg` is named, and `use` is `sig` (RFC 7517 4.2), or left out for clients that do not
    /// take it.
    Oidc {
        /// Whether `use` is there.
        names_use: bool,
    },
}

impl Bundle {
    /// The bundle as a JWK Set document with sequence and refresh hint.
    pub fn to_jwks(&self) -> String {
        let x509 = self.certificates().filter_map(|der| jwk(der));
        let jwt = self.jwt_keys().iter().map(|key| jwt_jwk(key, Some(JWT_USE)));
        json!({
            "keys": x509.chain(jwt.map(Value::Object)).collect::<Vec<_>>(),
            "spiffe_sequence": self.sequence,
            "spiffe_refresh_hint": self.refresh_hint.as_secs(),
        })
        .to_string()
    }

    /// The keys for tokens alone, as a JWK Set document for that reader (WA-09, OI-02).
    pub fn to_jwt_jwks(&self, reader: JwksReader) -> String {
        let keys = self.jwt_keys().iter().map(|key| match reader {
            JwksReader::WorkloadApi => jwt_jwk(key, None),
            JwksReader::Oidc { names_use } => {
                let mut jwk = jwt_jwk(key, names_use.then_some("sig"));
                jwk.insert("alg".into(), key.usual_algorithm().name().into());
                jwk
            }
        });
        json!({ "keys": keys.map(Value::Object).collect::<Vec<_>>() }).to_string()
    }

    /// Reads the authorities and the keys for tokens of a JWK Set document.
    ///
    /// # Errors
    /// When the document is malformed or an authority breaks a rule.
    pub fn from_jwks(trust_domain: TrustDomain, document: &[u8]) -> Result<Self, JwksError> {
        if document.len() > SIZE_LIMIT {
            return Err(JwksError::TooLarge);
        }
        let document: Value = serde_json::from_slice(document)?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(JwksError::NoKeys)?;
        let (mut anchors, mut jwt_keys) = (Vec::new(), Vec::new());
        for (nth, key) in keys.iter().enumerate() {
            let position = nth.saturating_add(1);
            anchors.extend(x5c(key)?);
            jwt_keys.extend(jwt_key(key).map_err(|reason| JwksError::JwtKey { position, reason })?);
        }
        let sequence = unsigned(&document, "spiffe_sequence")?;
        let hint =
            unsigned(&document, "spiffe_refresh_hint")?.map_or(DEFAULT_REFRESH_HINT, Duration::from_secs);
        let bundle =
            Self::new(trust_domain, anchors, sequence.unwrap_or_default())?.with_jwt_keys(jwt_keys)?;
        let bundle = if sequence.is_none() { bundle.without_sequence() } else { bundle };
        Ok(bundle.with_refresh_hint(hint))
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

/// The key of a JWT entry, `None` for an entry that is to be ignored (TB-06); one without `kid` names no key (JW-11).
fn jwt_key(key: &Value) -> Result<Option<JwtKey>, JwtKeyError> {
    let text = |member| key.get(member).and_then(Value::as_str);
    if text("use") != Some(JWT_USE) || !matches!(text("kty"), Some("EC" | "RSA")) {
        return Ok(None);
    }
    public_key(key).map(Some)
}

/// The key of an entry of kind `EC` or `RSA` (RFC 7518 6.2, 6.3).
pub(crate) fn public_key(key: &Value) -> Result<JwtKey, JwtKeyError> {
    let text = |member| key.get(member).and_then(Value::as_str);
    let number = |name: &'static str| {
        let bytes = text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        bytes.ok_or(JwtKeyError::Number(name))
    };
    let numbers = if text("kty") == Some("EC") {
        let curve = text("crv").and_then(Curve::parse).ok_or(JwtKeyError::Kind)?;
        Numbers::Ec(curve, number("x")?, number("y")?)
    } else {
        Numbers::Rsa(number("n")?, number("e")?)
    };
    let algorithm = match key.get("alg").map(Value::as_str) {
        None => None,
        Some(named) => Some(named.and_then(JwtAlgorithm::parse).ok_or(JwtKeyError::Kind)?),
    };
    JwtKey::new(text("kid").unwrap_or_default(), algorithm, numbers)
}

fn jwt_jwk(key: &JwtKey, used_for: Option<&str>) -> Map<String, Value> {
    let mut jwk = members(key.numbers());
    jwk.insert("kid".into(), key.kid().into());
    if let Some(used_for) = used_for {
        jwk.insert("use".into(), used_for.into());
    }
    jwk
}

/// X5-16: `use`, no `kid`, exactly one `x5c` value, and the key itself.
fn jwk(certificate: &CertificateDer<'_>) -> Option<Value> {
    let parsed = Certificate::parse(certificate).ok()?;
    let key = AllowedKey::of_spki(parsed.spki()).ok()?;
    let mut jwk = match key.kind {
        KeyKind::Ed25519 => {
            let text = [("kty", "OKP"), ("crv", "Ed25519")];
            let mut jwk: Map<_, _> =
                text.map(|(name, text)| (name.to_owned(), text.into())).into_iter().collect();
            jwk.insert("x".into(), URL_SAFE_NO_PAD.encode(key.bits).into());
            jwk
        }
        _ => members(&numbers_of(&key).ok()?),
    };
    jwk.insert("use".into(), X509_USE.into());
    jwk.insert("x5c".into(), json!([STANDARD.encode(certificate)]));
    Some(Value::Object(jwk))
}

/// The members that make a public key (RFC 7518 6.2, 6.3).
fn members(numbers: &Numbers) -> Map<String, Value> {
    let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let members = match numbers {
        Numbers::Ec(curve, x, y) => vec![
            ("kty", "EC".to_owned()),
            ("crv", curve.name().to_owned()),
            ("x", number(x)),
            ("y", number(y)),
        ],
        Numbers::Rsa(modulus, exponent) => {
            vec![("kty", "RSA".to_owned()), ("n", number(modulus)), ("e", number(exponent))]
        }
    };
    members.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
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
    fn tb_06_unknown_kinds_and_uses_are_skipped_and_the_rest_is_kept() {
        let bundle = TestCa::new("example.org", testing::now()).bundle();
        let x5c = STANDARD.encode(bundle.certificates().next().unwrap());
        let read = read(json!([
            { "kty": "EC", "use": "X509-SVID", "x5c": [x5c] },
            { "kty": "EC", "x5c": [x5c] },
            { "kty": "PQ", "use": "x509-svid", "x5c": [x5c] },
            { "kty": "EC", "use": "wit-svid", "kid": "k" },
            { "kty": "EC", "use": "x509-svid", "x5c": [x5c] },
        ]));
        assert_eq!(read.unwrap().anchors().len(), 1);
    }

    #[test]
    fn x5_17_of_x5c_only_the_first_value_counts_and_an_entry_without_one_says_nothing() {
        let ca = TestCa::new("example.org", testing::now());
        let (bundle, svid) = (ca.bundle(), ca.svid("/web"));
        let entry = |x5c: Value| json!({ "kty": "EC", "use": "x509-svid", "x5c": x5c });
        let root = STANDARD.encode(bundle.certificates().next().unwrap());
        let judged = |keys: Value| {
            let bundles = crate::BundleMap::of(read(keys).unwrap().into());
            let trust = crate::IdentitySnapshot { bundles, ..Default::default() };
            crate::verify_svid(&svid.chain, &trust, crate::Usage::Client, testing::now()).map(drop)
        };
        assert_eq!(judged(json!([entry(json!([root, "rubbish that is never read"]))])), Ok(()));
        // A domain without such an entry has no X.509: its certificates are nobody's.
        let without = json!({ "kty": "EC", "use": "x509-svid" });
        for silent in
            [json!([]), json!([without]), json!([entry(json!([]))]), json!([without, entry(json!([]))])]
        {
            assert_eq!(judged(silent.clone()), Err(crate::Refusal::BundleEmpty), "{silent}");
        }
        // The first value is the one that counts, also when a later one would do.
        assert!(matches!(read(json!([entry(json!(["rubbish!", root]))])), Err(JwksError::Base64(_))));
        assert!(matches!(read(json!([entry(json!([7, root]))])), Err(JwksError::Member("x5c"))));
    }

    #[test]
    fn tb_02_a_bundle_is_a_jwk_set_and_members_that_nobody_knows_say_nothing() {
        let domain = || TrustDomain::parse("example.org").unwrap();
        let bundle = TestCa::new("example.org", testing::now()).bundle();
        let mut document: Value = serde_json::from_str(&bundle.to_jwks()).unwrap();
        document["x-vendor"] = json!({ "keys": [1, 2] });
        document["keys"][0]["x-vendor"] = json!([null]);
        document["keys"].as_array_mut().unwrap().push(json!({ "x-vendor": true }));
        let again = Bundle::from_jwks(domain(), document.to_string().as_bytes()).unwrap();
        assert!(again.certificates().eq(bundle.certificates()) && again.jwt_keys().is_empty());
        for none in ["[]", "null", "7", "\"keys\"", "{\"keys\":{}}", "{\"keys\":null}"] {
            let answer = Bundle::from_jwks(domain(), none.as_bytes());
            assert!(matches!(answer, Err(JwksError::NoKeys)), "{none}");
        }
    }

    #[test]
    fn tb_04_the_refresh_hint_is_there_in_whole_seconds() {
        let bundle = TestCa::new("example.org", testing::now()).bundle();
        let shown = |hint: u64| {
            let bundle = Bundle::clone(&bundle).with_refresh_hint(Duration::from_secs(hint));
            serde_json::from_str::<Value>(&bundle.to_jwks()).unwrap()["spiffe_refresh_hint"].clone()
        };
        assert_eq!((shown(60), shown(300)), (json!(60), json!(300)));
        let hinted = |hint: &str| {
            let document = format!("{{\"keys\":[],\"spiffe_refresh_hint\":{hint}}}");
            Bundle::from_jwks(bundle.trust_domain.clone(), document.as_bytes()).map(|read| read.refresh_hint)
        };
        assert_eq!(hinted("10").unwrap(), Duration::from_secs(10));
        for wrong in ["\"10\"", "1.5", "-1", "null", "[10]", "1e400"] {
            assert!(hinted(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tb_07_a_jwk_has_no_members_beyond_those_of_the_standards() {
        let forge = testing::TokenForge::new(testing::now());
        let names = |jwk: &Value| {
            let mut names: Vec<_> = jwk.as_object().unwrap().keys().cloned().collect();
            names.sort_unstable();
            names.join(" ")
        };
        let mut seen = Vec::new();
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let params = TestCa::ca_params(&forge.bundle().trust_domain, "root", 1, &pair, testing::now());
            let root = params.self_signed(&pair).unwrap().into();
            let bundle = Bundle::new(forge.bundle().trust_domain, vec![root], 1).unwrap();
            let document: Value = serde_json::from_str(&bundle.to_jwks()).unwrap();
            assert_eq!(names(&document), "keys spiffe_refresh_hint spiffe_sequence");
            seen.push(names(&document["keys"][0]));
        }
        assert_eq!(
            seen,
            ["crv kty use x x5c y", "crv kty use x x5c y", "crv kty use x x5c", "e kty n use x5c"]
        );
        let document: Value = serde_json::from_str(&forge.bundle().to_jwks()).unwrap();
        let jwt = document["keys"].as_array().unwrap().iter().filter(|jwk| jwk["use"] == JWT_USE);
        let kinds: std::collections::BTreeSet<_> = jwt.map(names).collect();
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["crv kid kty use x y", "e kid kty n use"]);
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
