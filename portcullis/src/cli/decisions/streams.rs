//! `decisions streams` and `decisions gaps`: whether the record is complete, and what it lacks (SQ4).

use clap::Args;
use serde_json::Value;

use super::{is_partial, paged, path};
use crate::cli::Global;
use crate::cli::authority::items;
use crate::output::{Answer, Exit};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// RFC 3339, or how long ago [default: 24h]
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// RFC 3339, or how long ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// SPIFFE id of the enforcer, or prefix:TEXT
    #[arg(long, value_name = "ID")]
    enforcer: Option<String>,
}

impl Options {
    fn query(self) -> Vec<(&'static str, String)> {
        let given = [("since", self.since), ("until", self.until), ("enforcer", self.enforcer)];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// Exit 4 when an enforcer fell silent, or the answer is partial.
pub(super) fn streams(options: Options, global: &Global) -> Exit {
    global.ask(|client| async move {
        let mut list = client.get(&path("/v1/decisions/streams", &options.query())).await?;
        let is_partial = is_partial(&list);
        let mut streams = items(list.take());
        let is_silent =
            streams.iter().any(|stream| stream.get("state").is_some_and(|state| state == "silent"));
        for stream in &mut streams {
            let records = records(stream);
            if let Some(members) = stream.as_object_mut() {
                members.insert("records".to_owned(), records.into());
            }
        }
        let exit = if is_partial || is_silent { Exit::Partial } else { Exit::Done };
        Ok((Answer::list("Stream", streams, STREAMS), exit))
    })
}

/// Numbers that the lanes of a boot have used.
fn records(stream: &Value) -> String {
    let lanes = stream.get("lanes").and_then(Value::as_array).into_iter().flatten();
    let last = lanes.filter_map(|lane| lane.get("last")?.as_str()?.parse::<u64>().ok());
    last.fold(0, u64::saturating_add).to_string()
}

/// Exit 4 when there are gaps, or the answer is partial.
pub(super) fn gaps(options: Options, limit: u32, cursor: Option<String>, global: &Global) -> Exit {
    global.ask(|client| async move {
        let mut query = options.query();
        query.push(("limit", limit.to_string()));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let list = client.get(&path("/v1/decisions/gaps", &query)).await?;
        let has_gaps = list.get("items").and_then(Value::as_array).is_some_and(|gaps| !gaps.is_empty());
        let (answer, exit) = paged("Gap", list, GAPS);
        Ok((answer, if has_gaps { Exit::Partial } else { exit }))
    })
}

const STREAMS: &[(&str, &str)] = &[
    ("STATE", "/state"),
    ("INSTANCE", "/instance"),
    ("BOOT", "/boot"),
    ("OPENED", "/opened"),
    ("HEARD", "/heard"),
    ("RECORDS", "/records"),
    ("LOST", "/lost"),
    ("SIGNED", "/signed"),
    ("ENFORCER", "/enforcer"),
];

const GAPS: &[(&str, &str)] = &[
    ("TIME", "/time"),
    ("INSTANCE", "/instance"),
    ("BOOT", "/boot"),
    ("LANE", "/lane"),
    ("FIRST", "/first"),
    ("LAST", "/last"),
    ("CAUSE", "/cause"),
    ("EXACT", "/exact"),
    ("COUNT", "/count"),
];
