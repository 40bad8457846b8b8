//! Reports from roll-ups: whole days, UTC, as far back as days are kept (QY5).
//!
//! A report counts what its reader sees and no more, by the same rules as an aggregate over the records: of a namespace
//! that he sees from the side of the caller, members that the other side keeps to itself are absent (RR2).

use std::collections::HashMap;

use base_ports::Mono;
use serde_json::{Map, Value, json};

use super::{
    Rollups,
    day::{Day, FIELDS, Tables, hour_at},
    day_of, name_of,
};
use crate::{
    aggregate::{Field, Measures},
    budget::{Budget, Cap, Caps},
    error::LedgerError,
    ledger::Ledger,
    query::{self, QueryError, nearest},
    sight::{Seen, Sight},
};

/// Groups that are told apart.
const GROUPS: usize = 10_000;

/// How far a report looks back when nobody says.
const BACK: &str = "30d";

/// What days are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Hour,
    Day,
    Field(Field),
}

/// What the largest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Top {
    Count,
    Allow,
    Deny,
    WouldDeny,
}

const TOPS: [(Top, &str); 4] =
    [(Top::Count, "count"), (Top::Allow, "allow"), (Top::Deny, "deny"), (Top::WouldDeny, "would_deny")];

/// A report that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    by: By,
    top: Top,
    /// First and last day.
    days: (i64, i64),
    limit: usize,
}

/// What was asked for, as people write it.
#[derive(Debug, Default)]
pub(crate) struct Words<'a> {
    pub(crate) by: &'a str,
    pub(crate) top: Option<&'a str>,
    pub(crate) since: Option<&'a str>,
    pub(crate) until: Option<&'a str>,
    pub(crate) limit: Option<usize>,
}

impl Question {
    /// Reads what was asked for.
    pub(crate) fn read(words: &Words<'_>, now: base_ports::UnixTime) -> Result<Question, QueryError> {
        let by = match words.by {
            "hour" => By::Hour,
            "day" => By::Day,
            name => {
                let found = FIELDS.iter().find(|field| field.as_str() == name);
                let names = FIELDS.iter().map(|field| field.as_str()).chain(["hour", "day"]);
                let unknown = || QueryError::Value {
                    name: "by",
                    value: name.to_owned(),
                    expected: "policy, would_policy, principal, resource, service, reason, action, hour or day",
                    suggestion: nearest(name, names),
                };
                By::Field(*found.ok_or_else(unknown)?)
            }
        };
        let top = words.top.unwrap_or("count");
        let known = TOPS.iter().find(|(_, word)| *word == top).map(|(top, _)| *top);
        let top = known.ok_or_else(|| QueryError::Value {
            name: "top",
            value: top.to_owned(),
            expected: "count, allow, deny or would_deny",
            suggestion: nearest(top, TOPS.iter().map(|(_, word)| *word)),
        })?;
        let since = query::time("since", words.since.or(Some(BACK)), now)?.unwrap_or(now);
        let until = query::time("until", words.until, now)?.unwrap_or(now);
        let limit = words.limit.unwrap_or(GROUPS);
        if !(1..=GROUPS).contains(&limit) {
            let (value, expected) = (limit.to_string(), "a number from 1 to 10000");
            return Err(QueryError::Value { name: "limit", value, expected, suggestion: None });
        }
        Ok(Question { by, top, days: (day_of(since), day_of(until)), limit })
    }

    fn name(&self) -> &'static str {
        match self.by {
            By::Hour => "hour",
            By::Day => "day",
            By::Field(field) => field.as_str(),
        }
    }
}

/// As it goes on record.
impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (from, to) = self.days;
        write!(f, "by={} from={} to={}", self.name(), name_of(from), name_of(to))
    }
}

/// The value of a group; none where decisions have no such member.
type Key = Option<Box<str>>;

/// A finished report.
#[derive(Debug)]
pub(crate) struct Report {
    total: Measures,
    groups: Vec<(Key, Measures)>,
    other: Measures,
    /// The first day that is kept.
    kept_since: Option<i64>,
    /// Days that are not counted whole, and how many records they lack if that is known.
    incomplete: Vec<(i64, Option<u64>)>,
    /// Records that are not counted yet.
    behind: u64,
    partial: Option<Cap>,
}

impl Ledger {
    /// Makes a report for a reader. Reads files: call it from a thread that may block.
    pub(crate) fn report(
        &self,
        question: &Question,
        sight: &Sight,
        caps: Caps,
        asked: Mono,
    ) -> Result<Report, LedgerError> {
        let inner = self.inner();
        let mut budget = Budget::new(caps, asked, inner.clock.as_ref());
        let behind = inner.shelf.next_index().saturating_sub(inner.rollups.through());
        let gathered = inner.rollups.gather(question, sight, &mut budget)?;
        Ok(Report { behind, ..gathered })
    }
}

impl Rollups {
    fn gather(
        &self,
        question: &Question,
        sight: &Sight,
        budget: &mut Budget<'_>,
    ) -> Result<Report, LedgerError> {
        let (from, to) = question.days;
        let mut days = self.stored()?;
        days.extend(self.days.lock().keys());
        days.sort_unstable();
        days.dedup();
        let mut tally = Tally::new(question, sight);
        let (mut incomplete, mut partial) = (Vec::new(), None);
        for day in days.iter().copied().filter(|day| (from..=to).contains(day)) {
            partial = budget.over();
            if partial.is_some() {
                break;
            }
            let short = |counted: &Day| (day, Some(counted.uncounted).filter(|_| !counted.is_damaged));
            if let Some(counted) = self.days.lock().get(&day) {
                tally.add(day, counted);
                incomplete.extend((!counted.is_whole()).then(|| short(counted)));
                continue;
            }
            match self.read(day)? {
                None => {}
                Some(Ok(counted)) => {
                    tally.add(day, &counted);
                    incomplete.extend((!counted.is_whole()).then(|| short(&counted)));
                }
                Some(Err(_told_when_it_is_counted)) => incomplete.push((day, None)),
            }
        }
        let report = tally.finish();
        Ok(Report { kept_since: days.first().copied(), incomplete, partial, ..report })
    }
}

