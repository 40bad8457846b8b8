//! Keys and their endpoints (LB-06 to LB-09): shares by weight, and how few keys move when an endpoint goes.

use proptest::prelude::*;

use super::super::hash;
use super::super::hashed::Table;

const KEYS: u64 = 40_000;

fn names(n: usize) -> Vec<String> {
    (0..n).map(|at| format!("10.0.{}.{}:8080", at / 256, at % 256)).collect()
}

fn keys() -> impl Iterator<Item = u64> {
    (0..KEYS).map(|key| hash(7, &key.to_le_bytes()))
}

type Make = fn(&[String], &[u32]) -> Table;

const TABLES: [(&str, Make, f64); 3] = [
    // How far a share may be from its ideal.
    ("maglev", Table::maglev, 0.05),
    ("ring", Table::ring, 0.25),
    ("rendezvous", Table::rendezvous, 0.05),
];

#[test]
fn lb_06_lb_07_lb_08_keys_are_shared_by_weight() {
    for (name, make, bound) in TABLES {
        for weights in [vec![1; 10], vec![1, 2, 5], vec![3, 3], vec![10, 1, 1]] {
            let table = make(&names(weights.len()), &weights);
            let mut shares = vec![0_u32; weights.len()];
            keys().for_each(|key| shares[table.pick(key, |_| true).unwrap()] += 1);
            let total: u32 = weights.iter().sum();
            for (share, weight) in shares.iter().zip(&weights) {
                let ideal = f64::from(*weight) / f64::from(total) * KEYS as f64;
                let bound = bound.max(3.0 / ideal.sqrt());
                assert!((f64::from(*share) - ideal).abs() <= ideal * bound, "{name} {weights:?} {shares:?}");
            }
        }
    }
}

#[test]
fn lb_06_lb_07_lb_08_few_keys_move_when_an_endpoint_goes() {
    const N: usize = 20;
    for (name, make, bound) in [TABLES[0], TABLES[1], TABLES[2]] {
        let all = names(N);
        let (before, after) = (make(&all, &[1; N]), make(&all[..N - 1], &[1; N - 1]));
        let mut moved = 0_u64;
        for key in keys() {
            let (old, new) = (before.pick(key, |_| true).unwrap(), after.pick(key, |_| true).unwrap());
            moved += u64::from(old != N - 1 && old != new);
        }
        // Of the keys that could stay. A ring and rendezvous move none of them; Maglev some.
        let most = if name == "maglev" { KEYS / 20 } else { 0 };
        assert!(moved <= most, "{name}: {moved} of {KEYS} moved ({bound})");
    }
}

#[test]
fn lb_06_lb_07_lb_08_keys_of_an_endpoint_out_of_use_spread_and_come_back() {
    for (name, make, _) in TABLES {
        let table = make(&names(6), &[1; 6]);
        let mut spread = [0_u32; 6];
        for key in keys() {
            let home = table.pick(key, |_| true).unwrap();
            let now = table.pick(key, |at| at != 2).unwrap();
            match home {
                2 => spread[now] += 1,
                home => assert_eq!(home, now, "{name}: a key moved that had no reason to"),
            }
        }
        let least = spread.iter().enumerate().filter(|(at, _)| *at != 2).map(|(_, n)| *n).min().unwrap();
        let ideal = spread.iter().sum::<u32>() / 5;
        assert!(least > ideal / 3, "{name} {spread:?}");
        assert_eq!(table.pick(1, |_| false), None, "{name}");
        assert_eq!(make(&[], &[]).pick(1, |_| true), None, "{name}");
    }
}

#[test]
fn lb_09_a_hash_is_xxh3_with_the_seed_of_the_cluster() {
    // From the reference implementation: XXH3_64bits of nothing, and with another seed something else.
    assert_eq!(hash(0, b""), 0x2d06_8005_38d3_94c2);
    assert_ne!(hash(1, b"key"), hash(2, b"key"));
}

proptest! {
    #[test]
    fn lb_06_lb_07_lb_08_every_enforcer_sends_a_key_to_the_same_endpoint(
        weights in proptest::collection::vec(1_u32..6, 1..12),
        key in any::<u64>(),
    ) {
        for (_, make, _) in [TABLES[1], TABLES[2]] {
            let names = names(weights.len());
            let (one, other) = (make(&names, &weights), make(&names, &weights));
            let pick = one.pick(key, |_| true);
            prop_assert_eq!(pick, other.pick(key, |_| true));
            prop_assert!(pick.is_some_and(|at| at < weights.len()));
        }
    }
}
