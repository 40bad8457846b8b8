//! Leaf version 1: one record as deterministic CBOR, and the decoded form readers work with (decisions.md 2, 3).
//!
//! The writer thread encodes (`encode`), queries look at single members without decoding the rest (`view`), readers
//! decode (`decode`) and show (`json`). A leaf of another version is refused, never guessed; members this version
//! does not know are kept byte for byte and shown as `extra` (RE9).

mod body;
mod caps;
mod decided;
mod decode;
pub(crate) mod encode;
mod heartbeat;
mod json;
mod view;

pub use body::{Behalf, Body, DecisionBody, Gap, GapCause, Reading, StoredCredential, Would};
pub(crate) use caps::Field;
pub(crate) use decided::Shared;
pub use decided::{Decided, LeafFacts};
pub use decode::LeafError;
pub(crate) use decode::gap as gap_of;
pub use heartbeat::Heartbeat;
pub use json::to_string as json_text;
pub(crate) use json::{acts_on_a_terminal, hex};
pub(crate) use view::{Place, View};

use base_ports::UnixTime;
use bytes::Bytes;
use policies_engine::{DecisionId, Numbers, OwnedFacts, Record, Trace};

use crate::{commit::PRINCIPAL, redact::is_hidden};

/// The version this code writes and the only one it reads.
pub(crate) const VERSION: u64 = 1;

/// Longest leaf this code writes (RE7).
pub(crate) const MAX_LEAF: usize = 32 * 1024;

/// Integer keys of the leaf, chapter 2.
pub(crate) mod key {
    pub(crate) const V: u64 = 0;
    pub(crate) const KIND: u64 = 1;
    pub(crate) const ID: u64 = 2;
    pub(crate) const STREAM: u64 = 3;
    pub(crate) const TIME: u64 = 4;
    pub(crate) const MONO: u64 = 5;
    pub(crate) const EFFECT: u64 = 6;
    pub(crate) const REASON: u64 = 7;
    pub(crate) const MODE: u64 = 8;
    pub(crate) const PHASE: u64 = 9;
    pub(crate) const WOULD: u64 = 10;
    pub(crate) const PRINCIPAL: u64 = 11;
    pub(crate) const CREDENTIAL: u64 = 12;
    pub(crate) const ACTION: u64 = 13;
    pub(crate) const RESOURCE: u64 = 14;
    pub(crate) const SERVICE: u64 = 15;
    pub(crate) const NAMESPACES: u64 = 16;
    pub(crate) const DETERMINING: u64 = 17;
    pub(crate) const ERRORS: u64 = 18;
    pub(crate) const NOTES: u64 = 19;
    pub(crate) const VERSIONS: u64 = 20;
    pub(crate) const ENGINE: u64 = 21;
    pub(crate) const CONNECTION: u64 = 22;
    pub(crate) const REQUEST: u64 = 23;
    pub(crate) const RPC: u64 = 24;
    pub(crate) const JWT: u64 = 25;
    pub(crate) const FORWARDED_BY: u64 = 26;
    pub(crate) const TRACE: u64 = 28;
    pub(crate) const AUDIT: u64 = 29;
    pub(crate) const LOST: u64 = 30;
    pub(crate) const TRUNCATED: u64 = 31;
    /// The rule id or refusal word behind the reason; chapter 5 names it, chapter 2 gives it no number.
    pub(crate) const DETAIL: u64 = 34;
    /// What a record of another kind says (chapter 3), as a map with text keys.
    pub(crate) const BODY: u64 = 40;
}

/// Kind of a record (decisions.md 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(pub(crate) u64);

impl Kind {
    pub(crate) const DECISION: Kind = Kind(1);
    pub(crate) const GAP: Kind = Kind(2);
    pub(crate) const HEARTBEAT: Kind = Kind(3);
    pub(crate) const STREAM_OPEN: Kind = Kind(4);
    pub(crate) const STREAM_CLOSE: Kind = Kind(5);
    pub(crate) const RECOVERY: Kind = Kind(6);
    pub(crate) const ACTIVATION: Kind = Kind(8);
    pub(crate) const AUTHORITY: Kind = Kind(9);
    pub(crate) const READ: Kind = Kind(10);
    pub(crate) const ADMINISTRATION: Kind = Kind(11);

    /// A kind of a later version.
    pub(crate) const UNKNOWN: Kind = Kind(u64::MAX);

    /// The kind of a record that the engine made.
    pub(crate) fn of_record(record: &Record) -> Kind {
        match record {
            Record::Decision(_) => Kind::DECISION,
            Record::Activation(_) => Kind::ACTIVATION,
            Record::Authority(_) => Kind::AUTHORITY,
            Record::Read(_) => Kind::READ,
            Record::Administration(_) => Kind::ADMINISTRATION,
        }
    }

