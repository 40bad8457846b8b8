//! The agent: attests the processes of this host, keeps an SVID for each registration entry that they may use, and
//! serves them over the SPIFFE Workload API.
//!
//! Six types carry it: [`Agent`] (the SVID cache and its renewal), [`Upstream`] (its way to the authority), [`Caller`] (the
//! pinned process at the other end of a Unix connection), [`Keeper`] (one own SVID kept fresh), [`replica::Replica`] (the copy
//! of what an authority elsewhere says) and [`WorkloadClient`] (the other side of the same API).
//!
//! Never here: signing, policy text, sockets that listen (`portcullis` accepts and inserts the [`Caller`]), private
//! keys of a CA. A workload's key is made on this node and leaves it only to the attested workload.

mod agent;
pub mod attest;
mod cache;
pub mod client;
mod generated;
mod identity;
mod issue;
pub mod kept;
pub mod own;
pub mod replica;
pub mod rotate;
mod sealed;
mod secret;
mod service;
mod state;
#[cfg(test)]
mod testing;
mod tokens;
mod upstream;

pub use agent::{Agent, AgentStatus};
pub use attest::Caller;
pub use client::{ClientError, FetchedToken, ValidatedToken, WorkloadClient, X509Context};
pub use identity::{Entitled, OwnIdentity};
pub use issue::{IssueError, enrol};
pub use rotate::Keeper;
pub use secret::SdsNames;
pub use service::{LocalStream, Settings, workload_api};
pub use upstream::{AgentEntry, SignedChain, SignedToken, Upstream, UpstreamError};
