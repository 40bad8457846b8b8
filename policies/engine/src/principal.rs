//! Who calls. A principal is a cheap handle with a precomputed hash, made once per connection.
//! It holds only what was proved about the caller; groups and labels come from the snapshot.

use crate::{
    Token,
    uid::{format_uid, hash_of, parse_uid},
};
use std::{fmt, hash::Hash, hash::Hasher, sync::Arc};

/// The caller of one request.
#[derive(Clone)]
pub struct Principal(Arc<Inner>);

struct Inner {
    kind: PrincipalKind,
    id: Box<str>,
    name: Option<Box<str>>,
    roles: Vec<Role>,
    /// Of a user whom a token names: ids of the groups that it tells of.
    groups: Option<Box<[String]>>,
    hash: u64,
}

/// What kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PrincipalKind {
    /// A workload, by its SPIFFE id.
    Workload,
    /// A person, by a verified token.
    User,
    /// Nobody proved anything.
    Anonymous,
    /// A node agent, by the SPIFFE id of its own SVID.
    Agent,
    /// A peer of the local admin socket, by its decimal uid.
    LocalUser,
}

impl PrincipalKind {
    /// Cedar entity type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            PrincipalKind::Workload => "Workload",
            PrincipalKind::User => "User",
            PrincipalKind::Anonymous => "Anonymous",
            PrincipalKind::Agent => "Portcullis::Agent",
            PrincipalKind::LocalUser => "Portcullis::LocalUser",
        }
    }
}

/// A role over our own APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Reads the state of the system.
    Viewer,
    /// Reads decisions.
    Auditor,
    /// Drafts policies.
    Author,
    /// Approves policies.
    Approver,
    /// Runs the system.
    Operator,
}

impl Role {
    /// Every role.
    pub const ALL: &'static [Role] =
        &[Role::Viewer, Role::Auditor, Role::Author, Role::Approver, Role::Operator];

    /// The id in the schema.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Auditor => "auditor",
            Role::Author => "author",
            Role::Approver => "approver",
            Role::Operator => "operator",
        }
    }

    /// The role of that id.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Role> {
        Role::ALL.iter().copied().find(|role| role.as_str() == word)
    }
}

impl Principal {
    /// A workload by its SPIFFE id, e.g. `spiffe://example.org/web`.
    #[must_use]
    pub fn workload(spiffe_id: &str) -> Principal {
        Principal::new(PrincipalKind::Workload, spiffe_id, None, &[])
    }

    /// A person by the token that named him, with the groups it tells of.
    #[must_use]
    pub fn user(token: &Token) -> Principal {
        Principal::made(PrincipalKind::User, token.user(), None, &[], Some(token.groups()))
    }

    /// A caller who proved nothing.
    #[must_use]
    pub fn anonymous() -> Principal {
        Principal::new(PrincipalKind::Anonymous, "anonymous", None, &[])
    }

    /// A node agent by the SPIFFE id of its SVID.
    #[must_use]
    pub fn agent(spiffe_id: &str) -> Principal {
        Principal::new(PrincipalKind::Agent, spiffe_id, None, &[])
    }

    /// A peer of the local socket. `roles` are facts: uid 0 and the owner of the data directory are operators.
    #[must_use]
    pub fn local_user(uid: u32, name: Option<&str>, roles: &[Role]) -> Principal {
        Principal::new(PrincipalKind::LocalUser, &uid.to_string(), name, roles)
    }

    /// From the `type` and `id` of a record; `None` for a type that cannot call.
    #[must_use]
    pub fn from_parts(entity_type: &str, id: &str) -> Option<Principal> {
        let kind = match entity_type {
            "Workload" => PrincipalKind::Workload,
            "User" => PrincipalKind::User,
            "Anonymous" => PrincipalKind::Anonymous,
            "Portcullis::Agent" => PrincipalKind::Agent,
            "Portcullis::LocalUser" => PrincipalKind::LocalUser,
            _ => return None,
        };
        Some(Principal::new(kind, id, None, &[]))
    }

