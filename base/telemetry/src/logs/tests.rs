//! Lines as they reach the terminal or the collector.

use super::*;
use base_ports::{ManualClock, UnixTime};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::io::Write;

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Buffer {
    type Writer = Buffer;

    fn make_writer(&'a self) -> Buffer {
        self.clone()
    }
}

fn logged_as(format: Format, is_coloured: bool, work: impl FnOnce(&Control)) -> String {
    let buffer = Buffer::default();
    let clock = ManualClock::new(UnixTime::parse_rfc3339("2026-11-22T07:00:00.123456Z").unwrap());
    let filter = EnvFilter::new("info");
    let (subscriber, control) = subscriber(format, is_coloured, filter, buffer.clone(), Arc::new(clock));
    tracing::subscriber::with_default(subscriber, || work(&control));
    String::from_utf8(std::mem::take(&mut buffer.0.lock())).unwrap()
}

fn logged(format: Format, work: impl FnOnce()) -> String {
    logged_as(format, false, |_| work())
}

#[derive(Debug, thiserror::Error)]
#[error("no such file")]
struct Cause;

#[derive(Debug, thiserror::Error)]
#[error("cannot read")]
struct Fault(#[source] Cause);

fn speak() {
    let fault: &(dyn std::error::Error + 'static) = &Fault(Cause);
    tracing::warn!(event = "reload_failed", code = "PC2001", tries = 3, ok = false, fault, path = %"a b", "not read");
}

#[test]
fn ob6_json_has_the_fields_of_every_line_and_those_of_the_event() {
    let line = logged(Format::Json, speak);
    assert_eq!(line.matches('\n').count(), 1);
    let expected = json!({"ts": "2026-11-22T07:00:00.123Z", "level": "warn", "event": "reload_failed",
        "message": "not read", "code": "PC2001", "tries": 3, "ok": false, "fault": "cannot read: no such file", "path": "a b"});
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), expected);
    assert!(line.starts_with("{\"ts\":\"2026-11-22T07:00:00.123Z\",\"level\":\"warn\",\"event\":"), "{line}");
}

#[test]
fn ob6_a_human_line_reads_from_left_to_right() {
    assert_eq!(
        logged(Format::Human, speak),
        "2026-11-22T07:00:00.123Z WARN  reload_failed: not read code=PC2001 tries=3 ok=false fault=\"cannot read: no such file\" path=\"a b\"\n"
    );
}

#[test]
fn colour_is_for_terminals() {
    let coloured = logged_as(Format::Human, true, |_| tracing::error!(event = "x", "y"));
    assert_eq!(coloured, "2026-11-22T07:00:00.123Z \u{1b}[31mERROR\u{1b}[0m x: y\n");
    assert!(!logged_as(Format::Json, true, |_| tracing::error!(event = "x", "y")).contains('\u{1b}'));
}

#[test]
fn an_event_without_a_name_is_named_by_its_place() {
    let line = logged(Format::Json, || tracing::info!("hello"));
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["event"], module_path!());
}

#[test]
fn ob6_untrusted_text_stays_one_harmless_line() {
    let evil = "x\u{1b}[2J\n{\"level\":\"info\"}\u{202e}\" y=1";
    let speak = || {
        tracing::info!(event = "call", path = evil, shown = %evil, debug = ?evil, level = evil, ts = evil, "{evil}");
    };
    let line = logged(Format::Json, speak);
    assert!(line.trim_end().chars().all(|c| !c.is_control() && c != '\u{202e}'), "{line}");
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&value["path"], &value["shown"], &value["message"]),
        (&json!(evil), &json!(evil), &json!(evil))
    );
    assert_eq!((&value["level"], &value["field_level"]), (&json!("info"), &json!(evil)));
    assert_eq!(value["ts"], "2026-11-22T07:00:00.123Z");

    let line = logged(Format::Human, speak);
    assert!(line.trim_end().chars().all(|c| !c.is_control() && c != '\u{202e}'), "{line}");
    assert!(line.contains("path=\"x\\u{1b}[2J\\n{\\\"level\\\":"), "{line}");
}

#[test]
fn numbers_that_json_has_no_word_for_are_text() {
    let line = logged(Format::Json, || tracing::info!(a = f64::NAN, b = 1.5, c = -1, "x"));
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&value["a"], &value["b"], &value["c"]), (&json!("NaN"), &json!(1.5), &json!(-1)));
}

#[test]
fn ob6_the_level_is_changed_while_it_runs() {
    let lines = logged_as(Format::Human, false, |control| {
        tracing::debug!(event = "one", "hidden");
        control.set_filter("debug").unwrap();
        tracing::debug!(event = "two", "shown");
        let error = control.set_filter("loud=very=").unwrap_err();
        assert!(error.to_string().starts_with("`loud=very=` is no log filter: "), "{error}");
        tracing::debug!(event = "three", "still shown");
        control.set_filter("off").unwrap();
        tracing::error!(event = "four", "hidden");
    });
    assert!(
        !lines.contains("one") && lines.contains("two") && lines.contains("three") && !lines.contains("four")
    );
}

/// Libraries below have trace events for every frame; while the level in use is not known each of them asks the filter.
#[test]
fn the_level_in_use_is_known_without_asking_the_filter() {
    use tracing::level_filters::LevelFilter;
    let filter = EnvFilter::new("error");
    let (logs, control) = subscriber(Format::Json, false, filter, io::sink, Arc::new(SystemClock));
    // Asked of the subscriber itself: what the process knows depends on the tests beside this one.
    assert_eq!(logs.max_level_hint(), Some(LevelFilter::ERROR));
    control.set_filter("debug").unwrap();
    assert_eq!(logs.max_level_hint(), Some(LevelFilter::DEBUG));
}
