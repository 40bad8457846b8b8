//! Which records of a range are held: conditions that the index of a segment can answer.

use base_ports::UnixTime;

use super::{HoldError, HoldRange};
use crate::{
    archive::Want,
    query::{Filter, Query, nearest},
    redact::{Redaction, may_be_person},
};

/// Filters that a hold may have. Of the others no index says whether a segment has such a record.
const KNOWN: [&str; 11] = [
    "action",
    "effect",
    "enforcer",
    "kind",
    "policy",
    "principal",
    "reason",
    "resource",
    "service",
    "version",
    "would",
];

/// Conditions that hold together; none hold everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HoldFilter {
    /// As they stand in the file and on record: people by their hash.
    pairs: Vec<(String, String)>,
    filter: Filter,
}

impl HoldFilter {
    /// Reads filters as people write them.
    pub(super) fn read(
        given: &[(String, String)],
        range: HoldRange,
        redaction: &Redaction,
        now: UnixTime,
    ) -> Result<HoldFilter, HoldError> {
        let refuse = |text: String| Err(HoldError::Filter(text));
        if !given.is_empty() && matches!(range, HoldRange::Indexes { .. }) {
            return refuse("a hold has a range of indexes or filters, not both".to_owned());
        }
        let mut pairs = Vec::new();
        for (name, value) in given {
            if !KNOWN.contains(&name.as_str()) {
                let near =
                    nearest(name, KNOWN).map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
                let known = KNOWN.join(", ");
                return refuse(format!("`{name}` is no filter of a hold{near}; those are {known}"));
            }
            if name == "principal" && finds_nobody(value) {
                return refuse(format!(
                    "`{value}`: a hold finds a workload by its SPIFFE ID or a prefix of it and a person by the whole id; for local users hold the time"
                ));
            }
            if name == "principal" && redaction.commits() && may_be_person(value) {
                return refuse(format!(
                    "`{value}`: ids of people are committed, so a hold finds no person; hold the time, or a service in it"
                ));
            }
            pairs.push((name.clone(), redaction.told(name, value).into_owned()));
        }
        HoldFilter::stored(pairs, now).map_err(HoldError::Filter)
    }

    /// From what stands in the file.
    pub(super) fn stored(pairs: Vec<(String, String)>, now: UnixTime) -> Result<HoldFilter, String> {
        if pairs.is_empty() {
            return Ok(HoldFilter::default());
        }
        let query = Query::parse(&pairs, now).map_err(|error| error.to_string())?;
        Ok(HoldFilter { pairs, filter: query.filter })
    }

    /// Names and values.
    #[must_use]
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// What the index of a segment is asked.
    pub(crate) fn wants(&self) -> Vec<Want<'_>> {
        self.filter.wants()
    }
}

/// Whether a caller of that name is never found: people stand by their hash, so neither a part of an id nor the uid of a
/// local user, which reads like an id, leads to a record.
fn finds_nobody(value: &str) -> bool {
    match value.strip_prefix("prefix:") {
        Some(prefix) => !prefix.starts_with("spiffe://"),
        None => value.bytes().all(|byte| byte.is_ascii_digit()),
    }
}
