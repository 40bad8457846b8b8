//! One policy text on its own (VA1): parsed, capped, its annotations read. What comes out is a rule, or a template that
//! links turn into rules; whether it fits the schema is for `validate` to say.

use super::{Conditions, Shared, finding::Text, letters, notes::Subject, phrase};
use crate::{
    Diagnostic, Effect,
    logic::Logic,
    rule::{Notes, Place, Rule},
    scope::Scope,
    walk::Look,
};
use cedar_policy::{Policy, PolicyId, Template, pst::Clause};
use std::{ops::Range, sync::Arc};

pub(super) const POLICY_BYTES: usize = 10 << 10;
pub(super) const DEPTH: usize = 64;
const WILDCARDS: usize = 16;

/// What a policy text is.
#[derive(Debug, Clone)]
pub(crate) enum Draft {
    Rule(Arc<Rule>),
    Blank(Arc<Blank>),
}

/// A template: everything about a rule but whom or what its slots stand for.
#[derive(Debug)]
pub(crate) struct Blank {
    pub(crate) id: Arc<str>,
    pub(crate) template: Template,
    text: Box<str>,
    /// `?principal` and `?resource` in its text.
    slots: Vec<Range<usize>>,
    pub(crate) effect: Effect,
    conditions: Option<Arc<Conditions>>,
    /// There is syntax in them that this build does not know: only a link tells which entities they name.
    is_unknown: bool,
    notes: Arc<Notes>,
}

/// What a slot stands for, as Cedar text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Values<'a> {
    pub(crate) principal: Option<&'a str>,
    pub(crate) resource: Option<&'a str>,
}

impl Draft {
    pub(crate) fn id(&self) -> &Arc<str> {
        match self {
            Draft::Rule(rule) => &rule.id,
            Draft::Blank(blank) => &blank.id,
        }
    }
}

/// Reads the policy at `chunk`, where it is not `parsed` yet; findings go to `found`.
pub(crate) fn draft(
    at: &Text<'_>,
    parsed: Option<Policy>,
    shared: &Shared,
    found: &mut Vec<Diagnostic>,
) -> Option<Draft> {
    let Text { source, chunk } = at;
    let text = at.text();
    if text.len() > POLICY_BYTES {
        let message = format!("policy has {} bytes; at most {POLICY_BYTES}", text.len());
        found.push(
            at.effect("PC2010", message).help(
                "several permits are alternatives: write one for each; lists of names belong into groups",
            ),
        );
        return None;
    }
    if chunk.depth > DEPTH {
        let message = format!("brackets are nested {} deep; at most {DEPTH}", chunk.depth);
        found.push(
            at.effect("PC2010", message).help("leave out brackets that change nothing, or split the policy"),
        );
        return None;
    }
    if !chunk.slots.is_empty() {
        return blank(at, shared, found).map(|blank| Draft::Blank(Arc::new(blank)));
    }
    let policy = match parsed.map_or_else(|| Policy::parse(None, text), Ok) {
        Ok(policy) => policy,
        Err(errors) => {
            found.extend(errors.iter().map(|error| phrase::syntax(at.moved("PC2001", error))));
            return None;
        }
    };
    let conditions = match policy.has_non_scope_constraint() {
        true => Some(conditions(at, &policy, shared, found)?),
        false => None,
    };
    let effect = effect_of(policy.effect());
    let (id, notes) = Subject { at, annotations: policy.annotations().collect(), effect }.read(found)?;
    let place = Place { file: Arc::clone(&source.file), line: chunk.line };
    let scope = Scope::of(&policy, shared);
    let parts = Parts { id, effect, text: text.into(), conditions, notes: shared.notes(notes), place };
    let rule = match parts.rule(scope, source.is_baseline, None) {
        Ok(rule) => rule,
        Err(cause) => {
            found.push(at.effect("PC2011", cause));
            return None;
        }
    };
    if let Some(unfit) = letters::unfit(source, chunk, rule.literals()) {
        found.push(unfit);
        return None;
    }
    Some(Draft::Rule(Arc::new(rule)))
}

/// The conditions of a policy: those that another one writes alike, or read for the first time. Their tree is asked for
/// once: Cedar reads the text again for it.
fn conditions(
    at: &Text<'_>,
    policy: &Policy,
    shared: &Shared,
    found: &mut Vec<Diagnostic>,
) -> Option<Arc<Conditions>> {
    let text = at.conditions();
    if let Some(known) = text.and_then(|text| shared.find(text)) {
        return Some(known);
    }
    let clauses = policy.to_pst().map(|policy| policy.body().clauses().clone());
    look(at, clauses, found).map(|(look, logic)| match look.is_unknown {
        // Those of its scope are among them, so they are no other policy's.
        true => shared.conditions(None, (look.reads, logic, policy.entity_literals())),
        false => shared.conditions(text, (look.reads, logic, look.literals)),
    })
}

