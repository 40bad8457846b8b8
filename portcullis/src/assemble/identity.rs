//! How the authority asks Cedar, tells the ledger, and serves the agent and the gateway of its own process.

use std::sync::Arc;

use base_ports::{Clock, Tasks};
use ca_agent::{AgentEntry, SignedChain, SignedToken, Upstream, UpstreamError};
use ca_authority::{
    Authority, AuthorityError, Events, Fault, GateAnswer, IdentityEvent, IssuanceGate, IssueRequest, KeyKind,
    NewRelationship, Requester,
};
use ca_identity::{Bundle, RevocationSet, Revoked, SpiffeId};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use policies_decisions::Ledger;
use policies_engine::{
    AdminAction, AdminContext, AuthorityRecord, IssueContext, Phase, Principal, Record, Resource,
};
use tokio::sync::watch;

use super::counts::Counts;
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
    fn decide(&self, request: &IssueRequest<'_>) -> GateAnswer {
        let Some(judge) = self.judge.lock().clone() else {
            return GateAnswer { allow: false, decision_id: String::new() };
        };
        let context = AdminContext::Issue(IssueContext {
            kind: request.svid.as_str().to_owned(),
            ttl_seconds: i64::try_from(request.ttl.as_secs()).unwrap_or(i64::MAX),
            audience: request.audience.to_vec(),
            attested_by: vec![request.attested_by.to_owned()],
            selectors: request.selectors.iter().map(ToString::to_string).collect(),
            entry: request.entry.map(|entry| entry.id.clone()).unwrap_or_default(),
        });
        let verdict = judge.decide(&Question {
            principal: Principal::agent(request.requester.as_str()),
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
    pub(crate) ledger: Ledger,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counts: Counts,
}

impl Events for LedgerEvents {
    fn event(&self, event: IdentityEvent) {
        self.counts.count(&event);
        let told = tell(&event);
        match &event {
            IdentityEvent::Alarm { code, detail } => {
                tracing::error!(event = "identity_alarm", code, detail, "alarm of the authority")
            }
            _ => tracing::info!(event = told.name, subject = told.subject.as_deref(), "identity"),
        }
        let record = AuthorityRecord {
            event: told.name.to_owned(),
            principal: None,
            subject: told.subject,
            details: told.details,
            time: self.clock.now(),
        };
        if let Err(error) = self.ledger.append(Record::Authority(record)) {
            tracing::error!(event = "identity_event_lost", error = %error, "an event of the authority is not on record");
        }
    }
}

/// An event in the words of the ledger.
struct Told {
    name: &'static str,
    subject: Option<String>,
    details: Vec<(String, String)>,
}

fn tell(event: &IdentityEvent) -> Told {
    let told = |name, subject: Option<&SpiffeId>, details: &[(&str, String)]| Told {
        name,
        subject: subject.map(ToString::to_string),
        details: details.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
    };
    match event {
        IdentityEvent::RootCreated { key_id, not_after, .. } => {
            told("root_created", None, &[("key", key_id.to_string()), ("not_after", not_after.to_string())])
        }
        IdentityEvent::KeyPrepared { kind, key_id, not_after, by } => told(
            of_key(*kind, ["root_prepared", "signing_prepared", "jwt_key_prepared"]),
            None,
            &[("key", key_id.to_string()), ("not_after", not_after.to_string()), ("by", by.clone())],
        ),
        IdentityEvent::KeyActivated { kind, key_id, by } => told(
            of_key(*kind, ["root_activated", "signing_activated", "jwt_key_activated"]),
            None,
            &[("key", key_id.to_string()), ("by", by.clone())],
        ),
        IdentityEvent::KeyTainted { kind, key_id, by } => told(
            of_key(*kind, ["root_tainted", "signing_tainted", "jwt_key_tainted"]),
            None,
            &[("key", key_id.to_string()), ("by", by.clone())],
        ),
        IdentityEvent::KeyRevoked { kind, key_id, by, reason } => told(
            of_key(*kind, ["root_revoked", "signing_revoked", "jwt_key_revoked"]),
            None,
            &[("key", key_id.to_string()), ("by", by.clone()), ("reason", reason.clone())],
        ),
        IdentityEvent::KeyRetired { kind, key_id } => told(
            of_key(*kind, ["root_retired", "signing_retired", "jwt_key_retired"]),
            None,
            &[("key", key_id.to_string())],
        ),
        IdentityEvent::JoinTokenCreated { expires } => {
            told("join_token_created", None, &[("expires", expires.to_string())])
        }
        IdentityEvent::Attested { agent, attested_by } => {
            told("attested", Some(agent), &[("by", (*attested_by).to_owned())])
        }
        IdentityEvent::AttestationRefused { attested_by, reason } => told(
            "attestation_refused",
            None,
            &[("by", (*attested_by).to_owned()), ("reason", reason.clone())],
        ),
        IdentityEvent::AgentEvicted { agent, by } => {
            told("agent_evicted", Some(agent), &[("by", by.clone())])
        }
        IdentityEvent::AgentBanned { agent, by, reason, keep_svids } => told(
            "agent_banned",
            Some(agent),
            &[("by", by.clone()), ("reason", reason.clone()), ("keep_svids", keep_svids.to_string())],
        ),
        IdentityEvent::Issued(record) => told(
            "issued",
            Some(&record.spiffe_id),
            &[
                ("serial", record.serial.to_string()),
                ("not_after", record.not_after.to_string()),
                ("decision", record.decision_id.clone()),
            ],
        ),
        IdentityEvent::Minted { serial, spiffe_id, by } => {
            told("minted", Some(spiffe_id), &[("serial", serial.to_string()), ("by", by.clone())])
        }
        IdentityEvent::TokenIssued(record) => told(
            "token_issued",
            Some(&record.spiffe_id),
            &[
                ("token", record.jti.clone()),
                ("key", record.kid.clone()),
                ("not_after", record.expires.to_string()),
                ("decision", record.decision_id.clone()),
            ],
        ),
        IdentityEvent::IssuanceRefused { requester, spiffe_id, reason, decision_id, .. } => told(
            "issuance_refused",
            spiffe_id.as_ref(),
            &[
                ("requester", requester.to_string()),
                ("reason", reason.clone()),
                ("decision", decision_id.clone().unwrap_or_default()),
            ],
        ),
        IdentityEvent::Revoked(revocation) => {
            let until = revocation.until.map(|end| end.to_string());
            let details = [
                ("revocation", revocation.what.to_string()),
                ("by", revocation.author.clone()),
                ("reason", revocation.reason.clone()),
                ("until", until.unwrap_or_default()),
            ];
            told("revoked", identity_of(&revocation.what), &details)
        }
        IdentityEvent::RevocationLifted { what, by } => {
            let details = [("revocation", what.to_string()), ("by", by.clone())];
            told("revocation_lifted", identity_of(what), &details)
        }
        IdentityEvent::EntryCreated(entry) => {
            told("entry_created", Some(&entry.spiffe_id), &[("entry", entry.id.clone())])
        }
        IdentityEvent::EntryUpdated(entry) => {
            told("entry_updated", Some(&entry.spiffe_id), &[("entry", entry.id.clone())])
        }
        IdentityEvent::EntryDeleted(entry) => {
            told("entry_deleted", Some(&entry.spiffe_id), &[("entry", entry.id.clone())])
        }
        IdentityEvent::FederationCreated { with, by } => {
            told("federation_created", None, &relationship(with, by))
        }
        IdentityEvent::FederationUpdated { with, by } => {
            told("federation_updated", None, &relationship(with, by))
        }
        IdentityEvent::FederationDeleted { trust_domain, by } => told(
            "federation_deleted",
            None,
            &[("trust_domain", trust_domain.to_string()), ("by", by.clone())],
        ),
        IdentityEvent::FederatedBundle { trust_domain, sequence, roots, from } => told(
            "federated_bundle",
            None,
            &[
                ("trust_domain", trust_domain.to_string()),
                ("sequence", sequence.to_string()),
                ("roots", roots.to_string()),
                ("from", from.clone()),
            ],
        ),
        IdentityEvent::FederationRefused { trust_domain, code, detail } => told(
            "federation_refused",
            None,
            &[
                ("trust_domain", trust_domain.to_string()),
                ("code", (*code).to_owned()),
                ("reason", detail.clone()),
            ],
        ),
        IdentityEvent::Alarm { code, detail } => {
            told("alarm", None, &[("code", (*code).to_owned()), ("detail", detail.clone())])
        }
        _ => told("other", None, &[]),
    }
}

fn relationship<'a>(with: &NewRelationship, by: &str) -> [(&'a str, String); 5] {
    let id = with.profile.endpoint_id().map(ToString::to_string);
    [
        ("trust_domain", with.trust_domain.to_string()),
        ("url", with.url.clone()),
        ("profile", with.profile.name().to_owned()),
        ("endpoint", id.unwrap_or_default()),
        ("by", by.to_owned()),
    ]
}

