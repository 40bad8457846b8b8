//! Agents of other hosts while they are agents: who may ask now, renewal of their own SVIDs, eviction and ban (RV-02).
//!
//! Refused at each request, whatever the connection showed once: an agent that was evicted or banned, an SVID that has
//! ended, and one that was replaced (SV-03, NA-05, NA-06).

use std::sync::Arc;
use std::time::Duration;

use base_ports::UnixTime;
use base_store::{StoreError, Transaction};
use ca_identity::{Revoked, SpiffeId};

use super::{Authority, Requester};
use crate::agent::{self, AgentRecord, AgentSvid, Ban};
use crate::error::AuthorityError;
use crate::issue::{IssuanceRecord, Issued, Subject};
use crate::ports::{IdentityEvent, IssueKind};
use crate::revocation::{self, Revocation};
use crate::row;

const PAGE: usize = 1000;
/// So often it is looked whether an SVID has ended, whatever the wall clock does.
const LOOK: Duration = Duration::from_secs(60);
/// Certificates that are denied in one transaction.
const DENIED_AT_ONCE: usize = 500;
/// Two requests may find a new SVID first at the same moment.
const TRIES: usize = 3;

/// What a ban did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Banned {
    /// The agent, as it is now.
    pub agent: AgentRecord,
    /// Live certificates that were issued through it, which are denied unless they were to be kept.
    pub svids: usize,
}

impl Authority {
    /// Whether the holder of that SVID may ask for something now. Its first use of a new SVID ends the one before.
    ///
    /// # Errors
    /// When it is no agent, is banned, its SVID has ended or was replaced, or the store fails.
    pub async fn admit(&self, id: &SpiffeId, shown: &AgentSvid) -> Result<Requester, AuthorityError> {
        if self.now() > shown.not_after {
            return Err(AuthorityError::AgentExpired(id.clone()));
        }
        for _ in 0..TRIES {
            let (record, revision) = self.agent_row(id)?;
            let is_shown =
                |svid: &Option<AgentSvid>| svid.as_ref().is_some_and(|svid| svid.serial == shown.serial);
            if is_shown(&record.active) {
                return Ok(Requester::Agent(id.clone()));
            }
            // An agent of an older release, or one whose first SVID left before its row was completed.
            let is_first = record.active.is_none() && record.next.is_none();
            if !is_shown(&record.next) && !is_first {
                return Err(AuthorityError::AgentSuperseded(id.clone()));
            }
            let used = record.next.clone().unwrap_or_else(|| shown.clone());
            let used = AgentRecord { active: Some(used), next: None, ..record };
            match self.ports.store.commit(used.replace(revision)?).await {
                Err(StoreError::Conflict { .. }) => {}
                Err(fault) => return Err(fault.into()),
                Ok(_) => return Ok(Requester::Agent(id.clone())),
            }
        }
        Err(AuthorityError::AgentSuperseded(id.clone()))
    }

    /// A new SVID for an agent that has one. The old one holds until the new one is used (NA-06).
    ///
    /// # Errors
    /// When the requester is no agent of another host, or request, gate or store refuse.
    pub async fn renew_agent(&self, requester: Requester, csr_der: &[u8]) -> Result<Issued, AuthorityError> {
        let Requester::Agent(id) = requester else {
            return Err(AuthorityError::NotAnAgent(self.local_agent.clone()));
        };
        let (_, attested_by) = self.known_agent(Requester::Agent(id.clone()))?;
        let subject = Subject {
            requester: id.clone(),
            attested_by,
            spiffe_id: id.clone(),
            dns_names: Vec::new(),
            ttl: Some(self.config.agent_ttl),
            kind: IssueKind::Agent,
            entry: None,
        };
        let issued = self.issue(subject, csr_der, agent::while_admitted(&id)).await;
        let issued = issued.map_err(|fault| agent::lost(fault, &id))?;
        self.expect_svid(&issued).await?;
        Ok(issued)
    }

    /// Notes the SVID that was made for an agent, for when it is used.
    pub(super) async fn expect_svid(&self, issued: &Issued) -> Result<(), AuthorityError> {
        let next = AgentSvid { serial: issued.serial.clone(), not_after: issued.not_after };
        for _ in 0..TRIES {
            let (record, revision) = self.agent_row(&issued.id)?;
            let waiting = AgentRecord { next: Some(next.clone()), ..record };
            match self.ports.store.commit(waiting.replace(revision)?).await {
                Err(StoreError::Conflict { .. }) => {}
                Err(fault) => return Err(fault.into()),
                Ok(_) => return Ok(()),
            }
        }
        Err(AuthorityError::AgentSuperseded(issued.id.clone()))
    }

