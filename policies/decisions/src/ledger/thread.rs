//! How threads of the ledger are started: a panic of their work is told and does not end it.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    thread::JoinHandle,
    time::Duration,
};

use crate::error::LedgerError;

/// Starts a thread that survives panics of its work: the work is resumed with the state it has.
pub(crate) fn thread(
    name: &str,
    mut work: impl FnMut() + Send + 'static,
) -> Result<JoinHandle<()>, LedgerError> {
    let run = move || {
        while catch_unwind(AssertUnwindSafe(&mut work)).is_err() {
            tracing::error!(event = "ledger_thread_panicked", "a thread of the ledger panicked and goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let started: io::Result<_> = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map_err(LedgerError::Thread)
}
