//! Shares of priorities and zones, and when health is ignored (LB-11 to LB-13): arithmetic over counts of endpoints.

/// An overprovisioned level takes all of its calls until fewer than 1/1.4 of its endpoints are healthy.
const OVERPROVISION: usize = 140;

/// Percent of the calls per priority, best first, from (healthy, all) endpoints of each. They add up to 100, or to 0
/// when nothing is healthy.
pub(super) fn priorities(levels: &[(usize, usize)]) -> Vec<usize> {
    let health =
        |&(healthy, all): &(usize, usize)| (OVERPROVISION * healthy).checked_div(all).unwrap_or(0).min(100);
    let total: usize = levels.iter().map(health).sum::<usize>().min(100);
    let mut left = 100;
    let mut loads: Vec<usize> = levels
        .iter()
        .map(|level| {
            let load = (health(level) * 100).checked_div(total).unwrap_or(0).min(left);
            left -= load;
            load
        })
        .collect();
    // What rounding leaves goes to the first level that has anything.
    if total > 0
        && let Some(first) = loads.iter_mut().find(|load| **load > 0)
    {
        *first += left;
    }
    loads
}

/// Whether so few endpoints are healthy that all are used (LB-12).
pub(super) fn panics(levels: &[(usize, usize)]) -> bool {
    let (healthy, all) = levels.iter().fold((0, 0), |sum, level| (sum.0 + level.0, sum.1 + level.1));
    healthy * 2 < all
}

/// Shares of the zones, from the endpoints in each; the caller's own zone is `local`, and callers are equally many in
/// each zone. The local zone keeps what it has endpoints for, the rest goes where endpoints are to spare (LB-13).
pub(super) fn zones(endpoints: &[usize], local: usize) -> Vec<f64> {
    let all: usize = endpoints.iter().sum();
    let share = |n: usize| n as f64 / all.max(1) as f64;
    let callers = 1.0 / endpoints.len().max(1) as f64;
    let here = endpoints.get(local).map_or(0.0, |&n| (share(n) / callers).min(1.0));
    let spare = |(zone, &n): (usize, &usize)| if zone == local { 0.0 } else { (share(n) - callers).max(0.0) };
    let total: f64 = endpoints.iter().enumerate().map(spare).sum();
    endpoints
        .iter()
        .enumerate()
        .map(|zone| match zone {
            (zone, _) if zone == local => here,
            _ if total > 0.0 => (1.0 - here) * spare(zone) / total,
            _ => 0.0,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lb_11_a_level_spills_over_only_below_its_share_of_health() {
        for (levels, loads) in [
            (&[(10, 10), (10, 10)][..], &[100, 0][..]),
            (&[(8, 10), (10, 10)], &[100, 0]),
            (&[(7, 10), (10, 10)], &[98, 2]),
            (&[(5, 10), (10, 10)], &[70, 30]),
            (&[(0, 10), (10, 10)], &[0, 100]),
            // 25 % + 25 % of health are scaled up to all calls: 35 of 70.
            (&[(1, 4), (1, 4)], &[50, 50]),
            (&[(5, 10), (1, 10), (10, 10)], &[70, 14, 16]),
            (&[(0, 3), (0, 3)], &[0, 0]),
            (&[(1, 1)], &[100]),
            (&[], &[]),
        ] {
            assert_eq!(priorities(levels), loads, "{levels:?}");
        }
    }

    #[test]
    fn lb_12_health_is_ignored_below_half_of_all() {
        for (levels, panic) in
            [(&[(2, 4)][..], false), (&[(1, 4)], true), (&[(0, 4), (4, 4)], false), (&[(0, 5), (4, 4)], true)]
        {
            assert_eq!(panics(levels), panic, "{levels:?}");
        }
    }

    #[test]
    fn lb_13_a_zone_keeps_what_it_has_endpoints_for() {
        let close = |found: Vec<f64>, expected: &[f64]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?} {expected:?}");
        };
        close(zones(&[3, 3], 0), &[1.0, 0.0]);
        close(zones(&[4, 2], 0), &[1.0, 0.0]);
        // Two of six endpoints serve two thirds of a half of the callers; the other zone has the spare ones.
        close(zones(&[2, 4], 0), &[2.0 / 3.0, 1.0 / 3.0]);
        close(zones(&[1, 4, 4], 0), &[1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]);
        close(zones(&[0, 6], 0), &[0.0, 1.0]);
    }

    #[test]
    fn lb_13_callers_in_all_zones_together_load_every_endpoint_alike() {
        for counts in [[2, 4], [1, 5], [3, 3]] {
            let mut load = [0.0; 2];
            for local in 0..2 {
                for (zone, share) in zones(&counts, local).into_iter().enumerate() {
                    load[zone] += share / 2.0;
                }
            }
            let each = load[0] / counts[0] as f64;
            assert!((each - load[1] / counts[1] as f64).abs() < 1e-9, "{counts:?} {load:?}");
        }
    }
}
