//! `GET /v1/decisions/streams` and `/gaps`: the completeness view (chapter 11).

use axum::{extract::State, response::Response};
use serde_json::{Map, Value};

use super::{Asked, Given, Pairing, Problem, Service, cursor_in, json_answer, partial_members, read_pairs};
use crate::{Kind, Query, completeness::gap_json};

/// Boots of enforcers: those that run, and those that opened or ended in the range, with how far they told to have come.
#[utoipa::path(
    get, path = "/v1/decisions/streams", tag = "decisions",
    params(
        ("since" = Option<String>, Query, description = "RFC 3339, or how long ago. Default: 24 hours"),
        ("until" = Option<String>, Query, description = "RFC 3339, or how long ago"),
        ("enforcer" = Option<String>, Query, description = "SPIFFE id of the enforcer; `prefix:` for a prefix"),
    ),
    responses(
        (status = 200, description = "`items` with enforcer, instance, boot, state (running, silent, closed, recovered), opened, heard, lanes, lost, signed"),
        (status = 400, description = "unknown filter or value"),
    ),
)]
pub(super) async fn streams(
    State(service): State<Service>,
    asked: Asked,
    pairs: Pairing,
) -> Result<Response, Problem> {
    let mut text = String::new();
    let answer = boots(&service, &asked, pairs, &mut text).await;
    service.told(&asked, "streams", &text, answer)
}

async fn boots(
    service: &Service,
    asked: &Asked,
    pairs: Pairing,
    text: &mut String,
) -> Result<(Response, Given), Problem> {
    let (query, _) = question(service, asked, pairs, text)?;
    let running = service.admit(asked, false)?;
    let streams =
        service.scan(running, move |ledger, caps, begun| ledger.streams(&query, caps, begun)).await??;
    let mut out = Map::new();
    out.insert("items".to_owned(), streams.boots.iter().map(crate::roll::Heard::to_json).collect());
    let swept = &streams.swept;
    partial_members(&mut out, swept.partial, &swept.damaged, None);
    let (response, bytes) = json_answer(&out.into());
    Ok((response, Given { rows: streams.boots.len(), bytes, is_partial: swept.is_partial() }))
}

/// What was lost, newest first: which numbers of which lane, why, and how many.
#[utoipa::path(
    get, path = "/v1/decisions/gaps", tag = "decisions",
    params(
        ("since" = Option<String>, Query, description = "RFC 3339, or how long ago. Default: 24 hours"),
        ("until" = Option<String>, Query, description = "RFC 3339, or how long ago"),
        ("enforcer" = Option<String>, Query, description = "SPIFFE id of the enforcer; `prefix:` for a prefix"),
        ("limit" = Option<usize>, Query, description = "rows of a page, default 100, at most 1000"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("order" = Option<String>, Query, description = "`desc` (default) or `asc`"),
    ),
    responses(
        (status = 200, description = "`items` with boot, lane, first, last, cause, exact, count, from, to, effects, reasons"),
        (status = 400, description = "unknown filter or value, foreign cursor"),
    ),
)]
pub(super) async fn gaps(
    State(service): State<Service>,
    asked: Asked,
    pairs: Pairing,
) -> Result<Response, Problem> {
    let mut text = String::new();
    let answer = lost(&service, &asked, pairs, &mut text).await;
    service.told(&asked, "gaps", &text, answer)
}

async fn lost(
    service: &Service,
    asked: &Asked,
    pairs: Pairing,
    text: &mut String,
) -> Result<(Response, Given), Problem> {
    let (query, cursor) = question(service, asked, pairs, text)?;
    let query = query.of_kinds(Kind::GAP, Kind::GAP).for_call("gaps");
    let page = service.page(asked, query, cursor.as_deref()).await?;
    let mut out = Map::new();
    let items: Vec<Value> = page.rows.iter().filter_map(gap_json).collect();
    let rows = items.len();
    out.insert("items".to_owned(), items.into());
    partial_members(&mut out, page.partial, &page.damaged, page.next_cursor.as_deref());
    let (response, bytes) = json_answer(&out.into());
    Ok((response, Given { rows, bytes, is_partial: page.is_partial() }))
}

fn question(
    service: &Service,
    asked: &Asked,
    pairs: Pairing,
    text: &mut String,
) -> Result<(Query, Option<String>), Problem> {
    let pairs = read_pairs(pairs)?;
    *text = service.asked(&pairs);
    let now = service.ledger.inner().clock.now().wall;
    let query = asked.reader.asks(Query::of_streams(&pairs, now)?);
    Ok((query, cursor_in(&pairs).map(str::to_owned)))
}
