//! The tree as the rest of the ledger sees it: how far it is signed, and proofs for what is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use base_ports::{Disk, Mono};
use parking_lot::Mutex;

use super::{
    check::{extends, includes},
    checkpoint::Checkpoint,
    document::ProofDocument,
    error::TreeError,
    hash::TreeHash,
    mend::Mending,
    note::{LogKey, Signer, VerifierKey},
    place::Place,
    prove::Prover,
    tile::{TileId, WIDTH},
};
use crate::{LedgerError, bell::Bell, shelf::Shelf};

/// A log as readers of its records are told of it (RE6).
#[derive(Debug, Clone)]
pub struct LogView {
    origin: String,
    tree: Option<Arc<Tree>>,
}

impl LogView {
    /// The log of a tree; without one it has a name and proves nothing.
    pub(crate) fn new(origin: &str, tree: Option<Arc<Tree>>) -> Self {
        Self { origin: origin.to_owned(), tree }
    }

    /// A log that proves nothing.
    #[must_use]
    pub fn named(origin: &str) -> Self {
        Self::new(origin, None)
    }

    /// Its name.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether a signed checkpoint covers the record at that index of the ledger.
    #[must_use]
    pub fn covers(&self, index: u64) -> bool {
        self.tree.as_ref().is_some_and(|tree| (tree.base..tree.covered()).contains(&index))
    }
}

/// A tile that was read.
pub(crate) type LastTile = (TileId, Vec<TreeHash>);

/// The last checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) checkpoint: Checkpoint,
    /// Byte for byte.
    pub(crate) note: String,
}

/// That an earlier tree is the beginning of the last one that was signed.
#[derive(Debug)]
pub(crate) struct Grown {
    pub(crate) signed: Arc<Signed>,
    pub(crate) path: Vec<TreeHash>,
}

/// Shared by the thread that grows the tree and by those who ask for proofs.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) origin: String,
    /// Index in the ledger of the first leaf.
    pub(crate) base: u64,
    pub(crate) place: Place,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) bell: Arc<Bell>,
    signed: Mutex<Option<Arc<Signed>>>,
    /// When records were last all covered, or a checkpoint was signed.
    fresh: Mutex<Option<Mono>>,
    /// Index in the ledger after the last record that a checkpoint covers.
    covered: AtomicU64,
    stop: AtomicBool,
}

impl Tree {
    pub(crate) fn new(
        (origin, base, place): (String, u64, Place),
        signer: Arc<dyn Signer>,
        shelf: Arc<Shelf>,
        disk: Arc<dyn Disk>,
        signed: Option<Signed>,
    ) -> Self {
        let tree = Self {
            origin,
            base,
            place,
            signer,
            shelf,
            disk,
            bell: Arc::default(),
            signed: Mutex::default(),
            fresh: Mutex::default(),
            covered: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        };
        tree.shelf.set_treed(tree.base);
        signed.into_iter().for_each(|signed| tree.put(signed));
        tree
    }

    /// The last checkpoint.
    pub(crate) fn signed(&self) -> Option<Arc<Signed>> {
        self.signed.lock().clone()
    }

    /// A newer checkpoint is on disk.
    pub(crate) fn put(&self, signed: Signed) {
        let covered = self.base + signed.checkpoint.size;
        *self.signed.lock() = Some(Arc::new(signed));
        *self.fresh.lock() = None;
        self.covered.store(covered, Ordering::Release);
        self.shelf.set_treed(covered);
    }

    /// How long records wait for a checkpoint, as seen by one who asks again and again.
    pub(crate) fn unsigned_for(&self, now: Mono) -> Duration {
        let mut fresh = self.fresh.lock();
        let since = *fresh.get_or_insert(now);
        if self.covered() >= self.shelf.synced() {
            *fresh = Some(now);
            return Duration::ZERO;
        }
        now.saturating_since(since)
    }

    /// Index in the ledger after the last record that a checkpoint covers.
    pub(crate) fn covered(&self) -> u64 {
        self.covered.load(Ordering::Acquire)
    }

