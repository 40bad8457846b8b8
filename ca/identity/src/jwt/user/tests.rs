//! Tokens of people: those that a sound issuer signs, and one for each rule that a token can break.

use serde_json::json;

use super::*;
use crate::JwksReader;
use crate::testing::{self, TokenForge};

const ISSUER: &str = "https://id.example.org";

struct Idp {
    forge: TokenForge,
    keys: IssuerKeys,
}

impl Idp {
    fn new() -> Self {
        let forge = TokenForge::new(testing::now());
        let jwks = forge.bundle().to_jwt_jwks(JwksReader::Oidc { names_use: true });
        Self { keys: IssuerKeys::from_jwks(jwks.as_bytes()).unwrap(), forge }
    }

    fn claims(&self) -> Value {
        let now = self.forge.now().as_secs();
        json!({ "iss": ISSUER, "sub": "4711", "aud": ["shop", "x"], "iat": now, "exp": now.saturating_add(60), "groups": ["a"] })
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        self.forge.token(&header.to_string(), &claims.to_string())
    }

    fn header(&self) -> Value {
        json!({ "alg": "ES256", "kid": self.forge.kid(), "typ": "at+jwt", "x5t": "abc" })
    }

    fn judge(&self, token: &str) -> Result<UserToken, &'static str> {
        verify_user_token(token, ISSUER, &["shop".to_owned()], &self.keys, self.forge.now())
            .map_err(|refusal| refusal.code())
    }
}

#[test]
fn mo5_a_token_of_a_person_is_read_as_its_issuer_signed_it() {
    let idp = Idp::new();
    let token = idp.token(&idp.header(), &idp.claims());
    let read = idp.judge(&token).unwrap();
    assert_eq!((read.subject.as_str(), read.key.as_str()), ("4711", idp.forge.kid()));
    assert_eq!(read.expires.saturating_since(read.issued).as_secs(), 60);
    assert_eq!(read.claims["groups"], json!(["a"]));
    assert_eq!(issuer_of(&token).as_deref(), Some(ISSUER));
    assert_eq!(issuer_of("x"), None);
}

#[test]
fn mo5_a_token_that_breaks_a_rule_names_nobody() {
    let idp = Idp::new();
    let with = |name: &str, value: Value| {
        let mut claims = idp.claims();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().shift_remove(name)),
            value => claims[name] = value,
        }
        idp.token(&idp.header(), &claims)
    };
    let headed = |name: &str, value: Value| {
        let mut header = idp.header();
        header[name] = value;
        idp.token(&header, &idp.claims())
    };
    let now = idp.forge.now().as_secs();
    let sound = idp.token(&idp.header(), &idp.claims());
    let (message, signature) = sound.rsplit_once('.').unwrap();
    for (token, code) in [
        (with("iss", json!("https://other.example.org")), "unknown_issuer"),
        (with("iss", json!(format!("{ISSUER}/"))), "unknown_issuer"),
        (with("iss", Value::Null), "unknown_issuer"),
        (with("iss", json!([ISSUER])), "wrong_claim"),
        (with("aud", json!("Shop")), "wrong_audience"),
        (with("aud", Value::Null), "missing_claim"),
        (with("exp", Value::Null), "missing_claim"),
        (with("exp", json!(now.saturating_sub(10))), "expired"),
        (with("exp", json!(1e99)), "wrong_claim"),
        (with("nbf", json!(now.saturating_add(11))), "not_yet_valid"),
        (with("iat", Value::Null), "missing_claim"),
        (with("iat", json!(now.saturating_add(11))), "not_yet_valid"),
        (with("sub", Value::Null), "missing_claim"),
        (with("sub", json!("")), "wrong_claim"),
        (with("sub", json!("a\nb")), "wrong_claim"),
        (with("sub", json!("x".repeat(256))), "wrong_claim"),
        (headed("alg", json!("none")), "algorithm"),
        (headed("alg", json!("HS256")), "algorithm"),
        (headed("alg", json!("ES384")), "key_mismatch"),
        (headed("kid", json!("nobody")), "unknown_key"),
        (headed("kid", json!("rsa")), "key_mismatch"),
        (headed("crit", json!(["x"])), "header_member"),
        (headed("b64", json!(false)), "header_member"),
        (headed("zip", json!("DEF")), "header_member"),
        // Other kinds of tokens of the same issuer, in the same form.
        (headed("typ", json!("wit+jwt")), "type"),
        (headed("typ", json!("dpop+jwt")), "type"),
        (headed("typ", json!("logout+jwt")), "type"),
        (format!("{message}."), "not_compact"),
        (format!("{message}.{}", signature.replace(|c: char| c.is_ascii_digit(), "A")), "bad_signature"),
        (format!("{}.{}", sound, "x".repeat(16_384)), "too_large"),
    ] {
        assert_eq!(idp.judge(&token).map(drop), Err(code), "{token}");
    }
}

#[test]
fn keys_that_cannot_be_used_are_left_out_and_one_must_be_left() {
    let idp = Idp::new();
    let mut document: Value =
        serde_json::from_str(&idp.forge.bundle().to_jwt_jwks(JwksReader::Oidc { names_use: true })).unwrap();
    let keys = document["keys"].as_array_mut().unwrap();
    let mut encrypts = keys[0].clone();
    encrypts["use"] = json!("enc");
    let nameless = json!({ "kty": "EC", "crv": "P-256", "x": keys[0]["x"], "y": keys[0]["y"] });
    let weak = json!({ "kty": "RSA", "kid": "weak", "n": "AQAB", "e": "AQAB" });
    let others = [encrypts, nameless, weak, json!({ "kty": "oct", "kid": "k", "k": "AAAA" }), json!(7)];
    let alone = json!({ "keys": others });
    assert!(matches!(IssuerKeys::from_jwks(alone.to_string().as_bytes()), Err(IssuerKeysError::Unusable)));
    keys.extend(others);
    assert_eq!(IssuerKeys::from_jwks(document.to_string().as_bytes()).unwrap(), idp.keys);
    assert!(matches!(IssuerKeys::from_jwks(b"{}"), Err(IssuerKeysError::NoKeys)));
    assert!(matches!(IssuerKeys::from_jwks(b"x"), Err(IssuerKeysError::Json(_))));
    assert!(matches!(IssuerKeys::from_jwks(&vec![b' '; 1 << 21]), Err(IssuerKeysError::TooLarge)));
}
