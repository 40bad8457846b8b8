//! Stock Cedar over all policies and all entities, with SE1 and shadow policies applied: the judge of our engine in the
//! oracle and in the bench. Made from texts and values alone; it shares no code with the engine but the facts' views.

mod context;
mod entities;
mod values;

use cedar_policy::{
    AuthorizationError, Authorizer, Effect as Side, Entities, EvaluationError, Policy, PolicyId, PolicySet,
    Request, Schema, SchemaFragment,
};
use policies_engine::{
    AccessRequest, Decision, Declared, Effect, EntitySet, ErrorClass, Principal, Reason, Resource,
    ResourceKind, SchemaText,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use values::uid;

pub(crate) use context::request;

/// What a set of policies says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) effect: Effect,
    pub(crate) reason: Reason,
    pub(crate) determining: BTreeSet<String>,
    pub(crate) errors: BTreeMap<String, ErrorClass>,
    /// Live and shadow policies together, where that differs.
    pub(crate) would: Option<Box<Verdict>>,
}

impl Verdict {
    fn refusal(reason: Reason) -> Verdict {
        let (determining, errors) = Default::default();
        Verdict { effect: Effect::Deny, reason, determining, errors, would: None }
    }

    /// Whether effect, reason, determining policies and errors are the same.
    pub(crate) fn is_same(&self, other: &Verdict) -> bool {
        (self.effect, self.reason) == (other.effect, other.reason)
            && self.determining == other.determining
            && self.errors == other.errors
    }

    /// Our decision in this form.
    pub(crate) fn of(decision: &Decision) -> Verdict {
        let names = |ids: &[std::sync::Arc<str>]| ids.iter().map(ToString::to_string).collect();
        let errors = |errors: &[policies_engine::PolicyError]| {
            errors.iter().map(|error| (error.policy.to_string(), error.class)).collect()
        };
        let would = decision.would.as_ref().map(|would| Verdict {
            effect: would.effect,
            reason: would.reason,
            determining: names(&would.determining),
            errors: errors(&would.errors),
            would: None,
        });
        Verdict {
            effect: decision.effect,
            reason: decision.reason,
            determining: names(&decision.determining),
            errors: errors(&decision.errors),
            would: would.map(Box::new),
        }
    }
}

/// Everything stock Cedar needs besides the request.
#[derive(Clone)]
pub(crate) struct Judge {
    pub(crate) authorizer: Authorizer,
    schema: Schema,
    pub(crate) live: PolicySet,
    /// With the shadow policies, where there are any.
    with_shadow: Option<PolicySet>,
    /// Instants from which permits grant nothing, in milliseconds.
    expiries: HashMap<String, i64>,
    pub(crate) entities: Entities,
    /// Entities with those that a principal or resource brings along.
    overlaid: HashMap<(Principal, Resource), Option<Entities>>,
}

