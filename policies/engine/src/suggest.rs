//! A permit for exactly one denied request (S27, EX8). Never proposes to remove a forbid.

mod case;

pub use case::{Expected, case_of};

use crate::{Action, Principal, Resource, principal::spiffe_parts, uid::format_uid};

const ID_CHARS: usize = 128;

/// A permit with `@id` for exactly that principal, action and resource. `mtls` adds the condition that the caller
/// proved itself on the connection. The text parses and validates under the shipped schema.
#[must_use]
pub fn suggest(principal: &Principal, action: Action, resource: &Resource, mtls: bool) -> String {
    let caller = match spiffe_parts(principal.id()) {
        Some((_, path)) if !path.is_empty() => path,
        _ => principal.id(),
    };
    let id = policy_id(&["allow", caller, resource.id(), action.as_str()]);
    let uid =
        (format_uid(action.entity_type(), action.as_str()), principal.to_string(), resource.to_string());
    let condition = if mtls { "\nwhen { context.connection.mtls }" } else { "" };
    format!(
        "@id(\"{id}\")\npermit (\n  principal == {},\n  action == {},\n  resource == {}\n){condition};\n",
        uid.1, uid.0, uid.2
    )
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
