//! Waking a thread of the ledger, at no cost while it is awake.
//!
//! Lanes ring for the writer and for the keeper. A ring that nobody needs is one relaxed load; the system call is
//! made only for a thread that sleeps.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

/// How a thread of the ledger is woken.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    sleeper: OnceLock<Thread>,
    is_asleep: AtomicBool,
}

impl Bell {
    /// Called once by the thread that waits.
    pub(crate) fn attach(&self) {
        self.sleeper.get_or_init(thread::current);
    }

    /// Wakes the thread whatever it does.
    pub(crate) fn ring(&self) {
        if let Some(thread) = self.sleeper.get() {
            thread.unpark();
        }
    }

    /// Wakes the thread only if it has gone to sleep for long.
    pub(crate) fn ring_sleeper(&self) {
        if self.is_asleep.load(Ordering::Relaxed) && self.is_asleep.swap(false, Ordering::Relaxed) {
            self.ring();
        }
    }

    /// Waits shortly, to look again by itself.
    pub(crate) fn nap(&self, limit: Duration) {
        thread::park_timeout(limit);
    }

    /// Waits until rung or until `limit`, after one nap with the sign out. A lane that pushed before it could see
    /// the sign has its push found after that nap: stores become visible far sooner than a nap ends. Returns whether
    /// nobody rang through the long wait.
    pub(crate) fn sleep(&self, nap: Duration, limit: Duration) -> bool {
        let is_long = self.is_asleep.swap(true, Ordering::SeqCst);
        thread::park_timeout(if is_long { limit } else { nap });
        is_long && self.is_asleep.load(Ordering::Relaxed)
    }

    /// Takes the sign in.
    pub(crate) fn awake(&self) {
        if self.is_asleep.load(Ordering::Relaxed) {
            self.is_asleep.store(false, Ordering::Relaxed);
        }
    }
}
