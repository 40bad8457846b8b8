//! A problem document of the REST API as a gRPC status (experience.md GC2, GC3): the same words, with
//! `google.rpc.ErrorInfo` for programs and `google.rpc.BadRequest` for findings.
//!
//! Details travel in trailers, which clients cap at a few kilobytes: what does not fit is left out, and counted.

use prost::Message;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Code, Status};

/// Most bytes of a message, and of all violations together.
const MESSAGE: usize = 1_000;
const VIOLATIONS: usize = 3_000;
/// Longest fact of an `ErrorInfo`, bytes.
const FACT: usize = 300;
/// What is said elsewhere in the status.
const SAID: [&str; 6] = ["type", "title", "status", "code", "detail", "errors"];

#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<Violation>,
}

#[derive(Clone, PartialEq, Message)]
struct Violation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

/// The status of an answer that is no success.
pub(super) fn status(http: u16, body: &[u8]) -> Status {
    let problem: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| problem.get(name).and_then(Value::as_str);
    let title = text("title").unwrap_or("refused");
    let message = text("detail").map_or_else(|| title.to_owned(), |detail| format!("{title}: {detail}"));
    let message = cut(&message, MESSAGE);
    let reason = text("code").map_or_else(|| title.to_uppercase().replace(' ', "_"), str::to_owned);
    let mut metadata = facts(&problem);
    let (violations, left_out) = violations(&problem);
    if left_out > 0 {
        metadata.insert("findings_left_out".to_owned(), left_out.to_string());
    }
    let info = ErrorInfo { reason, domain: "portcullis".to_owned(), metadata };
    let mut details = vec![detail("ErrorInfo", &info)];
    if !violations.is_empty() {
        details.push(detail("BadRequest", &BadRequest { field_violations: violations }));
    }
    let code = code(http);
    let status = RpcStatus { code: code as i32, message: message.clone(), details };
    let mut trailers = MetadataMap::new();
    if let Some(id) = text("decision_id").and_then(|id| id.parse::<AsciiMetadataValue>().ok()) {
        trailers.insert("portcullis-decision-id", id);
    }
    Status::with_details_and_metadata(code, message, status.encode_to_vec().into(), trailers)
}

/// GC3; what is in the wrong state is a failed precondition, what somebody else wrote meanwhile is aborted.
fn code(http: u16) -> Code {
    match http {
        400 | 415 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        405 => Code::Unimplemented,
        409 | 412 => Code::Aborted,
        413 | 429 => Code::ResourceExhausted,
        422 | 428 => Code::FailedPrecondition,
        503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        _ => Code::Internal,
    }
}

/// Members of the problem that are one value or a list of names.
fn facts(problem: &Map<String, Value>) -> BTreeMap<String, String> {
    let fact = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
        Value::Array(items) => {
            let names: Option<Vec<_>> = items.iter().map(Value::as_str).collect();
            names.filter(|names| !names.is_empty()).map(|names| names.join(", "))
        }
        Value::Null | Value::Object(_) => None,
    };
    let others = problem.iter().filter(|(name, _)| !SAID.contains(&name.as_str()));
    others.filter_map(|(name, value)| Some((name.clone(), cut(&fact(value)?, FACT)))).collect()
}

/// Findings and failed cases, as many as fit, and how many do not.
fn violations(problem: &Map<String, Value>) -> (Vec<Violation>, usize) {
    let all = |name: &str| problem.get(name).and_then(Value::as_array).into_iter().flatten();
    let text =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let finding = |found: &Value| {
        let place = ["line", "column"].iter().filter_map(|name| found.get(*name)?.as_u64());
        let field = place.fold(text(found, "file"), |field, number| format!("{field}:{number}"));
        Violation { field, description: format!("{} [{}]", text(found, "message"), text(found, "code")) }
    };
    let case = |case: &Value| Violation {
        field: format!("{}: {}", text(case, "file"), text(case, "name")),
        description: text(case, "failure"),
    };
    let found: Vec<_> = all("errors").map(finding).chain(all("cases").map(case)).collect();
    let mut room = VIOLATIONS;
    let fit = found.iter().take_while(|violation| match room.checked_sub(violation.encoded_len()) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    });
    let fit: Vec<_> = fit.cloned().collect();
    let left_out = found.len().saturating_sub(fit.len());
    (fit, left_out)
}

fn detail(name: &str, message: &impl Message) -> Detail {
    Detail { type_url: format!("type.googleapis.com/google.rpc.{name}"), value: message.encode_to_vec() }
}

fn cut(text: &str, bytes: usize) -> String {
    text.char_indices()
        .take_while(|(at, char)| at.saturating_add(char.len_utf8()) <= bytes)
        .map(|(_, c)| c)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(status: &Status) -> (ErrorInfo, BadRequest) {
        let details = RpcStatus::decode(status.details()).unwrap().details;
        let of = |name: &str| details.iter().find(|detail| detail.type_url.ends_with(name));
        let info = ErrorInfo::decode(&*of("ErrorInfo").unwrap().value).unwrap();
        let bad = of("BadRequest").map(|detail| BadRequest::decode(&*detail.value).unwrap());
        (info, bad.unwrap_or_default())
    }

    #[test]
    fn gc2_a_refusal_has_the_words_of_rest_and_the_facts_for_programs() {
        let problem = json!({
            "type": "urn:x", "title": "the change starts from an older version", "status": 409, "code": "PC2042",
            "detail": "head is v4", "next": "portcullis policy versions", "head": 4, "conflicting": ["a", "b"],
        });
        let refused = status(409, problem.to_string().as_bytes());
        assert_eq!(refused.code(), Code::Aborted);
        assert_eq!(refused.message(), "the change starts from an older version: head is v4");
        let (info, bad) = read(&refused);
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("PC2042", "portcullis"));
        assert_eq!((info.metadata["head"].as_str(), info.metadata["conflicting"].as_str()), ("4", "a, b"));
        assert_eq!(info.metadata.len(), 3, "{info:?}");
        assert!(bad.field_violations.is_empty());
        let other = status(403, br#"{"title":"not permitted","decision_id":"01JD"}"#);
        assert_eq!(read(&other).0.reason, "NOT_PERMITTED");
        assert_eq!(other.metadata().get("portcullis-decision-id").unwrap(), "01JD");
        assert_eq!(status(500, b"oops").code(), Code::Internal);
    }

    #[test]
    fn gc2_findings_are_violations_as_many_as_a_trailer_carries() {
        let finding = json!({ "file": "a.cedar", "line": 3, "column": 1, "message": "m".repeat(200), "code": "PC2001" });
        let problem = json!({ "title": "its checks did not pass", "errors": vec![finding; 40] });
        let refused = status(422, problem.to_string().as_bytes());
        let (info, bad) = read(&refused);
        assert_eq!(bad.field_violations[0].field, "a.cedar:3:1");
        let shown = bad.field_violations.len();
        assert!(shown > 5 && info.metadata["findings_left_out"] == (40 - shown).to_string(), "{info:?}");
        assert!(refused.details().len() < 6_000, "{}", refused.details().len());
        assert_eq!(cut("aé", 2), "a");
    }
}
