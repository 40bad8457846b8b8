//! `POST /v1/decisions:aggregate`.

use axum::{body::Bytes, extract::State, http::HeaderMap, response::Response};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Asked, Given, Problem, Service, body, json_answer, partial_members};
use crate::aggregate::Grouping;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    since: Option<String>,
    until: Option<String>,
    #[serde(default)]
    filter: Map<String, Value>,
    #[serde(default)]
    group_by: Vec<String>,
    bucket: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Counts decisions by up to three fields, and by time. Rows beyond the groups told are in `other`, exactly.
#[utoipa::path(
    post, path = "/v1/decisions:aggregate", tag = "decisions",
    request_body(content_type = "application/json", description = "`since`, `until`, `filter` (names as in the list), `group_by` (up to three of action, caller_namespace, effect, enforcer, kind, namespace, phase, policy, principal, reason, resource, service, source_ip, version, would), `bucket` (1m to 1d), `limit` (groups, at most 10000), `cursor`"),
    responses(
        (status = 200, description = "`total`, `groups` with count, allow, deny, would_deny, first, last; `other`; `partial` with `next_cursor` when a cap was reached"),
        (status = 400, description = "unknown filter, field or value"),
        (status = 429, description = "too many questions"),
    ),
)]
pub(super) async fn aggregate(
    State(service): State<Service>,
    asked: Asked,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let mut text = String::new();
    let answer = answer(&service, &asked, &headers, &bytes, &mut text).await;
    service.told(&asked, "aggregate", &text, answer)
}

async fn answer(
    service: &Service,
    asked: &Asked,
    headers: &HeaderMap,
    bytes: &Bytes,
    text: &mut String,
) -> Result<(Response, Given), Problem> {
    let request: Request = body::read(headers, bytes)?;
    let by = format!("by={} every={}", request.group_by.join(","), request.bucket.as_deref().unwrap_or("-"));
    let question = body::Question::new(request.since, request.until, request.filter, request.cursor)?;
    *text = format!("{} {by}", service.asked(&question.pairs));
    let grouping = Grouping::read(&request.group_by, request.bucket.as_deref(), request.limit)?;
    let query = question.query(service, asked, "aggregate")?;
    let running = service.admit(asked, question.cursor.is_some())?;
    let counted = grouping.clone();
    let aggregate = service
        .scan(running, move |ledger, caps, begun| ledger.aggregate(&query, &counted, caps, begun))
        .await??;
    let mut document = aggregate.to_json(&grouping);
    let swept = &aggregate.swept;
    partial_members(&mut document, swept.partial, &swept.damaged, swept.next_cursor.as_deref());
    let (response, bytes) = json_answer(&document.into());
    Ok((response, Given { rows: aggregate.len(), bytes, is_partial: swept.is_partial() }))
}
