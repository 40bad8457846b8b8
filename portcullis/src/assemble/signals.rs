//! The signals that a process obeys: those that end it, the one that has it read its configuration again, and the one that
//! has another process take its place (HO3).

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

/// All of them from now on. One that cannot be had does what it does without us.
pub(crate) struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
    second_user: Option<Signal>,
}

/// What a signal asks for.
pub(crate) enum Told {
    /// To end; the name of the signal.
    End(&'static str),
    /// To read the configuration again.
    Reload,
    /// To leave to another process.
    Upgrade,
}

impl Signals {
    /// From here on a signal ends nothing by itself.
    pub(crate) fn new() -> Self {
        Self {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
            hangup: signal(SignalKind::hangup()).ok(),
            second_user: signal(SignalKind::user_defined2()).ok(),
        }
    }

    /// The next one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Told {
        tokio::select! {
            () = received(&mut self.interrupt) => Told::End("SIGINT"),
            () = received(&mut self.terminate) => Told::End("SIGTERM"),
            () = received(&mut self.hangup) => Told::Reload,
            () = received(&mut self.second_user) => Told::Upgrade,
        }
    }
}

async fn received(signals: &mut Option<Signal>) {
    let told = match signals {
        Some(signals) => signals.recv().await,
        None => None,
    };
    if told.is_none() {
        std::future::pending().await
    }
}
