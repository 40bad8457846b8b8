//! Certificate requests (PKCS#10): the agent builds them, the authority reads them.
//!
//! Of a request only the public key survives (IS-02): names, usages, extensions and attributes are never read, so
//! nothing that a requester writes can reach a certificate.

use rcgen::{CertificateParams, DistinguishedName, SanType};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::algorithm::{AllowedKey, KeyKind, check_signature_algorithm};
use crate::key_id::{KeyId, spki_sha256};
use crate::refusal::Refusal;
use crate::{KeyError, PrivateKey, der};

/// Largest request (identity.md 14).
pub const SIZE_LIMIT: usize = 8 * 1024;

/// Why a request was refused or could not be built.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    /// Over 8 KiB.
    #[error("the certificate request is larger than {SIZE_LIMIT} bytes")]
    TooLarge,
    /// Not a PKCS#10 request.
    #[error("the certificate request is malformed: {0}")]
    Malformed(#[source] Refusal),
    /// Bytes after the request (XT-13).
    #[error("bytes follow the certificate request")]
    TrailingBytes,
    /// The key is of a kind or size that is not certified.
    #[error("the key of the certificate request is not allowed: {0}")]
    Key(#[source] Refusal),
    /// The self-signature does not verify: no proof that the requester holds the key.
    #[error("the certificate request does not prove possession of its key")]
    Possession(#[source] Refusal),
    /// Building: a DNS name is not ASCII.
    #[error("cannot build the certificate request: {0}")]
    Build(#[source] rcgen::Error),
    /// Building: the key is unusable.
    #[error(transparent)]
    PrivateKey(#[from] KeyError),
}

/// A public key whose holder proved possession: the only thing that survives a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectPublicKey {
    spki: Vec<u8>,
    bits: Vec<u8>,
    key_id: KeyId,
    algorithm: KeyAlgorithm,
}

/// Kinds of keys that are certified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// ECDSA over P-256, what agents make.
    P256,
    /// ECDSA over P-384.
    P384,
    /// Ed25519.
    Ed25519,
    /// RSA of 2048 to 4096 bits.
    Rsa,
}

impl SubjectPublicKey {
    /// Kind of the key.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Content of the SubjectPublicKeyInfo's BIT STRING.
    pub fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// DER of the SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Identifier of the key.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// SHA-256 over the SubjectPublicKeyInfo, for the issuance record.
    pub fn sha256(&self) -> [u8; 32] {
        spki_sha256(&self.spki)
    }
}

/// Builds a request for `key`. DNS names are a wish that our own authority ignores; others may honour it.
///
/// # Errors
/// When a DNS name is not ASCII.
pub fn build(key: &PrivateKey, dns_names: &[String]) -> Result<Vec<u8>, CsrError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for name in dns_names {
        let name = name.as_str().try_into().map_err(CsrError::Build)?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    let request = params.serialize_request(&key.to_pair()?).map_err(CsrError::Build)?;
    Ok(request.der().to_vec())
}

/// Reads a request: size, exact end, key allow-list, then proof of possession.
///
/// # Errors
/// The first rule that the request breaks.
pub fn parse(request: &[u8]) -> Result<SubjectPublicKey, CsrError> {
    if request.len() > SIZE_LIMIT {
        return Err(CsrError::TooLarge);
    }
    der::check_one(request).map_err(|fault| match fault {
        der::Fault::Trailing => CsrError::TrailingBytes,
        other => CsrError::Malformed(other.into()),
    })?;
    let signed = der::signed(request).map_err(|fault| CsrError::Malformed(fault.into()))?;
    let malformed = || CsrError::Malformed(Refusal::Malformed);
    let (rest, parsed) = X509CertificationRequest::from_der(request).or(Err(malformed()))?;
    if !rest.is_empty() {
        return Err(CsrError::TrailingBytes);
    }
    if parsed.certification_request_info.version.0 != 0 {
        return Err(malformed());
    }
    let spki = parsed.certification_request_info.subject_pki.raw;
    let key = AllowedKey::of_spki(spki).map_err(CsrError::Key)?;
    let algorithm = subject_algorithm(key.kind).map_err(CsrError::Key)?;
    check_signature_algorithm(signed.algorithm).map_err(CsrError::Possession)?;
    key.verify(&signed).map_err(CsrError::Possession)?;
    let key_id = KeyId::of_public_key(key.bits);
    Ok(SubjectPublicKey { spki: spki.to_vec(), bits: key.bits.to_vec(), key_id, algorithm })
}

/// Keys that we certify are fewer than keys that we verify (identity.md 3).
fn subject_algorithm(kind: KeyKind) -> Result<KeyAlgorithm, Refusal> {
    match kind {
        KeyKind::P256 => Ok(KeyAlgorithm::P256),
        KeyKind::P384 => Ok(KeyAlgorithm::P384),
        KeyKind::Ed25519 => Ok(KeyAlgorithm::Ed25519),
        KeyKind::P521 => Err(Refusal::KeyAlgorithm),
        KeyKind::Rsa { bits, .. } if bits > 4096 => Err(Refusal::KeySize),
        KeyKind::Rsa { exponent, .. } if exponent < 65_537 || exponent % 2 == 0 => Err(Refusal::KeyAlgorithm),
        KeyKind::Rsa { .. } => Ok(KeyAlgorithm::Rsa),
    }
}

#[cfg(test)]
#[path = "csr/tests.rs"]
mod tests;
