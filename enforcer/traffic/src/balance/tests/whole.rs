//! The whole choice: priorities, panic, zones, slow start, bounds, limits, and many workers at once (LB-02 to LB-13).

use std::net::SocketAddr;

use super::*;
use crate::fleet::{Entry, FleetSettings, Health, Limits};
use crate::{EndpointSpec, UpstreamProtocol};

const ALL: [BalancerKind; 7] = [
    BalancerKind::P2c,
    BalancerKind::PeakEwma,
    BalancerKind::RoundRobin,
    BalancerKind::Random,
    BalancerKind::Maglev,
    BalancerKind::RingHash,
    BalancerKind::Rendezvous,
];

fn at(millis: u64) -> Mono {
    Mono::from_nanos(millis * 1_000_000 + 1)
}

fn spec(place: usize) -> EndpointSpec {
    let address = SocketAddr::from(([10, 0, 0, u8::try_from(place).unwrap()], 80));
    EndpointSpec::new(UpstreamProtocol::Http1, address)
}

struct World {
    fleet: Fleet,
    balancer: Balancer,
    specs: Vec<EndpointSpec>,
}

impl World {
    fn new(
        kind: BalancerKind,
        specs: Vec<EndpointSpec>,
        settings: BalanceSettings,
        zone: Option<&str>,
    ) -> Self {
        let fleet = Fleet::new(FleetSettings::default(), &specs, None, 1, at(0));
        let balancer = Balancer::new(settings, Arc::new(Layout::new(kind, &specs, zone)), 5);
        Self { fleet, balancer, specs }
    }

    fn plain(kind: BalancerKind, n: usize) -> Self {
        Self::new(kind, (0..n).map(spec).collect(), BalanceSettings::default(), None)
    }

    fn pick(&mut self, now: Mono) -> Result<usize, Nobody> {
        self.balancer.pick(&self.fleet, &Ask { now, key: None, may: |_| true })
    }

    fn shares(&mut self, turns: usize, now: Mono) -> Vec<usize> {
        let mut shares = vec![0; self.specs.len()];
        (0..turns).for_each(|_| shares[self.pick(now).unwrap()] += 1);
        shares
    }

    fn enter(&self, place: usize) -> Entry {
        self.fleet.enter(place, false, at(0)).unwrap()
    }

    fn sicken(&self, places: std::ops::Range<usize>) {
        places.for_each(|place| self.fleet.examined(place, Health::Ill, at(0)));
    }
}

#[test]
fn every_balancer_takes_only_what_may_be_used() {
    for kind in ALL {
        let mut world = World::plain(kind, 5);
        world.sicken(1..3);
        for turn in 0..200 {
            let ask = Ask { now: at(turn), key: Some(turn * 77), may: |place| place != 4 };
            let pick = world.balancer.pick(&world.fleet, &ask).unwrap();
            assert!([0, 3].contains(&pick), "{kind:?} {pick}");
        }
        let nobody = Ask { now: at(0), key: None, may: |_| false };
        assert_eq!(world.balancer.pick(&world.fleet, &nobody), Err(Nobody::Usable), "{kind:?}");
        let mut none = World::plain(kind, 0);
        assert_eq!(none.pick(at(0)), Err(Nobody::Usable), "{kind:?}");
    }
}

#[test]
fn el_01_an_endpoint_at_its_limit_is_passed_over_and_all_of_them_are_nobody_free() {
    for kind in ALL {
        let specs: Vec<_> = (0..2).map(spec).collect();
        let limits = Limits { endpoint_in_flight: 1, ..Limits::default() };
        let fleet = Fleet::new(FleetSettings { limits, ..FleetSettings::default() }, &specs, None, 1, at(0));
        let balancer =
            Balancer::new(BalanceSettings::default(), Arc::new(Layout::new(kind, &specs, None)), 5);
        let mut world = World { fleet, balancer, specs };
        let entry = world.enter(0);
        assert!((0..50).all(|_| world.pick(at(0)) == Ok(1)), "{kind:?}");
        let other = world.enter(1);
        assert_eq!(world.pick(at(0)), Err(Nobody::Free), "{kind:?}");
        world.fleet.endpoints()[0].leave(entry);
        assert_eq!(world.pick(at(0)), Ok(0), "{kind:?}");
        world.fleet.endpoints()[1].leave(other);
    }
}

