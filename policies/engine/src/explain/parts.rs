//! Takes one policy apart: which of its parts hold for the request (EX2). A conjunct that only constrains principal,
//! action or resource counts for that variable; every other one is a `condition`, judged by stock Cedar on its own.

use super::{
    Candidate, Part, PartResult, PolicyPlace, RequestForExplain, circumstances, expression, fault,
    terms::{VarTerm, cedar, conjuncts, words},
};
use crate::{
    AccessRequest, Reason, Snapshot,
    cast::{Cast, Stage},
    context,
    rule::Rule,
    scope::Lineage,
    stock,
    walk::Reads,
};
use cedar_policy::{AuthorizationError, Authorizer, EntityUid, Policy, PolicySet, Request};
use serde_json::{Map, Value, json};
use std::{cell::RefCell, collections::HashMap};

/// Everything needed to judge parts, made once per explanation.
pub(crate) struct Bench<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) cast: &'a Cast,
    request: &'a AccessRequest<'a>,
    /// Entities and question of the call, or why policies cannot be asked.
    scene: Result<(Stage, Request), Reason>,
    /// The context as a document, to show the values that conditions compare.
    circumstances: Map<String, Value>,
    /// Conjuncts that were judged: policies of one directory repeat them.
    judged: RefCell<HashMap<Value, PartResult>>,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(
        snapshot: &'a Snapshot,
        question: &RequestForExplain,
        request: &'a AccessRequest<'a>,
        cast: &'a Cast,
    ) -> Bench<'a> {
        let scene = snapshot.stage(cast).and_then(|stage| {
            let context = context::build(request, Reads::ALL, &snapshot.versions().declared)?;
            let question = stock::question(&stage, context)?;
            Ok((stage, question))
        });
        let circumstances = circumstances(&question.facts, question.now, question.extra.as_ref());
        Bench { snapshot, cast, request, scene, circumstances, judged: RefCell::default() }
    }

    /// `rule`, part by part.
    pub(crate) fn candidate(&self, rule: &Rule) -> Candidate {
        Candidate { place: PolicyPlace::of(rule), parts: self.parts(rule) }
    }

    /// The parts of `rule` in order: three variables, then conditions, then what keeps it out of force.
    fn parts(&self, rule: &Rule) -> Vec<Part> {
        // Cedar reads the text of a policy again to tell its tree, which costs more than all that follows.
        let json = rule.has_conditions().then(|| rule.json());
        let json = json.unwrap_or_default();
        let conditions = json.get("conditions").and_then(Value::as_array);
        let mut of_variables: Vec<(String, VarTerm)> = Vec::new();
        let mut others: Vec<Value> = Vec::new();
        for condition in conditions.into_iter().flatten() {
            let Some(body) = condition.get("body") else { continue };
            if condition.get("kind").and_then(Value::as_str) == Some("unless") {
                others.push(json!({ "!": { "arg": body } }));
                continue;
            }
            for conjunct in conjuncts(body) {
                match VarTerm::of_conjunct(conjunct) {
                    Some((variable, term)) => of_variables.push((variable.to_owned(), term)),
                    None => others.push(conjunct.clone()),
                }
            }
        }
        let triple = &self.cast.triple;
        let scope = [
            ("principal", VarTerm::of_scope(&rule.scope.principal), &triple.principal),
            ("action", VarTerm::of_action(&rule.scope.action), &triple.action),
            ("resource", VarTerm::of_scope(&rule.scope.resource), &triple.resource),
        ];
        let mut parts: Vec<Part> = Vec::new();
        for (name, term, lineage) in scope {
            let further = of_variables.iter().filter(|(variable, _)| variable == name).map(|(_, term)| term);
            parts.push(variable(name, std::iter::once(&term).chain(further), lineage));
        }
        parts.extend(self.conditions(&others));
        parts.extend(not_in_force(rule, self.request));
        parts
    }

    fn conditions(&self, conjuncts: &[Value]) -> Vec<Part> {
        let mut is_reached = true;
        let judge = |conjunct: &Value| {
            let judged = match &self.scene {
                Ok((stage, question)) => self.once(conjunct, stage, question),
                Err(reason) => PartResult::Error(reason.sentence().to_owned()),
            };
            let result = match judged {
                PartResult::Error(_) if !is_reached => PartResult::NotReached,
                other => other,
            };
            is_reached &= matches!(result, PartResult::Matched);
            let text = expression::to_text(conjunct);
            Part { name: "condition", result, shown: text.clone(), policy: text, request: String::new() }
        };
        conjuncts.iter().map(judge).collect()
    }

    fn once(&self, conjunct: &Value, stage: &Stage, question: &Request) -> PartResult {
        if let Some(known) = self.judged.borrow().get(conjunct) {
            return known.clone();
        }
        let judged = self.condition(conjunct, stage, question);
        self.judged.borrow_mut().insert(conjunct.clone(), judged.clone());
        judged
    }

    /// Asks stock Cedar whether this conjunct alone holds.
    fn condition(&self, conjunct: &Value, stage: &Stage, question: &Request) -> PartResult {
        let fault = |cause: &dyn std::fmt::Display| PartResult::Error(cause.to_string());
        let policy = match Policy::from_json(None, probe(conjunct)) {
            Ok(policy) => policy,
            Err(cause) => return fault(&cause),
        };
        let policies = match PolicySet::from_policies([policy]) {
            Ok(policies) => policies,
            Err(cause) => return fault(&cause),
        };
        let answer = Authorizer::new().is_authorized(question, &policies, &stage.entities);
        if let Some(AuthorizationError::PolicyEvaluationError(error)) = answer.diagnostics().errors().next() {
            return PartResult::Error(fault::describe(error.inner()));
        }
        match answer.decision() {
            cedar_policy::Decision::Allow => PartResult::Matched,
            cedar_policy::Decision::Deny => PartResult::Failed(self.values(conjunct, stage)),
        }
    }

    /// `connection.mtls is false`: the facts that a failed conjunct reads.
    fn values(&self, conjunct: &Value, stage: &Stage) -> String {
        let mut read = Vec::new();
        reads(conjunct, &mut read);
        read.sort();
        read.dedup();
        let shown = read.iter().map(|(variable, path)| match variable.as_str() {
            "context" => {
                let value = path.iter().try_fold(None, |at: Option<&Value>, name| {
                    let members = at.map_or(Some(&self.circumstances), Value::as_object)?;
                    members.get(name).map(Some)
                });
                let value = value.flatten().map_or_else(|| "absent".to_owned(), Value::to_string);
                format!("{} is {value}", path.join("."))
            }
            _ => {
                let uid = if variable == "principal" { &stage.principal } else { &stage.resource };
                let name = path.first().map(String::as_str).unwrap_or_default();
                format!("{variable}.{name} is {}", attribute(stage, uid, name))
            }
        });
        let text = shown.collect::<Vec<_>>().join(", ");
        if text.is_empty() { "does not hold".to_owned() } else { text }
    }
}

