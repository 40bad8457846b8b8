//! Keys that verify tokens, as values of a bundle (JW-02, JW-11), and the algorithms that count.
//!
//! A key knows what it may verify: kind, curve and, where its JWK says one, the algorithm. Signatures are checked by
//! `jsonwebtoken`, and by aws-lc for ES512, which that crate lacks (XT-21).

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};

use crate::algorithm::{AllowedKey, KeyKind};
use crate::der;
use crate::refusal::Refusal;

const KID_LIMIT: usize = 256;

/// A signature algorithm of JWT-SVIDs (JWT-SVID 2.1, RFC 7518 3.1): neither `none`, nor HMAC, nor EdDSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of RFC 7518")]
pub enum JwtAlgorithm {
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
}

/// Names as they stand in `alg`.
const ALGORITHMS: [(&str, JwtAlgorithm); 9] = [
    ("RS256", JwtAlgorithm::Rs256),
    ("RS384", JwtAlgorithm::Rs384),
    ("RS512", JwtAlgorithm::Rs512),
    ("ES256", JwtAlgorithm::Es256),
    ("ES384", JwtAlgorithm::Es384),
    ("ES512", JwtAlgorithm::Es512),
    ("PS256", JwtAlgorithm::Ps256),
    ("PS384", JwtAlgorithm::Ps384),
    ("PS512", JwtAlgorithm::Ps512),
];

impl JwtAlgorithm {
    /// From the value of `alg`, with its case.
    pub fn parse(name: &str) -> Option<Self> {
        ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    /// As it stands in `alg`.
    pub fn name(self) -> &'static str {
        ALGORITHMS.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }
}

/// Why a JWK is no key for tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtKeyError {
    /// JW-11: no `kid`, or one beyond 256 bytes.
    #[error("its `kid` is missing, empty or longer than {KID_LIMIT} bytes")]
    Kid,
    /// A coordinate or number that is missing or no base64url of the right size.
    #[error("its `{0}` is missing or unreadable")]
    Number(&'static str),
    /// JW-02, VJ-04: a curve, a size or an algorithm that does not count.
    #[error("it is of a kind that no token may be signed with")]
    Kind,
}

/// The public half of a key that signs tokens.
#[derive(Clone)]
pub struct JwtKey {
    kid: String,
    /// Where the JWK says that it is for one only.
    algorithm: Option<JwtAlgorithm>,
    numbers: Numbers,
    decoding: DecodingKey,
}

