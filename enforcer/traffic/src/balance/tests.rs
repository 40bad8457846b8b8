//! Whose turn it is (LB-01 to LB-05): shares, exact weights, the less loaded of two, endpoints out of use.

mod hashed;
mod whole;

use std::cell::RefCell;

use proptest::prelude::*;

use super::*;
use crate::BalancerKind;

/// The turns of one group.
struct Group {
    turns: Turns,
    dice: Dice,
}

impl Group {
    fn pick(&mut self, load: impl Fn(usize) -> Option<u64>) -> Option<usize> {
        self.turns.pick(&mut self.dice, load)
    }
}

fn balancer(kind: BalancerKind, weights: &[u32], seed: u64) -> Group {
    let mut dice = Dice::new(seed);
    Group { turns: Turns::new(kind, weights, &mut dice), dice }
}

/// Those that do not go by a key.
const PLAIN: [BalancerKind; 4] =
    [BalancerKind::P2c, BalancerKind::PeakEwma, BalancerKind::RoundRobin, BalancerKind::Random];

fn counts(balancer: &mut Group, n: usize, turns: usize, load: impl Fn(usize) -> Option<u64>) -> Vec<usize> {
    let mut counts = vec![0; n];
    for _ in 0..turns {
        if let Some(at) = balancer.pick(&load) {
            counts[at] += 1;
        }
    }
    counts
}

#[test]
fn lb_01_idle_endpoints_of_equal_weight_share_within_five_percent() {
    let shares = counts(&mut balancer(BalancerKind::P2c, &[1; 8], 7), 8, 80_000, |_| Some(0));
    assert!(shares.iter().all(|&n| (9_500..=10_500).contains(&n)), "{shares:?}");
}

#[test]
fn lb_01_a_busy_endpoint_is_only_picked_without_an_alternative() {
    let mut two = balancer(BalancerKind::P2c, &[1, 1], 7);
    assert_eq!(counts(&mut two, 2, 1000, |at| Some(if at == 0 { 5 } else { 1 })), [0, 1000]);
    // Of three, the busiest loses every pair.
    let shares = counts(&mut balancer(BalancerKind::P2c, &[1; 3], 7), 3, 30_000, |at| Some([9, 0, 0][at]));
    assert_eq!(shares[0], 0, "{shares:?}");
}

#[test]
fn lb_01_unequal_weights_share_by_weight_when_idle_and_avoid_load() {
    let mut idle = balancer(BalancerKind::P2c, &[1, 2, 5], 7);
    let shares = counts(&mut idle, 3, 8_000, |_| Some(0));
    for (share, ideal) in shares.iter().zip([1_000, 2_000, 5_000]) {
        assert!(share.abs_diff(ideal) <= 2, "{shares:?}");
    }
    // Three in flight make an endpoint of weight 4 as good as one of weight 1.
    let mut busy = balancer(BalancerKind::P2c, &[4, 1], 7);
    let shares = counts(&mut busy, 2, 1_000, |at| Some([3, 0][at]));
    assert!(shares[0].abs_diff(500) <= 2, "{shares:?}");
}

#[test]
fn lb_01_a_slow_endpoint_recovers_its_share_without_a_burst() {
    let mut balancer = balancer(BalancerKind::P2c, &[1, 3], 7);
    assert_eq!(counts(&mut balancer, 2, 1_000, |at| (at == 0).then_some(0)), [1_000, 0]);
    let after = counts(&mut balancer, 2, 100, |_| Some(0));
    assert!(after[1].abs_diff(75) <= 2, "{after:?}");
}

#[test]
fn lb_01_in_flight_stays_even_in_a_simulation() {
    let in_flight = RefCell::new(vec![0_u64; 10]);
    let mut balancer = balancer(BalancerKind::P2c, &[1; 10], 3);
    let mut dice = Dice::new(11);
    let mut open = Vec::new();
    let mut worst = 0;
    for turn in 0..20_000 {
        let at = balancer.pick(|at| Some(in_flight.borrow()[at])).unwrap();
        in_flight.borrow_mut()[at] += 1;
        open.push(at);
        if turn > 200 {
            let done = open.swap_remove(dice.below(open.len()));
            in_flight.borrow_mut()[done] -= 1;
            worst = worst.max(*in_flight.borrow().iter().max().unwrap());
        }
    }
    // 20 on average; one random choice would reach about 35 in so many turns.
    assert!(worst <= 27, "{worst}");
}

#[test]
fn lb_04_workers_start_at_different_endpoints() {
    for weights in [&[1; 16][..], &[1, 2, 3, 4, 5, 6, 7, 8]] {
        let mut first = vec![0; weights.len()];
        for seed in 0..64 {
            first[balancer(BalancerKind::RoundRobin, weights, seed).pick(|_| Some(0)).unwrap()] += 1;
        }
        assert!(first.iter().all(|&n| n <= 24), "{first:?}");
    }
}

