//! Whether a document becomes the bundle of another trust domain (FB-02, FE-09): pure, one answer per document.
//!
//! Refused: what is no bundle, a root of another trust domain (TB-10), a sequence below the one that is held.

use std::sync::Arc;

use ca_identity::{Bundle, BundleMap, JwksError, TrustDomain, pem};

use super::FederationError;

/// Reads what an endpoint published.
///
/// # Errors
/// The first rule that it breaks.
pub(crate) fn accept(
    domain: &TrustDomain,
    document: &[u8],
    held: Option<&Bundle>,
    others: BundleMap,
) -> Result<(Bundle, Arc<str>), FederationError> {
    let bundle = Bundle::from_jwks(domain.clone(), document)?;
    if let Some(held) = held
        && held.is_sequenced
        && bundle.is_sequenced
        && bundle.sequence < held.sequence
    {
        return Err(FederationError::Rollback { held: held.sequence, offered: bundle.sequence });
    }
    check_roots(&bundle, others)?;
    let text = std::str::from_utf8(document).map_err(|fault| FederationError::Text(fault.to_string()))?;
    Ok((bundle, text.into()))
}

/// Reads what a person gave: a JWK Set or certificates in PEM. It stands until the next fetch, whatever its sequence (FE-09).
///
/// # Errors
/// The first rule that it breaks.
pub(crate) fn read(
    domain: &TrustDomain,
    text: &str,
    others: BundleMap,
) -> Result<(Bundle, Arc<str>), FederationError> {
    let is_pem = text.trim_start().starts_with("-----BEGIN");
    let (bundle, document): (_, Arc<str>) = if is_pem {
        let roots = pem::read_certificates(text.as_bytes());
        let roots = roots.map_err(|fault| FederationError::Text(fault.to_string()))?;
        let bundle = Bundle::new(domain.clone(), roots, 0).map_err(JwksError::from)?;
        // A later document with any sequence takes its place.
        let document = bundle.to_jwks();
        (bundle, document.into())
    } else {
        (Bundle::from_jwks(domain.clone(), text.as_bytes())?, text.into())
    };
    check_roots(&bundle, others)?;
    Ok((bundle, document))
}

/// TB-10: one root key serves one trust domain.
fn check_roots(bundle: &Bundle, mut others: BundleMap) -> Result<(), FederationError> {
    others.remove(&bundle.trust_domain);
    others.insert(Arc::new(bundle.clone())).map_err(FederationError::Shared)
}

#[cfg(test)]
mod tests {
    use ca_identity::testing::{TestCa, now};
    use serde_json::{Value, json};

    use super::*;

    fn offered(ca: &TestCa, change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut document: Value = serde_json::from_str(&ca.bundle().to_jwks()).unwrap();
        change(&mut document);
        document.to_string().into_bytes()
    }

    #[test]
    fn fb_02_a_document_becomes_a_bundle_only_for_its_domain_and_never_backwards() {
        let (ca, own) = (TestCa::new("partner.org", now()), TestCa::new("example.org", now()));
        let domain = ca.trust_domain().clone();
        let judge = |document: &[u8], held: Option<u64>| {
            let held =
                held.map(|sequence| Bundle::new(domain.clone(), vec![ca.root().clone()], sequence).unwrap());
            let taken = accept(&domain, document, held.as_ref(), BundleMap::of(own.bundle()));
            taken.map(|(bundle, _)| bundle.anchors().len()).map_err(|fault| fault.code())
        };
        let at = |sequence: u64| offered(&ca, |document| document["spiffe_sequence"] = json!(sequence));
        assert_eq!(judge(&at(7), None), Ok(1));
        assert_eq!(judge(&at(7), Some(7)), Ok(1), "the same again");
        assert_eq!(judge(&at(8), Some(7)), Ok(1));
        assert_eq!(judge(&at(6), Some(7)), Err("bundle_rollback"));
        let unordered =
            offered(&ca, |document| drop(document.as_object_mut().unwrap().remove("spiffe_sequence")));
        assert_eq!(judge(&unordered, Some(7)), Ok(1), "FE-09: the latest fetch wins");

        let foreign = TestCa::new("other.org", now());
        assert_eq!(judge(&offered(&foreign, |_| {}), None), Err("wrong_trust_domain"));
        assert_eq!(judge(b"{", None), Err("bundle_not_json"));
        assert_eq!(judge(b"{\"keys\":[\"\xff\"]}", None), Err("bundle_not_json"), "not UTF-8");
        assert_eq!(judge(b"{}", None), Err("bundle_without_keys"));
        assert_eq!(judge(b"{\"keys\":[]}", None), Ok(0), "TB-05: it trusts nobody from now on");
        assert_eq!(judge(&vec![b' '; 1024 * 1024 + 1], None), Err("bundle_too_large"));
        let twice = offered(&ca, |document| {
            let key = document["keys"][0].clone();
            document["keys"].as_array_mut().unwrap().push(key);
        });
        assert_eq!(judge(&twice, None), Err("duplicate_key"));
        let two = offered(&ca, |document| {
            document["keys"][0]["x5c"].as_array_mut().unwrap().push(json!("of no use"));
        });
        assert_eq!(judge(&two, None), Ok(1), "X5-17: the first value counts");
        let text = offered(&ca, |document| document["spiffe_sequence"] = json!("7"));
        assert_eq!(judge(&text, None), Err("bundle_malformed"));
        let leaf = offered(&ca, |document| document["keys"][0]["x5c"][0] = json!("AAAA"));
        assert_eq!(judge(&leaf, None), Err("unusable_key"));
    }

    #[test]
    fn tb_10_a_root_that_serves_another_domain_is_refused() {
        // A CA without name of its own, as of an upstream PKI, could be offered for any domain.
        let shared = ca_identity::testing::nameless_root(now());
        let holder = Bundle::new(TrustDomain::parse("first.org").unwrap(), vec![shared.clone()], 1).unwrap();
        let document =
            Bundle::new(TrustDomain::parse("second.org").unwrap(), vec![shared], 1).unwrap().to_jwks();
        let second = TrustDomain::parse("second.org").unwrap();
        let others = || BundleMap::of(Arc::new(holder.clone()));
        assert_eq!(accept(&second, document.as_bytes(), None, others()).unwrap_err().code(), "shared_root");
        assert_eq!(read(&second, &document, others()).unwrap_err().code(), "shared_root");
        let first = TrustDomain::parse("first.org").unwrap();
        assert!(accept(&first, document.as_bytes(), None, others()).is_ok(), "its own again");
    }

    #[test]
    fn fe_09_a_bundle_by_hand_is_a_jwk_set_or_pem() {
        let ca = TestCa::new("partner.org", now());
        let pem = pem::write_certificates(ca.bundle().certificates());
        for text in [pem, ca.bundle().to_jwks()] {
            let (bundle, document) = read(ca.trust_domain(), &text, BundleMap::default()).unwrap();
            assert!(bundle.certificates().eq(ca.bundle().certificates()));
            let again = Bundle::from_jwks(ca.trust_domain().clone(), document.as_bytes()).unwrap();
            assert!(again.certificates().eq(ca.bundle().certificates()));
        }
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        assert!(read(ca.trust_domain(), broken, BundleMap::default()).is_err());
    }
}
