//! Registration entries: which workload, on which agent, gets which identity (EN-01 to EN-04).

use std::collections::BTreeMap;
use std::time::Duration;

use base_ports::UnixTime;
use ca_identity::{IdError, Selector, SelectorError, SpiffeId, TrustDomain};

use crate::config::{JWT_TTL_FLOOR, SVID_TTL_FLOOR};

mod index;
mod stored;

pub(crate) use index::Index;
pub(crate) use stored::{from_row, name_key, row_key, to_row};

const SELECTOR_LIMIT: usize = 64;
const DNS_NAME_LIMIT: usize = 32;
const FEDERATES_LIMIT: usize = 64;
const HINT_LIMIT: usize = 1024;
const LABEL_LIMIT: usize = 64;
const LABEL_SIZE_LIMIT: usize = 256;
const NAMESPACE_LIMIT: usize = 253;
/// Paths that belong to this product and to SPIRE (EN-03).
const RESERVED: [&str; 2] = ["/portcullis/", "/spire/"];

/// What an entry is to say, before it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// The identity that it grants.
    pub spiffe_id: SpiffeId,
    /// The agent that it belongs to; `None` is every agent of the domain (S23).
    pub parent_id: Option<SpiffeId>,
    /// All must be true of the workload. Never empty.
    pub selectors: Vec<Selector>,
    /// Lifetime of its SVIDs; `None` is the authority's default. Longer than the authority can give is clamped.
    pub x509_ttl: Option<Duration>,
    /// Lifetime of its JWT-SVIDs; `None` is the authority's default. Longer than the authority can give is clamped.
    pub jwt_ttl: Option<Duration>,
    /// Its JWT-SVIDs carry `jti`, a name of their own (DF-09).
    pub jwt_jti: bool,
    /// DNS names that go into the SVID.
    pub dns_names: Vec<String>,
    /// Other trust domains whose bundles its workloads get.
    pub federates_with: Vec<TrustDomain>,
    /// How a workload with several identities tells them apart.
    pub hint: Option<String>,
    /// The namespace of the registrar.
    pub namespace: Option<String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// After this time nothing is issued.
    pub expires_at: Option<UnixTime>,
}

impl NewEntry {
    /// An entry for every agent, with the defaults.
    pub fn new(spiffe_id: SpiffeId, selectors: Vec<Selector>) -> Self {
        Self {
            spiffe_id,
            parent_id: None,
            selectors,
            x509_ttl: None,
            jwt_ttl: None,
            jwt_jti: false,
            dns_names: Vec::new(),
            federates_with: Vec::new(),
            hint: None,
            namespace: None,
            labels: BTreeMap::new(),
            expires_at: None,
        }
    }

    /// The same with selectors and DNS names sorted and without repetition, so that equal entries compare equal.
    pub(crate) fn normalized(mut self) -> Self {
        self.selectors.sort();
        self.selectors.dedup();
        self.dns_names.sort();
        self.dns_names.dedup();
        self.federates_with.sort();
        self.federates_with.dedup();
        self.hint = self.hint.filter(|hint| !hint.is_empty());
        self
    }

