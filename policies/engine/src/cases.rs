//! Runs `*_test.json` cases in Cedar's `run-tests` shape (TE1) on the engine and on stock Cedar; a difference between the
//! two beyond SE1 fails the case (TE2). Called by the policy store and by the tests of the baseline.

use crate::{
    AccessRequest, Action, AdminContext, ChangeContext, CoverageTally, Decision, Facts, IssueContext,
    OwnedFacts, Principal, PrincipalKind, Resource, ResourceKind, Snapshot, Token, stock, uid::cedar_uid,
    world::World,
};
use base_ports::UnixTime;
use cedar_policy::{Context, Entities, Entity, EntityUid, EvalResult, RestrictedExpression};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseOutcome {
    /// Its name.
    pub name: String,
    /// What was expected and what came, where they differ.
    pub failure: Option<String>,
}

/// A file that does not hold cases.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Not an array.
    #[error("a case file is a list of cases")]
    NotAList,
}

/// Runs all cases of one file against `snapshot`. `entities` reads an entity file that a case names.
///
/// # Errors
/// When `text` is not a list of cases; what is wrong with one case is its failure.
pub fn run_cases(
    snapshot: &Snapshot,
    text: &str,
    entities: &dyn Fn(&str) -> Result<Value, String>,
) -> Result<Vec<CaseOutcome>, CaseError> {
    run_cases_seen(snapshot, text, entities, &mut CoverageTally::none())
}

/// As [`run_cases`]; `tally` sees what the cases show of each policy.
///
/// # Errors
/// As [`run_cases`].
pub fn run_cases_seen(
    snapshot: &Snapshot,
    text: &str,
    entities: &dyn Fn(&str) -> Result<Value, String>,
    tally: &mut CoverageTally,
) -> Result<Vec<CaseOutcome>, CaseError> {
    let Value::Array(cases) = serde_json::from_str(text)? else { return Err(CaseError::NotAList) };
    let outcome = |(at, case): (usize, &Value)| CaseOutcome {
        name: case
            .get("name")
            .and_then(Value::as_str)
            .map_or_else(|| format!("case {}", at + 1), str::to_owned),
        failure: Case { snapshot, document: case }.run(entities, tally).err(),
    };
    Ok(cases.iter().enumerate().map(outcome).collect())
}

struct Case<'a> {
    snapshot: &'a Snapshot,
    document: &'a Value,
}

