//! A permit for exactly one denied request, with the case that proves it (S27, EX8). Never proposes to remove a forbid.
//! Asked by `portcullis policy suggest`.

mod case;

pub use case::{Expected, case_of};

use crate::{
    Action, Effect, Facts, Principal, Reason, Resource, Snapshot, explain::RequestForExplain,
    principal::spiffe_parts, uid::format_uid,
};
use serde_json::Value;

const ID_CHARS: usize = 128;

/// A permit, and the case that it passes.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// Its id, which no policy of the snapshot has.
    pub id: String,
    /// Its text.
    pub policy: String,
    /// The question as a case of `policy test`, allowed by that permit.
    pub case: Value,
}

/// The least permit under which `question` would be allowed: exactly its principal, action and resource, and the proof
/// of the connection where the call had one.
#[must_use]
pub fn suggestion(snapshot: &Snapshot, question: &RequestForExplain) -> Suggestion {
    let RequestForExplain { principal, action, resource, facts, .. } = question;
    let wished = suggested_id(principal, *action, resource);
    let with = |n: usize| {
        let suffix = format!("-{n}");
        let stem: String = wished.chars().take(ID_CHARS.saturating_sub(suffix.len())).collect();
        format!("{stem}{suffix}")
    };
    let is_free = |id: &String| snapshot.rule(id).is_none();
    // INVARIANT: of as many ids as there are policies, and one more, one is free.
    let all = std::iter::once(wished.clone()).chain((2..=snapshot.policy_count() + 2).map(with));
    let id = all.into_iter().find(is_free).unwrap_or(wished.clone());
    let policy = permit(&id, principal, *action, resource, facts.connection().mtls);
    let expected = Expected {
        effect: Effect::Allow,
        reason: Reason::Permit,
        determining: vec![id.as_str().into()],
        errors: 0,
    };
    let name = format!("{} may {action} {}", caller(principal), resource.id());
    Suggestion { case: case_of(&name, question, &expected), policy, id }
}

/// A permit with `@id` for exactly that principal, action and resource. `mtls` adds the condition that the caller
/// proved itself on the connection. The text parses and validates under the shipped schema.
#[must_use]
pub fn suggest(principal: &Principal, action: Action, resource: &Resource, mtls: bool) -> String {
    permit(&suggested_id(principal, action, resource), principal, action, resource, mtls)
}

fn permit(id: &str, principal: &Principal, action: Action, resource: &Resource, mtls: bool) -> String {
    let action = format_uid(action.entity_type(), action.as_str());
    let condition = if mtls { "\nwhen { context.connection.mtls }" } else { "" };
    format!(
        "@id(\"{id}\")\npermit (\n  principal == {principal},\n  action == {action},\n  resource == {resource}\n){condition};\n"
    )
}

/// `/web` of a SPIFFE id, else the whole id.
fn caller(principal: &Principal) -> &str {
    match spiffe_parts(principal.id()) {
        Some((_, path)) if !path.is_empty() => path.trim_start_matches('/'),
        _ => principal.id(),
    }
}

fn suggested_id(principal: &Principal, action: Action, resource: &Resource) -> String {
    policy_id(&["allow", caller(principal), resource.id(), action.as_str()])
}

/// Words of an id, in its alphabet, joined by `-`.
pub(crate) fn policy_id(words: &[&str]) -> String {
    let mut id = String::new();
    for c in words.join("-").chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' | '.' | '_' => id.push(c),
            _ if id.ends_with('-') => {}
            _ => id.push('-'),
        }
    }
    let id: String = id.chars().take(ID_CHARS).collect();
    id.trim_end_matches('-').to_owned()
}
