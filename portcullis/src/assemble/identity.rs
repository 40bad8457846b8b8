//! How the authority asks Cedar, tells the ledger, and serves the agent and the gateway of its own process.

use std::sync::Arc;

use base_ports::Clock;
use ca_agent::{AgentEntry, SignedChain, Upstream, UpstreamError};
use ca_authority::{Authority, AuthorityError, EntryId, Events, GateAnswer, IdentityEvent, IssuanceGate, IssueRequest, Requester};
use ca_identity::{Bundle, SpiffeId};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use policies_engine::{AdminAction, AdminContext, AuthorityRecord, IssueContext, Phase, Principal, Record, Resource, Role};
use tokio::sync::watch;

use super::judge::{Judge, Question};

/// Asks the policies in force whether an identity may be issued; the answer is on record before it is given.
#[derive(Debug)]
pub(crate) struct CedarGate {
    judge: Mutex<Option<Arc<Judge>>>,
}

impl CedarGate {
    /// A gate that refuses everything until it is connected to the policies.
    pub(crate) fn closed() -> Arc<Self> {
        Arc::new(Self { judge: Mutex::new(None) })
    }

    pub(crate) fn open(&self, judge: Arc<Judge>) {
        *self.judge.lock() = Some(judge);
    }
}

impl IssuanceGate for CedarGate {
    fn decide(&self, request: &IssueRequest) -> GateAnswer {
        let Some(judge) = self.judge.lock().clone() else {
            return GateAnswer { allow: false, decision_id: String::new() };
        };
        let principal = match &request.requester {
            Requester::Agent(id) => Principal::agent(id.as_str()),
            Requester::Local => Principal::local_user(0, Some("portcullis"), &[Role::Operator]),
        };
        let context = AdminContext::Issue(IssueContext {
            kind: request.kind.to_string(),
            ttl_seconds: i64::try_from(request.ttl.as_secs()).unwrap_or(i64::MAX),
            audience: Vec::new(),
            attested_by: request.attested_by.clone(),
            selectors: request.selectors.iter().map(ToString::to_string).collect(),
            entry: request.entry.clone().unwrap_or_default(),
        });
        let verdict = judge.decide(&Question {
            principal,
            action: AdminAction::IdentityIssue,
            resource: Resource::workload(request.spiffe_id.as_str()),
            context: Some(&context),
            phase: Phase::Issue,
            facts: None,
        });
        GateAnswer { allow: verdict.allow, decision_id: verdict.id.to_string() }
    }
}

/// Puts what the authority does into the ledger.
#[derive(Debug)]
pub(crate) struct LedgerEvents {
    pub(crate) ledger: Arc<policies_decisions::Ledger>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Events for LedgerEvents {
    fn event(&self, event: IdentityEvent) {
        let (name, subject, details) = event.parts();
        tracing::info!(event = name, subject = subject.as_deref(), "identity");
        let record = AuthorityRecord {
            event: name.to_owned(),
            principal: None,
            subject,
            details,
            time: self.clock.now(),
        };
        drop(self.ledger.append(Record::Authority(record)));
    }
}

/// The agent's way to an authority in the same process.
#[derive(Debug)]
pub(crate) struct InProcess {
    authority: Arc<Authority>,
    agent: SpiffeId,
    changed: watch::Receiver<u64>,
}

impl InProcess {
    /// `changed` moves whenever entries or bundle do.
    pub(crate) fn new(authority: Arc<Authority>, agent: SpiffeId, changed: watch::Receiver<u64>) -> Arc<Self> {
        Arc::new(Self { authority, agent, changed })
    }
}

impl Upstream for InProcess {
    fn entries(&self) -> Vec<AgentEntry> {
        self.authority
            .entries_for(&self.agent)
            .iter()
            .map(|entry| AgentEntry {
                id: entry.id.to_string(),
                spiffe_id: entry.spiffe_id.clone(),
                selectors: entry.selectors.clone(),
                dns_names: entry.dns_names.clone(),
                hint: entry.hint.clone().unwrap_or_default(),
                created_at: entry.created_at,
            })
            .collect()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    fn bundle(&self) -> Arc<Bundle> {
        self.authority.bundle()
    }

    fn sign(&self, entry_id: &str, csr: Vec<u8>) -> BoxFuture<'static, Result<SignedChain, UpstreamError>> {
        let authority = Arc::clone(&self.authority);
        let agent = self.agent.clone();
        let entry = EntryId::from(entry_id);
        Box::pin(async move {
            let issued = authority.sign(Requester::Agent(agent), &entry, &csr).await.map_err(refused)?;
            Ok(SignedChain { chain: issued.chain })
        })
    }
}

/// A way to have the CSRs of this process's own roles signed.
pub(crate) fn sign_own(authority: &Arc<Authority>, id: &SpiffeId, dns_names: &[String]) -> ca_agent::rotate::SignOwn {
    let (authority, id, dns_names) = (Arc::clone(authority), id.clone(), dns_names.to_vec());
    Arc::new(move |csr| {
        let (authority, id, dns_names) = (Arc::clone(&authority), id.clone(), dns_names.clone());
        Box::pin(async move {
            let issued = authority.issue_own(&id, &dns_names, &csr).await.map_err(refused)?;
            Ok(SignedChain { chain: issued.chain })
        })
    })
}

fn refused(error: AuthorityError) -> UpstreamError {
    UpstreamError::Refused { reason: error.to_string() }
}
