//! Why the data plane could not be started, or listeners not be opened. What goes wrong later is a `Fault` of one call.

use std::io;
use std::sync::Arc;

/// What failed; of it, nothing listens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// A socket could not be bound.
    #[error("cannot listen on `{address}` for `{listener}`")]
    Bind {
        /// Name of the listener.
        listener: Arc<str>,
        /// The address, as the configuration writes it.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing is opened any more.
    #[error("the data plane is about to end")]
    Ending,
    /// A worker thread or its runtime could not be made.
    #[error("cannot start worker {worker}")]
    Worker {
        /// Its number.
        worker: usize,
        /// What the system said.
        source: io::Error,
    },
    /// A setting that has no meaning.
    #[error("`{word}` is none of denied, always, never")]
    Reveal {
        /// What was written.
        word: String,
    },
}
