//! The growing edge of a tree: what is needed to append leaves and to know the root, at most 255 hashes a level.

use super::{
    hash::{TreeHash, join, perfect},
    tile::{HEIGHT, TileId, WIDTH},
};

/// The tiles of a tree that are not full, one a level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Frontier {
    size: u64,
    levels: Vec<Vec<TreeHash>>,
}

impl Frontier {
    /// The edge of a tree of that size; `read` gives at least the first `width` hashes of a tile.
    pub(crate) fn load<E>(
        size: u64,
        mut read: impl FnMut(TileId, usize) -> Result<Vec<TreeHash>, E>,
    ) -> Result<Self, E> {
        let mut levels = Vec::new();
        let mut count = size;
        while count > 0 {
            let tile =
                TileId { level: u32::try_from(levels.len()).unwrap_or(u32::MAX), index: count >> HEIGHT };
            let width = tile.width(size);
            let mut hashes = if width > 0 { read(tile, width)? } else { Vec::new() };
            hashes.truncate(width);
            levels.push(hashes);
            count >>= HEIGHT;
        }
        Ok(Self { size, levels })
    }

    /// Leaves so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf; `full` receives each tile that it fills.
    pub(crate) fn push(&mut self, leaf: TreeHash, mut full: impl FnMut(TileId, Vec<TreeHash>)) {
        let (mut hash, mut index) = (leaf, self.size);
        for level in 0.. {
            index >>= HEIGHT;
            let at = level as usize;
            if self.levels.len() <= at {
                self.levels.push(Vec::with_capacity(WIDTH));
            }
            let Some(tile) = self.levels.get_mut(at) else { break };
            tile.push(hash);
            if tile.len() < WIDTH {
                break;
            }
            hash = perfect(tile);
            full(TileId { level, index }, std::mem::replace(tile, Vec::with_capacity(WIDTH)));
        }
        self.size += 1;
    }

    /// Root of the tree.
    pub(crate) fn root(&self) -> TreeHash {
        let joined = self.levels.iter().fold(None, |right, level| join(level, right));
        joined.unwrap_or_else(TreeHash::of_nothing)
    }

    /// The tiles that are not full, with what is in them.
    pub(crate) fn partial(&self) -> impl Iterator<Item = (TileId, &[TreeHash])> {
        (0..).zip(&self.levels).filter(|(_, hashes)| !hashes.is_empty()).map(|(level, hashes)| {
            let index = self.size.checked_shr(HEIGHT * (level + 1)).unwrap_or(0);
            (TileId { level, index }, hashes.as_slice())
        })
    }
}
