//! Random numbers that follow from their seed alone, so that a run can be repeated.

/// SplitMix64: small, fast, good enough to spread load; not for secrets.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Numbers that follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        below(self.roll(), n)
    }

    /// A number in 0..1.
    pub fn fraction(&mut self) -> f64 {
        let high = u32::try_from(self.roll() >> 32).unwrap_or(u32::MAX);
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }
}

/// Spreads the bits of a number over all of them, one to one.
pub(super) fn mix(number: u64) -> u64 {
    let mut z = number;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The place of a number that is spread over all numbers, among `n`; 0 when `n` is 0.
pub(super) fn below(number: u64, n: usize) -> usize {
    let wide = u128::from(number) * (n as u128);
    usize::try_from(wide >> 64).unwrap_or(0)
}
