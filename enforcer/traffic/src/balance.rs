//! Choosing an endpoint (LB-01 to LB-13): functions of the balancer's state, the state of the endpoints, the call and now.
//!
//! One balancer per worker and cluster, so there is nothing to lock; what endpoints have in flight is shared. The random
//! numbers of a balancer follow from its seed alone, so a run can be repeated.

mod dice;
mod hashed;
mod latency;
mod layout;
mod levels;
mod p2c;
mod random;
mod round_robin;
#[cfg(test)]
mod tests;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use base_ports::Mono;

pub use dice::Dice;
pub use hashed::hash;
pub use latency::Latency;
pub use layout::Layout;

use crate::fleet::{EndpointState, Fleet};
use layout::{Group, Tier};
use turns::Turns;

/// How the balancer of a cluster departs from the plain one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BalanceSettings {
    /// An endpoint that comes into use reaches its weight only after that time (LB-10); zero = at once.
    pub slow_start: Duration,
    /// With a hash balancer, an endpoint takes at most so many percent of the mean in flight (LB-09); none = no bound.
    pub bound_percent: Option<u32>,
    /// Without enough healthy endpoints nothing is sent (LB-12), instead of using all of them.
    pub fails_in_panic: bool,
}

/// What a call asks of a balancer.
#[derive(Debug)]
pub struct Ask<M> {
    /// The time.
    pub now: Mono,
    /// The hash of what keeps calls at one endpoint; none = any endpoint.
    pub key: Option<u64>,
    /// Whether the endpoint at a place may get this call at all.
    pub may: M,
}

/// Why no endpoint was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nobody {
    /// None may get the call, or none is in use.
    Usable,
    /// Too few are healthy, and then none is to be used.
    Healthy,
    /// All that could be used have as many calls as they may.
    Free,
    /// Their cluster has.
    Within,
}

/// The state of a balancer over the endpoints of a cluster.
#[derive(Debug)]
pub struct Balancer {
    settings: BalanceSettings,
    layout: Arc<Layout>,
    /// Per tier and group.
    turns: Vec<Vec<Turns>>,
    dice: Dice,
    /// The state of the fleet that all below follow from.
    seen: u64,
    loads: Vec<usize>,
    zones: Vec<Vec<f64>>,
    panics: bool,
    /// When the weights of endpoints that start slowly are looked at again.
    reweigh_at: Option<Mono>,
}

/// Weights are so many times finer while an endpoint starts slowly, and looked at so often.
const FINE: u32 = 100;
const STEP: Duration = Duration::from_millis(100);
/// The part of its weight that an endpoint starts with.
const LEAST: f64 = 0.1;

impl Balancer {
    /// Over that layout. Workers take different seeds, so that they do not all start at the first endpoint.
    #[must_use]
    pub fn new(settings: BalanceSettings, layout: Arc<Layout>, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut of = |group: &Group| Turns::new(layout.kind, &group.weights, &mut dice);
        let turns = layout.tiers.iter().map(|tier| tier.groups.iter().map(&mut of).collect()).collect();
        Self {
            settings,
            layout,
            turns,
            dice,
            seen: 0,
            loads: Vec::new(),
            zones: Vec::new(),
            panics: false,
            reweigh_at: None,
        }
    }

    /// Health is ignored, because too few endpoints are healthy (LB-12).
    #[must_use]
    pub fn panics(&self) -> bool {
        self.panics
    }

    /// The place of the endpoint that gets the call.
    ///
    /// # Errors
    /// When there is none.
    pub fn pick(&mut self, fleet: &Fleet, ask: &Ask<impl Fn(usize) -> bool>) -> Result<usize, Nobody> {
        if fleet.generation() != self.seen {
            self.look(fleet, ask.now);
        }
        if self.reweigh_at.is_some_and(|at| ask.now >= at) {
            self.reweigh(fleet, ask.now);
        }
        if self.panics && self.settings.fails_in_panic {
            return Err(Nobody::Healthy);
        }
        let first = if self.layout.tiers.len() > 1 { self.draw_tier() } else { 0 };
        let found = match self.pick_in(first, fleet, ask) {
            None => (0..self.layout.tiers.len())
                .filter(|tier| *tier != first)
                .find_map(|tier| self.pick_in(tier, fleet, ask)),
            found => found,
        };
        found.ok_or_else(|| {
            let in_use = |endpoint: &Arc<EndpointState>| self.panics || endpoint.is_usable(ask.now);
            let usable = |place: usize| (ask.may)(place) && fleet.endpoints().get(place).is_some_and(in_use);
            let any = self.layout.places().any(usable);
            if any { Nobody::Free } else { Nobody::Usable }
        })
    }

