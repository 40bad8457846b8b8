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

use super::Problem;
use crate::{Ledger, Query, Tail, TailItem, leaf::json_text};

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

/// The endless answer.
pub(super) fn answer(ledger: &Ledger, from: From, query: &Query) -> Response {
    let from = match from {
        From::Now => None,
        From::Index(index) => Some(index),
    };
    let tail = ledger.tail(from, Some(query));
    let origin = ledger.origin().to_owned();
    // The first comment tells the client at once that it is subscribed.
    let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b": watching\n\n"))]);
    let events = stream::unfold(Some((tail, origin)), |state| async move {
        let (mut tail, origin) = state?;
        let (event, goes_on) = next(&mut tail, &origin).await?;
        Some((Ok::<_, Infallible>(event), goes_on.then_some((tail, origin))))
    });
    let body = Body::from_stream(futures_util::StreamExt::chain(first, events));
    ([("content-type", "text/event-stream"), ("cache-control", "no-store")], body).into_response()
}

/// The next event, and whether others may follow; `None` at the end.
async fn next(tail: &mut Tail, origin: &str) -> Option<(Bytes, bool)> {
    match tokio::time::timeout(HEARTBEAT, tail.next()).await {
        Err(_elapsed) => Some((Bytes::from_static(b": heartbeat\n\n"), true)),
        Ok(Ok(None)) => None,
        Ok(Ok(Some(TailItem::Record(record)))) => {
            let data = json_text(&record.to_json(origin));
            Some((format!("id: {}\ndata: {data}\n\n", record.index).into(), true))
        }
        Ok(Ok(Some(TailItem::Resync { next }))) => {
            let data = json_text(&json!({ "next": next.to_string() }));
            Some((format!("id: {}\nevent: resync\ndata: {data}\n\n", next.saturating_sub(1)).into(), true))
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