    /// Every kind the format knows: its number, its word, its name in the JSON view.
    const ALL: [(u64, &'static str, &'static str); 13] = [
        (1, "decision", "Decision"),
        (2, "gap", "Gap"),
        (3, "heartbeat", "Heartbeat"),
        (4, "stream_open", "StreamOpen"),
        (5, "stream_close", "StreamClose"),
        (6, "recovery", "Recovery"),
        (7, "refusals", "Refusals"),
        (8, "activation", "Activation"),
        (9, "authority", "Authority"),
        (10, "read", "Read"),
        (11, "administration", "Administration"),
        (12, "oracle_mismatch", "OracleMismatch"),
        (13, "outcome", "Outcome"),
    ];

    /// The words of all kinds, for filters and their suggestions.
    pub fn words() -> impl Iterator<Item = &'static str> {
        Kind::ALL.iter().map(|(_, word, _)| *word)
    }

    /// The kind of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Kind> {
        Kind::ALL.iter().find(|(_, known, _)| *known == word).map(|(number, _, _)| Kind(*number))
    }

    /// The word of filters and metrics; `unknown` for a kind of a later version.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.entry().map_or("unknown", |(_, word, _)| word)
    }

    /// The name in the JSON view.
    fn name(self) -> &'static str {
        self.entry().map_or("Unknown", |(_, _, name)| name)
    }

    fn entry(self) -> Option<(u64, &'static str, &'static str)> {
        Kind::ALL.into_iter().find(|(number, _, _)| *number == self.0)
    }
}

/// One record read back from the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRecord {
    /// Position in the ledger.
    pub index: u64,
    /// The leaf itself, byte for byte.
    pub leaf: Bytes,
    /// Id of the record.
    pub id: DecisionId,
    /// Kind of the record.
    pub kind: Kind,
    /// The numbered stream it came in.
    pub stream: Stream,
    /// Wall clock, the reading the policies saw.
    pub time: UnixTime,
    /// Monotonic nanoseconds since boot.
    pub mono: u64,
    /// Who caused it; the enforcer itself where nobody else did. The id of a person may be a commitment, as text.
    pub principal: Entity,
    /// What judged, where something did.
    pub versions: Option<StoredVersions>,
    /// What the record says.
    pub body: Body,
    /// Records lost in this lane since the one before it.
    pub lost: u64,
    /// Values that were cut, with what is needed to recognise the whole, and those that were left out.
    pub truncated: Vec<Truncated>,
    /// Members this version does not know: name or number, and CBOR bytes.
    pub extra: Vec<(String, Bytes)>,
}

impl StoredRecord {
    /// The decision in it, if it is one.
    #[must_use]
    pub fn decision(&self) -> Option<&DecisionBody> {
        match &self.body {
            Body::Decision(decision) => Some(decision),
            _ => None,
        }
    }

    /// The fields that are not on record as they were: cut, hashed, committed or left out.
    pub fn incomplete(&self) -> impl Iterator<Item = &str> {
        let hidden = is_hidden(&self.principal.kind, &self.principal.id).then_some(PRINCIPAL);
        // Of a token only the person is on record.
        let claims = self.decision().and_then(|decision| decision.behalf.as_ref()).map(|_| "jwt");
        hidden.into_iter().chain(claims).chain(self.truncated.iter().map(|cut| cut.field.as_str()))
    }

    /// Whether the site left that field out.
    pub(crate) fn is_dropped(&self, field: &str) -> bool {
        self.truncated.iter().any(|cut| cut.sha256.is_none() && cut.field == field)
    }

    /// The facts of the call, if it is a decision that has them.
    #[must_use]
    pub fn facts(&self) -> Option<&OwnedFacts> {
        self.decision()?.facts.as_ref()
    }

    /// The trace context of the call.
    #[must_use]
    pub fn trace(&self) -> Option<Trace> {
        self.decision()?.trace
    }
}

/// The stream a record belongs to (SQ2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// SPIFFE id of the enforcer.
    pub enforcer: String,
    /// Configured name, for people.
    pub instance: String,
    /// Random at each start.
    pub boot: [u8; 8],
    /// Lane of the boot.
    pub lane: u16,
    /// Number in the lane, from 1.
    pub seq: u64,
}

/// Type and id of an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// Cedar type, e.g. `Workload`.
    pub kind: String,
    /// Entity id.
    pub id: String,
}

/// The versions behind a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersions {
    /// Epoch, snapshot and policies number.
    pub numbers: Numbers,
    /// SHA-256 of the policy manifest.
    pub manifest: [u8; 32],
    /// SHA-256 of the schema.
    pub schema: [u8; 32],
    /// SHA-256 of the entities.
    pub entities: [u8; 32],
    /// SHA-256 of the routes.
    pub routes: [u8; 32],
    /// Build of the engine.
    pub engine: String,
}

/// A value that was cut to its cap (RE7) or left out (CM2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncated {
    /// Which value, e.g. `request.path`.
    pub field: String,
    /// Its whole length: bytes of a text, members of a set.
    pub length: u64,
    /// SHA-256 of the whole text, or of the CBOR of the whole set; `None` for what the site leaves out.
    pub sha256: Option<[u8; 32]>,
}

#[cfg(test)]
mod tests;
