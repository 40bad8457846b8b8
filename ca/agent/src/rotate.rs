//! When to renew, when to try again, and the keeper of one own SVID.
//!
//! The two functions of time are used by `cache` for every entry and by [`Keeper`], which `portcullis` starts for the
//! identity of a gateway. Nothing here decides whether an SVID is valid; that is the verifier's.

mod keeper;

use std::time::Duration;

use base_ports::UnixTime;

pub use keeper::{Keeper, SignOwn};

/// The shortest wait after a failure, and between two issuances of one identity whatever its lifetime.
pub const RETRY_FIRST: Duration = Duration::from_millis(500);

/// The longest wait after repeated failures.
pub const RETRY_LONGEST: Duration = Duration::from_secs(150);

/// Within this, everything that a tainted key signed is renewed.
const TAINT_WITHIN: Duration = Duration::from_secs(30);

/// When an SVID is renewed: at half its life, moved by up to 10 % of that half either way. `jitter` is any random
/// number; give the time of receipt as `not_before` where it is the later one, so that back-dating costs no life.
pub fn renew_at(not_before: UnixTime, not_after: UnixTime, jitter: u64) -> UnixTime {
    let half = not_after.saturating_since(not_before) / 2;
    not_before + half.mul_f64(0.9 + 0.2 * unit(jitter))
}

/// How long to wait after the `failures`-th failure in a row: 0.5 s, doubled each time up to 100 s, and lengthened by up
/// to a half, so that many agents do not come back together. `jitter` is any random number.
pub fn retry_after(failures: u32, jitter: u64) -> Duration {
    let doubled = RETRY_FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    doubled.min(RETRY_LONGEST * 2 / 3).mul_f64(1.0 + 0.5 * unit(jitter))
}

/// When, from now, an SVID of a tainted key is renewed (AU-04): `jitter` is any random number.
pub fn spread(jitter: u64) -> Duration {
    TAINT_WITHIN.mul_f64(unit(jitter))
}

/// After this the renewal is late enough to be told: two thirds of the life.
pub(crate) fn late_at(not_before: UnixTime, not_after: UnixTime) -> UnixTime {
    not_before + not_after.saturating_since(not_before) / 3 * 2
}

/// A random number as a value from 0 to 1.
fn unit(random: u64) -> f64 {
    f64::from(u32::try_from(random >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_secs(seconds)
    }

    #[test]
    fn a_renewal_is_due_at_half_life_within_ten_percent() {
        assert_eq!(renew_at(at(1_000), at(4_600), 0), at(2_620));
        assert_eq!(renew_at(at(1_000), at(4_600), u64::MAX), at(2_980));
        for jitter in [1, 1 << 40, u64::MAX / 2, u64::MAX / 3] {
            let due = renew_at(at(1_000), at(4_600), jitter);
            assert!(due >= at(2_620) && due <= at(2_980), "{due}");
        }
    }

    #[test]
    fn an_svid_without_life_is_due_at_once() {
        assert_eq!(renew_at(at(10), at(5), 7), at(10));
    }

    #[test]
    fn retries_start_at_half_a_second_and_never_wait_longer_than_150() {
        assert_eq!(retry_after(1, 0), Duration::from_millis(500));
        assert_eq!(retry_after(2, 0), Duration::from_secs(1));
        assert_eq!(retry_after(1, u64::MAX), Duration::from_millis(750));
        for failures in [9, 10, 31, 32, 33, u32::MAX] {
            assert_eq!(retry_after(failures, 0), Duration::from_secs(100));
            assert_eq!(retry_after(failures, u64::MAX), RETRY_LONGEST);
        }
    }
}
