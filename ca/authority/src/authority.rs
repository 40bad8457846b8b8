//! The authority itself: opened once per process, asked by agents, administrators and the process's own roles.
//!
//! Writes to entries and keys go through one writer each; issuance runs in parallel. Everything that a caller is told
//! has happened is durable before.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use base_ports::{Mono, Rate, UnixTime};
use base_store::Transaction;
use ca_identity::{Bundle, RevocationSet, SpiffeId};
use parking_lot::{Mutex as Brief, RwLock};
use tokio::sync::{Mutex, watch};

use crate::agent;
use crate::attest::{self, Evidence, JoinToken};
use crate::config::Config;
use crate::crl::Crl;
use crate::entry::EntryError;
use crate::entry::{Index, is_dns_name};
use crate::error::AuthorityError;
use crate::issue::{Current, IssuanceRecord, Issued, Requested, Subject};
use crate::keys::{KeyInfo, KeyTable, Vault};
use crate::ports::{IdentityEvent, IssueKind, Ports, SvidKind};
use crate::row;
use crate::sync::Removals;
use crate::token::TokenKey;

mod agents;
mod crls;
mod entries;
mod federation;
mod mint;
mod open;
mod revocations;
mod slots;
mod standing;
mod sweep;
mod tokens;

pub use agents::{Banned, Following};
pub use entries::Applied;
use federation::{Federation, Fetches};
pub use mint::Minting;
pub(crate) use standing::Changes;

/// The clock may stand this much before the last issue (identity.md 15).
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// Keys, entries, agents and issuance of one trust domain.
pub struct Authority {
    config: Config,
    ports: Ports,
    vault: Vault,
    local_agent: SpiffeId,
    /// The one writer of key slots.
    table: Mutex<KeyTable>,
    /// The one writer of entries.
    writing: Mutex<()>,
    current: ArcSwapOption<Current>,
    /// What signs tokens.
    tokens: ArcSwapOption<TokenKey>,
    /// Tokens of each agent.
    token_rate: Rate<SpiffeId>,
    keys: watch::Sender<Arc<[KeyInfo]>>,
    bundle: watch::Sender<Arc<Bundle>>,
    /// What is denied; moves after the record is durable.
    revoked: watch::Sender<RevocationSet>,
    /// The one writer of revocations.
    revoking: Mutex<()>,
    /// When something was denied last.
    revoked_at: Brief<Option<Mono>>,
    /// What is denied, for those who know revocation lists only.
    crls: watch::Sender<Arc<[Crl]>>,
    /// The one writer of revocation lists.
    listing: Mutex<()>,
    /// Which bundle the roles of this process, and agents with an open stream, have in force (AU-05).
    taken: watch::Sender<HashMap<String, u64>>,
    /// How many streams each agent has open.
    followed: Brief<HashMap<SpiffeId, usize>>,
    /// Moves when an agent was evicted or banned.
    agents_changed: watch::Sender<u64>,
    /// Identities of roles of this process.
    own: Brief<HashSet<SpiffeId>>,
    /// Other trust domains with their bundles; moves after the record is durable.
    federated: watch::Sender<Arc<Federation>>,
    /// The one writer of relationships and of their bundles.
    federating: Mutex<()>,
    fetches: Brief<Fetches>,
    entries: RwLock<Index>,
    entries_revision: watch::Sender<u64>,
    /// Entries that agents may still have and have no more.
    removals: Brief<Removals>,
    last_issue_nanos: AtomicI64,
    /// Where the next sweep goes on looking for expired issuance records.
    pruned_to: Mutex<Option<Vec<u8>>>,
}

/// Who asks for a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requester {
    /// An agent, known by its verified SVID.
    Agent(SpiffeId),
    /// The agent inside this process.
    Local,
}

impl Authority {
    /// The bundle of the own trust domain.
    pub fn bundle(&self) -> Arc<Bundle> {
        Arc::clone(&self.bundle.borrow())
    }

    /// The bundle, and its changes.
    pub fn watch_bundle(&self) -> watch::Receiver<Arc<Bundle>> {
        self.bundle.subscribe()
    }

    /// All authority keys with their states.
    pub fn keys(&self) -> Vec<KeyInfo> {
        self.keys.borrow().to_vec()
    }

    /// The time that it judges by.
    pub fn time(&self) -> UnixTime {
        self.now()
    }

    /// SPIFFE ID of the agent inside this process (S23).
    pub fn local_agent(&self) -> &SpiffeId {
        &self.local_agent
    }

    /// Settings that it was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Makes a join token. It is returned once and kept as a hash.
    ///
    /// # Errors
    /// When the lifetime is out of range or the store fails.
    pub async fn create_join_token(&self, ttl: Duration) -> Result<JoinToken, AuthorityError> {
        let (token, transaction) = attest::new_token(ttl, self.now(), self.ports.rng.as_ref())?;
        self.ports.store.commit(transaction).await?;
        self.ports.events.event(IdentityEvent::JoinTokenCreated { expires: token.expires });
        Ok(token)
    }

