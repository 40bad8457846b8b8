//! How long records are kept: whole files go, oldest first, when they are too old or too many (LG4).

use std::{sync::Arc, time::Duration};

use base_ports::UnixTime;

use crate::shelf::WalFile;

/// Limits of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Files whose last record is older are removed.
    pub age: Duration,
    /// Oldest files are removed while all together are larger, bytes.
    pub size: u64,
}

impl Default for Keep {
    /// 30 days, 10 GiB.
    fn default() -> Self {
        Self { age: Duration::from_secs(30 * 24 * 3600), size: 10 << 30 }
    }
}

impl Keep {
    /// The files to remove. The last one, which is being written, never is.
    pub(crate) fn past(&self, files: &[Arc<WalFile>], now: UnixTime) -> Vec<Arc<WalFile>> {
        let Some((_, closed)) = files.split_last() else { return Vec::new() };
        let oldest = (now - self.age).as_nanos();
        let mut total: u64 = files.iter().map(|file| file.len).sum();
        let mut past = Vec::new();
        for file in closed {
            if file.span.to >= oldest && total <= self.size {
                break;
            }
            total = total.saturating_sub(file.len);
            past.push(Arc::clone(file));
        }
        past
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::shelf::Span;

    fn files(spans: &[(i64, u64)]) -> Vec<Arc<WalFile>> {
        let file = |(at, &(secs, len)): (usize, &(i64, u64))| {
            let time = UnixTime::from_secs(secs).as_nanos();
            let span = Span { from: time, to: time };
            Arc::new(WalFile { count: 1, len, span, ..WalFile::new(Path::new("/wal"), at as u64) })
        };
        spans.iter().enumerate().map(file).collect()
    }

    fn firsts(past: &[Arc<WalFile>]) -> Vec<u64> {
        past.iter().map(|file| file.first).collect()
    }

    #[test]
    fn lg4_old_files_go_and_the_current_one_stays() {
        let keep = Keep { age: Duration::from_secs(100), size: u64::MAX };
        let now = UnixTime::from_secs(1_000);
        assert_eq!(firsts(&keep.past(&files(&[(1, 9), (899, 9), (900, 9), (2, 9)]), now)), [0, 1]);
        assert_eq!(firsts(&keep.past(&files(&[(1, 9)]), now)), [0_u64; 0]);
    }

    #[test]
    fn lg4_the_oldest_go_while_the_whole_is_too_large() {
        let keep = Keep { age: Duration::MAX, size: 20 };
        let now = UnixTime::from_secs(1_000);
        assert_eq!(firsts(&keep.past(&files(&[(1, 10), (2, 10), (3, 10), (4, 5)]), now)), [0, 1]);
    }
}
