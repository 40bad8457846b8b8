//! The way to the bundle endpoint of another trust domain, as a port: `portcullis` fills it with TLS and HTTP, tests with
//! answers. The rule for redirects is here, because it is pure (FE-06).

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use ca_identity::{Bundle, SpiffeId, TrustDomain};
use http::Uri;

use super::check_url;

/// Fetches documents of other trust domains.
pub trait FetchBundle: Send + Sync + fmt::Debug {
    /// The document at `endpoint`, once its server has proven itself. At most 1 MiB; the caller bounds the time.
    fn fetch(&self, endpoint: Endpoint) -> Fetching;
}

/// A fetch on its way. Dropping it gives it up.
pub type Fetching = Pin<Box<dyn Future<Output = Result<Vec<u8>, FetchError>> + Send>>;

/// Where a bundle is, and who must be there.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// An https URL.
    pub url: String,
    /// Who must answer.
    pub peer: EndpointPeer,
}

/// Who must answer at an endpoint (FE-05).
#[derive(Debug, Clone)]
pub enum EndpointPeer {
    /// Whoever has a certificate of the URL's host under web roots.
    Web,
    /// Exactly this identity.
    Spiffe {
        /// Who.
        id: SpiffeId,
        /// What verifies it: of its own trust domain.
        bundle: Arc<Bundle>,
    },
}

/// Why nothing was fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Too slow.
    #[error("no whole answer within 10 s")]
    Timeout,
    /// Nobody knows the host.
    #[error("`{host}` has no address: {reason}")]
    Resolve {
        /// The host.
        host: String,
        /// What was said.
        reason: String,
    },
    /// NA-07: the name leads to a place that is not fetched from.
    #[error(
        "`{host}` leads to {address}, which is loopback, link-local or a metadata service; list it in ca.fetch_from if it is meant"
    )]
    Address {
        /// The host.
        host: String,
        /// Where it leads.
        address: IpAddr,
    },
    /// Nobody listens there.
    #[error("`{host}` cannot be reached: {reason}")]
    Connect {
        /// The host.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// The server has not proven itself, or speaks no TLS.
    #[error("the server has not proven itself: {0}")]
    Tls(String),
    /// It is somebody, but not the one.
    #[error("the server is not the one that must answer: {0}")]
    Identity(String),
    /// FE-06: a redirect that is not followed.
    #[error("the redirect is not followed: {0}")]
    Redirect(String),
    /// Not 200.
    #[error("the server answered {0}")]
    Status(u16),
    /// Over 1 MiB.
    #[error("the answer is larger than 1 MiB")]
    TooLarge,
    /// The answer broke off or is no HTTP.
    #[error("the answer cannot be read: {0}")]
    Answer(String),
    /// FE-05: nothing to verify the server with.
    #[error(
        "there is no bundle of `{0}`, whose SVID the server must show; `portcullis bundle set {0} FILE` gives one"
    )]
    NoBundle(TrustDomain),
    /// The web roots of this machine cannot be read.
    #[error("web roots: {0}")]
    Roots(String),
    /// Nothing is fetched in this process.
    #[error("nothing is fetched here")]
    Closed,
}

impl FetchError {
    /// A stable word for records and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Resolve { .. } => "unresolved",
            Self::Address { .. } => "address_refused",
            Self::Connect { .. } => "unreachable",
            Self::Tls(_) => "tls",
            Self::Identity(_) => "wrong_identity",
            Self::Redirect(_) => "redirect",
            Self::Status(_) => "status",
            Self::TooLarge => "bundle_too_large",
            Self::Answer(_) => "answer_unreadable",
            Self::NoBundle(_) => "no_bundle",
            Self::Roots(_) => "web_roots",
            Self::Closed => "closed",
        }
    }
}

/// Redirects that are followed (identity.md 3).
const REDIRECTS: usize = 3;

/// Where a redirect leads, when it is followed: a temporary one, to a valid https URL, and not the fourth (FE-06).
///
/// # Errors
/// Why it is not followed.
pub fn redirect(from: &Uri, status: u16, location: Option<&str>, followed: usize) -> Result<Uri, FetchError> {
    let refuse = |why: String| Err(FetchError::Redirect(why));
    if !matches!(status, 302 | 303 | 307) {
        return refuse(format!("{status} is not temporary"));
    }
    if followed >= REDIRECTS {
        return refuse(format!("it is the {}th", followed.saturating_add(1)));
    }
    let Some(location) = location else { return refuse("it leads nowhere".to_owned()) };
    let is_path = location.starts_with('/') && !location.starts_with("//");
    let target = match from.authority() {
        Some(authority) if is_path => format!("https://{authority}{location}"),
        _ => location.to_owned(),
    };
    check_url(&target).map_or_else(|| refuse(format!("`{location}` is no https URL")), Ok)
}

/// Fetches nothing: the state before the network is wired in.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClosedFetch;

impl FetchBundle for ClosedFetch {
    fn fetch(&self, _: Endpoint) -> Fetching {
        Box::pin(std::future::ready(Err(FetchError::Closed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fe_06_only_temporary_redirects_to_https_are_followed_and_no_more_than_three() {
        let from: Uri = "https://partner.org:8443/a".parse().unwrap();
        let to = |status, location: &str, followed| {
            redirect(&from, status, Some(location), followed).map(|uri| uri.to_string())
        };
        for status in [302, 303, 307] {
            assert_eq!(to(status, "https://other.org/b?c", 0).as_deref(), Ok("https://other.org/b?c"));
        }
        assert_eq!(to(307, "/b", 2).as_deref(), Ok("https://partner.org:8443/b"));
        for (status, location, followed) in [
            (301, "https://other.org/", 0),
            (308, "https://other.org/", 0),
            (300, "https://other.org/", 0),
            (304, "https://other.org/", 0),
            (302, "http://other.org/", 0),
            (302, "//other.org/", 0),
            (302, "b", 0),
            (302, "", 0),
            (302, "https://u@other.org/", 0),
            (302, "file:///etc/passwd", 0),
            (302, "https://other.org/", 3),
        ] {
            assert_eq!(to(status, location, followed).unwrap_err().code(), "redirect", "{status} {location}");
        }
        assert!(redirect(&from, 302, None, 0).is_err());
    }
}
