//! Checking proofs (RFC 9162 2.1.3.2, 2.1.4.2). Pure, and needs nothing but its arguments.

use super::hash::TreeHash;

/// Whether `path` proves that `leaf` stands at `index` in the tree of that size and root.
#[must_use]
pub fn includes(leaf: TreeHash, index: u64, path: &[TreeHash], size: u64, root: TreeHash) -> bool {
    let Some(mut last) = size.checked_sub(1).filter(|last| index <= *last) else { return false };
    let (mut at, mut hash) = (index, leaf);
    for other in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = TreeHash::of_node(*other, hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = TreeHash::of_node(hash, *other);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == root
}

/// Whether `path` proves that the tree `old` (size and root) is the beginning of the tree `new`.
#[must_use]
pub fn extends(old: (u64, TreeHash), new: (u64, TreeHash), path: &[TreeHash]) -> bool {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size == new_size {
        return path.is_empty() && old_root == new_root;
    }
    if old_size > new_size {
        return false;
    }
    if old_size == 0 {
        return path.is_empty() && old_root == TreeHash::of_nothing();
    }
    // A tree that is one whole subtree of the other is not repeated in the proof.
    let begins = old_size.is_power_of_two().then_some(old_root);
    let mut path = begins.iter().chain(path);
    let Some(first) = path.next() else { return false };
    let shift = (old_size - 1).trailing_ones();
    let (mut at, mut last) =
        ((old_size - 1).checked_shr(shift).unwrap_or(0), (new_size - 1).checked_shr(shift).unwrap_or(0));
    let (mut was, mut is) = (*first, *first);
    for other in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            was = TreeHash::of_node(*other, was);
            is = TreeHash::of_node(*other, is);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            is = TreeHash::of_node(is, *other);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && was == old_root && is == new_root
}
