//! The difference as people read it: policies first, then one line for each caller and target.

use super::{Caller, Cell, CellKind, ChangeKind, Counts, Difference, LISTED, PolicyChange, Target};
use crate::{Effect, PrincipalKind, ResourceKind, principal::spiffe_parts};
use std::sync::Arc;

impl Difference {
    /// Short and aligned; ends with a line that says whether it widens.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut paragraphs = vec![self.policy_lines(), self.cell_lines()];
        paragraphs.retain(|lines| !lines.is_empty());
        paragraphs.push(vec![self.summary()]);
        let paragraph = |lines: Vec<String>| lines.join("\n") + "\n";
        paragraphs.into_iter().map(paragraph).collect::<Vec<_>>().join("\n")
    }

    fn policy_lines(&self) -> Vec<String> {
        let widest = self.policies.iter().map(|change| change.id.chars().count()).max().unwrap_or_default();
        let line = |change: &PolicyChange| {
            let PolicyChange { id, kind, file, line, parts, .. } = change;
            let effect = if change.effect == Effect::Allow { "permit" } else { "forbid" };
            let (sign, word) = (sign(*kind), kind.as_str());
            let loosens = if change.loosens { "loosens" } else { "" };
            let tail = format!("{}  {loosens}", parts.join(", "));
            let text = format!("{sign} {word:<9} {effect} {id:<widest$}  [{file}:{line}]  {tail}");
            text.trim_end().to_owned()
        };
        self.policies.iter().map(line).collect()
    }

    fn cell_lines(&self) -> Vec<String> {
        let places = self.places();
        let home = home(&self.cells);
        let policy = |id: &Arc<str>| match places.get(&**id) {
            Some((file, line)) => format!("{id} [{file}:{line}]"),
            None => id.to_string(),
        };
        let mut text = Vec::new();
        for Line { cell, callers, targets, actions } in lines(&self.cells, home) {
            let (sign, verb, how) = match cell.kind {
                CellKind::Gains => ('+', "may now call", ""),
                CellKind::Loses => ('-', "may no longer call", ""),
                CellKind::Depends => ('~', "may call", " under other conditions"),
            };
            let (who, what, actions) = (some(&callers), some(&targets), actions.join(", "));
            let policies = cell.policies.iter().map(policy).collect::<Vec<_>>().join(", ");
            let by = if policies.is_empty() { String::new() } else { format!("  by {policies}") };
            text.push(format!("{sign} {who} {verb} {what} ({actions}){how}{by}"));
            text.extend(cell.clause.as_ref().map(|clause| format!("    {clause}")));
        }
        let counts = &self.counts;
        let more = (counts.gains + counts.loses + counts.depends).saturating_sub(self.cells.len());
        if more > 0 {
            text.push(format!("  .. and {more} more; the first {LISTED} are listed"));
        }
        if counts.unexamined > 0 {
            let count = counts.unexamined;
            text.push(format!("  .. and {count} calls were not compared: the change touches too many"));
        }
        text
    }

    fn summary(&self) -> String {
        if self.is_empty() {
            return "no difference".to_owned();
        }
        let kinds = ChangeKind::ALL.into_iter().filter(|kind| self.count(*kind) > 0);
        let policies: Vec<String> =
            kinds.map(|kind| format!("{} {}", self.count(kind), kind.as_str())).collect();
        let policies = if policies.is_empty() { "none".to_owned() } else { policies.join(", ") };
        let Counts { entities, gains, loses, depends, .. } = self.counts;
        let widens = if self.widens { "yes" } else { "no" };
        format!(
            "policies: {policies}; entities: {entities}; calls: {gains} gained, {loses} lost, {depends} depend; widens: {widens}"
        )
    }
}

/// Cells that differ in nothing but caller, target and action, and are all there are of them.
struct Line<'a> {
    /// The first of them.
    cell: &'a Cell,
    callers: Vec<String>,
    targets: Vec<String>,
    actions: Vec<&'static str>,
}

