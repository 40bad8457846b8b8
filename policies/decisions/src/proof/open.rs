//! Opening the tree (LG3): its edge from tiles, missing tiles from records, both against the last signed checkpoint.
//!
//! A ledger that is shorter than its checkpoint, or other than it, does not open; nothing is changed then.

use std::{path::Path, sync::Arc};

use base_ports::{Clock, Disk};
use tokio::sync::broadcast::Receiver;

use super::{
    checkpoint::Checkpoint,
    error::TreeError,
    frontier::Frontier,
    grow::Grower,
    hash::{TreeHash, perfect},
    mend::Mending,
    name::LogName,
    note::{Signer, VerifierKey},
    place::Place,
    prove::Tiles,
    tile::{TileId, WIDTH},
    tree::{Signed, Tree},
};
use crate::{shelf::Shelf, writer::Fresh};

/// Leaves before the end that are compared with their tiles at every start.
const COMPARED: u64 = 1 << 16;

/// Tiles written at a time while a whole tree is mended.
const CHUNK: usize = 64;

/// What a tree is opened with.
#[derive(Debug)]
pub(crate) struct TreeSetup<'a> {
    /// Directory of the ledger.
    pub(crate) dir: &'a Path,
    /// Name of the ledger: `example.org/decisions/main`.
    pub(crate) ledger: &'a str,
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) shelf: &'a Arc<Shelf>,
    pub(crate) fresh: Receiver<Fresh>,
}

/// Opens the tree, or begins one.
pub(crate) fn open(setup: TreeSetup<'_>) -> Result<Grower, TreeError> {
    let TreeSetup { dir, ledger, disk, clock, signer, shelf, fresh } = setup;
    let name = match LogName::load(dir, disk.as_ref())? {
        Some(name) => name,
        None => {
            let name = LogName::first(shelf.first_index());
            name.save(dir, disk.as_ref())?;
            name
        }
    };
    let (origin, place) = (name.origin(ledger), Place::new(name.place(dir), Arc::clone(disk)));
    let signed = signed(&place, &origin, name, signer.as_ref())?;
    let mending = Mending { place: &place, shelf, disk: disk.as_ref(), base: name.base };
    let frontier = match &signed {
        Some(signed) => compared(&mending, &signed.checkpoint)?,
        None => Frontier::default(),
    };
    let tree = Tree::new((origin, name.base, place), signer, Arc::clone(shelf), Arc::clone(disk), signed);
    shelf.follow(Arc::clone(&tree.bell));
    Ok(Grower::new(Arc::new(tree), (name, dir.to_owned()), Arc::clone(clock), fresh, frontier))
}

/// The last checkpoint, if one was signed.
fn signed(
    place: &Place,
    origin: &str,
    name: LogName,
    signer: &dyn Signer,
) -> Result<Option<Signed>, TreeError> {
    let path = place.checkpoint_path();
    let Some(note) = place.checkpoint()? else {
        return if name.is_signed { Err(TreeError::NoCheckpoint { path }) } else { Ok(None) };
    };
    // Also one that signs no more: the last checkpoint may be older than the change.
    let keys = signer.history().into_iter();
    let keys: Vec<_> = keys.map(|known| VerifierKey::new(origin, known.key)).collect();
    match Checkpoint::open(&note, &keys) {
        Ok(checkpoint) => Ok(Some(Signed { checkpoint, note: String::from_utf8_lossy(&note).into_owned() })),
        Err(source) => Err(TreeError::Checkpoint { path, source }),
    }
}

/// The edge of the tree that was signed, if tiles and records are those of it.
fn compared(mending: &Mending<'_>, checkpoint: &Checkpoint) -> Result<Frontier, TreeError> {
    let (size, next) = (checkpoint.size, mending.shelf.next_index());
    if mending.base + size > next {
        return Err(TreeError::Shorter { next, size: mending.base + size });
    }
    let mut mended = Vec::new();
    let frontier = Frontier::load(size, |id, width| match mending.place.tile(id, width) {
        Err(TreeError::Tile(_)) => {
            let hashes = mending.computed(id, width)?;
            mended.push((id, hashes.clone()));
            Ok(hashes)
        }
        found => found,
    });
    let frontier = match frontier {
        Ok(frontier) if frontier.root() == checkpoint.root => {
            mending.place.write(&mended)?;
            frontier
        }
        // A damaged tile, or another ledger: the records say which.
        Ok(_) | Err(TreeError::Tile(_)) => return whole(mending, checkpoint),
        Err(error) => return Err(error),
    };
    tail(mending, &frontier)?;
    Ok(frontier)
}

