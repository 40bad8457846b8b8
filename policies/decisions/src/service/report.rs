//! `POST /v1/decisions:report`: what days of decisions came to, also when the decisions are no longer kept.

use axum::{body::Bytes, extract::State, http::HeaderMap, response::Response};
use serde::Deserialize;

use super::{Asked, Given, Problem, Service, body, json_answer};
use crate::rollup::{Question, Words};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    by: String,
    top: Option<String>,
    since: Option<String>,
    until: Option<String>,
    limit: Option<usize>,
}

/// Counts whole days, UTC, up to 400 of them: hits of policies, who and what is denied most, by hour.
#[utoipa::path(
    post, path = "/v1/decisions:report", tag = "decisions",
    request_body(content_type = "application/json", description = "`by` (policy, would_policy, principal, resource, service, reason, action, hour, day), `top` (what the largest is: count, allow, deny, would_deny), `since` and `until` (widened to whole days; default: 30 days), `limit` (groups, at most 10000)"),
    responses(
        (status = 200, description = "`total`, `groups` with count, allow, deny, would_deny, first, last; `other`; `kept_since`; `incomplete` with the days that lack records; `not_counted_yet`"),
        (status = 400, description = "unknown member or value"),
        (status = 429, description = "too many questions"),
    ),
)]
pub(super) async fn report(
    State(service): State<Service>,
    asked: Asked,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let mut text = String::new();
    let answer = answer(&service, &asked, &headers, &bytes, &mut text).await;
    service.told(&asked, "report", &text, answer)
}

async fn answer(
    service: &Service,
    asked: &Asked,
    headers: &HeaderMap,
    bytes: &Bytes,
    text: &mut String,
) -> Result<(Response, Given), Problem> {
    let request: Request = body::read(headers, bytes)?;
    let words = Words {
        by: &request.by,
        top: request.top.as_deref(),
        since: request.since.as_deref(),
        until: request.until.as_deref(),
        limit: request.limit,
    };
    let question = Question::read(&words, service.ledger.inner().clock.now().wall)?;
    *text = question.to_string();
    let running = service.admit(asked, false)?;
    let (sight, about) = (asked.reader.sight.clone(), question.clone());
    let report = service
        .scan(running, move |ledger, caps, begun| ledger.report(&question, &sight, caps, begun))
        .await??;
    let (response, bytes) = json_answer(&report.to_json(&about).into());
    Ok((response, Given { rows: report.len(), bytes, is_partial: report.is_partial() }))
}
