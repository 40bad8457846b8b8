//! A SPIFFE ID, parsed once at the edge. The only parser; everybody else holds the value (P4).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use crate::TrustDomain;
use crate::name::{ID_LIMIT, IdError, check_path, check_trust_domain};

const SCHEME: &str = "spiffe://";

/// `spiffe://trust-domain/path`, valid under SPIFFE-ID chapter 2. Cheap to clone.
#[derive(Clone)]
pub struct SpiffeId {
    text: Arc<str>,
    domain: TrustDomain,
}

impl SpiffeId {
    /// Parses and checks. Upper case in scheme or trust domain is refused (ID-09).
    ///
    /// # Errors
    /// Names the rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > ID_LIMIT {
            return Err(IdError::TooLong { limit: ID_LIMIT });
        }
        let rest = text.strip_prefix(SCHEME).ok_or(IdError::Scheme)?;
        let (domain, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        if domain.is_empty() {
            return Err(IdError::NoTrustDomain);
        }
        check_trust_domain(domain)?;
        check_path(path)?;
        Ok(Self { text: Arc::from(text), domain: TrustDomain::parse(domain)? })
    }

    /// Joins a trust domain and a path (`""` or `/a/b`).
    ///
    /// # Errors
    /// Names the rule that the path breaks.
    pub fn new(domain: &TrustDomain, path: &str) -> Result<Self, IdError> {
        // Before joining: a path without its slash would lengthen the name of the trust domain.
        check_path(path)?;
        Self::parse(&format!("{SCHEME}{domain}{path}"))
    }

    pub(crate) fn of_domain(domain: &TrustDomain) -> Self {
        Self { text: Arc::from(format!("{SCHEME}{domain}")), domain: domain.clone() }
    }

    /// The trust domain that vouches for this identity.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The path with its leading `/`, or `""` for the identity of a trust domain.
    pub fn path(&self) -> &str {
        let skip = SCHEME.len().saturating_add(self.domain.as_str().len());
        self.text.get(skip..).unwrap_or_default()
    }

    /// The whole identifier.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True when the identity belongs to `domain`.
    pub fn is_member_of(&self, domain: &TrustDomain) -> bool {
        self.domain == *domain
    }
}

impl PartialEq for SpiffeId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SpiffeId {}

impl PartialOrd for SpiffeId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SpiffeId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for SpiffeId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({})", self.text)
    }
}

impl AsRef<str> for SpiffeId {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl FromStr for SpiffeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

#[cfg(test)]
#[path = "spiffe_id/tests.rs"]
mod tests;
