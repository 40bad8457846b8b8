//! Structured logs to stderr: one human line on a terminal, JSON otherwise (OB6).
//!
//! Each line has `ts`, `level`, `event`, `message` and the fields of its event (`code`, `trace_id`, `decision_id`).
//! Event names are API. Text of fields is untrusted and escaped; a line is always one line.

mod line;

use base_ports::{Clock, SystemClock};
use line::Lines;
use std::{fmt, io, sync::Arc};
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::ParseError, fmt as lines, fmt::MakeWriter, layer::SubscriberExt,
    reload,
};

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// For people on a terminal, JSON otherwise.
    #[must_use]
    pub fn detect() -> Format {
        use io::IsTerminal;
        if io::stderr().is_terminal() { Format::Human } else { Format::Json }
    }
}

/// Changes the filter of running logs.
#[derive(Clone)]
pub struct Control(reload::Handle<EnvFilter, Registry>);

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Control")
    }
}

/// Why the filter was not changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Neither a level nor a filter.
    #[error("`{filter}` is no log filter: {cause}")]
    Filter {
        /// What was asked for.
        filter: String,
        /// Why it cannot be read.
        cause: ParseError,
    },
    /// The logs are gone.
    #[error("logs are not running")]
    Gone(#[from] reload::Error),
}

impl Control {
    /// Replaces the filter: a level, or the form of `RUST_LOG`.
    ///
    /// # Errors
    /// The filter cannot be read; the one before stays.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        let parsed = EnvFilter::try_new(filter)
            .map_err(|cause| LogError::Filter { filter: filter.to_owned(), cause })?;
        Ok(self.0.reload(parsed)?)
    }
}

/// Starts logging; `filter` is a level or a filter in the form of `RUST_LOG`. A filter that cannot be read becomes
/// `info`, and says so. A second call changes nothing; its control controls nothing.
pub fn init(format: Format, filter: &str) -> Control {
    let is_coloured =
        format == Format::Human && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (parsed, fault) = match EnvFilter::try_new(filter) {
        Ok(parsed) => (parsed, None),
        Err(fault) => (EnvFilter::new("info"), Some(fault)),
    };
    let (subscriber, control) = subscriber(format, is_coloured, parsed, io::stderr, Arc::new(SystemClock));
    let is_started = tracing::subscriber::set_global_default(subscriber).is_ok();
    if let (Some(fault), true) = (fault, is_started) {
        tracing::warn!(event = "log_filter_ignored", filter, error = %fault, "the log filter cannot be read; using info");
    }
    control
}

fn subscriber<W>(
    format: Format,
    is_coloured: bool,
    filter: EnvFilter,
    writer: W,
    clock: Arc<dyn Clock>,
) -> (impl Subscriber + Send + Sync, Control)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter);
    let layer =
        lines::layer().event_format(Lines { format, clock }).with_ansi(is_coloured).with_writer(writer);
    // As the layer's own filter it tells the highest level in use, so that events above it cost a compare.
    (Registry::default().with(layer.with_filter(filter)), Control(handle))
}

#[cfg(test)]
mod tests;