    /// Agents in the order of their paths, behind the path `after`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn agents(&self, after: Option<&str>, limit: usize) -> Result<Vec<AgentRecord>, AuthorityError> {
        agent::page(self.ports.store.as_ref(), &self.config.trust_domain, after, limit)
    }

    /// One agent.
    ///
    /// # Errors
    /// When there is none of that identity, or the store fails.
    pub fn agent(&self, id: &SpiffeId) -> Result<AgentRecord, AuthorityError> {
        let found = agent::find(self.ports.store.as_ref(), id)?;
        found.map(|(record, _)| record).ok_or_else(|| AuthorityError::UnknownAgent(id.clone()))
    }

    /// Whether a stream of that agent is open.
    pub fn is_followed_by(&self, id: &SpiffeId) -> bool {
        self.followed.lock().contains_key(id)
    }

    /// Why that agent may follow no longer; none while it may.
    pub(crate) fn dismissed(&self, id: &SpiffeId) -> Option<AuthorityError> {
        self.agent_row(id).err()
    }

    /// Returns when the holder of an SVID of that agent that ends then may follow no longer, with the reason: evicted, banned,
    /// or the SVID has ended. What happens from the call on is seen, also before the first poll.
    pub fn dismissal(
        self: &Arc<Self>,
        id: SpiffeId,
        end: UnixTime,
    ) -> impl Future<Output = AuthorityError> + Send + use<> {
        let (authority, mut changed) = (Arc::clone(self), self.agents_changed.subscribe());
        async move {
            loop {
                if let Some(why) = authority.dismissed(&id) {
                    return why;
                }
                let left = end.saturating_since(authority.now());
                if left.is_zero() {
                    return AuthorityError::AgentExpired(id);
                }
                // The end of the watch is that of the authority, and of who serves this.
                let moved = tokio::time::timeout(left.min(LOOK), changed.changed()).await;
                if moved.is_ok_and(|moved| moved.is_err()) {
                    return AuthorityError::NotAnAgent(id);
                }
            }
        }
    }

    /// Ends an agent: its SVID is worth nothing any more, and its host may attest anew, also when it was banned.
    ///
    /// # Errors
    /// When there is none of that identity, or the store fails.
    pub async fn evict_agent(&self, id: &SpiffeId, by: &str) -> Result<AgentRecord, AuthorityError> {
        let record = self.agent(id)?;
        let gone = self.ports.store.commit(agent::delete(id)).await;
        gone.map_err(|fault| match fault {
            StoreError::Conflict { .. } => AuthorityError::UnknownAgent(id.clone()),
            other => other.into(),
        })?;
        self.ports.events.event(IdentityEvent::AgentEvicted { agent: id.clone(), by: by.to_owned() });
        self.agents_changed.send_modify(|count| *count = count.wrapping_add(1));
        Ok(record)
    }

    /// Live certificates that were issued through that agent, its own among them. Reads all records.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn svids_through(&self, id: &SpiffeId) -> Result<Vec<IssuanceRecord>, AuthorityError> {
        let (now, mut found) = (self.now(), Vec::new());
        for page in base_store::pages(self.ports.store.as_ref(), row::ISSUED.as_bytes(), PAGE) {
            for stored in page? {
                let record = IssuanceRecord::from_row(&stored.key, &stored.value)?;
                if record.agent == *id && now <= record.not_after {
                    found.push(record);
                }
            }
            tokio::task::yield_now().await;
        }
        Ok(found)
    }

    /// Refuses an agent whatever it shows, until it is evicted: nothing more is issued through it, and unless `keep_svids`
    /// everything that was is denied (RV-02). Asked again, it goes on where it was interrupted.
    ///
    /// # Errors
    /// When there is none of that identity, the reason cannot go on record, or the store fails.
    pub async fn ban_agent(
        &self,
        id: &SpiffeId,
        reason: &str,
        by: &str,
        keep_svids: bool,
    ) -> Result<Banned, AuthorityError> {
        revocation::check_reason(reason)?;
        let mut record = self.agent(id)?;
        if record.ban.is_none() {
            let ban = Ban { reason: reason.to_owned(), author: by.to_owned(), at: self.now() };
            let transaction = ban.write(id, Transaction::new())?;
            match self.ports.store.commit(transaction).await {
                // Somebody else was first; what is left to do is the same.
                Ok(_) | Err(StoreError::Conflict { .. }) => record.ban = Some(ban),
                Err(fault) => return Err(fault.into()),
            }
            let (agent, by, reason) = (id.clone(), by.to_owned(), reason.to_owned());
            self.ports.events.event(IdentityEvent::AgentBanned { agent, by, reason, keep_svids });
            self.agents_changed.send_modify(|count| *count = count.wrapping_add(1));
        }
        // Read after the ban is durable, so that no issuance comes behind.
        let through = self.svids_through(id).await?;
        let svids = through.len();
        if !keep_svids {
            self.deny_all(through, &format!("agent banned: {reason}"), by).await?;
        }
        Ok(Banned { agent: record, svids })
    }

    /// Denies certificates by their records, several in a transaction.
    async fn deny_all(
        &self,
        records: Vec<IssuanceRecord>,
        reason: &str,
        by: &str,
    ) -> Result<(), AuthorityError> {
        let _revoking = self.revoking.lock().await;
        let reason = reason.chars().take(revocation::REASON_CHARS).collect::<String>();
        let denied = self.revoked.borrow().clone();
        let revocations: Vec<Revocation> = records
            .into_iter()
            .map(|record| (Revoked::certificate(record.issuer_key_id, record.serial), record.not_after))
            .filter(|(what, _)| !denied.contains(what))
            .map(|(what, end)| Revocation {
                what,
                reason: reason.clone(),
                author: by.to_owned(),
                at: self.now(),
                until: Some(end),
            })
            .collect();
        self.check_room(revocations.len())?;
        for some in revocations.chunks(DENIED_AT_ONCE) {
            let written = some.iter().try_fold(Transaction::new(), |all, one| one.write(all))?;
            self.ports.store.commit(written).await?;
            *self.revoked_at.lock() = Some(self.ports.clock.now().mono);
            self.revoked.send_modify(|set| set.extend(some.iter().map(|one| &one.what)));
            some.iter().cloned().map(IdentityEvent::Revoked).for_each(|event| self.ports.events.event(event));
        }
        Ok(())
    }

    fn agent_row(&self, id: &SpiffeId) -> Result<(AgentRecord, base_store::Revision), AuthorityError> {
        let found = agent::find(self.ports.store.as_ref(), id)?;
        let (record, revision) = found.ok_or_else(|| AuthorityError::NotAnAgent(id.clone()))?;
        match record.ban {
            Some(_) => Err(AuthorityError::AgentBanned(id.clone())),
            None => Ok((record, revision)),
        }
    }

    /// A stream of that agent is open until the result is dropped. It acknowledges what it is sent, not what it may have
    /// had: until then it knows no bundle (AU-05).
    pub fn follow(self: &Arc<Self>, id: &SpiffeId) -> Following {
        let open = &mut *self.followed.lock();
        let streams = open.entry(id.clone()).or_default();
        *streams = streams.saturating_add(1);
        self.acknowledge(id.as_str(), 0);
        Following { authority: Arc::clone(self), id: id.clone() }
    }

    /// Every agent whose SVID holds has the bundle of that sequence.
    pub(super) fn agents_know(&self, sequence: u64) -> Result<bool, AuthorityError> {
        let (now, taken) = (self.now(), self.taken.borrow().clone());
        let is_behind = |agent: &AgentRecord| {
            let lives = agent.ban.is_none() && agent.ends().is_none_or(|end| now <= end);
            lives && taken.get(agent.spiffe_id.as_str()).is_none_or(|known| *known < sequence)
        };
        let mut after: Option<String> = None;
        loop {
            let page = self.agents(after.as_deref(), PAGE)?;
            if page.iter().any(is_behind) {
                return Ok(false);
            }
            let Some(last) = page.last().filter(|_| page.len() == PAGE) else { return Ok(true) };
            after = Some(last.spiffe_id.path().to_owned());
        }
    }
}

/// An open stream of an agent.
#[derive(Debug)]
pub struct Following {
    authority: Arc<Authority>,
    id: SpiffeId,
}

impl Drop for Following {
    fn drop(&mut self) {
        let open = &mut *self.authority.followed.lock();
        let Some(streams) = open.get_mut(&self.id) else { return };
        *streams = streams.saturating_sub(1);
        if *streams == 0 {
            open.remove(&self.id);
            self.authority.taken.send_modify(|taken| {
                taken.remove(self.id.as_str());
            });
        }
    }
}
