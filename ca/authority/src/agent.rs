//! Agents that attested, as rows: what makes an agent SVID worth something, and what takes that away (RV-02).
//!
//! An agent has one row while it is one, and a second one while it is banned. Whatever is issued through it requires the
//! first and the absence of the second in the same transaction, so that nothing slips past an eviction or a ban.

use base_ports::UnixTime;
use base_store::{Compare, Revision, Store, StoreError, Transaction};
use ca_identity::{Serial, SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};

use crate::error::AuthorityError;
use crate::row;

/// Path of the agent inside this process (S23).
pub(crate) const LOCAL_PATH: &str = "/portcullis/agent/local";

/// An SVID of an agent, as far as it is told from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSvid {
    /// Serial number.
    pub serial: Serial,
    /// End of validity.
    pub not_after: UnixTime,
}

/// An attested agent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentRecord {
    /// Its identity.
    pub spiffe_id: SpiffeId,
    /// By what kind of evidence.
    pub attested_by: String,
    /// When.
    pub attested_at: UnixTime,
    /// The SVID that it uses; `None` until it has used one.
    pub active: Option<AgentSvid>,
    /// The SVID that was made for it last, until it is used (NA-06).
    pub next: Option<AgentSvid>,
    /// Set while nothing is done for it.
    pub ban: Option<Ban>,
}

