//! `POST` and `GET /v1/decisions:hold`, `POST /v1/decisions:release`: legal holds (LG5).
//!
//! Whoever gets here may do so by the policies: `portcullis` asks for `decisions:hold` and `decisions:release`.

use axum::{
    Extension,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use base_ports::UnixTime;
use policies_engine::Principal;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Problem, Service, body, json_answer};
use crate::{Hold, HoldError, HoldRange, NewHold, query};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    name: String,
    reason: String,
    /// First and last index.
    indexes: Option<(u64, u64)>,
    since: Option<String>,
    until: Option<String>,
    #[serde(default)]
    filter: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    name: String,
}

/// Holds records: retention keeps every file that the range touches, or that has a record the filter asks for.
#[utoipa::path(
    post, path = "/v1/decisions:hold", tag = "decisions",
    request_body(content_type = "application/json", description = "`name`, `reason`, and `indexes` ([first, last]), or `since` and `until` (RFC 3339, or how long ago; absent = open) and `filter` (action, effect, enforcer, kind, policy, principal, reason, resource, service, version, would)"),
    responses(
        (status = 201, description = "the hold"),
        (status = 400, description = "malformed, or a filter that holds do not know"),
        (status = 409, description = "there is one of that name"),
    ),
)]
pub(super) async fn hold(
    State(service): State<Service>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let Request { name, reason, indexes, since, until, filter } = body::read(&headers, &bytes)?;
    let range = range(&service, indexes, since.as_deref(), until.as_deref())?;
    let filter = body::filters(filter)?;
    let ledger = service.ledger.clone();
    // It waits for the disk.
    let holding =
        tokio::task::spawn_blocking(move || ledger.hold(NewHold { name, reason, range, filter }, &principal));
    let hold = holding.await.map_err(|error| Problem::internal(&error))??;
    let (answer, _) = json_answer(&document(&hold));
    Ok((StatusCode::CREATED, answer).into_response())
}

/// The holds, oldest first.
#[utoipa::path(get, path = "/v1/decisions:hold", tag = "decisions", responses((status = 200, description = "`items`; `exceeds` when held records take more room than the ledger may")))]
pub(super) async fn list(State(service): State<Service>) -> Response {
    let items: Value = service.ledger.holds().iter().map(document).collect();
    let exceeds = service.ledger.stats().is_over_held;
    let (answer, _) = json_answer(
        &json!({"apiVersion": "portcullis/v1", "kind": "HoldList", "items": items, "exceeds": exceeds}),
    );
    answer
}

/// Ends a hold. What is past its time goes with the next run of retention.
#[utoipa::path(
    post, path = "/v1/decisions:release", tag = "decisions",
    request_body(content_type = "application/json", description = "`name`"),
    responses(
        (status = 200, description = "the hold that ended"),
        (status = 404, description = "there is none of that name"),
        (status = 503, description = "it could not be put on record, so it still holds"),
    ),
)]
pub(super) async fn release(
    State(service): State<Service>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let Release { name } = body::read(&headers, &bytes)?;
    let (answer, _) = json_answer(&document(&service.ledger.release(&name, &principal).await?));
    Ok(answer)
}

fn range(
    service: &Service,
    indexes: Option<(u64, u64)>,
    since: Option<&str>,
    until: Option<&str>,
) -> Result<HoldRange, Problem> {
    let now = service.ledger.inner().clock.now().wall;
    match (indexes, since, until) {
        (Some((first, last)), None, None) => Ok(HoldRange::Indexes { first, last }),
        (Some(_), ..) => {
            let detail = "a hold has a range of indexes or of times, not both".to_owned();
            Err(Problem::new(StatusCode::BAD_REQUEST, "bad-hold", detail))
        }
        (None, since, until) => Ok(HoldRange::Times {
            since: query::time("since", since, now)?.unwrap_or(UnixTime::from_nanos(i64::MIN)),
            until: query::time("until", until, now)?.unwrap_or(UnixTime::from_nanos(i64::MAX)),
        }),
    }
}

fn document(hold: &Hold) -> Value {
    let text = |(name, value): (&str, String)| (name.to_owned(), Value::from(value));
    let range: Map<_, _> = hold.range.ends().map(text).collect();
    let filter: Map<_, _> =
        hold.filter.pairs().iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    json!({
        "apiVersion": "portcullis/v1", "kind": "Hold", "name": hold.name, "reason": hold.reason, "range": range,
        "filter": filter, "by": hold.by, "at": hold.at.to_string(),
    })
}

impl From<HoldError> for Problem {
    fn from(error: HoldError) -> Self {
        let detail = error.to_string();
        let (status, code) = match error {
            HoldError::Exists(_) => (StatusCode::CONFLICT, "hold-exists"),
            HoldError::Unknown(_) => (StatusCode::NOT_FOUND, "hold-not-found"),
            HoldError::Name(_) | HoldError::Reason | HoldError::Range(_) | HoldError::Filter(_) => {
                (StatusCode::BAD_REQUEST, "bad-hold")
            }
            HoldError::Unrecorded(_) => (StatusCode::SERVICE_UNAVAILABLE, "audit-unavailable"),
            HoldError::Unreadable(_) | HoldError::Ledger(_) => return Problem::internal(&error),
        };
        Problem::new(status, code, detail)
    }
}