fn blank(at: &Text<'_>, shared: &Shared, found: &mut Vec<Diagnostic>) -> Option<Blank> {
    let template = match Template::parse(None, at.text()) {
        Ok(template) => template,
        Err(errors) => {
            found.extend(errors.iter().map(|error| phrase::syntax(at.moved("PC2001", error))));
            return None;
        }
    };
    let (conditions, is_unknown) = match template.has_non_scope_constraint() {
        true => {
            let clauses = template.to_pst().map(|template| template.clauses().clone());
            let (look, logic) = look(at, clauses, found)?;
            let text = at.conditions().filter(|_| !look.is_unknown);
            (Some(shared.conditions(text, (look.reads, logic, look.literals))), look.is_unknown)
        }
        false => (None, false),
    };
    let effect = effect_of(template.effect());
    let (id, notes) = Subject { at, annotations: template.annotations().collect(), effect }.read(found)?;
    let start = at.chunk.range.start;
    let moved = |slot: &Range<usize>| slot.start.saturating_sub(start)..slot.end.saturating_sub(start);
    Some(Blank {
        template: template.new_id(PolicyId::new(&id)),
        id,
        text: at.text().into(),
        slots: at.chunk.slots.iter().map(moved).collect(),
        effect,
        conditions,
        is_unknown,
        notes: shared.notes(notes),
    })
}

fn effect_of(effect: cedar_policy::Effect) -> Effect {
    match effect {
        cedar_policy::Effect::Permit => Effect::Allow,
        cedar_policy::Effect::Forbid => Effect::Deny,
    }
}

/// What the conditions are like, unless they are more than we take.
fn look<E: std::fmt::Display>(
    at: &Text<'_>,
    clauses: Result<Vec<Clause>, E>,
    found: &mut Vec<Diagnostic>,
) -> Option<(Look, Logic)> {
    let clauses = match clauses {
        Ok(clauses) => clauses,
        Err(cause) => {
            found.push(at.effect("PC2011", format!("the conditions of this policy cannot be read: {cause}")));
            return None;
        }
    };
    let look = Look::of(&clauses);
    let excess = if look.wildcards > WILDCARDS {
        format!("a pattern has {} wildcards; at most {WILDCARDS}", look.wildcards)
    } else if look.depth > DEPTH {
        format!("expressions are nested {} deep; at most {DEPTH}", look.depth)
    } else {
        return Some((look, Logic::joining(&clauses)));
    };
    found.push(at.effect("PC2010", excess).help("test segments, or split the policy into several"));
    None
}

impl Blank {
    /// Whether the template has that slot.
    pub(crate) fn has(&self, slot: &str) -> bool {
        self.slots.iter().any(|range| self.text.get(range.clone()) == Some(slot))
    }

    /// Its text with the values where the slots stand.
    fn filled(&self, values: Values<'_>) -> String {
        let mut text = String::with_capacity(self.text.len() + 64);
        let mut from = 0;
        for slot in &self.slots {
            text.push_str(self.text.get(from..slot.start).unwrap_or_default());
            let value = match self.text.get(slot.clone()) {
                Some("?principal") => values.principal,
                _ => values.resource,
            };
            text.push_str(value.unwrap_or_default());
            from = slot.end;
        }
        text.push_str(self.text.get(from..).unwrap_or_default());
        text
    }

    /// The rule of a link.
    pub(crate) fn link(
        &self,
        id: &Arc<str>,
        values: Values<'_>,
        place: Place,
        (is_baseline, shared): (bool, &Shared),
    ) -> Result<Rule, String> {
        let text = self.filled(values);
        let policy = Policy::parse(None, &text).map_err(|cause| cause.to_string())?;
        let (id, notes) = (Arc::clone(id), Arc::clone(&self.notes));
        let of_link = |known: &Arc<Conditions>| match self.is_unknown {
            true => shared.conditions(None, (known.reads, known.logic.clone(), policy.entity_literals())),
            false => Arc::clone(known),
        };
        let conditions = self.conditions.as_ref().map(of_link);
        let parts = Parts { id, effect: self.effect, text: text.into(), conditions, notes, place };
        parts.rule(Scope::of(&policy, shared), is_baseline, Some(Arc::clone(&self.id)))
    }
}

/// What was read of a policy.
struct Parts {
    id: Arc<str>,
    effect: Effect,
    text: Arc<str>,
    conditions: Option<Arc<Conditions>>,
    notes: Arc<Notes>,
    place: Place,
}

impl Parts {
    /// Everything that follows from one policy text and nothing else. Runs once per text, in parallel; its result is
    /// kept as long as the text stands, whatever else changes.
    fn rule(self, scope: Scope, is_baseline: bool, template: Option<Arc<str>>) -> Result<Rule, String> {
        let (reads, logic) = match &self.conditions {
            Some(conditions) => (Some(conditions.reads), conditions.logic.clone()),
            None => (None, Logic::Always),
        };
        let kept = match logic {
            Logic::Slow(_) => {
                let policy = Policy::parse(Some(PolicyId::new(&self.id)), &self.text);
                Some(Box::new(policy.map_err(|cause| cause.to_string())?))
            }
            Logic::Always | Logic::When(_) => None,
        };
        Ok(Rule {
            effect: self.effect,
            scope: Arc::new(scope),
            logic,
            reads,
            conditions: self.conditions,
            kept,
            text: self.text,
            id: self.id,
            notes: self.notes,
            place: self.place,
            is_baseline,
            template,
        })
    }
}

/// The same rule at another place.
pub(crate) fn placed(rule: &Arc<Rule>, place: Place, is_baseline: bool) -> Arc<Rule> {
    if rule.place == place && rule.is_baseline == is_baseline {
        return Arc::clone(rule);
    }
    Arc::new(Rule { place, is_baseline, ..Rule::clone(rule) })
}
