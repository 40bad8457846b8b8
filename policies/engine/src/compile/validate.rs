//! Validates policies strictly and to level 1 against the whole schema (VA1). What Cedar says of a policy depends on
//! that policy and the schema alone, so one that passed is not asked about again until the
//! schema changes, and neither is one of the same shape.

use super::{
    draft::Draft,
    finding::Text,
    phrase::{Said, without_policy},
    shape::{Shape, Shapes},
    shared::Shared,
};
use crate::{Diagnostic, Effect, Severity, rule::Rule, schema::SchemaText};
use cedar_policy::{PolicyId, PolicySet, Schema, ValidationMode, ValidationResult, Validator};
use std::collections::{HashMap, HashSet};

const DEREFERENCES: u32 = 1;

/// What came of one policy text.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// Nothing when it is no policy at all.
    pub(crate) draft: Option<Draft>,
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// Cedar's validator, what it had no word about, and what the policies have in common.
#[derive(Debug)]
pub(crate) struct Judge {
    validator: Validator,
    shapes: Shapes,
    pub(crate) shared: Shared,
}

impl Judge {
    pub(crate) fn new(schema: &Schema, texts: &SchemaText) -> Judge {
        Judge {
            validator: Validator::new(schema.clone()),
            shapes: Shapes::new(texts.texts()),
            shared: Shared::default(),
        }
    }

    /// Validates what was read of `texts`, one text for each of `checked`.
    pub(crate) fn validate(&self, texts: &[Text<'_>], checked: &mut [Checked]) {
        let mut first = Vec::new();
        let mut alike: Vec<(usize, Shape)> = Vec::new();
        let mut seen = HashSet::new();
        for (at, (text, of)) in texts.iter().zip(&*checked).enumerate() {
            let Some(draft) = &of.draft else { continue };
            // What slots stand for is asked about with each link.
            if matches!(draft, Draft::Blank(_)) {
                first.push((at, None));
                continue;
            }
            let shape = self.shapes.of(text.text());
            if self.shapes.has_passed(shape) {
                continue;
            }
            if seen.insert(shape) {
                first.push((at, Some(shape)));
            } else {
                alike.push((at, shape));
            }
        }
        self.ask(&first, texts, checked);
        let left: Vec<(usize, Option<Shape>)> = alike
            .into_iter()
            .filter(|(_, shape)| !self.shapes.has_passed(*shape))
            .map(|(at, shape)| (at, Some(shape)))
            .collect();
        if !left.is_empty() {
            self.ask(&left, texts, checked);
        }
    }

    /// Asks Cedar about those of `texts`; remembers the shapes that it has no word about.
    fn ask(&self, which: &[(usize, Option<Shape>)], texts: &[Text<'_>], checked: &mut [Checked]) {
        let mut set = PolicySet::new();
        for (at, _) in which {
            let Some(of) = checked.get_mut(*at) else { continue };
            // Ids may be used twice, which is found elsewhere; here each has a number.
            let added = match &of.draft {
                Some(Draft::Rule(rule)) => {
                    rule.policy().map_err(|cause| cause.to_string()).and_then(|policy| {
                        set.add(policy.new_id(number(*at))).map_err(|cause| cause.to_string())
                    })
                }
                Some(Draft::Blank(blank)) => {
                    set.add_template(blank.template.new_id(number(*at))).map_err(|cause| cause.to_string())
                }
                None => Ok(()),
            };
            if let (Err(cause), Some(text)) = (added, texts.get(*at)) {
                of.errors.push(text.effect("PC2011", cause));
            }
        }
        let result = self.judge(&set);
        let mut said: HashMap<usize, Said> = HashMap::new();
        for error in result.validation_errors() {
            let Some((at, text, of)) = place(error.policy_id(), texts, checked) else { continue };
            let found = text.moved("PC2002", error);
            said.entry(at).or_default().error(error, of.effect(), found, self.validator.schema());
        }
        for warning in result.validation_warnings() {
            let Some((at, text, _)) = place(warning.policy_id(), texts, checked) else { continue };
            said.entry(at).or_default().warning(warning, text.moved("PC2003", warning));
        }
        for (at, shape) in which {
            let is_fine = checked.get(*at).is_some_and(|of| of.errors.is_empty()) && !said.contains_key(at);
            shape.filter(|_| is_fine).into_iter().for_each(|shape| self.shapes.pass(shape));
        }
        for (at, said) in said {
            let Some(of) = checked.get_mut(at) else { continue };
            let (errors, warnings): (Vec<_>, Vec<_>) =
                said.finish().partition(|found| found.severity == Severity::Error);
            // What is wrong already needs no second word.
            if errors.is_empty() {
                of.warnings.extend(warnings);
            }
            of.errors.extend(errors);
        }
    }

    /// The first thing that is wrong with a policy, in words.
    pub(crate) fn first_error(&self, rule: &Rule) -> Result<Option<String>, String> {
        let shape = self.shapes.of(&rule.text);
        if self.shapes.has_passed(shape) {
            return Ok(None);
        }
        let set = rule
            .policy()
            .map_err(|cause| cause.to_string())
            .and_then(|policy| PolicySet::from_policies([policy]).map_err(|cause| cause.to_string()))?;
        let result = self.judge(&set);
        let words = result.validation_errors().map(|error| without_policy(&error.to_string()).to_owned());
        let first = words.min();
        if first.is_none() && result.validation_warnings().next().is_none() {
            self.shapes.pass(shape);
        }
        Ok(first)
    }

    fn judge(&self, set: &PolicySet) -> ValidationResult {
        self.validator.validate_with_level(set, ValidationMode::Strict, DEREFERENCES)
    }
}

impl Checked {
    fn effect(&self) -> Effect {
        match &self.draft {
            Some(Draft::Rule(rule)) => rule.effect,
            Some(Draft::Blank(blank)) => blank.effect,
            None => Effect::Allow,
        }
    }
}

fn number(at: usize) -> PolicyId {
    PolicyId::new(at.to_string())
}

fn place<'a, 'b>(
    id: &PolicyId,
    texts: &'a [Text<'b>],
    checked: &'a [Checked],
) -> Option<(usize, &'a Text<'b>, &'a Checked)> {
    let at: usize = AsRef::<str>::as_ref(id).parse().ok()?;
    Some((at, texts.get(at)?, checked.get(at)?))
}