/// Builds the tree again from all records and writes what differs on disk, if it is the one that was signed.
fn whole(mending: &Mending<'_>, checkpoint: &Checkpoint) -> Result<Frontier, TreeError> {
    let (size, other) = (checkpoint.size, TreeError::OtherRoot { size: checkpoint.size });
    if mending.shelf.first_index() > mending.base {
        return Err(other);
    }
    let mut frontier = Frontier::default();
    let end = mending.each(0, size, |_, hash| {
        frontier.push(hash, |_, _| ());
        Ok(())
    })?;
    if end < size || frontier.root() != checkpoint.root {
        return Err(first_other(mending, end)?.map_or(other, |index| TreeError::Different { index }));
    }
    let (mut again, mut changed) = (Frontier::default(), Vec::new());
    mending.each(0, size, |_, hash| {
        again.push(hash, |id, hashes| {
            if mending.place.tile(id, WIDTH).ok().as_ref() != Some(&hashes) {
                changed.push((id, hashes));
            }
        });
        if changed.len() >= CHUNK {
            mending.place.write(&changed)?;
            changed.clear();
        }
        Ok(())
    })?;
    changed.extend(again.partial().map(|(id, hashes)| (id, hashes.to_vec())));
    mending.place.write(&changed)?;
    Ok(again)
}

/// The first record that differs from its tile, index in the ledger.
fn first_other(mending: &Mending<'_>, size: u64) -> Result<Option<u64>, TreeError> {
    let (mut found, mut tile) = (None, Vec::new());
    mending.each(0, size, |at, hash| {
        let id = TileId { level: 0, index: at / WIDTH as u64 };
        if at.is_multiple_of(WIDTH as u64) {
            tile = mending.place.tile(id, id.width(size)).unwrap_or_default();
        }
        let known = usize::try_from(at % WIDTH as u64).ok().and_then(|at| tile.get(at));
        if found.is_none() && known.is_some_and(|known| *known != hash) {
            found = Some(mending.base + at);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Compares the newest records with their tiles.
fn tail(mending: &Mending<'_>, frontier: &Frontier) -> Result<(), TreeError> {
    let size = frontier.size();
    let kept = mending.shelf.first_index().saturating_sub(mending.base).div_ceil(WIDTH as u64);
    let first = (size.saturating_sub(COMPARED) / WIDTH as u64).max(kept);
    for index in first..size.div_ceil(WIDTH as u64) {
        let id = TileId { level: 0, index };
        // What cannot be read is damage of its own, which queries name.
        let Ok(computed) = mending.computed(id, id.width(size)) else { continue };
        match mending.place.tile(id, computed.len()) {
            Ok(stored) if stored.starts_with(&computed) => (),
            // The tile is at fault if the records give what stands above it.
            _ if computed.len() == WIDTH && above(mending, id, size)? == Some(perfect(&computed)) => {
                mending.place.write(&[(id, computed)])?;
            }
            stored => {
                let stored = stored.unwrap_or_default();
                let same = stored.iter().zip(&computed).take_while(|(stored, computed)| stored == computed);
                let at = index * WIDTH as u64 + same.count() as u64;
                return Err(TreeError::Different { index: mending.base + at });
            }
        }
    }
    Ok(())
}

/// What the level above says of a full tile.
fn above(mending: &Mending<'_>, id: TileId, size: u64) -> Result<Option<TreeHash>, TreeError> {
    let parent = TileId { level: id.level + 1, index: id.index / WIDTH as u64 };
    let hashes = mending.tile(parent, parent.width(size))?;
    Ok(usize::try_from(id.index % WIDTH as u64).ok().and_then(|at| hashes.get(at).copied()))
}
