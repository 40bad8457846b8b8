//! What a verified token tells of the person it names: the schema's `Token`, and the `User` entity that comes with it.
//! Made once per token by whoever verified it; a call brings it in its facts.

use base_ports::UnixTime;
use std::collections::BTreeMap;

/// A verified token of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Id of the entity `User`: `corp/4711`.
    user: Box<str>,
    /// Alias of the issuer in the configuration.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// Ids of the `UserGroup` entities the person is in, `corp/refunds`; sorted, each once.
    groups: Vec<String>,
    /// Address, where the issuer says that it verified it.
    pub email: Option<String>,
    /// `aud`.
    pub audience: Vec<String>,
    /// The words of `scope`, or `scp`.
    pub scopes: Vec<String>,
    /// `azp`, or `client_id`.
    pub client: Option<String>,
    /// `acr`.
    pub acr: Option<String>,
    /// `amr`; empty where the token has none.
    pub amr: Vec<String>,
    /// `iat`.
    pub issued: UnixTime,
    /// `exp`.
    pub expires: UnixTime,
    /// Claims that are a text or a list of texts, by name: `context.jwt.claims` and the tags of the user.
    pub claims: BTreeMap<String, Vec<String>>,
}

impl Token {
    /// A token of `issuer`, by its alias, for `subject`, that tells no more than its times.
    #[must_use]
    pub fn new(issuer: &str, subject: &str, issued: UnixTime, expires: UnixTime) -> Token {
        Token {
            user: format!("{issuer}/{subject}").into(),
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            groups: Vec::new(),
            email: None,
            audience: Vec::new(),
            scopes: Vec::new(),
            client: None,
            acr: None,
            amr: Vec::new(),
            issued,
            expires,
            claims: BTreeMap::new(),
        }
    }

    /// With groups, by their names at the issuer: no issuer can tell of another one's (MO2).
    #[must_use]
    pub fn in_groups<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Token {
        let mut groups: Vec<String> =
            names.into_iter().map(|name| format!("{}/{name}", self.issuer)).collect();
        groups.sort_unstable();
        groups.dedup();
        Token { groups, ..self }
    }

    /// Id of the entity `User`.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Ids of the entities `UserGroup`, sorted.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// An attribute of the entity `User`.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        match name {
            "issuer" => Some(&self.issuer),
            "subject" => Some(&self.subject),
            "email" => self.email.as_deref(),
            _ => None,
        }
    }

    /// Whether the user is that entity, or in it.
    pub(crate) fn is_in(&self, kind: &str, id: &str) -> bool {
        match kind {
            "User" => *self.user == *id,
            "UserGroup" => self.groups.iter().any(|group| group == id),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mo2_groups_belong_to_their_issuer() {
        let token = Token::new("corp", "4711", UnixTime::from_secs(0), UnixTime::from_secs(60));
        let token = token.in_groups(["refunds", "admins", "refunds"]);
        assert_eq!(
            (token.user(), token.groups()),
            ("corp/4711", &["corp/admins".to_owned(), "corp/refunds".to_owned()][..])
        );
        assert!(token.is_in("UserGroup", "corp/refunds") && token.is_in("User", "corp/4711"));
        assert!(!token.is_in("Group", "corp/refunds") && !token.is_in("UserGroup", "other/refunds"));
    }
}
