//! A private key: zeroized when dropped, printed never (BN-06).

use std::fmt;
use std::sync::Arc;

use rcgen::PublicKeyData;
use rustls_pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

use crate::KeyId;

/// Why bytes are not a usable private key, or no key could be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The random source or the library failed.
    #[error("cannot make a key: {0}")]
    Generate(#[source] rcgen::Error),
    /// Not the PKCS#8 of a key that we support.
    #[error("not a supported PKCS#8 private key: {0}")]
    Parse(#[source] rcgen::Error),
    /// The key signed nothing.
    #[error("cannot sign: {0}")]
    Sign(#[source] rcgen::Error),
}

/// A private key as PKCS#8, with its public half. Cheap to clone; the bytes are wiped with the last clone.
#[derive(Clone)]
pub struct PrivateKey {
    pkcs8: Arc<Zeroizing<Vec<u8>>>,
    spki: Arc<[u8]>,
    key_id: KeyId,
}

impl PrivateKey {
    /// A new ECDSA P-256 key, what agents and the authority use.
    ///
    /// # Errors
    /// Only when the system's random source fails.
    pub fn generate_p256() -> Result<Self, KeyError> {
        let pair =
            rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(KeyError::Generate)?;
        Ok(Self::of_pair(&pair))
    }

    /// Reads an unencrypted PKCS#8 key: ECDSA P-256, P-384, P-521, Ed25519, RSA from 2048 bits.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        Ok(Self::of_pair(&parse(pkcs8)?))
    }

    fn of_pair(pair: &rcgen::KeyPair) -> Self {
        Self {
            pkcs8: Arc::new(Zeroizing::new(pair.serialized_der().to_vec())),
            spki: pair.subject_public_key_info().into(),
            key_id: KeyId::of_public_key(pair.der_bytes()),
        }
    }

    /// The key as unencrypted PKCS#8: the caller keeps it secret.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// DER of the SubjectPublicKeyInfo of the public half.
    pub fn public_spki(&self) -> &[u8] {
        &self.spki
    }

    /// Identifier of the public half.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The pair in the form that the certificate builder signs with.
    ///
    /// # Errors
    /// Never for a key made by this type; the parser may in principle fail.
    pub fn to_pair(&self) -> Result<rcgen::KeyPair, KeyError> {
        parse(&self.pkcs8)
    }
}

fn parse(pkcs8: &[u8]) -> Result<rcgen::KeyPair, KeyError> {
    rcgen::KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8)).map_err(KeyError::Parse)
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bn_06_debug_output_shows_no_key_bytes() {
        let key = PrivateKey::generate_p256().unwrap();
        assert_eq!(format!("{key:?}"), "PrivateKey(..)");
    }

    #[test]
    fn a_key_reads_back_from_its_pkcs8_and_rubbish_does_not() {
        let key = PrivateKey::generate_p256().unwrap();
        let again = PrivateKey::from_pkcs8(key.pkcs8()).unwrap();
        assert_eq!(key.public_spki(), again.public_spki());
        assert!(PrivateKey::from_pkcs8(&[]).is_err());
        assert!(PrivateKey::from_pkcs8(key.pkcs8().get(..40).unwrap()).is_err());
    }
}
