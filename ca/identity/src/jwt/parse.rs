//! The text of a token as values: compact form, header and claims, before any key is looked at (VJ-01 to VJ-03).
//!
//! JSON is read strictly: a member that stands twice is refused, since readers disagree about which one counts, and a claim
//! of the wrong type is an error and never "absent".

use std::{fmt, time::Duration};

use base_ports::UnixTime;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::key::{JwtAlgorithm, JwtKey};
use super::refusal::TokenRefusal;
use crate::SpiffeId;

const SIZE_LIMIT: usize = 8 * 1024;
const DEPTH_LIMIT: usize = 16;
const KID_LIMIT: usize = 256;
/// Years beyond 9999 are nobody's time.
const TIME_LIMIT: i64 = 253_402_300_800;
/// How far the clocks of issuer and verifier may differ (identity.md 3).
const LEEWAY: Duration = Duration::from_secs(10);
/// Keys that are tried for a token that names none (VJ-04).
const TRIED: usize = 8;
const TWICE: &str = "member stands twice";

/// What every kind of token has in common, of sound form. Nothing of it is believed yet.
#[derive(Debug)]
pub(crate) struct Signed<'a> {
    /// What was signed.
    message: &'a [u8],
    signature: Vec<u8>,
    pub(crate) algorithm: JwtAlgorithm,
    pub(crate) kid: Option<String>,
    pub(crate) audience: Vec<String>,
    pub(crate) expires: UnixTime,
    pub(super) not_before: Option<UnixTime>,
    pub(crate) issued: Option<UnixTime>,
    pub(crate) claims: Map<String, Value>,
}

/// Reads the header of one kind of token.
type ReadHeader = fn(&Map<String, Value>) -> Result<(JwtAlgorithm, Option<String>), TokenRefusal>;

impl<'a> Signed<'a> {
    /// Reads a token of at most `limit` bytes.
    pub(super) fn parse(text: &'a str, limit: usize, read_header: ReadHeader) -> Result<Self, TokenRefusal> {
        if text.len() > limit {
            return Err(TokenRefusal::TooLarge);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(TokenRefusal::NotCompact)?;
        let (header, payload) = message.split_once('.').ok_or(TokenRefusal::NotCompact)?;
        let decode = |segment: &str| match URL_SAFE_NO_PAD.decode(segment) {
            Ok(bytes) if !bytes.is_empty() => Ok(bytes),
            _ => Err(TokenRefusal::NotCompact),
        };
        let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
        let (algorithm, kid) = read_header(&object(&header, "header")?)?;
        let claims = object(&payload, "payload")?;
        text_of(&claims, "iss")?;
        text_of(&claims, "jti")?;
        Ok(Self {
            message: message.as_bytes(),
            signature,
            algorithm,
            kid,
            audience: audience_of(&claims)?,
            expires: time_of(&claims, "exp")?.ok_or(TokenRefusal::MissingClaim("exp"))?,
            not_before: time_of(&claims, "nbf")?,
            issued: time_of(&claims, "iat")?,
            claims,
        })
    }

    /// `sub`.
    pub(super) fn subject(&self) -> Result<&str, TokenRefusal> {
        text_of(&self.claims, "sub")?.ok_or(TokenRefusal::MissingClaim("sub"))
    }

    /// VJ-04 and VJ-05: the one of `keys` that signed it.
    pub(super) fn signer<'k>(&self, keys: &'k [JwtKey]) -> Result<&'k JwtKey, TokenRefusal> {
        if keys.is_empty() {
            return Err(TokenRefusal::NoKeys);
        }
        let is_signed_by = |key: &JwtKey| key.verifies(self.algorithm, self.message, &self.signature);
        if let Some(kid) = &self.kid {
            let key = keys.iter().find(|key| key.kid() == kid).ok_or(TokenRefusal::UnknownKey)?;
            if !key.fits(self.algorithm) {
                return Err(TokenRefusal::KeyMismatch);
            }
            return if is_signed_by(key) { Ok(key) } else { Err(TokenRefusal::BadSignature) };
        }
        let mut fitting = keys.iter().filter(|key| key.fits(self.algorithm)).take(TRIED).peekable();
        if fitting.peek().is_none() {
            return Err(TokenRefusal::UnknownKey);
        }
        fitting.find(|key| is_signed_by(key)).ok_or(TokenRefusal::BadSignature)
    }

    /// VJ-06.
    pub(super) fn check_times(&self, now: UnixTime) -> Result<(), TokenRefusal> {
        if now.saturating_since(self.expires) >= LEEWAY {
            return Err(TokenRefusal::Expired);
        }
        let is_ahead = |time: Option<UnixTime>| time.is_some_and(|time| time.saturating_since(now) > LEEWAY);
        if is_ahead(self.not_before) || is_ahead(self.issued) {
            return Err(TokenRefusal::NotYetValid);
        }
        Ok(())
    }
}

