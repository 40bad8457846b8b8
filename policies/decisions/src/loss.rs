//! What a lane had no room for: counted exactly, put on record as soon as there is room (LS7).

use std::collections::BTreeMap;

use base_ports::UnixTime;
use policies_engine::{DecisionRecord, Effect, Reason};

use crate::{
    lane::{Entry, time_of},
    leaf::{Gap, GapCause},
};

/// What is counted of a lost record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(crate) time: UnixTime,
    /// Effect and reason, of a decision.
    pub(crate) verdict: Option<(Effect, Reason)>,
}

impl Outline {
    pub(crate) fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Decision(record) => record.into(),
            Entry::Other(record) => Self { time: time_of(record), verdict: None },
        }
    }
}

impl From<&DecisionRecord> for Outline {
    fn from(record: &DecisionRecord) -> Self {
        Self { time: record.time.wall, verdict: Some((record.effect, record.reason)) }
    }
}

/// Records lost in one lane since the last one taken. Their numbers, if they have any, are consecutive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss {
    range: Option<(u64, u64)>,
    count: u64,
    from: UnixTime,
    to: UnixTime,
    effects: [u64; 2],
    reasons: Vec<(Reason, u64)>,
}

impl Loss {
    /// The first of them. `seq` is `None` when the lane had used up its numbers.
    pub(crate) fn new(seq: Option<u64>, lost: Outline) -> Self {
        let (from, to) = (lost.time, lost.time);
        let mut loss = Self { range: None, count: 0, from, to, effects: [0; 2], reasons: Vec::new() };
        loss.add(seq, lost);
        loss
    }

    /// One more.
    pub(crate) fn add(&mut self, seq: Option<u64>, lost: Outline) {
        if let Some(seq) = seq {
            self.range = Some((self.range.map_or(seq, |(first, _)| first), seq));
        }
        self.count += 1;
        self.from = self.from.min(lost.time);
        self.to = self.to.max(lost.time);
        let Some((effect, reason)) = lost.verdict else { return };
        let [denied, allowed] = &mut self.effects;
        match effect {
            Effect::Deny => *denied += 1,
            Effect::Allow => *allowed += 1,
        }
        match self.reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => self.reasons.push((reason, 1)),
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The gap record to write for it.
    pub(crate) fn to_gap(&self, boot: [u8; 8], lane: u16, cause: GapCause) -> Gap {
        let effects = [Effect::Deny, Effect::Allow].into_iter().zip(self.effects);
        Gap {
            boot,
            lane,
            range: self.range,
            exact: true,
            count: self.count,
            cause,
            from: Some(self.from),
            to: Some(self.to),
            effects: effects
                .filter(|(_, n)| *n > 0)
                .map(|(effect, n)| (effect.as_str().to_owned(), n))
                .collect(),
            reasons: self
                .reasons
                .iter()
                .map(|(reason, count)| (reason.as_str().to_owned(), *count))
                .collect(),
        }
    }
}

/// Gaps that wait to be written; neighbours of one lane and cause become one.
#[derive(Debug, Default)]
pub(crate) struct Gaps(Vec<Gap>);

impl Gaps {
    pub(crate) fn add(&mut self, gap: Gap) {
        let neighbour = self.0.iter_mut().find(|known| {
            known.boot == gap.boot
                && known.lane == gap.lane
                && known.cause == gap.cause
                && known.exact
                && gap.exact
                && match (known.range, gap.range) {
                    (Some((_, last)), Some((first, _))) => last + 1 == first,
                    (None, None) => true,
                    _ => false,
                }
        });
        let Some(known) = neighbour else {
            self.0.push(gap);
            return;
        };
        known.range = known.range.zip(gap.range).map(|((first, _), (_, last))| (first, last));
        known.count += gap.count;
        known.from = min_option(known.from, gap.from, UnixTime::min);
        known.to = min_option(known.to, gap.to, UnixTime::max);
        merge(&mut known.effects, gap.effects);
        merge(&mut known.reasons, gap.reasons);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Gap> {
        self.0.iter()
    }

    /// Forgets the first `count`, which are on record now.
    pub(crate) fn written(&mut self, count: usize) {
        self.0.drain(..count.min(self.0.len()));
    }

    /// The lowest number of that lane that waits to be declared.
    pub(crate) fn first_of(&self, boot: [u8; 8], lane: u16) -> Option<u64> {
        let own = self.0.iter().filter(|gap| gap.boot == boot && gap.lane == lane);
        own.filter_map(|gap| gap.range.map(|(first, _)| first)).min()
    }
}

fn min_option(
    a: Option<UnixTime>,
    b: Option<UnixTime>,
    choose: fn(UnixTime, UnixTime) -> UnixTime,
) -> Option<UnixTime> {
    match (a, b) {
        (Some(a), Some(b)) => Some(choose(a, b)),
        (one, other) => one.or(other),
    }
}

fn merge(counts: &mut BTreeMap<String, u64>, more: BTreeMap<String, u64>) {
    for (word, count) in more {
        *counts.entry(word).or_default() += count;
    }
}
