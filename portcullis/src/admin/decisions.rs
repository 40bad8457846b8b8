//! `GET /v1/decisions/{id}/explain`: the record and the policies that judged it, joined.
//! The ledger knows no Cedar and the engine no ledger; they meet here (policy EX6).

pub(super) mod append;
pub(super) mod case;
pub(super) mod recompute;
mod repeats;
pub(super) mod suggested;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use base_ports::UnixTime;
use policies_decisions::{GetError, IdPattern, PatternError, Reader, Seen, StoredRecord};
use policies_engine::explain::{Recorded, RequestForExplain, TextOptions, explain as explained};
use policies_engine::{
    Action, DecisionId, ErrorClass, OwnedFacts, PolicyError, Principal, ReadRecord, Resource, Snapshot, Would,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::problem::Problem;
use super::reading::on_record;
use crate::assemble::policies::shipped;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    #[serde(default)]
    all: bool,
}

/// Why a recorded decision came out as it did.
#[utoipa::path(get, path = "/v1/decisions/{id}/explain", params(("id" = String, Path, description = "decision id or PREFIX…SUFFIX")), responses((status = 200, description = "explanation"), (status = 404, description = "no such decision")))]
pub(super) async fn explain(
    State(api): State<Arc<Api>>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(options): Query<Options>,
) -> Result<Json<Value>, Problem> {
    let answer = explanation(&api, &reader, &id, &options).await;
    told(&api, &reader, &headers, ("explain", &id), answer)
}

async fn explanation(api: &Arc<Api>, reader: &Reader, id: &str, options: &Options) -> Result<Value, Problem> {
    let recorded = find(api, reader, id).await?;
    let snapshot = pinned(api, recorded.snapshot).await?;
    let mut explanation = explained(&snapshot, &recorded.question);
    explanation.repeats = repeats::of(api, &recorded).await;
    let explanation = explanation;
    let again = explanation.recomputed.as_ref();
    if again.is_some_and(|again| again.is_same == Some(false)) {
        tracing::error!(
            event = "recomputed_differs",
            decision = recorded.id,
            "stock Cedar decides a recorded call otherwise"
        );
    }
    let mut text = explanation.to_text(
        &recorded.question,
        &snapshot,
        &TextOptions {
            decision: Some(recorded.id.clone()),
            age: Some(age(api.clock.now().wall.saturating_since(recorded.question.now))),
            enforcer: Some(recorded.instance.clone()),
            service: recorded.service.clone(),
            shorten: false,
            all: options.all,
        },
    );
    let mut document = explanation.to_json(&recorded.question, &snapshot, Some(&recorded.id));
    if let Some(members) = document.as_object_mut() {
        if !recorded.lacks.is_empty() {
            members.insert("not_recorded".to_owned(), json!(recorded.lacks));
            text.push_str(&format!(" lacks  {}: not on record as it was\n", recorded.lacks.join(", ")));
        }
        members.insert("text".to_owned(), json!(text));
    }
    Ok(document)
}

/// A recorded decision as the engine asks for it.
struct Stored {
    id: String,
    instance: String,
    service: Option<String>,
    snapshot: Option<u64>,
    /// Fields that are not on record as they were: cut, hashed or left out.
    lacks: Vec<String>,
    question: RequestForExplain,
}

impl Stored {
    /// Why nothing can be written about its caller, if so: what stands on record in place of the id names nobody.
    fn nameless(&self) -> Option<&'static str> {
        let is_nameless = self.lacks.iter().any(|field| field == "principal.id");
        is_nameless
            .then_some("the id of the caller is not on record in clear; write it for the person you mean")
    }
}

/// The snapshot of that number. A record that names none was made before there was one, or needs none: those in force
/// show it, else the shipped ones.
pub(super) async fn pinned(api: &Arc<Api>, number: Option<u64>) -> Result<Arc<Snapshot>, Problem> {
    let in_force = api.judge.snapshot();
    let is_it = |held: &Arc<Snapshot>| number.is_none_or(|number| held.versions().numbers.snapshot == number);
    if let Some(current) = in_force.filter(is_it) {
        return Ok(current);
    }
    let gone = |detail: String| {
        Problem::new(StatusCode::GONE, "the policies that judged it are no longer stored").detail(detail)
    };
    let held = Arc::clone(api);
    let compiling = tokio::task::spawn_blocking(move || match (number, &held.store) {
        (None | Some(0), _) => shipped(),
        (Some(number), Some(store)) => store.version(number).map_err(|error| error.to_string()),
        (Some(number), None) => match &held.follower {
            Some(follower) => follower.version(number).map_err(|error| error.to_string()),
            None => Err(format!("snapshot {number}; no policies are kept here")),
        },
    });
    let compiled = compiling.await.map_err(|error| gone(error.to_string()))?;
    compiled.map_err(gone)
}

