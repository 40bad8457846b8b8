//! Which worker serves a connection that one of them accepted (AL-03): that one, unless it has much more to do than another.

/// Connections and calls by which a worker must have more to do at least.
const LEAST: u32 = 8;

/// The worker that has least to do, when the one of that number has more than a quarter and at least eight more. What each
/// has to do are its connections and the calls that run on them.
#[must_use]
pub fn lighter(number: usize, all: impl IntoIterator<Item = u32>) -> Option<usize> {
    let (mut own, mut least) = (0, (u32::MAX, number));
    for (other, has) in all.into_iter().enumerate() {
        if other == number {
            own = has;
        }
        least = least.min((has, other));
    }
    let (has, other) = least;
    let is_much = own >= has.saturating_add(LEAST) && own.saturating_mul(4) > has.saturating_mul(5);
    is_much.then_some(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn al_03_a_connection_moves_by_a_quarter_and_by_eight() {
        for (all, to) in [
            (&[7, 0][..], None),
            (&[8, 0], Some(1)),
            (&[8], None),
            (&[8, 0, 0], Some(1)),
            (&[100, 80], None),
            (&[101, 80], Some(1)),
            (&[3, 90, 1], None),
        ] {
            assert_eq!(lighter(0, all.iter().copied()), to, "{all:?}");
        }
    }

    proptest! {
        #[test]
        fn al_03_no_worker_falls_far_behind(arrivals in proptest::collection::vec((0_usize..4, 1_u32..200), 32..256)) {
            // Each connection comes to some worker and has so many calls from then on.
            let mut has = [0_u32; 4];
            for (at, calls) in &arrivals {
                let to = lighter(*at, has).unwrap_or(*at);
                has[to] += 1 + calls;
            }
            let (least, most) = (has.iter().min().unwrap(), has.iter().max().unwrap());
            // The last that came to the heaviest found it not that much heavier.
            let longest = 1 + arrivals.iter().map(|(_, calls)| *calls).max().unwrap();
            prop_assert!(*most <= longest + (least + LEAST).max(least * 5 / 4 + 1), "{has:?}");
        }
    }
}
