//! The closed list of reason words (`decisions.md` 5): one word in record, metric, command and API.
//! Words are added, never renamed or reused (RW3). Callers only ever see the class and the status (RW2).

use std::{fmt, str::FromStr};

macro_rules! reasons {
    ($($variant:ident $word:literal $class:ident $http:literal $grpc:literal $text:literal,)*) => {
        /// Why a call was decided as it was.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $text] $variant,)*
        }

        impl Reason {
            /// Every word, in the order of the specification.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The word that stands in records, metrics and answers.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$variant => $word,)* }
            }

            /// What a caller may learn.
            #[must_use]
            pub const fn class(self) -> ReasonClass {
                match self { $(Reason::$variant => ReasonClass::$class,)* }
            }

            /// HTTP status of the refusal (200 for `permit`).
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self { $(Reason::$variant => $http,)* }
            }

            /// gRPC status code of the refusal (0 for `permit`).
            #[must_use]
            pub const fn grpc_code(self) -> u32 {
                match self { $(Reason::$variant => $grpc,)* }
            }

            /// One fixed sentence, for people.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Reason::$variant => $text,)* }
            }
        }

        impl FromStr for Reason {
            type Err = UnknownReason;
            fn from_str(word: &str) -> Result<Self, UnknownReason> {
                match word {
                    $($word => Ok(Reason::$variant),)*
                    other => Err(UnknownReason(other.to_owned())),
                }
            }
        }
    };
}

reasons! {
    Permit "permit" Allowed 200 0 "a permit matched",
    NoPermit "no_permit" Denied 403 7 "no permit matched",
    Forbid "forbid" Denied 403 7 "a forbid matched",
    ForbidError "forbid_error" Denied 403 7 "a forbid could not be evaluated",
    EntityMissing "entity_missing" Denied 403 7 "the policies know nothing of this principal or resource",
    ContextInvalid "context_invalid" Denied 403 7 "a fact of the request violates the schema",
    ContextIncomplete "context_incomplete" Denied 403 7 "a fact that the policies read was not supplied",
    EngineFault "engine_fault" Unavailable 503 14 "the policy engine failed on this call",
    NoPolicy "no_policy" Unavailable 503 14 "no policies have been loaded yet",
    PolicyStale "policy_stale" Unavailable 503 14 "the last policies are older than their limit",
    AuditUnavailable "audit_unavailable" Unavailable 503 14 "the decision could not be recorded as required",
    NoIdentity "no_identity" Unauthenticated 401 16 "the caller presented no certificate",
    IdentityUntrusted "identity_untrusted" Unauthenticated 401 16 "the certificate of the caller is not trusted here",
    IdentityExpired "identity_expired" Unauthenticated 401 16 "the certificate of the caller has expired",
    IdentityRevoked "identity_revoked" Unauthenticated 401 16 "the identity of the caller was revoked",
    TokenInvalid "token_invalid" Unauthenticated 401 16 "the token of the caller is not valid",
    TokenExpired "token_expired" Unauthenticated 401 16 "the token of the caller has expired",
    HopInvalid "hop_invalid" Denied 403 7 "the call claims a relay that may not speak for its caller",
    NotCanonical "not_canonical" Malformed 400 3 "the request is not in canonical form",
    AuthorityMismatch "authority_mismatch" Malformed 421 14 "server name, authority and certificate disagree",
    UnknownRoute "unknown_route" NotFound 404 12 "no route matches this request",
    UnknownMethod "unknown_method" NotFound 404 12 "the service offers no such method",
    UpstreamIdentity "upstream_identity" Unavailable 502 14 "the upstream is not the expected workload",
    RevokedByChange "revoked_by_change" Denied 403 7 "a change of policies or entities ended this stream",
    PathChange "path_change" Denied 403 7 "the network path changed and the call was judged again",
    GateRefused "gate_refused" Denied 403 7 "the gate of this operation said no",
}

