//! One proposed permit, and how it is written.

use crate::{
    Action, Principal, Resource, Snapshot, principal::spiffe_parts, suggest::policy_id, uid::format_uid,
};
use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashSet},
};

/// A least-privilege permit.
#[derive(Debug, Clone)]
pub struct Proposal {
    id: String,
    who: Who,
    actions: BTreeSet<Action>,
    target: Target,
    is_mtls: bool,
    count: u64,
}

/// Whom it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    One(Principal),
    /// Everybody in that group or namespace: type and id.
    In(String, String),
}

/// What it is on.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) resources: Vec<Resource>,
    /// What they are all part of, when there are several: type and id.
    pub(super) whole: Option<(String, String)>,
}

impl Who {
    /// The word in ids: `web` for `spiffe://example.org/web`.
    fn word(&self) -> &str {
        match self {
            Who::One(principal) => match spiffe_parts(principal.id()) {
                Some((_, path)) if !path.is_empty() => path,
                _ => principal.id(),
            },
            Who::In(_, id) => id,
        }
    }

    fn scope(&self) -> String {
        match self {
            Who::One(principal) => format!("principal == {principal}"),
            Who::In(kind, id) => format!("principal is Workload in {}", format_uid(kind, id)),
        }
    }

    fn key(&self) -> (bool, String) {
        match self {
            Who::In(kind, id) => (false, format_uid(kind, id)),
            Who::One(principal) => (true, principal.to_string()),
        }
    }
}

impl PartialOrd for Who {
    fn partial_cmp(&self, other: &Who) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Who {
    fn cmp(&self, other: &Who) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Proposal {
    pub(super) fn new(
        who: Who,
        actions: BTreeSet<Action>,
        target: Target,
        is_mtls: bool,
        count: u64,
    ) -> Proposal {
        Proposal { id: String::new(), who, actions, target, is_mtls, count }
    }

    /// Gives every proposal an id that no policy of `snapshot` and no other proposal has.
    pub(super) fn name(proposals: &mut [Proposal], snapshot: &Snapshot) {
        let mut taken = HashSet::new();
        for proposal in proposals {
            let id = proposal.plain_id();
            let free = |id: &String| snapshot.policy(id).is_none() && !taken.contains(id);
            let numbered = (2..).map(|number| {
                let end = format!("-{number}");
                let room = 128 - end.len();
                let start: String = id.chars().take(room).collect();
                format!("{}{end}", start.trim_end_matches('-'))
            });
            let found = std::iter::once(id.clone()).chain(numbered).find(free);
            proposal.id = found.unwrap_or(id);
            taken.insert(proposal.id.clone());
        }
    }

    fn plain_id(&self) -> String {
        let target = match (&self.target.whole, self.target.resources.first()) {
            (Some((_, id)), _) => id.as_str(),
            (None, Some(resource)) => resource.id(),
            (None, None) => "",
        };
        let actions: Vec<&str> = self.actions.iter().map(|action| action.as_str()).collect();
        policy_id(&["allow", self.who.word(), target, &actions.join("-")])
    }

    /// Its `@id`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How many denials it covers.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The policy.
    #[must_use]
    pub fn text(&self) -> String {
        let uid = |action: &Action| format_uid(action.entity_type(), action.as_str());
        let actions: Vec<String> = self.actions.iter().map(uid).collect();
        let action = match actions.as_slice() {
            [one] => format!("action == {one}"),
            several => format!("action in [{}]", several.join(", ")),
        };
        let mut conditions = Vec::new();
        let resource = match (&self.target.whole, self.target.resources.as_slice()) {
            (None, [one]) => format!("resource == {one}"),
            (whole, several) => {
                let kind = several.first().map(Resource::entity_type).unwrap_or_default();
                let list: Vec<String> = several.iter().map(ToString::to_string).collect();
                conditions.push(format!("resource in [{}]", list.join(", ")));
                match whole {
                    Some((of, id)) => format!("resource is {kind} in {}", format_uid(of, id)),
                    None => format!("resource is {kind}"),
                }
            }
        };
        if self.is_mtls {
            conditions.insert(0, "context.connection.mtls".to_owned());
        }
        let condition = if conditions.is_empty() {
            String::new()
        } else {
            format!("\nwhen {{ {} }}", conditions.join(" && "))
        };
        format!(
            "@id(\"{}\")\npermit (\n  {},\n  {action},\n  {resource}\n){condition};\n",
            self.id,
            self.who.scope()
        )
    }
}
