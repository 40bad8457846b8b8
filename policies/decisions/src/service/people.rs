//! `POST /v1/decisions:reveal` and `POST /v1/decisions:erase`: who a committed id is, and that nobody can say any more.
//!
//! Whoever gets here may do so by the policies: `portcullis` asks for `decisions:reveal`, by namespace, and
//! `decisions:erase`. A revelation is on record before it is given out, with what was revealed and to whom.

use axum::{
    Extension,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use policies_engine::Principal;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Asked, Given, Problem, Service, body, json_answer};
use crate::{
    EraseError, IdPattern, Opened, Seen, StoredRecord,
    commit::{Commitment, commitment_of},
    leaf::hex,
};

/// Longest reason of an erasure, bytes.
const REASON: usize = 512;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reveal {
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Erase {
    subject: String,
    reason: String,
}

/// Who calls, or on whose behalf, where the id of that person is committed: the id, and the salt that shows it to others.
#[utoipa::path(
    post, path = "/v1/decisions:reveal", tag = "decisions",
    request_body(content_type = "application/json", description = "`id` (26 characters, or start and end joined by `..`)"),
    responses(
        (status = 200, description = "`id`, `index`, `state` (`clear`, `erased`, `expired`, `lost`), `field`, `commitment`; `value` and `salt` of what is clear"),
        (status = 400, description = "no id, or no purpose where one is required"),
        (status = 404, description = "no such record, or nothing in it that the reader may have opened"),
        (status = 410, description = "removed by retention"),
    ),
)]
pub(super) async fn reveal(
    State(service): State<Service>,
    asked: Asked,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let mut text = String::new();
    let answer = revealed(&service, &asked, &headers, &bytes, &mut text).await;
    service.told(&asked, "reveal", &text, answer)
}

async fn revealed(
    service: &Service,
    asked: &Asked,
    headers: &HeaderMap,
    bytes: &Bytes,
    text: &mut String,
) -> Result<(Response, Given), Problem> {
    let Reveal { id } = body::read(headers, bytes)?;
    let pattern: IdPattern = id.parse()?;
    *text = format!("id={id}");
    service.needs_purpose(asked, "a revelation", "portcullis decisions reveal ID --purpose TEXT")?;
    let running = service.admit(asked, false)?;
    let reveals = asked.reader.reveals.clone();
    let found = service.scan(running, move |ledger, _, _| {
        let record = ledger.get_seen(&pattern, &reveals)?;
        let opened = match reveals.of(&record) {
            Seen::Whole => ledger.open_committed(&record),
            Seen::Outbound | Seen::Hidden => Opened::Nothing,
        };
        Ok::<_, crate::GetError>((record, opened))
    });
    let (record, opened) = found.await??;
    let Some((field, commitment)) = commitment_of(&record).filter(|_| opened != Opened::Nothing) else {
        let detail = "nothing in this record is committed that you may have opened".to_owned();
        return Err(Problem::new(StatusCode::NOT_FOUND, "nothing-committed", detail));
    };
    text.push_str(&format!(" field={field} state={}", opened.as_str()));
    let (response, bytes) = json_answer(&document(&record, (field, commitment), &opened));
    Ok((response, Given { rows: 1, bytes, is_partial: false }))
}

fn document(record: &StoredRecord, (field, commitment): (&str, Commitment), opened: &Opened) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
    put("apiVersion", "portcullis/v1".into());
    put("kind", "Opening".into());
    put("id", record.id.to_string().into());
    put("index", record.index.to_string().into());
    put("state", opened.as_str().into());
    put("field", field.into());
    put("commitment", commitment.to_string().into());
    if let Opened::Clear(opening) = opened {
        put("value", opening.value.as_str().into());
        put("salt", hex(&opening.salt).into());
    }
    out.into()
}

/// Erases a person from everything that could say who a committed id is. Records and their proofs stay.
#[utoipa::path(
    post, path = "/v1/decisions:erase", tag = "decisions",
    request_body(content_type = "application/json", description = "`subject` (the id of a person), `reason` (goes on record: do not name the person in it)"),
    responses(
        (status = 200, description = "`erased`: how many keys are gone; with none, nobody of that id was committed"),
        (status = 400, description = "no id or no reason"),
        (status = 409, description = "a hold keeps records that may be about the person"),
        (status = 503, description = "it could not be put on record, so nothing was erased"),
    ),
)]
pub(super) async fn erase(
    State(service): State<Service>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let Erase { subject, reason } = body::read(&headers, &bytes)?;
    let is_text =
        |text: &str| !text.trim().is_empty() && text.len() <= REASON && !text.chars().any(char::is_control);
    if subject.is_empty() || !is_text(&reason) || reason.contains(&subject) {
        let detail = format!(
            "an erasure needs the id of a person, and a reason of 1 to {REASON} bytes that does not contain it"
        );
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad-erasure", detail));
    }
    let erased = service.ledger.erase(&subject, &reason, &principal).await?;
    let (answer, _) =
        json_answer(&json!({"apiVersion": "portcullis/v1", "kind": "Erasure", "erased": erased}));
    Ok(answer)
}

impl From<EraseError> for Problem {
    fn from(error: EraseError) -> Self {
        let (status, code) = match error {
            EraseError::Held(_) | EraseError::HoldsUnreadable => (StatusCode::CONFLICT, "held"),
            EraseError::Unrecorded(_) => (StatusCode::SERVICE_UNAVAILABLE, "audit-unavailable"),
            EraseError::Ledger(_) | EraseError::Broken(_) => return Problem::internal(&error),
        };
        Problem::new(status, code, error.to_string())
    }
}
