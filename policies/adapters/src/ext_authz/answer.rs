//! From a verdict to a `CheckResponse`. A caller learns the class of the reason and the decision id, nothing more (EX9).

use crate::{
    Unrecorded, Verdict,
    generated::messages::{
        CheckResponse, DeniedHttpResponse, HeaderValue, HeaderValueOption, HttpStatus, OkHttpResponse,
        Status, check_response::HttpResponse,
    },
};
use policies_engine::Reason;
use prost_types::{Struct, Value, value::Kind};

const DECISION: &str = "portcullis-decision-id";

pub(super) fn allowed(verdict: &Verdict, headers_to_remove: Vec<String>) -> CheckResponse {
    CheckResponse {
        status: Some(Status { code: 0, message: String::new() }),
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse { headers_to_remove })),
        dynamic_metadata: Some(metadata(verdict)),
    }
}

pub(super) fn denied(verdict: &Verdict) -> CheckResponse {
    let reason = verdict.decision.reason;
    let message = match &verdict.advice {
        Some(advice) => format!("{}: {advice}", reason.class().as_str()),
        None => reason.class().as_str().to_owned(),
    };
    CheckResponse {
        dynamic_metadata: Some(metadata(verdict)),
        ..refusal(reason, message, Some(verdict.id.to_string()))
    }
}

pub(super) fn unrecorded(cause: &Unrecorded) -> CheckResponse {
    tracing::warn!(event = "audit_unavailable", %cause, "a question of an Envoy was refused because it could not be recorded");
    let reason = Reason::AuditUnavailable;
    refusal(reason, reason.class().as_str().to_owned(), None)
}

fn refusal(reason: Reason, message: String, id: Option<String>) -> CheckResponse {
    let header = |value: String| HeaderValueOption {
        header: Some(HeaderValue { key: DECISION.to_owned(), value, raw_value: Vec::new() }),
    };
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus { code: reason.http_status().into() }),
        headers: id.into_iter().map(header).collect(),
        body: format!("{message}\n"),
    };
    CheckResponse {
        status: Some(Status { code: i32::try_from(reason.grpc_code()).unwrap_or(7), message }),
        http_response: Some(HttpResponse::DeniedResponse(denied)),
        dynamic_metadata: None,
    }
}

/// For access logs of Envoy: `%DYNAMIC_METADATA(envoy.filters.http.ext_authz:decision)%`.
fn metadata(verdict: &Verdict) -> Struct {
    let text = |value: String| Value { kind: Some(Kind::StringValue(value)) };
    let fields = [
        ("decision", verdict.id.to_string()),
        ("reason", verdict.decision.reason.as_str().to_owned()),
        ("policies", verdict.policies.to_string()),
    ];
    Struct { fields: fields.into_iter().map(|(name, value)| (name.to_owned(), text(value))).collect() }
}
