//! How long records are kept: whole files go, oldest first, when they are too old or too many (LG4), unless they are
//! held (LG5).

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base_ports::{Disk, Now, UnixTime};
use parking_lot::Mutex;
use policies_engine::{AdministrationRecord, Record};

use crate::{
    Ledger,
    archive::{Body, Segment},
    error::{LedgerError, disk},
    holds::Holds,
    shelf::{Shelf, Span, WalFile},
    side::{Side, day_at, oldest, span_of},
    source::{Source, Volume},
    writer::WriterDesk,
};

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

/// A file of the log, as retention sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    path: PathBuf,
    first: u64,
    end: u64,
    len: u64,
    span: Span,
    is_segment: bool,
    is_held: bool,
    /// It is still written to.
    is_busy: bool,
}

impl Keep {
    /// The files to remove. One that is being written never is, nor is any behind it; a held one is passed over.
    fn past(&self, pieces: &[Piece], now: UnixTime) -> Vec<Piece> {
        let oldest = (now - self.age).as_nanos();
        let mut total: u64 = pieces.iter().map(|piece| piece.len).sum();
        let mut past = Vec::new();
        for piece in pieces.iter().take_while(|piece| !piece.is_busy) {
            if piece.is_held {
                continue;
            }
            if piece.span.to >= oldest && total <= self.size {
                break;
            }
            total = total.saturating_sub(piece.len);
            past.push(piece.clone());
        }
        past
    }
}

/// Retention at work.
#[derive(Debug)]
pub(crate) struct Retention {
    pub(crate) keep: Arc<Mutex<Keep>>,
    pub(crate) holds: Arc<Holds>,
    /// Where what was removed is put on record.
    pub(crate) writer: Arc<WriterDesk>,
    /// Held files are larger than the limit, and it was said.
    pub(crate) is_over: bool,
    /// Whether closed segments, by their first index, have a record that the filter of a hold asks for.
    pub(crate) known: HashMap<(String, UnixTime, u64), bool>,
    /// Who committed ids are, and how long that is kept where it is less long than records.
    pub(crate) people: Option<Arc<Side>>,
    pub(crate) clear: Option<Duration>,
}

impl Retention {
    /// Removes what is past the limits and puts that on record. `growing` is the first index of the segment that is
    /// being written.
    pub(crate) fn run(
        &mut self,
        shelf: &Shelf,
        growing: Option<u64>,
        disk_port: &dyn Disk,
        now: Now,
    ) -> Result<(), LedgerError> {
        // A hold that is set now waits, and is asked by the next run.
        let holds = Arc::clone(&self.holds);
        let _steady = holds.steady();
        let keep = *self.keep.lock();
        let pieces = self.pieces(shelf, growing, disk_port);
        self.alarm(&pieces, keep.size);
        let (mut removed, mut outcome): (Vec<Piece>, _) = (Vec::new(), Ok(()));
        // What the tree has not yet, it needs. And beside what is held a file leaves a hole: one that the next start does
        // not know as closed it would take for what a crash has left, and give what is behind it other indexes.
        let (treed, settled) = (shelf.treed(), shelf.settled());
        let is_free = |piece: &Piece| piece.end <= treed && (piece.is_segment || piece.end <= settled);
        for piece in keep.past(&pieces, now.wall).into_iter().take_while(is_free) {
            let _leaving = shelf.leaving();
            if let Err(error) = disk_port.remove(&piece.path) {
                outcome = Err(disk("remove", &piece.path)(error));
                break;
            }
            match piece.is_segment {
                true => {
                    shelf.remove_segment(piece.first);
                    self.known.retain(|(_, _, first), _| *first != piece.first);
                }
                false => shelf.remove(piece.first),
            }
            removed.push(piece);
        }
        if let (Some(first), Some(last)) = (removed.first(), removed.last()) {
            let bytes: u64 = removed.iter().map(|piece| piece.len).sum();
            self.writer.own(Record::Administration(AdministrationRecord {
                operation: "retention".to_owned(),
                principal: None,
                details: vec![
                    ("first".to_owned(), first.first.to_string()),
                    ("last".to_owned(), last.end.saturating_sub(1).to_string()),
                    ("files".to_owned(), removed.len().to_string()),
                    ("bytes".to_owned(), bytes.to_string()),
                ],
                time: now,
            }));
        }
        self.retire_people(&pieces, &removed, keep, now.wall)?;
        outcome.and_then(|()| shelf.quarantine().retire(shelf.first_index()..shelf.next_index()))
    }

    /// Removes what opens commitments of days that are past their time, or have no records any more. What is held keeps it.
    fn retire_people(
        &self,
        pieces: &[Piece],
        removed: &[Piece],
        keep: Keep,
        now: UnixTime,
    ) -> Result<(), LedgerError> {
        let Some(side) = &self.people else { return Ok(()) };
        let left = pieces.iter().filter(|piece| piece.end > piece.first && !removed.contains(piece));
        let first = left.clone().map(|piece| day_at(UnixTime::from_nanos(piece.span.from))).min();
        let kept = oldest(now, keep.age, self.clear);
        let held: Vec<Span> = left.filter(|piece| piece.is_held).map(|piece| piece.span).collect();
        let is_held = |day| held.iter().any(|span| span.touches(span_of(day)));
        // Keys are there before their records: those of today and of a record from before midnight are left alone.
        let oldest = first.map_or(kept, |first| first.max(kept)).min(day_at(now).saturating_sub(1));
        side.retire(oldest, is_held).map_err(disk("remove files in", Path::new("side")))
    }

