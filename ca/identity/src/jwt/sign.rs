//! Tokens are composed and signed here (VJ-07): header and claims in the least form that every client takes.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use base_ports::UnixTime;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::key::{JwtAlgorithm, JwtKey, JwtKeyError};
use crate::{PrivateKey, SpiffeId};

/// What a token says. Times are cut to whole seconds (DF-08).
#[derive(Debug, Clone, Copy)]
pub struct JwtClaims<'a> {
    /// `sub`.
    pub id: &'a SpiffeId,
    /// `aud`: at least one, none empty (JW-07).
    pub audience: &'a [String],
    /// `iat`.
    pub issued: UnixTime,
    /// `exp`.
    pub expires: UnixTime,
    /// `iss`: the discovery URL, byte for byte, where there is one (DF-10).
    pub issuer: Option<&'a str>,
    /// `jti` (DF-09).
    pub jti: Option<&'a str>,
}

/// A private key that signs tokens.
pub struct JwtSigner {
    pair: EcdsaKeyPair,
    public: JwtKey,
    /// The header, encoded, with its dot.
    header: String,
}

impl JwtSigner {
    /// A signer with a P-256 or P-384 key; its `kid` is the identifier of the key.
    ///
    /// # Errors
    /// For any other kind of key.
    pub fn new(key: &PrivateKey) -> Result<Self, JwtKeyError> {
        let kid = key.key_id().to_string();
        let public = JwtKey::from_spki(&kid, key.public_spki())?;
        let algorithm = public.usual_algorithm();
        let scheme = match algorithm {
            JwtAlgorithm::Es256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            JwtAlgorithm::Es384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            _ => return Err(JwtKeyError::Kind),
        };
        let pair = EcdsaKeyPair::from_pkcs8(scheme, key.pkcs8()).or(Err(JwtKeyError::Kind))?;
        let header = json!({ "alg": algorithm.name(), "kid": kid, "typ": "JWT" });
        let header = URL_SAFE_NO_PAD.encode(header.to_string()) + ".";
        Ok(Self { pair, public, header })
    }

    /// The public half, as it stands in the bundle.
    pub fn public(&self) -> &JwtKey {
        &self.public
    }

    /// Composes and signs a token in compact form. `None` when the random source of the system fails.
    pub fn sign(&self, claims: &JwtClaims<'_>) -> Option<String> {
        let mut body = Map::new();
        body.insert("sub".to_owned(), claims.id.as_str().into());
        body.insert("aud".to_owned(), claims.audience.into());
        body.insert("exp".to_owned(), claims.expires.as_secs().into());
        body.insert("iat".to_owned(), claims.issued.as_secs().into());
        let optional = [("iss", claims.issuer), ("jti", claims.jti)];
        for (name, value) in optional.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            body.insert(name.to_owned(), value.into());
        }
        let mut token = self.header.clone();
        URL_SAFE_NO_PAD.encode_string(Value::Object(body).to_string(), &mut token);
        let signature = self.sign_bytes(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }

    /// Both numbers of the signature side by side (RFC 7518 3.4).
    pub(crate) fn sign_bytes(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signature = self.pair.sign(&SystemRandom::new(), message).ok()?;
        Some(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for JwtSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtSigner").field("public", &self.public).finish_non_exhaustive()
    }
}
