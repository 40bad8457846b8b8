//! What Cedar's validator finds, in words that say what to do, once per place. Cedar judges a policy for each action on
//! its own and tells the same thing again and again, in the order of a hash set. Called while policies are validated;
//! lint routes by the codes, so each stands for one thing to do.

mod places;
mod schema;
mod syntax;

use crate::{Diagnostic, Effect};
use cedar_policy::{Schema, ValidationError, ValidationWarning};
use places::{at_name, marked, members, narrowed, quoted};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(crate) use places::question;
pub(crate) use schema::schema;
pub(crate) use syntax::syntax;

/// Where and what, so that the same is said once.
type Key = (Arc<str>, usize, usize, usize, &'static str, String);

/// Findings of one validation.
#[derive(Debug, Default)]
pub(crate) struct Said(BTreeMap<Key, (Diagnostic, BTreeSet<String>)>);

impl Said {
    /// Takes in an error in a policy of that effect; `found` has Cedar's words and place.
    pub(crate) fn error(
        &mut self,
        error: &ValidationError,
        effect: Effect,
        found: Diagnostic,
        schema: &Schema,
    ) {
        let (found, action) = match error {
            ValidationError::UnsafeOptionalAttributeAccess(_) => (optional(found, effect), None),
            ValidationError::UnsafeTagAccess(_) => (tag(found, effect), None),
            ValidationError::UnsafeAttributeAccess(_) => unknown_attribute(found),
            ValidationError::UnrecognizedActionId(_) => {
                let known = schema.actions().map(ToString::to_string);
                (nearest(found, known, "`portcullis schema show` lists the actions"), None)
            }
            ValidationError::UnrecognizedEntityType(_) => {
                let known = schema.entity_types().map(ToString::to_string);
                (nearest(found, known, "`portcullis schema show` lists the types"), None)
            }
            ValidationError::EntityDerefLevelViolation(_) => (level(found), None),
            ValidationError::UnexpectedType(_) | ValidationError::IncompatibleTypes(_) => {
                (types(found), None)
            }
            ValidationError::InvalidEnumEntity(_) => (one_of(found), None),
            ValidationError::FunctionArgumentValidation(_) => (argument(found), None),
            ValidationError::NonLitExtConstructor(_) => (
                found.label("must be written out").help(
                    "`ip(..)`, `datetime(..)` and `decimal(..)` take a literal; facts of a call have their type already, as `context.connection.source_ip`",
                ),
                None,
            ),
            ValidationError::EmptySetForbidden(_) => (
                found.label("nothing is in it").help("ask `x.isEmpty()` instead, or write what it should contain"),
                None,
            ),
            _ => (found, None),
        };
        self.put(found, action);
    }

    /// Takes in a warning.
    pub(crate) fn warning(&mut self, warning: &ValidationWarning, found: Diagnostic) {
        let found = match warning {
            ValidationWarning::InvalidActionApplication(_) => Diagnostic {
                message: NO_ACTION.to_owned(),
                label: "can never apply".to_owned(),
                ..found
            }
            .help("`http:..` is about `Route`, `grpc` about `Method`, `tcp:connect` about `Service`; `portcullis schema show` tells who may ask for what"),
            ValidationWarning::ImpossiblePolicy(_) => Diagnostic {
                message: NEVER.to_owned(),
                label: "can never apply".to_owned(),
                ..found
            }
            .help("look for two tests that exclude each other, or a test on what the scope has ruled out"),
            ValidationWarning::MixedScriptString(_)
            | ValidationWarning::BidiCharsInString(_)
            | ValidationWarning::BidiCharsInIdentifier(_)
            | ValidationWarning::MixedScriptIdentifier(_)
            | ValidationWarning::ConfusableIdentifier(_) => deceiving(found),
            _ => found,
        };
        self.put(found.warning(), None);
    }

    fn put(&mut self, found: Diagnostic, action: Option<String>) {
        let Diagnostic { file, line, column, length, code, message, .. } = &found;
        let key = (Arc::clone(file), *line, *column, *length, *code, message.clone());
        self.0.entry(key).or_insert_with(|| (found, BTreeSet::new())).1.extend(action);
    }

    /// Each finding once, by place. What can never apply is said with its reason, where Cedar knows one.
    pub(crate) fn finish(self) -> impl Iterator<Item = Diagnostic> {
        let reasoned: BTreeSet<_> = self.0.keys().filter(|key| key.5 == NO_ACTION).map(place).collect();
        let mut said = self.0;
        said.retain(|key, _| key.5 != NEVER || !reasoned.contains(&place(key)));
        said.into_values().map(|(mut found, actions)| {
            if !actions.is_empty() {
                found.message = format!("{} in the context of {}", found.message, listed(&actions));
            }
            found
        })
    }
}

const NO_ACTION: &str = "no action of this policy goes with its principal and resource";
const NEVER: &str = "this condition is false for every request";

fn place(key: &Key) -> (Arc<str>, usize, usize) {
    (Arc::clone(&key.0), key.1, key.2)
}

/// `a`, `b`, `c` and 4 more.
fn listed(names: &BTreeSet<String>) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Validation messages open with the policy, which file and line already tell.
pub(crate) fn without_policy(message: &str) -> &str {
    let rest = message.strip_prefix("for policy `").and_then(|rest| rest.split_once('`'));
    rest.map_or(message, |(_, rest)| rest.trim_start_matches([',', ':', ' ']))
}

fn optional(found: Diagnostic, effect: Effect) -> Diagnostic {
    let path = quoted(&found.message).unwrap_or_default().to_owned();
    let found = narrowed(found, &path);
    let mark = marked(&found);
    let name = members(&mark).pop().map_or(path, |(name, _)| name);
    let (label, help) = match effect {
        Effect::Allow => ("grants nothing to a request that lacks it", guarded(&mark)),
        Effect::Deny => ("denies every request that lacks it", decided(&mark)),
    };
    let message = format!("`{name}` is optional, and nothing asks whether it is there");
    Diagnostic { code: "PC2107", message, label: label.to_owned(), ..found }.help(help)
}

fn tag(found: Diagnostic, effect: Effect) -> Diagnostic {
    let mark = marked(&found);
    let (code, label, help) = match effect {
        Effect::Allow => ("PC2107", "grants nothing to an entity that lacks it", guarded(&mark)),
        Effect::Deny => ("PC2116", "denies every request of an entity that lacks it", decided(&mark)),
    };
    let message = "a tag may be missing, and nothing asks whether it is there".to_owned();
    Diagnostic { code, message, label: label.to_owned(), ..found }.help(help)
}

/// How a permit asks before it reads.
fn guarded(read: &str) -> String {
    match question(read) {
        Some(question) => {
            format!("ask first: `{question} && ..`; `portcullis policy lint --fix` writes it where it can")
        }
        None => "ask with `has` whether it is there".to_owned(),
    }
}

/// How a forbid says what absence means.
fn decided(read: &str) -> String {
    let question = question(read).unwrap_or_else(|| "x has y".to_owned());
    format!(
        "say what absence means: `{question} && ..` lets it pass, `if {question} then .. else true` denies; `portcullis policy lint --fix` writes the second where it can"
    )
}

/// With the action that Cedar judged, when the attribute is missing in a context.
fn unknown_attribute(found: Diagnostic) -> (Diagnostic, Option<String>) {
    let Some(path) = quoted(&found.message).map(str::to_owned) else { return (found, None) };
    let action = found.message.split_once(" in context for ").map(|(_, rest)| {
        let uid = rest.trim_end_matches(" not found");
        uid.split('"').nth(1).unwrap_or(uid).to_owned()
    });
    let kind = found.message.split_once("on entity type `").and_then(|(_, rest)| rest.split('`').next());
    let message = match (&action, kind) {
        (Some(_), _) => format!("there is no `{path}`"),
        (None, Some(kind)) => format!("`{kind}` has no attribute `{path}`"),
        (None, None) => found.message.clone(),
    };
    let help = match path.as_str() {
        part @ ("request" | "rpc" | "jwt" | "forwarded_by" | "change") if action.is_some() => format!(
            "not every action has it: write `context has {part} && ..`, or name actions that have it in the scope"
        ),
        _ => suggestion(&found, &path)
            .unwrap_or_else(|| "`portcullis schema show` lists what there is".to_owned()),
    };
    let code = if action.is_some() { "PC2111" } else { found.code };
    let found = narrowed(found, &path);
    let label = if found.label.is_empty() { "not in the schema".to_owned() } else { found.label.clone() };
    (Diagnostic { code, message, label, ..found }.help(help), action)
}

/// Cedar's guess at an attribute, unless it is far off.
fn suggestion(found: &Diagnostic, path: &str) -> Option<String> {
    let meant = quoted(found.help.as_deref()?)?;
    let written = path.rsplit('.').next().unwrap_or(path);
    (strsim::damerau_levenshtein(written, meant) <= far(written)).then(|| format!("did you mean `{meant}`?"))
}

/// How far from what was written a name may be and still be meant.
fn far(written: &str) -> usize {
    2.max(written.len() / 3)
}

/// The name nearest to one that does not exist. Cedar's own guess depends on the order of a hash set.
fn nearest(found: Diagnostic, known: impl Iterator<Item = String>, otherwise: &str) -> Diagnostic {
    let written = found.message.rsplit_once("unrecognized ").and_then(|(_, rest)| rest.split_once('`'));
    let written = written.map(|(_, name)| name.trim_end_matches('`').to_owned()).unwrap_or_default();
    let near = known.map(|name| (strsim::damerau_levenshtein(&written, &name), name)).min();
    let help = match near {
        Some((distance, name)) if distance <= far(&written) => format!("did you mean `{name}`?"),
        _ => otherwise.to_owned(),
    };
    Diagnostic { help: None, ..found }.label("not in the schema").help(help)
}

fn level(found: Diagnostic) -> Diagnostic {
    Diagnostic { label: "not loaded when a call is judged".to_owned(), ..found }.help(
        "attributes of principal, action, resource and of entities in the context are there, not those of entities they refer to; what a policy needs is copied down, as `resource.service` is",
    )
}

/// `Type::"id"` of a type that lists its ids.
fn one_of(found: Diagnostic) -> Diagnostic {
    let uid = quoted(&found.message).unwrap_or_default().to_owned();
    let (kind, written) = uid.split_once("::\"").unwrap_or((&uid, ""));
    let written = written.trim_end_matches('"');
    let ids: Vec<String> =
        found.help.iter().flat_map(|help| help.split('"').skip(1).step_by(2)).map(str::to_owned).collect();
    let near = ids.iter().map(|id| (strsim::damerau_levenshtein(written, id), id)).min();
    let label = match near {
        Some((distance, id)) if distance <= far(written) => format!("did you mean `{id}`?"),
        _ => "not in the schema".to_owned(),
    };
    let message = format!("there is no `{written}` among the `{kind}`s of the schema");
    let help = ids.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
    Diagnostic { message, label, ..found }.help(format!("there are {help}"))
}

fn argument(found: Diagnostic) -> Diagnostic {
    let message =
        found.message.trim_start_matches("error during extension function argument validation: ").to_owned();
    Diagnostic { message, label: "cannot be read".to_owned(), ..found }
}

fn types(found: Diagnostic) -> Diagnostic {
    let message = found.message.replace("Set<__cedar::internal::Any>", "a set").replace("__cedar::", "");
    let found = Diagnostic { message, ..found };
    let help = found.help.as_deref().map(without_policy).map(str::to_owned);
    let help = help.unwrap_or_else(|| "`portcullis schema show` tells the type of each attribute".to_owned());
    let label = if found.label.is_empty() { "has another type".to_owned() } else { found.label.clone() };
    Diagnostic { label, ..found }.help(help)
}

fn deceiving(found: Diagnostic) -> Diagnostic {
    let found = at_name(found);
    let mark = marked(&found);
    let strange = mark.chars().find(|c| !c.is_ascii());
    let label = strange.map_or_else(String::new, |c| format!("U+{:04X} stands in it", u32::from(c)));
    let message = match quoted(&found.message) {
        Some(name) => format!("`{}` mixes alphabets or hides characters", name.trim_matches('"')),
        None => found.message.clone(),
    };
    Diagnostic { code: "PC2121", message, label, ..found }
        .help("it can look like another name on a screen; write it in one alphabet, or remove the character")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let names = |count| (0..count).map(|n| format!("a{n}")).collect::<BTreeSet<_>>();
        assert_eq!(listed(&names(1)), "`a0`");
        assert_eq!(listed(&names(5)), "`a0`, `a1`, `a2` and 2 more");
    }
}
