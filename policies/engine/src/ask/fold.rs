//! Folds one condition with what is known of caller, action and resource: Cedar's short circuits exactly, leaves that
//! read no fact by stock Cedar, the rest left standing.

use crate::{cast::Stage, explain::terms::VarTerm, scope::Triple};
use cedar_policy::{Authorizer, Policy, PolicySet, Request};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What is left of a condition.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Folded {
    True,
    False,
    /// It cannot be evaluated, whatever the call.
    Failed,
    /// Never true, but it may fail.
    FalseOrFailed(Value),
    /// For the call to tell.
    Open(Value),
}

/// A boolean expression with its leaves ready to be asked.
#[derive(Debug)]
pub(super) enum Tree {
    And(Box<Tree>, Box<Tree>),
    Or(Box<Tree>, Box<Tree>),
    Not(Box<Tree>),
    If(Box<Tree>, Box<Tree>, Box<Tree>),
    Leaf(Box<Leaf>),
}

#[derive(Debug)]
pub(super) struct Leaf {
    json: Value,
    reads_context: bool,
    reads_principal: bool,
    /// The attributes of the principal it reads; `None` when it uses the principal in any other way.
    attributes: Option<Vec<String>>,
    term: Option<(String, VarTerm)>,
    /// A permit with this leaf as its only condition; `None` when Cedar does not take it.
    policies: Option<PolicySet>,
}

/// What is known while folding.
pub(super) struct Known<'a> {
    pub(super) triple: &'a Triple,
    /// Made when the first leaf needs it.
    pub(super) scene: &'a dyn Fn() -> Option<&'a (Stage, Request)>,
    /// Whether that attribute of the principal is known; all are for a caller that is named.
    pub(super) knows: &'a dyn Fn(&str) -> bool,
    /// One caller, not a class.
    pub(super) is_one: bool,
}

impl Tree {
    pub(super) fn of(node: &Value) -> Tree {
        let side = |of: &Value, name: &str| of.get(name).map(|side| Box::new(Tree::of(side)));
        let inner = |name: &str| {
            node.get(name).filter(|_| node.as_object().is_some_and(|members| members.len() == 1))
        };
        if let Some(and) = inner("&&")
            && let (Some(left), Some(right)) = (side(and, "left"), side(and, "right"))
        {
            return Tree::And(left, right);
        }
        if let Some(or) = inner("||")
            && let (Some(left), Some(right)) = (side(or, "left"), side(or, "right"))
        {
            return Tree::Or(left, right);
        }
        if let Some(not) = inner("!")
            && let Some(argument) = side(not, "arg")
        {
            return Tree::Not(argument);
        }
        if let Some(branch) = inner("if-then-else")
            && let (Some(test), Some(then), Some(other)) =
                (side(branch, "if"), side(branch, "then"), side(branch, "else"))
        {
            return Tree::If(test, then, other);
        }
        Tree::Leaf(Box::new(Leaf::of(node)))
    }

    /// Adds the attributes of the principal that are read; `None` once a leaf uses the principal as a whole. A term
    /// reads nothing but who the principal is and what it is in.
    pub(super) fn principal_reads(&self, reads: &mut Option<BTreeSet<String>>) {
        match self {
            Tree::Leaf(leaf) if leaf.term.is_some() || !leaf.reads_principal => {}
            Tree::Leaf(leaf) => match (&leaf.attributes, reads.as_mut()) {
                (Some(attributes), Some(reads)) => reads.extend(attributes.iter().cloned()),
                _ => *reads = None,
            },
            Tree::Not(argument) => argument.principal_reads(reads),
            Tree::And(left, right) | Tree::Or(left, right) => {
                [left, right].into_iter().for_each(|side| side.principal_reads(reads));
            }
            Tree::If(test, then, other) => {
                [test, then, other].into_iter().for_each(|side| side.principal_reads(reads));
            }
        }
    }

