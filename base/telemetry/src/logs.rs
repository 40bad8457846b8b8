//! Structured logs to stderr: one human line on a terminal, JSON otherwise. Untrusted text is escaped by the
//! subscriber (tracing-subscriber >= 0.3.20).

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Starts logging; `filter` is a level or a filter in the form of `RUST_LOG`. A filter that cannot be read becomes
/// `info`, and says so. A second call changes nothing.
pub fn init(format: Format, filter: &str) {
    let (filter, fault) = match EnvFilter::try_new(filter) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = match format {
        Format::Human => lines.with_ansi(false).compact().try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
    if let (Some(fault), true) = (fault, started.is_ok()) {
        tracing::warn!(event = "log_filter_ignored", error = %fault, "the log filter could not be read; using info");
    }
}
