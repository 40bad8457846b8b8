//! One event as one line.

use super::Format;
use crate::redact::{escape, push_json};
use base_ports::{Clock, UnixTime};
use std::{error::Error, fmt, sync::Arc};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Writes events in one of both forms.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) format: Format,
    pub(super) clock: Arc<dyn Clock>,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut told = Told::default();
        event.record(&mut told);
        let line = Line {
            // Milliseconds are enough to read; the order of lines tells the rest.
            ts: UnixTime::from_millis(self.clock.now().wall.as_millis()),
            level: *event.metadata().level(),
            event: told.event.as_deref().unwrap_or_else(|| event.metadata().target()),
            message: &told.message,
            fields: &told.fields,
        };
        let text = match self.format {
            Format::Json => line.json(),
            Format::Human => line.human(writer.has_ansi_escapes()),
        };
        writeln!(writer, "{text}")
    }
}

struct Line<'a> {
    ts: UnixTime,
    level: Level,
    event: &'a str,
    message: &'a str,
    fields: &'a [(&'static str, Value)],
}

enum Value {
    Text(String),
    /// A number or a truth value, the same in JSON.
    Plain(String),
}

impl Line<'_> {
    fn json(&self) -> String {
        let mut out = format!("{{\"ts\":\"{}\",\"level\":\"{}\",\"event\":", self.ts, word(self.level));
        push_json(&mut out, self.event);
        out.push_str(",\"message\":");
        push_json(&mut out, self.message);
        for (name, value) in self.fields {
            out.push(',');
            push_json(&mut out, name);
            out.push(':');
            match value {
                Value::Text(text) => push_json(&mut out, text),
                Value::Plain(text) => out.push_str(text),
            }
        }
        out.push('}');
        out
    }

    fn human(&self, is_coloured: bool) -> String {
        let level = word(self.level).to_uppercase();
        let level = match colour(self.level).filter(|_| is_coloured) {
            Some(colour) => format!("\u{1b}[{colour}m{level:5}\u{1b}[0m"),
            None => format!("{level:5}"),
        };
        let mut out = format!("{} {level} {}: {}", self.ts, escape(self.event), escape(self.message));
        for (name, value) in self.fields {
            out.push(' ');
            out.push_str(name);
            out.push('=');
            match value {
                Value::Text(text) if text.is_empty() || text.contains([' ', '"', '=']) => {
                    out.push_str(&format!("\"{}\"", escape(text).replace('"', "\\\"")));
                }
                Value::Text(text) => out.push_str(&escape(text)),
                Value::Plain(text) => out.push_str(text),
            }
        }
        out
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        _ => "trace",
    }
}

fn colour(level: Level) -> Option<u8> {
    match level {
        Level::ERROR => Some(31),
        Level::WARN => Some(33),
        Level::INFO => Some(32),
        _ => None,
    }
}

/// What an event says about itself.
#[derive(Default)]
struct Told {
    event: Option<String>,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Told {
    fn text(&mut self, field: &Field, text: String) {
        match field.name() {
            "message" => self.message = text,
            "event" => self.event = Some(text),
            // Names that the line itself uses.
            "ts" => self.fields.push(("field_ts", Value::Text(text))),
            "level" => self.fields.push(("field_level", Value::Text(text))),
            name => self.fields.push((name, Value::Text(text))),
        }
    }

    fn plain(&mut self, field: &Field, text: String) {
        match field.name() {
            "message" | "event" | "ts" | "level" => self.text(field, text),
            name => self.fields.push((name, Value::Plain(text))),
        }
    }
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for what is not finite.
        if value.is_finite() {
            self.plain(field, value.to_string());
        } else {
            self.text(field, value.to_string());
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let causes = std::iter::successors(Some(value), |error: &&(dyn Error + 'static)| (*error).source());
        self.text(field, causes.map(ToString::to_string).collect::<Vec<_>>().join(": "));
    }
}
