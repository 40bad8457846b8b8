//! One drain's worth of frames, and what is needed to take it back when it cannot be written.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use base_ports::{Now, UnixTime};
use policies_engine::{Audit, AuditUnavailable, DecisionId};

use super::Own;
use crate::{
    frame,
    lane::{Done, Entry, Slot, millis},
    leaf::{Body, Gap, GapCause, Kind, Stream, View, encode, encode::Head},
    loss::{Loss, Outline},
    redact::Redaction,
    shelf::Span,
};

/// Frames to be written with one append.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    count: u64,
    span: Span,
    /// Everything taken from a ring.
    taken: Vec<Taken>,
    /// Who waits for the write.
    required: Vec<Done>,
    /// Who waits for the sync.
    durable: Vec<Done>,
    own: OwnPart,
    /// Records of another ledger in it.
    adopted: usize,
    /// How many there are of each kind.
    kinds: BTreeMap<Kind, u64>,
}

/// A record that was taken from a ring: enough to declare its loss.
#[derive(Debug)]
struct Taken {
    lane: u16,
    seq: u64,
    outline: Outline,
}

/// Where a record of the ledger's own lane stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) seq: u64,
    /// Of the stream, in the id.
    pub(crate) tag: u64,
    pub(crate) stream: &'a Stream,
    pub(crate) redaction: &'a Redaction,
}

