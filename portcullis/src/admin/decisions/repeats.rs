//! How often the same call was refused in the hour before: the `who` line of an explanation.
//!
//! Left out when the ledger is too large to count it in time, or somebody else is counting: an explanation is what an
//! operator waits for.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use policies_decisions::{Decided, Ledger, Query};
use policies_engine::Reason;
use policies_engine::explain::Repeats;
use tokio::sync::Semaphore;

use super::Stored;
use crate::admin::Api;

const HOUR: Duration = Duration::from_secs(3600);
/// How long the count may take.
const PATIENCE: Duration = Duration::from_millis(80);
/// Denials that are counted.
const MOST: u64 = 10_000;
static COUNTING: Semaphore = Semaphore::const_new(1);

/// The refusals of the same caller, action and target; `None` for a call that was not refused.
pub(super) async fn of(api: &Arc<Api>, recorded: &Stored) -> Option<Repeats> {
    recorded.question.recorded.as_ref().filter(|outcome| outcome.reason != Reason::Permit)?;
    let permit = COUNTING.try_acquire().ok()?;
    let (pairs, question) = (pairs(recorded), recorded.question.clone());
    let query = Query::parse(&pairs, question.now).ok()?;
    let ledger = api.ledger.clone();
    let counting = tokio::task::spawn_blocking(move || {
        let counted = count(&ledger, &query, question.resource.id());
        drop(permit);
        counted
    });
    tokio::time::timeout(PATIENCE, counting).await.ok()?.ok()?
}

/// Filters of the ledger for the same call, up to the recorded one.
fn pairs(recorded: &Stored) -> Vec<(String, String)> {
    let question = &recorded.question;
    [
        ("principal", question.principal.id().to_owned()),
        ("action", question.action.as_str().to_owned()),
        ("resource", question.resource.id().to_owned()),
        ("since", (question.now - HOUR).to_string()),
        ("until", question.now.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn count(ledger: &Ledger, query: &Query, resource: &str) -> Option<Repeats> {
    let mut repeats: Option<Repeats> = None;
    let each = |decided: &Decided<'_>| {
        if decided.resource.1 != resource || decided.reason == Reason::Permit.as_str() {
            return ControlFlow::Continue(());
        }
        let seen = repeats.get_or_insert(Repeats {
            count: 0,
            is_more: false,
            since: decided.time,
            policies: decided.policies,
        });
        seen.count += 1;
        if decided.time < seen.since {
            (seen.since, seen.policies) = (decided.time, decided.policies);
        }
        seen.is_more = seen.count >= MOST;
        if seen.is_more { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    match ledger.walk(query, each) {
        Ok(_) => repeats,
        Err(error) => {
            tracing::debug!(%error, "repeats of a denial are not counted");
            None
        }
    }
}
