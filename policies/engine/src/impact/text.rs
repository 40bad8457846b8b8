//! An impact as people read it: counts first, then who loses and who gains what, then what could not be told.

use super::{Cause, Change, Group, Impact, Lacking};
use crate::{DecisionId, Principal, PrincipalKind, Snapshot, principal::spiffe_parts};

/// Groups of one kind that are printed; the document has all.
const SHOWN: usize = 20;

impl Impact {
    /// Lines end in LF. `candidate` tells where its policies stand.
    #[must_use]
    pub fn to_text(&self, candidate: &Snapshot) -> String {
        let counts = [
            ("newly denied", self.allow_to_deny),
            ("newly allowed", self.deny_to_allow),
            ("other reason", self.reason_changed),
            ("undecided", self.undecided),
            ("same", self.same),
        ];
        let width = self.considered.to_string().len();
        let mut lines = vec![format!("{:>width$}  decisions judged again", self.considered)];
        lines.extend(counts.iter().map(|(name, count)| format!("{count:>width$}  {name}")));
        if self.outside > 0 {
            lines.push(format!(
                "{} records are no verdict of policies on a call and were left out",
                self.outside
            ));
        }
        for (change, title) in [
            (Change::AllowToDeny, "allow -> deny"),
            (Change::DenyToAllow, "deny -> allow"),
            (Change::Reason, "other reason"),
        ] {
            let groups: Vec<&Group> = self.groups.iter().filter(|group| group.change == change).collect();
            if !groups.is_empty() {
                lines.push(String::new());
            }
            lines.extend(groups.iter().take(SHOWN).map(|group| line(title, group, candidate)));
            if let Some(more) = groups.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                lines.push(format!("{title}  {more} more groups: -o json shows all"));
            }
        }
        if self.ungrouped > 0 {
            lines.push(format!("{} changed decisions of further callers are not listed", self.ungrouped));
        }
        if !self.lacking.is_empty() {
            lines.push(String::new());
            lines.extend(self.lacking.iter().take(SHOWN).map(lacking));
        }
        lines.join("\n") + "\n"
    }
}

fn line(title: &str, group: &Group, candidate: &Snapshot) -> String {
    let target = group.resource.service().map(|service| format!("{service}  ")).unwrap_or_default();
    let what = format!("{} {}", group.action, group.resource.id());
    let calls = if group.count == 1 { "1 call".to_owned() } else { format!("{} calls", group.count) };
    let caller = caller(&group.principal);
    let example = example(&group.examples);
    let why = why(group, candidate);
    format!("{title}  {caller} -> {target}{what}  {calls}  {example}\n               {why}")
}

fn why(group: &Group, candidate: &Snapshot) -> String {
    let before = cause(&group.before, None);
    let after = cause(&group.after, Some(candidate));
    format!("was {before}; now {after}")
}

fn cause(cause: &Cause, places: Option<&Snapshot>) -> String {
    let place = |id: &std::sync::Arc<str>| match places.and_then(|snapshot| snapshot.policy(id)) {
        Some(policy) => format!("{id} [{}:{}]", policy.file, policy.line),
        None => id.to_string(),
    };
    let policies: Vec<String> = cause.policies.iter().map(place).collect();
    let policies = if policies.is_empty() { String::new() } else { format!(" {}", policies.join(", ")) };
    format!("{}{policies}", cause.reason)
}

fn lacking(lacking: &Lacking) -> String {
    let calls = if lacking.count == 1 {
        "1 record lacks".to_owned()
    } else {
        format!("{} records lack", lacking.count)
    };
    format!(
        "undecided  {} {}  {calls} `{}`  {}",
        lacking.action,
        lacking.resource.id(),
        lacking.fact,
        example(&lacking.examples)
    )
}

fn example(ids: &[DecisionId]) -> String {
    ids.first().map(|id| format!("e.g. {id}")).unwrap_or_default()
}

/// `web` for `spiffe://example.org/web`; the whole id of everybody else.
fn caller(principal: &Principal) -> String {
    let path = spiffe_parts(principal.id()).map(|(_, path)| path.trim_start_matches('/'));
    match (principal.kind(), path.filter(|path| !path.is_empty())) {
        (PrincipalKind::LocalUser, _) => format!("uid {}", principal.id()),
        (_, Some(path)) => path.to_owned(),
        (_, None) => principal.id().to_owned(),
    }
}
