//! Questions: filters as people and programs write them, checked once (QY1).
//!
//! Read from name and value pairs of a URL or of command flags. An unknown name or value is refused with the nearest
//! known one; there are no regular expressions.

mod filter;
mod net;
mod person;

use std::{borrow::Cow, time::Duration};

use base_ports::UnixTime;

pub(crate) use filter::Filter;

use crate::{
    cursor::{Cursor, CursorError, CursorKey, Place},
    leaf::Kind,
    redact::Redaction,
    sight::Sight,
};

/// Rows of a page by default, and at most (RA3).
pub const LIMITS: (usize, usize) = (100, 1_000);

/// Range of a listing that names none.
const DEFAULT_RANGE: Duration = Duration::from_secs(3600);

/// Names of the filters that listings and tails know.
const FILTERS: [&str; 20] = [
    "since",
    "until",
    "effect",
    "would",
    "principal",
    "service",
    "namespace",
    "action",
    "resource",
    "policy",
    "ticket",
    "reason",
    "version",
    "enforcer",
    "kind",
    "source_ip",
    "serial",
    "path~",
    "trace",
    "limit",
];

/// Names that are no filters.
const CONTROLS: [&str; 4] = ["cursor", "order", "watch", "from"];

/// Whether questions have a member of that name.
pub(crate) fn is_filter(name: &str) -> bool {
    FILTERS.contains(&name) || CONTROLS.contains(&name)
}

/// A checked question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub(crate) filter: Filter,
    pub(crate) since: UnixTime,
    pub(crate) until: UnixTime,
    pub(crate) order: Order,
    pub(crate) limit: usize,
    pub(crate) after: Option<Place>,
    /// Canonical text of filters and order: what a cursor is bound to.
    pub(crate) canonical: String,
}

/// Order of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Newest first.
    #[default]
    Newest,
    /// Oldest first.
    Oldest,
}

/// Why a question is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// No such filter.
    #[error("unknown filter `{name}`{}", did_you_mean(suggestion.as_deref()))]
    Unknown {
        /// What was given.
        name: String,
        /// The nearest known name.
        suggestion: Option<String>,
    },
    /// The filter is given twice.
    #[error("filter `{0}` is given twice")]
    Twice(String),
    /// The value is not one of the filter's.
    #[error("`{value}` is no {name}: {expected}{}", did_you_mean(suggestion.as_deref()))]
    Value {
        /// The filter.
        name: &'static str,
        /// What was given.
        value: String,
        /// What would do.
        expected: &'static str,
        /// The nearest known value.
        suggestion: Option<String>,
    },
    /// The cursor is not accepted.
    #[error(transparent)]
    Cursor(#[from] CursorError),
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|text| format!(", did you mean `{text}`?")).unwrap_or_default()
}

/// Name and value pairs, sorted and free of repeats.
#[derive(Debug, Default)]
struct Pairs<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Pairs<'a> {
    fn of(pairs: &'a [(String, String)]) -> Result<Self, QueryError> {
        let mut sorted: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        sorted.sort_unstable();
        for (name, _) in &sorted {
            if !is_filter(name) {
                let known = FILTERS.into_iter().chain(CONTROLS);
                return Err(QueryError::Unknown {
                    name: (*name).to_owned(),
                    suggestion: nearest(name, known),
                });
            }
        }
        if let Some([(name, _), _]) = sorted.array_windows::<2>().find(|[a, b]| a.0 == b.0) {
            return Err(QueryError::Twice((*name).to_owned()));
        }
        Ok(Self(sorted))
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// What decides which rows come and in which order.
    fn canonical(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.0 {
            if *name != "limit" && *name != "cursor" {
                // Lengths keep values from running into names.
                out.push_str(&format!("{}:{name}={}:{value};", name.len(), value.len()));
            }
        }
        out
    }
}

impl Query {
    /// Reads a question. `now` resolves relative times (`since=15m`) and the default range, the last hour.
    ///
    /// # Errors
    /// Names what is not known, with the nearest thing that is.
    pub fn parse(pairs: &[(String, String)], now: UnixTime) -> Result<Self, QueryError> {
        let pairs = Pairs::of(pairs)?;
        let until = time("until", pairs.get("until"), now)?.unwrap_or(UnixTime::from_nanos(i64::MAX));
        let since = time("since", pairs.get("since"), now)?.unwrap_or(now.min(until) - DEFAULT_RANGE);
        Ok(Self {
            filter: Filter::read(|name| pairs.get(name))?,
            since,
            until,
            order: order(pairs.get("order"))?,
            limit: limit(pairs.get("limit"))?,
            after: None,
            canonical: pairs.canonical(),
        })
    }

