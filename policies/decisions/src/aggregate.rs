//! Aggregates: how many rows, allowed, denied, would be denied, first and last, by group and time (decisions.md 11).
//!
//! Counts are exact over the rows that the reader sees. The first 10,000 groups are told one by one, rows of all
//! others in `other`; memory is bounded by that, whatever the range.

mod field;

use std::{borrow::Cow, collections::HashMap, ops::ControlFlow, time::Duration};

use base_ports::{Mono, UnixTime};
use serde_json::{Map, Value, json};

pub(crate) use field::Field;

use crate::{
    budget::Caps,
    error::LedgerError,
    leaf::View,
    ledger::Ledger,
    query::{Query, QueryError},
    sight::Seen,
    sweep::Swept,
};

/// Groups that are told apart.
const GROUPS: usize = 10_000;

/// Fields of one grouping.
const FIELDS: usize = 3;

/// Narrowest and widest bucket, seconds.
const BUCKETS: (u64, u64) = (60, 86_400);

/// How rows are grouped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Grouping {
    fields: Vec<Field>,
    /// Width of a bucket of time, nanoseconds.
    bucket: Option<i64>,
    /// Groups in the answer.
    limit: usize,
}

impl Grouping {
    /// Reads `group_by`, `bucket` and `limit` as people write them.
    pub(crate) fn read(
        group_by: &[String],
        bucket: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Grouping, QueryError> {
        let fields = group_by.iter().map(|name| Field::read(name)).collect::<Result<Vec<_>, _>>()?;
        if fields.len() > FIELDS {
            return Err(bad("group_by", group_by.join(","), "at most three fields"));
        }
        let before = |at: usize, name| group_by.iter().take(at).any(|earlier| earlier == name);
        if let Some((_, name)) = group_by.iter().enumerate().find(|(at, name)| before(*at, *name)) {
            return Err(QueryError::Twice(name.clone()));
        }
        let limit = limit.unwrap_or(GROUPS);
        if !(1..=GROUPS).contains(&limit) {
            return Err(bad("limit", limit.to_string(), "a number from 1 to 10000"));
        }
        Ok(Grouping { fields, bucket: bucket.map(width).transpose()?, limit })
    }
}

fn width(bucket: &str) -> Result<i64, QueryError> {
    let (narrowest, widest) = BUCKETS;
    let whole = crate::query::ago(bucket).map(|width| width.as_secs());
    let seconds = whole.filter(|seconds| (narrowest..=widest).contains(seconds) && seconds % narrowest == 0);
    let nanos = seconds.and_then(|seconds| i64::try_from(Duration::from_secs(seconds).as_nanos()).ok());
    nanos.ok_or_else(|| bad("bucket", bucket.to_owned(), "whole minutes from 1m to 1d, such as 5m or 1h"))
}

fn bad(name: &'static str, value: String, expected: &'static str) -> QueryError {
    QueryError::Value { name, value, expected, suggestion: None }
}

/// What is counted of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Measures {
    pub(crate) count: u64,
    pub(crate) allow: u64,
    pub(crate) deny: u64,
    pub(crate) would_deny: u64,
    /// Times of the first and of the last row, Unix nanoseconds.
    pub(crate) span: Option<(i64, i64)>,
}

impl Measures {
    pub(crate) fn add(&mut self, view: &View<'_>, seen: Seen) {
        self.count += 1;
        self.allow += u64::from(view.effect == Some(1));
        self.deny += u64::from(view.effect == Some(0));
        self.would_deny += u64::from(seen == Seen::Whole && view.would_effect() == Some(0));
        self.stretch((view.time, view.time));
    }

    /// What of it a reader is told who sees the rows so.
    pub(crate) fn seen(&self, seen: Seen) -> Measures {
        let would_deny = if seen == Seen::Whole { self.would_deny } else { 0 };
        Measures { would_deny, ..*self }
    }

    pub(crate) fn join(&mut self, other: &Measures) {
        self.count += other.count;
        self.allow += other.allow;
        self.deny += other.deny;
        self.would_deny += other.would_deny;
        if let Some(span) = other.span {
            self.stretch(span);
        }
    }

    fn stretch(&mut self, (first, last): (i64, i64)) {
        let (from, to) = self.span.unwrap_or((first, last));
        self.span = Some((from.min(first), to.max(last)));
    }

    pub(crate) fn members(&self) -> Map<String, Value> {
        let mut out = Map::new();
        for (name, count) in [
            ("count", self.count),
            ("allow", self.allow),
            ("deny", self.deny),
            ("would_deny", self.would_deny),
        ] {
            out.insert(name.to_owned(), count.into());
        }
        if let Some((first, last)) = self.span {
            out.insert("first".to_owned(), UnixTime::from_nanos(first).to_string().into());
            out.insert("last".to_owned(), UnixTime::from_nanos(last).to_string().into());
        }
        out
    }
}

/// Rows with the same values in the same bucket.
#[derive(Debug)]
struct Group {
    /// Where its bucket begins, Unix nanoseconds.
    at: Option<i64>,
    /// One value per field; none where rows have no such member.
    key: Vec<Option<Box<str>>>,
    measures: Measures,
}

/// The value of one field of a row; none where the row has no such member.
type Member<'a> = Option<Cow<'a, str>>;

/// A finished aggregate.
#[derive(Debug, Default)]
pub(crate) struct Aggregate {
    pub(crate) total: Measures,
    groups: Vec<Group>,
    other: Measures,
    pub(crate) swept: Swept,
}

