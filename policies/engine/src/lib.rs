//! Access requests in, decisions and records out: Cedar, folded into plans.
//!
//! The proxy, the authority's gate and our own APIs ask [`Engine::decide`]; the policy store makes [`Snapshot`]s;
//! the ledger stores [`Record`]s; the command line prints [`explain::Explanation`]s.
//! This crate opens no socket, reads no file, knows no wire format and asks no clock.
//! Five types to know: [`AccessRequest`], [`Snapshot`], [`Engine`], [`Decision`], [`DecisionRecord`].

mod action;
mod affected;
pub mod ask;
mod baseline;
mod carried;
mod cases;
mod cast;
mod compile;
mod context;
mod cost;
mod coverage;
mod decision;
mod decision_id;
mod diagnostic;
pub mod diff;
mod engine;
mod entities;
pub mod explain;
mod facts;
mod format;
mod freshness;
pub mod impact;
mod lane;
pub mod lint;
mod logic;
pub mod mining;
mod owned_facts;
mod plan;
mod principal;
mod reason;
mod record;
mod request;
mod resource;
mod rule;
mod sampler;
mod schema;
mod scope;
mod snapshot;
mod stock;
mod suggest;
mod tally;
mod texts;
mod token;
mod uid;
mod walk;
mod world;

pub use action::{Action, AdminAction, UnknownAction};
pub use affected::{Affected, affected};
pub use baseline::{baseline, baseline_cases};
pub use cases::{CaseError, CaseOutcome, run_cases, run_cases_seen};
pub use compile::bounded::compilers_left_behind;
pub use cost::Costly;
pub use coverage::{Coverage, CoverageTally, PolicyCoverage};
pub use decision::{Audit, Decision, Effect, ErrorClass, Evaluated, Mode, PolicyError, Would, observe};
pub use decision_id::{DecisionId, DecisionIdError};
pub use diagnostic::{Diagnostic, Fix, Severity};
pub use engine::Engine;
pub use entities::{EntitySet, MethodEntity, RouteEntity, ServiceEntity, WorkloadEntity};
pub use facts::{ConnectionFacts, Facts, Protocol, RequestView};
pub use format::format;
pub use freshness::{Freshness, Patience};
pub use lane::{AuditUnavailable, Lane, Receipt};
pub use owned_facts::{FactsJsonError, OwnedFacts, OwnedRequest};
pub use principal::{Principal, PrincipalKind, Role};
pub use reason::{Reason, ReasonClass, UnknownReason};
pub use record::{
    ActivationRecord, AdministrationRecord, AuthorityRecord, Credential, CredentialKind, DecisionRecord,
    Phase, ReadRecord, Record, Trace,
};
pub use request::{AccessRequest, AdminContext, ChangeContext, IssueContext};
pub use resource::{Resource, ResourceKind};
pub use sampler::{Mismatch, Sample, Samples};
pub use schema::{Declared, SchemaText, TeamSchema};
pub use snapshot::{Homes, Numbers, PolicyInfo, PolicySource, Snapshot, SnapshotInput, SourceKind, Versions};
pub use suggest::{Expected, Suggestion, case_of, suggest, suggestion};
pub use texts::{PolicyText, policy_texts};
pub use token::Token;

/// How many path segments policies see by name; the rest are only counted.
pub const SEGMENTS: usize = 12;

#[cfg(test)]
mod tests;
