//! What a question names that nothing knows, with the nearest name that something does (experience CL4).

use super::Who;
use super::class::{callers, members};
use crate::{Action, AdminAction, Principal, PrincipalKind, Resource, Snapshot};

/// One sentence for each name of the question that neither entities nor policies know. A workload without an entity is
/// no mistake, it is judged by its id (MO6); it is told only where a known one is near.
#[must_use]
pub fn hints(snapshot: &Snapshot, principal: Option<&Principal>, resource: Option<&Resource>) -> Vec<String> {
    let mut hints = Vec::new();
    if let Some(principal) = principal.filter(|principal| !is_known(snapshot, principal)) {
        let known = callers(snapshot);
        let alike = known.iter().filter_map(|who| match who {
            Who::One(one) if one.kind() == principal.kind() => Some(one.id()),
            Who::One(_) | Who::All { .. } => None,
        });
        hints.extend(nearest(principal.id(), alike).map(|near| {
            format!(
                "`{}` is named nowhere and judged by its id alone; did you mean `{near}`?",
                principal.id()
            )
        }));
    }
    if let Some(resource) = resource.filter(|resource| !snapshot.knows(resource)) {
        let known = members(snapshot);
        let alike = known.iter().filter(|member| member.kind() == resource.kind()).map(Resource::id);
        let near =
            nearest(resource.id(), alike).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        hints.push(format!("`{resource}` is not known{near}"));
    }
    hints
}

/// The action whose id is nearest to what was written.
#[must_use]
pub fn nearest_action(written: &str) -> Option<&'static str> {
    let word = written.rsplit_once("::\"").map_or(written, |(_, id)| id.trim_end_matches('"'));
    let calls = Action::CALLS.iter().map(|action| action.as_str());
    let own = AdminAction::ALL.iter().map(|action| action.as_str());
    nearest(word, calls.chain(own))
}

fn is_known(snapshot: &Snapshot, principal: &Principal) -> bool {
    principal.kind() == PrincipalKind::LocalUser || snapshot.is_distinct(principal)
}

/// Edits between names that are taken for the same: a typing error or two, more in long names.
fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (written.chars().count() / 4).clamp(1, 3);
    // Names whose lengths differ by more cannot be near, and need no look.
    let alike = known.filter(|name| name.len().abs_diff(written.len()) <= most * 4);
    alike
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|(edits, _)| *edits <= most)
        .min()
        .map(|(_, name)| name)
}
