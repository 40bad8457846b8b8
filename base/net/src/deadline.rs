//! Time limits: the timers every connection has (AL-01), and a future that may not take longer.

use std::{future::Future, time::Duration};

/// The timers of a connection. All are always armed; there is no value for never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// From accept to the end of the TLS handshake.
    pub handshake: Duration,
    /// From the first byte of a request head to its end, and from accept to the first head.
    pub header: Duration,
    /// Without a request in flight.
    pub idle: Duration,
    /// From accept to a graceful close; see [`Timers::age`].
    pub max_age: Duration,
}

impl Default for Timers {
    /// `hardening.md` section 1, profile edge.
    fn default() -> Timers {
        Timers {
            handshake: Duration::from_secs(5),
            header: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            max_age: Duration::from_secs(3600),
        }
    }
}

impl Timers {
    /// `max_age` less a jitter of up to a tenth, so that connections made together do not end together.
    #[must_use]
    pub fn age(&self, random: u64) -> Duration {
        let tenth = u64::try_from(self.max_age.as_nanos() / 10).unwrap_or(u64::MAX);
        self.max_age.saturating_sub(Duration::from_nanos(random.checked_rem(tenth).unwrap_or(0)))
    }
}

/// Something took longer than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} took longer than {limit:?}")]
pub struct DeadlineExceeded {
    /// What was awaited.
    pub what: &'static str,
    /// How long it may take.
    pub limit: Duration,
}

/// Runs `future` for at most `limit`; dropped in the middle when the time is over.
///
/// # Errors
/// The time is over.
pub async fn within<T>(
    limit: Duration,
    what: &'static str,
    future: impl Future<Output = T>,
) -> Result<T, DeadlineExceeded> {
    // The elapsed error of tokio carries nothing that `what` and `limit` do not say.
    tokio::time::timeout(limit, future).await.ok().ok_or(DeadlineExceeded { what, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_named_and_dropped() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let hung = async move {
            std::future::pending::<()>().await;
            drop(sender);
        };
        let refused = within(Duration::from_secs(5), "tls handshake", hung).await;
        assert_eq!(refused, Err(DeadlineExceeded { what: "tls handshake", limit: Duration::from_secs(5) }));
        assert_eq!(refused.unwrap_err().to_string(), "tls handshake took longer than 5s");
        assert!(receiver.await.is_err(), "the hung future is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_time_returns_its_value() {
        let slow = async {
            tokio::time::sleep(Duration::from_millis(4_999)).await;
            7
        };
        assert_eq!(within(Duration::from_secs(5), "answer", slow).await, Ok(7));
    }

    #[test]
    fn the_age_of_a_connection_has_a_jitter_of_at_most_a_tenth() {
        let timers = Timers::default();
        for random in [0, 1, 359_999_999_999, 360_000_000_000, u64::MAX] {
            let age = timers.age(random);
            assert!(
                age <= timers.max_age && age > timers.max_age.mul_f64(0.9) - Duration::from_nanos(1),
                "{age:?}"
            );
        }
        assert_ne!(timers.age(1_000_000_000), timers.max_age);
        assert_eq!(Timers { max_age: Duration::ZERO, ..timers }.age(5), Duration::ZERO);
    }
}
