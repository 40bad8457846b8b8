//! Endpoints by the hash of a key: Maglev, ring hash and rendezvous (LB-06 to LB-08), and the hash itself (LB-09).
//!
//! Tables follow from weights and addresses alone, so every worker and every enforcer sends a key to the same endpoint.
//! They are made once, when a snapshot is built.

use twox_hash::XxHash3_64;

use super::dice::{below, mix};

/// Slots of a Maglev table: a prime, more than a hundred times the endpoints that one cluster should have.
const MAGLEV: usize = 65_537;
/// Points of a ring: at least so many together, and so many per endpoint of mean weight.
const POINTS: usize = 1_024;
const POINTS_EACH: f64 = 160.0;
const MOST_POINTS: f64 = 262_144.0;
/// Other slots that a key tries when its own endpoint cannot be used.
const TRIES: u64 = 16;

/// XXH3-64 of a key.
#[must_use]
pub fn hash(seed: u64, key: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, key)
}

/// Where keys go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// The place per slot.
    Maglev(Vec<u32>),
    /// Points in the order of the ring, each with its place.
    Ring(Vec<(u64, u32)>),
    /// The hash and the weight of each place.
    Rendezvous(Vec<(u64, u32)>),
}

impl Table {
    /// After Eisenbud et al., 4.3: places take turns at their own order of slots, as often as their weight says.
    pub(super) fn maglev(names: &[String], weights: &[u32]) -> Self {
        let heaviest = weights.iter().copied().max().unwrap_or(0);
        if heaviest == 0 {
            return Self::Maglev(Vec::new());
        }
        let slots = MAGLEV as u64;
        struct Turn {
            at: u64,
            skip: u64,
            share: f64,
            credit: f64,
        }
        let mut turns: Vec<Turn> = names
            .iter()
            .zip(weights)
            .map(|(name, &weight)| Turn {
                at: hash(0, name.as_bytes()) % slots,
                skip: hash(1, name.as_bytes()) % (slots - 1) + 1,
                share: f64::from(weight) / f64::from(heaviest),
                credit: 0.0,
            })
            .collect();
        const FREE: u32 = u32::MAX;
        let mut table = vec![FREE; MAGLEV];
        let mut left = MAGLEV;
        while left > 0 {
            for (place, turn) in (0_u32..).zip(&mut turns) {
                turn.credit += turn.share;
                if turn.credit < 1.0 || left == 0 {
                    continue;
                }
                turn.credit -= 1.0;
                // A free slot exists, and the order of a place visits all of them.
                while let Some(slot) = usize::try_from(turn.at).ok().and_then(|at| table.get_mut(at)) {
                    turn.at = (turn.at + turn.skip) % slots;
                    if *slot == FREE {
                        *slot = place;
                        left -= 1;
                        break;
                    }
                }
            }
        }
        Self::Maglev(table)
    }

    /// A place of mean weight has 160 points, or its part of 1,024 when that is more.
    pub(super) fn ring(names: &[String], weights: &[u32]) -> Self {
        let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        let (n, least) = (names.len().max(1), POINTS / names.len().max(1));
        let each = POINTS_EACH.max(least as f64).min(MOST_POINTS / n as f64);
        let mut points = Vec::new();
        for (place, (name, &weight)) in (0_u32..).zip(names.iter().zip(weights)) {
            let points_here = each * f64::from(weight) * n as f64 / total.max(1.0);
            let mut number = 0_u64;
            while (number as f64) < points_here {
                points.push((hash(number, name.as_bytes()), place));
                number += 1;
            }
        }
        points.sort_unstable();
        Self::Ring(points)
    }

    pub(super) fn rendezvous(names: &[String], weights: &[u32]) -> Self {
        let score = |(name, &weight): (&String, &u32)| (hash(0, name.as_bytes()), weight);
        Self::Rendezvous(names.iter().zip(weights).map(score).collect())
    }

    /// The usable place that a key goes to.
    pub(super) fn pick(&self, key: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        match self {
            Self::Maglev(table) => {
                let place = |at: usize| table.get(at).map(|&place| place as usize).filter(|&at| usable(at));
                let tries = (0..TRIES).map(|nth| below(mix(key.wrapping_add(nth)), table.len()));
                let start = below(mix(key), table.len());
                tries.chain(start..table.len()).chain(0..start).find_map(place)
            }
            Self::Ring(points) => {
                let start = points.partition_point(|(point, _)| *point < key);
                let (before, after) = points.split_at(start);
                after.iter().chain(before).map(|&(_, place)| place as usize).find(|&at| usable(at))
            }
            Self::Rendezvous(places) => {
                let score = |&(hash, weight): &(u64, u32)| {
                    let drawn = (mix(key ^ hash) as f64 + 0.5) / (u64::MAX as f64 + 1.0);
                    -f64::from(weight) / drawn.ln()
                };
                let scored = places.iter().enumerate().filter(|(at, (_, weight))| *weight > 0 && usable(*at));
                scored
                    .map(|(at, place)| (at, score(place)))
                    .max_by(|a, b| a.1.total_cmp(&b.1))
                    .map(|(at, _)| at)
            }
        }
    }
}