#[test]
fn lb_04_turns_of_an_endpoint_out_of_use_are_lost() {
    for weights in [[1, 1, 1], [1, 2, 3]] {
        let mut turns = balancer(BalancerKind::RoundRobin, &weights, 1);
        let without = counts(&mut turns, 3, 600, |at| (at != 2).then_some(0));
        assert_eq!(without[2], 0);
        let n: u32 = weights.iter().sum();
        let after = counts(&mut turns, 3, n as usize * 10, |_| Some(0));
        for (share, weight) in after.iter().zip(weights) {
            assert!(share.abs_diff(weight as usize * 10) <= 3, "{after:?}");
        }
    }
}

#[test]
fn lb_05_random_shares_are_those_of_the_weights_within_five_percent() {
    for weights in [&[1, 1, 1, 1][..], &[1, 2, 5], &[7, 1], &[3], &[10, 1, 1, 1, 1, 1, 1, 1]] {
        let total: u32 = weights.iter().sum();
        let shares =
            counts(&mut balancer(BalancerKind::Random, weights, 3), weights.len(), 100_000, |_| Some(0));
        for (share, weight) in shares.iter().zip(weights) {
            let ideal = f64::from(*weight) * 100_000.0 / f64::from(total);
            assert!((*share as f64 - ideal).abs() <= ideal * 0.05, "{weights:?} {shares:?}");
        }
    }
    // What an endpoint out of use would have had goes to the others, by weight.
    let shares =
        counts(&mut balancer(BalancerKind::Random, &[90, 4, 6], 3), 3, 50_000, |at| (at > 0).then_some(0));
    assert_eq!(shares[0], 0);
    assert!(shares[1].abs_diff(20_000) < 1_000, "{shares:?}");
}

#[test]
fn lb_02_the_cheaper_of_two_wins_and_a_weight_divides_the_cost() {
    let mut two = balancer(BalancerKind::PeakEwma, &[1, 1], 7);
    assert_eq!(counts(&mut two, 2, 1000, |at| Some([900, 1_000][at])), [1000, 0]);
    let mut two = balancer(BalancerKind::PeakEwma, &[1, 2], 7);
    assert_eq!(counts(&mut two, 2, 1000, |at| Some([900, 1_000][at])), [0, 1000]);
}

#[test]
fn nothing_is_picked_when_nothing_can_be_used() {
    for kind in PLAIN {
        for weights in [&[][..], &[1], &[1, 1], &[1, 2], &[1, 1, 1]] {
            assert_eq!(balancer(kind, weights, 1).pick(|_| None), None, "{kind:?} {weights:?}");
        }
        assert_eq!(balancer(kind, &[1], 1).pick(|_| Some(9)), Some(0));
    }
}

proptest! {
    #[test]
    fn lb_01_p2c_picks_the_less_loaded_of_two(loads in (0_u64..50, 0_u64..50), seed in any::<u64>()) {
        let loads = [loads.0, loads.1];
        let pick = balancer(BalancerKind::P2c, &[1, 1], seed).pick(|at| Some(loads[at])).unwrap();
        prop_assert!(loads[pick] <= loads[1 - pick]);
    }

    #[test]
    fn only_usable_endpoints_are_picked(
        weights in proptest::collection::vec(1_u32..5, 1..8),
        usable in proptest::collection::vec(any::<bool>(), 8),
        seed in any::<u64>(),
        kind in 0..PLAIN.len(),
    ) {
        let mut balancer = balancer(PLAIN[kind], &weights, seed);
        let any = weights.iter().zip(&usable).any(|(_, &usable)| usable);
        for _ in 0..40 {
            let pick = balancer.pick(|at| usable[at].then_some(1));
            prop_assert_eq!(pick.is_some(), any);
            prop_assert!(pick.is_none_or(|at| usable[at]));
        }
    }

    #[test]
    fn lb_04_every_round_has_exactly_the_weights(
        weights in proptest::collection::vec(1_u32..9, 1..7),
        seed in any::<u64>(),
    ) {
        let round: u32 = weights.iter().sum();
        let mut turns = balancer(BalancerKind::RoundRobin, &weights, seed);
        for _ in 0..4 {
            let shares = counts(&mut turns, weights.len(), round as usize, |_| Some(0));
            let exact: Vec<usize> = weights.iter().map(|&weight| weight as usize).collect();
            prop_assert_eq!(shares, exact);
        }
    }

    #[test]
    fn a_balancer_is_a_function_of_its_seed(seed in any::<u64>(), weights in proptest::collection::vec(1_u32..4, 1..6)) {
        let run = || {
            let mut balancer = balancer(BalancerKind::P2c, &weights, seed);
            (0..30).map(|turn| balancer.pick(|at| Some((at * turn % 5) as u64))).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(), run());
    }

    #[test]
    fn dice_stay_below_their_bound(seed in any::<u64>(), n in 1_usize..1000) {
        let mut dice = Dice::new(seed);
        for _ in 0..20 {
            prop_assert!(dice.below(n) < n);
        }
    }
}