impl Case<'_> {
    fn run(
        &self,
        entities: &dyn Fn(&str) -> Result<Value, String>,
        tally: &mut CoverageTally,
    ) -> Result<(), String> {
        let principal = self.uid("principal", Principal::parse)?;
        let action = self.uid("action", |text| Action::parse(text).ok())?;
        let resource = self.uid("resource", Resource::parse)?;
        let context = self.document.pointer("/request/context").ok_or("request.context is missing")?;
        let Value::Object(plain) = plain(context.clone()) else {
            return Err("request.context is no object".to_owned());
        };
        let mut facts = OwnedFacts::from_json(&plain).map_err(|e| format!("context: {e}"))?;
        let extra = extra(&plain);
        let now = self.now(&plain)?;
        let entities = self.entities(&resource, entities)?;
        let mut principal = principal;
        if let Some(token) = facts.token().map(|token| completed(token, &entities)) {
            if principal.kind() == PrincipalKind::User && principal.id() == token.user() {
                principal = Principal::user(&token);
            }
            facts = facts.with_token(token.into());
        }
        let request = AccessRequest {
            principal: &principal,
            action,
            resource: &resource,
            facts: &facts,
            now,
            extra: extra.as_ref(),
        };
        let snapshot = self.snapshot.with_entities(entities);
        tally.see(&snapshot, &request);
        let decision = snapshot.decide(&request);
        self.compare(&decision)?;
        self.compare_stock(&snapshot, &request, context, &decision)
    }

    fn uid<T>(&self, name: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, String> {
        let text = self.document.pointer(&format!("/request/{name}")).and_then(Value::as_str);
        let text = text.ok_or_else(|| format!("request.{name} is missing"))?;
        parse(text).ok_or_else(|| format!("`{text}` is no {name} of the schema"))
    }

    fn now(&self, context: &Map<String, Value>) -> Result<UnixTime, String> {
        let now = context.get("time").and_then(|time| time.get("now"));
        let text =
            self.document.get("at").or(now).and_then(Value::as_str).ok_or("context.time.now is missing")?;
        UnixTime::parse_rfc3339(text).map_err(|e| format!("`{text}` is not a time: {e}"))
    }

    /// The case's entities, or those of the snapshot; the called target is added when neither has it.
    fn entities(
        &self,
        resource: &Resource,
        read: &dyn Fn(&str) -> Result<Value, String>,
    ) -> Result<Arc<World>, String> {
        let parts = self.snapshot.parts();
        let given = match self.document.get("entities") {
            Some(Value::String(file)) => read(file)?,
            Some(given) => given.clone(),
            None => Value::Null,
        };
        let entities = match &given {
            Value::Null => Arc::clone(&parts.entities),
            Value::Array(list) if list.is_empty() => Arc::clone(&parts.entities),
            _ => {
                let given = Entities::from_json_value(given, Some(&parts.schema));
                Arc::new(World::new(given.map_err(|e| format!("entities: {e}"))?))
            }
        };
        let uid = cedar_uid(resource.entity_type(), resource.id());
        match bare(resource) {
            Some(entity) if entities.get(&uid).is_none() => {
                let more = entities.with(vec![entity?], None, None);
                Ok(Arc::new(more.map_err(|e| format!("entities: {e}"))?))
            }
            _ => Ok(entities),
        }
    }

    fn compare(&self, decision: &Decision) -> Result<(), String> {
        let word = |name: &str| self.document.get(name).and_then(Value::as_str);
        let wanted = word("decision").ok_or("decision is missing")?;
        if wanted != decision.effect.as_str() {
            let ids = decision.determining.join(", ");
            return Err(format!("expected {wanted}, got {} ({}) {ids}", decision.effect, decision.reason));
        }
        if let Some(code) = word("reason_code").filter(|code| *code != decision.reason.as_str()) {
            return Err(format!("expected reason {code}, got {}", decision.reason));
        }
        let reasons = self.document.get("reason").and_then(Value::as_array);
        for id in reasons.into_iter().flatten().filter_map(Value::as_str) {
            if !decision.determining.iter().any(|policy| **policy == *id) {
                return Err(format!(
                    "expected `{id}` to decide; it was [{}]",
                    decision.determining.join(", ")
                ));
            }
        }
        let errors = self.document.get("num_errors").and_then(Value::as_u64);
        if let Some(errors) =
            errors.filter(|errors| usize::try_from(*errors).ok() != Some(decision.errors.len()))
        {
            return Err(format!("expected {errors} errors, got {}", decision.errors.len()));
        }
        let would = decision.would.as_ref().map_or(decision.effect, |would| would.effect);
        match word("would").filter(|wanted| *wanted != would.as_str()) {
            Some(wanted) => Err(format!("expected would={wanted}, got {would}")),
            None => Ok(()),
        }
    }

    fn compare_stock(
        &self,
        snapshot: &Snapshot,
        request: &AccessRequest<'_>,
        context: &Value,
        ours: &Decision,
    ) -> Result<(), String> {
        let Ok(cast) = snapshot.cast(request) else { return Ok(()) };
        let parts = snapshot.parts();
        let stage = snapshot.stage(&cast).map_err(|e| e.to_string())?;
        let schema = Some((&*parts.schema, &stage.action));
        let context =
            Context::from_json_value(context.clone(), schema).map_err(|e| format!("context: {e}"))?;
        let theirs =
            stock::judge_on(snapshot, request, &cast, &stage, context).map_err(|e| e.to_string())?.decision;
        let is_same = (ours.effect, ours.reason, &ours.determining, &ours.errors)
            == (theirs.effect, theirs.reason, &theirs.determining, &theirs.errors);
        if is_same { Ok(()) } else { Err(format!("the engine says {ours:?}, stock Cedar says {theirs:?}")) }
    }
}

