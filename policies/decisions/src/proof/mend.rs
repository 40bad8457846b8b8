//! Tiles that are missing, computed again from the records below them as long as those are there (LG3).

use std::ops::ControlFlow;

use base_ports::Disk;

use super::{
    error::TreeError,
    hash::{TreeHash, perfect},
    place::Place,
    prove::Tiles,
    tile::{TileId, WIDTH},
};
use crate::{LedgerError, shelf::Shelf, source::each_leaf};

/// Tiles of a log, backed by its records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mending<'a> {
    pub(crate) place: &'a Place,
    pub(crate) shelf: &'a Shelf,
    pub(crate) disk: &'a dyn Disk,
    /// Index in the ledger of the first leaf of the log.
    pub(crate) base: u64,
}

impl Mending<'_> {
    /// The first `width` hashes of a tile, from the records.
    pub(crate) fn computed(&self, id: TileId, width: usize) -> Result<Vec<TreeHash>, TreeError> {
        let Some(below) = id.level.checked_sub(1) else {
            let first = id.index * WIDTH as u64;
            let mut hashes = Vec::with_capacity(width);
            self.each(first, first + width as u64, |_, hash| {
                hashes.push(hash);
                Ok(())
            })?;
            return if hashes.len() == width { Ok(hashes) } else { Err(TreeError::Tile(id)) };
        };
        let children = (0..width as u64).map(|n| TileId { level: below, index: id.index * WIDTH as u64 + n });
        children.map(|child| self.tile(child, WIDTH).map(|hashes| perfect(&hashes))).collect()
    }

    /// Gives the hashes of the leaves `from..to` as they stand in the ledger and returns the position after the last
    /// that could be read.
    pub(crate) fn each(
        &self,
        from: u64,
        to: u64,
        mut each: impl FnMut(u64, TreeHash) -> Result<(), TreeError>,
    ) -> Result<u64, TreeError> {
        let mut outcome = Ok(());
        let end = each_leaf(self.shelf, self.disk, self.base + from..self.base + to, |index, leaf| {
            outcome = each(index - self.base, TreeHash::of_leaf(leaf));
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        outcome?;
        end.map(|end| end - self.base).map_err(|error| match error {
            LedgerError::Disk { doing, path, source } => TreeError::Disk { doing, path, source },
            _ => TreeError::Unread { index: self.base + from },
        })
    }
}

impl Tiles for Mending<'_> {
    type Error = TreeError;

    fn tile(&self, id: TileId, width: usize) -> Result<Vec<TreeHash>, TreeError> {
        match self.place.tile(id, width) {
            Err(TreeError::Tile(_)) => self.computed(id, width),
            found => found,
        }
    }
}
