//! Buckets by identity: at most 65,536, and those go first that are longest ago.

use std::collections::HashMap;
use std::sync::Arc;

use base_ports::Mono;

use super::Bucket;

/// So many identities are remembered.
const MOST: usize = 65_536;
/// So many are forgotten at a time, so that looking for them is paid once for many.
const ROOM: usize = 4_096;

/// Buckets by identity.
#[derive(Debug, Default)]
pub(super) struct Keys {
    known: HashMap<u64, Arc<Bucket>>,
    /// For whoever comes while every bucket is held by a connection.
    rest: Arc<Bucket>,
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// The bucket of an identity. One that a connection holds is never forgotten, or its identity would have two.
    pub(super) fn bucket(&mut self, key: u64, now: Mono) -> Arc<Bucket> {
        if let Some(bucket) = self.known.get(&key) {
            return Arc::clone(bucket);
        }
        if self.known.len() >= MOST && !self.forget(now) {
            return Arc::clone(&self.rest);
        }
        Arc::clone(self.known.entry(key).or_default())
    }

    /// Forgets who has earned everything again, which loses nothing, or else those that are longest ago. False when nobody
    /// can be forgotten.
    fn forget(&mut self, now: Mono) -> bool {
        let is_held = |bucket: &Arc<Bucket>| Arc::strong_count(bucket) > 1;
        let idle = self.known.values().filter(|bucket| !is_held(bucket));
        let mut dues: Vec<u64> = idle.map(|bucket| bucket.due()).collect();
        let nth = ROOM.min(dues.len().saturating_sub(1));
        if dues.is_empty() {
            return false;
        }
        let (_, due, _) = dues.select_nth_unstable(nth);
        let until = (*due).max(now.as_nanos());
        self.known.retain(|_, bucket| is_held(bucket) || bucket.due() > until);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limit::Rate;

    fn at(millis: u64) -> Mono {
        Mono::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn rl_01_identities_are_bounded_and_the_longest_ago_goes_first() {
        let (mut keys, rate) = (Keys::default(), Rate::new(1, Duration::from_secs(3_600), 2));
        for key in 0..MOST as u64 {
            keys.bucket(key, at(key)).take(rate, at(key)).unwrap();
        }
        assert_eq!(keys.len(), MOST);
        let now = at(MOST as u64);
        keys.bucket(1 << 40, now).take(rate, now).unwrap();
        assert!(keys.len() <= MOST);
        // The first came longest ago and begins anew; the last is remembered.
        let mut taken = |key| {
            let bucket = keys.bucket(key, now);
            (0..3).filter(|_| bucket.take(rate, now).is_ok()).count()
        };
        assert_eq!(taken(0), 2);
        assert_eq!(taken(MOST as u64 - 1), 1);
        assert_eq!(taken(1 << 40), 1);
    }

    #[test]
    fn rl_01_an_identity_with_a_connection_is_never_forgotten() {
        let (mut keys, rate) = (Keys::default(), Rate::new(1, Duration::from_secs(3_600), 1));
        let held = keys.bucket(7, at(0));
        held.take(rate, at(0)).unwrap();
        for key in 100..100 + 2 * MOST as u64 {
            keys.bucket(key, at(key)).take(rate, at(key)).unwrap();
            assert!(keys.len() <= MOST);
        }
        assert!(Arc::ptr_eq(&held, &keys.bucket(7, at(1))));
    }

    #[test]
    fn rl_01_when_all_are_held_newcomers_share_one_bucket() {
        let mut keys = Keys::default();
        let held: Vec<_> = (0..MOST as u64).map(|key| keys.bucket(key, at(0))).collect();
        let (one, other) = (keys.bucket(1 << 40, at(1)), keys.bucket(1 << 41, at(1)));
        assert!(Arc::ptr_eq(&one, &other));
        assert_eq!((keys.len(), held.len()), (MOST, MOST));
    }
}
