//! The completeness view (SQ4, chapter 11): which boots there were, how each of them stands, and what was lost.

use std::{collections::BTreeMap, ops::ControlFlow};

use base_ports::{Mono, UnixTime};
use serde_json::{Map, Value, json};

use crate::{
    Kind, Query, QueryError,
    budget::Caps,
    error::LedgerError,
    leaf::{Body, StoredRecord, hex},
    ledger::Ledger,
    roll::{Heard, Register, Standing},
    sweep::{Row, Swept},
};

/// The boots of a range of time.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) boots: Vec<Heard>,
    /// How the reading of the range ended: partial, damaged.
    pub(crate) swept: Swept,
}

impl Ledger {
    /// The boots that opened or ended within a question, and those that run. Reads files: call it from a thread that may
    /// block.
    pub(crate) fn streams(&self, query: &Query, caps: Caps, asked: Mono) -> Result<Streams, LedgerError> {
        let mut register = Register::default();
        // What opens and ends boots: stream_open, stream_close, recovery. Heartbeats of boots that run are on the roll.
        let about = query.clone().of_kinds(Kind::STREAM_OPEN, Kind::RECOVERY);
        let swept = self.sweep(&about, caps, asked, |row: Row<'_>| {
            if let Ok(record) = StoredRecord::decode(row.index, row.leaf.to_vec().into()) {
                register.note(&record.stream, record.time, &record.body);
            }
            ControlFlow::Continue(())
        })?;
        // What the running process knows is newer than any record before.
        let mut boots: BTreeMap<_, _> =
            register.0.into_iter().map(|(boot, heard)| (boot, stale(heard))).collect();
        let is_asked = |heard: &Heard| query.filter.asks_for_enforcer(&heard.boot.enforcer);
        for heard in self.roll().into_iter().filter(|heard| query.filter.sees_domain() && is_asked(heard)) {
            if boots.contains_key(&heard.boot.boot) || !heard.has_ended() {
                boots.insert(heard.boot.boot, heard);
            }
        }
        let mut boots: Vec<_> = boots.into_values().collect();
        boots.sort_by_key(|heard| (heard.heard, heard.boot.boot));
        Ok(Streams { boots, swept })
    }
}

/// A boot that this process does not know and that neither closed nor was recovered.
fn stale(heard: Heard) -> Heard {
    match heard.standing {
        Standing::Running => Heard { standing: Standing::Silent, ..heard },
        _ => heard,
    }
}

impl Heard {
    /// The JSON view.
    pub(crate) fn to_json(&self) -> Value {
        let lanes = self.lanes.iter().map(|(lane, last)| json!({ "lane": lane, "last": last.to_string() }));
        json!({
            "enforcer": self.boot.enforcer, "instance": self.boot.instance, "boot": hex(&self.boot.boot),
            "state": self.standing.as_str(), "opened": self.opened.map(|time| time.to_string()),
            "heard": self.heard.to_string(), "lanes": lanes.collect::<Vec<_>>(), "lost": self.lost.to_string(),
            "signed": self.is_signed,
        })
    }
}

/// The JSON view of a declared gap; `None` for what is none.
pub(crate) fn gap_json(record: &StoredRecord) -> Option<Value> {
    let Body::Gap(gap) = &record.body else { return None };
    let time = |time: Option<UnixTime>| time.map(|time| time.to_string());
    let counts = |counts: &BTreeMap<String, u64>| -> Map<String, Value> {
        counts.iter().map(|(word, count)| (word.clone(), (*count).into())).collect()
    };
    Some(json!({
        "id": record.id.to_string(), "time": record.time.to_string(), "enforcer": record.stream.enforcer,
        "instance": record.stream.instance, "boot": hex(&gap.boot), "lane": gap.lane,
        "first": gap.range.map(|(first, _)| first.to_string()), "last": gap.range.map(|(_, last)| last.to_string()),
        "cause": gap.cause.as_str(), "exact": gap.exact, "count": gap.count.to_string(), "from": time(gap.from),
        "to": time(gap.to), "effects": counts(&gap.effects), "reasons": counts(&gap.reasons),
    }))
}

impl Query {
    /// The same question about records of the kinds between these, both included.
    pub(crate) fn of_kinds(mut self, first: Kind, last: Kind) -> Query {
        self.filter.set_kinds(first, last);
        self
    }

    /// Reads a question about streams or gaps, where only times, enforcer and paging make sense.
    ///
    /// # Errors
    /// As of a listing, and for filters of decisions.
    pub(crate) fn of_streams(pairs: &[(String, String)], now: UnixTime) -> Result<Query, QueryError> {
        const KNOWN: [&str; 6] = ["since", "until", "enforcer", "limit", "cursor", "order"];
        if let Some((name, _)) = pairs.iter().find(|(name, _)| !KNOWN.contains(&name.as_str())) {
            let suggestion = crate::query::nearest(name, KNOWN);
            return Err(QueryError::Unknown { name: name.clone(), suggestion });
        }
        let mut pairs = pairs.to_vec();
        if !pairs.iter().any(|(name, _)| name == "since") {
            pairs.push(("since".to_owned(), "24h".to_owned()));
        }
        Query::parse(&pairs, now)
    }
}