impl Judge {
    /// Of policies that parse; `annotation("id")` is the id, as everywhere.
    pub(crate) fn new<'a>(
        schema: &SchemaText,
        policies: impl IntoIterator<Item = &'a str>,
        entities: &EntitySet,
    ) -> Judge {
        let parts: Vec<_> = schema.parts().map(|(_, text)| fragment(text)).collect();
        let schema = Schema::from_schema_fragments(parts).expect("a schema that compiled");
        let (mut live, mut shadow, mut expiries) = (Vec::new(), Vec::new(), HashMap::new());
        for text in policies {
            let policy = Policy::parse(None, text).expect("a policy that compiled");
            let id = policy.annotation("id").expect("an id").to_owned();
            if let Some(end) = policy.annotation("expires") {
                let end = base_ports::UnixTime::parse_rfc3339(end).expect("an instant that compiled");
                expiries.insert(id.clone(), end.as_millis());
            }
            let is_shadow = policy.annotation("mode") == Some("shadow");
            if is_shadow { &mut shadow } else { &mut live }.push(policy.new_id(PolicyId::new(id)));
        }
        let set = |policies: Vec<Policy>| PolicySet::from_policies(policies).expect("ids are unique");
        let both = live.iter().chain(&shadow).cloned().collect();
        Judge {
            authorizer: Authorizer::new(),
            with_shadow: (!shadow.is_empty()).then(|| set(both)),
            live: set(live),
            expiries,
            entities: entities::all(entities, &schema),
            schema,
            overlaid: HashMap::new(),
        }
    }

    /// The verdict, and what it would be with the shadow policies.
    pub(crate) fn verdict(&mut self, asked: &AccessRequest<'_>, declared: &Declared) -> Verdict {
        if let Some(refusal) = self.refusal(asked) {
            return refusal;
        }
        let overlay = || {
            let brought = entities::brought(&self.entities, asked);
            let with =
                |brought| self.entities.clone().upsert_entities(brought, None).expect("an entity from an id");
            (!brought.is_empty()).then(|| with(brought))
        };
        let key = (asked.principal.clone(), asked.resource.clone());
        let of_token = asked.facts.token().and_then(|_| overlay());
        let overlaid = match of_token {
            Some(_) => &of_token,
            None => self.overlaid.entry(key).or_insert_with(overlay),
        };
        let entities = overlaid.as_ref().unwrap_or(&self.entities);
        let request = request(asked, declared);
        let judged = |policies: &PolicySet| {
            let expired = |id: &str| self.expiries.get(id).is_some_and(|end| asked.now.as_millis() >= *end);
            tally(&self.authorizer.is_authorized(&request, policies, entities), policies, &expired)
        };
        let mut verdict = judged(&self.live);
        let would = self.with_shadow.as_ref().map(judged).filter(|would| !would.is_same(&verdict));
        verdict.would = would.map(Box::new);
        verdict
    }

    /// What is refused before any policy is asked: targets that nothing registered, callers of the wrong kind.
    fn refusal(&self, asked: &AccessRequest<'_>) -> Option<Verdict> {
        let resource = uid(asked.resource.entity_type(), asked.resource.id());
        let is_registered = match asked.resource.kind() {
            ResourceKind::Unknown => false,
            ResourceKind::Route | ResourceKind::Method | ResourceKind::Service => {
                self.entities.get(&resource).is_some()
            }
            _ => true,
        };
        if !is_registered {
            return Some(Verdict::refusal(Reason::EntityMissing));
        }
        let action = uid(asked.action.entity_type(), asked.action.as_str());
        let named =
            |kinds: Option<Vec<String>>, kind: &str| kinds.unwrap_or_default().iter().any(|k| k == kind);
        let principals = self.schema.principals_for_action(&action);
        let resources = self.schema.resources_for_action(&action);
        let principals = principals.map(|kinds| kinds.map(ToString::to_string).collect());
        let resources = resources.map(|kinds| kinds.map(ToString::to_string).collect());
        let is_asked_for = named(principals, asked.principal.entity_type())
            && named(resources, asked.resource.entity_type());
        (!is_asked_for).then(|| Verdict::refusal(Reason::NoPermit))
    }

    /// What the schema finds wrong with the request as it is put to stock Cedar; nothing, unless this file is wrong.
    pub(crate) fn fault(&self, asked: &AccessRequest<'_>, declared: &Declared) -> Option<String> {
        if self.refusal(asked).is_some() {
            return None;
        }
        let request = request(asked, declared);
        let [principal, action, resource] = [request.principal(), request.action(), request.resource()]
            .map(|uid| uid.cloned().expect("a concrete request"));
        let context = request.context().cloned().expect("a concrete context");
        Request::new(principal, action, resource, context, Some(&self.schema))
            .err()
            .map(|wrong| wrong.to_string())
    }
}

/// SE1: a forbid denies, a forbid that errs denies, then a permit allows; everything else denies.
fn tally(answer: &cedar_policy::Response, policies: &PolicySet, expired: &dyn Fn(&str) -> bool) -> Verdict {
    let is_forbid =
        |id: &str| policies.policy(&PolicyId::new(id)).is_some_and(|policy| policy.effect() == Side::Forbid);
    let errors: BTreeMap<String, ErrorClass> = answer
        .diagnostics()
        .errors()
        .map(|AuthorizationError::PolicyEvaluationError(error)| {
            (error.policy_id().to_string(), class_of(error.inner()))
        })
        .filter(|(id, _)| !expired(id))
        .collect();
    let satisfied: BTreeSet<String> = answer.diagnostics().reason().map(ToString::to_string).collect();
    let satisfied: BTreeSet<String> = satisfied.into_iter().filter(|id| !expired(id)).collect();
    let (effect, reason) = match answer.decision() {
        cedar_policy::Decision::Deny if !satisfied.is_empty() => (Effect::Deny, Reason::Forbid),
        _ if errors.keys().any(|id| is_forbid(id)) => (Effect::Deny, Reason::ForbidError),
        cedar_policy::Decision::Allow if !satisfied.is_empty() => (Effect::Allow, Reason::Permit),
        _ => (Effect::Deny, Reason::NoPermit),
    };
    let determining = if reason == Reason::ForbidError { BTreeSet::new() } else { satisfied };
    Verdict { effect, reason, determining, errors, would: None }
}

fn class_of(error: &EvaluationError) -> ErrorClass {
    match error {
        EvaluationError::EntityDoesNotExist(_) => ErrorClass::MissingEntity,
        EvaluationError::EntityAttrDoesNotExist(e) if e.to_string().contains("does not have the tag") => {
            ErrorClass::MissingTag
        }
        EvaluationError::EntityAttrDoesNotExist(_) | EvaluationError::RecordAttrDoesNotExist(_) => {
            ErrorClass::MissingAttribute
        }
        // Literals are checked by validation, so that an extension fails only where a time leaves its range (EN9).
        EvaluationError::IntegerOverflow(_) | EvaluationError::FailedExtensionFunctionExecution(_) => {
            ErrorClass::Overflow
        }
        // Validation excludes all others.
        _ => ErrorClass::Type,
    }
}

fn fragment(text: &str) -> SchemaFragment {
    SchemaFragment::from_cedarschema_str(text).expect("a schema that compiled").0
}
