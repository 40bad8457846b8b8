//! The policies in force, for enforcers that are not ours: they ask, the same engine answers, the same ledger records.
//!
//! [`ext_authz`] speaks Envoy's external authorization (v3), [`authzen`] OpenID's AuthZEN 1.0. The crate holds no engine, no ledger and no identity of its
//! own: `portcullis` gives it a [`Judge`]. It forwards nothing and trusts nothing that an asking enforcer merely claims.

pub mod authzen;
pub mod ext_authz;
mod generated;
mod judge;

pub use judge::{Canonical, Held, Judge, Question, Target, Unrecorded, Verdict};