/// Why an agent is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// Why.
    pub reason: String,
    /// Who said so.
    pub author: String,
    /// Since when.
    pub at: UnixTime,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentRow {
    v: u8,
    spiffe_id: String,
    attested_by: String,
    attested_at_nanos: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    active: Option<SvidRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<SvidRow>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SvidRow {
    serial: String,
    not_after_secs: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BanRow {
    v: u8,
    reason: String,
    author: String,
    at_nanos: i64,
}

/// Key of the row.
pub(crate) fn row_key(id: &SpiffeId) -> Vec<u8> {
    format!("{}{}", row::AGENT, id.path()).into_bytes()
}

fn ban_key(id: &SpiffeId) -> Vec<u8> {
    format!("{}{}", row::BANNED, id.path()).into_bytes()
}

/// Holds only while `id` is an agent that is not banned.
pub(crate) fn while_admitted(id: &SpiffeId) -> Transaction {
    Transaction::new().require(row_key(id), Compare::Present).require(ban_key(id), Compare::Absent)
}

/// What a failed commit of [`while_admitted`] means.
pub(crate) fn lost(fault: AuthorityError, id: &SpiffeId) -> AuthorityError {
    match fault {
        AuthorityError::Store(StoreError::Conflict { key }) if key == row_key(id) => {
            AuthorityError::NotAnAgent(id.clone())
        }
        AuthorityError::Store(StoreError::Conflict { key }) if key == ban_key(id) => {
            AuthorityError::AgentBanned(id.clone())
        }
        other => other,
    }
}

impl AgentRecord {
    /// One that attests now.
    pub(crate) fn new(spiffe_id: SpiffeId, attested_by: &str, now: UnixTime) -> Self {
        let attested_by = attested_by.to_owned();
        Self { spiffe_id, attested_by, attested_at: now, active: None, next: None, ban: None }
    }

    /// Puts its row; the ban has one of its own.
    pub(crate) fn write(&self, transaction: Transaction) -> Result<Transaction, AuthorityError> {
        let key = row_key(&self.spiffe_id);
        let svid = |svid: &AgentSvid| SvidRow {
            serial: svid.serial.to_string(),
            not_after_secs: svid.not_after.as_secs(),
        };
        let row = AgentRow {
            v: 1,
            spiffe_id: self.spiffe_id.to_string(),
            attested_by: self.attested_by.clone(),
            attested_at_nanos: self.attested_at.as_nanos(),
            active: self.active.as_ref().map(svid),
            next: self.next.as_ref().map(svid),
        };
        let value = row::write(&key, &row)?;
        Ok(transaction.put(key, value))
    }

    /// Puts its row in place of what was read at `revision`.
    pub(crate) fn replace(&self, revision: Revision) -> Result<Transaction, AuthorityError> {
        let unchanged = Compare::ModifiedAt(revision);
        self.write(Transaction::new().require(row_key(&self.spiffe_id), unchanged))
    }

    /// The end of the latest SVID that is known of it.
    pub fn ends(&self) -> Option<UnixTime> {
        self.active.iter().chain(&self.next).map(|svid| svid.not_after).max()
    }

    fn from_row(
        key: &[u8],
        bytes: &[u8],
        domain: &TrustDomain,
        ban: Option<Ban>,
    ) -> Result<Self, AuthorityError> {
        let row: AgentRow = row::read(key, bytes)?;
        let wrong = |what: &'static str| row::unreadable(key, what);
        let spiffe_id = SpiffeId::parse(&row.spiffe_id).map_err(|fault| row::unreadable(key, fault))?;
        if row.v != 1 || !spiffe_id.is_member_of(domain) || row_key(&spiffe_id) != key {
            return Err(wrong("it is not the row of its agent"));
        }
        let svid = |row: Option<SvidRow>| -> Result<Option<AgentSvid>, AuthorityError> {
            let Some(SvidRow { serial, not_after_secs }) = row else { return Ok(None) };
            let serial = Serial::parse_hex(&serial).ok_or_else(|| wrong("serial"))?;
            Ok(Some(AgentSvid { serial, not_after: UnixTime::from_secs(not_after_secs) }))
        };
        Ok(Self {
            spiffe_id,
            attested_by: row.attested_by,
            attested_at: UnixTime::from_nanos(row.attested_at_nanos),
            active: svid(row.active)?,
            next: svid(row.next)?,
            ban,
        })
    }
}

impl Ban {
    /// Puts the ban of that agent.
    pub(crate) fn write(
        &self,
        id: &SpiffeId,
        transaction: Transaction,
    ) -> Result<Transaction, AuthorityError> {
        let key = ban_key(id);
        let (reason, author) = (self.reason.clone(), self.author.clone());
        let value = row::write(&key, &BanRow { v: 1, reason, author, at_nanos: self.at.as_nanos() })?;
        Ok(transaction.require(key.clone(), Compare::Absent).put(key, value))
    }
}

/// Takes the rows of an agent away.
pub(crate) fn delete(id: &SpiffeId) -> Transaction {
    Transaction::new().require(row_key(id), Compare::Present).delete(row_key(id)).delete(ban_key(id))
}

/// The agent with the revision of its row, if it attested and was not evicted.
pub(crate) fn find(
    store: &dyn Store,
    id: &SpiffeId,
) -> Result<Option<(AgentRecord, Revision)>, AuthorityError> {
    let key = row_key(id);
    let Some(entry) = store.get(&key)? else { return Ok(None) };
    let record = AgentRecord::from_row(&key, &entry.value, id.trust_domain(), ban_of(store, id)?)?;
    Ok(Some((record, entry.modified)))
}

/// Agents in the order of their paths, behind the path `after`.
pub(crate) fn page(
    store: &dyn Store,
    domain: &TrustDomain,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<AgentRecord>, AuthorityError> {
    let prefix = format!("{}/", row::AGENT);
    let after = after.map(|path| format!("{}{path}", row::AGENT));
    let mut found = Vec::new();
    for entry in store.range(prefix.as_bytes(), after.as_ref().map(String::as_bytes), limit)? {
        let record = AgentRecord::from_row(&entry.key, &entry.value, domain, None)?;
        let ban = ban_of(store, &record.spiffe_id)?;
        found.push(AgentRecord { ban, ..record });
    }
    Ok(found)
}

fn ban_of(store: &dyn Store, id: &SpiffeId) -> Result<Option<Ban>, AuthorityError> {
    let key = ban_key(id);
    let Some(entry) = store.get(&key)? else { return Ok(None) };
    let row: BanRow = row::read(&key, &entry.value)?;
    Ok(Some(Ban { reason: row.reason, author: row.author, at: UnixTime::from_nanos(row.at_nanos) }))
}
