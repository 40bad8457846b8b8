//! PEM texts of chains, keys and revocation lists, for files that other programs read (`svid write`). No other labels.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem};
use zeroize::Zeroizing;

use crate::{KeyError, PrivateKey};

/// Why a text holds no certificates or no key.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// Not PEM, or not the expected label.
    #[error("the text is not the expected PEM: {0}")]
    Text(#[from] pem::Error),
    /// The key inside is not supported.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Certificates in order, each in its own block.
pub fn write_certificates<'a, 'd: 'a>(chain: impl IntoIterator<Item = &'a CertificateDer<'d>>) -> String {
    chain.into_iter().map(|der| block("CERTIFICATE", der).as_str().to_owned()).collect()
}

/// The key as an unencrypted PKCS#8 block; the caller keeps it secret.
pub fn write_private_key(key: &PrivateKey) -> Zeroizing<String> {
    block("PRIVATE KEY", key.pkcs8())
}

/// A certificate revocation list (RFC 7468 7).
pub fn write_crl(der: &[u8]) -> String {
    block("X509 CRL", der).as_str().to_owned()
}

/// All certificates of a text, in order.
///
/// # Errors
/// When a block is malformed. A text without certificates yields none.
pub fn read_certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    Ok(CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>()?)
}

/// The first PKCS#8 key of a text.
///
/// # Errors
/// When there is none, or of an unsupported kind.
pub fn read_private_key(text: &[u8]) -> Result<PrivateKey, PemError> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(text)?;
    Ok(PrivateKey::from_pkcs8(key.secret_pkcs8_der())?)
}

fn block(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    let mut text = Zeroizing::new(format!("-----BEGIN {label}-----\n"));
    for line in body.as_bytes().chunks(64) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, TestCa};

    #[test]
    fn chains_and_keys_read_back_from_their_pem_texts() {
        let svid = TestCa::new("example.org", testing::now()).svid("/web");
        let text = write_certificates(&svid.chain);
        assert_eq!(read_certificates(text.as_bytes()).unwrap(), svid.chain);
        let key = write_private_key(&svid.key);
        assert_eq!(read_private_key(key.as_bytes()).unwrap().public_spki(), svid.key.public_spki());
        assert!(read_private_key(text.as_bytes()).is_err());
        assert!(read_certificates(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").is_err());
    }
}
