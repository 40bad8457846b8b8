//! A trust domain name: who vouches for an identity. Compared byte by byte, never resolved, no IDNA (ID-06).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::SpiffeId;
use crate::name::{IdError, check_trust_domain};

/// The name of a trust domain, such as `example.org`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses a bare name. `spiffe://` in front is not accepted: configuration says one thing one way.
    ///
    /// # Errors
    /// Names the rule of SPIFFE-ID 2.1 that the text breaks.
    pub fn parse(name: &str) -> Result<Self, IdError> {
        if name.is_empty() {
            return Err(IdError::Empty);
        }
        check_trust_domain(name)?;
        Ok(Self(Arc::from(name)))
    }

    /// The name, without scheme.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE ID of the domain itself, `spiffe://name`, which its authority carries (ID-10).
    pub fn id(&self) -> SpiffeId {
        SpiffeId::of_domain(self)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustDomain({})", self.0)
    }
}

impl AsRef<str> for TrustDomain {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = IdError;

    fn from_str(name: &str) -> Result<Self, IdError> {
        Self::parse(name)
    }
}
