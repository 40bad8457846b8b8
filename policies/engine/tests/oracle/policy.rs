//! Random policies as drafts, so that a failing set can be made small.

use crate::{
    expression::{Expr, Maker, Part, Type},
    scope::Scope,
    support::dice::Dice,
    world::Site,
};
use policies_engine::PolicySource;
use serde_json::{Map, Value};

/// One policy, in pieces.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) id: String,
    notes: Vec<&'static str>,
    is_forbid: bool,
    head: [String; 3],
    /// Written as a template with a link.
    pub(crate) is_linked: bool,
    /// `when` is true, `unless` is false.
    conditions: Vec<(bool, Expr)>,
}

impl Draft {
    pub(crate) fn random(dice: &mut Dice, site: &Site, focus: &[usize], at: usize) -> Draft {
        let scope = Scope::random(dice, site, focus);
        let is_forbid = dice.below(10) < 3;
        let mut notes = Vec::new();
        if dice.below(6) == 0 {
            notes.push("@mode(\"shadow\")");
        }
        if dice.below(8) == 0 && !is_forbid {
            notes.push("@expires(\"2026-11-22T12:00:00Z\")");
        }
        let count = [0, 1, 1, 1, 1, 1, 1, 2, 2, 3][dice.below(10)];
        let is_slow = dice.below(40) == 0;
        let conditions = (0..count).map(|_| {
            let depth = 1 + dice.below(4);
            let is_when = dice.below(4) > 0;
            (is_when, Maker::new(dice, &scope, is_slow).bool(depth))
        });
        let conditions = conditions.collect();
        let is_linked = dice.below(6) == 0;
        Draft { id: format!("p{at}"), notes, is_forbid, head: scope.head, is_linked, conditions }
    }

    /// The same, in force.
    pub(crate) fn live(&self) -> Draft {
        let notes = self.notes.iter().copied().filter(|note| !note.starts_with("@mode")).collect();
        Draft { notes, ..self.clone() }
    }

    /// As one policy; a link means what its template says with the slots filled.
    pub(crate) fn text(&self) -> String {
        self.written(&self.id, &self.head)
    }

    /// The files it is compiled from.
    pub(crate) fn files(&self) -> Vec<PolicySource> {
        let mut head = self.head.clone();
        let mut values = Map::new();
        for (at, slot) in [(0, "principal"), (2, "resource")] {
            // An entity stands last in a constraint.
            let entity = head[at].rsplit_once(' ').filter(|(_, last)| last.contains("::\""));
            if let Some((before, entity)) = entity {
                values.insert(slot.to_owned(), entity.into());
                head[at] = format!("{before} ?{slot}");
            }
        }
        let file = format!("{}.cedar", self.id);
        if !self.is_linked || values.is_empty() {
            return vec![PolicySource::new(file, self.text())];
        }
        let template = format!("template-{}", self.id);
        values.insert("id".to_owned(), self.id.as_str().into());
        values.insert("template".to_owned(), template.as_str().into());
        let links = Value::from(vec![Value::from(values)]).to_string();
        vec![
            PolicySource::new(file, self.written(&template, &head)),
            PolicySource::new(format!("{}.links.json", self.id), links),
        ]
    }

    fn written(&self, id: &str, [principal, action, resource]: &[String; 3]) -> String {
        let effect = if self.is_forbid { "forbid" } else { "permit" };
        let notes = self.notes.join(" ");
        let mut text = format!("@id(\"{id}\") {notes} {effect} ({principal}, {action}, {resource})");
        for (is_when, condition) in &self.conditions {
            let word = if *is_when { "when" } else { "unless" };
            text = format!("{text}\n  {word} {{ {} }}", condition.text());
        }
        text + ";\n"
    }

    /// The same, a little simpler, in every way that can be thought of.
    pub(crate) fn simpler(&self) -> Vec<Draft> {
        let mut all = Vec::new();
        if self.is_linked {
            all.push(Draft { is_linked: false, ..self.clone() });
        }
        for at in 0..self.notes.len() {
            let mut draft = self.clone();
            draft.notes.remove(at);
            all.push(draft);
        }
        for (at, (_, condition)) in self.conditions.iter().enumerate() {
            let mut draft = self.clone();
            draft.conditions.remove(at);
            all.push(draft);
            for condition in condition.simpler() {
                let mut draft = self.clone();
                draft.conditions[at].1 = condition;
                all.push(draft);
            }
        }
        all
    }
}

impl Expr {
    /// With one part replaced by a constant, or by something within it of the same type.
    fn simpler(&self) -> Vec<Expr> {
        let mut all = Vec::new();
        if self.text().len() > 8 {
            all.extend(Expr::constant(self.kind));
        }
        let mut within = Vec::new();
        self.of_kind(self.kind, &mut within);
        all.extend(within.into_iter().cloned());
        for (at, part) in self.parts.iter().enumerate() {
            let Part::Inner(inner) = part else { continue };
            for simpler in inner.simpler() {
                let mut whole = self.clone();
                whole.parts[at] = Part::Inner(simpler);
                all.push(whole);
            }
        }
        all
    }

    fn of_kind<'a>(&'a self, kind: Type, found: &mut Vec<&'a Expr>) {
        for part in &self.parts {
            let Part::Inner(inner) = part else { continue };
            if inner.kind == kind { found.push(inner) } else { inner.of_kind(kind, found) }
        }
    }
}
