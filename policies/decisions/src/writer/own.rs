//! Records of the ledger's own lane: gaps, heartbeats, and the first and last word of a boot.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering,
};

use base_ports::Now;
use bytes::Bytes;

use super::{Adopted, Beat, OWN_LANE, Own, Place, Writer};
use crate::leaf::{Body, Heartbeat, Kind, StoredRecord, View};

/// A longer chain goes on no record, and signs nothing: a leaf has 32 KiB.
const LONGEST_CHAIN: usize = 24 << 10;

impl Writer {
    /// Puts a heartbeat in line, behind the chain of the SVID that signs it where that is another than before. One that
    /// could not be written yet is replaced.
    pub(super) fn beat(&mut self, is_last: bool) {
        self.own.retain(|own| !matches!(own, Own::Heartbeat(_)));
        // Foreign code: a panic in it costs the signature.
        let ask = || {
            let held = self.voucher.as_ref()?.held()?;
            Some((held.chain(), held))
        };
        let (chain, held) = catch_unwind(AssertUnwindSafe(ask)).unwrap_or_default().unzip();
        let chain: Vec<Bytes> = chain.unwrap_or_default();
        let is_short = chain.iter().map(Bytes::len).sum::<usize>() <= LONGEST_CHAIN;
        let (held, chain) = if is_short { (held, chain) } else { (None, Vec::new()) };
        if chain != self.chain {
            self.chain.clone_from(&chain);
            self.own.push(Own::Body(Body::StreamOpen { build: self.build.clone(), chain }));
        }
        let (lanes, lost) = (self.stored.clone(), self.desk.counts.lost.load(Ordering::Relaxed));
        self.own.push(Own::Heartbeat(Beat { lanes, lost, is_last, held }));
    }

    /// Appends gaps and records of the ledger itself, as far as their lane has numbers.
    pub(super) fn write_own(&mut self, now: Now) {
        self.stream.lane = OWN_LANE;
        let first = self.numbers.next();
        let gaps = self.gaps.iter().map(|gap| Own::Body(Body::Gap(gap.clone())));
        let (mut gap_count, mut own_count) = (0, 0);
        for (at, record) in gaps.chain(self.own.iter().cloned()).enumerate() {
            let Some(seq) = self.numbers.take() else { break };
            let (tag, stream, redaction) = (self.own_tag, &self.stream, &*self.redaction);
            if !self.batch.own(&record, Place { seq, tag, stream, redaction }, now) {
                // Too large for a frame: the number goes to the next one.
                self.numbers.rewind(seq);
            }
            match at < self.gaps.len() {
                true => gap_count += 1,
                false => own_count += 1,
            }
        }
        self.batch.note_own(first, gap_count, own_count);
    }

    /// The records of the ledger itself in the batch are written: whoever keeps count of boots and gaps is told.
    pub(super) fn note_own(&mut self) {
        let now = self.clock.now();
        let (gaps, own) = self.batch.own_counts();
        if let Some(meter) = &self.meter {
            self.batch.kinds().for_each(|(kind, count)| meter.wrote(kind, count));
            self.gaps.iter().take(gaps).for_each(|gap| meter.declared(gap));
        }
        self.gaps.written(gaps);
        for own in self.own.drain(..own.min(self.own.len())) {
            let body = match own {
                Own::Body(Body::Gap(gap)) => {
                    self.meter.iter().for_each(|meter| meter.declared(&gap));
                    continue;
                }
                Own::Body(body) => body,
                Own::Heartbeat(beat) => Body::Heartbeat(Heartbeat {
                    lanes: beat.lanes,
                    lost: beat.lost,
                    is_last: beat.is_last,
                    signature: beat.held.map(|_| Bytes::new()),
                }),
                Own::Record(_) => continue,
            };
            self.desk.roll.note(&self.stream, now.wall, &body, now.mono);
        }
    }

    /// Records of another ledger are written.
    pub(super) fn note_adopted(&self, adopted: &[Adopted]) {
        const ABOUT: [Kind; 3] = [Kind::STREAM_OPEN, Kind::HEARTBEAT, Kind::STREAM_CLOSE];
        for leaf in adopted.iter().map(|adopted| &adopted.leaf) {
            if View::of(leaf).is_ok_and(|view| ABOUT.contains(&view.kind()))
                && let Ok(record) = StoredRecord::decode(0, leaf.clone().into())
            {
                self.desk.roll.note(&record.stream, record.time, &record.body, self.clock.mono());
            }
        }
    }

    /// The last write: what is left, and that nothing follows.
    pub(super) fn close(&mut self) {
        self.beat(true);
        // The closing record comes after what is still in line.
        let last = self.numbers.next() + (self.gaps.len() + self.own.len()) as u64;
        self.stored.insert(OWN_LANE, last);
        self.own.push(Own::Body(Body::StreamClose { lanes: self.stored.clone() }));
        self.write_own(self.clock.now());
        if let Err(error) = self.commit() {
            tracing::error!(event = "ledger_close_failed", %error, "the ledger ends without a closing record");
        }
        self.adopted.clear();
        self.desk.end();
    }
}
