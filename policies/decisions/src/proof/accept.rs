//! Accepting a loss: a ledger that is not what was signed goes on under a new name, and the old tree stays (LG3).

use std::sync::Arc;

use base_ports::{Clock, Disk, Rng};
use policies_engine::{AdministrationRecord, Principal, Record};

use super::{TreeError, name::LogName};
use crate::{Ledger, LedgerConfig, LedgerError};

/// What became of a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// It is what was signed; nothing was changed.
    NothingLost,
    /// A new log was begun.
    Begun {
        /// What was wrong.
        why: String,
        /// Name of the log that ended.
        old: String,
        /// Name of the new one.
        new: String,
    },
}

/// Begins a new log over the records that are there, if the ledger is not what its checkpoint covers, and puts on record
/// who did it. The ledger must not be open.
///
/// # Errors
/// The records themselves cannot be opened or written.
pub async fn accept_loss(
    config: &LedgerConfig,
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
    rng: &dyn Rng,
    by: Principal,
) -> Result<Accepted, LedgerError> {
    let why = match Ledger::open(config.clone(), Arc::clone(disk), Arc::clone(clock), rng) {
        Ok(_) => return Ok(Accepted::NothingLost),
        Err(LedgerError::Tree(error)) if error.is_loss() => error,
        Err(error) => return Err(error),
    };
    let (dir, base) = (&config.dir, format!("{}/decisions/{}", config.trust_domain, config.name));
    let name = match LogName::load(dir, disk.as_ref()) {
        Ok(name) => name,
        Err(TreeError::Name { .. }) => None,
        Err(error) => return Err(LedgerError::Tree(error)),
    };
    // A name that cannot be read may have been any: the next free directory tells.
    let number = name.map_or_else(
        || {
            (1..).find(|number| *number > 1 && !disk.exists(&dir.join(format!("log-{number}")))).unwrap_or(2)
                - 1
        },
        |name| name.number,
    );
    let old = LogName { number, base: 0, is_signed: true };
    let ledger = Ledger::open(
        LedgerConfig { signer: None, ..config.clone() },
        Arc::clone(disk),
        Arc::clone(clock),
        rng,
    )?;
    let new = LogName { number: number + 1, base: ledger.inner().shelf.first_index(), is_signed: false };
    let (was, is) = (old.origin(&base), new.origin(&base));
    let details = [("why", why.to_string()), ("old_log", was.clone()), ("new_log", is.clone())];
    let record = Record::Administration(AdministrationRecord {
        operation: "decisions.accept_loss".to_owned(),
        principal: Some(by),
        details: details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        time: clock.now(),
    });
    // On disk before the change: an accepted loss that nobody can read of would be a silent one.
    let (_, synced) = ledger.append(record).map_err(LedgerError::NotRecorded)?;
    synced.await.map_err(LedgerError::NotRecorded)?;
    ledger.close();
    new.save(dir, disk.as_ref()).map_err(LedgerError::Tree)?;
    Ok(Accepted::Begun { why: why.to_string(), old: was, new: is })
}