/// Counts while days come.
struct Tally<'a> {
    question: &'a Question,
    sight: &'a Sight,
    total: Measures,
    groups: HashMap<Key, Measures>,
    other: Measures,
}

impl<'a> Tally<'a> {
    fn new(question: &'a Question, sight: &'a Sight) -> Self {
        let (total, other) = (Measures::default(), Measures::default());
        Self { question, sight, total, groups: HashMap::new(), other }
    }

    fn add(&mut self, day: i64, counted: &Day) {
        for (home, tables) in &counted.homes {
            let seen = self.sight.between(home.callee.as_deref(), home.caller.as_deref());
            if seen != Seen::Hidden {
                self.tables(day, tables, seen);
            }
        }
    }

    fn tables(&mut self, day: i64, tables: &Tables, seen: Seen) {
        let total = tables.total().seen(seen);
        self.total.join(&total);
        match self.question.by {
            By::Day => self.group(Some(&hour_at(day, 0).to_string()), &total),
            By::Hour => {
                for (hour, measures) in tables.hours.iter().enumerate().filter(|(_, of)| of.count > 0) {
                    self.group(Some(&hour_at(day, hour).to_string()), &measures.seen(seen));
                }
            }
            By::Field(field) if !field.is_told(seen) => self.group(None, &total),
            By::Field(field) => {
                let Some(table) = tables.field(field) else { return };
                self.group(None, &table.none.seen(seen));
                self.other.join(&table.other.seen(seen));
                table.rows.iter().for_each(|(value, of)| self.group(Some(value), &of.seen(seen)));
            }
        }
    }

    fn group(&mut self, key: Option<&str>, measures: &Measures) {
        if measures.count == 0 {
            return;
        }
        let key = key.map(Box::from);
        let is_full = self.groups.len() >= GROUPS;
        match self.groups.get_mut(&key) {
            Some(known) => known.join(measures),
            None if is_full => self.other.join(measures),
            None => drop(self.groups.insert(key, *measures)),
        }
    }

    fn finish(self) -> Report {
        let mut groups: Vec<_> = self.groups.into_iter().collect();
        let top = |of: &Measures| match self.question.top {
            Top::Count => of.count,
            Top::Allow => of.allow,
            Top::Deny => of.deny,
            Top::WouldDeny => of.would_deny,
        };
        // Time in its order; else the largest first, then by name: one order for one ledger.
        let is_time = matches!(self.question.by, By::Hour | By::Day);
        groups.sort_unstable_by(|(a, x), (b, y)| {
            let by_size = if is_time { std::cmp::Ordering::Equal } else { top(y).cmp(&top(x)) };
            by_size.then_with(|| a.cmp(b))
        });
        let mut other = self.other;
        let limit = self.question.limit.min(groups.len());
        groups.split_off(limit).iter().for_each(|(_, rest)| other.join(rest));
        Report {
            total: self.total,
            groups,
            other,
            kept_since: None,
            incomplete: Vec::new(),
            behind: 0,
            partial: None,
        }
    }
}

impl Report {
    /// Groups that are told.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether something of the range is not in it.
    pub(crate) fn is_partial(&self) -> bool {
        self.partial.is_some() || !self.incomplete.is_empty()
    }

    /// The document of the API.
    pub(crate) fn to_json(&self, question: &Question) -> Map<String, Value> {
        let (from, to) = question.days;
        let mut out = Map::new();
        let mut put = |name: &str, value: Value| drop(out.insert(name.to_owned(), value));
        put("apiVersion", "portcullis/v1".into());
        put("kind", "DecisionReport".into());
        let field = match question.by {
            By::Field(field) => Some(field.as_str()),
            By::Hour | By::Day => None,
        };
        put("group_by", field.into_iter().collect());
        put("from", name_of(from).into());
        put("to", name_of(to).into());
        put("kept_since", json!(self.kept_since.map(name_of)));
        put("not_counted_yet", self.behind.to_string().into());
        put("total", self.total.members().into());
        // In the form of an aggregate.
        let groups = self.groups.iter().map(|(value, measures)| {
            let mut group = Map::new();
            group.extend(field.is_none().then(|| ("bucket".to_owned(), json!(value))));
            let key = field.map(|field| (field.to_owned(), json!(value)));
            group.insert("key".to_owned(), key.into_iter().collect::<Map<_, _>>().into());
            group.extend(measures.members());
            Value::from(group)
        });
        put("groups", groups.collect());
        if self.other.count > 0 {
            put("other", self.other.members().into());
        }
        if !self.incomplete.is_empty() {
            let days = self.incomplete.iter().map(|(day, uncounted)| {
                json!({ "day": name_of(*day), "uncounted": uncounted.map(|count| count.to_string()) })
            });
            put("incomplete", days.collect());
        }
        if self.is_partial() {
            let why = self.partial.map_or("some days are not counted whole", Cap::as_str);
            put("partial", true.into());
            put("reason", why.into());
        }
        out
    }
}