    pub(super) fn fold(&self, known: &Known<'_>) -> Folded {
        match self {
            Tree::Leaf(leaf) => leaf.fold(known),
            Tree::Not(argument) => match argument.fold(known) {
                Folded::True => Folded::False,
                Folded::False => Folded::True,
                Folded::Failed => Folded::Failed,
                Folded::FalseOrFailed(open) | Folded::Open(open) => {
                    Folded::Open(json!({ "!": { "arg": open } }))
                }
            },
            Tree::And(left, right) => match left.fold(known) {
                Folded::True => right.fold(known),
                Folded::Open(left) => and(left, right.fold(known), || right.json()),
                // The right side is never reached.
                done => done,
            },
            Tree::Or(left, right) => match left.fold(known) {
                Folded::False => right.fold(known),
                Folded::Open(left) | Folded::FalseOrFailed(left) => {
                    or(left, right.fold(known), || right.json())
                }
                done => done,
            },
            Tree::If(test, then, other) => match test.fold(known) {
                Folded::True => then.fold(known),
                Folded::False => other.fold(known),
                Folded::Failed => Folded::Failed,
                Folded::FalseOrFailed(test) | Folded::Open(test) => {
                    let branch = |tree: &Tree| written(tree.fold(known), || tree.json());
                    let (then, other) = (branch(then), branch(other));
                    Folded::Open(json!({ "if-then-else": { "if": test, "then": then, "else": other } }))
                }
            },
        }
    }

    /// As it was written.
    fn json(&self) -> Value {
        let two = |sign: &str, left: &Tree, right: &Tree| json!({ sign: { "left": left.json(), "right": right.json() } });
        match self {
            Tree::Leaf(leaf) => leaf.json.clone(),
            Tree::Not(argument) => json!({ "!": { "arg": argument.json() } }),
            Tree::And(left, right) => two("&&", left, right),
            Tree::Or(left, right) => two("||", left, right),
            Tree::If(test, then, other) => {
                json!({ "if-then-else": { "if": test.json(), "then": then.json(), "else": other.json() } })
            }
        }
    }
}

fn and(left: Value, right: Folded, as_written: impl FnOnce() -> Value) -> Folded {
    match right {
        Folded::True => Folded::Open(left),
        Folded::False if !can_fail(&left) => Folded::False,
        right @ (Folded::False | Folded::FalseOrFailed(_)) => {
            let right = written(right, as_written);
            Folded::FalseOrFailed(json!({ "&&": { "left": left, "right": right } }))
        }
        // A failure behind an open side: never true.
        right @ Folded::Failed => {
            let right = written(right, as_written);
            Folded::FalseOrFailed(json!({ "&&": { "left": left, "right": right } }))
        }
        Folded::Open(right) => Folded::Open(json!({ "&&": { "left": left, "right": right } })),
    }
}

fn or(left: Value, right: Folded, as_written: impl FnOnce() -> Value) -> Folded {
    match right {
        Folded::False => Folded::Open(left),
        Folded::True if !can_fail(&left) => Folded::True,
        right => {
            let right = written(right, as_written);
            Folded::Open(json!({ "||": { "left": left, "right": right } }))
        }
    }
}

fn written(folded: Folded, as_written: impl FnOnce() -> Value) -> Value {
    match folded {
        Folded::True => json!({ "Value": true }),
        Folded::False => json!({ "Value": false }),
        Folded::Failed => as_written(),
        Folded::FalseOrFailed(open) | Folded::Open(open) => open,
    }
}

impl Leaf {
    fn of(node: &Value) -> Leaf {
        let probe = json!({
            "effect": "permit",
            "principal": { "op": "All" }, "action": { "op": "All" }, "resource": { "op": "All" },
            "conditions": [{ "kind": "when", "body": node }],
        });
        let policy = Policy::from_json(None, probe).ok();
        let mut attributes = Some(Vec::new());
        principal_attributes(node, &mut attributes);
        Leaf {
            reads_context: mentions(node, "context"),
            reads_principal: mentions(node, "principal"),
            attributes,
            term: VarTerm::of_conjunct(node).map(|(variable, term)| (variable.to_owned(), term)),
            policies: policy.and_then(|policy| PolicySet::from_policies([policy]).ok()),
            json: node.clone(),
        }
    }

