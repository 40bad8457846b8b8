//! A set of the blocks of one segment.

/// One bit for each block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    len: usize,
}

const WORD: usize = 64;

impl Bits {
    pub(crate) fn none(len: usize) -> Bits {
        Bits { words: vec![0; len.div_ceil(WORD)], len }
    }

    pub(crate) fn all(len: usize) -> Bits {
        Bits { words: vec![u64::MAX; len.div_ceil(WORD)], len }
    }

    /// Adds a block; one that is not there is passed over.
    pub(crate) fn set(&mut self, block: u64) {
        let Some(at) = usize::try_from(block).ok().filter(|at| *at < self.len) else { return };
        if let Some(word) = self.words.get_mut(at / WORD) {
            *word |= 1 << (at % WORD);
        }
    }

    pub(crate) fn has(&self, at: usize) -> bool {
        at < self.len && self.words.get(at / WORD).is_some_and(|word| word >> (at % WORD) & 1 == 1)
    }

    pub(crate) fn and(&mut self, other: &Bits) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= other);
    }

    pub(crate) fn or(&mut self, other: &Bits) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    #[cfg(test)]
    pub(crate) fn to_vec(&self) -> Vec<usize> {
        (0..self.len).filter(|at| self.has(*at)).collect()
    }
}
