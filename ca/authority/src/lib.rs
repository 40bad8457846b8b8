//! The workload CA: keys, registration entries, attestation of agents, issuance of SVIDs.
//!
//! Everything that leaves as a certificate went through one pipeline (`issue`): evidence, entry, gate, template,
//! signature, post-check, durable record, release; each stage is a type, so none can be left out. Tokens go through one
//! of the same stages (`token`). The five types to
//! know: [`Authority`], [`EntryRecord`], [`Issued`], [`IssuanceGate`] and [`IdentityEvent`].
//!
//! What is absent: no policy text (a gate answers, BN-03), no traffic, no sockets (routers are handed out), no private
//! key in the store or its journal (AU-02), and of a certificate request nothing but the public key (IS-02).

mod agent;
mod attest;
mod authority;
mod config;
mod crl;
mod entry;
mod error;
mod federation;
mod issue;
mod keys;
mod lint;
mod ports;
mod revocation;
mod rotate;
mod row;
pub mod service;
mod sync;
mod template;
#[cfg(test)]
mod testing;
mod token;

pub use agent::{AgentRecord, AgentSvid, Ban};
pub use attest::{Evidence, JoinToken};
pub use authority::{Applied, Authority, Banned, Following, Minting, Requester};
pub use config::{AUTHORITY_PATH, Config};
pub use crl::Crl;
pub use entry::{EntryError, EntryFilter, EntryRecord, NewEntry, check_identity};
pub use error::{AuthorityError, Fault};
pub use federation::{
    ClosedFetch, Endpoint, EndpointPeer, FederationError, FetchBundle, FetchError, FetchFault, Fetched,
    Fetching, Held, NewRelationship, Profile, Relationship, redirect,
};
pub use issue::{IssuanceRecord, Issued};
pub use keys::{KeyInfo, KeyKind, KeyState, PublicHalf, SlotError};
pub use lint::LintError;
pub use ports::{
    ClosedGate, Events, GateAnswer, IdentityEvent, IssuanceGate, IssueKind, IssueRequest, Ports, SvidKind,
};
pub use revocation::{Named, NewRevocation, Revocation};
pub use rotate::Rotation;
pub use token::{IssuedToken, TokenRecord};
