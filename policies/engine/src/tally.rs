//! Which candidates were satisfied and which failed, and the verdict that follows (SE1): a forbid denies, a forbid that
//! errors denies, then a permit allows, else deny. Stock Cedar would skip the second.

use crate::{
    AccessRequest, Action, Audit, Decision, Effect, ErrorClass, Evaluated, PolicyError, Reason, ResourceKind,
    Snapshot,
    plan::{Outcome, Pool},
    rule::Rule,
};
use std::sync::Arc;

/// Rules by what came of them, as indexes into the snapshot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    permits: Vec<usize>,
    forbids: Vec<usize>,
    errors: Vec<(usize, ErrorClass)>,
    has_forbid_error: bool,
}

impl Tally {
    pub(crate) fn note(&mut self, at: usize, rule: &Rule, outcome: Outcome) {
        match outcome {
            Outcome::Unsatisfied => {}
            Outcome::Satisfied if rule.is_permit() => self.permits.push(at),
            Outcome::Satisfied => self.forbids.push(at),
            Outcome::Failed(class) => {
                self.errors.push((at, class));
                self.has_forbid_error |= !rule.is_permit();
            }
        }
    }

    fn verdict(&self) -> (Effect, Reason, &[usize]) {
        if !self.forbids.is_empty() {
            (Effect::Deny, Reason::Forbid, &self.forbids)
        } else if self.has_forbid_error {
            (Effect::Deny, Reason::ForbidError, &[])
        } else if !self.permits.is_empty() {
            (Effect::Allow, Reason::Permit, &self.permits)
        } else {
            (Effect::Deny, Reason::NoPermit, &[])
        }
    }

    pub(crate) fn decision(
        &self,
        snapshot: &Snapshot,
        request: &AccessRequest<'_>,
        evaluated: Evaluated,
        pool: &mut Pool,
    ) -> Decision {
        let rule = |at: usize| snapshot.parts().rules.get(at);
        let (effect, reason, deciding) = self.verdict();
        let mut determining: Vec<Arc<str>> =
            deciding.iter().filter_map(|at| rule(*at)).map(|rule| Arc::clone(&rule.id)).collect();
        determining.sort_unstable();
        let error = |(at, class): &(usize, ErrorClass)| {
            rule(*at).map(|rule| PolicyError { policy: Arc::clone(&rule.id), class: *class })
        };
        let mut errors: Vec<PolicyError> = self.errors.iter().filter_map(error).collect();
        errors.sort_unstable_by(|a, b| a.policy.cmp(&b.policy));
        let asked = deciding.iter().filter_map(|at| rule(*at)?.notes.audit).max();
        let default = match effect {
            Effect::Allow => strength(snapshot, request),
            Effect::Deny => Audit::BestEffort,
        };
        Decision {
            effect,
            reason,
            determining: pool.list(determining),
            errors,
            would: None,
            evaluated,
            audit: asked.map_or(default, |asked| asked.max(default)),
            reads_time: false,
        }
    }
}

/// The action's own strength: reads are best effort, other calls required, writes of our own APIs durable (LS6).
fn strength(snapshot: &Snapshot, request: &AccessRequest<'_>) -> Audit {
    let resource = request.resource;
    let is_read_only =
        resource.kind() == ResourceKind::Method && snapshot.parts().read_only.contains(resource.id());
    match request.action {
        action if action.is_read() || is_read_only => Audit::BestEffort,
        Action::Admin(_) => Audit::Durable,
        _ => Audit::Required,
    }
}
