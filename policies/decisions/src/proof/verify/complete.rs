//! Completeness (SQ4): per stream, records and declared gaps cover every number once, up to what heartbeats say.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use base_ports::UnixTime;

use super::{
    Fault, Verified,
    boots::{Boots, Said},
};
use crate::{
    leaf::{Body, Gap, GapCause, Kind, StoredRecord, View, gap_of},
    proof::{Handover, ROTATION},
    quarantine::{LANE, OPERATION, SetAside},
    ranges::Ranges,
    voucher::Identities,
    writer::OWN_LANE,
};

/// A declared gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The process, as it is named for people.
    pub instance: String,
    /// Lane of it.
    pub lane: u16,
    /// First and last number, where the records had numbers.
    pub range: Option<(u64, u64)>,
    /// Why.
    pub cause: GapCause,
    /// Whether `count` is exact, or at most.
    pub exact: bool,
    /// How many records.
    pub count: u64,
}

/// Boot and lane.
type StreamId = ([u8; 8], u16);

#[derive(Debug, Default)]
pub(super) struct Completeness {
    /// Retention took nothing: every stream begins with 1.
    pub(super) is_whole: bool,
    /// Indexes that retention took, as it says.
    retired: Ranges,
    streams: BTreeMap<StreamId, Covered>,
    /// The stream of the record before, which mostly is that of the next.
    current: Option<(StreamId, Covered)>,
    enforcers: BTreeSet<String>,
    boots: Boots,
    gaps: Vec<Gap>,
    /// What was set aside.
    quarantined: Vec<SetAside>,
    /// Changes of the key.
    changes: Vec<Handover>,
    /// Last numbers that heartbeats and closes told.
    told: BTreeMap<StreamId, u64>,
}

/// The numbers of a stream that are accounted for.
#[derive(Debug, Default)]
struct Covered {
    /// The stretch that grows.
    run: Option<(u64, u64)>,
    ranges: Ranges,
    last: u64,
    low: Option<u64>,
}

impl Covered {
    /// `false` when a number was there already.
    fn add(&mut self, first: u64, last: u64) -> bool {
        self.last = self.last.max(last);
        self.low = Some(self.low.map_or(first, |low| low.min(first)));
        match &mut self.run {
            Some((_, end)) if first == *end + 1 && self.ranges.all().is_empty() => {
                *end = last;
                true
            }
            _ => {
                self.settle();
                let is_new = self.ranges.missing(first, last) == [(first, last)];
                self.ranges.insert(first, last);
                // One stretch again: grow it in place.
                if let [only] = self.ranges.all() {
                    self.run = Some(*only);
                    self.ranges = Ranges::default();
                }
                is_new
            }
        }
    }

    fn settle(&mut self) {
        if let Some((first, last)) = self.run.take() {
            self.ranges.insert(first, last);
        }
    }
}

impl Completeness {
    pub(super) fn new() -> Self {
        Self { is_whole: true, ..Self::default() }
    }

    /// Notes a record; the error says what is wrong with it.
    pub(super) fn note(
        &mut self,
        view: &View<'_>,
        leaf: &[u8],
        identities: &dyn Identities,
    ) -> Result<(), String> {
        let place = view.place().map_err(|error| format!("it has no stream: {error}"))?;
        let id = (place.boot, place.lane);
        if !self.stream(id).add(place.seq, place.seq) {
            return Err(format!("number {} of lane {} stands twice", place.seq, place.lane));
        }
        if place.lane == OWN_LANE {
            self.boots.numbered(place.boot, place.seq);
        }
        let decoded = || {
            StoredRecord::decode(0, leaf.to_vec().into()).map_err(|error| format!("it is no record: {error}"))
        };
        match view.kind() {
            Kind::DECISION => (),
            Kind::ADMINISTRATION => {
                let record = decoded()?;
                let Body::Administration { operation, details } = record.body else { return Ok(()) };
                if operation == ROTATION {
                    let change =
                        Handover::told(&details).ok_or("the old key did not sign this change of keys")?;
                    self.changes.push(change);
                } else if operation == OPERATION && place.lane == LANE {
                    let aside = SetAside::told(&details).ok_or("it does not say what was set aside")?;
                    if !self.quarantined.contains(&aside) {
                        self.quarantined.push(aside);
                    }
                } else if operation == "retention" {
                    let number = |wanted: &str| {
                        let found = details.iter().find(|(name, _)| name == wanted);
                        found.and_then(|(_, value)| value.parse().ok())
                    };
                    let taken = number("first").zip(number("last"));
                    taken.into_iter().for_each(|(first, last)| self.retired.insert(first, last));
                }
            }
            Kind::GAP => {
                let gap = gap_of(view.body()).map_err(|error| format!("it is no gap: {error}"))?;
                if let Some((first, last)) = gap.range
                    && !self.stream((gap.boot, gap.lane)).add(first, last)
                {
                    return Err(format!(
                        "the gap {first}-{last} of lane {} covers numbers that are there",
                        gap.lane
                    ));
                }
                self.boots.declared(&gap);
                self.gaps.push(gap);
            }
            Kind::HEARTBEAT | Kind::STREAM_OPEN | Kind::STREAM_CLOSE | Kind::RECOVERY => {
                let record = decoded()?;
                let said = Said { stream: &record.stream, time: record.time, mono: record.mono };
                self.enforcers.insert(record.stream.enforcer.clone());
                match record.body {
                    Body::StreamOpen { chain, .. } => self.boots.opened(said, chain)?,
                    Body::Heartbeat(heartbeat) => {
                        self.told(place.boot, &heartbeat.lanes);
                        self.boots.beat(said, heartbeat, identities)?;
                    }
                    Body::StreamClose { lanes } => {
                        self.told(place.boot, &lanes);
                        self.boots.closed(said, &lanes)?;
                    }
                    Body::Recovery { boot, .. } => self.boots.recovered(boot),
                    _ => (),
                }
            }
            _ => (),
        }
        Ok(())
    }

