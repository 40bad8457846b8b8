//! The agent's way to the authority, as a port: in one process `portcullis` fills it with the authority itself, on
//! another host with the enrolment API. Called by `agent`; it refuses nothing by itself.

use std::{fmt, sync::Arc};

use base_ports::UnixTime;
use ca_identity::{Bundle, CertificateDer, Selector, SpiffeId};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// What the agent asks of the authority.
pub trait Upstream: Send + Sync + fmt::Debug {
    /// The registration entries of this agent, complete.
    fn entries(&self) -> Vec<AgentEntry>;

    /// A number that moves whenever [`Upstream::entries`] or [`Upstream::bundle`] would answer something new.
    fn changed(&self) -> watch::Receiver<u64>;

    /// The bundle of the own trust domain.
    fn bundle(&self) -> Arc<Bundle>;

    /// Has the CSR of one entry signed.
    fn sign(&self, entry_id: &str, csr: Vec<u8>) -> BoxFuture<'static, Result<SignedChain, UpstreamError>>;
}

/// What the agent needs to know of a registration entry.
#[derive(Debug, Clone)]
pub struct AgentEntry {
    /// The entry's id.
    pub id: String,
    /// The identity it grants.
    pub spiffe_id: SpiffeId,
    /// All of these must be true of a workload. An entry without selectors is matched by nobody.
    pub selectors: Vec<Selector>,
    /// DNS names that go into the SVID.
    pub dns_names: Vec<String>,
    /// Which identity this is, for a workload that holds several; empty when there is nothing to say.
    pub hint: String,
    /// When it was made; with the id, this orders the identities of a workload (WA-12).
    pub created_at: UnixTime,
}

/// A freshly signed chain, leaf first, without the root.
#[derive(Debug, Clone)]
pub struct SignedChain {
    /// The certificates.
    pub chain: Vec<CertificateDer<'static>>,
}

/// Why the authority did not sign.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UpstreamError {
    /// The authority answered no: entry gone, gate closed, request malformed.
    #[error("the authority refused: {reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
    /// The authority could not be asked or could not answer.
    #[error("the authority is not available: {reason}")]
    Unavailable {
        /// What is known of the cause.
        reason: String,
    },
}
