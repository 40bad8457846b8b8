//! Relationships with other trust domains: whose bundle is fetched, from where, and who must answer there (FE-03).
//!
//! Configured explicitly, never inferred. Pure: `authority::federation` writes them, `accept` judges documents, `fetch` is
//! the port of the way there. Refused: the own trust domain, a URL that is no plain https, the profile `https_spiffe`
//! without the identity that must answer.

use std::sync::Arc;
use std::time::Duration;

use base_ports::UnixTime;
use ca_identity::{Bundle, BundleError, JwksError, SpiffeId, TrustDomain};
use http::Uri;

mod accept;
mod fetch;
mod stored;

pub(crate) use accept::{accept, read};
pub use fetch::{ClosedFetch, Endpoint, EndpointPeer, FetchBundle, FetchError, Fetching, redirect};
pub(crate) use stored::{BundleRow, bundle_key, checked_key, checked_row, relation_key, relation_row};
pub(crate) use stored::{checked_at, relation_of};

/// Federated trust domains (identity.md 14).
pub(crate) const LIMIT: usize = 1024;
/// Bundles are asked for no more often than this, whatever their hint says (FE-07).
pub(crate) const POLL_FLOOR: Duration = Duration::from_secs(10);
/// And no more seldom; also bounds how long one can be relied on.
const POLL_CEILING: Duration = Duration::from_secs(7 * 86_400);
/// Without a bundle there is no hint (TB-09).
const POLL_DEFAULT: Duration = Duration::from_secs(300);
/// A bundle that was not seen for so many hints is not relied on (identity.md 3).
const STALE_HINTS: u32 = 10;
const URL_LIMIT: usize = 2048;

/// How the endpoint of another trust domain proves itself (SPIFFE Federation 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Profile {
    /// `https_web`: by a certificate of its name under web roots.
    Web,
    /// `https_spiffe`: by an SVID of exactly this identity.
    Spiffe(SpiffeId),
}

impl Profile {
    /// Its name in the standard.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Web => "https_web",
            Self::Spiffe(_) => "https_spiffe",
        }
    }

    /// The identity that must answer.
    pub fn endpoint_id(&self) -> Option<&SpiffeId> {
        match self {
            Self::Web => None,
            Self::Spiffe(id) => Some(id),
        }
    }

    /// From the name of the standard, and the identity that goes with `https_spiffe` alone.
    ///
    /// # Errors
    /// When the name is unknown, or the identity is missing or too much.
    pub fn of(name: &str, id: Option<SpiffeId>) -> Result<Self, FederationError> {
        match (name, id) {
            ("https_web", None) => Ok(Self::Web),
            ("https_spiffe", Some(id)) if !id.path().is_empty() => Ok(Self::Spiffe(id)),
            ("https_web" | "https_spiffe", _) => Err(FederationError::EndpointId),
            _ => Err(FederationError::Profile(name.to_owned())),
        }
    }
}

/// A relationship that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRelationship {
    /// Whose bundle.
    pub trust_domain: TrustDomain,
    /// Where it is fetched.
    pub url: String,
    /// Who must answer there.
    pub profile: Profile,
}

impl NewRelationship {
    /// FE-03, FE-04.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, own: &TrustDomain) -> Result<(), FederationError> {
        if self.trust_domain == *own {
            return Err(FederationError::OwnDomain(own.clone()));
        }
        check_url(&self.url).map(drop).ok_or_else(|| FederationError::Url(self.url.clone()))
    }

    /// Whether the first fetch is verified with the bundle that it is to bring (FE-05).
    pub fn needs_bundle(&self) -> bool {
        self.profile.endpoint_id().is_some_and(|id| id.is_member_of(&self.trust_domain))
    }
}

/// An absolute https URL without user and fragment.
pub(crate) fn check_url(url: &str) -> Option<Uri> {
    let uri: Uri = Some(url).filter(|url| url.len() <= URL_LIMIT && !url.contains('#'))?.parse().ok()?;
    let authority = uri.authority()?;
    let is_plain = !authority.as_str().contains('@') && !authority.host().is_empty();
    (uri.scheme_str() == Some("https") && is_plain).then_some(uri)
}

/// A relationship that is in force, with the bundle that is held.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Relationship {
    /// Whose bundle, where, and who answers.
    pub with: NewRelationship,
    /// True when the configuration file owns it.
    pub from_configuration: bool,
    /// When it was made.
    pub created_at: UnixTime,
    /// Grows with every change of the relationship itself.
    pub revision: u64,
    /// What verifies its identities; carries its own end of trust (`stale_after`).
    pub held: Option<Held>,
}

/// A bundle of another trust domain.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Held {
    /// The bundle.
    pub bundle: Arc<Bundle>,
    /// As it was published.
    pub document: Arc<str>,
    /// When it was last seen to be the newest.
    pub at: UnixTime,
    /// Who gave it: the endpoint, or a person.
    pub from: String,
}

impl Held {
    pub(crate) fn new(bundle: Bundle, document: Arc<str>, at: UnixTime, from: String) -> Self {
        let bundle = Arc::new(bundle);
        Self { bundle, document, at, from }.seen(at)
    }

    /// The same, seen to be the newest at `at`.
    pub(crate) fn seen(&self, at: UnixTime) -> Self {
        let limit = at + interval(&self.bundle).saturating_mul(STALE_HINTS);
        let bundle = Arc::new(Bundle::clone(&self.bundle).with_stale_after(limit));
        Self { bundle, document: Arc::clone(&self.document), at, from: self.from.clone() }
    }
}

