//! Whom a verified token names, in the words of policies.

use std::collections::BTreeMap;
use std::sync::Arc;

use ca_identity::UserToken;
use policies_engine::{Credential, Token};
use serde_json::{Map, Value};

use super::Issuer;

/// Groups of one token that policies see.
const GROUPS: usize = 256;
/// Members deep that a claim with groups may lie.
const DEPTH: usize = 8;

/// A person, until the token ends or the key that signed it is withdrawn.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) token: Arc<Token>,
    issuer: Arc<Issuer>,
    key: String,
    jti: Option<String>,
}

impl Person {
    pub(super) fn new(issuer: &Arc<Issuer>, verified: &UserToken) -> Self {
        Self {
            token: Arc::new(token(issuer, verified)),
            issuer: Arc::clone(issuer),
            key: verified.key.clone(),
            jti: verified.jti.clone(),
        }
    }

    /// Whether its issuer still signs with the key of the token.
    pub(crate) fn holds(&self) -> bool {
        self.issuer.knows(&self.key)
    }

    /// Whether endpoints receive the token.
    pub(crate) fn is_passed_on(&self) -> bool {
        self.issuer.settings.passes_on
    }

    /// The token as records tell it.
    pub(crate) fn credential(&self) -> Credential {
        Credential::token(self.jti.clone(), self.key.clone(), self.token.expires)
    }
}

fn token(issuer: &Issuer, verified: &UserToken) -> Token {
    let settings = &issuer.settings;
    let claims = &verified.claims;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
    let groups = found(claims, &settings.groups_claim).map(texts).unwrap_or_default();
    let mut token = Token::new(&settings.name, &verified.subject, verified.issued, verified.expires)
        .in_groups(groups.iter().map(String::as_str).take(GROUPS));
    // Others could have written an address that nobody checked.
    let is_verified = claims.get("email_verified").is_some_and(|said| *said == true || said == "true");
    token.email = text("email").filter(|_| is_verified);
    token.audience = verified.audience.clone();
    token.scopes = scopes(claims);
    token.client = text("azp").or_else(|| text("client_id"));
    token.acr = text("acr");
    token.amr = claims.get("amr").map(texts).unwrap_or_default();
    token.claims = claims.iter().filter_map(told).collect::<BTreeMap<_, _>>();
    token
}

/// `scope` is a list of words (RFC 8693 4.2); some issuers write `scp`.
fn scopes(claims: &Map<String, Value>) -> Vec<String> {
    let all = claims.get("scope").or_else(|| claims.get("scp")).map(texts).unwrap_or_default();
    all.iter().flat_map(|words| words.split_ascii_whitespace()).map(str::to_owned).collect()
}

/// The claim of that name, else what lies in one: `realm_access.roles`.
fn found<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let mut names = path.splitn(DEPTH, '.');
    let first = claims.get(names.next()?)?;
    names.try_fold(first, |within, name| within.get(name))
}

/// A claim that is a text, a whole number, true or false, or a list of these.
fn told((name, value): (&String, &Value)) -> Option<(String, Vec<String>)> {
    let texts = texts(value);
    let is_list = value.as_array().is_some_and(Vec::is_empty);
    (is_list || !texts.is_empty()).then(|| (name.clone(), texts))
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(one).collect(),
        one_alone => one(one_alone).into_iter().collect(),
    }
}

fn one(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) => Some(value.to_string()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts_of(pairs: &[&str]) -> Vec<String> {
        pairs.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn groups_lie_in_a_claim_or_within_one() {
        let claims = json!({
            "groups": ["a", 7, {}, "b"], "https://x.example/g": "one",
            "realm_access": { "roles": ["r"] }, "a.b": ["dotted"], "a": { "b": ["within"] },
        });
        let groups = |path: &str| found(claims.as_object().unwrap(), path).map(texts);
        assert_eq!(groups("groups"), Some(texts_of(&["a", "7", "b"])));
        assert_eq!(groups("https://x.example/g"), Some(texts_of(&["one"])));
        assert_eq!(groups("realm_access.roles"), Some(texts_of(&["r"])));
        assert_eq!(groups("a.b"), Some(texts_of(&["dotted"])));
        assert_eq!(groups("a.b.c"), None);
        assert_eq!(groups("none"), None);
    }

    #[test]
    fn scopes_are_words_however_they_are_written() {
        let of = |claims: Value| scopes(claims.as_object().unwrap());
        assert_eq!(of(json!({ "scope": "read  write" })), ["read", "write"]);
        assert_eq!(of(json!({ "scp": ["read", "write"] })), ["read", "write"]);
        assert_eq!(of(json!({ "scope": { "read": true } })), texts_of(&[]));
        assert_eq!(of(json!({})), texts_of(&[]));
    }

    #[test]
    fn claims_that_are_no_texts_are_not_told() {
        let claims =
            json!({ "tenant": 42, "on": true, "none": [], "deep": { "a": 1 }, "half": 0.5, "null": null });
        let told: Vec<_> = claims.as_object().unwrap().iter().filter_map(told).collect();
        let pair = |name: &str, texts: &[&str]| (name.to_owned(), texts_of(texts));
        let mut wanted = vec![pair("tenant", &["42"]), pair("on", &["true"]), pair("none", &[])];
        wanted.sort();
        let mut told = told;
        told.sort();
        assert_eq!(told, wanted);
    }
}
