//! A limit on how long something may take, with a name for who has to say so.

use std::future::Future;
use std::time::Duration;

/// Something took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} took longer than {limit:?}")]
pub struct DeadlineExceeded {
    /// What it was.
    pub what: &'static str,
    /// How long it might have taken.
    pub limit: Duration,
}

/// Runs `work` for at most `limit`.
///
/// # Errors
/// [`DeadlineExceeded`] when it took longer; `work` is dropped then.
pub async fn within<W: Future>(
    limit: Duration,
    what: &'static str,
    work: W,
) -> Result<W::Output, DeadlineExceeded> {
    tokio::time::timeout(limit, work).await.map_err(|_elapsed| DeadlineExceeded { what, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_takes_too_long_is_named() {
        let limit = Duration::from_millis(5);
        let error = within(limit, "handshake", std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(error.to_string(), "handshake took longer than 5ms");
        assert_eq!(within(limit, "nothing", async { 1 }).await, Ok(1));
    }
}
