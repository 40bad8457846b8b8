//! The deny set as marks, for a copy of it in another process (AG-01): what one has and another lacks, and a number by
//! which two are known to be the same. A mark tells nothing of what it denies.

use std::sync::Arc;

use super::{Mark, RevocationSet};

/// Bytes of a mark.
pub const MARK: usize = 16;

impl RevocationSet {
    /// The marks of everything that this set denies and `other` does not.
    pub fn beyond(&self, other: &Self) -> Vec<[u8; MARK]> {
        if Arc::ptr_eq(&self.denied, &other.denied) {
            return Vec::new();
        }
        self.denied.difference(&other.denied).map(|Mark(mark)| *mark).collect()
    }

    /// Denies what these marks stand for.
    pub fn put_marks(&mut self, marks: impl IntoIterator<Item = [u8; MARK]>) {
        Arc::make_mut(&mut self.denied).extend(marks.into_iter().map(Mark));
    }

    /// Takes what these marks stand for off the set.
    pub fn remove_marks(&mut self, marks: impl IntoIterator<Item = [u8; MARK]>) {
        let denied = Arc::make_mut(&mut self.denied);
        for mark in marks {
            denied.remove(&Mark(mark));
        }
    }

    /// Equal sets have equal digests, in whatever order they were made. It tells drift from sameness; it is no proof
    /// against somebody who may choose the marks.
    pub fn digest(&self) -> [u8; MARK] {
        let all = self
            .denied
            .iter()
            .fold(self.denied.len() as u128, |all, Mark(mark)| all ^ u128::from_be_bytes(*mark));
        all.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyId, Revoked};

    fn issuer(n: u8) -> Revoked {
        Revoked::Issuer(KeyId::from_bytes([n; 20]))
    }

    #[test]
    fn a_copy_that_took_the_differences_is_the_same_set() {
        let (mut ours, mut copy) = (RevocationSet::default(), RevocationSet::default());
        ours.extend(&[issuer(1), issuer(2), issuer(3)]);
        copy.extend(&[issuer(3), issuer(4)]);
        assert_ne!(ours.digest(), copy.digest());
        let (put, gone) = (ours.beyond(&copy), copy.beyond(&ours));
        assert_eq!((put.len(), gone.len()), (2, 1));
        copy.put_marks(put);
        copy.remove_marks(gone);
        assert_eq!(ours.digest(), copy.digest());
        assert!([1, 2, 3].map(issuer).iter().all(|what| copy.contains(what)) && !copy.contains(&issuer(4)));
        assert!(ours.beyond(&ours.clone()).is_empty());
        assert_ne!(RevocationSet::default().digest(), ours.digest());
    }
}
