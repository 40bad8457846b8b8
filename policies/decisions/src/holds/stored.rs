//! The file of holds: JSON, replaced as a whole. One that is not understood to the last member is not read at all.

use std::io;

use base_ports::UnixTime;
use serde::{Deserialize, Serialize};

use super::{Hold, HoldFilter, HoldRange};

/// Version of the file.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    holds: Vec<Row>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    #[serde(default)]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    indexes: Option<(u64, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<(i64, i64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    filter: Vec<(String, String)>,
    by: String,
    at: i64,
}

/// The file of these holds.
pub(super) fn encode(holds: &[Hold]) -> io::Result<Vec<u8>> {
    let stored = Stored { version: VERSION, holds: holds.iter().map(Row::from).collect() };
    serde_json::to_vec_pretty(&stored).map_err(io::Error::other)
}

/// The holds of a file; `None` for what is none.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Hold>> {
    let stored: Stored = serde_json::from_slice(bytes).ok()?;
    let holds = stored.holds.into_iter().map(Row::hold).collect::<Option<Vec<_>>>()?;
    (stored.version == VERSION).then_some(holds)
}

impl From<&Hold> for Row {
    fn from(hold: &Hold) -> Row {
        let (indexes, times) = match hold.range {
            HoldRange::Indexes { first, last } => (Some((first, last)), None),
            HoldRange::Times { since, until } => (None, Some((since.as_nanos(), until.as_nanos()))),
        };
        Row {
            name: hold.name.clone(),
            reason: hold.reason.clone(),
            indexes,
            times,
            filter: hold.filter.pairs().to_vec(),
            by: hold.by.clone(),
            at: hold.at.as_nanos(),
        }
    }
}

impl Row {
    fn hold(self) -> Option<Hold> {
        let range = match (self.indexes, self.times) {
            (Some((first, last)), None) => HoldRange::Indexes { first, last },
            (None, Some((since, until))) => {
                HoldRange::Times { since: UnixTime::from_nanos(since), until: UnixTime::from_nanos(until) }
            }
            _ => return None,
        };
        let at = UnixTime::from_nanos(self.at);
        let filter = HoldFilter::stored(self.filter, at).ok()?;
        Some(Hold { name: self.name, range, filter, reason: self.reason, by: self.by, at })
    }
}
