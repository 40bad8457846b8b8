//! One question, judged and recorded.

use super::{
    Service,
    body::{Asked, Bad, Entity},
    facts,
};
use crate::{Question, Verdict};
use policies_engine::{Action, AdminAction, OwnedFacts, Phase, Principal, Reason, Resource};
use serde_json::{Value, json};

impl Service {
    /// `decision` and `context`; an error only when the verdict cannot be recorded.
    pub(super) async fn evaluate(&self, asked: &Asked, asker: &str) -> Result<Value, Bad> {
        let (question, refusal, ignored) = self.question(asked, asker);
        let verdict = match refusal {
            None => self.judge.judge(question).await,
            Some(reason) => self.judge.refuse(question, reason).await,
        };
        let verdict = verdict.map_err(|error| Bad::unrecorded(error.to_string()))?;
        Ok(answer(&verdict, ignored))
    }

    /// The question in the engine's terms, why no policy is asked, and what was not used.
    fn question(&self, asked: &Asked, asker: &str) -> (Question, Option<Reason>, Vec<String>) {
        let principal = Principal::from_parts(&self.entity_type(&asked.subject), &asked.subject.id);
        let resource = Resource::from_parts(&self.entity_type(&asked.resource), &asked.resource.id);
        let action = Action::parse(&asked.action).ok();
        let question = |principal, action, resource, facts, why: &str| Question {
            phase: Phase::Authzen,
            principal,
            credential: None,
            action,
            resource,
            facts,
            detail: if why.is_empty() {
                format!("asked by {asker}")
            } else {
                format!("asked by {asker}; {why}")
            },
        };
        let (Some(principal), Some(action), Some(resource)) = (principal.clone(), action, resource.clone())
        else {
            let why = match (&principal, action) {
                (None, _) => format!("unknown subject type `{}`", asked.subject.kind),
                (_, None) => format!("unknown action `{}`", asked.action),
                _ => format!("unknown resource type `{}`", asked.resource.kind),
            };
            // On record as what it was: a question about nothing that policies know.
            let question = question(
                principal.unwrap_or_else(Principal::anonymous),
                action.unwrap_or(Action::Admin(AdminAction::Decide)),
                resource.unwrap_or_else(Resource::unknown),
                OwnedFacts::local("authzen"),
                &why,
            );
            return (question, Some(Reason::EntityMissing), Vec::new());
        };
        let read = facts::read(asked, action);
        let (refusal, why) = match read.refusal {
            Some((reason, why)) => (Some(reason), why),
            None => (None, String::new()),
        };
        (question(principal, action, resource, read.facts, &why), refusal, read.ignored)
    }

    /// The type by the name the asker uses, else the name itself.
    fn entity_type(&self, entity: &Entity) -> String {
        self.options.types.get(&entity.kind).unwrap_or(&entity.kind).clone()
    }
}

fn answer(verdict: &Verdict, ignored: Vec<String>) -> Value {
    let mut context = json!({
        "decision_id": verdict.id.to_string(),
        "reason": verdict.decision.reason.as_str(),
        "policies": verdict.policies,
    });
    if let Some(members) = context.as_object_mut() {
        members.extend(verdict.advice.as_ref().map(|advice| ("advice".to_owned(), json!(advice))));
        if !ignored.is_empty() {
            members.insert("ignored".to_owned(), json!(ignored));
        }
    }
    json!({ "decision": verdict.decision.is_allowed(), "context": context })
}
