//! What an authority is told at start. Values that would issue certificates outliving their issuer are refused here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ca_identity::TrustDomain;

use crate::error::AuthorityError;

/// Path of the id of an authority itself (S23): of its records, where its process enforces nothing, and of tokens that
/// prove a key.
pub const AUTHORITY_PATH: &str = "/portcullis/ca";
/// Shortest lifetime of an SVID (identity.md 3).
pub(crate) const SVID_TTL_FLOOR: Duration = Duration::from_secs(300);
/// Shortest lifetime of a JWT-SVID: well above the leeway of verifiers, so that half of it is worth keeping.
pub(crate) const JWT_TTL_FLOOR: Duration = Duration::from_secs(60);
/// An SVID lives at most this part of a signing CA's lifetime (identity.md 3).
pub(crate) const SVID_TTL_SHARE: u32 = 6;
const BACKDATE_LIMIT: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(86_400);

/// Settings of one authority.
#[derive(Debug, Clone)]
pub struct Config {
    /// The trust domain that it vouches for.
    pub trust_domain: TrustDomain,
    /// Where sealed key files stand.
    pub keys_dir: PathBuf,
    /// The file with the sealing key.
    pub seal_key_path: PathBuf,
    /// Lifetime of an SVID whose entry says nothing; default 1 h.
    pub svid_ttl: Duration,
    /// Lifetime of the SVID of an agent; default 24 h. A host that slept for less needs no new token.
    pub agent_ttl: Duration,
    /// Lifetime of a root; default 365 d.
    pub root_ttl: Duration,
    /// Lifetime of a signing CA; default 7 d.
    pub signing_ttl: Duration,
    /// Lifetime of a JWT-SVID whose entry says nothing; default 5 min.
    pub jwt_ttl: Duration,
    /// Lifetime of a key that signs JWT-SVIDs; default 7 d.
    pub jwt_key_ttl: Duration,
    /// `iss` of JWT-SVIDs: the URL of the discovery document, byte for byte; `None` leaves it out (DF-10).
    pub jwt_issuer: Option<String>,
    /// How often other trust domains fetch the bundle, where they can; a new root waits five times as long (AU-05).
    pub outside_hint: Option<Duration>,
    /// How far notBefore lies in the past; default 60 s.
    pub backdate: Duration,
    /// Make new keys although old ones are missing or left over. The operator's explicit word, never a default.
    pub force_new: bool,
}

impl Config {
    /// Defaults, with keys below `data_dir` (S23).
    pub fn new(trust_domain: TrustDomain, data_dir: &Path) -> Self {
        Self {
            trust_domain,
            keys_dir: data_dir.join("keys"),
            seal_key_path: data_dir.join("seal.key"),
            svid_ttl: Duration::from_secs(3600),
            agent_ttl: DAY,
            root_ttl: DAY.saturating_mul(365),
            signing_ttl: DAY.saturating_mul(7),
            jwt_ttl: Duration::from_secs(300),
            jwt_key_ttl: DAY.saturating_mul(7),
            jwt_issuer: None,
            outside_hint: None,
            backdate: Duration::from_secs(60),
            force_new: false,
        }
    }

    /// The longest SVID that a signing CA of the configured lifetime may issue.
    pub(crate) fn svid_ttl_cap(&self) -> Duration {
        self.signing_ttl.checked_div(SVID_TTL_SHARE).unwrap_or_default()
    }

    /// The longest JWT-SVID that a key of the configured lifetime may sign.
    pub(crate) fn jwt_ttl_cap(&self) -> Duration {
        self.jwt_key_ttl.checked_div(SVID_TTL_SHARE).unwrap_or_default()
    }

    pub(crate) fn check(&self) -> Result<(), AuthorityError> {
        if self.svid_ttl < SVID_TTL_FLOOR {
            return Err(AuthorityError::TtlTooShort { ttl: self.svid_ttl });
        }
        if self.svid_ttl > self.svid_ttl_cap() {
            let needed = self.svid_ttl.saturating_mul(SVID_TTL_SHARE);
            return Err(AuthorityError::TtlTooLong { ttl: self.svid_ttl, signing: self.signing_ttl, needed });
        }
        if !(JWT_TTL_FLOOR..=self.jwt_ttl_cap()).contains(&self.jwt_ttl) {
            return Err(AuthorityError::JwtTtl { ttl: self.jwt_ttl, longest: self.jwt_ttl_cap() });
        }
        if self.signing_ttl > self.root_ttl {
            return Err(AuthorityError::RootTtlTooShort { root: self.root_ttl, signing: self.signing_ttl });
        }
        if self.backdate > BACKDATE_LIMIT {
            return Err(AuthorityError::BackdateTooLong { backdate: self.backdate });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_svid_ttl_above_a_sixth_of_the_signing_ca_names_the_lifetime_needed() {
        let domain = TrustDomain::parse("example.org").unwrap();
        let good = Config::new(domain, Path::new("/data"));
        assert!(good.check().is_ok());
        let long = Config { svid_ttl: DAY * 2, ..good.clone() };
        let text = long.check().unwrap_err().to_string();
        assert!(text.contains("12d"), "{text}");
        assert!(Config { svid_ttl: Duration::from_secs(299), ..good.clone() }.check().is_err());
        assert!(Config { backdate: Duration::from_secs(301), ..good.clone() }.check().is_err());
        for ttl in [Duration::from_secs(59), DAY * 2] {
            let text = Config { jwt_ttl: ttl, ..good.clone() }.check().unwrap_err().to_string();
            assert!(text.contains("between 1m and 28h"), "{text}");
        }
        assert!(Config { root_ttl: DAY, ..good }.check().is_err());
    }
}
