//! `GET /v1/policies/versions?watch=true&from=`: what comes into force, as server-sent events, for browsers and curl.
//! The manifest and its note are those that enforcers check; `from` is the snapshot that the caller has already.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use policies_store::{Announcement, PolicyStore};
use serde::Deserialize;
use serde_json::{Value, json};

use super::asked;
use crate::admin::problem::Problem;

#[derive(Debug, Deserialize)]
struct Watch {
    watch: Option<bool>,
    from: Option<String>,
}

/// What the caller has, when the query asks for the stream.
pub(super) fn wanted(uri: &Uri) -> Result<Option<Option<(u64, u64)>>, Problem> {
    let Watch { watch, from } = asked::query(uri)?;
    match (watch, from) {
        (Some(true), None) => Ok(Some(None)),
        (Some(true), Some(from)) => {
            let numbers = from
                .split_once('.')
                .and_then(|(epoch, snapshot)| Some((epoch.parse().ok()?, snapshot.parse().ok()?)));
            let malformed = || {
                Problem::new(StatusCode::BAD_REQUEST, "malformed query")
                    .detail(format!("`from` is `{from}`; write epoch and snapshot, as 1.1207"))
            };
            numbers.ok_or_else(malformed).map(|numbers| Some(Some(numbers)))
        }
        (Some(false) | None, Some(_)) => Err(Problem::new(StatusCode::BAD_REQUEST, "malformed query")
            .detail("`from` goes with `watch=true` only")),
        (Some(false) | None, None) => Ok(None),
    }
}

/// The endless answer.
pub(super) fn answer(store: &PolicyStore, from: Option<(u64, u64)>) -> Response {
    let events = store.feed().announcements(from).map(|told| Ok::<_, Infallible>(event(&told)));
    let body = Body::from_stream(events);
    ([("content-type", "text/event-stream"), ("cache-control", "no-store")], body).into_response()
}

fn event(told: &Announcement) -> Bytes {
    let Announcement::Snapshot { position, manifest, note } = told else {
        return Bytes::from_static(b": heartbeat\n\n");
    };
    let policies =
        serde_json::from_slice::<Value>(manifest).ok().and_then(|manifest| manifest.get("policies").cloned());
    let data = json!({
        "epoch": position.epoch, "snapshot": position.snapshot, "version": policies,
        "sha256": position.to_hex(),
        "manifest": String::from_utf8_lossy(manifest), "note": String::from_utf8_lossy(note),
    });
    format!("id: {position}\nevent: snapshot\ndata: {data}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_asked_for_by_watch_and_from_names_a_snapshot() {
        let read = |query: &str| wanted(&format!("/v1/policies/versions{query}").parse().unwrap());
        assert_eq!(read("").unwrap(), None);
        assert_eq!(read("?limit=5&watch=false").unwrap(), None);
        assert_eq!(read("?watch=true").unwrap(), Some(None));
        assert_eq!(read("?watch=true&from=1.1207").unwrap(), Some(Some((1, 1207))));
        for bad in ["?from=1.1", "?watch=true&from=1207", "?watch=true&from=1.x", "?watch=maybe"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
