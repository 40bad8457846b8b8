//! The endpoints of a cluster in the order in which a balancer goes through them: by priority, then by zone. Made once per
//! snapshot, with the tables of the hash balancers, and read by all workers.

use std::collections::BTreeMap;

use super::hashed::Table;
use crate::{BalancerKind, EndpointSpec};

/// Fewer endpoints of a priority are not parted by zone (LB-13).
const ZONED: usize = 6;

/// How the endpoints of a cluster are laid out.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    pub(super) kind: BalancerKind,
    pub(super) tiers: Vec<Tier>,
    /// Endpoints that take calls.
    pub(super) len: usize,
}

/// Endpoints of one priority.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tier {
    pub(super) groups: Vec<Group>,
    /// The group of the caller's own zone, where zones matter.
    pub(super) local: Option<usize>,
}

/// Endpoints that share calls among each other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Their places in the cluster.
    pub(super) members: Vec<usize>,
    pub(super) weights: Vec<u32>,
    pub(super) table: Option<Table>,
}

impl Layout {
    /// For these endpoints, as seen from `zone`. Those of weight 0 take no calls.
    #[must_use]
    pub fn new(kind: BalancerKind, endpoints: &[EndpointSpec], zone: Option<&str>) -> Self {
        Self::over(kind, endpoints, 0..endpoints.len(), zone)
    }

    /// For those of them at these places, each once.
    #[must_use]
    pub fn over(
        kind: BalancerKind,
        endpoints: &[EndpointSpec],
        places: impl IntoIterator<Item = usize>,
        zone: Option<&str>,
    ) -> Self {
        let mut tiers: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        let found = places.into_iter().filter_map(|place| Some((place, endpoints.get(place)?)));
        for (place, endpoint) in found.filter(|(_, endpoint)| endpoint.weight > 0) {
            tiers.entry(endpoint.priority).or_default().push(place);
        }
        let len = tiers.values().map(Vec::len).sum();
        let tiers = tiers.into_values().map(|places| Tier::new(kind, &places, endpoints, zone)).collect();
        Self { kind, tiers, len }
    }

    /// The places of the endpoints that take calls.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        self.tiers.iter().flat_map(|tier| &tier.groups).flat_map(|group| &group.members).copied()
    }
}

impl Tier {
    fn new(kind: BalancerKind, places: &[usize], endpoints: &[EndpointSpec], zone: Option<&str>) -> Self {
        let zone_of = |place: &usize| endpoints.get(*place).and_then(|endpoint| endpoint.zone.as_deref());
        let is_zoned = places.len() >= ZONED && !kind.is_hashed() && zone.is_some();
        let mut zones: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
        for place in places {
            zones.entry(zone_of(place).filter(|_| is_zoned)).or_default().push(*place);
        }
        let local = zones.keys().position(|known| is_zoned && *known == zone);
        if local.is_none() {
            zones = BTreeMap::from([(None, places.to_vec())]);
        }
        let group = |members: Vec<usize>| Group::new(kind, members, endpoints);
        Self { groups: zones.into_values().map(group).collect(), local }
    }
}

impl Group {
    fn new(kind: BalancerKind, members: Vec<usize>, endpoints: &[EndpointSpec]) -> Self {
        let specs = || members.iter().filter_map(|place| endpoints.get(*place));
        let weights: Vec<u32> = specs().map(|endpoint| endpoint.weight).collect();
        let names = || specs().map(|endpoint| endpoint.addr.to_string()).collect::<Vec<_>>();
        let table = match kind {
            BalancerKind::Maglev => Some(Table::maglev(&names(), &weights)),
            BalancerKind::RingHash => Some(Table::ring(&names(), &weights)),
            BalancerKind::Rendezvous => Some(Table::rendezvous(&names(), &weights)),
            BalancerKind::P2c | BalancerKind::PeakEwma | BalancerKind::RoundRobin | BalancerKind::Random => {
                None
            }
        };
        Self { members, weights, table }
    }
}
