//! The port to whoever decides and records. Implemented by `portcullis` over its engine and a lane of the ledger.

use ca_identity::IdentitySnapshot;
use enforcer_codec::Call;
use futures_util::future::BoxFuture;
use policies_engine::{
    Action, Credential, Decision, DecisionId, Declared, OwnedFacts, Phase, Principal, Reason, Resource,
};
use std::{fmt, sync::Arc};

/// Decides and records for an enforcer that asks.
pub trait Judge: Send + Sync + fmt::Debug + 'static {
    /// Judges by the policies in force and puts the verdict on record.
    fn judge(&self, question: Question) -> BoxFuture<'static, Result<Verdict, Unrecorded>>;

    /// Records that no policy was asked, because the request says nothing that could be judged.
    fn refuse(&self, question: Question, reason: Reason) -> BoxFuture<'static, Result<Verdict, Unrecorded>>;

    /// What a call goes to: the route of that name, or the one that matches.
    fn target(&self, call: &Call, listener: &str, route: Option<&str>) -> Target;

    /// Header, query and capture names that policies may read.
    fn declared(&self) -> Arc<Declared>;

    /// Whom this process trusts.
    fn trust(&self) -> Arc<IdentitySnapshot>;

    /// The time.
    fn now(&self) -> base_ports::Now;
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
