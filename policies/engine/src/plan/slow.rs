//! Candidates whose conditions this version does not compile: stock Cedar judges them, and only them (EN10).

use super::outcome::Outcome;
use crate::{
    AccessRequest, ErrorClass, Reason, Snapshot,
    cast::{Cast, Stage},
    context, stock,
    walk::Reads,
};
use cedar_policy::{AuthorizationError, Authorizer, EvaluationError, PolicyId, PolicySet};

/// Candidates for stock Cedar, live and shadow.
#[derive(Debug)]
pub(super) struct Slow {
    rules: Vec<usize>,
    policies: PolicySet,
    reads: Reads,
    is_ending: bool,
    /// `None` where calls bring entities of their own: in plans that principals share, and where tokens are read.
    stage: Option<Stage>,
}

impl Slow {
    pub(super) fn new(
        snapshot: &Snapshot,
        cast: &Cast,
        rules: &[usize],
        is_own: bool,
    ) -> Result<Slow, Reason> {
        let found = || rules.iter().filter_map(|at| snapshot.parts().rules.get(*at));
        let own = found().map(|rule| rule.policy()).collect::<Result<Vec<_>, _>>()?;
        let policies = PolicySet::from_policies(own).map_err(|cause| {
            tracing::error!(%cause, "candidates of one request do not fit together");
            Reason::EngineFault
        })?;
        let reads = found().filter_map(|rule| rule.reads).fold(Reads::default(), Reads::and);
        let stage = if is_own && !reads.jwt { Some(snapshot.stage(cast)?) } else { None };
        let is_ending = found().any(|rule| rule.notes.expires.is_some());
        Ok(Slow { rules: rules.to_vec(), policies, reads, is_ending, stage })
    }

    /// Whether the clock decides, or an end.
    pub(super) fn reads_time(&self) -> bool {
        self.reads.time || self.is_ending
    }

    /// About how many bytes it holds.
    pub(super) fn weight(&self) -> usize {
        const POLICY: usize = 2_048;
        const STAGE: usize = 8_192;
        self.rules.len() * POLICY + self.stage.as_ref().map_or(0, |_| STAGE)
    }

    /// What came of those that were satisfied or failed.
    pub(super) fn judge(
        &self,
        snapshot: &Snapshot,
        request: &AccessRequest<'_>,
    ) -> Result<Vec<(usize, Outcome)>, Reason> {
        match &self.stage {
            Some(stage) => self.judge_on(stage, snapshot, request),
            None => self.judge_on(&snapshot.stage(&snapshot.cast(request)?)?, snapshot, request),
        }
    }

    fn judge_on(
        &self,
        stage: &Stage,
        snapshot: &Snapshot,
        request: &AccessRequest<'_>,
    ) -> Result<Vec<(usize, Outcome)>, Reason> {
        let parts = snapshot.parts();
        let context = context::build(request, self.reads, &parts.versions.declared)?;
        let answer = Authorizer::new().is_authorized(
            &stock::question(stage, context)?,
            &self.policies,
            &stage.entities,
        );
        let rule = |id: &PolicyId| {
            let at = *parts.by_id.get(AsRef::<str>::as_ref(id))?;
            parts.rules.get(at).filter(|rule| !rule.is_expired(request.now)).map(|_| at)
        };
        let satisfied = answer.diagnostics().reason().filter_map(|id| Some((rule(id)?, Outcome::Satisfied)));
        let failed = answer.diagnostics().errors().filter_map(|error| {
            let AuthorizationError::PolicyEvaluationError(error) = error;
            Some((rule(error.policy_id())?, Outcome::Failed(class_of(error.inner()))))
        });
        Ok(satisfied.chain(failed).collect())
    }
}

/// The kind of an error of stock Cedar (SE3).
pub(crate) fn class_of(error: &EvaluationError) -> ErrorClass {
    match error {
        EvaluationError::EntityDoesNotExist(_) => ErrorClass::MissingEntity,
        EvaluationError::EntityAttrDoesNotExist(error) => {
            // The text opens with the entity, whose id may hold any word.
            let text = error.to_string();
            match text.rsplit_once("` does not have the tag `") {
                Some((_, rest)) if !rest.contains("` does not have the attribute `") => {
                    ErrorClass::MissingTag
                }
                _ => ErrorClass::MissingAttribute,
            }
        }
        EvaluationError::RecordAttrDoesNotExist(_) => ErrorClass::MissingAttribute,
        // Strict validation leaves constructors only literals that it read itself, so what fails is a sum of times.
        EvaluationError::IntegerOverflow(_)
        | EvaluationError::RecursionLimit(_)
        | EvaluationError::FailedExtensionFunctionExecution(_) => ErrorClass::Overflow,
        EvaluationError::FailedExtensionFunctionLookup(_) => ErrorClass::Extension,
        _ => ErrorClass::Type,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::{Context, Entities, Entity, EntityUid, Expression, Request, eval_expression};
    use std::collections::{HashMap, HashSet};

    #[test]
    fn se3_every_error_of_stock_cedar_has_a_class_and_each_class_its_word() {
        let uid = |text: &str| text.parse::<EntityUid>().unwrap();
        let bare = Entity::new(uid("User::\"bare\""), HashMap::new(), HashSet::new()).unwrap();
        let entities = Entities::from_entities([bare], None).unwrap();
        let request = Request::new(
            uid("User::\"bare\""),
            uid("Action::\"go\""),
            uid("Thing::\"x\""),
            Context::empty(),
            None,
        );
        let class = |text: &str| {
            let expression: Expression = text.parse().unwrap();
            class_of(&eval_expression(request.as_ref().unwrap(), &entities, &expression).unwrap_err())
        };
        for (text, expected, word) in [
            ("9223372036854775807 + 1 == 0", ErrorClass::Overflow, "overflow"),
            ("-(-9223372036854775808) == 0", ErrorClass::Overflow, "overflow"),
            ("context.absent == 1", ErrorClass::MissingAttribute, "missing_attribute"),
            ("principal.absent == 1", ErrorClass::MissingAttribute, "missing_attribute"),
            ("principal.getTag(\"team\") == \"a\"", ErrorClass::MissingTag, "missing_tag"),
            ("resource.name == \"x\"", ErrorClass::MissingEntity, "missing_entity"),
            ("1 < \"a\"", ErrorClass::Type, "type"),
            ("!1", ErrorClass::Type, "type"),
        ] {
            assert_eq!(class(text), expected, "{text}");
            assert_eq!((expected.as_str(), ErrorClass::from_word(word)), (word, Some(expected)));
        }
    }
}
