//! What the calls of a worker hold in memory, per call, connection and caller (OV-01).
//!
//! A call has an account here only while it waits with more than the usual buffers; it says itself what it holds, and ends
//! itself when it was chosen to. Small calls, and large ones that flow, never come here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZeroU32;

use enforcer_traffic::{Held, to_end};
use parking_lot::Mutex;

/// From so many bytes on a call has an account: more than one part and its buffer.
pub(crate) const LARGE: u32 = 24 * 1024;
/// While memory is short, such a part of what is held is freed at a time.
const PART: u64 = 8;

/// The accounts of one worker.
#[derive(Debug, Default)]
pub(crate) struct Holdings(Mutex<Accounts>);

#[derive(Debug, Default)]
struct Accounts {
    last: u32,
    calls: HashMap<u32, Call>,
    /// By number of the connection.
    connections: HashMap<u64, u64>,
}

#[derive(Debug)]
struct Call {
    connection: u64,
    held: Held,
    /// It was chosen to end.
    ends: bool,
}

impl Holdings {
    /// Opens an account of a call on that connection; its number, until it is closed.
    pub(crate) fn open(&self, held: Held, connection: u64) -> NonZeroU32 {
        let Accounts { last, calls, .. } = &mut *self.0.lock();
        loop {
            *last = last.wrapping_add(1);
            if let Some(number) = NonZeroU32::new(*last)
                && let Entry::Vacant(free) = calls.entry(number.get())
            {
                free.insert(Call { connection, held: Held { bytes: 0, ..held }, ends: false });
                return number;
            }
        }
    }

    /// The call of that account holds so much now; false when it must end: it was chosen to, or its connection holds more
    /// than `most`.
    pub(crate) fn may_stay(&self, number: NonZeroU32, bytes: u32, most: u64) -> bool {
        let Accounts { calls, connections, .. } = &mut *self.0.lock();
        let Some(call) = calls.get_mut(&number.get()) else { return true };
        let before = std::mem::replace(&mut call.held.bytes, bytes.into());
        let sum = connections.entry(call.connection).or_default();
        *sum = sum.saturating_sub(before).saturating_add(bytes.into());
        !call.ends && *sum <= most
    }

    /// The call is over.
    pub(crate) fn close(&self, number: NonZeroU32) {
        let Accounts { calls, connections, .. } = &mut *self.0.lock();
        let Some(call) = calls.remove(&number.get()) else { return };
        if let Entry::Occupied(mut sum) = connections.entry(call.connection) {
            *sum.get_mut() = sum.get().saturating_sub(call.held.bytes);
            if *sum.get() == 0 {
                sum.remove();
            }
        }
    }

    /// Chooses calls to end; gives their number, and the bytes that they hold.
    pub(crate) fn choose(&self) -> (usize, u64) {
        let mut accounts = self.0.lock();
        let mut calls: Vec<&mut Call> = accounts.calls.values_mut().filter(|call| !call.ends).collect();
        let held: Vec<Held> = calls.iter().map(|call| call.held).collect();
        let sum = held.iter().fold(0_u64, |sum, held| sum.saturating_add(held.bytes));
        let (mut count, mut bytes) = (0_usize, 0_u64);
        for at in to_end(&held, sum.div_ceil(PART)) {
            if let Some(call) = calls.get_mut(at) {
                call.ends = true;
                count = count.saturating_add(1);
                bytes = bytes.saturating_add(call.held.bytes);
            }
        }
        (count, bytes)
    }

    /// What the connections hold, by their numbers; those that hold no more than the usual buffers are not among them.
    pub(crate) fn of_connections(&self) -> HashMap<u64, u64> {
        self.0.lock().connections.clone()
    }
}

#[cfg(test)]
mod tests {
    use enforcer_traffic::Priority;

    use super::*;

    fn held(owner: u64) -> Held {
        Held { owner, is_stranger: false, priority: Priority::Normal, bytes: 0 }
    }

    #[test]
    fn ov_01_a_connection_holds_what_its_calls_hold_and_no_more_than_it_may() {
        let holdings = Holdings::default();
        let [one, other, elsewhere] = [7, 7, 8].map(|connection| holdings.open(held(1), connection));
        let stays = |call, bytes| holdings.may_stay(call, bytes, 100);
        assert!(stays(one, 60) && stays(other, 40) && stays(elsewhere, 100));
        assert!(!stays(other, 41), "one byte too many");
        assert!(stays(one, 10) && stays(other, 90), "what was given back counts no more");
        assert_eq!(holdings.of_connections(), HashMap::from([(7, 100), (8, 100)]));
        holdings.close(one);
        assert_eq!(holdings.of_connections(), HashMap::from([(7, 90), (8, 100)]));
        [other, elsewhere].into_iter().for_each(|call| holdings.close(call));
        assert!(holdings.of_connections().is_empty());
    }

    #[test]
    fn ov_01_an_eighth_is_freed_at_a_time_and_nobody_is_chosen_twice() {
        let holdings = Holdings::default();
        let calls: Vec<_> = (0..16).map(|owner| holdings.open(held(owner), owner)).collect();
        let stay = || calls.iter().filter(|call| holdings.may_stay(**call, 1_000, u64::MAX)).count();
        assert_eq!(stay(), 16);
        assert_eq!(holdings.choose(), (2, 2_000));
        assert_eq!(stay(), 14);
        assert_eq!(holdings.choose(), (2, 2_000), "of those that are left");
        calls.iter().for_each(|call| holdings.close(*call));
        assert_eq!(holdings.choose(), (0, 0));
    }
}
