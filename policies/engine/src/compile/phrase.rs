//! What Cedar's validator finds, in words that say what to do, once per place. Cedar judges a policy for each action on
//! its own and tells the same thing again and again, in the order of a hash set. Called while policies are validated;
//! lint routes by the codes, so each stands for one thing to do.

use super::text::tokens;
use crate::{Diagnostic, Effect};
use cedar_policy::{Schema, ValidationError, ValidationWarning};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

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
            ValidationError::UnsafeOptionalAttributeAccess(_) => (optional(found), None),
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

fn optional(found: Diagnostic) -> Diagnostic {
    let Some(path) = quoted(&found.message).map(str::to_owned) else {
        return Diagnostic { code: "PC2107", ..found };
    };
    let found = narrowed(found, &path);
    let help = match question(&marked(&found)) {
        Some(question) => {
            format!("ask first: `{question} && ..`; `portcullis policy lint --fix` writes it where it can")
        }
        None => "ask for it with `has` first".to_owned(),
    };
    let name = path.rsplit('.').next().unwrap_or(&path);
    Diagnostic {
        code: "PC2107",
        message: format!("`{name}` is optional, and nothing asks whether it is there"),
        label: "an error for every request that lacks it".to_owned(),
        ..found
    }
    .help(help)
}

fn tag(found: Diagnostic, effect: Effect) -> Diagnostic {
    let help = match question(&marked(&found)) {
        Some(question) => {
            format!("ask first: `{question} && ..`; `portcullis policy lint --fix` writes it where it can")
        }
        None => "ask for it with `hasTag` first".to_owned(),
    };
    let (code, label) = match effect {
        Effect::Allow => ("PC2107", "an error for every entity that lacks the tag"),
        Effect::Deny => ("PC2116", "denies every request of an entity that lacks the tag"),
    };
    let message = "a tag may be missing, and nothing asks whether it is there".to_owned();
    Diagnostic { code, message, label: label.to_owned(), ..found }.help(help)
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
    let help =
        found.help.clone().unwrap_or_else(|| "`portcullis schema show` lists what there is".to_owned());
    let code = if action.is_some() { "PC2111" } else { found.code };
    let found = narrowed(found, &path);
    let label = if found.label.is_empty() { "not in the schema".to_owned() } else { found.label.clone() };
    (Diagnostic { code, message, label, ..found }.help(help), action)
}

/// The name nearest to one that does not exist. Cedar's own guess depends on the order of a hash set.
fn nearest(found: Diagnostic, known: impl Iterator<Item = String>, otherwise: &str) -> Diagnostic {
    let written = found.message.rsplit_once("unrecognized ").and_then(|(_, rest)| rest.split_once('`'));
    let written = written.map(|(_, name)| name.trim_end_matches('`').to_owned()).unwrap_or_default();
    let near = known.map(|name| (strsim::damerau_levenshtein(&written, &name), name)).min();
    let far = 2.max(written.len() / 3);
    let help = match near {
        Some((distance, name)) if distance <= far => format!("did you mean `{name}`?"),
        _ => otherwise.to_owned(),
    };
    Diagnostic { help: None, ..found }.label("not in the schema").help(help)
}

fn level(found: Diagnostic) -> Diagnostic {
    Diagnostic { label: "not loaded when a call is judged".to_owned(), ..found }.help(
        "attributes of principal, action, resource and of entities in the context are there, not those of entities they refer to; what a policy needs is copied down, as `resource.service` is",
    )
}

fn types(found: Diagnostic) -> Diagnostic {
    let help = found.help.as_deref().map(without_policy).map(str::to_owned);
    let help = help.unwrap_or_else(|| "`portcullis schema show` tells the type of each attribute".to_owned());
    let label = if found.label.is_empty() { "has another type".to_owned() } else { found.label.clone() };
    Diagnostic { label, ..found }.help(help)
}

fn deceiving(found: Diagnostic) -> Diagnostic {
    let mark = marked(&found);
    let strange = mark.chars().find(|c| !c.is_ascii());
    let label = strange.map_or_else(String::new, |c| format!("U+{:04X} stands in it", u32::from(c)));
    Diagnostic { code: "PC2121", label, ..found }
        .help("it can look like another name on a screen; write it in one alphabet, or remove the character")
}