impl Ledger {
    /// Counts the rows of a question that came at `asked`. Reads files: call it from a thread that may block.
    pub(crate) fn aggregate(
        &self,
        query: &Query,
        grouping: &Grouping,
        caps: Caps,
        asked: Mono,
    ) -> Result<Aggregate, LedgerError> {
        let mut tally = Tally::new(grouping);
        let swept = self.sweep(query, caps, asked, |row| {
            tally.see(row.view, query.filter.seen(row.view));
            ControlFlow::Continue(())
        })?;
        Ok(Aggregate { swept, ..tally.finish() })
    }
}

/// Counts while rows come.
struct Tally<'a> {
    grouping: &'a Grouping,
    total: Measures,
    groups: HashMap<Box<[u8]>, Group>,
    other: Measures,
    /// Key under construction, kept for its room.
    key: Vec<u8>,
}

impl<'a> Tally<'a> {
    fn new(grouping: &'a Grouping) -> Self {
        let (total, other) = (Measures::default(), Measures::default());
        Self { grouping, total, groups: HashMap::new(), other, key: Vec::new() }
    }

    fn see(&mut self, view: &View<'_>, seen: Seen) {
        self.total.add(view, seen);
        if self.grouping.fields.is_empty() && self.grouping.bucket.is_none() {
            return;
        }
        let bucket = self.grouping.bucket.map(|width| view.time.div_euclid(width).saturating_mul(width));
        let mut values: Vec<Vec<Member<'_>>> = Vec::with_capacity(FIELDS);
        for field in &self.grouping.fields {
            let mut found: Vec<_> = field.values(view, seen).into_iter().map(Some).collect();
            if found.is_empty() {
                found.push(None);
            }
            values.push(found);
        }
        for key in combinations(&values) {
            self.count(bucket, &key, view, seen);
        }
    }

    fn count(&mut self, bucket: Option<i64>, key: &[&Member<'_>], view: &View<'_>, seen: Seen) {
        self.key.clear();
        self.key.extend(bucket.unwrap_or_default().to_be_bytes());
        for value in key {
            // Lengths keep values from running into each other; an absent one is no empty one.
            match value {
                None => self.key.extend(u32::MAX.to_be_bytes()),
                Some(text) => {
                    self.key.extend(u32::try_from(text.len()).unwrap_or(u32::MAX - 1).to_be_bytes());
                    self.key.extend(text.as_bytes());
                }
            }
        }
        let is_full = self.groups.len() >= GROUPS;
        match self.groups.get_mut(self.key.as_slice()) {
            Some(group) => group.measures.add(view, seen),
            None if is_full => self.other.add(view, seen),
            None => {
                let mut measures = Measures::default();
                measures.add(view, seen);
                let key = key.iter().map(|value| value.as_deref().map(Box::from)).collect();
                self.groups.insert(self.key.as_slice().into(), Group { at: bucket, key, measures });
            }
        }
    }

    fn finish(self) -> Aggregate {
        let mut groups: Vec<_> = self.groups.into_values().collect();
        // In time, then the largest first, then by name: one order for one ledger.
        groups.sort_unstable_by(|a, b| {
            a.at.cmp(&b.at).then(b.measures.count.cmp(&a.measures.count)).then_with(|| a.key.cmp(&b.key))
        });
        let mut other = self.other;
        let limit = self.grouping.limit.min(groups.len());
        for group in groups.split_off(limit) {
            other.join(&group.measures);
        }
        Aggregate { total: self.total, groups, other, ..Aggregate::default() }
    }
}

/// Every way to take one value of each field. There are at most three, so the lists are short.
fn combinations<'v, 'a>(values: &'v [Vec<Member<'a>>]) -> Vec<Vec<&'v Member<'a>>> {
    let mut made: Vec<Vec<&Member<'_>>> = vec![Vec::new()];
    for field in values {
        let longer = |begun: &Vec<&'v Member<'a>>| {
            let begun = begun.clone();
            field.iter().map(move |value| begun.iter().copied().chain([value]).collect())
        };
        made = made.iter().flat_map(longer).collect();
    }
    made
}

impl Aggregate {
    /// The document of the API.
    pub(crate) fn to_json(&self, grouping: &Grouping) -> Map<String, Value> {
        let names: Vec<_> = grouping.fields.iter().map(|field| field.as_str()).collect();
        let mut out = Map::new();
        out.insert("apiVersion".to_owned(), "portcullis/v1".into());
        out.insert("kind".to_owned(), "DecisionAggregate".into());
        out.insert("group_by".to_owned(), json!(names));
        out.insert("total".to_owned(), self.total.members().into());
        let groups = self.groups.iter().map(|group| {
            let mut told = Map::new();
            if let Some(at) = group.at {
                told.insert("bucket".to_owned(), UnixTime::from_nanos(at).to_string().into());
            }
            let key = names.iter().zip(&group.key).map(|(name, value)| ((*name).to_owned(), json!(value)));
            told.insert("key".to_owned(), key.collect::<Map<_, _>>().into());
            told.extend(group.measures.members());
            Value::from(told)
        });
        out.insert("groups".to_owned(), groups.collect());
        if self.other.count > 0 {
            out.insert("other".to_owned(), self.other.members().into());
        }
        out
    }

    /// Groups that are told.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }
}

#[cfg(test)]
mod tests;
