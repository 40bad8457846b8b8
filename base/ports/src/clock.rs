//! Wall clock and monotonic clock, read together, as a parameter.
//! The only file of the product that asks the operating system for the time.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Wall clock time: nanoseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixTime(i64);

const NANOS: i64 = 1_000_000_000;

impl UnixTime {
    /// From nanoseconds since 1970.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From milliseconds since 1970; saturates.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// From seconds since 1970; saturates.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(NANOS))
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since 1970, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Whole seconds since 1970, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(NANOS)
    }

    /// Time since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339.
    ///
    /// # Errors
    /// Text that is not RFC 3339, or a time that does not fit.
    pub fn parse_rfc3339(text: &str) -> Result<Self, TimeError> {
        let time = OffsetDateTime::parse(text, &Rfc3339)?;
        i64::try_from(time.unix_timestamp_nanos()).map(Self).map_err(TimeError::Range)
    }
}

/// Text that is no time.
#[derive(Debug, thiserror::Error)]
pub enum TimeError {
    /// Not RFC 3339.
    #[error("not an RFC 3339 time")]
    Form(#[from] time::error::Parse),
    /// Before 1677 or after 2262.
    #[error("time does not fit into 64 bits of nanoseconds")]
    Range(#[source] std::num::TryFromIntError),
}

impl fmt::Display for UnixTime {
    /// RFC 3339 UTC, with as many digits of a second as it has.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time =
            OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0)).map_err(|_invalid| fmt::Error)?;
        f.write_str(&time.format(&Rfc3339).map_err(|_invalid| fmt::Error)?)
    }
}

impl fmt::Debug for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Add<Duration> for UnixTime {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl Sub<Duration> for UnixTime {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

/// Monotonic time: nanoseconds since an origin of this process. Never steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(u64);

impl Mono {
    /// From nanoseconds since the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Both clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For validity, records, people.
    pub wall: UnixTime,
    /// For deadlines and durations.
    pub mono: Mono,
}

/// Where a component gets the time from.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// Both clocks.
    fn now(&self) -> Now;

    /// The monotonic clock alone, at half the cost.
    fn mono(&self) -> Mono {
        self.now().mono
    }
}

/// The clocks of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[expect(clippy::disallowed_methods, reason = "this is the Clock that everybody else is given")]
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the Clock that everybody else is given")]
    fn now(&self) -> Now {
        let wall = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => UnixTime(nanos(since)),
            Err(before) => UnixTime(nanos(before.duration()).saturating_neg()),
        };
        Now { wall, mono: self.mono() }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the Clock that everybody else is given")]
    fn mono(&self) -> Mono {
        let since = Instant::now().saturating_duration_since(*ORIGIN);
        Mono(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// A clock that only tests move.
#[derive(Debug)]
pub struct ManualClock(Mutex<Now>);

impl ManualClock {
    /// Stands at `wall`.
    #[must_use]
    pub fn new(wall: UnixTime) -> Self {
        Self(Mutex::new(Now { wall, mono: Mono(0) }))
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock();
        *now = Now { wall: now.wall + by, mono: now.mono + by };
    }

    /// Steps the wall clock, as NTP or an operator would; the monotonic clock stays.
    pub fn set_wall(&self, wall: UnixTime) {
        self.0.lock().wall = wall;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        *self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_rfc_3339_and_read_back() {
        for text in ["2026-11-22T07:00:00Z", "2026-11-22T07:00:00.123456789Z", "1969-12-31T23:59:59.5Z"] {
            let time = UnixTime::parse_rfc3339(text).unwrap();
            assert_eq!(time.to_string(), text);
        }
        assert!(UnixTime::parse_rfc3339("yesterday").is_err());
        assert_eq!(UnixTime::from_nanos(-1).as_secs(), -1);
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(UnixTime::from_nanos(i64::MAX) + Duration::from_secs(1), UnixTime::from_nanos(i64::MAX));
        assert_eq!(UnixTime::from_secs(1).saturating_since(UnixTime::from_secs(2)), Duration::ZERO);
        assert_eq!(Mono::from_nanos(5).saturating_since(Mono::from_nanos(3)), Duration::from_nanos(2));
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(UnixTime::from_secs(10));
        clock.advance(Duration::from_secs(5));
        clock.set_wall(UnixTime::from_secs(1));
        let now = clock.now();
        assert_eq!((now.wall, now.mono), (UnixTime::from_secs(1), Mono::from_nanos(5_000_000_000)));
    }

    #[test]
    fn the_system_clock_goes_forward() {
        let (first, second) = (SystemClock.now(), SystemClock.now());
        assert!(second.mono >= first.mono);
        assert!(first.wall > UnixTime::from_secs(1_700_000_000));
    }
}