    fn pieces(&mut self, shelf: &Shelf, growing: Option<u64>, disk_port: &dyn Disk) -> Vec<Piece> {
        let segments = shelf.segments();
        let files = shelf.files();
        let current = files.last().map(|file| file.first);
        let source = Source::new(shelf, disk_port);
        let held: Vec<bool> = segments.iter().map(|segment| self.holds(segment, &source)).collect();
        let segments = segments.iter().zip(held).map(|(segment, is_held)| Piece {
            path: segment.path.clone(),
            first: segment.first,
            end: segment.end,
            len: segment.len,
            span: segment.span,
            is_segment: true,
            is_held,
            is_busy: Some(segment.first) == growing,
        });
        // What stands in no segment has no index: any hold that touches it holds it.
        let holds = &self.holds;
        let is_touched = |file: &WalFile| {
            holds.touching(file.first, file.end(), file.span).is_none_or(|touching| !touching.is_empty())
        };
        let files = files.iter().map(|file| Piece {
            path: file.path.clone(),
            first: file.first,
            end: file.end(),
            len: file.len,
            span: file.span,
            is_segment: false,
            is_held: is_touched(file),
            is_busy: Some(file.first) == current,
        });
        segments.chain(files).collect()
    }

    /// Whether a hold keeps that segment. A closed one is asked once for each filter.
    fn holds(&mut self, segment: &Arc<Segment>, source: &Source<'_>) -> bool {
        let Some(touching) = self.holds.touching(segment.first, segment.end, segment.span) else {
            return true;
        };
        touching.iter().any(|hold| {
            let wants = hold.filter.wants();
            let key = (hold.name.clone(), hold.at, segment.first);
            if wants.is_empty() {
                return true;
            }
            if let Some(known) = self.known.get(&key) {
                return *known;
            }
            let extents = source.extents(&Volume::Segment(Arc::clone(segment)), hold.range.span(), &wants);
            // What cannot be read now may hold such a record.
            let (has_some, is_certain) = match extents {
                Ok(extents) => (!extents.is_empty(), matches!(segment.body, Body::Closed(_))),
                Err(_unread) => (true, false),
            };
            if is_certain {
                self.known.insert(key, has_some);
            }
            has_some
        })
    }

    /// Held files are never removed: when they alone are too large, somebody must decide (LG5).
    fn alarm(&mut self, pieces: &[Piece], size: u64) {
        let held: u64 = pieces.iter().filter(|piece| piece.is_held).map(|piece| piece.len).sum();
        let is_over = held > size;
        if is_over && !self.is_over {
            tracing::error!(
                event = "ledger_holds_exceed_size",
                code = "PC5020",
                held,
                limit = size,
                "held records take more room than the ledger may; release a hold or raise the limit"
            );
        }
        self.is_over = is_over;
        self.holds.set_over(is_over);
    }
}

impl Ledger {
    /// From the next run of retention on, within a second, these limits count. Who may change them, and that it goes on
    /// record, is the business of whoever calls.
    pub fn set_keep(&self, keep: Keep) {
        *self.inner().keep.lock() = keep;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(spans: &[(i64, u64)]) -> Vec<Piece> {
        let piece = |(at, &(secs, len)): (usize, &(i64, u64))| {
            let time = UnixTime::from_secs(secs).as_nanos();
            Piece {
                path: PathBuf::from("/x"),
                first: at as u64,
                end: at as u64 + 1,
                len,
                span: Span { from: time, to: time },
                is_segment: true,
                is_held: false,
                is_busy: at + 1 == spans.len(),
            }
        };
        spans.iter().enumerate().map(piece).collect()
    }

    fn firsts(past: &[Piece]) -> Vec<u64> {
        past.iter().map(|piece| piece.first).collect()
    }

    #[test]
    fn lg4_old_files_go_and_the_current_one_stays() {
        let keep = Keep { age: Duration::from_secs(100), size: u64::MAX };
        let now = UnixTime::from_secs(1_000);
        assert_eq!(firsts(&keep.past(&pieces(&[(1, 9), (899, 9), (900, 9), (2, 9)]), now)), [0, 1]);
        assert_eq!(firsts(&keep.past(&pieces(&[(1, 9)]), now)), [0_u64; 0]);
    }

    #[test]
    fn lg4_the_oldest_go_while_the_whole_is_too_large() {
        let keep = Keep { age: Duration::MAX, size: 20 };
        let now = UnixTime::from_secs(1_000);
        assert_eq!(firsts(&keep.past(&pieces(&[(1, 10), (2, 10), (3, 10), (4, 5)]), now)), [0, 1]);
    }

    #[test]
    fn lg5_a_held_file_stays_and_those_behind_it_go() {
        let keep = Keep { age: Duration::from_secs(100), size: 15 };
        let now = UnixTime::from_secs(1_000);
        let mut files = pieces(&[(1, 10), (2, 10), (990, 10), (995, 10), (999, 5)]);
        files[0].is_held = true;
        files[2].is_held = true;
        assert_eq!(firsts(&keep.past(&files, now)), [1, 3]);
    }
}
