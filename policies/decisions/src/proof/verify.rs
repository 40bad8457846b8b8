//! `decisions verify`: whether a ledger is what was signed, and whether it is complete (VF6, SQ4).
//!
//! One pass over all records: frames, form of the leaf, every tile, root against checkpoint, the kept checkpoint, numbers
//! of every stream against gaps and heartbeats, activation of every version that judged. It trusts the verifier key and
//! the checkpoint that the auditor kept, and nothing of the ledger. Where the ledger lies is behind [`Material`].

mod boots;
mod complete;
mod dir;
mod leaves;

use base_ports::{Rng, UnixTime};
use bytes::Bytes;

use super::{
    check::extends,
    checkpoint::Checkpoint,
    hash::TreeHash,
    note::{NoteError, VerifierKey},
    prove::{Prover, Tiles},
    tile::{TileId, from_bytes},
};
use crate::{
    leaf::{Body, Kind, StoredRecord, View},
    proof::{Handover, ROTATION},
    quarantine::SetAside,
    voucher::Identities,
};
pub use boots::{Boot, Heartbeats};
pub use complete::Missing;
pub use dir::DirMaterial;
use leaves::Pass;

/// One record as it was found.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Its position in the ledger.
    pub index: u64,
    /// Its bytes.
    pub leaf: &'a [u8],
    /// Where it was read.
    pub file: &'a str,
    /// At which byte of it.
    pub offset: u64,
}

/// The parts of a ledger, wherever they lie.
pub trait Material {
    /// The last checkpoint, byte for byte.
    ///
    /// # Errors
    /// It cannot be read.
    fn checkpoint(&self) -> Result<Vec<u8>, Unreadable>;

    /// Index in the ledger of the first leaf of the log.
    fn base(&self) -> u64;

    /// Name and bytes of a tile of that width, or of a wider one; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read.
    fn tile(&self, id: TileId, width: usize) -> Result<Option<(String, Vec<u8>)>, Unreadable>;

    /// Gives the records in order. It ends with what is damaged, if anything is.
    ///
    /// # Errors
    /// They cannot be read at all.
    fn leaves(&self, each: &mut dyn FnMut(Found<'_>)) -> Result<Option<Fault>, Unreadable>;
}

/// Why nothing can be said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Unreadable {
    /// What was to be read.
    pub what: String,
    /// What stood in the way.
    pub why: String,
}

/// Something that is not as it was signed, or not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The first bad index, where one is known.
    pub index: Option<u64>,
    /// In which file.
    pub file: Option<String>,
    /// At which byte of it.
    pub offset: Option<u64>,
    /// What is wrong, and what was expected.
    pub what: String,
}

impl Fault {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { index: None, file: None, offset: None, what: what.into() }
    }

    pub(crate) fn at(index: u64, file: &str, offset: u64, what: impl Into<String>) -> Self {
        Self { index: Some(index), file: Some(file.to_owned()), offset: Some(offset), what: what.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(index) = self.index {
            write!(f, "index {index}: ")?;
        }
        f.write_str(&self.what)?;
        match (&self.file, self.offset) {
            (Some(file), Some(offset)) => write!(f, " (`{file}` at byte {offset})"),
            (Some(file), None) => write!(f, " (`{file}`)"),
            _ => Ok(()),
        }
    }
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Name of the log.
    pub origin: String,
    /// Records that the checkpoint covers.
    pub size: u64,
    /// Time of the last of them.
    pub time: Option<UnixTime>,
    /// Index of the first record that is kept.
    pub first: u64,
    /// Records read.
    pub read: u64,
    /// Of these, behind the checkpoint: not yet proved.
    pub uncovered: u64,
    /// Size of the kept checkpoint, when it is a beginning of this log.
    pub since: Option<u64>,
    /// Enforcers.
    pub enforcers: usize,
    /// Streams.
    pub streams: usize,
    /// Changes of the key of the log, in order.
    pub keys: Vec<Handover>,
    /// What enforcers said of themselves.
    pub heartbeats: Heartbeats,
    /// Declared gaps.
    pub gaps: Vec<Missing>,
    /// What could not be read before a checkpoint covered it, and was set aside.
    pub quarantined: Vec<SetAside>,
    /// Numbers of streams that are nowhere, no more than were set aside: the process, its lane, the first and the last.
    pub unplaced: Vec<(String, u16, u64, u64)>,
    /// Lowest and highest version of the policies that judged.
    pub versions: Option<(u64, u64)>,
    /// Decisions among the records.
    pub decisions: u64,
    /// Those that were drawn: index and leaf.
    pub sample: Vec<(u64, Bytes)>,
    /// What is wrong, the first first.
    pub faults: Vec<Fault>,
}

impl Verified {
    /// Whether nothing was changed.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.faults.is_empty()
    }

    /// Whether nothing is missing: no gap, nothing set aside, nobody fell silent, and, where authorities are trusted, every
    /// enforcer's last word is signed by it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let told = &self.heartbeats;
        let is_vouched = !told.is_anchored || told.unvouched.is_empty();
        self.gaps.is_empty()
            && self.quarantined.is_empty()
            && told.silences.is_empty()
            && told.open_ended.is_empty()
            && is_vouched
    }
}

