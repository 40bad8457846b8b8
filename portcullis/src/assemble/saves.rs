//! Saved files are published by whoever may publish alone (ST10): the policies in force are asked, as for every other
//! change, and the answer is on record. Called by the policy store when the watched directory holds something new.

use std::sync::Arc;

use parking_lot::Mutex;
use policies_engine::{
    AdminAction, AdminContext, ChangeContext, Diagnostic, OwnedFacts, Phase, Principal, Resource, Role,
};
use policies_store::{Checked, Saves};

use super::judge::{Judge, Question};

/// Asks Cedar whether a save may come into force.
#[derive(Debug)]
pub(super) struct CedarSaves {
    judge: Mutex<Option<Arc<Judge>>>,
    operator: Principal,
    two_person: bool,
}

impl CedarSaves {
    /// Refuses every save until it is connected to the policies.
    pub(super) fn closed(owner: u32, two_person: bool) -> Arc<Self> {
        let operator = Principal::local_user(owner, None, &[Role::Operator, Role::Author]);
        Arc::new(Self { judge: Mutex::new(None), operator, two_person })
    }

    /// From now on saves are judged.
    pub(super) fn open(&self, judge: Arc<Judge>) {
        *self.judge.lock() = Some(judge);
    }
}

impl Saves for CedarSaves {
    fn refusal(&self, author: &str, found: &Checked) -> Option<Diagnostic> {
        let Some(judge) = self.judge.lock().clone() else {
            return Some(finding("the policies in force could not be asked yet".to_owned()));
        };
        let change = ChangeContext {
            scope: "/".to_owned(),
            widens: found.widens,
            tests_passed: found.passed,
            coverage: found.coverage.map_or(0, i64::from),
            approvals: 0,
            caller_is_author: true,
            touches_baseline: found.touches_baseline,
            replay_newly_denied: 0,
            two_person: self.two_person,
        };
        let verdict = judge.decide(&Question {
            principal: self.operator.clone(),
            action: AdminAction::PolicyPublish,
            resource: Resource::policy_scope("/"),
            context: Some(&AdminContext::Change(change)),
            phase: Phase::Admin,
            facts: Some(OwnedFacts::local("directory")),
        });
        if verdict.allow {
            return None;
        }
        let rules: Vec<_> = verdict.determining.iter().map(ToString::to_string).collect();
        let because = if rules.is_empty() {
            "nothing permits it".to_owned()
        } else {
            format!("{} forbids it", rules.join(", "))
        };
        Some(finding(format!(
            "what {author} saved may not come into force by saving alone: {because} (decision {})",
            verdict.id
        )))
    }
}

fn finding(message: String) -> Diagnostic {
    Diagnostic::about("PC2043", &Arc::from("policies"), message)
        .help("portcullis policy push, then somebody else runs portcullis policy approve; the last good version stays in force")
}
