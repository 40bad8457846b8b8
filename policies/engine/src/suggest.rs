//! A permit for exactly one denied request (S27, EX8). Never proposes to remove a forbid.

use crate::{Action, Principal, Resource};

/// A permit with `@id` for exactly that principal, action and resource. `mtls` adds the condition that the caller
/// proved itself on the connection.
#[must_use]
pub fn suggest(_principal: &Principal, _action: Action, _resource: &Resource, _mtls: bool) -> String {
    String::new()
}
