//! How long to wait after the n-th failure in a row: doubles from the first to the longest. Pure.

use std::time::Duration;

/// Waits that double (AL-02: 5 ms to 1 s).
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_secs(1);

    pub(crate) const fn new() -> Backoff {
        Backoff { next: Backoff::FIRST }
    }

    /// The wait after one more failure.
    pub(crate) fn fail(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(Backoff::LONGEST);
        wait
    }

    /// Whether no failure has happened since the last success.
    pub(crate) fn is_fresh(&self) -> bool {
        self.next == Backoff::FIRST
    }

    pub(crate) fn succeed(&mut self) {
        self.next = Backoff::FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn al_02_waits_double_from_5_ms_to_1_s_and_start_again_after_success() {
        let mut backoff = Backoff::new();
        assert!(backoff.is_fresh());
        let waits: Vec<u128> = (0..10).map(|_| backoff.fail().as_millis()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.succeed();
        assert_eq!(backoff.fail().as_millis(), 5);
    }
}