/// The first name in backticks.
fn quoted(message: &str) -> Option<&str> {
    message.split('`').nth(1)
}

/// The marked characters of a finding.
fn marked(found: &Diagnostic) -> String {
    found.source_line.chars().skip(found.column.saturating_sub(1)).take(found.length).collect()
}

/// Cedar marks `context.jwt.user.email` as a whole when `jwt` is meant: marks no more than up to the end of `path`.
fn narrowed(found: Diagnostic, path: &str) -> Diagnostic {
    let mark = marked(&found);
    let names: Vec<&str> = path.split('.').collect();
    let members = members(&mark);
    let starts = 0..(members.len() + 1).saturating_sub(names.len());
    let is_path = |at: &usize| members.iter().skip(*at).zip(&names).all(|((name, _), wanted)| name == wanted);
    let last = starts.rev().find(is_path).and_then(|at| members.get(at + names.len() - 1));
    match last.and_then(|(_, end)| mark.get(..*end)) {
        Some(kept) => Diagnostic { length: kept.chars().count(), ..found },
        None => found,
    }
}

/// The member names of an access, each with the byte where it ends.
fn members(text: &str) -> Vec<(String, usize)> {
    let all: Vec<_> = tokens(text).filter_map(|range| Some((text.get(range.clone())?, range.end))).collect();
    let member = |at: usize| match all.get(at..all.len().min(at + 3))? {
        [(".", _), (name, end), ..] => Some(((*name).to_owned(), *end)),
        [("[", _), (name, _), ("]", end)] if name.starts_with('"') => {
            Some((name.trim_matches('"').to_owned(), *end))
        }
        _ => None,
    };
    (0..all.len()).filter_map(member).collect()
}

/// What asks for `X.a`, `X["a"]` or `X.getTag("t")`: `X has a`, `X.hasTag("t")`.
pub(crate) fn question(read: &str) -> Option<String> {
    let read = read.trim();
    if let Some((of, tag)) = read.split_once(".getTag") {
        return Some(format!("{of}.hasTag{tag}"));
    }
    if let Some(open) = read.strip_suffix(']') {
        let (of, name) = open.rsplit_once('[')?;
        return Some(format!("{} has {}", of.trim_end(), name.trim()));
    }
    let (of, name) = read.rsplit_once('.')?;
    let is_name = name.trim().chars().all(|c| c.is_alphanumeric() || c == '_');
    is_name.then(|| format!("{} has {}", of.trim_end(), name.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_ends_with_the_attribute_that_is_meant() {
        let file = Arc::from("a");
        let of = |text: &str, path: &str| {
            let found = Diagnostic::at("PC2107", &file, text, 0, text.len(), "");
            marked(&narrowed(found, path))
        };
        assert_eq!(of("context.jwt.user.email", "jwt"), "context.jwt");
        assert_eq!(of("context.jwt.user.email", "email"), "context.jwt.user.email");
        assert_eq!(
            of(r#"context.request.headers["x-a"].contains("b")"#, "request.headers.x-a"),
            r#"context.request.headers["x-a"]"#
        );
        assert_eq!(of("principal", "x"), "principal");
        assert_eq!(of("a.b", "a.b.c"), "a.b");
    }

    #[test]
    fn an_attribute_is_asked_for_as_it_is_read() {
        assert_eq!(question("context.jwt").as_deref(), Some("context has jwt"));
        assert_eq!(question(r#"context.a["x-b"]"#).as_deref(), Some(r#"context.a has "x-b""#));
        assert_eq!(question(r#"principal.getTag("t")"#).as_deref(), Some(r#"principal.hasTag("t")"#));
        assert_eq!(question("x"), None);
        assert_eq!(question("f(a.b)"), None);
    }

    #[test]
    fn long_lists_are_cut() {
        let names = |count| (0..count).map(|n| format!("a{n}")).collect::<BTreeSet<_>>();
        assert_eq!(listed(&names(1)), "`a0`");
        assert_eq!(listed(&names(5)), "`a0`, `a1`, `a2` and 2 more");
    }
}
