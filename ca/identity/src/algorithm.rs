//! Which signatures and keys count, as data: the allow-list comes before any cryptography (VS-02).
//!
//! Used by the certificate verifier, the bundle loader and the request parser. Never SHA-1, never MD5, no RSA
//! below 2048 bits, whatever the libraries below would take (XT-15).

use rustls_pki_types::SignatureVerificationAlgorithm;
use webpki::aws_lc_rs as alg;

use crate::der;
use crate::refusal::Refusal;

/// Every signature algorithm that a certificate or request may carry.
pub(crate) static ALLOWED: &[&dyn SignatureVerificationAlgorithm] = &[
    alg::ECDSA_P256_SHA256,
    alg::ECDSA_P256_SHA384,
    alg::ECDSA_P256_SHA512,
    alg::ECDSA_P384_SHA256,
    alg::ECDSA_P384_SHA384,
    alg::ECDSA_P384_SHA512,
    alg::ECDSA_P521_SHA256,
    alg::ECDSA_P521_SHA384,
    alg::ECDSA_P521_SHA512,
    alg::ED25519,
    alg::RSA_PKCS1_2048_8192_SHA256,
    alg::RSA_PKCS1_2048_8192_SHA384,
    alg::RSA_PKCS1_2048_8192_SHA512,
    alg::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    alg::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    alg::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// A public key of a kind on the allow-list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AllowedKey<'a> {
    /// AlgorithmIdentifier content.
    pub(crate) algorithm: &'a [u8],
    /// Content of the BIT STRING.
    pub(crate) bits: &'a [u8],
    pub(crate) kind: KeyKind,
}

/// Kinds of public keys, with the size for RSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    P256,
    P384,
    P521,
    Ed25519,
    Rsa { bits: usize, exponent: u64 },
}

impl<'a> AllowedKey<'a> {
    /// Reads a SubjectPublicKeyInfo and refuses what is not on the list.
    pub(crate) fn of_spki(spki: &'a [u8]) -> Result<Self, Refusal> {
        let mut inner = der::expect(&mut { spki }, der::SEQUENCE)?.content;
        let algorithm = der::expect(&mut inner, der::SEQUENCE)?.content;
        let bits = der::bits(&mut inner)?;
        if !inner.is_empty() {
            return Err(Refusal::Malformed);
        }
        let is = |known: &dyn SignatureVerificationAlgorithm| algorithm == known.public_key_alg_id().as_ref();
        let kind = if is(alg::ECDSA_P256_SHA256) {
            KeyKind::P256
        } else if is(alg::ECDSA_P384_SHA384) {
            KeyKind::P384
        } else if is(alg::ECDSA_P521_SHA512) {
            KeyKind::P521
        } else if is(alg::ED25519) {
            KeyKind::Ed25519
        } else if is(alg::RSA_PKCS1_2048_8192_SHA256) {
            rsa(bits)?
        } else {
            return Err(Refusal::KeyAlgorithm);
        };
        Ok(Self { algorithm, bits, kind })
    }

    /// Checks a signature by this key. The pair of key kind and algorithm must be on the list.
    pub(crate) fn verify(&self, signed: &der::Signed<'_>) -> Result<(), Refusal> {
        let mut fitting = ALLOWED.iter().filter(|known| {
            known.signature_alg_id().as_ref() == signed.algorithm
                && known.public_key_alg_id().as_ref() == self.algorithm
        });
        let known = fitting.next().ok_or(Refusal::SignatureAlgorithm)?;
        known.verify_signature(self.bits, signed.body.whole, signed.signature).or(Err(Refusal::BadSignature))
    }

    /// Checks a signature over a text that names no algorithm: any on the list that this kind of key is used with.
    pub(crate) fn verify_text(&self, text: &[u8], signature: &[u8]) -> Result<(), Refusal> {
        let mut fitting = ALLOWED.iter().filter(|known| known.public_key_alg_id().as_ref() == self.algorithm);
        let is_signed = fitting.any(|known| known.verify_signature(self.bits, text, signature).is_ok());
        if is_signed { Ok(()) } else { Err(Refusal::BadSignature) }
    }
}

/// Refuses a signature algorithm that is not on the list, without looking at any key.
pub(crate) fn check_signature_algorithm(identifier: &[u8]) -> Result<(), Refusal> {
    let known = ALLOWED.iter().any(|known| known.signature_alg_id().as_ref() == identifier);
    if known { Ok(()) } else { Err(Refusal::SignatureAlgorithm) }
}

fn rsa(bits: &[u8]) -> Result<KeyKind, Refusal> {
    let mut numbers = der::expect(&mut { bits }, der::SEQUENCE)?.content;
    let modulus = positive(&mut numbers)?;
    let exponent = positive(&mut numbers)?;
    let size = match modulus.first() {
        Some(top) => {
            let spare = usize::try_from(top.leading_zeros()).unwrap_or_default();
            modulus.len().saturating_mul(8).saturating_sub(spare)
        }
        None => 0,
    };
    if !(2048..=8192).contains(&size) {
        return Err(Refusal::KeySize);
    }
    if exponent.len() > 8 {
        return Err(Refusal::KeyAlgorithm);
    }
    let exponent = exponent.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    Ok(KeyKind::Rsa { bits: size, exponent })
}

/// A positive INTEGER without its sign byte.
fn positive<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Refusal> {
    match der::expect(input, der::INTEGER)?.content {
        [0, rest @ ..] => Ok(rest),
        number @ [1..=0x7f, ..] => Ok(number),
        _ => Err(Refusal::Malformed),
    }
}
