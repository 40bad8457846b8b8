//! What is put on record: the values that the ledger stores (`decisions.md` 2 and 3).
//! Encoding, ids and sequences are the ledger's; bodies, tokens and keys have no field here (RE5).

use crate::{
    Action, Audit, Decision, Effect, Evaluated, Facts, Mode, PolicyError, Principal, Reason, Resource,
    Versions, Would,
};
use base_ports::{Now, UnixTime};
use std::sync::Arc;

/// One entry of the ledger, before the ledger gives it its id.
#[derive(Debug, Clone)]
pub enum Record {
    /// A verdict on a call.
    Decision(Box<DecisionRecord>),
    /// A snapshot taken into force, refused or rolled back.
    Activation(ActivationRecord),
    /// An event of the identity authority.
    Authority(AuthorityRecord),
    /// Somebody read records.
    Read(ReadRecord),
    /// An administrative write.
    Administration(AdministrationRecord),
}

/// One decision with everything needed to explain it later.
#[derive(Debug, Clone)]
pub struct DecisionRecord {
    /// What happened to the call.
    pub effect: Effect,
    /// Why.
    pub reason: Reason,
    /// A rule id or refusal word behind the reason.
    pub detail: Option<String>,
    /// Narrowest setting that applied.
    pub mode: Mode,
    /// Where in the life of a call.
    pub phase: Phase,
    /// What enforcing, or the shadow policies, would have said.
    pub would: Option<Box<Would>>,
    /// The caller.
    pub principal: Principal,
    /// What the caller proved itself with.
    pub credential: Option<Arc<Credential>>,
    /// What was asked for.
    pub action: Action,
    /// The target.
    pub resource: Resource,
    /// All satisfied policies of the deciding effect.
    pub determining: Arc<[Arc<str>]>,
    /// Policies that could not be evaluated.
    pub errors: Vec<PolicyError>,
    /// What judged it; `None` when no snapshot was ever held.
    pub versions: Option<Arc<Versions>>,
    /// How the verdict was reached.
    pub evaluated: Evaluated,
    /// The snapshot was older than its freshness limit.
    pub stale: bool,
    /// Time spent deciding.
    pub decide_ns: u32,
    /// The facts of the call.
    pub facts: Option<Arc<dyn Facts>>,
    /// Trace context of the call.
    pub trace: Option<Trace>,
    /// How strongly it must be kept.
    pub audit: Audit,
    /// The reading of the clock that the policies saw.
    pub time: Now,
}

impl DecisionRecord {
    /// A record of `decision`; the caller fills in what only it knows.
    #[must_use]
    pub fn new(
        decision: Decision,
        principal: Principal,
        action: Action,
        resource: Resource,
        time: Now,
    ) -> DecisionRecord {
        DecisionRecord {
            effect: decision.effect,
            reason: decision.reason,
            detail: None,
            mode: Mode::Enforce,
            phase: Phase::Request,
            would: decision.would,
            principal,
            credential: None,
            action,
            resource,
            determining: decision.determining,
            errors: decision.errors,
            versions: None,
            evaluated: decision.evaluated,
            stale: false,
            decide_ns: 0,
            facts: None,
            trace: None,
            audit: decision.audit,
            time,
        }
    }
}

macro_rules! phases {
    ($($variant:ident $word:literal $text:literal,)*) => {
        /// Where in the life of a call a decision was made.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Phase { $(#[doc = $text] $variant,)* }

        impl Phase {
            /// The word in records.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Phase::$variant => $word,)* }
            }

            /// The phase of that word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Phase> {
                match word { $($word => Some(Phase::$variant),)* _ => None }
            }
        }
    };
}

phases! {
    Request "request" "A call.",
    Connect "connect" "A connection.",
    Rejudge "rejudge" "A running stream, judged again.",
    Mirror "mirror" "The copy of a call, for another cluster.",
    Admin "admin" "A call of our own API.",
    Issue "issue" "An issuance.",
    Authzen "authzen" "A question over AuthZEN.",
    ExtAuthz "ext_authz" "A question from an Envoy.",
}

