//! `POST /v1/policies:usage`: what became of the policies in force in a range of the ledger. Lint asks for it
//! (PC2105, PC2106, PC2117). Reads the whole range, so it is bounded as a replay is.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json, Router, routing};
use policies_decisions::Walked;
use policies_engine::impact::Recorded;
use policies_engine::{AccessRequest, Effect, Principal, Reason, Snapshot, lint};
use serde_json::{Map, Value, json};

use super::impact::{Range, Reader, read, walk};
use super::{asked, documents};
use crate::admin::Api;
use crate::admin::problem::Problem;
use crate::admin::reading::Who;
use crate::replay::reach;

pub(super) fn router() -> Router<Arc<Api>> {
    Router::new().route("/v1/policies:usage", routing::post(usage))
}

/// How often each policy in force decided, and which permits were always overruled.
#[utoipa::path(post, path = "/v1/policies:usage", responses((status = 200, description = "`policies` by id; `partial` when the time was over"), (status = 400, description = "malformed range"), (status = 403, description = "needs decisions:read and policy:read"), (status = 429, description = "another replay is running"), (status = 503, description = "no policies are in force")))]
pub(in crate::admin) async fn usage(
    State(api): State<Arc<Api>>,
    Extension(principal): Extension<Principal>,
    who: Who,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Json<Value>, Problem> {
    let range: Range = asked::body(&headers, &bytes)?;
    let reader = Reader::admit(&api, principal, who).await?;
    let none = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no policies are in force");
    let in_force = api.judge.snapshot().ok_or_else(none)?;
    let (uses, walked_so_far) = walk(&api, &reader, &range, move |source| {
        let mut tally = Tally::new(&in_force);
        let walked = source.each(&in_force, |recorded| tally.see(recorded))?;
        let since = |id: &str| {
            let entry = source.store?.history(id).ok()?.into_iter().next()?;
            Some(entry.version.created)
        };
        Ok((tally.finish(&in_force, &since), walked))
    })
    .await?;
    read(&api, &reader, "usage of policies".to_owned(), walked_so_far.decisions)?;
    Ok(Json(document(uses, &walked_so_far)))
}

fn document(uses: Map<String, Value>, walked_so_far: &Walked) -> Value {
    let mut document = documents::object("PolicyUsage", json!({ "policies": uses }));
    for (name, value) in reach(walked_so_far) {
        document = documents::with(document, name, value);
    }
    document
}

/// Counts while the ledger is walked.
struct Tally {
    /// The policies in force without their forbids.
    permits: Snapshot,
    matched: HashMap<String, u64>,
    /// By permit: calls it matched and a forbid refused, and one such forbid.
    refused: HashMap<Arc<str>, (String, u64)>,
}

impl Tally {
    fn new(in_force: &Snapshot) -> Tally {
        Tally { permits: lint::permits(in_force), matched: HashMap::new(), refused: HashMap::new() }
    }

    fn see(&mut self, recorded: &Recorded<'_>) {
        for id in recorded.determining {
            match self.matched.get_mut(*id) {
                Some(count) => *count = count.saturating_add(1),
                None => {
                    self.matched.insert((*id).to_owned(), 1);
                }
            }
        }
        let (Reason::Forbid, Some(facts), Some(forbid)) =
            (recorded.reason, recorded.facts, recorded.determining.first())
        else {
            return;
        };
        let request = AccessRequest {
            principal: recorded.principal,
            action: recorded.action,
            resource: recorded.resource,
            facts,
            now: recorded.now,
            extra: None,
        };
        let decision = self.permits.decide(&request);
        if decision.effect != Effect::Allow {
            return;
        }
        for permit in decision.determining.iter() {
            let (_, count) =
                self.refused.entry(Arc::clone(permit)).or_insert_with(|| ((*forbid).to_owned(), 0));
            *count = count.saturating_add(1);
        }
    }

    /// By policy id; `since` is when it got the text it has.
    fn finish(self, in_force: &Snapshot, since: &dyn Fn(&str) -> Option<String>) -> Map<String, Value> {
        let of = |policy: policies_engine::PolicyInfo| {
            let id: &str = &policy.id;
            let matched = self.matched.get(id).copied().unwrap_or_default();
            // One call that it decided is enough: it is not always overruled.
            let refused = self.refused.get(id).filter(|_| matched == 0);
            let overruled = refused.map(|(forbid, calls)| json!({ "forbid": forbid, "calls": calls }));
            let entry = json!({ "matched": matched, "overruled": overruled, "since": since(id) });
            (id.to_owned(), entry)
        };
        in_force.policies().filter(|policy| !policy.is_baseline).map(of).collect()
    }
}