/// What an auditor has, and trusts.
#[derive(Clone, Copy)]
pub struct Auditor<'a> {
    /// Verifier keys of the log.
    pub keys: &'a [VerifierKey],
    /// A checkpoint that was kept.
    pub since: Option<&'a [u8]>,
    /// Who tells whether a heartbeat is its enforcer's.
    pub identities: &'a dyn Identities,
    /// The time of the verification, for a log that is written to; of one that is not, the newest record tells.
    pub now: Option<UnixTime>,
    /// How many decisions are drawn, to be recomputed, and by which chance.
    pub sample: (usize, &'a dyn Rng),
}

/// Verifies a ledger with what an auditor has.
///
/// # Errors
/// When something cannot be read; what is changed is part of the answer.
pub fn verify(material: &dyn Material, auditor: &Auditor<'_>) -> Result<Verified, Unreadable> {
    let mut verified = Verified::default();
    let note = material.checkpoint()?;
    let (followed, last_change) = match Checkpoint::open(&note, auditor.keys) {
        Err(NoteError::Unsigned) => followed(material, auditor.keys)?,
        _ => (auditor.keys.to_vec(), None),
    };
    let (keys, since) = (followed.as_slice(), auditor.since);
    let checkpoint = match Checkpoint::open(&note, keys) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            let mut fault = Fault::new(format!("checkpoint: {error}"));
            fault.file = Some("checkpoint".to_owned());
            verified.faults.push(fault);
            return Ok(verified);
        }
    };
    let kept = match since.map(|since| Checkpoint::open(since, keys)).transpose() {
        Ok(kept) => kept,
        Err(error) => return Err(unreadable("the kept checkpoint", &error)),
    };
    if let Some(kept) = &kept {
        if kept.origin != checkpoint.origin {
            return Err(unreadable("the kept checkpoint", &NoteError::OtherLog));
        }
        if kept.size > checkpoint.size {
            let what = format!(
                "the checkpoint covers {} records and is older than the kept one, which covers {}",
                checkpoint.size, kept.size
            );
            verified.faults.push(Fault { file: Some("checkpoint".to_owned()), ..Fault::new(what) });
        }
    }
    // What leads to the key that signed must itself be signed.
    if let Some(index) = last_change.filter(|index| *index >= material.base() + checkpoint.size) {
        let fault = Fault::new("the checkpoint does not cover the change to the key that signed it");
        verified.faults.push(Fault { index: Some(index), ..fault });
    }
    (verified.origin, verified.size) = (checkpoint.origin.clone(), checkpoint.size);
    let mut pass = Pass::new(material, &checkpoint, kept.as_ref(), auditor, &mut verified);
    let damage = material.leaves(&mut |found| pass.take(found))?;
    pass.end(damage)?;
    if let Some(kept) = kept.filter(|kept| kept.size <= checkpoint.size) {
        // Records before the first one kept are gone; the tiles over them are not.
        if verified.since.is_none() && kept.size + material.base() <= verified.first {
            match by_tiles(material, &kept, &checkpoint)? {
                true => verified.since = Some(kept.size),
                false => verified.faults.push(forked(&kept)),
            }
        }
    }
    verified.heartbeats.is_anchored = auditor.identities.is_anchored();
    verified.faults.sort_by_key(|fault| fault.index.unwrap_or(u64::MAX));
    Ok(verified)
}

/// The keys that were given and those they handed over to, one after the other, with the index of the last change.
fn followed(
    material: &dyn Material,
    keys: &[VerifierKey],
) -> Result<(Vec<VerifierKey>, Option<u64>), Unreadable> {
    let (mut keys, mut last) = (keys.to_vec(), None);
    // What is damaged is told by the pass over all records.
    material.leaves(&mut |found| {
        let change = View::of(found.leaf).ok().filter(|view| view.kind() == Kind::ADMINISTRATION);
        let record = change.and_then(|_| StoredRecord::decode(found.index, found.leaf.to_vec().into()).ok());
        if let Some(Body::Administration { operation, details }) = record.map(|record| record.body)
            && operation == ROTATION
            && let Some(change) = Handover::told(&details).filter(|change| keys.contains(&change.old))
        {
            keys.push(change.new);
            last = Some(found.index);
        }
    })?;
    Ok((keys, last))
}

/// That the tree of a kept checkpoint is not the beginning of this one.
fn forked(kept: &Checkpoint) -> Fault {
    let what = format!(
        "the tree is not the one of the kept checkpoint: its first {} records must have the root {}",
        kept.size, kept.root
    );
    Fault::new(what)
}

fn by_tiles(material: &dyn Material, kept: &Checkpoint, checkpoint: &Checkpoint) -> Result<bool, Unreadable> {
    let tiles = Stored(material);
    let path = Prover::new(&tiles, checkpoint.size).consistency(kept.size)?;
    Ok(extends((kept.size, kept.root), (checkpoint.size, checkpoint.root), &path))
}

/// Tiles as they are stored; what is missing is unreadable.
struct Stored<'a>(&'a dyn Material);

impl Tiles for Stored<'_> {
    type Error = Unreadable;

    fn tile(&self, id: TileId, width: usize) -> Result<Vec<TreeHash>, Unreadable> {
        let stored = self.0.tile(id, width)?;
        stored.and_then(|(_, bytes)| from_bytes(&bytes, width)).ok_or_else(|| Unreadable {
            what: format!("tile/{}", id.path(width)),
            why: "it is missing or has not the length of a tile".to_owned(),
        })
    }
}

fn unreadable(what: &str, why: &dyn std::fmt::Display) -> Unreadable {
    Unreadable { what: what.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests;
