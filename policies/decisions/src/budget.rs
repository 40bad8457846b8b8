//! What one question may cost (QY3). Scans ask before each file, and every thousand rows within one.
//!
//! Time in the scanning thread stands for its CPU time: the thread does nothing but read and compare. A question that
//! runs over answers what it has, says so, and can be continued by cursor.

use std::time::Duration;

use base_ports::{Clock, Mono};

/// What one question may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Time in the scanning thread.
    pub scan: Duration,
    /// Time since the question came, with waiting for a thread.
    pub wall: Duration,
    /// Bytes read from files.
    pub read: u64,
}

impl Caps {
    /// For readers: 2 s of scanning, 10 s in all, 1 GiB.
    pub const READER: Caps =
        Caps { scan: Duration::from_secs(2), wall: Duration::from_secs(10), read: 1 << 30 };

    /// For this process itself, which asks seldom.
    pub(crate) const OWN: Caps =
        Caps { scan: Duration::from_secs(10), wall: Duration::from_secs(10), read: u64::MAX };
}

/// The cap that ended a question early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    /// Its time is over.
    Time,
    /// It has read enough.
    Bytes,
}

impl Cap {
    /// The `reason` of a partial answer.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Cap::Time => "time budget reached",
            Cap::Bytes => "read budget reached",
        }
    }
}

/// What one question has cost so far.
#[derive(Debug)]
pub(crate) struct Budget<'a> {
    caps: Caps,
    clock: &'a dyn Clock,
    asked: Mono,
    scanning: Mono,
    read: u64,
}

impl<'a> Budget<'a> {
    /// Begins scanning now, for a question that came at `asked`.
    pub(crate) fn new(caps: Caps, asked: Mono, clock: &'a dyn Clock) -> Self {
        Self { caps, clock, asked, scanning: clock.mono(), read: 0 }
    }

    /// Bytes that were read.
    pub(crate) fn spend(&mut self, bytes: u64) {
        self.read = self.read.saturating_add(bytes);
    }

    /// The cap that is reached, if one is.
    pub(crate) fn over(&self) -> Option<Cap> {
        let now = self.clock.mono();
        let is_late = now.saturating_since(self.scanning) > self.caps.scan
            || now.saturating_since(self.asked) > self.caps.wall;
        if is_late {
            return Some(Cap::Time);
        }
        (self.read > self.caps.read).then_some(Cap::Bytes)
    }
}

#[cfg(test)]
mod tests {
    use base_ports::{ManualClock, UnixTime};

    use super::*;

    #[test]
    fn qy3_each_cap_ends_a_question_by_itself() {
        let second = Duration::from_secs(1);
        assert_eq!(Caps::READER, Caps { scan: 2 * second, wall: 10 * second, read: 1 << 30 });
        for (waited, scanned, read, over) in [
            (Duration::ZERO, 2 * second, 1 << 30, None),
            (8 * second, 2 * second, 1 << 30, None),
            (Duration::ZERO, 2 * second + Duration::from_nanos(1), 0, Some(Cap::Time)),
            // It has waited for a thread for longer than it may take.
            (10 * second, Duration::from_nanos(1), 0, Some(Cap::Time)),
            (Duration::ZERO, Duration::ZERO, (1 << 30) + 1, Some(Cap::Bytes)),
        ] {
            let clock = ManualClock::new(UnixTime::from_secs(1));
            let asked = clock.mono();
            clock.advance(waited);
            let mut budget = Budget::new(Caps::READER, asked, &clock);
            clock.advance(scanned);
            budget.spend(read);
            assert_eq!(budget.over(), over, "{waited:?} {scanned:?} {read}");
        }
    }
}
