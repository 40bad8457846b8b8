//! Whom an answer is about: the callers a snapshot knows, and classes of those it does not know (EN5).

use crate::{Principal, PrincipalKind, Resource, Role, Snapshot};
use cedar_policy::EntityUid;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// A caller, or everybody of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A caller that entities or policies name.
    One(Principal),
    /// All others of a kind; `like` is one of them, made up.
    All {
        /// Which.
        class: Class,
        /// A member that nobody names.
        like: Principal,
    },
}

/// Callers that nothing but their kind and trust domain tell apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// Workloads of that trust domain which neither entities nor policies name.
    WorkloadsOf(String),
    /// Workloads of trust domains which neither entities nor policies name.
    OtherWorkloads,
    /// Agents.
    Agents,
    /// Users, without what their token adds.
    Users,
    /// Peers of the local socket with that role.
    LocalUsers(Role),
}

impl Who {
    /// The caller, or one that stands for all.
    pub(crate) fn principal(&self) -> &Principal {
        match self {
            Who::One(principal) | Who::All { like: principal, .. } => principal,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::One(principal) => principal.fmt(f),
            Who::All { class, .. } => class.fmt(f),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Class::WorkloadsOf(domain) => write!(f, "any other workload of {domain}"),
            Class::OtherWorkloads => f.write_str("any workload of another trust domain"),
            Class::Agents => f.write_str("any other agent"),
            Class::Users => f.write_str("any other user"),
            Class::LocalUsers(role) => write!(f, "any local user with role {}", role.as_str()),
        }
    }
}

/// Everybody: those that entities or policies name, then the classes.
pub(super) fn callers(snapshot: &Snapshot) -> Vec<Who> {
    let mut known: BTreeMap<String, Principal> = BTreeMap::new();
    let mut domains: BTreeSet<String> = BTreeSet::new();
    for uid in named(snapshot) {
        let (kind, id) = (uid.type_name().to_string(), uid.id().unescaped());
        if kind == "TrustDomain" {
            domains.insert(id.to_owned());
        } else if let Some(principal) = Principal::from_parts(&kind, id) {
            domains.extend(principal.trust_domain().map(str::to_owned));
            known.insert(principal.to_string(), principal);
        }
    }
    let anonymous = Principal::anonymous();
    known.insert(anonymous.to_string(), anonymous);
    let is_free = |principal: &Principal| !known.contains_key(&principal.to_string());
    // INVARIANT: of as many names as are taken, and one more, one is free.
    let free = |make: &dyn Fn(usize) -> Principal| (0..=known.len()).map(make).find(is_free);
    let mut classes: Vec<(Class, Option<Principal>)> = Vec::new();
    for domain in &domains {
        let like = free(&|n| Principal::workload(&format!("spiffe://{domain}/unnamed-{n}")));
        classes.push((Class::WorkloadsOf(domain.clone()), like));
    }
    let stranger =
        (0..=domains.len()).map(|n| format!("other-{n}.invalid")).find(|name| !domains.contains(name));
    let stranger = stranger.unwrap_or_default();
    let agent = domains.first().map_or(stranger.as_str(), String::as_str).to_owned();
    classes.push((
        Class::OtherWorkloads,
        free(&|n| Principal::workload(&format!("spiffe://{stranger}/unnamed-{n}"))),
    ));
    classes.push((
        Class::Agents,
        free(&|n| Principal::agent(&format!("spiffe://{agent}/portcullis/agent/unnamed-{n}"))),
    ));
    classes.push((Class::Users, free(&|n| user(&format!("issuer/unnamed-{n}")))));
    for role in Role::ALL {
        let make = |n: usize| {
            Principal::local_user(
                u32::MAX.saturating_sub(u32::try_from(n).unwrap_or_default()),
                None,
                &[*role],
            )
        };
        classes.push((Class::LocalUsers(*role), free(&make)));
    }
    let classes = classes.into_iter().filter_map(|(class, like)| Some(Who::All { class, like: like? }));
    known.values().cloned().map(Who::One).chain(classes).collect()
}

fn user(id: &str) -> Principal {
    Principal::from_parts(PrincipalKind::User.as_str(), id).unwrap_or_else(Principal::anonymous)
}

/// Every resource that can be called, and what our own actions are about.
pub(super) fn members(snapshot: &Snapshot) -> Vec<Resource> {
    let mut all: BTreeMap<String, Resource> = BTreeMap::new();
    let own = [Resource::system(), Resource::policy_scope("/")].into_iter();
    let of_entities = named(snapshot)
        .filter_map(|uid| Resource::from_parts(&uid.type_name().to_string(), uid.id().unescaped()));
    for resource in own.chain(of_entities).filter(|resource| snapshot.knows(resource)) {
        all.insert(resource.to_string(), resource);
    }
    all.into_values().collect()
}

/// Uids of entities and of what policies name.
fn named(snapshot: &Snapshot) -> impl Iterator<Item = EntityUid> + '_ {
    let parts = snapshot.parts();
    parts.entities.iter().map(cedar_policy::Entity::uid).chain(parts.named.iter().cloned())
}

/// Whether all of a class have the same value of that attribute.
pub(super) fn shares(class: &Class, attribute: &str) -> bool {
    match class {
        Class::WorkloadsOf(_) => attribute != "path",
        Class::OtherWorkloads => !matches!(attribute, "path" | "trust_domain"),
        Class::Agents => attribute != "path",
        Class::LocalUsers(_) => !matches!(attribute, "uid" | "name"),
        Class::Users => false,
    }
}
