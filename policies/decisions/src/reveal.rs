//! What the ledger does with the side store: opening one record, and erasing a person (CM5, CM6).
//!
//! Who may do either is the business of whoever calls, and so is that a revelation goes on record; an erasure puts itself
//! there, before anything is gone. Records that are held keep what opens them.

use std::{borrow::Cow, sync::Arc};

use policies_engine::{AdministrationRecord, AuditUnavailable, Principal, Record};

use crate::{
    Ledger, Redaction, StoredRecord,
    commit::{Opening, commitment_of},
    error::{LedgerError, disk},
    side::{oldest, span_of},
};

/// What became of the committed value of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// Nothing of it is committed.
    Nothing,
    /// What it is.
    Clear(Opening),
    /// Somebody of that day was erased, and it can be nobody else any more.
    Erased,
    /// Clear values are kept for less long than records.
    Expired,
    /// It should be there, and is not or cannot be read.
    Lost,
}

impl Opened {
    /// The word of the answer.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Clear(_) => "clear",
            Self::Erased => "erased",
            Self::Expired => "expired",
            Self::Lost => "lost",
        }
    }
}

/// Why nobody was erased, or not everything.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// A hold touches days on which the person is on record.
    #[error("hold `{0}` keeps records that may be about this person; release it first")]
    Held(String),
    /// The holds cannot be read, so everything is held.
    #[error("the holds of the ledger cannot be read, so everything is held")]
    HoldsUnreadable,
    /// It could not be put on record; then nothing was erased.
    #[error(transparent)]
    Unrecorded(AuditUnavailable),
    /// The disk refused when it was on record already. Ask again.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The thread that was to do it failed.
    #[error("the erasure was not carried out to its end; ask again")]
    Broken(#[from] tokio::task::JoinError),
}

impl Ledger {
    pub(crate) fn redaction(&self) -> &Redaction {
        &self.inner().config.redaction
    }

    /// The value of a filter as it may go on record: who asks for a person does not write the name into the ledger.
    #[must_use]
    pub fn told<'v>(&self, name: &str, value: &'v str) -> Cow<'v, str> {
        self.redaction().told(name, value)
    }

    /// Opens what that record is committed to: who calls, or on whose behalf. Reads files: call it from a thread that may block.
    #[must_use]
    pub fn open_committed(&self, record: &StoredRecord) -> Opened {
        let Some(committed) = commitment_of(record) else { return Opened::Nothing };
        let Some(side) = self.redaction().side() else { return Opened::Lost };
        let inner = self.inner();
        let first = oldest(inner.clock.now().wall, inner.keep.lock().age, inner.config.clear);
        side.reveal(record.id, committed, first)
    }

    /// Erases a person: no commitment can be opened to that id any more, by anybody. Records, tree and proofs stay as they
    /// are. Gives how many keys are gone; none is an answer too, and goes on record like the others.
    ///
    /// # Errors
    /// Why nothing was erased; of [`EraseError::Ledger`] and [`EraseError::Broken`] some may be.
    pub async fn erase(&self, id: &str, reason: &str, by: &Principal) -> Result<u64, EraseError> {
        let (ledger, person) = (self.clone(), id.to_owned());
        tokio::task::spawn_blocking(move || ledger.may_erase(&person)).await??;
        let subject = self.redaction().hashed(id).unwrap_or_default();
        let record = AdministrationRecord {
            operation: "erase".to_owned(),
            principal: Some(by.clone()),
            details: vec![("subject".to_owned(), subject), ("reason".to_owned(), reason.to_owned())],
            time: self.inner().clock.now(),
        };
        let (_, recorded) = self.append(Record::Administration(record)).map_err(EraseError::Unrecorded)?;
        recorded.await.map_err(EraseError::Unrecorded)?;
        let Some(side) = self.redaction().side().map(Arc::clone) else { return Ok(0) };
        let person = id.to_owned();
        let erased = tokio::task::spawn_blocking(move || side.erase(&person)).await?;
        Ok(erased.map_err(disk("replace files in", &self.inner().config.dir.join("side")))?)
    }

    fn may_erase(&self, id: &str) -> Result<(), EraseError> {
        let days = self.redaction().side().map(|side| side.days_of(id)).unwrap_or_default();
        for day in days {
            let touching = self.inner().holds.touching(0, u64::MAX, span_of(day));
            match touching.as_deref() {
                Some([]) => (),
                Some([hold, ..]) => return Err(EraseError::Held(hold.name.clone())),
                None => return Err(EraseError::HoldsUnreadable),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