    /// Keys of the log, the newest first, with the times in which they sign.
    pub(crate) fn keys(&self) -> Vec<(VerifierKey, LogKey)> {
        let keys = self.signer.history().into_iter();
        keys.map(|known| (VerifierKey::new(&self.origin, known.key), known)).collect()
    }

    /// Sign what is there and end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Proves that the record at that index of the ledger is in the tree of the last checkpoint; `None` while no checkpoint
    /// covers it. A path that would not verify is not handed out.
    pub(crate) fn prove(&self, index: u64, leaf: &[u8]) -> Result<Option<ProofDocument>, TreeError> {
        let Some(signed) = self.signed() else { return Ok(None) };
        let proved = self.path(&signed, index, leaf)?;
        Ok(proved.map(|(index, path)| ProofDocument {
            leaf: leaf.to_vec(),
            index,
            path,
            checkpoint: signed.note.clone(),
        }))
    }

    /// Position in the tree of that checkpoint, and the path from there to its root.
    pub(crate) fn path(
        &self,
        signed: &Signed,
        index: u64,
        leaf: &[u8],
    ) -> Result<Option<(u64, Vec<TreeHash>)>, TreeError> {
        let (size, root) = (signed.checkpoint.size, signed.checkpoint.root);
        let Some(at) = index.checked_sub(self.base).filter(|at| *at < size) else { return Ok(None) };
        let path = Prover::new(&self.tiles(), size).inclusion(at)?;
        if includes(TreeHash::of_leaf(leaf), at, &path, size, root) {
            Ok(Some((at, path)))
        } else {
            Err(TreeError::Different { index })
        }
    }

    /// Proves that the log of that size is the beginning of the last checkpoint's; `None` when it is not that large.
    pub(crate) fn consistency(&self, from: u64) -> Result<Option<Grown>, TreeError> {
        let Some(signed) = self.signed().filter(|signed| from <= signed.checkpoint.size) else {
            return Ok(None);
        };
        let (size, root) = (signed.checkpoint.size, signed.checkpoint.root);
        let tiles = self.tiles();
        let (old, path) = (Prover::new(&tiles, from).root()?, Prover::new(&tiles, size).consistency(from)?);
        if extends((from, old), (size, root), &path) {
            Ok(Some(Grown { signed, path }))
        } else {
            Err(TreeError::OtherRoot { size })
        }
    }

    /// What its tile says of the record at that index of the ledger; `None` where it cannot be read. `last` keeps the tile.
    pub(crate) fn leaf_hash(&self, index: u64, last: &mut Option<LastTile>) -> Option<TreeHash> {
        let (at, size) = (index.checked_sub(self.base)?, self.covered().checked_sub(self.base)?);
        let id = TileId { level: 0, index: at / WIDTH as u64 };
        if last.as_ref().is_none_or(|(known, _)| *known != id) {
            let hashes = super::prove::Tiles::tile(&self.place, id, id.width(size)).ok()?;
            *last = Some((id, hashes));
        }
        let (_, hashes) = last.as_ref()?;
        hashes.get(usize::try_from(at % WIDTH as u64).ok()?).copied()
    }

    /// The bytes of a tile of a published size, as `tlog-tiles` serves them.
    pub(crate) fn tile_bytes(&self, id: TileId, width: usize) -> Result<Option<Vec<u8>>, TreeError> {
        let size = self.signed().map_or(0, |signed| signed.checkpoint.size);
        if id.width(size) < width {
            return Ok(None);
        }
        let mut hashes = super::prove::Tiles::tile(&self.tiles(), id, id.width(size))?;
        hashes.truncate(width);
        Ok(Some(super::tile::to_bytes(&hashes)))
    }

    /// Sets aside what cannot be read at an index that is not in the tree.
    pub(crate) fn set_aside(&self, index: u64) -> Result<(), TreeError> {
        match self.shelf.quarantine().admit(&self.shelf, index) {
            Ok(_) => Ok(()),
            Err(LedgerError::Disk { doing, path, source }) => Err(TreeError::Disk { doing, path, source }),
            Err(_) => Err(TreeError::Unread { index }),
        }
    }

    pub(crate) fn tiles(&self) -> Mending<'_> {
        Mending { place: &self.place, shelf: &self.shelf, disk: self.disk.as_ref(), base: self.base }
    }
}
