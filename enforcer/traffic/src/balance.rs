//! Choosing an endpoint (LB-01, LB-04): pure functions of the balancer's state and the loads at this moment.
//!
//! One balancer per worker and route, so there is nothing to lock; the loads may be shared atomics. The random
//! numbers of a balancer follow from its seed alone, so a run can be repeated.

mod p2c;
mod round_robin;
#[cfg(test)]
mod tests;

use crate::{BalancerKind, EndpointSpec};
use p2c::P2c;
use round_robin::RoundRobin;

/// The state of a balancer over a fixed list of endpoints.
#[derive(Debug, Clone)]
pub struct Balancer(Algorithm);

#[derive(Debug, Clone)]
enum Algorithm {
    P2c(P2c),
    RoundRobin(RoundRobin),
}

impl Balancer {
    /// For these endpoints. Workers take different seeds, so that they do not all start at the first one.
    pub fn new(kind: BalancerKind, endpoints: &[EndpointSpec], seed: u64) -> Self {
        let weights = endpoints.iter().map(|endpoint| endpoint.weight).collect();
        Self(match kind {
            BalancerKind::P2c => Algorithm::P2c(P2c::new(weights, seed)),
            BalancerKind::RoundRobin => Algorithm::RoundRobin(RoundRobin::new(weights, seed)),
        })
    }

    /// The place of the chosen endpoint. `load` answers the calls in flight at an endpoint, or none when it
    /// must not be used now (shut, or already tried). None when there is no endpoint to use.
    pub fn pick(&mut self, load: impl Fn(usize) -> Option<u32>) -> Option<usize> {
        match &mut self.0 {
            Algorithm::P2c(p2c) => p2c.pick(load),
            Algorithm::RoundRobin(turns) => turns.pick(load),
        }
    }
}

/// SplitMix64: small, fast, good enough to spread load; not for secrets.
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 when `n` is 0.
    fn below(&mut self, n: usize) -> usize {
        let wide = u128::from(self.roll()) * (n as u128);
        usize::try_from(wide >> 64).unwrap_or(0)
    }
}
