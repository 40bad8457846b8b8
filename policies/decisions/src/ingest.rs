//! Records of an enforcer elsewhere, appended as they are under the streams they name (decisions.md 8).
//!
//! Each is taken once, whatever is sent again: what of its stream stands here already is looked up when one of its boots is met
//! first. Refused, and nothing of what came with it: a record that names another enforcer than the connection proved (IG1), and
//! one that this build cannot read to its end (IG5).

use std::{collections::BTreeSet, ops::ControlFlow, time::Duration};

use bytes::Bytes;

use crate::{
    error::LedgerError,
    leaf::{LeafError, View},
    ledger::Ledger,
    quarantine::LANE,
    recover::Streams,
    shelf::Span,
    source::Source,
    writer::Adopted,
};

/// Records of one stream stand nearly in order of their time; this far apart they do.
const DISORDER: Duration = Duration::from_secs(3_600);

/// Why records are not taken.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// It is none of who sends it.
    #[error("record {at} of these names the enforcer `{named}`, and `{enforcer}` sends it")]
    OtherEnforcer {
        /// Its place among those that came, from 0.
        at: usize,
        /// What it says.
        named: String,
        /// What the connection proved.
        enforcer: String,
    },
    /// It is no record of a format that is known here.
    #[error("record {at} of these cannot be read")]
    Unreadable {
        /// Its place among those that came, from 0.
        at: usize,
        /// What is wrong with it.
        source: LeafError,
    },
    /// Our own ledger takes nothing now.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What one enforcer sends. After an error it is of no use any more: another one finds out what is on disk.
#[derive(Debug)]
pub struct Ingest {
    ledger: Ledger,
    enforcer: String,
    known: Streams,
    boots: BTreeSet<[u8; 8]>,
}

impl Ledger {
    /// For the records of that enforcer, by the identity that it proved.
    #[must_use]
    pub fn ingest(&self, enforcer: &str) -> Ingest {
        let (known, boots) = (Streams::default(), BTreeSet::new());
        Ingest { ledger: self.clone(), enforcer: enforcer.to_owned(), known, boots }
    }
}

impl Ingest {
    /// Takes those that are not here yet, and says how many; they are on disk when this returns (IG3). Reads files and waits
    /// for the disk: call it from a thread that may block.
    ///
    /// # Errors
    /// One of them is not to be taken, then none is; or the disk takes nothing.
    pub fn take(&mut self, leaves: &[Bytes]) -> Result<u64, IngestError> {
        let mut adopted = Vec::new();
        for (at, leaf) in leaves.iter().enumerate() {
            let unreadable = |source| IngestError::Unreadable { at, source };
            let view = View::checked(leaf).map_err(unreadable)?;
            let named = view.enforcer().unwrap_or_default();
            if named != self.enforcer {
                let (named, enforcer) = (named.to_owned(), self.enforcer.clone());
                return Err(IngestError::OtherEnforcer { at, named, enforcer });
            }
            let place = view.place().map_err(unreadable)?;
            if self.boots.insert(place.boot) {
                self.look_up(place.boot, view.time)?;
            }
            // It stands for what cannot be read there, and is no stream of a process.
            if place.lane == LANE || self.known.covers(&place) {
                continue;
            }
            self.known.note(leaf).map_err(unreadable)?;
            adopted.push(Adopted { time: view.time, leaf: leaf.to_vec(), done: None });
        }
        let count = adopted.len() as u64;
        if count > 0 {
            self.ledger.written(adopted)?;
        }
        Ok(count)
    }