/// The token of a case with what its entity `User` tells besides: groups, address, claims as tags. In Cedar's form of a
/// case that stands there.
fn completed(token: &Token, entities: &World) -> Token {
    let uid = cedar_uid(PrincipalKind::User.as_str(), token.user());
    let group = |uid: &EntityUid| {
        let name = uid.id().unescaped().strip_prefix(&*token.issuer)?.strip_prefix('/')?;
        (uid.type_name().to_string() == "UserGroup").then(|| name.to_owned())
    };
    let groups: Vec<String> = entities.ancestors(&uid).into_iter().flatten().filter_map(group).collect();
    let mut whole = token.clone();
    if let Some(user) = entities.get(&uid) {
        let tags = user.tags().filter_map(|(name, tag)| Some((name.to_owned(), texts_of(&tag.ok()?)?)));
        whole.claims.extend(tags);
        if let Some(Ok(EvalResult::String(email))) = user.attr("email") {
            whole.email = Some(email);
        }
        whole = whole.in_groups(groups.iter().map(String::as_str));
    }
    whole
}

fn texts_of(set: &EvalResult) -> Option<Vec<String>> {
    let EvalResult::Set(items) = set else { return None };
    let text = |item: &EvalResult| match item {
        EvalResult::String(text) => Some(text.clone()),
        _ => None,
    };
    items.iter().map(text).collect()
}

/// An entity for a target that only the case knows.
fn bare(resource: &Resource) -> Option<Result<Entity, String>> {
    let text =
        |name: &str, value: &str| (name.to_owned(), RestrictedExpression::new_string(value.to_owned()));
    let id = resource.id();
    let (attributes, parents) = match resource.kind() {
        ResourceKind::Method => {
            let (rpc, name) = id.rsplit_once('/').unwrap_or((id, ""));
            let names = vec![text("service", ""), text("rpc_service", rpc), text("name", name)];
            (names, vec![cedar_uid("RpcService", rpc)])
        }
        ResourceKind::Route => (vec![text("service", ""), text("name", id)], Vec::new()),
        ResourceKind::Service => (vec![text("name", id)], Vec::new()),
        _ => return None,
    };
    let entity = Entity::new_with_tags(cedar_uid(resource.entity_type(), id), attributes, parents, []);
    Some(entity.map_err(|e| e.to_string()))
}

/// Cedar's JSON without its escapes: an extension value is its argument, an entity is its id.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(mut members) => {
            for escape in ["__extn", "__entity"] {
                if let Some(inner) = members.remove(escape) {
                    return plain(inner);
                }
            }
            match (members.len(), members.contains_key("fn"), members.contains_key("type")) {
                (2, true, _) if members.contains_key("arg") => members.remove("arg").unwrap_or_default(),
                (2, _, true) if members.contains_key("id") => members.remove("id").unwrap_or_default(),
                _ => members
                    .into_iter()
                    .map(|(name, value)| (name, plain(value)))
                    .collect::<Map<_, _>>()
                    .into(),
            }
        }
        Value::Array(items) => items.into_iter().map(plain).collect(),
        other => other,
    }
}

fn extra(context: &Map<String, Value>) -> Option<AdminContext> {
    if let Some(Value::Object(change)) = context.get("change") {
        let number = |name: &str| change.get(name).and_then(Value::as_i64).unwrap_or_default();
        let flag = |name: &str| change.get(name).and_then(Value::as_bool).unwrap_or_default();
        return Some(AdminContext::Change(ChangeContext {
            scope: change.get("scope").and_then(Value::as_str).unwrap_or_default().to_owned(),
            widens: flag("widens"),
            tests_passed: flag("tests_passed"),
            coverage: number("coverage"),
            approvals: number("approvals"),
            caller_is_author: flag("caller_is_author"),
            touches_baseline: flag("touches_baseline"),
            replay_newly_denied: number("replay_newly_denied"),
            two_person: flag("two_person"),
        }));
    }
    let text = |name: &str| context.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let texts = |name: &str| {
        let items = context.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    context.contains_key("entry").then(|| {
        AdminContext::Issue(IssueContext {
            kind: text("kind"),
            ttl_seconds: context.get("ttl_seconds").and_then(Value::as_i64).unwrap_or_default(),
            audience: texts("audience"),
            attested_by: texts("attested_by"),
            selectors: texts("selectors"),
            entry: text("entry"),
        })
    })
}

impl Snapshot {
    /// The same rules over other entities.
    fn with_entities(&self, entities: Arc<World>) -> Snapshot {
        let mut parts = self.parts().clone();
        parts.entities = entities;
        Snapshot::assemble(parts)
    }
}
