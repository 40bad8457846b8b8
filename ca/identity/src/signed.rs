//! Texts signed with the key of an SVID: heartbeats of the decision log (decisions.md SQ5).
//!
//! Only who signed is told here; whether the chain is trusted is [`verify_svid`](crate::verify_svid)'s to say. Whoever signs
//! begins the text with a name of its form, so that no signature for one purpose serves another.

use rcgen::SigningKey;
use rustls_pki_types::CertificateDer;

use crate::certificate::Certificate;
use crate::refusal::Refusal;
use crate::{KeyError, SpiffeId, X509Svid};

impl X509Svid {
    /// Signature of `text` with the key of the leaf.
    ///
    /// # Errors
    /// The library refuses the key or fails.
    pub fn sign(&self, text: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.key.to_pair()?.sign(text).map_err(KeyError::Sign)
    }
}

/// Who signed `text`: the name in the leaf, if the signature is by its key.
///
/// # Errors
/// The leaf is no SVID, or its key did not sign this.
pub fn signer_of(leaf: &CertificateDer<'_>, text: &[u8], signature: &[u8]) -> Result<SpiffeId, Refusal> {
    let parsed = Certificate::parse(leaf)?;
    let id = parsed.spiffe_id()?;
    parsed.key()?.verify_text(text, signature)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PrivateKey;
    use crate::testing::{self, TestCa};

    #[test]
    fn a_text_is_signed_by_the_name_in_the_leaf_and_by_nobody_else() {
        let ca = TestCa::new("example.org", testing::now());
        let (web, api) = (ca.svid("/web"), ca.svid("/api"));
        let signature = web.sign(b"text").unwrap();
        let leaf = web.leaf().unwrap();
        assert_eq!(signer_of(leaf, b"text", &signature).unwrap(), web.id);
        assert!(matches!(signer_of(leaf, b"texts", &signature), Err(Refusal::BadSignature)));
        assert!(matches!(signer_of(api.leaf().unwrap(), b"text", &signature), Err(Refusal::BadSignature)));
        assert!(signer_of(leaf, b"text", &[]).is_err());
        assert!(signer_of(&CertificateDer::from(vec![1, 2]), b"text", &signature).is_err());
    }

    #[test]
    fn every_kind_of_key_that_an_svid_may_have_signs() {
        let ca = TestCa::new("example.org", testing::now());
        for algorithm in
            [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519]
        {
            let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let key = PrivateKey::from_pkcs8(&pair.serialize_der()).unwrap();
            let svid = X509Svid::new(vec![ca.leaf(&key, |_| {})], key).unwrap();
            let signature = svid.sign(b"text").unwrap();
            assert_eq!(signer_of(svid.leaf().unwrap(), b"text", &signature).unwrap(), svid.id);
        }
    }
}
