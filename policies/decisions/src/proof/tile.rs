//! Tiles: how the hashes of a tree lie in files (C2SP tlog-tiles). A tile holds up to 256 hashes of one level.

use super::hash::{HASH, TreeHash};

/// Hashes of a full tile, and leaves of a full entry bundle.
pub(crate) const WIDTH: usize = 256;

/// Levels of the tree in one tile.
pub(crate) const HEIGHT: u32 = 8;

/// Which tile: hash `n` of it is the root over the leaves of tile `256 * index + n` one level below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TileId {
    /// 0 holds hashes of leaves.
    pub level: u32,
    /// Position in its level.
    pub index: u64,
}

impl TileId {
    /// How many hashes it has in a tree of that size.
    #[must_use]
    pub fn width(self, size: u64) -> usize {
        let count = size.checked_shr(HEIGHT * self.level).unwrap_or(0);
        let before = self.index.saturating_mul(WIDTH as u64);
        usize::try_from(count.saturating_sub(before)).unwrap_or(WIDTH).min(WIDTH)
    }

    /// `0/x001/x234/067`, and `.p/W` behind it where only `width` hashes are there.
    #[must_use]
    pub fn path(self, width: usize) -> String {
        format!("{}/{}", self.level, index_path(self.index, width))
    }
}

/// `x001/x234/067`, with `.p/W` for less than a full tile.
pub(crate) fn index_path(index: u64, width: usize) -> String {
    let mut path = format!("{:03}", index % 1_000);
    let mut rest = index / 1_000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1_000);
        rest /= 1_000;
    }
    if width < WIDTH {
        path.push_str(&format!(".p/{width}"));
    }
    path
}

/// What a path asks for: index and width. `None` for what [`index_path`] does not write.
pub(crate) fn parse_index(path: &str) -> Option<(u64, usize)> {
    let (whole, width) = match path.split_once(".p/") {
        Some((whole, width)) => (whole, width.parse().ok()?),
        None => (path, WIDTH),
    };
    let mut index: u64 = 0;
    for group in whole.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        index = index.checked_mul(1_000)?.checked_add(digits.parse().ok()?)?;
    }
    // One form of each: no signs, no missing zeros, nothing wider than a tile.
    let is_partial = width < WIDTH && width > 0;
    (index_path(index, width) == path && (is_partial || width == WIDTH)).then_some((index, width))
}

/// The bytes of a tile.
pub(crate) fn to_bytes(hashes: &[TreeHash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes in the bytes of a tile that has at least `width` of them.
pub(crate) fn from_bytes(bytes: &[u8], width: usize) -> Option<Vec<TreeHash>> {
    let (hashes, rest) = bytes.as_chunks::<HASH>();
    (rest.is_empty() && hashes.len() >= width).then(|| hashes.iter().copied().map(TreeHash).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vf1_tile_paths_are_those_of_tlog_tiles() {
        assert_eq!(TileId { level: 0, index: 1_234_067 }.path(WIDTH), "0/x001/x234/067");
        assert_eq!(TileId { level: 3, index: 5 }.path(17), "3/005.p/17");
        assert_eq!(parse_index("x001/x234/067"), Some((1_234_067, WIDTH)));
        for bad in
            ["", "1", "01", "x001", "x000/001", "001.p/0", "001.p/256", "001.p/+1", "001.p/01", "+01", "../1"]
        {
            assert_eq!(parse_index(bad), None, "{bad}");
        }
        let tile = TileId { level: 1, index: 1 };
        assert_eq!([65_536, 131_071, 131_072, 1 << 40].map(|size| tile.width(size)), [0, 255, 256, 256]);
    }

    proptest! {
        #[test]
        fn paths_read_back(index in any::<u64>(), width in 1..=WIDTH) {
            prop_assert_eq!(parse_index(&index_path(index, width)), Some((index, width)));
        }
    }
}