/// What the caller proved itself with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its kind.
    pub kind: CredentialKind,
    /// Serial number of a certificate, hex.
    pub serial: Option<String>,
    /// SHA-256 of the leaf or token.
    pub fingerprint: Option<[u8; 32]>,
    /// Key id of the issuer, hex.
    pub issuer: Option<String>,
    /// When it ends.
    pub not_after: Option<UnixTime>,
}

impl Credential {
    /// What the kernel says of a caller on this machine; it has no number and no end.
    #[must_use]
    pub const fn local() -> Credential {
        Credential {
            kind: CredentialKind::Local,
            serial: None,
            fingerprint: None,
            issuer: None,
            not_after: None,
        }
    }

    /// A token, by its `jti`, the id of the key that signed it, and its end.
    #[must_use]
    pub const fn token(jti: Option<String>, key: String, expires: UnixTime) -> Credential {
        Credential {
            kind: CredentialKind::Jwt,
            serial: jti,
            fingerprint: None,
            issuer: Some(key),
            not_after: Some(expires),
        }
    }
}

/// Kind of credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// X.509-SVID.
    X509,
    /// Token.
    Jwt,
    /// Peer credentials of a Unix socket.
    Local,
}

impl CredentialKind {
    /// The word in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            CredentialKind::X509 => "x509",
            CredentialKind::Jwt => "jwt",
            CredentialKind::Local => "local",
        }
    }

    /// The kind of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<CredentialKind> {
        [CredentialKind::X509, CredentialKind::Jwt, CredentialKind::Local]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// W3C trace context of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Trace id.
    pub trace_id: [u8; 16],
    /// Span id.
    pub span_id: [u8; 8],
}

/// A snapshot was taken into force, refused, or rolled back.
#[derive(Debug, Clone)]
pub struct ActivationRecord {
    /// Its versions.
    pub versions: Arc<Versions>,
    /// `activated`, `refused` or `rolled_back`.
    pub outcome: String,
    /// By whom; `None` for this process itself.
    pub principal: Option<Principal>,
    /// Code or text of a refusal.
    pub detail: Option<String>,
    /// When.
    pub time: Now,
}

/// An event of the identity authority: attested, issued, entry written, rotated.
#[derive(Debug, Clone)]
pub struct AuthorityRecord {
    /// `attested`, `issued`, `entry_created`, ...
    pub event: String,
    /// Who caused it.
    pub principal: Option<Principal>,
    /// The identity it is about.
    pub subject: Option<String>,
    /// Serial, entry id and the like, by name.
    pub details: Vec<(String, String)>,
    /// When.
    pub time: Now,
}

/// Somebody read records, or tried to.
#[derive(Debug, Clone)]
pub struct ReadRecord {
    /// Who.
    pub principal: Principal,
    /// What the reader proved itself with.
    pub credential: Option<Arc<Credential>>,
    /// Which call: `list`, `get`, `aggregate`, `export`, `tail`, ...
    pub call: &'static str,
    /// The filter, as given.
    pub query: String,
    /// How many records were returned.
    pub count: u64,
    /// Bytes of the answer.
    pub bytes: u64,
    /// A cap or damage kept something out of the answer.
    pub is_partial: bool,
    /// Code of the problem that was answered instead of records.
    pub failed: Option<String>,
    /// What for, as the reader said.
    pub purpose: Option<String>,
    /// When.
    pub time: Now,
}

impl ReadRecord {
    /// A read that returned nothing yet; the caller fills in the rest.
    #[must_use]
    pub fn new(principal: Principal, call: &'static str, query: String, time: Now) -> ReadRecord {
        ReadRecord {
            principal,
            credential: None,
            call,
            query,
            count: 0,
            bytes: 0,
            is_partial: false,
            failed: None,
            purpose: None,
            time,
        }
    }
}

/// An administrative write: a hold, a retention run, observe switched on.
#[derive(Debug, Clone)]
pub struct AdministrationRecord {
    /// What was done.
    pub operation: String,
    /// By whom; `None` for this process itself.
    pub principal: Option<Principal>,
    /// Parameters by name.
    pub details: Vec<(String, String)>,
    /// When.
    pub time: Now,
}