/// Records of the ledger's own lane in a batch.
#[derive(Debug, Clone, Copy, Default)]
struct OwnPart {
    first: Option<u64>,
    gaps: usize,
    others: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            count: 0,
            span: Span::EMPTY,
            taken: Vec::new(),
            required: Vec::new(),
            durable: Vec::new(),
            own: OwnPart::default(),
            adopted: 0,
            kinds: BTreeMap::new(),
        }
    }
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0 && self.adopted == 0
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn span(&self) -> Span {
        self.span
    }

    /// Appends a record from a ring. One that cannot be encoded is answered and returned as a gap.
    pub(crate) fn take(&mut self, slot: Slot, stream: &Stream, redaction: &Redaction) -> Option<Gap> {
        let outline = Outline::of(&slot.entry);
        let lost = slot.loss.as_ref().map_or(0, |loss| loss.count());
        let head = Head { id: slot.id, stream, seq: slot.seq, lost, redaction };
        let audit = match &slot.entry {
            Entry::Decision(record) => record.audit,
            Entry::Other(_) => Audit::Durable,
        };
        let kind = match &slot.entry {
            Entry::Decision(_) => Kind::DECISION,
            Entry::Other(record) => Kind::of_record(record),
        };
        let is_encoded = self.append(outline.time, kind, |out| match &slot.entry {
            Entry::Decision(record) => encode::decision(out, head, record),
            Entry::Other(record) => encode::record(out, head, record),
        });
        if !is_encoded {
            if let Some(done) = slot.done {
                // Whoever waited may have given up; then nobody is left to be told.
                drop(done.send(Err(AuditUnavailable("the record cannot be encoded".to_owned()))));
            }
            let gap = Loss::new(Some(slot.seq), outline).to_gap(stream.boot, stream.lane, GapCause::Refused);
            return Some(gap);
        }
        self.taken.push(Taken { lane: stream.lane, seq: slot.seq, outline });
        match (slot.done, audit) {
            (Some(done), Audit::Durable) => self.durable.push(done),
            (Some(done), _) => self.required.push(done),
            (None, _) => (),
        }
        None
    }

    /// Appends a record of the ledger's own lane.
    pub(crate) fn own(&mut self, record: &Own, place: Place<'_>, now: Now) -> bool {
        let time = match record {
            Own::Body(_) | Own::Heartbeat(_) => now.wall,
            Own::Record(record) => crate::lane::time_of(record),
        };
        let Place { seq, tag, stream, redaction } = place;
        let head = Head { id: DecisionId::new(millis(time), tag, seq), stream, seq, lost: 0, redaction };
        let kind = match record {
            Own::Body(body) => body.kind(),
            Own::Heartbeat(_) => Kind::HEARTBEAT,
            Own::Record(record) => Kind::of_record(record),
        };
        self.append(time, kind, |out| match record {
            Own::Body(body) => encode::own(out, head, now, body),
            Own::Heartbeat(beat) => {
                encode::own(out, head, now, &Body::Heartbeat(beat.told(stream, seq, now)))
            }
            Own::Record(record) => encode::record(out, head, record),
        })
    }

    /// Appends a record of another ledger as it is; an empty one stands for what was said before it.
    pub(crate) fn adopt(&mut self, time: i64, leaf: &[u8]) {
        self.adopted += 1;
        if !leaf.is_empty() {
            let kind = View::of(leaf).map_or(Kind::UNKNOWN, |view| view.kind());
            self.append(UnixTime::from_nanos(time), kind, |out| out.extend_from_slice(leaf));
        }
    }

    /// How many records of another ledger are in it.
    pub(crate) fn adopted(&self) -> usize {
        self.adopted
    }

    /// Remembers what of the batch is on the ledger's own lane: its first number, gaps, other records.
    pub(crate) fn note_own(&mut self, first: u64, gaps: usize, others: usize) {
        self.own = OwnPart { first: (gaps + others > 0).then_some(first), gaps, others };
    }

    pub(crate) fn own_first(&self) -> Option<u64> {
        self.own.first
    }

    /// How many gaps and how many other records of the own lane are in it.
    pub(crate) fn own_counts(&self) -> (usize, usize) {
        (self.own.gaps, self.own.others)
    }

    /// How many records there are of each kind.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (Kind, u64)> {
        self.kinds.iter().filter(|(_, count)| **count > 0).map(|(kind, count)| (*kind, *count))
    }

    /// Last number of each lane in it.
    pub(crate) fn stored(&self) -> BTreeMap<u16, u64> {
        self.taken.iter().map(|taken| (taken.lane, taken.seq)).collect()
    }

    /// It is written: tells who waited for that and returns who waits for the sync.
    pub(crate) fn finish(&mut self) -> Vec<Done> {
        for done in self.required.drain(..) {
            // Whoever waited may have given up; then nobody is left to be told.
            drop(done.send(Ok(())));
        }
        let durable = std::mem::take(&mut self.durable);
        self.clear();
        durable
    }

    /// It is not written: returns the gaps it leaves and who is to be refused.
    pub(crate) fn abandon(&mut self, boot: [u8; 8], cause: GapCause) -> (Vec<Gap>, Vec<Done>) {
        let gap = |taken: Taken| Loss::new(Some(taken.seq), taken.outline).to_gap(boot, taken.lane, cause);
        let gaps = self.taken.drain(..).map(gap).collect();
        let callers = self.required.drain(..).chain(self.durable.drain(..)).collect();
        self.clear();
        (gaps, callers)
    }

    /// Appends one frame. Facts are foreign code: a panic in them costs this record, not the thread.
    fn append(&mut self, time: UnixTime, kind: Kind, fill: impl FnOnce(&mut Vec<u8>)) -> bool {
        let start = self.bytes.len();
        let bytes = &mut self.bytes;
        let appended = catch_unwind(AssertUnwindSafe(|| frame::append(bytes, fill))).unwrap_or(false);
        if appended {
            self.count += 1;
            *self.kinds.entry(kind).or_default() += 1;
            self.span.add(time.as_nanos());
        } else {
            self.bytes.truncate(start);
        }
        appended
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.taken.clear();
        self.required.clear();
        self.count = 0;
        self.span = Span::EMPTY;
        self.own = OwnPart::default();
        self.adopted = 0;
        self.kinds.values_mut().for_each(|count| *count = 0);
    }
}
