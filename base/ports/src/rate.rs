//! How often somebody may ask in a second: a count per key over the clock port. Called where work is done for a name that
//! costs its owner nothing; it never waits, it says no.
//!
//! Counts per whole second: what two neighbouring seconds let through together is at most twice the limit.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;

use crate::Mono;

/// Keys that are remembered before those of past seconds are forgotten.
const REMEMBERED: usize = 1024;

/// What each key asked for in its last second.
#[derive(Debug)]
pub struct Rate<K>(Mutex<HashMap<K, Count>>);

#[derive(Debug)]
struct Count {
    second: u64,
    asked: u32,
}

impl<K> Default for Rate<K> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Hash + Eq> Rate<K> {
    /// Counts a request; false when `limit` of this second are through already.
    pub fn admit(&self, key: K, limit: u32, now: Mono) -> bool {
        let second = now.as_nanos().checked_div(1_000_000_000).unwrap_or_default();
        let mut counts = self.0.lock();
        if counts.len() >= REMEMBERED && !counts.contains_key(&key) {
            counts.retain(|_, count| count.second == second);
        }
        let count = counts.entry(key).or_insert(Count { second, asked: 0 });
        if count.second != second {
            *count = Count { second, asked: 0 };
        }
        count.asked = count.asked.saturating_add(1);
        count.asked <= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_share_of_every_second_and_past_ones_are_forgotten() {
        let rate = Rate::default();
        let at = |second: u64| Mono::from_nanos(second * 1_000_000_000 + 5);
        let admitted = (0..5).filter(|_| rate.admit(1, 3, at(1))).count();
        assert_eq!(admitted, 3);
        assert!(rate.admit(2, 3, at(1)));
        assert!(rate.admit(1, 3, at(2)));
        for n in 0..3_000 {
            rate.admit(n, 3, at(n));
        }
        assert!(rate.0.lock().len() <= REMEMBERED);
    }
}