    /// EN-02 and EN-03.
    ///
    /// # Errors
    /// The first rule that the entry breaks.
    pub fn check(&self, domain: &TrustDomain) -> Result<(), EntryError> {
        if let Some(parent) = self.parent_id.as_ref().filter(|parent| !parent.is_member_of(domain)) {
            return Err(EntryError::ForeignTrustDomain { id: parent.clone(), domain: domain.clone() });
        }
        check_identity(domain, &self.spiffe_id, &self.dns_names)?;
        if self.federates_with.len() > FEDERATES_LIMIT {
            return Err(EntryError::TooMany { what: "federates_with", limit: FEDERATES_LIMIT });
        }
        if self.federates_with.contains(domain) {
            return Err(EntryError::FederatesWithItself(domain.clone()));
        }
        if self.selectors.is_empty() {
            return Err(EntryError::NoSelectors);
        }
        if self.selectors.len() > SELECTOR_LIMIT {
            return Err(EntryError::TooMany { what: "selectors", limit: SELECTOR_LIMIT });
        }
        if self.x509_ttl.is_some_and(|ttl| ttl < SVID_TTL_FLOOR) {
            return Err(EntryError::TtlTooShort);
        }
        if self.jwt_ttl.is_some_and(|ttl| ttl < JWT_TTL_FLOOR) {
            return Err(EntryError::JwtTtlTooShort);
        }
        if self.hint.as_ref().is_some_and(|hint| hint.len() > HINT_LIMIT) {
            return Err(EntryError::TooLong { what: "hint", limit: HINT_LIMIT });
        }
        if let Some(namespace) = &self.namespace {
            check_word("namespace", namespace, NAMESPACE_LIMIT)?;
        }
        if self.labels.len() > LABEL_LIMIT {
            return Err(EntryError::TooMany { what: "labels", limit: LABEL_LIMIT });
        }
        for (name, value) in &self.labels {
            check_word("labels", name, LABEL_SIZE_LIMIT)?;
            if value.len() > LABEL_SIZE_LIMIT || value.chars().any(char::is_control) {
                return Err(EntryError::Word { what: "labels", text: name.clone() });
            }
        }
        Ok(())
    }
}

/// What holds for every identity that people may configure, with or without an entry.
///
/// # Errors
/// The first rule that the identity breaks.
pub fn check_identity(domain: &TrustDomain, id: &SpiffeId, dns_names: &[String]) -> Result<(), EntryError> {
    if !id.is_member_of(domain) {
        return Err(EntryError::ForeignTrustDomain { id: id.clone(), domain: domain.clone() });
    }
    if id.path().is_empty() {
        return Err(EntryError::NoPath(id.clone()));
    }
    if RESERVED.iter().any(|reserved| id.path().starts_with(reserved)) {
        return Err(EntryError::Reserved(id.clone()));
    }
    if dns_names.len() > DNS_NAME_LIMIT {
        return Err(EntryError::TooMany { what: "dns_names", limit: DNS_NAME_LIMIT });
    }
    match dns_names.iter().find(|name| !is_dns_name(name)) {
        Some(name) => Err(EntryError::DnsName(name.clone())),
        None => Ok(()),
    }
}

fn check_word(what: &'static str, text: &str, limit: usize) -> Result<(), EntryError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
    if text.is_empty() || text.len() > limit || !text.bytes().all(allowed) {
        return Err(EntryError::Word { what, text: text.to_owned() });
    }
    Ok(())
}

/// Lower-case letters, digits and hyphens in labels of 1 to 63 bytes; no wildcard.
pub(crate) fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// A registered entry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntryRecord {
    /// Its name, made by the authority.
    pub id: String,
    /// The identity that it grants.
    pub spiffe_id: SpiffeId,
    /// The agent that it belongs to; `None` is every agent.
    pub parent_id: Option<SpiffeId>,
    /// All must be true of the workload.
    pub selectors: Vec<Selector>,
    /// Lifetime of its SVIDs, when not the default.
    pub x509_ttl: Option<Duration>,
    /// Lifetime of its JWT-SVIDs, when not the default.
    pub jwt_ttl: Option<Duration>,
    /// Its JWT-SVIDs carry `jti`.
    pub jwt_jti: bool,
    /// DNS names that go into the SVID.
    pub dns_names: Vec<String>,
    /// Other trust domains whose bundles its workloads get.
    pub federates_with: Vec<TrustDomain>,
    /// How a workload tells several identities apart.
    pub hint: Option<String>,
    /// The namespace of the registrar.
    pub namespace: Option<String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// After this time nothing is issued.
    pub expires_at: Option<UnixTime>,
    /// Grows with every change; what a conditional write compares.
    pub revision: u64,
    /// When it was registered.
    pub created_at: UnixTime,
    /// True when the configuration file owns it.
    pub from_configuration: bool,
}

impl EntryRecord {
    pub(crate) fn of(
        id: String,
        new: NewEntry,
        revision: u64,
        created_at: UnixTime,
        from_configuration: bool,
    ) -> Self {
        let NewEntry {
            spiffe_id,
            parent_id,
            selectors,
            x509_ttl,
            jwt_ttl,
            jwt_jti,
            dns_names,
            federates_with,
            hint,
            namespace,
            labels,
            expires_at,
        } = new;
        Self {
            id,
            spiffe_id,
            parent_id,
            selectors,
            x509_ttl,
            jwt_ttl,
            jwt_jti,
            dns_names,
            federates_with,
            hint,
            namespace,
            labels,
            expires_at,
            revision,
            created_at,
            from_configuration,
        }
    }

