//! `[[enforcer.issuer]]`: whose users may call, and where the keys come from that their tokens are signed with.

use enforcer_proxy::IssuerSettings;

use super::super::meant::{Issuer, Keys};
use super::super::read::Table;
use super::Meaning;

const NAME_LIMIT: usize = 32;

impl Meaning<'_> {
    pub(super) fn issuer(&mut self, table: &Table) -> Option<Issuer> {
        let (name, url) = (table.text("name")?.clone(), table.text("url")?.clone());
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > NAME_LIMIT || !name.bytes().all(is_plain) {
            let text = format!("`{name}` is no alias: a-z, 0-9 and -, at most {NAME_LIMIT} characters");
            self.wrong(table, "name", text);
        }
        let audience = table.texts("audience");
        if audience.is_empty() || audience.iter().any(String::is_empty) {
            let text =
                "without an audience, tokens for anybody would be taken: name the one that clients ask for";
            self.wrong(table, "audience", text.to_owned());
        }
        let (at, file) = (table.text("jwks_url").cloned(), table.path("jwks_file"));
        let roots = table.path("roots").map(|path| self.resolve(path));
        let keys = match (at, file) {
            (Some(_), Some(_)) => {
                self.wrong(
                    table,
                    "jwks_file",
                    "its keys come from jwks_url, or from jwks_file, not from both".to_owned(),
                );
                return None;
            }
            (None, Some(path)) => Keys::File(self.resolve(path)),
            (Some(url), None) => Keys::Url(url),
            (None, None) => Keys::Discovery,
        };
        match &keys {
            Keys::File(_) if roots.is_some() => {
                self.wrong(table, "roots", "a file has no server to verify".to_owned());
            }
            Keys::Url(url) => self.fetched(table, "jwks_url", url),
            Keys::Discovery => self.fetched(table, "url", &url),
            Keys::File(_) => {}
        }
        let passes_on = table.text("forward").is_none_or(|word| word == "on");
        let groups_claim = table.text("groups_claim")?.clone();
        Some(Issuer {
            believed: IssuerSettings { name, url, audience, groups_claim, passes_on },
            keys,
            roots,
        })
    }

    /// Keys that anybody on the way could exchange are none.
    fn fetched(&mut self, table: &Table, key: &str, url: &str) {
        let parsed = url.parse::<http::Uri>().ok();
        let is_https = parsed.as_ref().is_some_and(|uri| {
            uri.scheme_str() == Some("https") && uri.host().is_some() && !url.contains(['@', '#'])
        });
        if !is_https {
            let text = format!("`{url}` is no https URL; name a file with the keys in jwks_file instead");
            self.wrong(table, key, text);
        }
    }

    /// Whose users may call at a listener.
    pub(super) fn issuers(&mut self, table: &Table) -> Vec<String> {
        let issuers = table.texts("issuers");
        let is_bytes = table.text("profile").is_some_and(|profile| profile == "tcp");
        if !issuers.is_empty() && is_bytes {
            self.wrong(
                table,
                "issuers",
                "a token comes with a request, and this listener carries bytes".to_owned(),
            );
        }
        issuers
    }
}