    /// Turns evidence into an agent with its first SVID. Exactly one redemption of a token succeeds.
    ///
    /// # Errors
    /// When evidence, request, gate or store refuse; then nothing was consumed.
    pub async fn attest(&self, evidence: Evidence, csr_der: &[u8]) -> Result<Issued, AuthorityError> {
        let kind = evidence.kind();
        let answer = self.try_attest(evidence, csr_der).await;
        let event = match &answer {
            Ok(issued) => IdentityEvent::Attested { agent: issued.id.clone(), attested_by: kind },
            Err(fault) => IdentityEvent::AttestationRefused { attested_by: kind, reason: fault.to_string() },
        };
        self.ports.events.event(event);
        answer
    }

    async fn try_attest(&self, evidence: Evidence, csr_der: &[u8]) -> Result<Issued, AuthorityError> {
        let (store, rng) = (self.ports.store.as_ref(), self.ports.rng.as_ref());
        let attested = attest::attest(evidence, &self.config.trust_domain, store, self.now(), rng)?;
        let subject = Subject {
            requester: attested.agent.clone(),
            attested_by: attested.attested_by.to_owned(),
            spiffe_id: attested.agent,
            dns_names: Vec::new(),
            ttl: Some(self.config.agent_ttl),
            kind: IssueKind::Agent,
            entry: None,
        };
        match self.issue(subject, csr_der, attested.consume).await {
            // Another redemption of the same token was first.
            Err(AuthorityError::Store(base_store::StoreError::Conflict { key }))
                if attest::is_token_key(&key) =>
            {
                Err(AuthorityError::TokenRefused)
            }
            Ok(issued) => {
                // The token is used up: without the note the first SVID that the agent shows is the one.
                if let Err(fault) = self.expect_svid(&issued).await {
                    tracing::warn!(event = "agent_svid", error = %fault, "the SVID of a new agent is not noted");
                }
                Ok(issued)
            }
            other => other,
        }
    }

    /// Signs for an entry. The requester names the entry, never the SPIFFE ID (IS-03).
    ///
    /// # Errors
    /// When the entry is not the requester's, or request, gate or store refuse.
    pub async fn sign(
        &self,
        requester: Requester,
        entry_id: &str,
        csr_der: &[u8],
    ) -> Result<Issued, AuthorityError> {
        let asked = self.name_of(&requester);
        let with = admitted(&requester);
        match self.entitled(requester, entry_id) {
            Ok(subject) => {
                let issued = self.issue(subject, csr_der, with).await;
                issued.map_err(|fault| agent::lost(fault, &asked))
            }
            Err(fault) => {
                self.tell_refusal((asked, None), SvidKind::X509, &fault);
                Err(fault)
            }
        }
    }

    /// What the requester may have signed under that entry (IS-03).
    fn entitled(&self, requester: Requester, entry_id: &str) -> Result<Subject, AuthorityError> {
        let (agent, attested_by) = self.known_agent(requester)?;
        let entry = self.entry(entry_id).ok_or_else(|| AuthorityError::UnknownEntry(entry_id.to_owned()))?;
        if !entry.belongs_to(&agent) {
            return Err(AuthorityError::ForeignEntry { entry: entry_id.to_owned(), agent });
        }
        if entry.expires_at.is_some_and(|end| self.now() >= end) {
            return Err(AuthorityError::EntryExpired(entry_id.to_owned()));
        }
        Ok(Subject {
            requester: agent,
            attested_by,
            spiffe_id: entry.spiffe_id.clone(),
            dns_names: entry.dns_names.clone(),
            ttl: entry.x509_ttl,
            kind: IssueKind::Workload,
            entry: Some(entry),
        })
    }

    /// Signs for a role of this process: its agent, its gateway. No entry, but gate, post-check and record.
    ///
    /// # Errors
    /// When the identity is foreign, or request, gate or store refuse.
    pub async fn issue_own(
        &self,
        id: &SpiffeId,
        dns_names: &[String],
        csr_der: &[u8],
    ) -> Result<Issued, AuthorityError> {
        if !id.is_member_of(&self.config.trust_domain) || id.path().is_empty() {
            return Err(AuthorityError::ForeignId(id.clone()));
        }
        if let Some(name) = dns_names.iter().find(|name| !is_dns_name(name)) {
            return Err(EntryError::DnsName(name.clone()).into());
        }
        self.own.lock().insert(id.clone());
        let subject = Subject {
            requester: self.local_agent.clone(),
            attested_by: "local".to_owned(),
            spiffe_id: id.clone(),
            dns_names: dns_names.to_vec(),
            ttl: None,
            kind: IssueKind::Own,
            entry: None,
        };
        self.issue(subject, csr_der, Transaction::new()).await
    }

