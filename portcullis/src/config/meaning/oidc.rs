//! What `[oidc]` means: under which URL tokens are verified without SPIFFE, and where that is served.
//!
//! Refused: an issuer that is no plain https URL, https without a certificate, plain http beyond loopback.

use axum::http::Uri;
use base_net::Bind;
use ca_authority::service;

use super::super::meant::Oidc;
use super::super::read::Table;
use super::super::value::Address;
use super::Meaning;

/// Any local proxy may connect; what is served is public.
const SOCKET_MODE: u32 = 0o777;

impl Meaning<'_> {
    pub(super) fn oidc(&mut self, section: &Table) -> Option<Oidc> {
        let issuer = section.text("issuer")?.clone();
        let Some((host, path)) = parts(&issuer) else {
            let text = format!("`{issuer}` is no https URL without user, query and fragment");
            self.wrong(section, "issuer", text);
            return None;
        };
        let mut hosts: Vec<_> = section.texts("hosts").iter().map(|host| host.to_ascii_lowercase()).collect();
        hosts.push(host);
        let certificate = section.table("certificate");
        let files = certificate.and_then(|table| Some((table.path("chain")?, table.path("key")?)));
        let files = files.map(|(chain, key)| (self.resolve(chain), self.resolve(key)));
        let (bind, is_tls) = match section.address("listen")? {
            Address::Unix(path) => {
                let path = self.resolve(path);
                self.socket(section, "listen", &path);
                (Bind::Unix { path, mode: SOCKET_MODE }, false)
            }
            Address::Socket { scheme, addr } => {
                if *scheme == "http" && !addr.ip().is_loopback() {
                    let text = format!("`http://{addr}` is not on loopback");
                    let help =
                        "serve https:// with [oidc.certificate], or put a proxy that does TLS before it";
                    self.messages.push(self.fault("PC0131", section, "listen", text).help(help));
                }
                (Bind::Tcp(*addr), *scheme == "https")
            }
            Address::Name { .. } => return None,
        };
        match (is_tls, &files) {
            (true, None) => self.wrong(
                section,
                "listen",
                "https:// needs [oidc.certificate] with chain and key: clients know no SPIFFE".to_owned(),
            ),
            (false, Some(_)) => {
                self.wrong(section, "certificate", "a certificate is of use with https:// only".to_owned());
            }
            _ => {}
        }
        let names_use = section.text("key_use").is_some_and(|word| word == "sig");
        let published = service::Oidc { issuer, path, hosts, names_use };
        Some(Oidc { published, bind, certificate: files })
    }
}

/// Host, lower-case, and path, without slash at its end, of an issuer.
fn parts(issuer: &str) -> Option<(String, String)> {
    if issuer.contains(['#', '?', '@']) {
        return None;
    }
    let uri: Uri = issuer.parse().ok()?;
    let host = uri.host().filter(|host| uri.scheme_str() == Some("https") && !host.is_empty())?;
    // Segments of a router: neither empty nor with its own signs.
    let path = uri.path().trim_end_matches('/');
    let is_plain = !path.contains("//") && !path.contains(['{', '}', ':', '*', '%']);
    is_plain.then(|| (host.to_ascii_lowercase(), path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_a_plain_https_url() {
        let is = |text: &str, host: &str, path: &str| {
            assert_eq!(parts(text), Some((host.to_owned(), path.to_owned())), "{text}");
        };
        is("https://oidc.example.org", "oidc.example.org", "");
        is("https://OIDC.example.org:8443/", "oidc.example.org", "");
        is("https://[::1]:8443/tenant/a", "[::1]", "/tenant/a");
        for text in [
            "",
            "oidc.example.org",
            "http://oidc.example.org",
            "https://",
            "https:///a",
            "https://u@oidc.example.org",
            "https://oidc.example.org?a",
            "https://oidc.example.org/#a",
            "https://oidc.example.org//a",
            "https://oidc.example.org/{a}",
            "https://oidc example.org",
        ] {
            assert_eq!(parts(text), None, "{text}");
        }
    }
}