#[test]
fn lb_11_calls_go_to_the_next_priority_as_health_goes() {
    let later = |place| EndpointSpec { priority: 1, ..spec(place) };
    let specs = (0..4).map(spec).chain((4..8).map(later)).collect();
    let mut world = World::new(BalancerKind::P2c, specs, BalanceSettings::default(), None);
    let first = |shares: Vec<usize>| shares.iter().take(4).sum::<usize>();
    assert_eq!(first(world.shares(1_000, at(0))), 1_000);
    world.sicken(0..2);
    // 140 % of a half.
    let share = first(world.shares(10_000, at(0)));
    assert!(share.abs_diff(7_000) < 350, "{share}");
    world.sicken(0..4);
    assert_eq!(first(world.shares(1_000, at(0))), 0);
}

#[test]
fn lb_12_a_panic_uses_everybody_or_fails_as_it_is_told() {
    for fails in [false, true] {
        let settings = BalanceSettings { fails_in_panic: fails, ..BalanceSettings::default() };
        let mut world = World::new(BalancerKind::P2c, (0..4).map(spec).collect(), settings, None);
        world.sicken(0..2);
        assert!(world.shares(400, at(0))[..2] == [0, 0] && !world.balancer.panics());
        world.sicken(0..3);
        if fails {
            assert_eq!(world.pick(at(0)), Err(Nobody::Healthy));
        } else {
            assert!(world.shares(400, at(0)).iter().all(|share| *share > 50));
        }
        assert!(world.balancer.panics());
        world.fleet.examined(0, Health::Well, at(0));
        assert_eq!(world.shares(400, at(0))[1..3], [0, 0]);
    }
}

#[test]
fn lb_13_from_six_endpoints_calls_stay_in_their_zone() {
    let zoned = |place| EndpointSpec { zone: Some(if place < 3 { "a" } else { "b" }.into()), ..spec(place) };
    let of = |n: usize, zone| {
        World::new(BalancerKind::P2c, (0..n).map(zoned).collect(), BalanceSettings::default(), zone)
    };
    assert_eq!(of(6, Some("a")).shares(600, at(0))[3..], [0, 0, 0]);
    let few = of(5, Some("a")).shares(20_000, at(0));
    assert!(few.iter().all(|share| share.abs_diff(4_000) < 200), "{few:?}");
    let stranger = of(6, Some("c")).shares(24_000, at(0));
    assert!(stranger.iter().all(|share| share.abs_diff(4_000) < 200), "{stranger:?}");
    // Two of three gone at home: what the third cannot take goes where endpoints are to spare.
    let mut world = of(6, Some("a"));
    world.sicken(0..2);
    let shares = world.shares(10_000, at(0));
    assert!(shares[2].abs_diff(5_000) < 300 && shares[..2] == [0, 0], "{shares:?}");
}

#[test]
fn lb_10_a_new_endpoint_reaches_its_weight_along_the_window() {
    for kind in [BalancerKind::P2c, BalancerKind::RoundRobin, BalancerKind::Random] {
        let specs: Vec<_> = (0..4).map(spec).collect();
        let settings = BalanceSettings { slow_start: Duration::from_secs(10), ..BalanceSettings::default() };
        let old = Fleet::new(FleetSettings::default(), &specs[..3], None, 1, at(0));
        let fleet = Fleet::new(FleetSettings::default(), &specs, Some(&old), 1, at(1_000));
        let balancer = Balancer::new(settings, Arc::new(Layout::new(kind, &specs, None)), 5);
        let mut world = World { fleet, balancer, specs };
        for (millis, part) in [(1_000, 0.1), (2_500, 0.15), (6_000, 0.5), (11_000, 1.0), (60_000, 1.0)] {
            let shares = world.shares(20_000, at(millis));
            let ideal = 20_000.0 * part / (3.0 + part);
            let close = (shares[3] as f64 - ideal).abs() <= ideal * 0.1 + 5.0;
            assert!(close, "{kind:?} after {millis} ms: {shares:?}, not {ideal}");
        }
    }
}

#[test]
fn lb_09_a_bound_moves_calls_away_from_a_hot_endpoint() {
    for kind in [BalancerKind::Maglev, BalancerKind::RingHash, BalancerKind::Rendezvous] {
        let settings = BalanceSettings { bound_percent: Some(125), ..BalanceSettings::default() };
        let mut world = World::new(kind, (0..4).map(spec).collect(), settings, None);
        let mut in_flight = [0_u32; 4];
        for _ in 0..400 {
            let ask = Ask { now: at(0), key: Some(99), may: |_| true };
            let place = world.balancer.pick(&world.fleet, &ask).unwrap();
            world.enter(place);
            in_flight[place] += 1;
        }
        assert!(in_flight.iter().all(|n| *n <= 126), "{kind:?} {in_flight:?}");
        let hottest = in_flight.iter().max().unwrap();
        assert!(*hottest >= 124, "{kind:?}: the key has its home: {in_flight:?}");
    }
}