    /// From what people type: `spiffe://..`, `anonymous`, or an entity uid such as `Workload::"spiffe://.."`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Principal> {
        if text.starts_with("spiffe://") {
            return Some(Principal::workload(text));
        }
        if text == "anonymous" {
            return Some(Principal::anonymous());
        }
        let (entity_type, id) = parse_uid(text)?;
        Principal::from_parts(&entity_type, &id)
    }

    /// The same caller with other roles (records keep roles apart from the principal).
    #[must_use]
    pub fn with_roles(&self, roles: &[Role]) -> Principal {
        Principal::made(self.0.kind, &self.0.id, self.0.name.as_deref(), roles, self.groups())
    }

    fn new(kind: PrincipalKind, id: &str, name: Option<&str>, roles: &[Role]) -> Principal {
        Principal::made(kind, id, name, roles, None)
    }

    fn made(
        kind: PrincipalKind,
        id: &str,
        name: Option<&str>,
        roles: &[Role],
        groups: Option<&[String]>,
    ) -> Principal {
        let mut roles = roles.to_vec();
        roles.sort_unstable();
        roles.dedup();
        let hash = hash_of(&(kind, id, name, &roles, groups));
        let (id, name, groups) = (id.into(), name.map(Into::into), groups.map(Into::into));
        Principal(Arc::new(Inner { kind, id, name, roles, groups, hash }))
    }

    /// What kind of caller.
    #[must_use]
    pub fn kind(&self) -> PrincipalKind {
        self.0.kind
    }

    /// Cedar entity type: `Workload`, `Anonymous`, `Portcullis::Agent`, ...
    #[must_use]
    pub fn entity_type(&self) -> &'static str {
        self.0.kind.as_str()
    }

    /// Entity id: the SPIFFE id, the decimal uid, `anonymous`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Login name of a local user, where known.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// Roles that are facts of this caller.
    #[must_use]
    pub fn roles(&self) -> &[Role] {
        &self.0.roles
    }

    /// Trust domain of a workload or agent, from its id.
    #[must_use]
    pub fn trust_domain(&self) -> Option<&str> {
        spiffe_parts(self.id()).map(|(domain, _)| domain)
    }

    /// Ids of the groups that the token of a user tells of; `None` for a caller whom no token named.
    #[must_use]
    pub fn groups(&self) -> Option<&[String]> {
        self.0.groups.as_deref()
    }

    /// Hash of the whole value, computed once.
    #[must_use]
    pub fn hash64(&self) -> u64 {
        self.0.hash
    }
}

/// Trust domain and path (with its slash, or empty) of a SPIFFE id.
pub(crate) fn spiffe_parts(id: &str) -> Option<(&str, &str)> {
    let rest = id.strip_prefix("spiffe://")?;
    match rest.find('/') {
        Some(at) => rest.split_at_checked(at),
        None => Some((rest, "")),
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash
                && self.0.kind == other.0.kind
                && self.0.id == other.0.id
                && self.0.name == other.0.name
                && self.0.roles == other.0.roles
                && self.0.groups == other.0.groups)
    }
}

impl Eq for Principal {}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_uid(self.entity_type(), self.id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_callers_are_equal_and_others_are_not() {
        assert_eq!(Principal::workload("spiffe://a/b"), Principal::workload("spiffe://a/b"));
        assert_ne!(Principal::workload("spiffe://a/b"), Principal::agent("spiffe://a/b"));
        assert_ne!(Principal::local_user(1, None, &[]), Principal::local_user(1, None, &[Role::Operator]));
        assert_eq!(
            Principal::local_user(1, None, &[Role::Viewer, Role::Operator]),
            Principal::local_user(1, None, &[Role::Operator, Role::Viewer, Role::Viewer])
        );
    }

    #[test]
    fn what_people_type_is_read() {
        assert_eq!(Principal::parse("spiffe://a/b"), Some(Principal::workload("spiffe://a/b")));
        assert_eq!(Principal::parse("Workload::\"spiffe://a/b\""), Some(Principal::workload("spiffe://a/b")));
        assert_eq!(
            Principal::parse("Portcullis::LocalUser::\"0\""),
            Some(Principal::local_user(0, None, &[]))
        );
        assert_eq!(Principal::parse("Route::\"x\""), None);
        assert_eq!(Principal::parse("web"), None);
    }

    #[test]
    fn a_trust_domain_is_read_from_the_id() {
        assert_eq!(Principal::workload("spiffe://example.org/a/b").trust_domain(), Some("example.org"));
        assert_eq!(Principal::workload("spiffe://example.org").trust_domain(), Some("example.org"));
        assert_eq!(Principal::anonymous().trust_domain(), None);
    }
}
