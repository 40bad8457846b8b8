//! What a new snapshot can judge otherwise (EN13): the policies that changed, with their scopes, and the entities that
//! changed. Continuous authorization asks it which of the calls it holds open are to be judged again.

use crate::{Action, Principal, Resource, Snapshot, rule::Rule, uid::cedar_uid};
use cedar_policy::EntityUid;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Everything that changed from one snapshot to another.
#[derive(Debug)]
pub struct Affected {
    old: Changes,
    new: Changes,
    entities: HashSet<EntityUid>,
    /// Another schema: everything is to be judged again.
    is_everything: bool,
}

/// Rules of one snapshot that the other has not, or otherwise.
#[derive(Debug)]
struct Changes {
    snapshot: Arc<Snapshot>,
    rules: Vec<Arc<Rule>>,
}

/// Compares two snapshots.
#[must_use]
pub fn affected(old: &Arc<Snapshot>, new: &Arc<Snapshot>) -> Affected {
    Affected {
        entities: crate::diff::changed_entities(old, new).into_iter().collect(),
        is_everything: old.versions().schema != new.versions().schema,
        old: Changes::of(old, new),
        new: Changes::of(new, old),
    }
}

impl Affected {
    /// Ids of the policies that came, went or read otherwise, sorted.
    #[must_use]
    pub fn policies(&self) -> Vec<Arc<str>> {
        let rules = self.old.rules.iter().chain(&self.new.rules);
        let mut ids: Vec<Arc<str>> = rules.map(|rule| Arc::clone(&rule.id)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Uids of the entities that came, went or are otherwise, sorted.
    #[must_use]
    pub fn entities(&self) -> Vec<String> {
        let mut uids: Vec<String> = self.entities.iter().map(ToString::to_string).collect();
        uids.sort_unstable();
        uids
    }

    /// Whether it tells these two apart.
    #[must_use]
    pub fn is_between(&self, old: &Arc<Snapshot>, new: &Arc<Snapshot>) -> bool {
        Arc::ptr_eq(&self.old.snapshot, old) && Arc::ptr_eq(&self.new.snapshot, new)
    }

    /// Nothing can be judged otherwise.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        !self.is_everything
            && self.entities.is_empty()
            && self.old.rules.is_empty()
            && self.new.rules.is_empty()
    }

    /// Whether that call may be judged otherwise now. A call that is not concerned keeps its verdict.
    #[must_use]
    pub fn concerns(&self, principal: &Principal, action: Action, resource: &Resource) -> bool {
        self.is_everything
            || [&self.old, &self.new]
                .iter()
                .any(|side| side.concern(&self.entities, principal, action, resource))
    }
}

impl Changes {
    fn of(snapshot: &Arc<Snapshot>, other: &Snapshot) -> Changes {
        let known: HashMap<&str, &Arc<Rule>> =
            other.parts().rules.iter().map(|rule| (&*rule.id, rule)).collect();
        let is_same = |rule: &Arc<Rule>| {
            known
                .get(&*rule.id)
                .is_some_and(|twin| Arc::ptr_eq(twin, rule) || crate::diff::is_same_rule(twin, rule))
        };
        let rules = snapshot.parts().rules.iter().filter(|rule| !is_same(rule)).cloned().collect();
        Changes { snapshot: Arc::clone(snapshot), rules }
    }

    fn concern(
        &self,
        entities: &HashSet<EntityUid>,
        principal: &Principal,
        action: Action,
        resource: &Resource,
    ) -> bool {
        // What one side refuses to judge may be what the other one knows.
        let (Ok((caller, _)), Ok((target, _))) =
            (self.snapshot.principal(principal), self.snapshot.resource(resource))
        else {
            return true;
        };
        let lineage = self.snapshot.lineage(cedar_uid(action.entity_type(), action.as_str()));
        caller.all().chain(target.all()).any(|uid| entities.contains(uid))
            || self.rules.iter().any(|rule| {
                caller.matches(&rule.scope.principal)
                    && lineage.matches_action(&rule.scope.action)
                    && target.matches(&rule.scope.resource)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::shop_with;

    const TWO: &str = r#"@id("a") permit (principal == Workload::"spiffe://example.org/web", action == Action::"grpc", resource);
        @id("b") permit (principal, action == Action::"http:GET", resource == Route::"home");"#;

    #[test]
    fn en13_only_calls_in_reach_of_a_change_are_concerned() {
        let (old, new) = (shop_with(TWO), shop_with(&TWO.replace("\"http:GET\"", "\"http:POST\"")));
        let changed = affected(&old, &new);
        assert_eq!((changed.policies(), changed.entities()), (vec![Arc::from("b")], Vec::new()));
        let web = Principal::workload("spiffe://example.org/web");
        let home = Resource::route("home");
        assert!(changed.concerns(&web, Action::HttpGet, &home), "as it was");
        assert!(changed.concerns(&web, Action::HttpPost, &home), "as it is");
        assert!(!changed.concerns(&web, Action::HttpHead, &home));
        assert!(!changed.concerns(&web, Action::Grpc, &Resource::method("shop.Orders/Get")));
        assert!(affected(&old, &old).is_nothing());
        assert!(affected(&old, &shop_with(&format!("\n{TWO}"))).is_nothing(), "moved, no more");
        let forgotten = Resource::route("gone");
        assert!(changed.concerns(&web, Action::HttpGet, &forgotten), "nobody knows it");
    }
}