    /// Whether anything was set aside, which may be what seems to be missing.
    pub(super) fn has_set_aside(&self) -> bool {
        !self.quarantined.is_empty()
    }

    /// Whether retention says that it took all of these indexes.
    pub(super) fn is_retired(&self, range: Range<u64>) -> bool {
        range.is_empty() || self.retired.missing(range.start, range.end - 1).is_empty()
    }

    fn told(&mut self, boot: [u8; 8], lanes: &BTreeMap<u16, u64>) {
        for (lane, last) in lanes {
            let told = self.told.entry((boot, *lane)).or_default();
            *told = (*last).max(*told);
        }
    }

    fn stream(&mut self, id: StreamId) -> &mut Covered {
        if self.current.as_ref().is_none_or(|(current, _)| *current != id) {
            let next = self.streams.remove(&id).unwrap_or_default();
            if let Some((before, covered)) = self.current.replace((id, next)) {
                self.streams.insert(before, covered);
            }
        }
        // INVARIANT: it was put there just now if it was not there.
        &mut self.current.get_or_insert_with(|| (id, Covered::default())).1
    }

    /// What is missing, and what goes into the report.
    pub(super) fn end(mut self, now: Option<UnixTime>, verified: &mut Verified) -> Vec<Fault> {
        self.streams.extend(self.current.take());
        let mut faults = Vec::new();
        let mut missing = Vec::new();
        for ((boot, lane), covered) in &mut self.streams {
            covered.settle();
            let told = self.told.get(&(*boot, *lane)).copied().unwrap_or(0);
            // Before the first record that is kept, nothing is expected.
            let low = if self.is_whole { 1 } else { covered.low.unwrap_or(1) };
            for (first, last) in covered.ranges.missing(low, covered.last.max(told)) {
                let instance = self.boots.name(boot).unwrap_or("an unknown process");
                missing.push((format!("{instance} (boot {})", crate::leaf::hex(boot)), *lane, first, last));
            }
        }
        let aside: u64 = self.quarantined.iter().map(|aside| aside.last + 1 - aside.first).sum();
        let count: u64 = missing.iter().map(|(_, _, first, last)| last + 1 - first).sum();
        // A record that could not be read did not tell its number either.
        if count <= aside {
            verified.unplaced = missing;
        } else {
            faults.extend(missing.into_iter().map(|(boot, lane, first, last)| {
                Fault::new(format!(
                    "{boot} lane {lane}: numbers {first}-{last} are neither records nor in a gap"
                ))
            }));
        }
        verified.quarantined = self.quarantined;
        let unseen = self.told.iter().filter(|(id, last)| **last > 0 && !self.streams.contains_key(id));
        for ((boot, lane), last) in unseen.filter(|_| self.is_whole) {
            let boot = crate::leaf::hex(boot);
            faults.push(Fault::new(format!(
                "boot {boot} lane {lane}: a heartbeat tells {last} records, and none is there"
            )));
        }
        verified.enforcers = self.enforcers.len();
        verified.streams = self.streams.keys().filter(|(_, lane)| *lane != LANE).count();
        let name = |gap: &Gap| self.boots.name(&gap.boot).unwrap_or_default().to_owned();
        verified.gaps = (self.gaps.iter())
            .map(|gap| Missing {
                instance: name(gap),
                lane: gap.lane,
                range: gap.range,
                cause: gap.cause,
                exact: gap.exact,
                count: gap.count,
            })
            .collect();
        verified.keys = self.changes;
        let (heartbeats, wrong) = self.boots.end(now);
        verified.heartbeats = heartbeats;
        faults.extend(wrong.into_iter().map(Fault::new));
        faults
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} lane {}", self.instance, self.lane)?;
        if let Some((first, last)) = self.range {
            write!(f, " seq {first}-{last}")?;
        }
        let bound = if self.exact { "exact" } else { "at most" };
        write!(f, " {} {bound} {}", self.cause.as_str(), self.count)
    }
}
