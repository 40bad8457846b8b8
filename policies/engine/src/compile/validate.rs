//! Validates policies strictly and to level 1 against the whole schema (VA1). What Cedar says of a policy depends on
//! that policy and the schema alone, so one that passed is not asked about again until the schema changes.

use super::{
    draft::Draft,
    finding::Text,
    phrase::{Said, without_policy},
};
use crate::{Diagnostic, Effect, Severity};
use cedar_policy::{Policy, PolicyId, PolicySet, ValidationMode, ValidationResult, Validator};
use std::collections::HashMap;

const DEREFERENCES: u32 = 1;

/// What came of one policy text.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// Nothing when it is no policy at all.
    pub(crate) draft: Option<Draft>,
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// Validates what was read of `texts`, one text for each of `checked`.
pub(crate) fn validate(texts: &[Text<'_>], checked: &mut [Checked], validator: &Validator) {
    let mut set = PolicySet::new();
    for (at, of) in checked.iter_mut().enumerate() {
        // Ids may be used twice, which is found elsewhere; here each has a number.
        let added = match &of.draft {
            Some(Draft::Rule(rule)) => set.add(rule.policy.new_id(number(at))),
            Some(Draft::Blank(blank)) => set.add_template(blank.template.new_id(number(at))),
            None => Ok(()),
        };
        if let (Err(cause), Some(text)) = (added, texts.get(at)) {
            of.errors.push(text.effect("PC2011", cause.to_string()));
        }
    }
    let result = judge(validator, &set);
    let mut said: HashMap<usize, Said> = HashMap::new();
    for error in result.validation_errors() {
        let Some((at, text, of)) = place(error.policy_id(), texts, checked) else { continue };
        let found = text.moved("PC2002", error);
        said.entry(at).or_default().error(error, of.effect(), found, validator.schema());
    }
    for warning in result.validation_warnings() {
        let Some((at, text, _)) = place(warning.policy_id(), texts, checked) else { continue };
        said.entry(at).or_default().warning(warning, text.moved("PC2003", warning));
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

impl Checked {
    fn effect(&self) -> Effect {
        match &self.draft {
            Some(Draft::Rule(rule)) => rule.effect,
            Some(Draft::Blank(blank)) => blank.effect,
            None => Effect::Allow,
        }
    }
}

/// The first thing that is wrong with a policy, in words.
pub(crate) fn first_error(validator: &Validator, policy: &Policy) -> Result<Option<String>, String> {
    let set = PolicySet::from_policies([policy.clone()]).map_err(|cause| cause.to_string())?;
    let result = judge(validator, &set);
    let words = result.validation_errors().map(|error| without_policy(&error.to_string()).to_owned());
    Ok(words.min())
}

fn judge(validator: &Validator, set: &PolicySet) -> ValidationResult {
    validator.validate_with_level(set, ValidationMode::Strict, DEREFERENCES)
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