/// The word for what happened to a root, a signing CA or a key for tokens.
fn of_key(kind: KeyKind, [root, signing, jwt]: [&'static str; 3]) -> &'static str {
    match kind {
        KeyKind::Root => root,
        KeyKind::Signing => signing,
        KeyKind::Jwt => jwt,
    }
}

fn identity_of(what: &Revoked) -> Option<&SpiffeId> {
    match what {
        Revoked::Id(id) => Some(id),
        _ => None,
    }
}

/// The agent's way to an authority in the same process.
#[derive(Debug)]
pub(crate) struct InProcess {
    authority: Arc<Authority>,
    changed: watch::Receiver<u64>,
}

impl InProcess {
    /// `changed` moves whenever entries, bundles, deny set, keys or revocation lists do.
    pub(crate) fn new(authority: Arc<Authority>, changed: watch::Receiver<u64>) -> Arc<Self> {
        Arc::new(Self { authority, changed })
    }
}

impl Upstream for InProcess {
    fn entries(&self) -> Vec<AgentEntry> {
        self.authority
            .entries_for(self.authority.local_agent())
            .iter()
            .map(|entry| AgentEntry {
                id: entry.id.clone(),
                spiffe_id: entry.spiffe_id.clone(),
                selectors: entry.selectors.clone(),
                dns_names: entry.dns_names.clone(),
                federates_with: entry.federates_with.clone(),
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

    fn federated(&self) -> Vec<Arc<Bundle>> {
        self.authority.federated_bundles()
    }

    fn revoked(&self) -> RevocationSet {
        self.authority.watch_revoked().borrow().clone()
    }

    fn tainted(&self) -> RevocationSet {
        self.authority.tainted()
    }

    fn crls(&self) -> Vec<Arc<[u8]>> {
        let lists = Arc::clone(&self.authority.watch_crls().borrow());
        lists.iter().map(|list| Arc::clone(&list.der)).collect()
    }

    fn acknowledge(&self, sequence: u64) {
        self.authority.acknowledge("agent", sequence);
    }

    fn sign(&self, entry_id: &str, csr: Vec<u8>) -> BoxFuture<'static, Result<SignedChain, UpstreamError>> {
        let authority = Arc::clone(&self.authority);
        let entry = entry_id.to_owned();
        Box::pin(async move {
            let issued = authority.sign(Requester::Local, &entry, &csr).await.map_err(refused)?;
            Ok(SignedChain { chain: issued.chain })
        })
    }

    fn sign_token(
        &self,
        entry_id: &str,
        audience: Vec<String>,
    ) -> BoxFuture<'static, Result<SignedToken, UpstreamError>> {
        let authority = Arc::clone(&self.authority);
        let entry = entry_id.to_owned();
        Box::pin(async move {
            let issued = authority.sign_token(Requester::Local, &entry, audience).await.map_err(refused)?;
            Ok(SignedToken { token: issued.token, issued: issued.issued })
        })
    }
}

/// A way to have the CSRs of this process's own roles signed.
pub(crate) fn sign_own(
    authority: &Arc<Authority>,
    id: &SpiffeId,
    dns_names: &[String],
) -> ca_agent::rotate::SignOwn {
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
    let reason = error.to_string();
    match error.fault() {
        Fault::Unavailable | Fault::Internal | Fault::Limited => UpstreamError::Unavailable { reason },
        Fault::Request | Fault::Denied | Fault::NotFound | Fault::Conflict | Fault::Stale => {
            UpstreamError::Refused { reason }
        }
    }
}

/// One number that moves when entries, bundles, deny set, keys or revocation lists do.
pub(super) fn changes(authority: &Arc<Authority>, tasks: &Tasks) -> watch::Receiver<u64> {
    let (publish, changed) = watch::channel(0u64);
    let (mut entries, mut bundle) = (authority.watch_entries(), authority.watch_bundle());
    let (mut revoked, mut keys) = (authority.watch_revoked(), authority.watch_keys());
    let mut crls = authority.watch_crls();
    let mut federated = authority.watch_federation();
    tasks.spawn("changes", async move {
        loop {
            let alive = tokio::select! {
                moved = entries.changed() => moved.is_ok(),
                moved = bundle.changed() => moved.is_ok(),
                moved = revoked.changed() => moved.is_ok(),
                moved = keys.changed() => moved.is_ok(),
                moved = crls.changed() => moved.is_ok(),
                moved = federated.changed() => moved.is_ok(),
            };
            if !alive {
                return;
            }
            publish.send_modify(|number| *number = number.wrapping_add(1));
        }
    });
    changed
}