    /// Whether `id` attested here once; what a connection of an agent is checked against.
    ///
    /// # Errors
    /// When the store fails.
    pub fn is_agent(&self, id: &SpiffeId) -> Result<bool, AuthorityError> {
        Ok(agent::find(self.ports.store.as_ref(), id)?.is_some())
    }

    /// The durable records of certificates that have not expired yet, in order of serial numbers.
    ///
    /// # Errors
    /// When the store fails.
    pub fn issued(&self, after: Option<&str>, limit: usize) -> Result<Vec<IssuanceRecord>, AuthorityError> {
        let after = after.map(|serial| format!("{}{serial}", row::ISSUED));
        let page =
            self.ports.store.range(row::ISSUED.as_bytes(), after.as_ref().map(String::as_bytes), limit)?;
        page.iter().map(|entry| IssuanceRecord::from_row(&entry.key, &entry.value)).collect()
    }

    fn name_of(&self, requester: &Requester) -> SpiffeId {
        match requester {
            Requester::Agent(id) => id.clone(),
            Requester::Local => self.local_agent.clone(),
        }
    }

    fn known_agent(&self, requester: Requester) -> Result<(SpiffeId, String), AuthorityError> {
        match requester {
            Requester::Local => Ok((self.local_agent.clone(), "local".to_owned())),
            Requester::Agent(id) => match agent::find(self.ports.store.as_ref(), &id)? {
                Some((agent, _)) if agent.ban.is_some() => Err(AuthorityError::AgentBanned(id)),
                Some((agent, _)) => Ok((id, agent.attested_by)),
                None => Err(AuthorityError::NotAnAgent(id)),
            },
        }
    }

    /// The pipeline, and what is told about it.
    async fn issue(
        &self,
        subject: Subject,
        csr_der: &[u8],
        with: Transaction,
    ) -> Result<Issued, AuthorityError> {
        let (requester, spiffe_id) = (subject.requester.clone(), subject.spiffe_id.clone());
        match self.stages(subject, csr_der, with).await {
            Ok((issued, record)) => {
                self.ports.events.event(IdentityEvent::Issued(record));
                Ok(issued)
            }
            Err(fault) => {
                self.tell_refusal((requester, Some(spiffe_id)), SvidKind::X509, &fault);
                Err(fault)
            }
        }
    }

    async fn stages(
        &self,
        subject: Subject,
        csr_der: &[u8],
        with: Transaction,
    ) -> Result<(Issued, IssuanceRecord), AuthorityError> {
        let now = self.signing_time()?;
        self.refuse_revoked([&subject.requester, &subject.spiffe_id])?;
        let current = self.current.load_full().ok_or(AuthorityError::NoSigningKey)?;
        let journaled = Requested::new(subject, csr_der, &current, &self.config, now)?
            .pass(self.ports.gate.as_ref())?
            .template(self.ports.rng.as_ref())?
            .sign(&current)?
            .check(&current, now)?
            .journal(self.ports.store.as_ref(), current.issuer_key, with)
            .await?;
        Ok(journaled.release(Arc::clone(&current.bundle)))
    }

    fn tell_refusal(
        &self,
        (requester, spiffe_id): (SpiffeId, Option<SpiffeId>),
        svid: SvidKind,
        fault: &AuthorityError,
    ) {
        if fault.is_post_check() {
            let (code, detail) = ("post_check", fault.to_string());
            self.ports.events.event(IdentityEvent::Alarm { code, detail });
        }
        let decision_id = match fault {
            AuthorityError::GateRefused { decision_id } => Some(decision_id.clone()),
            _ => None,
        };
        let (reason, code) = (fault.to_string(), fault.code());
        self.ports.events.event(IdentityEvent::IssuanceRefused {
            requester,
            spiffe_id,
            svid,
            reason,
            code,
            decision_id,
        });
    }

    /// The time to sign at; refuses while the clock stands before the last issue.
    fn signing_time(&self) -> Result<UnixTime, AuthorityError> {
        let now = self.now();
        let last = self.last_issue_nanos.fetch_max(now.as_nanos(), Ordering::Relaxed);
        if now + CLOCK_TOLERANCE < UnixTime::from_nanos(last) {
            return Err(AuthorityError::ClockBehind);
        }
        Ok(now)
    }

    fn now(&self) -> UnixTime {
        self.ports.clock.now().wall
    }
}

/// What must hold when something is issued to that requester.
fn admitted(requester: &Requester) -> Transaction {
    match requester {
        Requester::Agent(id) => agent::while_admitted(id),
        Requester::Local => Transaction::new(),
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("trust_domain", &self.config.trust_domain).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
