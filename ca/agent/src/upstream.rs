//! The agent's way to the authority, as a port: in one process `portcullis` fills it with the authority itself, on
//! another host with a copy that a stream keeps the same. Called by `agent`; it refuses nothing by itself.

use std::{fmt, sync::Arc};

use base_ports::UnixTime;
use ca_identity::{Bundle, CertificateDer, RevocationSet, Selector, SpiffeId, TrustDomain};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// What the agent asks of the authority.
pub trait Upstream: Send + Sync + fmt::Debug {
    /// The registration entries of this agent, complete.
    fn entries(&self) -> Vec<AgentEntry>;

    /// Whether the authority was heard since the start; until then no workload is told that it has no identity.
    fn is_known(&self) -> bool {
        true
    }

    /// A number that moves whenever [`Upstream::entries`], [`Upstream::bundle`], [`Upstream::federated`],
    /// [`Upstream::revoked`], [`Upstream::tainted`], [`Upstream::crls`] or [`Upstream::is_known`] would answer something new.
    fn changed(&self) -> watch::Receiver<u64>;

    /// The bundle of the own trust domain.
    fn bundle(&self) -> Arc<Bundle>;

    /// The bundles of other trust domains. Workloads get those that their entries federate with.
    fn federated(&self) -> Vec<Arc<Bundle>>;

    /// What is denied: such SVIDs are served no longer, and such tokens neither handed out nor taken (RV-03).
    fn revoked(&self) -> RevocationSet;

    /// What is to be issued anew, and is good until then (S36).
    fn tainted(&self) -> RevocationSet;

    /// Revocation lists of the own trust domain in DER, for workloads that know nothing of the deny set (RV-06).
    fn crls(&self) -> Vec<Arc<[u8]>>;

    /// The bundle of that sequence is what workloads are served now (AU-05).
    fn acknowledge(&self, sequence: u64);

    /// Has the CSR of one entry signed.
    fn sign(&self, entry_id: &str, csr: Vec<u8>) -> BoxFuture<'static, Result<SignedChain, UpstreamError>>;

    /// Has a JWT-SVID of one entry made for that audience.
    fn sign_token(
        &self,
        entry_id: &str,
        audience: Vec<String>,
    ) -> BoxFuture<'static, Result<SignedToken, UpstreamError>>;
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
    /// Other trust domains whose bundles the workload gets.
    pub federates_with: Vec<TrustDomain>,
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

/// A fresh JWT-SVID. Its `Debug` leaves the token out.
#[derive(Clone)]
pub struct SignedToken {
    /// In compact form.
    pub token: String,
    /// When it was issued; with its end, this says how long it is used again.
    pub issued: UnixTime,
}

impl fmt::Debug for SignedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedToken").field("issued", &self.issued).finish_non_exhaustive()
    }
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