    fn pick_in(&mut self, tier: usize, fleet: &Fleet, ask: &Ask<impl Fn(usize) -> bool>) -> Option<usize> {
        let groups = &self.layout.tiers.get(tier)?.groups;
        let first = if groups.len() > 1 { draw(self.zones.get(tier)?, self.dice.fraction()) } else { 0 };
        let others = (0..groups.len()).filter(|group| *group != first);
        for at in std::iter::once(first).chain(others) {
            let (group, turns) = (groups.get(at)?, self.turns.get_mut(tier)?.get_mut(at)?);
            let bound = self.settings.bound_percent.filter(|_| self.layout.kind.is_hashed());
            let bound = bound.map(|percent| bound_of(group, fleet, percent));
            let by_latency = self.layout.kind == crate::BalancerKind::PeakEwma;
            let (panics, most) = (self.panics, fleet.limits().endpoint_in_flight);
            let load = |bound: Option<u64>| {
                move |member: usize| {
                    let place = *group.members.get(member)?;
                    let endpoint = fleet.endpoints().get(place)?;
                    let in_flight = endpoint.in_flight();
                    let fits = in_flight < most && bound.is_none_or(|bound| u64::from(in_flight) < bound);
                    let is_usable = fits && (panics || endpoint.is_usable(ask.now)) && (ask.may)(place);
                    is_usable.then(|| match by_latency {
                        true => endpoint.latency().cost(in_flight, ask.now),
                        false => u64::from(in_flight),
                    })
                }
            };
            let mut pick = |bound| match (&group.table, ask.key) {
                (Some(table), key) => {
                    let key = key.unwrap_or_else(|| self.dice.roll());
                    table.pick(key, |member| load(bound)(member).is_some())
                }
                (None, _) => turns.pick(&mut self.dice, load(bound)),
            };
            let member = match pick(bound) {
                None if bound.is_some() => pick(None),
                member => member,
            };
            if let Some(place) = member.and_then(|member| group.members.get(member)) {
                return Some(*place);
            }
        }
        None
    }

    fn draw_tier(&mut self) -> usize {
        let mut drawn = self.dice.below(100);
        let is_here = |load: &usize| {
            let is_here = drawn < *load;
            drawn = drawn.saturating_sub(*load);
            is_here
        };
        self.loads.iter().position(is_here).unwrap_or(0)
    }

    /// Counts who is healthy, and what follows from it.
    #[cold]
    fn look(&mut self, fleet: &Fleet, now: Mono) {
        self.seen = fleet.generation();
        let healthy = |group: &Group| {
            let members = group.members.iter().filter_map(|place| fleet.endpoints().get(*place));
            members.filter(|endpoint| endpoint.is_healthy()).count()
        };
        let level = |tier: &Tier| {
            let all = tier.groups.iter().map(|group| group.members.len()).sum();
            (tier.groups.iter().map(healthy).sum(), all)
        };
        let levels: Vec<_> = self.layout.tiers.iter().map(level).collect();
        self.panics = levels::panics(&levels);
        if self.panics {
            // All are used, so all count.
            self.loads = levels::priorities(&levels.iter().map(|(_, all)| (*all, *all)).collect::<Vec<_>>());
        } else {
            self.loads = levels::priorities(&levels);
        }
        let zones = |tier: &Tier| match tier.local {
            Some(local) => levels::zones(&tier.groups.iter().map(healthy).collect::<Vec<_>>(), local),
            None => Vec::new(),
        };
        self.zones = self.layout.tiers.iter().map(zones).collect();
        self.reweigh(fleet, now);
    }

    /// Gives endpoints that start slowly the weight that they have by now.
    fn reweigh(&mut self, fleet: &Fleet, now: Mono) {
        let window = self.settings.slow_start;
        if window.is_zero() || self.layout.kind.is_hashed() {
            return;
        }
        let warmth = |place: &usize| {
            let since = fleet.endpoints().get(*place).and_then(|endpoint| endpoint.warm_since());
            let passed = since.map(|since| now.saturating_since(since)).filter(|passed| *passed < window);
            passed.map_or(1.0, |passed| (passed.as_secs_f64() / window.as_secs_f64()).max(LEAST))
        };
        let is_warming = |group: &Group| group.members.iter().any(|place| warmth(place) < 1.0);
        let was_warming = self.reweigh_at.is_some();
        let mut warms = false;
        for (tier, turns) in self.layout.tiers.iter().zip(&mut self.turns) {
            for (group, turns) in tier.groups.iter().zip(turns) {
                let warms_here = is_warming(group);
                warms |= warms_here;
                if warms_here {
                    let fine = |(place, weight): (&usize, &u32)| finer(*weight, warmth(place));
                    let weights: Vec<u32> = group.members.iter().zip(&group.weights).map(fine).collect();
                    *turns = Turns::new(self.layout.kind, &weights, &mut self.dice);
                } else if was_warming {
                    *turns = Turns::new(self.layout.kind, &group.weights, &mut self.dice);
                }
            }
        }
        self.reweigh_at = warms.then(|| now + STEP);
    }
}

/// The calls in flight that an endpoint may have, at most `percent` of the mean with one more call.
fn bound_of(group: &Group, fleet: &Fleet, percent: u32) -> u64 {
    let endpoints = group.members.iter().filter_map(|place| fleet.endpoints().get(*place));
    let in_flight: u64 = endpoints.map(|endpoint| u64::from(endpoint.in_flight())).sum();
    ((in_flight + 1) * u64::from(percent)).div_ceil(100 * group.members.len().max(1) as u64)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "INVARIANT: the part is in 0..=1"
)]
fn finer(weight: u32, part: f64) -> u32 {
    ((f64::from(weight.min(u32::MAX / FINE)) * f64::from(FINE) * part) as u32).max(1)
}

fn draw(shares: &[f64], drawn: f64) -> usize {
    let mut left = drawn;
    let is_here = |share: &f64| {
        left -= share;
        left < 0.0
    };
    shares.iter().position(is_here).unwrap_or(0)
}