/// Value of an attribute, else of a tag, of an entity.
fn attribute(stage: &Stage, uid: &EntityUid, name: &str) -> String {
    let entity = stage.entities.get(uid);
    let value = entity.and_then(|entity| entity.attr(name).or_else(|| entity.tag(name)));
    match value {
        Some(Ok(value)) => value.to_string(),
        Some(Err(cause)) => cause.to_string(),
        None => "absent".to_owned(),
    }
}

/// One variable against everything a policy says about it: the first term that fails, else the narrowest.
fn variable<'a>(name: &'static str, terms: impl Iterator<Item = &'a VarTerm>, lineage: &Lineage) -> Part {
    let terms: Vec<&VarTerm> = terms.filter(|term| **term != VarTerm::Any).collect();
    let is_action = name == "action";
    let request = cedar(&lineage.uid);
    if let Some(failed) = terms.iter().find(|term| !term.matches(lineage)) {
        return Part {
            name,
            result: PartResult::Failed(format!("policy names {}", failed.names(&lineage.uid))),
            policy: failed.to_cedar(),
            request,
            shown: words(&lineage.uid, is_action),
        };
    }
    let term = terms.last().copied().unwrap_or(&VarTerm::Any);
    Part {
        name,
        result: PartResult::Matched,
        policy: term.to_cedar(),
        request,
        shown: term.to_words(is_action),
    }
}

/// EX3: shadow and expired permits take part and say so.
fn not_in_force(rule: &Rule, request: &AccessRequest<'_>) -> Vec<Part> {
    let part = |policy: String, why: String| Part {
        name: "condition",
        result: PartResult::Failed(why),
        shown: policy.clone(),
        policy,
        request: String::new(),
    };
    let mut parts = Vec::new();
    if let Some(expires) = rule.notes.expires.filter(|_| rule.is_expired(request.now)) {
        let time = expires.to_string();
        let day = time.split('T').next().unwrap_or_default();
        parts.push(part(format!("@expires(\"{time}\")"), format!("expired {day}")));
    }
    if rule.notes.is_shadow {
        parts.push(part("@mode(\"shadow\")".to_owned(), "a shadow policy, not in force".to_owned()));
    }
    parts
}

/// A permit with nothing but that condition.
fn probe(conjunct: &Value) -> Value {
    json!({
        "effect": "permit",
        "principal": { "op": "All" }, "action": { "op": "All" }, "resource": { "op": "All" },
        "conditions": [{ "kind": "when", "body": conjunct }],
    })
}

/// What an expression reads, longest paths only: below `context`, or one attribute or tag of principal or resource.
fn reads(node: &Value, found: &mut Vec<(String, Vec<String>)>) {
    if let Some((variable, path)) = access(node)
        && (variable == "context" || path.len() == 1)
    {
        found.push((variable.to_owned(), path));
        return;
    }
    match node {
        Value::Object(members) => members.values().for_each(|value| reads(value, found)),
        Value::Array(items) => items.iter().for_each(|item| reads(item, found)),
        _ => {}
    }
}

/// `context.a.b`, `principal.x`, `resource.getTag("x")`.
fn access(node: &Value) -> Option<(&str, Vec<String>)> {
    if let Some(tag) = node.get("getTag").or_else(|| node.get("hasTag")) {
        let variable = tag.get("left")?.get("Var")?.as_str()?;
        return Some((variable, vec![tag.get("right")?.get("Value")?.as_str()?.to_owned()]));
    }
    let access = node.get(".").or_else(|| node.get("has"))?;
    let left = access.get("left")?;
    let (variable, mut path) = match left.get("Var").and_then(Value::as_str) {
        Some(variable) => (variable, Vec::new()),
        None => self::access(left)?,
    };
    match access.get("attr")? {
        Value::String(name) => path.push(name.clone()),
        Value::Array(names) => path.extend(names.iter().filter_map(Value::as_str).map(str::to_owned)),
        _ => return None,
    }
    Some((variable, path))
}

/// The parts that keep the policy from applying.
pub(crate) fn failures(parts: &[Part]) -> impl Iterator<Item = &Part> {
    parts.iter().filter(|part| matches!(part.result, PartResult::Failed(_) | PartResult::Error(_)))
}
