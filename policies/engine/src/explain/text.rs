//! The layout people read (EX1): verdict, caller, target; then `why` with the parts, `who`, `fix`.

use super::{Explanation, Nearest, PartResult, PolicyPlace, RequestForExplain, TextOptions};
use crate::{Action, Effect, Facts, Principal, PrincipalKind, Reason, Snapshot, principal::spiffe_parts};
use std::fmt::Write;

/// Columns of a part's label, and space after the longest value.
const LABEL: usize = 11;
const GAP: usize = 4;

impl Explanation {
    /// The layout of EX1, ready to print; lines end in LF.
    #[must_use]
    pub fn to_text(&self, request: &RequestForExplain, snapshot: &Snapshot, options: &TextOptions) -> String {
        let mut lines = vec![self.headline(request, snapshot, options)];
        let shown = if options.all { self.nearest.len() } else { 1 };
        lines.push(format!(" why    {}", self.why(request, options)));
        for (at, nearest) in self.nearest.iter().take(shown).enumerate() {
            if at > 0 {
                lines.push(format!("        next: {}", place(&nearest.place)));
            }
            lines.extend(part_lines(nearest));
        }
        if let Some(owner) = self.owner() {
            lines.push(format!(" who    {owner}"));
        }
        if let Some(fix) = self.fix(options) {
            lines.push(format!(" fix    {fix}"));
        }
        lines.join("\n") + "\n"
    }

    fn headline(&self, request: &RequestForExplain, snapshot: &Snapshot, options: &TextOptions) -> String {
        let word = match (options.is_observed, self.effect) {
            (true, _) => "ALLOW*",
            (false, Effect::Allow) => "ALLOW",
            (false, Effect::Deny) => "DENY",
        };
        let service = options.service.as_deref().or_else(|| request.resource.service());
        let target = service.unwrap_or_else(|| request.resource.id());
        let mut line = format!("{word}  {} -> {target}  {}", caller(&request.principal), what(request));
        let mut add = |text: String| {
            line.push_str("   ");
            line.push_str(&text);
        };
        options.age.iter().for_each(|age| add(age.clone()));
        options.decision.iter().for_each(|id| add(format!("decision {}", shown_id(id, options))));
        let enforcer =
            options.enforcer.as_ref().map(|name| format!(" (enforcer {name})")).unwrap_or_default();
        add(format!("policies v{}{enforcer}", snapshot.versions().numbers.policies));
        line
    }

    fn why(&self, request: &RequestForExplain, options: &TextOptions) -> String {
        let why = self.cause(request);
        if options.is_observed { format!("observe mode; would deny: {why}") } else { why }
    }

    fn cause(&self, request: &RequestForExplain) -> String {
        let list = |places: &[PolicyPlace]| places.iter().map(single_spaced).collect::<Vec<_>>().join(", ");
        match self.reason {
            Reason::Permit if !self.determining.is_empty() => {
                let ids: Vec<&str> = self.determining.iter().map(|place| &*place.policy).collect();
                format!("permit matched: {}", ids.join(", "))
            }
            Reason::Forbid if !self.determining.is_empty() => {
                format!("forbid matched: {}", list(&self.determining))
            }
            Reason::ForbidError => {
                let forbids = self.errors.iter().filter(|(place, _, _)| place.effect == Effect::Deny);
                let told: Vec<String> =
                    forbids.map(|(place, _, why)| format!("{}: {why}", place.policy)).collect();
                format!("forbid could not be evaluated: {}", told.join("; "))
            }
            Reason::NoPermit => match self.nearest.first() {
                Some(nearest) => format!("no permit matched; nearest: {}", place(&nearest.place)),
                None => "no permit matched, and none is near".to_owned(),
            },
            Reason::NoIdentity => {
                let listener = &request.facts.connection().listener;
                format!("the caller presented no certificate; listener {listener} requires one")
            }
            other => other.sentence().to_owned(),
        }
    }

    fn owner(&self) -> Option<&str> {
        let nearest = self.nearest.first().map(|nearest| &nearest.place);
        self.determining.first().or(nearest).and_then(|place| place.owner.as_deref())
    }

    fn fix(&self, options: &TextOptions) -> Option<String> {
        let id = options.decision.as_deref().filter(|_| self.reason == Reason::NoPermit)?;
        let note = "(a minimal permit and its test, and what it would change in the last 24 h)";
        Some(format!("portcullis policy suggest {}     {note}", shown_id(id, options)))
    }
}

fn part_lines(nearest: &Nearest) -> Vec<String> {
    let widest = nearest.parts.iter().map(|part| part.shown.chars().count()).max().unwrap_or_default();
    let line = |part: &super::Part| {
        let mut line = format!("          {:LABEL$}{:width$}", part.name, part.shown, width = widest + GAP);
        let told = match &part.result {
            PartResult::Matched => write!(line, "matched"),
            PartResult::Failed(why) => write!(line, "failed: {why}"),
            PartResult::Error(why) => write!(line, "error: {why}"),
            PartResult::NotReached => write!(line, "not reached"),
        };
        match told {
            Ok(()) | Err(std::fmt::Error) => line,
        }
    };
    nearest.parts.iter().map(line).collect()
}

/// `web` for `spiffe://example.org/web`; the whole id of everybody else.
fn caller(principal: &Principal) -> String {
    let path = spiffe_parts(principal.id())
        .map(|(_, path)| path.trim_start_matches('/'))
        .filter(|path| !path.is_empty());
    match (principal.kind(), path) {
        (PrincipalKind::Anonymous, _) => "anonymous".to_owned(),
        (PrincipalKind::LocalUser, _) => format!("uid {}", principal.id()),
        (_, Some(path)) => path.to_owned(),
        (_, None) => principal.id().to_owned(),
    }
}

fn what(request: &RequestForExplain) -> String {
    match (request.action, Facts::request(&request.facts)) {
        (Action::Admin(action), _) => format!("{} {}", action.as_str(), request.resource.id()),
        (_, Some(view)) => format!("{} {}", view.method, view.path),
        (action, None) => format!("{action} {}", request.resource.id()),
    }
}

fn place(place: &PolicyPlace) -> String {
    format!("{}  [{}:{}]", place.policy, place.file, place.line)
}

fn single_spaced(place: &PolicyPlace) -> String {
    format!("{} [{}:{}]", place.policy, place.file, place.line)
}

/// `01JD…7Q` on a terminal (EX5).
fn shown_id(id: &str, options: &TextOptions) -> String {
    if !options.shorten || id.chars().count() <= 8 {
        return id.to_owned();
    }
    let first: String = id.chars().take(4).collect();
    let last: String = id.chars().skip(id.chars().count().saturating_sub(2)).collect();
    format!("{first}…{last}")
}
