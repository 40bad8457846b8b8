//! Hashes of the tree (RFC 6962 2.1): a leaf and a node are told apart by their first byte.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};

/// Bytes of a hash.
pub(crate) const HASH: usize = 32;

/// SHA-256 of a leaf, a node or a whole tree; shown as base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TreeHash(pub [u8; HASH]);

impl TreeHash {
    /// Of the leaf with these bytes.
    #[must_use]
    pub fn of_leaf(leaf: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&[0]);
        context.update(leaf);
        Self::from_digest(context.finish().as_ref())
    }

    /// Of the node above these two.
    #[must_use]
    pub fn of_node(left: Self, right: Self) -> Self {
        let mut bytes = [1; 1 + 2 * HASH];
        for (to, from) in bytes.iter_mut().skip(1).zip(left.0.iter().chain(&right.0)) {
            *to = *from;
        }
        Self::from_digest(digest(&SHA256, &bytes).as_ref())
    }

    /// Of the tree without leaves.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self::from_digest(digest(&SHA256, &[]).as_ref())
    }

    /// From its base64 form, as notes and proofs carry it.
    pub(crate) fn from_base64(text: &str) -> Option<Self> {
        STANDARD.decode(text).ok()?.try_into().ok().map(Self)
    }

    fn from_digest(bytes: &[u8]) -> Self {
        // INVARIANT: SHA-256 has 32 bytes, so the default is never taken.
        Self(bytes.try_into().unwrap_or_default())
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

/// The root above a power of two of hashes of one level.
pub(crate) fn perfect(hashes: &[TreeHash]) -> TreeHash {
    match hashes {
        [] => TreeHash::of_nothing(),
        [one] => *one,
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            TreeHash::of_node(perfect(left), perfect(right))
        }
    }
}

/// Puts hashes of one level before what is already joined to their right.
pub(crate) fn join(mut hashes: &[TreeHash], mut right: Option<TreeHash>) -> Option<TreeHash> {
    while !hashes.is_empty() {
        let (rest, last) = hashes.split_at(hashes.len() & (hashes.len() - 1));
        let left = perfect(last);
        right = Some(right.map_or(left, |right| TreeHash::of_node(left, right)));
        hashes = rest;
    }
    right
}
