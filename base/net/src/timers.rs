//! The timers that are always armed on a connection (AL-01).

use std::time::Duration;

/// How long each phase of a connection may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// TLS handshake.
    pub handshake: Duration,
    /// A whole request head.
    pub header: Duration,
    /// A connection without a call.
    pub idle: Duration,
    /// The connection as a whole; never beyond the peer's SVID.
    pub max_age: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            header: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            max_age: Duration::from_secs(3_600),
        }
    }
}
