//! The ledger looks at itself: once an hour one closed segment, with little weight (chapter 16).
//!
//! Every block is read, every record is compared with its tile, and the index with its checksum. What is wrong is an
//! alarm until the segment is good again or gone; nothing is mended here.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use base_ports::{Clock, Disk, Mono};
use parking_lot::Mutex;

use crate::{
    archive::{Body, Part, Segment},
    bell::Bell,
    error::LedgerError,
    leaf::View,
    proof::{LastTile, Tree, TreeHash},
    shelf::{Shelf, Span},
    source::{Source, Volume},
};

/// How often a segment is looked at.
const PERIOD: Duration = Duration::from_secs(3_600);

/// How often it is looked whether it is time.
const LOOK: Duration = Duration::from_secs(30);

/// What others ask of the self-check.
#[derive(Debug, Default)]
pub(crate) struct CheckDesk {
    bell: Arc<Bell>,
    is_stopping: AtomicBool,
    checked: AtomicU64,
    /// What is wrong, by the first index of the segment.
    wrong: Mutex<BTreeMap<u64, String>>,
}

impl CheckDesk {
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Segments that were looked at since the start.
    pub(crate) fn checked(&self) -> u64 {
        self.checked.load(Ordering::Relaxed)
    }

    /// What was found wrong and is there still.
    pub(crate) fn failure(&self) -> Option<String> {
        self.wrong.lock().values().next().cloned()
    }
}

/// The self-check's own things.
#[derive(Debug)]
pub(crate) struct SelfCheck {
    pub(crate) desk: Arc<CheckDesk>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tree: Option<Arc<Tree>>,
    /// When the last look was, and behind which index the next segment begins.
    pub(crate) last: Mono,
    pub(crate) next: u64,
}

impl SelfCheck {
    /// Runs until the desk says stop.
    pub(crate) fn run(&mut self) {
        self.desk.bell.attach();
        if let Err(error) = base_ports::give_way() {
            tracing::debug!(%error, "the self-check runs with the weight of all");
        }
        while !self.desk.is_stopping.load(Ordering::Acquire) {
            let now = self.clock.mono();
            if now.saturating_since(self.last) >= PERIOD {
                self.last = now;
                self.look();
            }
            self.desk.bell.nap(LOOK);
        }
    }

    /// Looks at the next closed segment, after the last one at the first again.
    pub(crate) fn look(&mut self) {
        let segments = self.shelf.segments();
        self.desk.wrong.lock().retain(|first, _| segments.iter().any(|segment| segment.first == *first));
        let closed = || segments.iter().filter(|segment| matches!(segment.body, Body::Closed(_)));
        let Some(segment) = closed().find(|segment| segment.first >= self.next).or_else(|| closed().next())
        else {
            return;
        };
        self.next = segment.first + 1;
        let found = self.check(segment);
        self.desk.checked.fetch_add(1, Ordering::Relaxed);
        let mut wrong = self.desk.wrong.lock();
        match found {
            Ok(None) => drop(wrong.remove(&segment.first)),
            Ok(Some(what)) => {
                let what = format!("`{}`: {what}", segment.path.display());
                tracing::error!(event = "ledger_self_check_failed", code = "PC5012", "{what}");
                wrong.insert(segment.first, what);
            }
            Err(error) => {
                tracing::warn!(event = "ledger_self_check_unfinished", %error, "the segment is looked at again later");
            }
        }
    }

    /// The first thing that is wrong with a segment.
    fn check(&self, segment: &Arc<Segment>) -> Result<Option<String>, LedgerError> {
        if !segment.is_framed(self.disk.as_ref())? {
            return Ok(Some("its header or its trailer is damaged".to_owned()));
        }
        let mut source = Source::new(&self.shelf, self.disk.as_ref());
        let volume = Volume::Segment(Arc::clone(segment));
        let (mut wrong, mut next) = (None, segment.first);
        for extent in source.extents(&volume, Span::ALL, &[])? {
            let mut tile = None;
            let reading = source.read(&extent, extent.first, &mut |index, leaf| {
                next = index + 1;
                let found = View::checked(leaf).err().map(|error| error.to_string());
                let found = found.or_else(|| self.differs(index, leaf, &mut tile));
                wrong = found.map(|what| format!("index {index}: {what}"));
                if wrong.is_some() || self.desk.is_stopping.load(Ordering::Relaxed) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })?;
            let damage = reading.damage.map(|damage| format!("index {}: {}", damage.first, damage.problem));
            if let Some(what) = wrong.take().or(damage) {
                return Ok(Some(what));
            }
            if reading.is_stopped {
                return Ok(None);
            }
        }
        // Retention may have taken it meanwhile.
        if next < segment.end && self.shelf.has_segment(segment.first) {
            return Ok(Some(format!("index {next}: the records end here, not before index {}", segment.end)));
        }
        self.footer(segment)
    }

    /// Whether a record is another than its tile says.
    fn differs(&self, index: u64, leaf: &[u8], tile: &mut Option<LastTile>) -> Option<String> {
        let tree = self.tree.as_ref().filter(|tree| (tree.base..tree.covered()).contains(&index))?;
        let expected = tree.leaf_hash(index, tile)?;
        (TreeHash::of_leaf(leaf) != expected).then(|| "the record is not the one that was signed".to_owned())
    }

    fn footer(&self, segment: &Segment) -> Result<Option<String>, LedgerError> {
        let Body::Closed(trailer) = &segment.body else { return Ok(None) };
        for part in [Part::Blocks, Part::Terms, Part::Traces] {
            let (offset, len) = trailer.place(part);
            let bytes = self.disk.read_at(&segment.path, offset, len);
            let bytes = bytes.map_err(crate::error::disk("read", &segment.path))?;
            if !trailer.fits(part, &bytes) {
                self.shelf.suspect(segment);
                return Ok(Some(format!("byte {offset}: the index is damaged; its records are not")));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
