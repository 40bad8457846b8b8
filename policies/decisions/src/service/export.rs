//! `POST /v1/decisions:export`: one piece of an export. Headers say how much it is and where the next one begins.

use axum::{
    body::Bytes,
    extract::State,
    http::HeaderMap,
    response::{AppendHeaders, IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Asked, Given, Problem, Service, body, log};
use crate::{
    export::{Form, ROWS},
    query::QueryError,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    since: Option<String>,
    until: Option<String>,
    #[serde(default)]
    filter: Map<String, Value>,
    format: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Whole records in the order of the ledger, in pieces: at most 10,000 rows or 8 MiB of text each.
#[utoipa::path(
    post, path = "/v1/decisions:export", tag = "decisions",
    request_body(content_type = "application/json", description = "`since`, `until`, `filter` (names as in the list), `format` (`ndjson`, `csv`, or `proofs`: leaves as they were signed, each with its path to a checkpoint), `limit` (rows of a piece), `cursor` (header `portcullis-next-cursor` of the piece before)"),
    responses(
        (status = 200, description = "one record per line; `portcullis-rows`, `portcullis-next-cursor` unless it is the last piece, `portcullis-partial` when a cap was reached, `portcullis-damaged` when records could not be read, `portcullis-unproved` when no checkpoint covers records yet"),
        (status = 404, description = "`proofs` of a ledger that signs nothing"),
        (status = 400, description = "unknown filter or value, foreign cursor, no purpose where one is required"),
        (status = 410, description = "the cursor has expired"),
        (status = 429, description = "too many questions"),
    ),
)]
pub(super) async fn export(
    State(service): State<Service>,
    asked: Asked,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let mut text = String::new();
    let answer = answer(&service, &asked, &headers, &bytes, &mut text).await;
    service.told(&asked, "export", &text, answer)
}

async fn answer(
    service: &Service,
    asked: &Asked,
    headers: &HeaderMap,
    bytes: &Bytes,
    text: &mut String,
) -> Result<(Response, Given), Problem> {
    let request: Request = body::read(headers, bytes)?;
    let form = request.format.as_deref().map(Form::read).transpose()?.unwrap_or_default();
    let question = body::Question::new(request.since, request.until, request.filter, request.cursor)?;
    *text = format!("{} as={}", service.asked(&question.pairs), form.as_str());
    service.needs_purpose(asked, "an export", "portcullis decisions export --purpose TEXT")?;
    let rows = request.limit.unwrap_or(ROWS);
    if !(1..=ROWS).contains(&rows) {
        let (value, expected) = (rows.to_string(), "a number from 1 to 10000");
        return Err(QueryError::Value { name: "limit", value, expected, suggestion: None }.into());
    }
    // A leaf is all of a record: who may see a part of it gets none.
    let asked = &if form == Form::Proofs { asked.clone().whole_only() } else { asked.clone() };
    if form == Form::Proofs && question.cursor.is_none() {
        log::signed(&service.ledger).await?;
    }
    let query = question.query(service, asked, form.as_str())?;
    let running = service.admit(asked, question.cursor.is_some())?;
    let piece = service
        .scan(running, move |ledger, caps, begun| ledger.export(&query, form, rows, caps, begun))
        .await??;
    let swept = piece.swept;
    let given = Given { rows: piece.rows, bytes: piece.text.len(), is_partial: swept.is_partial() };
    let lost: u64 = swept.damaged.iter().map(|damage| damage.last + 1 - damage.first).sum();
    let told = [
        ("portcullis-rows", Some(piece.rows.to_string())),
        ("portcullis-next-cursor", swept.next_cursor),
        ("portcullis-partial", swept.partial.map(|cap| cap.as_str().to_owned())),
        ("portcullis-damaged", (lost > 0).then(|| lost.to_string())),
        ("portcullis-unproved", (piece.unproved > 0).then(|| piece.unproved.to_string())),
    ];
    let told: Vec<_> = told.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let fixed = [("content-type", form.media_type()), ("cache-control", "no-store")];
    Ok(((fixed, AppendHeaders(told), piece.text).into_response(), given))
}
