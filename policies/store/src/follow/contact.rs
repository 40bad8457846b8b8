//! When the publisher was last heard, and what follows from its silence: `stale` after minutes, denial after a day.
//! Kept on disk, so that a restart does not begin the count anew. Counts on the monotonic clock within one process.

use base_ports::{Clock, Disk, Mono, UnixTime};
use parking_lot::Mutex;
use policies_engine::{Freshness, Patience};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// The file is written this often; a restart forgets no more of the silence than this.
const WRITE: Duration = Duration::from_secs(60);
const FILE: &str = "heard";

#[derive(Debug)]
pub(crate) struct Contact {
    patience: Patience,
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
    path: PathBuf,
    last: Mutex<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    /// How long it had been silent at `at`.
    silence: Duration,
    at: Mono,
    /// When it was heard; none when it never was.
    heard: Option<UnixTime>,
    written: Option<Mono>,
}

impl Contact {
    /// What the last process knew; a publisher that nobody ever heard is counted from now.
    pub(crate) fn open(
        dir: &std::path::Path,
        patience: Patience,
        clock: Arc<dyn Clock>,
        disk: Arc<dyn Disk>,
    ) -> Contact {
        let path = dir.join(FILE);
        let text = disk.read(&path).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let heard = text.and_then(|text| UnixTime::parse_rfc3339(text.trim()).ok());
        let now = clock.now();
        let silence = heard.map(|heard| now.wall.saturating_since(heard)).unwrap_or_default();
        let last = Mutex::new(Last { silence, at: now.mono, heard, written: None });
        Contact { patience, clock, disk, path, last }
    }

    /// The publisher said something. What is to be written down is for the caller to run where it may block.
    #[must_use]
    pub(crate) fn hear(&self) -> Option<impl FnOnce() + Send + 'static> {
        let now = self.clock.now();
        let mut last = self.last.lock();
        let is_due = last.written.is_none_or(|written| now.mono.saturating_since(written) >= WRITE);
        let written = if is_due { Some(now.mono) } else { last.written };
        *last = Last { silence: Duration::ZERO, at: now.mono, heard: Some(now.wall), written };
        let (disk, path) = (Arc::clone(&self.disk), self.path.clone());
        is_due.then_some(move || {
            if let Err(cause) = disk.write_atomic(&path, now.wall.to_string().as_bytes(), 0o600) {
                tracing::warn!(event = "contact_not_written", %cause, "a restart will not know when the publisher was heard");
            }
        })
    }

    pub(crate) fn heard(&self) -> Option<UnixTime> {
        self.last.lock().heard
    }

    pub(crate) fn silence(&self) -> Duration {
        let last = *self.last.lock();
        last.silence.saturating_add(self.clock.mono().saturating_since(last.at))
    }

    pub(crate) fn freshness(&self) -> Freshness {
        self.patience.after(self.silence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base_ports::{ManualClock, MemoryDisk};
    use std::path::Path;

    fn open(clock: &Arc<ManualClock>, disk: &Arc<MemoryDisk>, patience: Patience) -> Contact {
        let (clock, disk) = (Arc::clone(clock) as Arc<dyn Clock>, Arc::clone(disk) as Arc<dyn Disk>);
        disk.create_dir_all(Path::new("/p")).unwrap();
        Contact::open(Path::new("/p"), patience, clock, disk)
    }

    fn hear(contact: &Contact) {
        if let Some(write) = contact.hear() {
            write();
        }
    }

    #[test]
    fn silence_is_stale_after_five_minutes_and_denies_after_a_day_not_before() {
        let clock = Arc::new(ManualClock::new(UnixTime::from_secs(1_764_000_000)));
        let disk = Arc::new(MemoryDisk::new());
        let contact = open(&clock, &disk, Patience::default());
        hear(&contact);
        let mut seen = Vec::new();
        for seconds in [299, 1, 86_099, 1] {
            clock.advance(Duration::from_secs(seconds));
            seen.push(contact.freshness());
        }
        assert_eq!(seen, [Freshness::Fresh, Freshness::Stale, Freshness::Stale, Freshness::Expired]);
        hear(&contact);
        assert_eq!(contact.freshness(), Freshness::Fresh);
    }

    #[test]
    fn a_restart_does_not_begin_the_count_anew_and_a_stepped_clock_changes_nothing() {
        let clock = Arc::new(ManualClock::new(UnixTime::from_secs(1_764_000_000)));
        let disk = Arc::new(MemoryDisk::new());
        hear(&open(&clock, &disk, Patience::default()));
        clock.advance(Duration::from_secs(250));
        let contact = open(&clock, &disk, Patience::default());
        assert_eq!(contact.freshness(), Freshness::Fresh);
        clock.set_wall(UnixTime::from_secs(2_000_000_000));
        assert_eq!(contact.freshness(), Freshness::Fresh, "the wall clock is looked at once");
        clock.advance(Duration::from_secs(50));
        assert_eq!(contact.freshness(), Freshness::Stale);
    }

    #[test]
    fn without_limits_silence_changes_nothing() {
        let clock = Arc::new(ManualClock::new(UnixTime::from_secs(1_764_000_000)));
        let disk = Arc::new(MemoryDisk::new());
        let contact = open(&clock, &disk, Patience { stale_after: None, deny_after: None });
        clock.advance(Duration::from_secs(1_000_000));
        assert_eq!((contact.freshness(), contact.heard()), (Freshness::Fresh, None));
    }
}