impl Relationship {
    /// A word for how its identities stand: `current`, `stale`, `empty` or `none`.
    pub fn state(&self, now: UnixTime) -> &'static str {
        let Some(held) = &self.held else { return "none" };
        if held.bundle.anchors().is_empty() {
            return "empty";
        }
        if held.bundle.stale_after.is_some_and(|end| now > end) { "stale" } else { "current" }
    }

    /// How long until the next fetch (FE-07).
    pub fn interval(&self) -> Duration {
        self.held.as_ref().map_or(POLL_DEFAULT, |held| interval(&held.bundle))
    }
}

fn interval(bundle: &Bundle) -> Duration {
    bundle.refresh_hint.clamp(POLL_FLOOR, POLL_CEILING)
}

/// What came of the last fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fetched {
    /// When it ended.
    pub at: UnixTime,
    /// Who answered, or why nothing came of it.
    pub result: Result<String, FetchFault>,
}

/// Why nothing came of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchFault {
    /// A stable word.
    pub code: &'static str,
    /// What exactly.
    pub detail: String,
}

/// Why a relationship or a bundle is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FederationError {
    /// It is the own trust domain.
    #[error("`{0}` is the own trust domain; a relationship is with another one")]
    OwnDomain(TrustDomain),
    /// Not an absolute https URL.
    #[error("`{0}` is no https URL without user and fragment")]
    Url(String),
    /// An unknown profile.
    #[error("`{0}` is no profile; https_web or https_spiffe")]
    Profile(String),
    /// The identity of the endpoint is missing, has no path, or is too much.
    #[error(
        "https_spiffe names the SPIFFE ID, with a path, of who must answer at the URL; https_web names none"
    )]
    EndpointId,
    /// FE-05: nothing to verify the first answer with.
    #[error(
        "the endpoint of `{0}` proves itself with an SVID of `{0}`: give the first bundle with it, from a source that you trust"
    )]
    NeedsBundle(TrustDomain),
    /// As many as there may be.
    #[error("{LIMIT} trust domains are federated, which is as many as there may be")]
    TooMany,
    /// Not a bundle.
    #[error(transparent)]
    Document(#[from] JwksError),
    /// The text is neither a JWK Set nor certificates in PEM.
    #[error("the bundle is neither a JWK Set nor certificates in PEM: {0}")]
    Text(String),
    /// FB-02: older than what is held.
    #[error("the bundle has sequence {offered}, older than the {held} that is held")]
    Rollback {
        /// What is held.
        held: u64,
        /// What was offered.
        offered: u64,
    },
    /// TB-10, or too many keys together.
    #[error(transparent)]
    Shared(BundleError),
    /// It could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The relationship changed while its bundle was fetched.
    #[error("the relationship changed meanwhile")]
    Changed,
}

impl FederationError {
    /// A stable word for records, metrics and problem documents.
    pub fn code(&self) -> &'static str {
        match self {
            Self::OwnDomain(_) => "own_trust_domain",
            Self::Url(_) => "url_invalid",
            Self::Profile(_) => "profile_unknown",
            Self::EndpointId => "endpoint_id",
            Self::NeedsBundle(_) => "bundle_needed",
            Self::TooMany => "too_many_federations",
            Self::Document(fault) => document_code(fault),
            Self::Text(_) => "bundle_unreadable",
            Self::Rollback { .. } => "bundle_rollback",
            Self::Shared(_) => "shared_root",
            Self::Fetch(fault) => fault.code(),
            Self::Changed => "changed",
        }
    }
}

fn document_code(fault: &JwksError) -> &'static str {
    match fault {
        JwksError::TooLarge => "bundle_too_large",
        JwksError::Json(_) => "bundle_not_json",
        JwksError::NoKeys => "bundle_without_keys",
        JwksError::Bundle(BundleError::ForeignName { .. }) => "wrong_trust_domain",
        JwksError::Bundle(BundleError::Duplicate { .. } | BundleError::DuplicateKey(_)) => "duplicate_key",
        JwksError::Bundle(BundleError::TooMany) => "too_many_keys",
        JwksError::Bundle(_) | JwksError::JwtKey { .. } | JwksError::Base64(_) => "unusable_key",
        JwksError::Member(_) => "bundle_malformed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> TrustDomain {
        TrustDomain::parse(name).unwrap()
    }

    #[test]
    fn fe_03_a_relationship_is_explicit_about_whom_it_believes() {
        let own = domain("example.org");
        let with = |trust_domain: &str, url: &str| {
            let new = NewRelationship {
                trust_domain: domain(trust_domain),
                url: url.to_owned(),
                profile: Profile::Web,
            };
            new.check(&own).map_err(|fault| fault.code())
        };
        assert_eq!(with("partner.org", "https://partner.org/"), Ok(()));
        assert_eq!(with("partner.org", "https://[::1]:8443/bundle?a=b"), Ok(()));
        assert_eq!(with("example.org", "https://example.org/"), Err("own_trust_domain"));
        for url in [
            "",
            "partner.org",
            "http://partner.org/",
            "https://u@partner.org/",
            "https://",
            "https:///a",
            "https://a/#f",
        ] {
            assert_eq!(with("partner.org", url), Err("url_invalid"), "{url}");
        }
        let id = |text: &str| Some(SpiffeId::parse(text).unwrap());
        assert!(Profile::of("https_spiffe", id("spiffe://partner.org/bundle")).is_ok());
        for (name, id) in [
            ("https_spiffe", None),
            ("https_spiffe", id("spiffe://partner.org")),
            ("https_web", id("spiffe://partner.org/bundle")),
            ("http", None),
        ] {
            assert!(Profile::of(name, id).is_err(), "{name}");
        }
    }
}