#[test]
fn lb_09_without_a_key_calls_go_anywhere() {
    let mut world = World::plain(BalancerKind::Maglev, 4);
    let shares = world.shares(8_000, at(0));
    assert!(shares.iter().all(|share| share.abs_diff(2_000) < 200), "{shares:?}");
}

/// Calls arrive one a millisecond and take as long as their endpoint takes; answers the calls of each endpoint.
fn simulate(world: &mut World, millis: u64, slow: impl Fn(usize, u64) -> u64) -> Vec<usize> {
    let mut open: Vec<(u64, usize, Entry, u64)> = Vec::new();
    let mut shares = vec![0; world.specs.len()];
    for now in 0..millis {
        open.retain(|(ends, place, entry, began)| {
            let endpoint = &world.fleet.endpoints()[*place];
            if *ends <= now {
                endpoint.latency().sample(Duration::from_millis(now - began), at(now));
                endpoint.leave(*entry);
            }
            *ends > now
        });
        let place = world.pick(at(now)).unwrap();
        shares[place] += 1;
        open.push((now + slow(place, now), place, world.enter(place), now));
    }
    shares
}

#[test]
fn lb_02_a_slow_endpoint_loses_its_calls_and_gets_them_back() {
    let mut world = World::plain(BalancerKind::PeakEwma, 4);
    let shares = simulate(&mut world, 5_000, |place, _| if place == 0 { 400 } else { 5 });
    assert!(shares[0] < 50, "{shares:?}");
    // Quick again: once the peak has faded, its share is that of the others.
    let mut world = World::plain(BalancerKind::PeakEwma, 4);
    simulate(&mut world, 2_000, |place, _| if place == 0 { 400 } else { 5 });
    let base = 2_000;
    let mut shares = vec![0; 4];
    for now in 0..60_000 {
        let place = world.pick(at(base + now)).unwrap();
        world.fleet.endpoints()[place].latency().sample(Duration::from_millis(5), at(base + now));
        shares[place] += usize::from(now > 58_000);
    }
    assert!(shares[0] > 300, "{shares:?}");
}

#[test]
fn lb_01_a_slow_endpoint_gets_no_more_than_it_can_serve() {
    let mut world = World::plain(BalancerKind::P2c, 4);
    let shares = simulate(&mut world, 20_000, |place, _| if place == 0 { 200 } else { 20 });
    assert!(shares[0] < 2_500 && shares[1..].iter().all(|share| *share > 5_000), "{shares:?}");
}

#[test]
fn lb_04_sixty_four_workers_do_not_run_for_one_endpoint_after_a_rebuild() {
    for kind in [BalancerKind::RoundRobin, BalancerKind::P2c, BalancerKind::PeakEwma, BalancerKind::Random] {
        let specs: Vec<_> = (0..8).map(spec).collect();
        let fleet = Fleet::new(FleetSettings::default(), &specs, None, 1, at(0));
        let layout = Arc::new(Layout::new(kind, &specs, None));
        let mut first = [0; 8];
        for worker in 0..64 {
            let mut balancer = Balancer::new(BalanceSettings::default(), Arc::clone(&layout), worker);
            first[balancer.pick(&fleet, &Ask { now: at(0), key: None, may: |_| true }).unwrap()] += 1;
        }
        assert!(first.iter().all(|n| *n <= 20), "{kind:?} {first:?}");
    }
}

#[test]
fn lb_14_every_balancer_stays_within_the_part_and_keeps_its_weights() {
    for kind in ALL {
        let weighted = |place: usize| EndpointSpec { weight: [5, 1, 9, 3][place], ..spec(place) };
        let mut world = World::new(kind, (0..4).map(weighted).collect(), BalanceSettings::default(), None);
        let layout = Layout::over(kind, &world.specs, [1, 3], None);
        assert_eq!(layout.places().collect::<Vec<_>>(), [1, 3]);
        world.balancer = Balancer::new(BalanceSettings::default(), Arc::new(layout), 5);
        let shares = world.shares(4_000, at(0));
        assert_eq!((shares[0], shares[2]), (0, 0), "{kind:?}");
        // Without any load the cheapest takes all of peak EWMA.
        if kind != BalancerKind::PeakEwma {
            assert!((2_700..=3_300).contains(&shares[3]), "{kind:?} {shares:?}");
        }
        // Full is not the same as nobody there: only the first is worth waiting for.
        world.balancer = Balancer::new(
            BalanceSettings::default(),
            Arc::new(Layout::over(kind, &world.specs, [], None)),
            5,
        );
        assert_eq!(world.pick(at(0)), Err(Nobody::Usable), "{kind:?}");
    }
}
