//! What was mined, as a file of policies and as a summary for people.

use super::{Forbidden, Mined};
use crate::{Principal, principal::spiffe_parts};

/// Groups of forbidden calls that are printed.
const SHOWN: usize = 20;

impl Mined {
    /// The file of policies: every proposal, most denials first told in a comment.
    #[must_use]
    pub fn policies(&self) -> String {
        let mut file = String::from(
            "// Proposed from recorded denials by portcullis policy suggest. Read before use.\n",
        );
        for proposal in &self.proposals {
            let calls = if proposal.count() == 1 {
                "1 denied call".to_owned()
            } else {
                format!("{} denied calls", proposal.count())
            };
            file.push_str(&format!("\n// {calls}\n{}", proposal.text()));
        }
        file
    }

    /// Counts, and what forbids denied. Lines end in LF.
    #[must_use]
    pub fn summary(&self) -> String {
        let counts = &self.counts;
        let mut lines = vec![format!(
            "{} denied calls become {} permits; no forbid is touched",
            counts.denied,
            self.proposals.len()
        )];
        for (count, what) in [
            (counts.allowed_now, "are allowed by the policies in force now"),
            (counts.anonymous, "came from callers who proved nothing: write such permits by hand"),
            (counts.undecided, "lack a fact that policies read, or name what no longer exists"),
            (counts.left_out, "cannot be permitted by any policy, or are too many to hold"),
            (counts.forbidden, "were denied by a forbid:"),
        ] {
            if count > 0 {
                lines.push(format!("{count} {what}"));
            }
        }
        lines.extend(self.forbidden.iter().take(SHOWN).map(forbidden));
        if let Some(more) = self.forbidden.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            lines.push(format!("  and {more} more: -o json shows all"));
        }
        lines.join("\n") + "\n"
    }
}

fn forbidden(one: &Forbidden) -> String {
    let owner = one.owner.as_ref().map(|owner| format!("  owner {owner}")).unwrap_or_default();
    format!(
        "  {}  {} {}  {} calls  {}{owner}  e.g. {}",
        caller(&one.principal),
        one.action,
        one.resource.id(),
        one.count,
        one.policies.join(", "),
        one.example
    )
}

fn caller(principal: &Principal) -> &str {
    let path = spiffe_parts(principal.id()).map(|(_, path)| path.trim_start_matches('/'));
    path.filter(|path| !path.is_empty()).unwrap_or(principal.id())
}
