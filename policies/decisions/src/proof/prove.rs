//! Proofs from tiles (RFC 6962 2.1.1, 2.1.2).

use super::{
    hash::{TreeHash, perfect},
    tile::{HEIGHT, TileId, WIDTH},
};

/// Where the hashes of a tree come from.
pub(crate) trait Tiles {
    type Error;

    /// At least the first `width` hashes of a tile.
    fn tile(&self, id: TileId, width: usize) -> Result<Vec<TreeHash>, Self::Error>;
}

/// A tree of a size, over tiles that may have grown since.
#[derive(Debug)]
pub(crate) struct Prover<'a, T> {
    tiles: &'a T,
    size: u64,
}

impl<'a, T: Tiles> Prover<'a, T> {
    pub(crate) fn new(tiles: &'a T, size: u64) -> Self {
        Self { tiles, size }
    }

    /// Root of the whole tree.
    pub(crate) fn root(&self) -> Result<TreeHash, T::Error> {
        if self.size == 0 { Ok(TreeHash::of_nothing()) } else { self.range(0, self.size) }
    }

    /// What proves that the leaf at `index`, which is below the size, is in the tree.
    pub(crate) fn inclusion(&self, index: u64) -> Result<Vec<TreeHash>, T::Error> {
        let mut path = Vec::new();
        let (mut low, mut high) = (0, self.size);
        while high - low > 1 {
            let middle = low + split(high - low);
            if index < middle {
                path.push(self.range(middle, high)?);
                high = middle;
            } else {
                path.push(self.range(low, middle)?);
                low = middle;
            }
        }
        path.reverse();
        Ok(path)
    }

    /// What proves that the tree of size `from`, which is not above this one's, is the beginning of this one.
    pub(crate) fn consistency(&self, from: u64) -> Result<Vec<TreeHash>, T::Error> {
        let mut path = Vec::new();
        let (mut low, mut high) = (0, self.size);
        let mut is_whole = true;
        while from > 0 && from < high {
            let middle = low + split(high - low);
            if from <= middle {
                path.push(self.range(middle, high)?);
                high = middle;
            } else {
                path.push(self.range(low, middle)?);
                low = middle;
                is_whole = false;
            }
        }
        if from > 0 && !is_whole {
            path.push(self.range(low, high)?);
        }
        path.reverse();
        Ok(path)
    }

    /// Root over the leaves `low..high`, a subtree of this tree.
    fn range(&self, low: u64, high: u64) -> Result<TreeHash, T::Error> {
        let count = high - low;
        if count.is_power_of_two() {
            return self.node(count.trailing_zeros(), low);
        }
        let middle = low + split(count);
        Ok(TreeHash::of_node(self.range(low, middle)?, self.range(middle, high)?))
    }

    /// The node of that height over the leaves from `first` on.
    fn node(&self, height: u32, first: u64) -> Result<TreeHash, T::Error> {
        let level = height / HEIGHT;
        let (position, count) = (first >> (HEIGHT * level), 1_usize << (height % HEIGHT));
        let id = TileId { level, index: position / WIDTH as u64 };
        let at = usize::try_from(position % WIDTH as u64).unwrap_or(WIDTH);
        let hashes = self.tiles.tile(id, id.width(self.size))?;
        Ok(perfect(hashes.get(at..at + count).unwrap_or_default()))
    }
}

/// The largest power of two below `count`, which is above 1.
fn split(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}