    fn fold(&self, known: &Known<'_>) -> Folded {
        if let Some((variable, term)) = &self.term {
            let lineage = match variable.as_str() {
                "principal" => &known.triple.principal,
                "action" => &known.triple.action,
                _ => &known.triple.resource,
            };
            return if term.matches(lineage) { Folded::True } else { Folded::False };
        }
        let is_known = !self.reads_context
            && (!self.reads_principal
                || known.is_one
                || self
                    .attributes
                    .as_ref()
                    .is_some_and(|names| names.iter().all(|name| (known.knows)(name))));
        let (true, Some(policies)) = (is_known, &self.policies) else {
            return Folded::Open(self.json.clone());
        };
        let Some((stage, question)) = (known.scene)() else { return Folded::Open(self.json.clone()) };
        let answer = Authorizer::new().is_authorized(question, policies, &stage.entities);
        match (answer.decision(), answer.diagnostics().errors().next()) {
            (_, Some(_)) => Folded::Failed,
            (cedar_policy::Decision::Allow, None) => Folded::True,
            (cedar_policy::Decision::Deny, None) => Folded::False,
        }
    }
}

fn is_variable(node: &Value, name: &str) -> bool {
    node.get("Var").and_then(Value::as_str) == Some(name)
}

fn mentions(node: &Value, variable: &str) -> bool {
    match node {
        _ if is_variable(node, variable) => true,
        Value::Object(members) => members.values().any(|value| mentions(value, variable)),
        Value::Array(items) => items.iter().any(|item| mentions(item, variable)),
        _ => false,
    }
}

/// Attributes of the principal that an expression reads; `None` once it uses the principal as a whole. Tags count as
/// one attribute, `tags`.
fn principal_attributes(node: &Value, found: &mut Option<Vec<String>>) {
    for (operator, member) in [(".", "attr"), ("has", "attr"), ("hasTag", ""), ("getTag", "")] {
        let Some(access) = node.get(operator) else { continue };
        if access.get("left").is_some_and(|left| is_variable(left, "principal")) {
            match access.get(member) {
                Some(Value::String(name)) => found.iter_mut().for_each(|names| names.push(name.clone())),
                Some(Value::Array(names)) => {
                    let first = names.first().and_then(Value::as_str).map(str::to_owned);
                    found.iter_mut().for_each(|names| names.extend(first.clone()));
                }
                _ => found.iter_mut().for_each(|names| names.push("tags".to_owned())),
            }
            if let Some(right) = access.get("right") {
                principal_attributes(right, found);
            }
            return;
        }
    }
    match node {
        _ if is_variable(node, "principal") => *found = None,
        Value::Object(members) => members.values().for_each(|value| principal_attributes(value, found)),
        Value::Array(items) => items.iter().for_each(|item| principal_attributes(item, found)),
        _ => {}
    }
}

/// Whether evaluating an expression over valid facts may fail. Only what surely cannot is let off.
fn can_fail(node: &Value) -> bool {
    const SAFE: [&str; 21] = [
        "Var",
        "Value",
        "&&",
        "||",
        "!",
        "==",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
        "in",
        "is",
        "has",
        "like",
        "contains",
        "containsAll",
        "containsAny",
        "isEmpty",
        "Set",
        "hasTag",
    ];
    let Some(members) = node.as_object() else { return true };
    members.iter().any(|(operator, operand)| match operator.as_str() {
        "Var" | "Value" => false,
        // Entities behind facts may be missing: a user of a token, the relay of a call.
        "." => !is_path(node) || mentions_word(operand, &["jwt", "user", "forwarded_by"]),
        "Set" => operand.as_array().is_none_or(|items| items.iter().any(can_fail)),
        "isInRange" | "isIpv4" | "isIpv6" | "isLoopback" | "isMulticast" => operand
            .as_array()
            .is_none_or(|items| items.iter().any(|item| item.get("ip").is_none() && can_fail(item))),
        operator if SAFE.contains(&operator) => {
            ["left", "right", "arg"].into_iter().filter_map(|side| operand.get(side)).any(can_fail)
        }
        _ => true,
    })
}

/// `context.a.b`: nothing but attributes of a variable.
fn is_path(node: &Value) -> bool {
    match node.get(".").and_then(|access| access.get("left")) {
        Some(left) => left.get("Var").is_some() || is_path(left),
        None => false,
    }
}

fn mentions_word(node: &Value, words: &[&str]) -> bool {
    match node {
        Value::String(text) => words.contains(&text.as_str()),
        Value::Object(members) => members.values().any(|value| mentions_word(value, words)),
        Value::Array(items) => items.iter().any(|item| mentions_word(item, words)),
        _ => false,
    }
}
