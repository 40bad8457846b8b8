//! Randomness as a parameter: the operating system's, or a repeatable sequence for tests.

use std::fmt;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use parking_lot::Mutex;

/// Where a component gets random bytes from.
pub trait Rng: Send + Sync + fmt::Debug + 'static {
    /// Fills `out`.
    fn fill(&self, out: &mut [u8]);

    /// A random number.
    fn u64(&self) -> u64 {
        let mut bytes = [0u8; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A random share, from 0 to 1.
    fn share(&self) -> f64 {
        let roll = u32::try_from(self.u64() >> 32).unwrap_or(u32::MAX);
        f64::from(roll) / f64::from(u32::MAX)
    }
}

/// The generator of the operating system, through aws-lc.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    /// Ends the process when the operating system gives no randomness: nothing safe can follow.
    fn fill(&self, out: &mut [u8]) {
        if SystemRandom::new().fill(out).is_err() {
            tracing::error!(event = "no_randomness", "the operating system gives no randomness");
            std::process::abort();
        }
    }
}

/// A repeatable sequence (SplitMix64). For tests only; not secret.
#[derive(Debug)]
pub struct SeededRng(Mutex<u64>);

impl SeededRng {
    /// The sequence that `seed` begins.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Rng for SeededRng {
    fn fill(&self, out: &mut [u8]) {
        let mut state = self.0.lock();
        for part in out.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = *state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            for (byte, random) in part.iter_mut().zip((mixed ^ (mixed >> 31)).to_le_bytes()) {
                *byte = random;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_seeds_differ() {
        let draw = |seed| {
            (0..4)
                .map({
                    let rng = SeededRng::new(seed);
                    move |_| rng.u64()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn the_system_gives_different_bytes() {
        let (mut first, mut second) = ([0u8; 32], [0u8; 32]);
        SystemRng.fill(&mut first);
        SystemRng.fill(&mut second);
        assert_ne!(first, second);
    }
}
