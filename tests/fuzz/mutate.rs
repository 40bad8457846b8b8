//! Mutations that know what protocols are made of: words, lines, numbers, lengths, and parts of other inputs.

/// Makes the next input; the same start gives the same inputs.
pub(super) struct Mutator {
    state: u64,
    words: &'static [&'static str],
}

/// Numbers that are at an edge.
const EDGES: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x3fff, 0x4000, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX >> 1];

impl Mutator {
    pub(super) fn new(seed: u64, words: &'static [&'static str]) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, words }
    }

    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.random() >> 16).unwrap_or(0) % most.max(1)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.random() & 0xff).unwrap_or_default()
    }

    /// One of the inputs, changed a few times.
    pub(super) fn next(&mut self, kept: &[Vec<u8>]) -> Vec<u8> {
        let nth = self.below(kept.len());
        let mut input = kept.get(nth).cloned().unwrap_or_default();
        for _ in 0..=self.below(4) {
            self.change(&mut input, kept);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, kept: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let most = if self.below(4) == 0 { 600 } else { 8 };
        let length = 1 + self.below(most);
        let end = input.len().min(at + length);
        match self.below(12) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << (self.state & 7);
                }
            }
            1 => {
                let new = self.byte();
                if let Some(byte) = input.get_mut(at) {
                    *byte = new;
                }
            }
            2 => drop(input.drain(at..end)),
            3 => {
                let part: Vec<u8> = input[at..end].to_vec();
                let most = if self.below(8) == 0 { 200 } else { 3 };
                let times = 1 + self.below(most);
                input.splice(at..at, part.repeat(times));
            }
            4 => {
                let part: Vec<u8> = (0..length).map(|_| self.byte()).collect();
                input.splice(at..at, part);
            }
            5 | 6 if !self.words.is_empty() => {
                let word = self.words[self.below(self.words.len())];
                let until = if self.below(2) == 0 { at } else { end };
                // Words stand for bytes, one character each.
                input.splice(
                    at..until,
                    word.chars().map(|byte| u8::try_from(u32::from(byte)).unwrap_or(b'?')),
                );
            }
            7 => {
                // The head of one input and the tail of another.
                let nth = self.below(kept.len());
                if let Some(other) = kept.get(nth) {
                    let from = self.below(other.len() + 1);
                    input.truncate(at);
                    input.extend_from_slice(&other[from..]);
                }
            }
            8 => input.truncate(at),
            9 => {
                // A number in a field of one, two, four or eight bytes.
                let edge = EDGES[self.below(EDGES.len())].to_be_bytes();
                let size = 1 << self.below(4);
                for (place, byte) in input.iter_mut().skip(at).zip(&edge[8 - size..]) {
                    *place = *byte;
                }
            }
            10 => {
                // Digits of a number.
                let edge = EDGES[self.below(EDGES.len())];
                let text = if self.below(2) == 0 { format!("{edge}") } else { format!("{edge:x}") };
                input.splice(at..end, text.into_bytes());
            }
            _ => {
                let to = self.below(input.len() + 1);
                let part: Vec<u8> = input[at..end].to_vec();
                input.splice(to..to, part);
            }
        }
    }
}
