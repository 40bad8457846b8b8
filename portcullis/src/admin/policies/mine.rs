//! `POST /v1/policies:suggest`: least-privilege permits from the denials of a range, their cases, and what they would do
//! on the same range (policy EX8). Nothing is put into force, and no forbid is proposed away.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json, Router, routing};
use policies_decisions::Walked;
use policies_engine::mining::{Forbidden, Mined, Mining};
use policies_engine::{Principal, Snapshot};
use serde_json::{Value, json};

use super::impact::{Range, Reader, compile, files, read, run, walk};
use super::{asked, documents};
use crate::admin::Api;
use crate::admin::problem::Problem;
use crate::admin::reading::Who;
use crate::replay::reach;

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new().route("/v1/policies:suggest", routing::post(suggest))
}

/// Permits and cases from what was denied because no permit matched.
#[utoipa::path(post, path = "/v1/policies:suggest", responses((status = 200, description = "`policies`: a file of permits; `cases`: a file of cases; `impact`: what they would do on the same range; `forbidden`: what forbids denied, with owners"), (status = 400, description = "malformed, or an unknown filter"), (status = 403, description = "needs decisions:read and policy:read"), (status = 429, description = "another replay is running")))]
pub(in crate::admin) async fn suggest(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    who: Who,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Json<Value>, Problem> {
    let range: Range = asked::body(&headers, &bytes)?;
    let reader = Reader::admit(&api, principal, who).await?;
    let in_force = api.judge.snapshot().ok_or_else(super::nothing_in_force)?;
    let (mined, told) = mine(&api, &reader, &range, &in_force).await?;
    read(&api, &reader, format!("suggest {}", range.asked(&api)), told.decisions)?;
    let mut document = documents::object("Mining", summary(&mined));
    for (name, value) in reach(&told) {
        document = documents::with(document, name, value);
    }
    let mut text = mined.summary();
    if !mined.proposals.is_empty() {
        let candidate = beside(&api, &in_force, &mined).await?;
        let replayed = run(&api, &reader, Arc::clone(&candidate), &range, "impact").await?;
        text.push_str(&effect(&replayed.impact));
        document = documents::with(document, "policies", mined.policies());
        document = documents::with(document, "cases", mined.cases(&candidate));
        document = documents::with(document, "impact", replayed.impact.to_json());
    }
    Ok(Json(documents::with(document, "text", text)))
}

async fn mine(
    api: &Arc<Api>,
    reader: &Reader,
    range: &Range,
    in_force: &Arc<Snapshot>,
) -> Result<(Mined, Walked), Problem> {
    let in_force = Arc::clone(in_force);
    walk(api, reader, range, move |source| {
        let mut mining = Mining::new(Arc::clone(&in_force));
        let walked = source.each(&in_force, |recorded| mining.see(recorded))?;
        Ok((mining.finish(), walked))
    })
    .await
}

/// The policies in force, and those that were mined.
async fn beside(api: &Arc<Api>, in_force: &Snapshot, mined: &Mined) -> Result<Arc<Snapshot>, Problem> {
    let mut files = match in_force.versions().numbers.policies {
        0 => Vec::new(),
        version => files(api, version)?,
    };
    let is_free = |name: &String| !files.iter().any(|(known, _)| known == name);
    let name = (1..).map(|number| format!("suggested-{number}.cedar")).find(is_free).unwrap_or_default();
    files.push((name, mined.policies().into()));
    compile(api, files).await
}

fn effect(impact: &policies_engine::impact::Impact) -> String {
    let undecided = match impact.undecided {
        0 => String::new(),
        count => format!(", {count} cannot be told"),
    };
    format!(
        "on the same range they would allow {} of the denied calls and deny {} of the allowed ones{undecided}\n",
        impact.deny_to_allow, impact.allow_to_deny
    )
}

fn summary(mined: &Mined) -> Value {
    let proposals: Vec<_> = mined
        .proposals
        .iter()
        .map(|proposal| json!({ "id": proposal.id(), "count": proposal.count(), "policy": proposal.text() }))
        .collect();
    json!({
        "denied": mined.counts.denied, "allowed_now": mined.counts.allowed_now,
        "anonymous": mined.counts.anonymous, "undecided": mined.counts.undecided,
        "left_out": mined.counts.left_out, "forbidden_calls": mined.counts.forbidden,
        "proposals": proposals, "forbidden": mined.forbidden.iter().map(forbidden).collect::<Vec<_>>(),
    })
}

fn forbidden(one: &Forbidden) -> Value {
    let policies: Vec<&str> = one.policies.iter().map(|id| &**id).collect();
    json!({
        "policies": policies, "owner": one.owner, "count": one.count, "example": one.example.to_string(),
        "principal": { "type": one.principal.entity_type(), "id": one.principal.id() },
        "action": one.action.as_str(),
        "resource": { "type": one.resource.entity_type(), "id": one.resource.id() },
    })
}