impl Reason {
    /// The caller is refused for what came with this call; its connection may have others.
    #[must_use]
    pub const fn is_about_a_token(self) -> bool {
        matches!(self, Reason::TokenInvalid | Reason::TokenExpired)
    }

    /// Whether observe mode may let the call pass all the same (SH4); baseline forbids are the
    /// one further exception, see [`crate::observe`].
    #[must_use]
    pub const fn is_softened_by_observe(self) -> bool {
        matches!(self, Reason::NoPermit | Reason::Forbid)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The only words a caller learns about a refusal (RW2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReasonClass {
    /// The call was allowed.
    Allowed,
    /// Policies say no.
    Denied,
    /// The caller is not known.
    Unauthenticated,
    /// This side cannot decide or record.
    Unavailable,
    /// The request is not well formed.
    Malformed,
    /// Nothing of that name is offered.
    NotFound,
}

impl ReasonClass {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ReasonClass::Allowed => "allowed",
            ReasonClass::Denied => "denied",
            ReasonClass::Unauthenticated => "unauthenticated",
            ReasonClass::Unavailable => "unavailable",
            ReasonClass::Malformed => "malformed",
            ReasonClass::NotFound => "not_found",
        }
    }
}

impl fmt::Display for ReasonClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is not in the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a reason word")]
pub struct UnknownReason(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rw1_every_word_reads_back_and_is_used_once() {
        let mut seen = std::collections::HashSet::new();
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse::<Reason>().unwrap(), *reason);
            assert!(seen.insert(reason.as_str()), "{reason} twice");
        }
        assert_eq!(seen.len(), 26);
        assert_eq!("nope".parse::<Reason>().unwrap_err().to_string(), "`nope` is not a reason word");
    }

    #[test]
    fn rw3_no_word_that_ever_stood_in_a_record_is_renamed_or_means_something_else() {
        // Lines are added, never changed: records with these words are kept for years.
        let known = [
            ("permit", "allowed"),
            ("no_permit", "denied"),
            ("forbid", "denied"),
            ("forbid_error", "denied"),
            ("entity_missing", "denied"),
            ("context_invalid", "denied"),
            ("context_incomplete", "denied"),
            ("engine_fault", "unavailable"),
            ("no_policy", "unavailable"),
            ("policy_stale", "unavailable"),
            ("audit_unavailable", "unavailable"),
            ("no_identity", "unauthenticated"),
            ("identity_untrusted", "unauthenticated"),
            ("identity_expired", "unauthenticated"),
            ("identity_revoked", "unauthenticated"),
            ("token_invalid", "unauthenticated"),
            ("token_expired", "unauthenticated"),
            ("hop_invalid", "denied"),
            ("not_canonical", "malformed"),
            ("authority_mismatch", "malformed"),
            ("unknown_route", "not_found"),
            ("unknown_method", "not_found"),
            ("upstream_identity", "unavailable"),
            ("revoked_by_change", "denied"),
            ("path_change", "denied"),
            ("gate_refused", "denied"),
        ];
        for (word, class) in known {
            let reason: Reason = word.parse().unwrap();
            assert_eq!((reason.as_str(), reason.class().as_str()), (word, class));
        }
        assert_eq!(known.len(), Reason::ALL.len(), "a new word stands in the list above");
    }

    #[test]
    fn statuses_follow_the_table() {
        let table = [
            (Reason::NoPermit, "denied", 403, 7),
            (Reason::NoPolicy, "unavailable", 503, 14),
            (Reason::NoIdentity, "unauthenticated", 401, 16),
            (Reason::NotCanonical, "malformed", 400, 3),
            (Reason::AuthorityMismatch, "malformed", 421, 14),
            (Reason::UnknownRoute, "not_found", 404, 12),
            (Reason::UpstreamIdentity, "unavailable", 502, 14),
        ];
        for (reason, class, http, grpc) in table {
            assert_eq!(
                (reason.class().as_str(), reason.http_status(), reason.grpc_code()),
                (class, http, grpc)
            );
        }
    }
}
