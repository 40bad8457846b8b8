//! The tail over server-sent events (RA6): `id:` is the index, `Last-Event-ID` resumes after it, a comment every
//! 15 s keeps the connection alive.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;

use super::{Asked, Given, Problem};
use crate::{Ledger, Query, Tail, TailItem, leaf::json_text, proof::LogView};

/// Rows of a tail between two records of it.
const ROWS: usize = 10_000;

const HEARTBEAT: Duration = Duration::from_secs(15);

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// With what is written from now on.
    Now,
    /// With that index.
    Index(u64),
}

/// Whether the caller wants to follow, and from where. The header, set by a client that reconnects, wins.
pub(super) fn wanted(pairs: &[(String, String)], headers: &HeaderMap) -> Result<Option<From>, Problem> {
    let get = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    match get("watch") {
        Some("true") => (),
        None | Some("false") => {
            return match get("from") {
                None => Ok(None),
                Some(from) => Err(bad("from", from, "it goes with `watch=true` only")),
            };
        }
        Some(other) => return Err(bad("watch", other, "`true` or `false`")),
    }
    for name in ["cursor", "order", "limit", "since", "until"] {
        if let Some(value) = get(name) {
            return Err(bad(name, value, "it does not go with `watch=true`"));
        }
    }
    if let Some(last) = headers.get("last-event-id") {
        let last = last.to_str().unwrap_or_default();
        return index("Last-Event-ID", last).map(|last| Some(From::Index(last.saturating_add(1))));
    }
    get("from").map_or(Ok(Some(From::Now)), |from| index("from", from).map(|from| Some(From::Index(from))))
}

fn index(name: &str, value: &str) -> Result<u64, Problem> {
    value.parse().ok().ok_or_else(|| bad(name, value, "the index of a record"))
}

fn bad(name: &str, value: &str, expected: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-filter-value", format!("`{value}` is no {name}: {expected}"))
}

/// The endless answer. Each event carries an id, also the comments: whoever comes back with it goes on behind what he
/// has seen, and does not look again through what his filters left out.
pub(super) fn answer(ledger: &Ledger, from: From, query: &Query, asked: Asked, text: String) -> Response {
    let from = match from {
        From::Now => None,
        From::Index(index) => Some(index),
    };
    let watch = Watch {
        tail: ledger.tail(from, Some(query)),
        log: ledger.log(),
        account: Account { ledger: ledger.clone(), asked, text, given: Given::default(), noted: 0 },
    };
    // The first comment tells the client at once that it is subscribed.
    let first = stream::iter([Ok::<_, Infallible>(watch.comment("watching"))]);
    let events = stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        let (event, goes_on) = watch.next().await?;
        watch.account.given.bytes += event.len();
        Some((Ok::<_, Infallible>(event), goes_on.then_some(watch)))
    });
    let body = Body::from_stream(futures_util::StreamExt::chain(first, events));
    ([("content-type", "text/event-stream"), ("cache-control", "no-store")], body).into_response()
}

/// A tail that somebody follows.
struct Watch {
    tail: Tail,
    log: LogView,
    account: Account,
}

impl Watch {
    /// The next event, and whether others may follow; `None` at the end.
    async fn next(&mut self) -> Option<(Bytes, bool)> {
        let next = tokio::time::timeout(HEARTBEAT, self.tail.next()).await;
        let reader = &self.account.asked.reader;
        // Rights are those of the policies in force: when these change, the reader is judged again as he comes back.
        if !reader.sight.is_current() {
            return None;
        }
        match next {
            Err(_elapsed) => Some((self.comment("heartbeat"), true)),
            Ok(Ok(None)) => None,
            Ok(Ok(Some(TailItem::Record(record)))) => {
                let seen = reader.sight.of(&record);
                let data = json_text(&record.to_json_seen(&self.log, seen));
                self.account.give()?;
                Some((format!("id: {}\ndata: {data}\n\n", record.index).into(), true))
            }
            Ok(Ok(Some(TailItem::Resync { next }))) => {
                let data = json_text(&json!({ "next": next.to_string() }));
                let id = next.saturating_sub(1);
                Some((format!("id: {id}\nevent: resync\ndata: {data}\n\n").into(), true))
            }
            Ok(Err(error)) => {
                tracing::error!(event = "decisions_tail_failed", %error, "a tail ends");
                Some((
                    Bytes::from_static(b"event: error\ndata: {\"detail\":\"the ledger cannot be read\"}\n\n"),
                    false,
                ))
            }
        }
    }

    fn comment(&self, text: &str) -> Bytes {
        match self.tail.position().checked_sub(1) {
            Some(last) => format!("id: {last}\n: {text}\n\n").into(),
            None => format!(": {text}\n\n").into(),
        }
    }
}

/// What a tail has given out. Its start is on record before this is made; every 10,000 rows and its end are here.
struct Account {
    ledger: Ledger,
    asked: Asked,
    text: String,
    given: Given,
    /// Rows that are on record.
    noted: usize,
}

impl Account {
    /// Counts a row; `None` when what was given cannot be put on record, which ends the tail.
    fn give(&mut self) -> Option<()> {
        self.given.rows += 1;
        if self.given.rows - self.noted < ROWS {
            return Some(());
        }
        let noted = self.asked.note(&self.ledger, "tail", &self.text, self.given, None);
        self.noted = self.given.rows;
        noted.ok()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Err(problem) = self.asked.note(&self.ledger, "tail_end", &self.text, self.given, None) {
            tracing::error!(event = "decisions_read_unrecorded", code = problem.code(), "the end of a tail");
        }
    }
}
