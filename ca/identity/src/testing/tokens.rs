//! Tokens for tests: sound ones of every algorithm, and one for each rule that a token can break (VJ-08).
//!
//! The same set goes through the verifier of this crate and, in a story, through PyJWT: we may be stricter, never laxer.

#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "test support: a failure ends the test"
)]

use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    RsaEncoding,
};
use base_ports::UnixTime;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::{Bundle, BundleMap, IdentitySnapshot, JwtKey, JwtSigner, PrivateKey, TrustDomain, VerifiedToken};

/// The audience that tests expect.
const AUDIENCE: &str = "orders";

/// Keys of two trust domains, and what can be forged with them.
pub struct TokenForge {
    now: UnixTime,
    signer: JwtSigner,
    foreign: JwtSigner,
    stranger: JwtSigner,
    p384: EcdsaKeyPair,
    p521: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

/// A token that breaks a rule.
#[derive(Debug, Clone)]
pub struct BadToken {
    /// Which.
    pub name: &'static str,
    /// Its text.
    pub token: String,
    /// The refusal that it must meet.
    pub code: &'static str,
}

impl TokenForge {
    /// Fresh keys.
    pub fn new(now: UnixTime) -> Self {
        let signer = || JwtSigner::new(&PrivateKey::generate_p256().expect("key")).expect("signer");
        Self {
            now,
            signer: signer(),
            foreign: signer(),
            stranger: signer(),
            p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("key"),
            p521: EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).expect("key"),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("key"),
        }
    }

    /// The key of `example.org` that its tokens are signed with.
    pub fn signer(&self) -> &JwtSigner {
        &self.signer
    }

    /// When its tokens are issued.
    pub fn now(&self) -> UnixTime {
        self.now
    }

