//! The signals that end a process.

use tokio::signal::unix::{SignalKind, signal};

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
