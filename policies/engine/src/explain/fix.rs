//! The command that helps, by reason: one that works in that state, or none (EX4).
//! `portcullis` tests that its command line takes every one of them.

use crate::Reason;

/// A command, and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// The words of the command.
    pub command: Vec<String>,
    /// What it does, for people.
    pub note: &'static str,
}

/// What helps against a denial for that reason. `decision` is the full id of the record; what needs one is absent
/// without it. Nothing undoes a forbid, a revocation or a gate: there one asks whoever set it.
#[must_use]
pub fn fix(reason: Reason, decision: Option<&str>) -> Option<Fix> {
    let (words, note): (&[&str], _) = match reason {
        Reason::NoPermit => (
            &["policy", "suggest", decision?],
            "(a minimal permit and its test, and what it would change in the last 24 h)",
        ),
        Reason::ContextInvalid | Reason::ContextIncomplete | Reason::ForbidError => {
            (&["decisions", "get", decision?], "(the facts as they are on record)")
        }
        Reason::EntityMissing | Reason::UnknownMethod => {
            (&["config", "explain", "enforcer.service"], "(how a service and its methods are declared)")
        }
        Reason::UnknownRoute | Reason::UpstreamIdentity => {
            (&["config", "explain", "enforcer.route"], "(how a route is declared)")
        }
        Reason::AuthorityMismatch => {
            (&["config", "explain", "enforcer.listener"], "(which names a listener serves)")
        }
        Reason::NoPolicy | Reason::PolicyStale => {
            (&["check"], "(what keeps the policies from being loaded, and the next command)")
        }
        Reason::AuditUnavailable => {
            (&["check"], "(whether the ledger can be written, and what keeps it from it)")
        }
        Reason::EngineFault => {
            (&["decisions", "get", decision?, "-o", "json"], "(for the report of this fault)")
        }
        Reason::NoIdentity | Reason::IdentityUntrusted => (
            &["svid", "write", "--once", "--dir", "tls"],
            "(on the caller's host: an SVID for the caller to present)",
        ),
        Reason::IdentityExpired => {
            (&["svid", "write", "--dir", "tls"], "(on the caller's host: keeps the files fresh)")
        }
        Reason::Permit
        | Reason::Forbid
        | Reason::IdentityRevoked
        | Reason::TokenInvalid
        | Reason::TokenExpired
        | Reason::HopInvalid
        | Reason::NotCanonical
        | Reason::RevokedByChange
        | Reason::PathChange
        | Reason::GateRefused => return None,
    };
    let command = ["portcullis"].iter().chain(words).map(|word| (*word).to_owned()).collect();
    Some(Fix { command, note })
}
