//! Callers that stand alike: nothing that the policies about one target read tells them apart, so one answer is theirs
//! all. A site has thousands of workloads, and its policies tell apart a few hundred kinds of them.

use super::{Who, pair::Pairs};
use crate::{Action, PrincipalKind, Reason, Resource, Snapshot, uid::cedar_uid};
use cedar_policy::{Entity, EntityUid};
use std::collections::{BTreeSet, HashSet};

/// What the policies about one target tell callers apart by, besides their kind and the groups they are in.
pub(super) struct Alike<'a> {
    snapshot: &'a Snapshot,
    /// Named by a policy: only like themselves.
    named: HashSet<&'a EntityUid>,
    /// Attributes that conditions read, `tags` for all tags; `None` when one uses the caller as a whole.
    reads: Option<BTreeSet<String>>,
}

/// The same for callers that stand alike.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Likeness {
    kind: PrincipalKind,
    groups: Vec<EntityUid>,
    values: Vec<String>,
}

impl<'a> Alike<'a> {
    pub(super) fn of(
        snapshot: &'a Snapshot,
        pairs: &mut Pairs<'a>,
        action: Action,
        resource: &Resource,
    ) -> Result<Alike<'a>, Reason> {
        let (resource, _) = snapshot.resource(resource)?;
        let action = snapshot.lineage(cedar_uid(action.entity_type(), action.as_str()));
        let (mut named, mut reads) = (HashSet::new(), Some(BTreeSet::new()));
        for (at, rule) in snapshot.parts().rules.iter().enumerate() {
            let is_about =
                action.matches_action(&rule.scope.action) && resource.matches(&rule.scope.resource);
            if is_about && pairs.is_in_force(rule) {
                named.extend(rule.literals());
                if let Some(tree) = pairs.tree(at, rule) {
                    tree.principal_reads(&mut reads);
                }
            }
        }
        Ok(Alike { snapshot, named, reads })
    }

    /// What `who` shares with all that stand alike; `None` for one that stands alone.
    pub(super) fn likeness(&self, who: &Who) -> Option<Likeness> {
        let (Who::One(principal), Some(reads)) = (who, &self.reads) else { return None };
        let (lineage, derived) = self.snapshot.principal(principal).ok()?;
        if self.named.contains(&lineage.uid) {
            return None;
        }
        let entity = derived.as_ref().or_else(|| self.snapshot.parts().entities.get(&lineage.uid));
        let values = reads.iter().map(|name| value(entity?, name)).collect::<Option<_>>()?;
        let mut groups: Vec<EntityUid> = lineage.all().filter(|uid| **uid != lineage.uid).cloned().collect();
        groups.sort_unstable();
        Some(Likeness { kind: principal.kind(), groups, values })
    }
}

/// What an entity has under that name; `None` when it cannot be told.
fn value(entity: &Entity, name: &str) -> Option<String> {
    let attribute = match entity.attr(name) {
        Some(Ok(value)) => format!("{value:?}"),
        Some(Err(_unknown)) => return None,
        None => String::new(),
    };
    if name != "tags" {
        return Some(attribute);
    }
    let tags = entity.to_json_value().ok()?.get("tags").map(ToString::to_string);
    Some(format!("{attribute} {}", tags.unwrap_or_default()))
}