    /// What it says, without what the authority added.
    pub fn to_new(&self) -> NewEntry {
        NewEntry {
            spiffe_id: self.spiffe_id.clone(),
            parent_id: self.parent_id.clone(),
            selectors: self.selectors.clone(),
            x509_ttl: self.x509_ttl,
            jwt_ttl: self.jwt_ttl,
            jwt_jti: self.jwt_jti,
            dns_names: self.dns_names.clone(),
            federates_with: self.federates_with.clone(),
            hint: self.hint.clone(),
            namespace: self.namespace.clone(),
            labels: self.labels.clone(),
            expires_at: self.expires_at,
        }
    }

    /// True when `agent` may have it signed (IS-03).
    pub fn belongs_to(&self, agent: &SpiffeId) -> bool {
        self.parent_id.as_ref().is_none_or(|parent| parent == agent)
    }
}

/// Which entries a list shows. Every condition that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// Grants this identity.
    pub spiffe_id: Option<SpiffeId>,
    /// Belongs to this agent.
    pub parent_id: Option<SpiffeId>,
    /// Asks for this selector.
    pub selector: Option<Selector>,
    /// Is in this namespace.
    pub namespace: Option<String>,
}

impl EntryFilter {
    pub(crate) fn matches(&self, entry: &EntryRecord) -> bool {
        self.spiffe_id.as_ref().is_none_or(|id| *id == entry.spiffe_id)
            && self.parent_id.as_ref().is_none_or(|parent| entry.parent_id.as_ref() == Some(parent))
            && self.selector.as_ref().is_none_or(|selector| entry.selectors.contains(selector))
            && self.namespace.as_ref().is_none_or(|name| entry.namespace.as_ref() == Some(name))
    }
}

/// Which rule an entry breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not a SPIFFE ID.
    #[error("`{text}` is not a SPIFFE ID: {reason}")]
    SpiffeId {
        /// As written.
        text: String,
        /// The broken rule.
        reason: IdError,
    },
    /// Not a selector.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// EN-03: an identity outside the own trust domain.
    #[error("`{id}` is not in the trust domain `{domain}`")]
    ForeignTrustDomain {
        /// The identity.
        id: SpiffeId,
        /// Our domain.
        domain: TrustDomain,
    },
    /// A workload's identity has a path.
    #[error("`{0}` names the trust domain itself; a workload needs a path")]
    NoPath(SpiffeId),
    /// EN-03: a reserved path.
    #[error("paths below /portcullis/ and /spire/ are reserved: `{0}`")]
    Reserved(SpiffeId),
    /// EN-02: an entry that every workload would match.
    #[error("an entry needs at least one selector")]
    NoSelectors,
    /// Too many items.
    #[error("{what} holds more than {limit} items")]
    TooMany {
        /// Which field.
        what: &'static str,
        /// Its limit.
        limit: usize,
    },
    /// Too long a text.
    #[error("{what} is longer than {limit} bytes")]
    TooLong {
        /// Which field.
        what: &'static str,
        /// Its limit.
        limit: usize,
    },
    /// EN-03: not a lower-case DNS name.
    #[error("`{0}` is not a lower-case DNS name without wildcard")]
    DnsName(String),
    /// Below the floor.
    #[error("x509_ttl is shorter than 5m")]
    TtlTooShort,
    /// Below the floor.
    #[error("jwt_ttl is shorter than 1m")]
    JwtTtlTooShort,
    /// The own trust domain needs no federation.
    #[error("federates_with names other trust domains; `{0}` is the own one")]
    FederatesWithItself(TrustDomain),
    /// A name with other characters than allowed.
    #[error("`{text}` in {what} is not a plain name")]
    Word {
        /// Which field.
        what: &'static str,
        /// As written.
        text: String,
    },
}

#[cfg(test)]
mod tests;