    /// The same question of a reader who sees what `sight` shows. Its cursors are `reader`'s alone (RA3).
    #[must_use]
    pub fn seen_by(mut self, sight: Sight, reader: &str) -> Self {
        self.filter.sight = Some(sight);
        self.canonical.push_str(&format!("reader:{}:{reader};", reader.len()));
        self
    }

    /// The same question of a reader who may open commitments in the rows that `sight` shows whole: those he finds by
    /// the id of a person.
    #[must_use]
    pub fn revealing(mut self, sight: Sight) -> Self {
        self.filter.reveals = Some(sight);
        self
    }

    /// The same question where people also stand on record by a hash of their id, or by a commitment.
    pub(crate) fn hashed(&self, redaction: &Redaction) -> Cow<'_, Query> {
        match self.filter.hashed(redaction) {
            Some(filter) => Cow::Owned(Query { filter, ..self.clone() }),
            None => Cow::Borrowed(self),
        }
    }

    /// The same question for another call: cursors of the one are none of the other.
    pub(crate) fn for_call(mut self, call: &str) -> Self {
        self.canonical.push_str(&format!("call:{call};"));
        self
    }

    /// Goes on where the listing with that cursor stopped.
    pub(crate) fn resume(mut self, text: &str, key: &CursorKey, now: UnixTime) -> Result<Self, QueryError> {
        let cursor = key.open(text, &self.canonical, now)?;
        self.after = Some(cursor.after);
        self.since = UnixTime::from_nanos(cursor.since);
        self.until = UnixTime::from_nanos(cursor.until);
        Ok(self)
    }

    /// The cursor for what follows `after`.
    pub(crate) fn cursor(&self, after: Place, now: UnixTime) -> Cursor {
        Cursor { after, since: self.since.as_nanos(), until: self.until.as_nanos(), made: now }
    }
}

/// The nearest of some words, if it is near.
pub(crate) fn nearest(word: &str, known: impl IntoIterator<Item = &'static str>) -> Option<String> {
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&word, known), known))
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3))
        .min()
        .map(|(_, known)| known.to_owned())
}

fn order(value: Option<&str>) -> Result<Order, QueryError> {
    match value {
        None | Some("desc") => Ok(Order::Newest),
        Some("asc") => Ok(Order::Oldest),
        Some(other) => Err(QueryError::Value {
            name: "order",
            value: other.to_owned(),
            expected: "`desc` or `asc`",
            suggestion: nearest(other, ["desc", "asc"]),
        }),
    }
}

fn limit(value: Option<&str>) -> Result<usize, QueryError> {
    let (default, most) = LIMITS;
    let Some(value) = value else { return Ok(default) };
    match value.parse() {
        Ok(limit) if (1..=most).contains(&limit) => Ok(limit),
        _ => Err(QueryError::Value {
            name: "limit",
            value: value.to_owned(),
            expected: "a number from 1 to 1000",
            suggestion: None,
        }),
    }
}

/// RFC 3339, or how long ago: `90s`, `15m`, `24h`, `7d`.
pub(crate) fn time(
    name: &'static str,
    value: Option<&str>,
    now: UnixTime,
) -> Result<Option<UnixTime>, QueryError> {
    let Some(value) = value else { return Ok(None) };
    if let Ok(time) = UnixTime::parse_rfc3339(value) {
        return Ok(Some(time));
    }
    match ago(value) {
        Some(ago) => Ok(Some(now - ago)),
        None => Err(QueryError::Value {
            name,
            value: value.to_owned(),
            expected: "a time such as 2026-11-22T07:00:00Z, or how long ago, such as 15m",
            suggestion: None,
        }),
    }
}

pub(crate) fn ago(value: &str) -> Option<Duration> {
    let (number, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

fn kind(value: &str) -> Result<Kind, QueryError> {
    Kind::from_word(value).ok_or_else(|| QueryError::Value {
        name: "kind",
        value: value.to_owned(),
        expected: "see the list of record kinds",
        suggestion: nearest(value, Kind::words()),
    })
}

#[cfg(test)]
mod tests;