/// The numbers of a public key, big-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// Curve and both coordinates.
    Ec(Curve, Vec<u8>, Vec<u8>),
    /// Modulus and exponent, without leading zeros.
    Rsa(Vec<u8>, Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::P256, Self::P384, Self::P521].into_iter().find(|known| known.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// Bytes of a coordinate.
    fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

impl JwtKey {
    pub(crate) fn new(
        kid: &str,
        algorithm: Option<JwtAlgorithm>,
        numbers: Numbers,
    ) -> Result<Self, JwtKeyError> {
        if kid.is_empty() || kid.len() > KID_LIMIT {
            return Err(JwtKeyError::Kid);
        }
        let decoding = match &numbers {
            Numbers::Ec(curve, x, y) => {
                for (name, number) in [("x", x), ("y", y)] {
                    if number.len() != curve.size() {
                        return Err(JwtKeyError::Number(name));
                    }
                }
                DecodingKey::from_ec_der(&point(x, y))
            }
            Numbers::Rsa(modulus, exponent) => {
                let top = modulus.first().map_or(8, |byte| byte.leading_zeros());
                let bits = modulus.len().saturating_mul(8).saturating_sub(usize::try_from(top).unwrap_or(8));
                if !(2048..=8192).contains(&bits) || exponent.is_empty() || exponent.len() > 8 {
                    return Err(JwtKeyError::Kind);
                }
                DecodingKey::from_rsa_raw_components(modulus, exponent)
            }
        };
        let key = Self { kid: kid.to_owned(), algorithm, numbers, decoding };
        if algorithm.is_some_and(|algorithm| !key.fits(algorithm)) {
            return Err(JwtKeyError::Kind);
        }
        Ok(key)
    }

    /// From the DER of a SubjectPublicKeyInfo, under that `kid`.
    ///
    /// # Errors
    /// For a kind of key that signs no tokens (Ed25519, RSA below 2048 bits) or an unusable `kid`.
    pub fn from_spki(kid: &str, spki: &[u8]) -> Result<Self, JwtKeyError> {
        let key = AllowedKey::of_spki(spki).or(Err(JwtKeyError::Kind))?;
        Self::new(kid, None, numbers_of(&key)?)
    }

    /// Its name, unique among the keys of its trust domain.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub(crate) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// The algorithm that its JWK names, or else the one that its kind is used with.
    pub fn usual_algorithm(&self) -> JwtAlgorithm {
        self.algorithm.unwrap_or(match &self.numbers {
            Numbers::Ec(Curve::P256, ..) => JwtAlgorithm::Es256,
            Numbers::Ec(Curve::P384, ..) => JwtAlgorithm::Es384,
            Numbers::Ec(Curve::P521, ..) => JwtAlgorithm::Es512,
            Numbers::Rsa(..) => JwtAlgorithm::Rs256,
        })
    }

    /// VJ-04: whether a token of that algorithm may be signed with it.
    pub(super) fn fits(&self, algorithm: JwtAlgorithm) -> bool {
        use JwtAlgorithm as A;
        let of_kind = match (&self.numbers, algorithm) {
            (Numbers::Ec(curve, ..), A::Es256) => *curve == Curve::P256,
            (Numbers::Ec(curve, ..), A::Es384) => *curve == Curve::P384,
            (Numbers::Ec(curve, ..), A::Es512) => *curve == Curve::P521,
            (Numbers::Ec(..), _) | (Numbers::Rsa(..), A::Es256 | A::Es384 | A::Es512) => false,
            (Numbers::Rsa(..), _) => true,
        };
        of_kind && self.algorithm.is_none_or(|named| named == algorithm)
    }

    /// VJ-05. The signature is that of RFC 7518: for ECDSA both numbers side by side, never DER.
    pub(super) fn verifies(&self, algorithm: JwtAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        let known = match algorithm {
            JwtAlgorithm::Rs256 => Algorithm::RS256,
            JwtAlgorithm::Rs384 => Algorithm::RS384,
            JwtAlgorithm::Rs512 => Algorithm::RS512,
            JwtAlgorithm::Es256 => Algorithm::ES256,
            JwtAlgorithm::Es384 => Algorithm::ES384,
            JwtAlgorithm::Ps256 => Algorithm::PS256,
            JwtAlgorithm::Ps384 => Algorithm::PS384,
            JwtAlgorithm::Ps512 => Algorithm::PS512,
            JwtAlgorithm::Es512 => {
                let Numbers::Ec(_, x, y) = &self.numbers else { return false };
                let key = UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point(x, y));
                return key.verify(message, signature).is_ok();
            }
        };
        let signature = URL_SAFE_NO_PAD.encode(signature);
        crypto::verify(&signature, message, &self.decoding, known).is_ok_and(|holds| holds)
    }
}

impl PartialEq for JwtKey {
    fn eq(&self, other: &Self) -> bool {
        self.kid == other.kid && self.algorithm == other.algorithm && self.numbers == other.numbers
    }
}

impl Eq for JwtKey {}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The numbers of a key on the allow-list.
pub(crate) fn numbers_of(key: &AllowedKey<'_>) -> Result<Numbers, JwtKeyError> {
    let curve = match key.kind {
        KeyKind::P256 => Curve::P256,
        KeyKind::P384 => Curve::P384,
        KeyKind::P521 => Curve::P521,
        KeyKind::Ed25519 => return Err(JwtKeyError::Kind),
        KeyKind::Rsa { .. } => return rsa(key.bits).or(Err(JwtKeyError::Number("n"))),
    };
    let coordinates = key.bits.strip_prefix(&[4]).and_then(|both| both.split_at_checked(curve.size()));
    let (x, y) = coordinates.ok_or(JwtKeyError::Number("x"))?;
    Ok(Numbers::Ec(curve, x.to_vec(), y.to_vec()))
}

fn rsa(bits: &[u8]) -> Result<Numbers, Refusal> {
    let mut numbers = der::expect(&mut { bits }, der::SEQUENCE)?.content;
    let modulus = der::expect(&mut numbers, der::INTEGER)?.content;
    let exponent = der::expect(&mut numbers, der::INTEGER)?.content;
    let plain = |number: &[u8]| number.strip_prefix(&[0]).unwrap_or(number).to_vec();
    Ok(Numbers::Rsa(plain(modulus), plain(exponent)))
}

/// Uncompressed form (SEC 1 2.3.3).
fn point(x: &[u8], y: &[u8]) -> Vec<u8> {
    [&[4], x, y].concat()
}
