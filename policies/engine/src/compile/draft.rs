//! One policy text on its own (VA1): parsed, capped, its annotations read. What comes out is a rule, or a template that
//! links turn into rules; whether it fits the schema is for `validate` to say.

use super::{finding::Text, letters, notes::Subject, phrase};
use crate::{
    Diagnostic, Effect,
    logic::Logic,
    rule::{Notes, Place, Rule},
    scope::Scope,
    walk::{Look, Reads},
};
use cedar_policy::{Policy, PolicyId, Template, pst::Clause};
use std::{ops::Range, sync::Arc};

const POLICY_BYTES: usize = 10 << 10;
const DEPTH: usize = 64;
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

/// Reads the policy at `chunk`; findings go to `found`.
pub(crate) fn draft(at: &Text<'_>, found: &mut Vec<Diagnostic>) -> Option<Draft> {
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
        return blank(at, found).map(|blank| Draft::Blank(Arc::new(blank)));
    }
    let policy = match Policy::parse(None, text) {
        Ok(policy) => policy,
        Err(errors) => {
            found.extend(errors.iter().map(|error| phrase::syntax(at.moved("PC2001", error))));
            return None;
        }
    };
    let seen = match policy.has_non_scope_constraint() {
        true => Some(look(at, policy.to_pst().map(|policy| policy.body().clauses().clone()), found)?),
        false => None,
    };
    let effect = effect_of(policy.effect());
    let (id, notes) = Subject { at, annotations: policy.annotations().collect(), effect }.read(found)?;
    let literals = policy.entity_literals();
    if let Some(unfit) = letters::unfit(source, chunk, &literals) {
        found.push(unfit);
        return None;
    }
    let place = Place { file: Arc::clone(&source.file), line: chunk.line };
    let parts =
        Parts { id, effect, text: text.into(), policy, seen, literals, notes: Arc::new(notes), place };
    Some(Draft::Rule(Arc::new(parts.rule(source.is_baseline, None))))
}

fn blank(at: &Text<'_>, found: &mut Vec<Diagnostic>) -> Option<Blank> {
    let template = match Template::parse(None, at.text()) {
        Ok(template) => template,
        Err(errors) => {
            found.extend(errors.iter().map(|error| phrase::syntax(at.moved("PC2001", error))));
            return None;
        }
    };
    if template.has_non_scope_constraint() {
        look(at, template.to_pst().map(|template| template.clauses().clone()), found)?;
    }
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
        notes: Arc::new(notes),
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
) -> Option<Seen> {
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
        return Some(Seen { reads: look.reads, logic: Logic::joining(&clauses) });
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
        is_baseline: bool,
    ) -> Result<Rule, String> {
        let text = self.filled(values);
        let policy = Policy::parse(None, &text).map_err(|cause| cause.to_string())?;
        let seen = match policy.has_non_scope_constraint() {
            true => {
                let tree = policy.to_pst().map_err(|cause| cause.to_string())?;
                let clauses = tree.body().clauses();
                Some(Seen { reads: Look::of(clauses).reads, logic: Logic::joining(clauses) })
            }
            false => None,
        };
        let literals = policy.entity_literals();
        let (id, notes) = (Arc::clone(id), Arc::clone(&self.notes));
        let parts =
            Parts { id, effect: self.effect, text: text.into(), policy, seen, literals, notes, place };
        Ok(parts.rule(is_baseline, Some(Arc::clone(&self.id))))
    }
}

/// What conditions come to. Their tree is asked for once: Cedar reads the text again for it.
struct Seen {
    reads: Reads,
    logic: Logic,
}

/// A parsed policy with what was read of it.
struct Parts {
    id: Arc<str>,
    effect: Effect,
    /// What `policy` was parsed from.
    text: Arc<str>,
    policy: Policy,
    seen: Option<Seen>,
    literals: Vec<cedar_policy::EntityUid>,
    notes: Arc<Notes>,
    place: Place,
}

impl Parts {
    /// Everything that follows from one policy text and nothing else. Runs once per text, in parallel; its result is
    /// kept as long as the text stands, whatever else changes.
    fn rule(self, is_baseline: bool, template: Option<Arc<str>>) -> Rule {
        let (reads, logic) = match self.seen {
            Some(seen) => (Some(seen.reads), seen.logic),
            None => (None, Logic::Always),
        };
        let kept = matches!(logic, Logic::Slow(_)).then(|| self.policy.new_id(PolicyId::new(&self.id)));
        Rule {
            effect: self.effect,
            scope: Arc::new(Scope::of(&self.policy)),
            logic,
            reads,
            literals: self.literals.into(),
            kept,
            text: self.text,
            id: self.id,
            notes: self.notes,
            place: self.place,
            is_baseline,
            template,
        }
    }
}

/// The same rule at another place.
pub(crate) fn placed(rule: &Arc<Rule>, place: Place, is_baseline: bool) -> Arc<Rule> {
    if rule.place == place && rule.is_baseline == is_baseline {
        return Arc::clone(rule);
    }
    Arc::new(Rule { place, is_baseline, ..Rule::clone(rule) })
}
