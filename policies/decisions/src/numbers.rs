//! Sequence numbers of one lane, used only after they were reserved on disk (SQ3).
//!
//! The lane asks for the next reservation at half use and goes on; the keeper writes it and raises the bound. A lane
//! that has used up its numbers takes none beyond the bound, so that after a crash the bound still holds.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::bell::Bell;

/// Numbers reserved at a time, and so the bound of what a crash may leave open.
pub(crate) const RESERVATION: u64 = 4_096;

/// Reservations of a worker's lane at a time: as many numbers as its ring holds records. One alone would be used up
/// faster than a busy disk syncs, and a lane without numbers refuses calls.
pub(crate) const WORKER_BLOCKS: u64 = 4;

/// Largest reservation, for lanes that would use up smaller ones faster than a disk syncs.
pub(crate) const MAX_RESERVATION: u64 = 65_536;

/// What lane and keeper share about a lane's numbers.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    bound: AtomicU64,
    used: AtomicU64,
}

impl Reserved {
    /// The last number that may be used.
    pub(crate) fn bound(&self) -> u64 {
        self.bound.load(Ordering::Acquire)
    }

    /// Raises the bound, once it is on disk.
    pub(crate) fn raise(&self, bound: u64) {
        self.bound.fetch_max(bound, Ordering::Release);
    }

    /// The last number the lane reported to have used.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// The counter of one lane; only its owner touches it.
#[derive(Debug)]
pub(crate) struct Numbers {
    next: u64,
    bound: u64,
    ask_at: u64,
    reserved: Arc<Reserved>,
    keeper: Arc<Bell>,
}

impl Numbers {
    pub(crate) fn new(reserved: Arc<Reserved>, keeper: Arc<Bell>) -> Self {
        Self { next: 1, bound: 0, ask_at: 0, reserved, keeper }
    }

    /// Takes the next number, if one is reserved.
    pub(crate) fn take(&mut self) -> Option<u64> {
        if self.next >= self.ask_at || self.next > self.bound {
            self.refresh();
        }
        if self.next > self.bound {
            return None;
        }
        let number = self.next;
        self.next += 1;
        Some(number)
    }

    /// Puts back all numbers from `next` on: nothing that carries them was written.
    pub(crate) fn rewind(&mut self, next: u64) {
        self.next = self.next.min(next);
    }

    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    #[cold]
    fn refresh(&mut self) {
        let used = self.next - 1;
        self.reserved.used.store(used, Ordering::Relaxed);
        let bound = self.reserved.bound();
        if bound > self.bound {
            self.bound = bound;
            self.ask_at = self.next + (bound - used).div_ceil(2);
        }
        if self.next >= self.ask_at || self.next > self.bound {
            self.keeper.ring();
            // Asked; look again after a few more.
            self.ask_at = self.next + 64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sq3_no_number_beyond_the_bound_is_ever_taken() {
        let reserved = Arc::new(Reserved::default());
        let mut numbers = Numbers::new(Arc::clone(&reserved), Arc::default());
        assert_eq!(numbers.take(), None);
        reserved.raise(3);
        assert_eq!(
            (0..5).map(|_| numbers.take()).collect::<Vec<_>>(),
            [Some(1), Some(2), Some(3), None, None]
        );
        reserved.raise(5);
        assert_eq!((0..3).map(|_| numbers.take()).collect::<Vec<_>>(), [Some(4), Some(5), None]);
    }

    #[test]
    fn sq3_the_next_reservation_is_asked_for_at_half_use() {
        let reserved = Arc::new(Reserved::default());
        reserved.raise(RESERVATION);
        let mut numbers = Numbers::new(Arc::clone(&reserved), Arc::default());
        let mut take = |count| (0..count).for_each(|_| assert!(numbers.take().is_some()));
        take(RESERVATION / 2);
        assert_eq!(reserved.used(), 0);
        take(1);
        assert_eq!(reserved.used(), RESERVATION / 2);
    }

    #[test]
    fn numbers_put_back_are_taken_again() {
        let reserved = Arc::new(Reserved::default());
        reserved.raise(9);
        let mut numbers = Numbers::new(reserved, Arc::default());
        assert_eq!((numbers.take(), numbers.take()), (Some(1), Some(2)));
        numbers.rewind(2);
        assert_eq!(numbers.take(), Some(2));
    }
}
