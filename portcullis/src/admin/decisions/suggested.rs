//! `GET /v1/decisions/{id}/suggest`: the least permit for a refused call, its case, and what it would have changed in the
//! last day (EX8). Never proposes to remove a forbid: there it names whom to ask.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use base_ports::UnixTime;
use policies_decisions::{Decided, Query, Reader};
use policies_engine::explain::{Explanation, RequestForExplain, explain};
use policies_engine::{AccessRequest, Facts, Reason, ResourceKind, Snapshot, suggestion};
use serde_json::{Value, json};

use super::{Stored, find, told};
use crate::admin::Api;
use crate::admin::problem::Problem;

/// How far back the effect is told, and how long telling it may take.
const DAY: &str = "24h";
const PATIENCE: Duration = Duration::from_millis(1_500);

/// A permit for exactly the call that was denied, with its case and its effect.
#[utoipa::path(get, path = "/v1/decisions/{id}/suggest", params(("id" = String, Path, description = "decision id or PREFIX…SUFFIX")), responses((status = 200, description = "a permit with @id, a case for it, and what it would have changed in the last 24 h"), (status = 404, description = "no such decision"), (status = 422, description = "no permit would help: nothing registered, a forbid, or a refusal before the policies")))]
pub(in crate::admin) async fn suggest(
    State(api): State<Arc<Api>>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let answer = permit(&api, &reader, &id).await;
    told(&api, &reader, &headers, ("suggest", &id), answer)
}

async fn permit(api: &Arc<Api>, reader: &Reader, id: &str) -> Result<Value, Problem> {
    let recorded = find(api, reader, id).await?;
    let snapshot = api
        .judge
        .snapshot()
        .ok_or_else(|| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no policy is in force"))?;
    let explained = explain(&snapshot, &RequestForExplain { recorded: None, ..recorded.question.clone() });
    useless(&recorded, &explained, &snapshot)?;
    let suggested = suggestion(&snapshot, &recorded.question);
    let effect = effect(api, &recorded, &snapshot).await;
    Ok(json!({
        "apiVersion": "portcullis/v1", "kind": "Suggestion", "decision": recorded.id, "id": suggested.id,
        "policy": suggested.policy, "test": suggested.case, "effect": effect,
        "already_permitted": explained.reason == Reason::Permit,
        "next": format!("portcullis policy suggest {} --write policies", recorded.id),
    }))
}

/// Why no permit would help, if none would.
fn useless(recorded: &Stored, explained: &Explanation, snapshot: &Snapshot) -> Result<(), Problem> {
    let refuse = |title: &str, detail: String| {
        Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, title).detail(detail).code("PC2060"))
    };
    let question = &recorded.question;
    let outcome = question.recorded.as_ref();
    if question.resource.kind() == ResourceKind::Unknown {
        let detail = "the call named no registered route or method; add it to the configuration first";
        return refuse("nothing to permit", detail.to_owned());
    }
    if let Some(why) = recorded.nameless() {
        return refuse("nobody to permit", why.to_owned());
    }
    let is_of_policies = |reason: Reason| {
        matches!(reason, Reason::Permit | Reason::NoPermit | Reason::Forbid | Reason::ForbidError)
    };
    if let Some(reason) = outcome.map(|outcome| outcome.reason).filter(|reason| !is_of_policies(*reason)) {
        return refuse("not refused by policies", format!("{}; no permit changes that", reason.sentence()));
    }
    let is_refused = outcome.is_none_or(|outcome| outcome.reason != Reason::Permit);
    match explained.reason {
        Reason::Forbid | Reason::ForbidError => {
            let failed = explained.errors.iter().map(|failure| &failure.candidate);
            let owners = explained.determining.iter().chain(failed).filter_map(|of| of.place.owner.clone());
            let owners: Vec<String> = owners.collect();
            let whom = if owners.is_empty() { "whoever wrote it".to_owned() } else { owners.join(", ") };
            let why = explained.cause(question, snapshot);
            refuse(
                "a forbid refuses this call",
                format!("{why}; a permit does not lift a forbid: ask {whom}"),
            )
        }
        _ if !is_refused => refuse("nothing to permit", "this call was allowed".to_owned()),
        _ => Ok(()),
    }
}

/// Recorded refusals of the same call that the permit would turn: those to which the policies in force say that no
/// permit matches. A permit changes nothing else.
async fn effect(api: &Arc<Api>, recorded: &Stored, snapshot: &Arc<Snapshot>) -> Option<Value> {
    let now = api.clock.now().wall;
    let question = recorded.question.clone();
    let pairs = [
        ("principal", question.principal.id()),
        ("action", question.action.as_str()),
        ("resource", question.resource.id()),
        ("since", DAY),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let query = Query::parse(&pairs, now).ok()?;
    let (api, snapshot) = (Arc::clone(api), Arc::clone(snapshot));
    let counting = tokio::task::spawn_blocking(move || turned(&api, &query, &question, &snapshot));
    counting.await.ok()?
}

fn turned(api: &Api, query: &Query, question: &RequestForExplain, snapshot: &Snapshot) -> Option<Value> {
    let needs_mtls = question.facts.connection().mtls;
    let begun = api.clock.mono();
    let (mut refused, mut would, mut span): (u64, u64, Option<(UnixTime, UnixTime)>) = (0, 0, None);
    let each = |decided: &Decided<'_>| {
        if api.clock.mono().saturating_since(begun) > PATIENCE {
            return ControlFlow::Break(());
        }
        let is_same =
            decided.resource.1 == question.resource.id() && decided.reason != Reason::Permit.as_str();
        let Some(facts) = decided.facts.as_ref().filter(|_| is_same) else {
            return ControlFlow::Continue(());
        };
        refused += 1;
        let request = AccessRequest { facts, now: decided.time, ..question.access() };
        let is_turned =
            snapshot.decide(&request).reason == Reason::NoPermit && (!needs_mtls || facts.connection().mtls);
        if is_turned {
            would += 1;
            let (first, last) = span.unwrap_or((decided.time, decided.time));
            span = Some((first.min(decided.time), last.max(decided.time)));
        }
        ControlFlow::Continue(())
    };
    match api.ledger.walk(query, each) {
        Ok(walked) => Some(json!({
            "since": DAY, "refused": refused, "newly_allowed": would,
            "first": span.map(|(first, _)| first.to_string()), "last": span.map(|(_, last)| last.to_string()),
            "partial": walked.is_stopped || !walked.damaged.is_empty(),
        })),
        Err(error) => {
            tracing::warn!(%error, "the effect of a suggestion is not known");
            None
        }
    }
}
