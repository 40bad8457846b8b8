//! The layout people read (EX1): verdict, caller, target; then `why` with the parts, `who`, `fix`.

use super::{
    Candidate, Explanation, PartResult, RequestForExplain, TextOptions,
    cause::{target, what},
};
use crate::{Effect, Principal, PrincipalKind, Reason, Snapshot, principal::spiffe_parts};
use std::fmt::Write;

/// Columns of a part's label, and space after the longest value.
const LABEL: usize = 11;
const GAP: usize = 4;

impl Explanation {
    /// The layout of EX1, ready to print; lines end in LF.
    #[must_use]
    pub fn to_text(&self, request: &RequestForExplain, snapshot: &Snapshot, options: &TextOptions) -> String {
        let mut lines = vec![self.headline(request, snapshot, options)];
        lines.push(format!(" why    {}", self.cause(request, snapshot)));
        for (at, candidate) in self.shown(options).into_iter().enumerate() {
            if at > 0 {
                lines.push(format!("        next: {}", candidate.place.spaced()));
            }
            lines.extend(part_lines(candidate));
        }
        lines.extend(self.differs());
        lines.extend(would(request));
        lines.extend(self.who().map(|who| format!(" who    {who}")));
        if let Some(fix) = super::fix(self.reason, options.decision.as_deref()) {
            let word = |word: &String| match &options.decision {
                Some(id) if id == word => shown_id(id, options),
                _ => word.clone(),
            };
            let command: Vec<String> = fix.command.iter().map(word).collect();
            lines.push(format!(" fix    {}     {}", command.join(" "), fix.note));
        }
        lines.join("\n") + "\n"
    }

    /// The policies whose clauses are printed: the nearest permits, a forbid that failed, with `all` what decided.
    fn shown(&self, options: &TextOptions) -> Vec<&Candidate> {
        let failed = self.errors.iter().map(|failure| &failure.candidate);
        match self.reason {
            Reason::NoPermit => {
                self.nearest.iter().take(if options.all { self.nearest.len() } else { 1 }).collect()
            }
            Reason::ForbidError => failed
                .filter(|of| of.place.effect == Effect::Deny)
                .take(if options.all { 3 } else { 1 })
                .collect(),
            _ if options.all => self.determining.iter().take(3).collect(),
            _ => Vec::new(),
        }
    }

    fn headline(&self, request: &RequestForExplain, snapshot: &Snapshot, options: &TextOptions) -> String {
        let is_observed = request.recorded.as_ref().is_some_and(super::Recorded::is_observed);
        let word = match (is_observed, self.effect) {
            (true, _) => "ALLOW*",
            (false, Effect::Allow) => "ALLOW",
            (false, Effect::Deny) => "DENY",
        };
        let target = target(request, options.service.as_deref());
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

    /// EX6: a verdict that comes out otherwise is told.
    fn differs(&self) -> Option<String> {
        let again = self.recomputed.as_ref().filter(|again| again.is_same == Some(false))?;
        let by = if again.determining.is_empty() {
            String::new()
        } else {
            format!(": {}", again.determining.join(", "))
        };
        Some(format!(
            " differs recorded {}, {}; the same policies now say {}, {}{by}",
            self.effect, self.reason, again.effect, again.reason
        ))
    }

    /// Who to ask, and how often it happened.
    fn who(&self) -> Option<String> {
        let repeats = self.repeats.filter(|repeats| repeats.count > 1).map(|repeats| {
            let more = if repeats.is_more { "more than " } else { "" };
            let since = repeats.since.to_string();
            let since = since.split('.').next().unwrap_or_default().trim_end_matches('Z').to_owned();
            let first = repeats.policies.map(|no| format!(", first by policies v{no}")).unwrap_or_default();
            format!("refused {more}{} times in the last hour, since {since}Z{first}", repeats.count)
        });
        match (self.owner(), repeats) {
            (Some(owner), Some(repeats)) => Some(format!("{owner}; {repeats}")),
            (owner, repeats) => owner.map(str::to_owned).or(repeats),
        }
    }

    /// Of the policy that decided, failed or came nearest.
    pub(super) fn owner(&self) -> Option<&str> {
        let failed = self.errors.first().map(|failure| &failure.candidate);
        let failed = failed.filter(|_| self.reason == Reason::ForbidError);
        let of = self.determining.first().or(failed).or(self.nearest.first())?;
        of.place.owner.as_deref()
    }
}

/// What a shadow policy or a candidate version would have said to a call that was decided by others.
fn would(request: &RequestForExplain) -> Option<String> {
    let recorded = request.recorded.as_ref().filter(|recorded| !recorded.is_observed())?;
    let would = recorded.would.as_ref()?;
    let by = if would.determining.is_empty() {
        String::new()
    } else {
        format!(": {}", would.determining.join(", "))
    };
    let whose = match would.version {
        Some(version) => format!("policies v{version}, in shadow"),
        None => "with the shadow policies".to_owned(),
    };
    Some(format!(" would  {}, {}{by}  ({whose})", would.effect, would.reason))
}

fn part_lines(candidate: &Candidate) -> Vec<String> {
    let widest = candidate.parts.iter().map(|part| part.shown.chars().count()).max().unwrap_or_default();
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
    candidate.parts.iter().map(line).collect()
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

/// `01JD…7Q` on a terminal (EX5).
fn shown_id(id: &str, options: &TextOptions) -> String {
    if !options.shorten || id.chars().count() <= 8 {
        return id.to_owned();
    }
    let first: String = id.chars().take(4).collect();
    let last: String = id.chars().skip(id.chars().count().saturating_sub(2)).collect();
    format!("{first}…{last}")
}