    /// Notes what of that boot stands in our own files. What others say of it counts for nothing.
    fn look_up(&mut self, boot: [u8; 8], time: i64) -> Result<(), LedgerError> {
        let inner = self.ledger.inner();
        let (boots, slack) = (BTreeSet::from([boot]), i64::try_from(DISORDER.as_nanos()).unwrap_or(i64::MAX));
        let wanted = Span { from: time.saturating_sub(slack), to: i64::MAX };
        let mut source = Source::new(&inner.shelf, inner.disk.as_ref());
        for volume in inner.shelf.volumes().iter().filter(|volume| volume.span().touches(wanted)) {
            for extent in source.extents(volume, wanted, &[])? {
                let (known, enforcer) = (&mut self.known, self.enforcer.as_str());
                let mut outcome = Ok(());
                source.read(&extent, extent.first, &mut |_, leaf| {
                    let is_own = View::of(leaf).is_ok_and(|view| view.enforcer() == Some(enforcer));
                    if is_own && Streams::concerns(leaf, &boots) {
                        outcome = known.note(leaf).map(|_| ());
                    }
                    if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })?;
                outcome.map_err(crate::adopt::unreadable(volume))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use base_ports::{MemoryDisk, SystemClock};
    use policies_engine::{Audit, Effect};

    use super::*;
    use crate::{
        LedgerConfig,
        ledger::assert_complete,
        testing::{NOON, all, config, decision, open, open_with, wait},
    };

    const EDGE: &str = "spiffe://example.org/edge";

    fn edge(disk: &MemoryDisk, count: usize) -> Vec<Bytes> {
        let config = LedgerConfig { dir: "/edge".into(), enforcer_id: EDGE.into(), ..config() };
        let ledger = open_with(config, Arc::new(disk.clone()), Arc::new(SystemClock)).unwrap();
        let mut lane = ledger.lane(0);
        for _ in 0..count {
            if let policies_engine::Receipt::Pending(pending) =
                lane.record(decision(Effect::Allow, Audit::Required, NOON)).1
            {
                wait(pending).unwrap();
            }
        }
        drop(lane);
        ledger.close();
        all(&ledger).into_iter().map(|record| record.leaf).collect()
    }

    fn decisions(ledger: &Ledger) -> usize {
        let records = all(ledger);
        assert_complete(&records);
        let ids: BTreeSet<_> = records.iter().map(|record| record.id).collect();
        assert_eq!(ids.len(), records.len(), "a record stands twice");
        records.iter().filter(|record| record.stream.enforcer == EDGE && record.decision().is_some()).count()
    }

    #[test]
    fn decisions_ig2_what_is_sent_again_is_taken_once_also_by_another_session_and_after_a_restart() {
        let disk = MemoryDisk::new();
        let leaves = edge(&disk, 100);
        let ledger = open(&disk).unwrap();
        let mut first = ledger.ingest(EDGE);
        let (head, rest) = leaves.split_at(40);
        assert_eq!(first.take(head).unwrap(), 40);
        assert_eq!(first.take(head).unwrap(), 0, "it is known");
        let mut second = ledger.ingest(EDGE);
        assert_eq!(second.take(&leaves[30..50]).unwrap(), 10);
        ledger.close();
        let ledger = open(&disk).unwrap();
        let mut third = ledger.ingest(EDGE);
        assert_eq!(third.take(&leaves).unwrap(), rest.len() as u64 - 10);
        assert_eq!(decisions(&ledger), 100);
    }

    #[test]
    fn decisions_ig1_nobody_sends_records_of_another_enforcer_and_nothing_of_such_a_batch_is_taken() {
        let disk = MemoryDisk::new();
        let leaves = edge(&disk, 5);
        let ledger = open(&disk).unwrap();
        let before = all(&ledger).len();
        let refused = ledger.ingest("spiffe://example.org/other").take(&leaves).unwrap_err();
        assert!(matches!(refused, IngestError::OtherEnforcer { at: 0, .. }), "{refused}");
        assert_eq!(all(&ledger).len(), before);
    }

    #[test]
    fn decisions_ig5_what_is_no_whole_record_is_refused_by_its_place_and_nothing_with_it_is_taken() {
        let disk = MemoryDisk::new();
        let leaves = edge(&disk, 5);
        let ledger = open(&disk).unwrap();
        for wrong in [Bytes::new(), leaves[1].slice(..leaves[1].len() - 1), Bytes::from_static(b"nonsense")] {
            let refused = ledger.ingest(EDGE).take(&[leaves[0].clone(), wrong]).unwrap_err();
            assert!(matches!(refused, IngestError::Unreadable { at: 1, .. }), "{refused}");
        }
        assert_eq!(decisions(&ledger), 0);
    }
}