/// Lets an answer about one decision out once it is on record with what it gave; a refusal is put on record too (RR4).
fn told(
    api: &Api,
    reader: &Reader,
    headers: &HeaderMap,
    (call, id): (&'static str, &str),
    answer: Result<Value, Problem>,
) -> Result<Json<Value>, Problem> {
    let purpose = headers.get("portcullis-purpose").and_then(|value| value.to_str().ok());
    let bytes = answer.as_ref().map_or(0, |answer| answer.to_string().len());
    let note = ReadRecord {
        count: u64::from(answer.is_ok()),
        bytes: bytes as u64,
        failed: answer.as_ref().err().map(|problem| problem.title().to_owned()),
        purpose: purpose.map(str::to_owned),
        credential: reader.credential.clone(),
        ..ReadRecord::new(reader.principal.clone(), call, format!("id={id}"), api.clock.now())
    };
    on_record(api, note)?;
    answer.map(Json)
}

/// The decision of that id, if `reader` may see it whole.
async fn find(api: &Api, reader: &Reader, id: &str) -> Result<Stored, Problem> {
    let missing = |detail: String| {
        Problem::new(StatusCode::NOT_FOUND, "no such decision")
            .detail(detail)
            .hint("portcullis decisions query lists ids")
    };
    let pattern: IdPattern = id.parse().map_err(|error: PatternError| missing(error.to_string()))?;
    let looked = || {
        let (ledger, pattern, sight) = (api.ledger.clone(), pattern.clone(), reader.sight.clone());
        tokio::task::spawn_blocking(move || ledger.get_seen(&pattern, &sight))
    };
    let mut found = looked().await;
    // A caller may know the id before the ledger has the record; it is there in a moment, or lost.
    let made = id.parse().map(|id: DecisionId| id.millis()).unwrap_or_default();
    while matches!(found, Ok(Err(GetError::NotFound(_)))) && is_young(made, api.clock.now().wall) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        found = looked().await;
    }
    let stored = match found {
        Ok(Ok(stored)) => stored,
        Ok(Err(GetError::Ambiguous { id, candidates })) => {
            let ids: Vec<String> = candidates.iter().map(ToString::to_string).collect();
            return Err(Problem::new(StatusCode::CONFLICT, "several decisions fit")
                .detail(format!("`{id}` is short for {}", ids.join(", ")))
                .with("candidates", ids));
        }
        Ok(Err(error)) => return Err(missing(error.to_string())),
        Err(error) => {
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the ledger failed")
                .detail(error.to_string()));
        }
    };
    if reader.sight.of(&stored) != Seen::Whole {
        let detail = "why the other side decided so is for those who may read its namespace";
        return Err(Problem::new(StatusCode::FORBIDDEN, "not permitted").detail(detail));
    }
    recorded(&stored).ok_or_else(|| missing(format!("record {} is no decision of a call", stored.id)))
}

/// Whether a record of that millisecond may still be on its way into the ledger.
fn is_young(made: u64, now: UnixTime) -> bool {
    const WAY: u64 = 2_000;
    let now = u64::try_from(now.as_millis()).unwrap_or_default();
    now.abs_diff(made) < WAY
}

/// `None` for a record that is no decision, or names what this version does not know.
fn recorded(stored: &StoredRecord) -> Option<Stored> {
    let decision = stored.decision()?;
    let resource = Resource::from_parts(&decision.resource.kind, &decision.resource.id)
        .unwrap_or_else(Resource::unknown);
    let placed = match &decision.service {
        Some(service) => resource.within(service, decision.namespace.as_deref()),
        None => resource,
    };
    Some(Stored {
        id: stored.id.to_string(),
        instance: stored.stream.instance.clone(),
        service: decision.service.clone(),
        snapshot: stored.versions.as_ref().map(|versions| versions.numbers.snapshot),
        lacks: stored.incomplete().map(str::to_owned).collect(),
        question: RequestForExplain {
            principal: Principal::from_parts(&stored.principal.kind, &stored.principal.id)?,
            action: Action::parse(&decision.action).ok()?,
            resource: placed,
            facts: decision.facts.clone().unwrap_or_else(|| OwnedFacts::local("unknown")),
            now: stored.time,
            extra: None,
            recorded: Some(Recorded {
                effect: decision.effect,
                reason: decision.reason.parse().ok()?,
                detail: decision.detail.clone(),
                determining: decision.determining.iter().map(|id| id.as_str().into()).collect(),
                would: decision.would.as_ref().and_then(would),
                is_whole: stored.incomplete().next().is_none(),
            }),
        },
    })
}

/// `None` for words of a later version.
fn would(stored: &policies_decisions::Would) -> Option<Would> {
    let error = |(policy, class): &(String, String)| {
        Some(PolicyError { policy: policy.as_str().into(), class: ErrorClass::from_word(class)? })
    };
    Some(Would {
        effect: stored.effect,
        reason: stored.reason.parse().ok()?,
        determining: stored.determining.iter().map(|id| id.as_str().into()).collect(),
        errors: stored.errors.iter().filter_map(error).collect(),
        version: stored.version,
    })
}

/// `3 s ago`, as people say it.
fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s ago"),
        seconds @ 120..=7_199 => format!("{} min ago", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} d ago", seconds / 86_400),
    }
}
