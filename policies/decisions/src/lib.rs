//! The decision ledger: framed records, sequences, queries.
//!
//! Workers push decisions into lanes of their own; one thread encodes and writes them, another syncs, a third moves
//! them into compressed and indexed segments. Readers read the same files. Nothing is lost silently: what a lane or the disk had no room for, and what a crash may have
//! taken, stands in the ledger as a gap. This crate knows no Cedar and no HTTP but its own query service; it never
//! stores bodies, tokens or keys.
//!
//! Five types to know: [`Ledger`], [`LedgerConfig`], [`StoredRecord`], [`Query`], [`IdPattern`].

mod adopt;
mod aggregate;
mod alarm;
mod archive;
mod bell;
mod budget;
mod cbor;
mod commit;
mod completeness;
mod cursor;
mod dir;
mod error;
mod export;
mod frame;
mod holds;
mod ingest;
mod keeper;
mod lane;
mod leaf;
mod ledger;
mod loss;
mod meter;
mod numbers;
mod pattern;
mod proof;
mod quarantine;
mod query;
mod ranges;
mod recover;
mod redact;
mod reserve;
mod retain;
mod reveal;
mod roll;
mod rollup;
mod scan;
mod selfcheck;
mod service;
mod shelf;
mod side;
mod sight;
mod source;
mod state;
mod sweep;
mod tail;
#[cfg(test)]
mod testing;
mod voucher;
mod walk;
mod writer;

pub use alarm::Alarm;
pub use archive::SegmentLimits;
pub use budget::{Cap, Caps};
pub use cbor::CborError;
pub use commit::{Opening, OpeningError};
pub use cursor::CursorError;
pub use dir::LedgerDir;
pub use error::LedgerError;
pub use frame::BadFrame;
pub use holds::{Hold, HoldError, HoldFilter, HoldRange, NewHold};
pub use ingest::{Ingest, IngestError};
pub use lane::{Pending, Waits};
pub use leaf::{
    Behalf, Body, Decided, DecisionBody, Entity, Gap, GapCause, Heartbeat, Kind, LeafError, LeafFacts,
    Reading, StoredCredential, StoredRecord, StoredVersions, Stream, Truncated, Would, json_text,
};
pub use ledger::{Ledger, LedgerConfig, Stats};
pub use meter::Meter;
pub use pattern::{IdPattern, PatternError};
pub use proof::{
    Accepted, Auditor, Boot, Bundle, BundleFault, Bundled, Checkpoint, DirMaterial, Fault, Found, Handover,
    Heartbeats, LogKey, LogKeys, LogView, Material, Missing, NoteError, OVERLAP, ProofDocument, ProofError,
    Signer, TileId, TreeError, TreeHash, Unreadable, Verified, VerifierKey, accept_loss, extends, includes,
    verify,
};
pub use quarantine::SetAside;
pub use query::{LIMITS, Order, Query, QueryError};
pub use redact::{DropError, DropList, People, Redaction};
pub use retain::Keep;
pub use reveal::{EraseError, Opened};
pub use roll::{Heard, Standing};
pub use scan::{Damage, GetError, Page};
pub use service::{Api, Options, Reader, log_router, router};
pub use sight::{Seen, Sight, Visibility};
pub use state::StateError;
pub use tail::{Tail, TailItem};
pub use voucher::{HeldSvid, Identities, Vouched, Voucher};
pub use walk::Walked;
