//! The accounts of one connection at the rate limits that its calls met (RL-01): opened at the first call, kept to its end.

use std::sync::Arc;

use base_ports::Mono;
use enforcer_traffic::{Account, Exceeded, RateLimit};
use parking_lot::Mutex;

use crate::secured::Secured;

/// After a reload the old accounts are of no use; from so many on they are closed.
const MOST: usize = 64;

/// The accounts of one connection. Only its own calls take the lock, and only where a rate is configured.
#[derive(Debug, Default)]
pub(crate) struct Accounts(Mutex<Vec<Account>>);

impl Accounts {
    /// Takes a call at that limit.
    ///
    /// # Errors
    /// When it is one too many.
    pub(crate) fn take(
        &self,
        limit: &Arc<RateLimit>,
        secured: &Secured,
        now: Mono,
    ) -> Result<(), Box<Exceeded>> {
        let mut accounts = self.0.lock();
        if let Some(known) = accounts.iter().find(|account| account.is_at(limit)) {
            return known.take(now).map_err(Box::new);
        }
        if accounts.len() >= MOST {
            accounts.clear();
        }
        let account = limit.account(secured.arrival().identity, secured.principal.hash64(), now);
        let taken = account.take(now).map_err(Box::new);
        accounts.push(account);
        taken
    }
}
