//! The tree over all leaves and what it proves (decisions.md 10): RFC 6962 hashes in tiles, signed checkpoints, proofs.
//!
//! The pure half knows no disk: `hash`, `tile`, `frontier`, `prove`, `check`, `note`, `checkpoint`, `document`. It refuses
//! every form but the one it writes itself, so that a changed byte is never read as the same proof. The other half keeps the
//! tree of a ledger: `name` says which log it is, `place` holds its tiles, `open` compares them with what was signed,
//! `grow` is the thread that appends, `tree` is what everybody else asks, `accept` begins another log after a loss. `verify`
//! is the auditor's side and uses nothing but the pure half.

mod accept;
mod bundle;
mod check;
mod checkpoint;
mod document;
mod error;
mod frontier;
mod grow;
mod handover;
mod hash;
mod mend;
mod name;
mod note;
mod open;
mod place;
mod prove;
mod tile;
mod tree;
mod verify;

pub use accept::{Accepted, accept_loss};
pub use bundle::{Bundle, BundleFault, Bundled};
pub use check::{extends, includes};
pub use checkpoint::Checkpoint;
pub use document::{ProofDocument, ProofError};
pub use error::TreeError;
pub(crate) use handover::OPERATION as ROTATION;
pub use handover::{Handover, OVERLAP};
pub use hash::TreeHash;
pub(crate) use name::LogName;
pub use note::{LogKey, LogKeys, NoteError, Signer, VerifierKey};
pub(crate) use open::{TreeSetup, open};
pub use tile::TileId;
pub(crate) use tile::{WIDTH, parse_index};
pub use tree::LogView;
pub(crate) use tree::{LastTile, Signed, Tree};
pub use verify::{
    Auditor, Boot, DirMaterial, Fault, Found, Heartbeats, Material, Missing, Unreadable, Verified, verify,
};

#[cfg(test)]
pub(crate) use grow::Grower;
#[cfg(test)]
pub(crate) mod growing;
#[cfg(test)]
mod tests;
