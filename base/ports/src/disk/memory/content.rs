//! The bytes of one simulated file: as the process sees them, and as they would be after a power loss.

use super::Survive;

const SECTOR: usize = 512;

/// Bytes of a file that is appended to and cut.
#[derive(Debug, Default, Clone)]
pub(super) struct Content {
    bytes: Vec<u8>,
    /// Length of the prefix that is on the platter.
    synced: usize,
    /// What is on the platter when synced bytes were cut and the cut was not synced.
    before: Option<Vec<u8>>,
}

impl Content {
    /// A file that is wholly on the platter.
    pub(super) fn synced(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), synced: bytes.len(), before: None }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn sync(&mut self) {
        self.synced = self.bytes.len();
        self.before = None;
    }

    pub(super) fn truncate(&mut self, len: usize) {
        if len < self.synced {
            let platter = self.bytes.get(..self.synced).unwrap_or(&self.bytes).to_vec();
            self.before.get_or_insert(platter);
            self.synced = len;
        }
        self.bytes.truncate(len);
    }

    pub(super) fn flip(&mut self, at: usize, bit: u8) {
        if let Some(byte) = self.bytes.get_mut(at) {
            *byte ^= 1 << (bit % 8);
        }
    }

    pub(super) fn lose_unsynced(&mut self, kept: usize) {
        self.bytes.truncate(self.synced.saturating_add(kept));
        self.sync();
    }

    pub(super) fn lose_power(&mut self, coin: &mut Coin) {
        match self.before.take() {
            Some(before) if !coin.keeps() => self.bytes = before,
            _ => {
                let length = coin.length(self.synced, self.bytes.len());
                self.bytes.truncate(length);
                let unsynced = self.bytes.get_mut(self.synced..).unwrap_or(&mut []);
                for sector in unsynced.chunks_mut(SECTOR) {
                    if !coin.keeps() {
                        sector.fill(0);
                    }
                }
            }
        }
        self.sync();
    }
}

/// Decides what survives, repeatably.
#[derive(Debug)]
pub(super) struct Coin {
    survive: Survive,
    drawn: u64,
}

impl Coin {
    pub(super) fn new(survive: Survive) -> Self {
        Self { survive, drawn: 0 }
    }

    pub(super) fn keeps(&mut self) -> bool {
        match self.survive {
            Survive::Nothing => false,
            Survive::Everything => true,
            Survive::Sectors(_) => self.draw() & 1 == 0,
        }
    }

    /// How long a file of `synced` to `written` bytes is found.
    fn length(&mut self, synced: usize, written: usize) -> usize {
        match self.survive {
            Survive::Nothing => synced,
            Survive::Everything => written,
            Survive::Sectors(_) => {
                let choices = u64::try_from(written.saturating_sub(synced)).unwrap_or(0).saturating_add(1);
                let some = synced.saturating_add(usize::try_from(self.draw() % choices).unwrap_or(0));
                if self.keeps() { written } else { some }
            }
        }
    }

    fn draw(&mut self) -> u64 {
        let seed = if let Survive::Sectors(seed) = self.survive { seed } else { 0 };
        self.drawn = self.drawn.wrapping_add(1);
        let mut mixed =
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.drawn.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 29)
    }
}