/// A JWT-SVID of sound form.
#[derive(Debug)]
pub(crate) struct Token<'a> {
    pub(crate) id: SpiffeId,
    pub(crate) signed: Signed<'a>,
}

impl<'a> Token<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, TokenRefusal> {
        let signed = Signed::parse(text, SIZE_LIMIT, read_header)?;
        let id = SpiffeId::parse(signed.subject()?).map_err(TokenRefusal::Subject)?;
        if id.path().is_empty() {
            return Err(TokenRefusal::RootPath);
        }
        Ok(Self { id, signed })
    }
}

/// VJ-02: `alg`, `kid` and `typ`, and nothing else.
fn read_header(header: &Map<String, Value>) -> Result<(JwtAlgorithm, Option<String>), TokenRefusal> {
    if header.keys().any(|name| !matches!(name.as_str(), "alg" | "kid" | "typ")) {
        return Err(TokenRefusal::HeaderMember);
    }
    let signer = signer_in(header)?;
    match header.get("typ").map(Value::as_str) {
        None | Some(Some("JWT" | "JOSE")) => Ok(signer),
        Some(_) => Err(TokenRefusal::Type),
    }
}

/// Algorithm and name of the key.
pub(super) fn signer_in(header: &Map<String, Value>) -> Result<(JwtAlgorithm, Option<String>), TokenRefusal> {
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(JwtAlgorithm::parse);
    let algorithm = algorithm.ok_or(TokenRefusal::Algorithm)?;
    let kid = match header.get("kid").map(Value::as_str) {
        None => None,
        Some(Some(kid)) if (1..=KID_LIMIT).contains(&kid.len()) => Some(kid.to_owned()),
        Some(_) => return Err(TokenRefusal::KeyIdentifier),
    };
    Ok((algorithm, kid))
}

pub(super) fn text_of<'a>(
    claims: &'a Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'a str>, TokenRefusal> {
    claims.get(name).map(|value| value.as_str().ok_or(TokenRefusal::WrongClaim(name))).transpose()
}

/// Whole seconds only: what an issuer rounds is its business, and fractions are read differently everywhere.
fn time_of(claims: &Map<String, Value>, name: &'static str) -> Result<Option<UnixTime>, TokenRefusal> {
    let time = |value: &Value| match value.as_i64() {
        Some(seconds) if (0..TIME_LIMIT).contains(&seconds) => Ok(UnixTime::from_secs(seconds)),
        _ => Err(TokenRefusal::WrongClaim(name)),
    };
    claims.get(name).map(time).transpose()
}

/// JW-07, JW-08.
fn audience_of(claims: &Map<String, Value>) -> Result<Vec<String>, TokenRefusal> {
    let audience = match claims.get("aud") {
        None => return Err(TokenRefusal::MissingClaim("aud")),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            several.iter().map(text).collect::<Option<_>>().ok_or(TokenRefusal::WrongClaim("aud"))?
        }
        Some(_) => return Err(TokenRefusal::WrongClaim("aud")),
    };
    if audience.is_empty() || audience.iter().any(String::is_empty) {
        return Err(TokenRefusal::NoAudience);
    }
    Ok(audience)
}

/// One JSON object without members that stand twice, and nothing behind it.
fn object(bytes: &[u8], part: &'static str) -> Result<Map<String, Value>, TokenRefusal> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = Strict { depth: 0 }.deserialize(&mut deserializer);
    let read = read.and_then(|value| deserializer.end().map(|()| value));
    match read {
        Ok(Value::Object(object)) => Ok(object),
        Err(error) if error.to_string().starts_with(TWICE) => Err(TokenRefusal::DuplicateMember(part)),
        _ => Err(TokenRefusal::NotJson(part)),
    }
}

/// Reads a value as `serde_json::Value` does, but for members that stand twice and for depth.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        match self.depth.saturating_add(1) {
            depth if depth > DEPTH_LIMIT => Err(E::custom("too deep")),
            depth => Ok(Self { depth }),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("no number"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(TWICE));
            }
            object.insert(name, members.next_value_seed(inner)?);
        }
        Ok(Value::Object(object))
    }
}
