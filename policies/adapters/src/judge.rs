//! The port to whoever decides and records. Implemented by `portcullis` over its engine and a lane of the ledger.

use ca_identity::IdentitySnapshot;
use futures_util::future::BoxFuture;
use policies_engine::{
    Action, Credential, Decision, DecisionId, OwnedFacts, OwnedRequest, Phase, Principal, Reason, Resource,
};
use std::{fmt, sync::Arc};

/// Decides and records for an enforcer that asks.
pub trait Judge: Send + Sync + fmt::Debug + 'static {
    /// Judges by the policies in force and puts the verdict on record.
    fn judge(&self, question: Question) -> BoxFuture<'static, Result<Verdict, Unrecorded>>;

    /// Records that no policy was asked, because the request says nothing that could be judged.
    fn refuse(&self, question: Question, reason: Reason) -> BoxFuture<'static, Result<Verdict, Unrecorded>>;

    /// The request as our own listeners would have read it, and what it goes to: the route of that name, or the one that
    /// matches.
    ///
    /// # Errors
    /// The rule it breaks, when it has no canonical form or is not in it.
    fn canonical(&self, held: &Held, listener: &str, route: Option<&str>) -> Result<Canonical, String>;

    /// Whom this process trusts.
    fn trust(&self) -> Arc<IdentitySnapshot>;

    /// The time.
    fn now(&self) -> base_ports::Now;
}

/// A request that another enforcer holds, as it says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Method token.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Authority.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Lines, in order, not joined.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Whether a body follows.
    pub has_body: bool,
}

/// The same in the one form that is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical {
    /// What is asked for.
    pub action: Action,
    /// On what.
    pub target: Target,
    /// The request, with the headers and query names that policies may read.
    pub request: OwnedRequest,
    /// gRPC service and method.
    pub rpc: Option<(String, String)>,
}

/// What a call goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A registered route, method or service.
    Resource(Resource),
    /// No route matches.
    UnknownRoute,
    /// The method is not registered.
    UnknownMethod,
}

/// One question of another enforcer.
#[derive(Debug, Clone)]
pub struct Question {
    /// How it came.
    pub phase: Phase,
    /// Who calls.
    pub principal: Principal,
    /// What the caller proved itself with.
    pub credential: Option<Credential>,
    /// What it wants to do.
    pub action: Action,
    /// On what.
    pub resource: Resource,
    /// Under which circumstances.
    pub facts: OwnedFacts,
    /// What the record should say besides: who asked, which rule was broken.
    pub detail: String,
}

/// The answer, on record.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Allow or deny, and why.
    pub decision: Decision,
    /// Where it is on record.
    pub id: DecisionId,
    /// Number of the policies that decided; 0 for none.
    pub policies: u64,
    /// What the deciding policies want the caller to be told (`@advice`).
    pub advice: Option<String>,
}

/// The verdict could not be recorded as it must be, so there is none.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the decision could not be recorded: {0}")]
pub struct Unrecorded(pub String);
