//! The signals that end a process, and the one that has it read its configuration again.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Resolves with the name of the next SIGINT or SIGTERM.
pub(crate) async fn ended() -> &'static str {
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    match (interrupt, terminate) {
        (Ok(mut interrupt), Ok(mut terminate)) => tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        },
        // Without handlers the default action of the signals ends the process, which is what they ask for.
        _ => std::future::pending().await,
    }
}

/// Every SIGHUP from now on.
pub(crate) struct Hangups(Option<Signal>);

/// From here on a SIGHUP ends nothing.
pub(crate) fn hangups() -> Hangups {
    Hangups(signal(SignalKind::hangup()).ok())
}

impl Hangups {
    /// Resolves at the next one.
    pub(crate) async fn next(&mut self) {
        let told = match &mut self.0 {
            Some(signals) => signals.recv().await,
            None => None,
        };
        if told.is_none() {
            std::future::pending().await
        }
    }
}
