//! One question to the engine, borrowed from whoever asks: the proxy per call, services per admin call,
//! the authority per issuance.

use crate::{Action, Facts, Principal, PrincipalKind, Resource, Token};
use base_ports::UnixTime;

/// Who wants to do what to what, under which circumstances.
#[derive(Debug, Clone, Copy)]
pub struct AccessRequest<'a> {
    /// The caller.
    pub principal: &'a Principal,
    /// What is asked for.
    pub action: Action,
    /// The target.
    pub resource: &'a Resource,
    /// The circumstances.
    pub facts: &'a dyn Facts,
    /// The one reading of the clock that policies and record share.
    pub now: UnixTime,
    /// What issuance and publishing add to the context.
    pub extra: Option<&'a AdminContext>,
}

impl<'a> AccessRequest<'a> {
    /// The token of a person, for actions whose context has one.
    pub(crate) fn token(&self) -> Option<&'a Token> {
        let has_one = !matches!(self.action, Action::TcpConnect | Action::Admin(_));
        self.facts.token().filter(|_| has_one).map(|token| &**token)
    }

    /// The token that names the caller.
    pub(crate) fn own_token(&self) -> Option<&'a Token> {
        let is_user = self.principal.kind() == PrincipalKind::User;
        self.token().filter(|token| is_user && token.user() == self.principal.id())
    }

    /// Who asks names a user by id and his token apart, so that the principal, by which plans are known, does not tell his
    /// groups.
    pub(crate) fn is_named_apart(&self) -> bool {
        self.principal.kind() == PrincipalKind::User
            && self.principal.groups().is_none()
            && self.own_token().is_some()
    }
}

/// Context of our own actions beyond connection and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminContext {
    /// For `identity:issue`.
    Issue(IssueContext),
    /// For `policy:approve`, `policy:sign`, `policy:publish`, `policy:rollback`.
    Change(ChangeContext),
}

/// What is known about an issuance (schema type `Issue`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IssueContext {
    /// `x509` or `jwt`.
    pub kind: String,
    /// Lifetime asked for.
    pub ttl_seconds: i64,
    /// Audience of a JWT-SVID.
    pub audience: Vec<String>,
    /// How the workload was attested: `unix`, `join_token`.
    pub attested_by: Vec<String>,
    /// Selectors of the entry.
    pub selectors: Vec<String>,
    /// Id of the registration entry; empty for an identity of this process itself.
    pub entry: String,
}

/// What is known about a change of policies (schema type `Change`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "named and explained in the schema")]
pub struct ChangeContext {
    pub scope: String,
    pub widens: bool,
    pub tests_passed: bool,
    pub coverage: i64,
    pub approvals: i64,
    pub caller_is_author: bool,
    pub touches_baseline: bool,
    pub replay_newly_denied: i64,
    pub two_person: bool,
}
