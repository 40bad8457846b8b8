//! What records say, by kind (decisions.md 3).

use std::collections::BTreeMap;

use base_ports::UnixTime;
use bytes::Bytes;
use policies_engine::{Audit, Effect, Mode, OwnedFacts, Trace};

use super::{Entity, Heartbeat, Kind};

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A verdict.
    Decision(Box<DecisionBody>),
    /// Numbers of a lane without a record.
    Gap(Gap),
    /// Every 10 s: the last number taken in each lane.
    Heartbeat(Heartbeat),
    /// A boot began, or signs with another SVID from here on.
    StreamOpen {
        /// Product and version.
        build: String,
        /// Certificates of the SVID that signs the heartbeats that follow, leaf first; empty while none is held.
        chain: Vec<Bytes>,
    },
    /// A boot ended in order.
    StreamClose {
        /// Lane and last number.
        lanes: BTreeMap<u16, u64>,
    },
    /// The boot before this one ended without a close.
    Recovery {
        /// The earlier boot.
        boot: [u8; 8],
        /// Lane, last stored number, reserved upper bound.
        lanes: Vec<(u16, u64, u64)>,
    },
    /// A snapshot was taken into force, refused or rolled back.
    Activation {
        /// `activated`, `refused` or `rolled_back`.
        outcome: String,
        /// Code or text of a refusal.
        detail: Option<String>,
    },
    /// An event of the identity authority.
    Authority {
        /// What happened.
        event: String,
        /// The identity it is about.
        subject: Option<String>,
        /// Serial, entry and the like.
        details: Vec<(String, String)>,
    },
    /// Somebody read records.
    Read(Reading),
    /// An administrative write.
    Administration {
        /// What was done.
        operation: String,
        /// Parameters by name.
        details: Vec<(String, String)>,
    },
    /// A kind of a later version; see the leaf.
    Other,
}

impl Body {
    /// The kind of a record that says this.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Body::Decision(_) => Kind::DECISION,
            Body::Gap(_) => Kind::GAP,
            Body::Heartbeat(_) => Kind::HEARTBEAT,
            Body::StreamOpen { .. } => Kind::STREAM_OPEN,
            Body::StreamClose { .. } => Kind::STREAM_CLOSE,
            Body::Recovery { .. } => Kind::RECOVERY,
            Body::Activation { .. } => Kind::ACTIVATION,
            Body::Authority { .. } => Kind::AUTHORITY,
            Body::Read(_) => Kind::READ,
            Body::Administration { .. } => Kind::ADMINISTRATION,
            Body::Other => Kind::UNKNOWN,
        }
    }
}

/// A read of the ledger, or an attempt (RR4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// Which call; absent in records of before there were several.
    pub call: Option<String>,
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
    /// What the reader proved itself with; absent in records of before it was kept.
    pub credential: Option<StoredCredential>,
}

/// A verdict as it was recorded. Words of open lists stay words, as later versions add some (RW3).
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionBody {
    /// What happened to the call.
    pub effect: Effect,
    /// Why.
    pub reason: String,
    /// Rule id or refusal word behind the reason.
    pub detail: Option<String>,
    /// Narrowest setting that applied.
    pub mode: Mode,
    /// Where in the life of a call.
    pub phase: String,
    /// What enforcing, or the shadow policies, would have said.
    pub would: Option<Would>,
    /// What the caller proved itself with.
    pub credential: Option<StoredCredential>,
    /// What a token beside it told.
    pub behalf: Option<Behalf>,
    /// What was asked for.
    pub action: String,
    /// The target.
    pub resource: Entity,
    /// Service of the target.
    pub service: Option<String>,
    /// Namespace of the called service.
    pub namespace: Option<String>,
    /// Namespace of the caller.
    pub caller_namespace: Option<String>,
    /// All satisfied policies of the deciding effect.
    pub determining: Vec<String>,
    /// Tickets of the determining policies.
    pub tickets: Vec<String>,
    /// Policies that could not be evaluated: id and class.
    pub errors: Vec<(String, String)>,
    /// How the verdict was reached.
    pub evaluated: String,
    /// The snapshot was past its freshness limit.
    pub stale: bool,
    /// Time spent deciding.
    pub decide_ns: u32,
    /// The facts of the call.
    pub facts: Option<OwnedFacts>,
    /// Trace context of the call.
    pub trace: Option<Trace>,
    /// How strongly it was kept.
    pub audit: Audit,
}

/// The other verdict of a shadow or observed decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Would {
    /// Its effect.
    pub effect: Effect,
    /// Its reason.
    pub reason: String,
    /// Its determining policies.
    pub determining: Vec<String>,
    /// Its errors: id and class.
    pub errors: Vec<(String, String)>,
    /// Policies number of a candidate version.
    pub version: Option<u64>,
}

/// What a token of the call told of a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behalf {
    /// Id of the `User`, as it stands on record; none where that is the caller.
    pub id: Option<String>,
    /// The issuer, by its name in the configuration.
    pub issuer: String,
}

/// What a caller proved itself with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCredential {
    /// `x509`, `jwt` or `local`.
    pub kind: String,
    /// Serial number, hex.
    pub serial: Option<String>,
    /// SHA-256 of leaf or token.
    pub fingerprint: Option<[u8; 32]>,
    /// Key id of the issuer, hex.
    pub issuer: Option<String>,
    /// When it ends.
    pub not_after: Option<UnixTime>,
}

/// Numbers of a lane that have no record (SQ3, SQ4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The boot the numbers belong to.
    pub boot: [u8; 8],
    /// The lane of that boot.
    pub lane: u16,
    /// First and last number; `None` when the lost records had no numbers yet.
    pub range: Option<(u64, u64)>,
    /// Whether `count` is exact; after a crash it is an upper bound.
    pub exact: bool,
    /// How many records are missing, or at most.
    pub count: u64,
    /// Why.
    pub cause: GapCause,
    /// When the first of them was lost.
    pub from: Option<UnixTime>,
    /// When the last of them was lost.
    pub to: Option<UnixTime>,
    /// Lost records by effect.
    pub effects: BTreeMap<String, u64>,
    /// Lost records by reason.
    pub reasons: BTreeMap<String, u64>,
}

/// Why records are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GapCause {
    /// The ring of the lane had no room.
    QueueFull,
    /// The disk took no more.
    SpoolFull,
    /// The process or the machine died.
    Crash,
    /// The record could not be encoded.
    Refused,
}

impl GapCause {
    const ALL: [GapCause; 4] = [GapCause::QueueFull, GapCause::SpoolFull, GapCause::Crash, GapCause::Refused];

    /// The word in records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            GapCause::QueueFull => "queue_full",
            GapCause::SpoolFull => "spool_full",
            GapCause::Crash => "crash",
            GapCause::Refused => "refused",
        }
    }

    /// The cause of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<GapCause> {
        GapCause::ALL.into_iter().find(|cause| cause.as_str() == word)
    }
}
