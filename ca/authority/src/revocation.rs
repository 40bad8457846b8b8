//! What was revoked, by whom and why, as a record: the authority's side of the deny set (RV-03).
//!
//! Each stands in two rows, one by its name and one in the order of the ends, so that what has ended is found without
//! looking at the rest. Written and removed in `authority/revocations`.

use std::time::Duration;

use base_ports::UnixTime;
use base_store::{Compare, Transaction};
use ca_identity::{KeyId, Revoked, Serial, SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};

use crate::error::AuthorityError;
use crate::row;

/// How long an item stays after what it denies has ended: clocks differ (RV-05).
const STAYS: Duration = Duration::from_secs(600);
const REASON_BYTES: usize = 200;
/// So many characters of any kind fit into a reason.
pub(crate) const REASON_CHARS: usize = REASON_BYTES / 4;

/// What somebody wants denied, as far as he knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Named {
    /// A certificate. Its issuer is found in the records of what was issued, unless it is given.
    Certificate {
        /// Serial number.
        serial: Serial,
        /// The key that issued it.
        issuer: Option<KeyId>,
    },
    /// An identity, with all that it holds and whatever would be issued for it.
    Id(SpiffeId),
    /// The tokens of a key.
    JwtKey {
        /// Whose key.
        domain: TrustDomain,
        /// Its name.
        kid: String,
    },
    /// One token.
    Token {
        /// Whose token.
        domain: TrustDomain,
        /// Its name.
        jti: String,
    },
}

/// A revocation that is asked for.
#[derive(Debug, Clone)]
pub struct NewRevocation {
    /// What is to be denied.
    pub what: Named,
    /// Why; 1 to 200 bytes, goes on record.
    pub reason: String,
    /// Who asks.
    pub author: String,
    /// When what is denied ends by itself; absent = as the records say.
    pub until: Option<UnixTime>,
}

/// Something that is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revocation {
    /// What.
    pub what: Revoked,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub author: String,
    /// Since when.
    pub at: UnixTime,
    /// When what is denied ends by itself; `None` = never, it is denied until somebody lifts that.
    pub until: Option<UnixTime>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokedRow {
    v: u8,
    what: String,
    reason: String,
    author: String,
    at_nanos: i64,
    until_secs: Option<i64>,
}

/// A reason that can go on record.
pub(crate) fn check_reason(reason: &str) -> Result<(), AuthorityError> {
    let is_good = (1..=REASON_BYTES).contains(&reason.len()) && !reason.contains(char::is_control);
    if is_good { Ok(()) } else { Err(AuthorityError::Reason) }
}

/// Key of the row of that name.
pub(crate) fn row_key(what: &Revoked) -> Vec<u8> {
    format!("{}{what}", row::REVOKED).into_bytes()
}

/// The name in a key of the order of ends, when that lies before `now`.
pub(crate) fn ended(key: &[u8], now: UnixTime) -> Result<Option<Revoked>, AuthorityError> {
    let read = || {
        let (end, name) = std::str::from_utf8(key).ok()?.strip_prefix(row::REVOKED_END)?.split_once('/')?;
        Some((end.parse::<i64>().ok()?, Revoked::parse(name)?))
    };
    let (end, what) = read().ok_or_else(|| row::unreadable(key, "it names no end"))?;
    Ok((now > UnixTime::from_secs(end)).then_some(what))
}

/// Issuance for an identity holds only while that identity is not revoked in the same store (RV-03).
pub(crate) fn unless_revoked(transaction: Transaction, id: &SpiffeId) -> Transaction {
    transaction.require(row_key(&Revoked::Id(id.clone())), Compare::Absent)
}

/// What a failed commit of [`unless_revoked`] means.
pub(crate) fn lost(fault: base_store::StoreError, id: &SpiffeId) -> AuthorityError {
    match fault {
        base_store::StoreError::Conflict { key } if key == row_key(&Revoked::Id(id.clone())) => {
            AuthorityError::Revoked(id.clone())
        }
        other => other.into(),
    }
}

impl Revocation {
    /// Puts both rows, when there is no such revocation yet.
    pub(crate) fn write(&self, transaction: Transaction) -> Result<Transaction, AuthorityError> {
        let key = row_key(&self.what);
        let row = RevokedRow {
            v: 1,
            what: self.what.to_string(),
            reason: self.reason.clone(),
            author: self.author.clone(),
            at_nanos: self.at.as_nanos(),
            until_secs: self.until.map(UnixTime::as_secs),
        };
        let value = row::write(&key, &row)?;
        let transaction = transaction.require(key.clone(), Compare::Absent).put(key, value);
        Ok(match self.end_key() {
            Some(end) => transaction.put(end, Vec::new()),
            None => transaction,
        })
    }

    /// Deletes both rows.
    pub(crate) fn delete(&self, transaction: Transaction) -> Transaction {
        let transaction = transaction.delete(row_key(&self.what));
        self.end_key().into_iter().fold(transaction, Transaction::delete)
    }

    pub(crate) fn from_row(key: &[u8], bytes: &[u8]) -> Result<Self, AuthorityError> {
        let row: RevokedRow = row::read(key, bytes)?;
        Ok(Self {
            what: Revoked::parse(&row.what).ok_or_else(|| row::unreadable(key, "it names nothing"))?,
            reason: row.reason,
            author: row.author,
            at: UnixTime::from_nanos(row.at_nanos),
            until: row.until_secs.map(UnixTime::from_secs),
        })
    }

    fn end_key(&self) -> Option<Vec<u8>> {
        let leaves = self.until? + STAYS;
        Some(format!("{}{:012}/{}", row::REVOKED_END, leaves.as_secs(), self.what).into_bytes())
    }
}