    /// The audience that its tokens are for.
    pub fn audience(&self) -> &'static str {
        AUDIENCE
    }

    /// The bundle of `example.org`, with a key of every kind.
    pub fn bundle(&self) -> Bundle {
        let of = |kid, spki: &[u8]| JwtKey::from_spki(kid, spki).expect("key");
        let spki = |pair: &EcdsaKeyPair| pair.public_key().as_der().expect("key").as_ref().to_vec();
        let rsa = self.rsa.public_key().as_der().expect("key").as_ref().to_vec();
        let keys = vec![
            self.signer.public().clone(),
            of("p384", &spki(&self.p384)),
            of("p521", &spki(&self.p521)),
            of("rsa", &rsa),
        ];
        Bundle::new(domain("example.org"), Vec::new(), 7).expect("bundle").with_jwt_keys(keys).expect("keys")
    }

    /// A snapshot that trusts `example.org` and `other.org`, each with its own keys.
    pub fn snapshot(&self) -> IdentitySnapshot {
        let other = Bundle::new(domain("other.org"), Vec::new(), 1).expect("bundle");
        let other = other.with_jwt_keys(vec![self.foreign.public().clone()]).expect("keys");
        let mut bundles = BundleMap::of(self.bundle().into());
        bundles.insert(other.into()).expect("bundle");
        IdentitySnapshot { bundles, ..IdentitySnapshot::default() }
    }

    /// Judges a token as the tests expect it.
    ///
    /// # Errors
    /// The stable word of the refusal.
    pub fn judge(&self, token: &str) -> Result<VerifiedToken, &'static str> {
        crate::verify_jwt_svid(token, AUDIENCE, &self.snapshot(), self.now).map_err(|refusal| refusal.code())
    }

    /// A sound token of every algorithm, by name.
    pub fn sound(&self) -> Vec<(&'static str, String)> {
        let rsa = |alg: &'static str, scheme: &'static dyn RsaEncoding| {
            let sign = |message: &[u8]| {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(scheme, &SystemRandom::new(), message, &mut signature).expect("signature");
                signature
            };
            (alg, self.forge(&header(alg, "rsa"), &self.payload(), sign))
        };
        let ec = |alg: &'static str, kid: &str, pair: &EcdsaKeyPair| {
            let sign = |message: &[u8]| {
                pair.sign(&SystemRandom::new(), message).expect("signature").as_ref().to_vec()
            };
            (alg, self.forge(&header(alg, kid), &self.payload(), sign))
        };
        vec![
            ("ES256", self.token(&header("ES256", self.kid()), &self.payload())),
            ec("ES384", "p384", &self.p384),
            ec("ES512", "p521", &self.p521),
            rsa("RS256", &RSA_PKCS1_SHA256),
            rsa("RS384", &RSA_PKCS1_SHA384),
            rsa("RS512", &RSA_PKCS1_SHA512),
            rsa("PS256", &RSA_PSS_SHA256),
            rsa("PS384", &RSA_PSS_SHA384),
            rsa("PS512", &RSA_PSS_SHA512),
        ]
    }

    pub(crate) fn kid(&self) -> &str {
        self.signer.public().kid()
    }

    fn payload(&self) -> String {
        self.claims(r#""spiffe://example.org/web""#, r#"["orders"]"#, &self.seconds(300), "")
    }

    /// Seconds from now on.
    fn seconds(&self, ahead: i64) -> String {
        (self.now.as_secs() + ahead).to_string()
    }

    fn claims(&self, sub: &str, aud: &str, exp: &str, more: &str) -> String {
        format!(r#"{{"sub":{sub},"aud":{aud},"exp":{exp},"iat":{}{more}}}"#, self.now.as_secs())
    }

    /// A token of any header and payload, signed with the key of `example.org`.
    pub fn token(&self, header: &str, payload: &str) -> String {
        self.forge(header, payload, |message| self.signer.sign_bytes(message).expect("signature"))
    }

    fn forge(&self, header: &str, payload: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// One token for each rule, and what refuses it.
    pub fn bad(&self) -> Vec<BadToken> {
        let mut all = self.bad_form();
        all.extend(self.bad_headers());
        all.extend(self.bad_payloads());
        all.extend(self.bad_signatures());
        all.into_iter().map(|(name, token, code)| BadToken { name, token, code }).collect()
    }

    fn bad_form(&self) -> Vec<(&'static str, String, &'static str)> {
        let good = self.token(&header("ES256", self.kid()), &self.payload());
        let parts: Vec<&str> = good.split('.').collect();
        let [head, body, signature] = parts[..] else { panic!("three parts") };
        let json = format!(r#"{{"protected":"{head}","payload":"{body}","signature":"{signature}"}}"#);
        // The last character of 64 bytes carries four bits that must be zero.
        let loose =
            format!("{head}.{body}.{}{}", &signature[..85], if signature.ends_with('A') { 'B' } else { 'h' });
        let forms = vec![
            ("empty", String::new()),
            ("a dot", ".".to_owned()),
            ("two dots", "..".to_owned()),
            ("two segments", format!("{head}.{body}")),
            ("four segments", format!("{good}.{signature}")),
            ("no signature", format!("{head}.{body}.")),
            ("no payload", format!("{head}..{signature}")),
            ("no header", format!(".{body}.{signature}")),
            ("padding", format!("{good}==")),
            ("the other alphabet", format!("{head}.{body}.{}+/", &signature[..84])),
            ("a space before", format!(" {good}")),
            ("a newline behind", format!("{good}\n")),
            ("a newline within", format!("{head}.\n{body}.{signature}")),
            ("beyond ASCII", format!("{good}\u{e9}")),
            ("loose bits", loose),
            ("the JSON serialization", json),
            ("with its scheme", format!("Bearer {good}")),
        ];
        let mut all: Vec<_> = forms.into_iter().map(|(name, token)| (name, token, "not_compact")).collect();
        let long = self.claims(
            r#""spiffe://example.org/web""#,
            r#""orders""#,
            "1",
            &format!(r#","x":"{}""#, "x".repeat(8192)),
        );
        all.push(("over 8 KiB", self.token(&header("ES256", self.kid()), &long), "too_large"));
        all
    }

    fn bad_headers(&self) -> Vec<(&'static str, String, &'static str)> {
        let kid = self.kid();
        let with = |more: &str| format!(r#"{{"alg":"ES256","kid":"{kid}","typ":"JWT"{more}}}"#);
        let alg = |alg: &str| header(alg, kid);
        let typ = |typ: &str| format!(r#"{{"alg":"ES256","kid":"{kid}","typ":{typ}}}"#);
        let kid_of = |kid: &str| format!(r#"{{"alg":"ES256","kid":{kid},"typ":"JWT"}}"#);
        let deep = format!(r#","x":{}1{}"#, "[".repeat(20), "]".repeat(20));
        let headers = vec![
            ("none", alg("none"), "algorithm"),
            ("None", alg("None"), "algorithm"),
            ("nOnE", alg("nOnE"), "algorithm"),
            ("EdDSA", alg("EdDSA"), "algorithm"),
            ("ES256K", alg("ES256K"), "algorithm"),
            ("lower case", alg("es256"), "algorithm"),
            ("no algorithm", format!(r#"{{"kid":"{kid}"}}"#), "algorithm"),
            ("a number as algorithm", format!(r#"{{"alg":256,"kid":"{kid}"}}"#), "algorithm"),
            ("a list as algorithm", format!(r#"{{"alg":["ES256"],"kid":"{kid}"}}"#), "algorithm"),
            ("RS256 for a P-256 key", alg("RS256"), "key_mismatch"),
            ("PS256 for a P-256 key", alg("PS256"), "key_mismatch"),
            ("ES384 for a P-256 key", alg("ES384"), "key_mismatch"),
            ("ES512 for a P-256 key", alg("ES512"), "key_mismatch"),
            ("ES256 for an RSA key", header("ES256", "rsa"), "key_mismatch"),
            ("crit", with(r#","crit":["b64"]"#), "header_member"),
            ("crit that is empty", with(r#","crit":[]"#), "header_member"),
            ("jwk", with(r#","jwk":{"kty":"EC"}"#), "header_member"),
            ("jku", with(r#","jku":"https://evil.test/keys""#), "header_member"),
            ("x5u", with(r#","x5u":"https://evil.test/cert""#), "header_member"),
            ("x5c", with(r#","x5c":["MIIB"]"#), "header_member"),
            ("x5t", with(r#","x5t":"AA""#), "header_member"),
            ("b64", with(r#","b64":false"#), "header_member"),
            ("zip", with(r#","zip":"DEF""#), "header_member"),
            ("cty", with(r#","cty":"JWT""#), "header_member"),
            ("an unknown member", with(r#","x":1"#), "header_member"),
            ("an algorithm twice", with(r#","alg":"ES256""#), "duplicate_member"),
            ("an algorithm twice, escaped", with(r#","\u0061lg":"none""#), "duplicate_member"),
            ("a key twice", with(r#","kid":"rsa""#), "duplicate_member"),
            ("a WIT", typ(r#""wit+jwt""#), "type"),
            ("an access token", typ(r#""at+jwt""#), "type"),
            ("a type in lower case", typ(r#""jwt""#), "type"),
            ("a number as type", typ("1"), "type"),
            ("no type at all", typ("null"), "type"),
            ("a number as key", kid_of("1"), "key_identifier"),
            ("an empty key", kid_of(r#""""#), "key_identifier"),
            ("a long key", kid_of(&format!(r#""{}""#, "k".repeat(257))), "key_identifier"),
            ("an unknown key", kid_of(r#""nobody""#), "unknown_key"),
            ("a path as key", kid_of(r#""../../etc/passwd""#), "unknown_key"),
            ("a foreign key", kid_of(&format!(r#""{}""#, self.foreign.public().kid())), "unknown_key"),
            ("a list as header", "[]".to_owned(), "not_json"),
            ("text as header", r#""ES256""#.to_owned(), "not_json"),
            ("no JSON as header", "{".to_owned(), "not_json"),
            ("two headers", format!("{}{{}}", alg("ES256")), "not_json"),
            ("a deep header", with(&deep), "not_json"),
        ];
        let signed = headers.into_iter();
        let mut all: Vec<_> =
            signed.map(|(name, header, code)| (name, self.token(&header, &self.payload()), code)).collect();
        // The classic: the public key, which everybody has, as the secret of an HMAC.
        let spki = self.bundle().to_jwks();
        for (name, algorithm) in
            [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
        {
            let secret = hmac::Key::new(algorithm, spki.as_bytes());
            let sign = |message: &[u8]| hmac::sign(&secret, message).as_ref().to_vec();
            all.push((name, self.forge(&alg(name), &self.payload(), sign), "algorithm"));
        }
        all
    }

    fn bad_payloads(&self) -> Vec<(&'static str, String, &'static str)> {
        let (web, orders, soon) = (r#""spiffe://example.org/web""#, r#"["orders"]"#, self.seconds(300));
        let sub = |sub: &str| self.claims(sub, orders, &soon, "");
        let aud = |aud: &str| self.claims(web, aud, &soon, "");
        let exp = |exp: &str| self.claims(web, orders, exp, "");
        let more = |more: &str| self.claims(web, orders, &soon, more);
        let deep = format!(r#","x":{}1{}"#, "[".repeat(16), "]".repeat(16));
        let payloads = vec![
            ("a list as payload", "[]".to_owned(), "not_json"),
            ("no JSON as payload", "{".to_owned(), "not_json"),
            ("two payloads", format!("{}{{}}", self.payload()), "not_json"),
            ("a payload that is no UTF-8 escape", more(r#","x":"\ud800""#), "not_json"),
            ("depth 17", more(&deep), "not_json"),
            ("a subject twice", more(r#","sub":"spiffe://example.org/admin""#), "duplicate_member"),
            ("an audience twice", more(r#","aud":"orders""#), "duplicate_member"),
            ("an end twice", more(r#","exp":9999999999"#), "duplicate_member"),
            ("twice, within", more(r#","x":[{"y":1,"y":2}]"#), "duplicate_member"),
            ("no subject", format!(r#"{{"aud":"orders","exp":{soon}}}"#), "missing_claim"),
            ("a number as subject", sub("1"), "wrong_claim"),
            ("null as subject", sub("null"), "wrong_claim"),
            ("a list as subject", sub(r#"["spiffe://example.org/web"]"#), "wrong_claim"),
            ("another scheme", sub(r#""https://example.org/web""#), "subject"),
            ("upper case", sub(r#""spiffe://EXAMPLE.org/web""#), "subject"),
            ("a query", sub(r#""spiffe://example.org/web?a=b""#), "subject"),
            ("percent encoding", sub(r#""spiffe://example.org/%77eb""#), "subject"),
            ("dots in the path", sub(r#""spiffe://example.org/a/../web""#), "subject"),
            ("no path", sub(r#""spiffe://example.org""#), "root_path"),
            ("an unknown trust domain", sub(r#""spiffe://nobody.org/web""#), "unknown_trust_domain"),
            ("a key of another domain", sub(r#""spiffe://other.org/web""#), "unknown_key"),
            ("no audience", format!(r#"{{"sub":{web},"exp":{soon}}}"#), "missing_claim"),
            ("a number as audience", aud("1"), "wrong_claim"),
            ("null as audience", aud("null"), "wrong_claim"),
            ("an object as audience", aud(r#"{"orders":1}"#), "wrong_claim"),
            ("a number in the audience", aud(r#"["orders",1]"#), "wrong_claim"),
            ("nobody as audience", aud("[]"), "no_audience"),
            ("an empty audience", aud(r#""""#), "no_audience"),
            ("an empty name in the audience", aud(r#"["orders",""]"#), "no_audience"),
            ("another audience", aud(r#"["billing"]"#), "wrong_audience"),
            ("an audience that begins alike", aud(r#"["orders2"]"#), "wrong_audience"),
            ("an audience of another case", aud(r#""Orders""#), "wrong_audience"),
            ("no end", format!(r#"{{"sub":{web},"aud":"orders"}}"#), "missing_claim"),
            ("text as end", exp(&format!(r#""{soon}""#)), "wrong_claim"),
            ("null as end", exp("null"), "wrong_claim"),
            ("a fraction as end", exp(&format!("{soon}.5")), "wrong_claim"),
            ("scientific notation", exp("2e9"), "wrong_claim"),
            ("a negative end", exp("-1"), "wrong_claim"),
            ("an endless end", exp("1e400"), "not_json"),
            ("an end beyond 64 bits", exp("18446744073709551616"), "wrong_claim"),
            ("an end beyond the years", exp("18446744073709551615"), "wrong_claim"),
            ("ended", exp(&self.seconds(-60)), "expired"),
            ("ended ten seconds ago", exp(&self.seconds(-10)), "expired"),
            ("ended in 1970", exp("0"), "expired"),
            ("begins later", more(&format!(r#","nbf":{}"#, self.seconds(11))), "not_yet_valid"),
            ("text as beginning", more(r#","nbf":"0""#), "wrong_claim"),
            (
                "issued later",
                self.payload().replace(
                    &format!("\"iat\":{}", self.now.as_secs()),
                    &format!("\"iat\":{}", self.seconds(11)),
                ),
                "not_yet_valid",
            ),
            ("a number as issuer", more(r#","iss":1"#), "wrong_claim"),
            ("a number as token id", more(r#","jti":1"#), "wrong_claim"),
        ];
        let header = header("ES256", self.kid());
        payloads
            .into_iter()
            .map(|(name, payload, code)| (name, self.token(&header, &payload), code))
            .collect()
    }

    fn bad_signatures(&self) -> Vec<(&'static str, String, &'static str)> {
        let header = header("ES256", self.kid());
        let forged = |sign: &dyn Fn(Vec<u8>) -> Vec<u8>| {
            let sound = |message: &[u8]| sign(self.signer.sign_bytes(message).expect("signature"));
            self.forge(&header, &self.payload(), sound)
        };
        let zero = |range: std::ops::Range<usize>| {
            move |mut signature: Vec<u8>| {
                signature[range.clone()].fill(0);
                signature
            }
        };
        let other = self.token(
            &header,
            &self.claims(r#""spiffe://example.org/admin""#, r#""orders""#, &self.seconds(300), ""),
        );
        let (_, signature) = other.rsplit_once('.').expect("a token");
        let good = self.token(&header, &self.payload());
        let (message, _) = good.rsplit_once('.').expect("a token");
        let flipped = |mut signature: Vec<u8>| {
            signature[40] ^= 1;
            signature
        };
        let by_stranger = |message: &[u8]| self.stranger.sign_bytes(message).expect("signature");
        let no_kid = r#"{"alg":"ES256","typ":"JWT"}"#;
        let tokens = vec![
            ("r is zero", forged(&zero(0..32))),
            ("s is zero", forged(&zero(32..64))),
            ("both are zero", forged(&zero(0..64))),
            ("both are too large", forged(&|_| vec![0xff; 64])),
            ("the form of X.509", forged(&|signature| der_form(&signature))),
            ("cut off", forged(&|signature| signature[..63].to_vec())),
            ("a byte too many", forged(&|signature| [signature, vec![0]].concat())),
            ("one bit", forged(&flipped)),
            ("one byte", forged(&|_| vec![1])),
            ("of another payload", format!("{message}.{signature}")),
            ("of another key", self.forge(&header, &self.payload(), by_stranger)),
            ("of another key, which is not named", self.forge(no_kid, &self.payload(), by_stranger)),
            ("encoded twice", forged(&|signature| STANDARD.encode(signature).into_bytes())),
        ];
        tokens.into_iter().map(|(name, token)| (name, token, "bad_signature")).collect()
    }

    /// A token without `kid`, which is legal.
    pub fn without_kid(&self) -> String {
        self.token(r#"{"alg":"ES256"}"#, &self.payload())
    }

    /// A sound token as the product composes it.
    pub fn composed(&self, ttl: Duration) -> String {
        let id = crate::SpiffeId::new(&domain("example.org"), "/web").expect("id");
        let claims = crate::JwtClaims {
            id: &id,
            audience: &[AUDIENCE.to_owned()],
            issued: self.now,
            expires: self.now + ttl,
            issuer: None,
            jti: Some("one"),
        };
        self.signer.sign(&claims).expect("token")
    }
}

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).expect("trust domain")
}

fn header(alg: &str, kid: &str) -> String {
    format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"JWT"}}"#)
}

/// Both numbers as an ASN.1 sequence.
fn der_form(signature: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| [&[2, 33, 0], bytes].concat();
    let both = [number(&signature[..32]), number(&signature[32..])].concat();
    [vec![0x30, u8::try_from(both.len()).expect("short")], both].concat()
}