/// What one caller can call, with the actions on each.
type Calls = Vec<(String, Vec<&'static str>)>;

/// Joins actions, then callers with the same calls, then targets with the same actions.
fn lines<'a>(cells: &'a [Cell], home: Option<&str>) -> Vec<Line<'a>> {
    let mut callers: Vec<(&Cell, String, Calls)> = Vec::new();
    for cell in cells {
        let who = caller(&cell.principal, home);
        let calls = entry(
            &mut callers,
            |(first, one, _)| *one == who && is_alike(first, cell),
            || (cell, who.clone(), Vec::new()),
        );
        let what = target(&cell.resource);
        let actions =
            calls.map(|(_, _, calls)| entry(calls, |(one, _)| *one == what, || (what.clone(), Vec::new())));
        actions.flatten().into_iter().for_each(|(_, actions)| actions.push(cell.action.as_str()));
    }
    let mut groups: Vec<(&Cell, Vec<String>, Calls)> = Vec::new();
    for (cell, who, calls) in callers {
        let group = entry(
            &mut groups,
            |(first, _, same)| *same == calls && is_alike(first, cell),
            || (cell, Vec::new(), calls.clone()),
        );
        group.into_iter().for_each(|(_, callers, _)| callers.push(who.clone()));
    }
    let mut lines: Vec<Line<'a>> = Vec::new();
    for (cell, callers, calls) in groups {
        let mut of_group: Vec<Line<'a>> = Vec::new();
        for (what, actions) in calls {
            let line = entry(
                &mut of_group,
                |line| line.actions == actions,
                || Line { cell, callers: callers.clone(), targets: Vec::new(), actions: actions.clone() },
            );
            line.into_iter().for_each(|line| line.targets.push(what.clone()));
        }
        lines.append(&mut of_group);
    }
    lines
}

/// Whether one line can tell both.
fn is_alike(a: &Cell, b: &Cell) -> bool {
    (a.kind, &a.policies, &a.clause, a.may_gain) == (b.kind, &b.policies, &b.clause, b.may_gain)
}

/// The first that `is` so, made where there is none.
fn entry<T>(all: &mut Vec<T>, is: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> Option<&mut T> {
    let at = all.iter().position(is).unwrap_or(all.len());
    if at == all.len() {
        all.push(make());
    }
    all.get_mut(at)
}

/// `a`, `b`, `c` and 4 more.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn sign(kind: ChangeKind) -> char {
    match kind {
        ChangeKind::Added => '+',
        ChangeKind::Removed => '-',
        ChangeKind::Changed => '~',
        ChangeKind::Annotated | ChangeKind::Moved => ' ',
    }
}

/// The trust domain that all named workloads are of: then their paths tell them apart.
fn home(cells: &[Cell]) -> Option<&str> {
    let mut domains = cells.iter().filter_map(|cell| match &cell.principal {
        Caller::One(principal) if principal.kind() == PrincipalKind::Workload => principal.trust_domain(),
        _ => None,
    });
    let first = domains.next()?;
    domains.all(|domain| domain == first).then_some(first)
}

fn caller(caller: &Caller, home: Option<&str>) -> String {
    let with_roles = |name: String, roles: &[crate::Role]| match roles {
        [] => name,
        roles => {
            format!("{name} as {}", roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" and "))
        }
    };
    match caller {
        Caller::One(principal) if principal.kind() == PrincipalKind::Anonymous => "anonymous".to_owned(),
        Caller::One(principal) => {
            let name = match principal.kind() {
                PrincipalKind::LocalUser => format!("local user {}", principal.id()),
                PrincipalKind::Workload => short(principal.id(), home).to_owned(),
                _ => principal.id().to_owned(),
            };
            with_roles(name, principal.roles())
        }
        Caller::Others { kind, trust_domain, roles } => {
            let name = match kind {
                PrincipalKind::Workload => "any other workload",
                PrincipalKind::User => "any other user",
                PrincipalKind::Anonymous => "anonymous",
                PrincipalKind::Agent => "any other agent",
                PrincipalKind::LocalUser => "any other local user",
            };
            let name = match trust_domain {
                Some(domain) => format!("{name} of {domain}"),
                None if *kind == PrincipalKind::Workload => format!("{name} of another trust domain"),
                None => name.to_owned(),
            };
            with_roles(name, roles)
        }
    }
}

/// The path without its slash.
fn short<'a>(id: &'a str, home: Option<&str>) -> &'a str {
    let path = spiffe_parts(id).filter(|(domain, _)| Some(*domain) == home).map(|(_, path)| path);
    path.and_then(|path| path.strip_prefix('/')).unwrap_or(id)
}

fn target(target: &Target) -> String {
    match target {
        Target::One(resource) => match resource.kind() {
            ResourceKind::Route | ResourceKind::Method | ResourceKind::Service | ResourceKind::System => {
                resource.id().to_owned()
            }
            _ => resource.to_string(),
        },
        Target::Others { kind, within } => match within {
            Some(within) => format!("any other {} in {within}", kind.as_str()),
            None => format!("any other {}", kind.as_str()),
        },
    }
}
