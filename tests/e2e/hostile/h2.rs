//! HTTP/2 from a caller whose frames are its own (RFC 9113, RFC 7541, HX and H2 rows of hardening.md). Each row has a
//! connection of its own and is followed by a good request on it, which is served unless the connection had to end.

mod floods;
mod rows;

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::frames::{self, ACK, PREFACE, SETTINGS, WHOLE, block, frame};
use tests::recorder::Recorder;
use tests::wire::{Caller, Wire};
use tests::{Gateway, Result};

use super::Table;
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("hx_hostile_http2_is_answered_as_its_class_says", None, classes),
        trial("g17_hostile_http2_floods_end_their_connection", None, floods::floods),
    ]
}

/// One class.
struct Row {
    id: String,
    bytes: Vec<u8>,
    /// What comes of its streams and of the connection; alternatives between bars.
    expected: &'static str,
    /// Nothing follows; the connection must end by itself.
    is_last: bool,
}

/// The stream of the good request behind a row.
const AFTER: u32 = 0x7001;

fn classes() -> Result {
    let origin = Recorder::start();
    let gateway = gateway(&origin)?;
    let caller = Caller::new(gateway.address, &gateway.identity()?, b"h2")?;
    let mut table = Table::new("http/2");
    for row in rows::all() {
        origin.take();
        let mut wire = caller.dial()?;
        wire.send(PREFACE);
        if !row.id.starts_with("preface") {
            wire.send(&frame(SETTINGS, 0, 0, &[]));
        }
        wire.send(&row.bytes);
        if !row.is_last {
            wire.send(&frame(frames::HEADERS, WHOLE, AFTER, &request("/after", &[])));
        }
        let due =
            row.expected.split(" | ").map(|expected| expected.split(", ").count() - 1).min().unwrap_or(0);
        let mut seen = Heard::of(&mut wire, !row.is_last, due, Duration::from_secs(3)).text();
        let forwarded =
            origin.take().into_iter().filter(|one| one.broken.is_none() && one.target() != "/after");
        let served = seen.split(", ").filter(|word| *word == "200").count();
        let forwarded: Vec<_> = forwarded.map(|one| one.head).collect();
        if forwarded.len() != served {
            seen.push_str(&format!(", but the origin received {forwarded:?}"));
        }
        let is_fit = row.expected.split(" | ").any(|expected| expected == seen);
        table.row(row.id, row.expected, if is_fit { row.expected.to_owned() } else { seen });
    }
    table.end(20)
}

/// A gateway before an origin, with short clocks.
fn gateway(origin: &Recorder) -> Result<Gateway> {
    Gateway::build()
        .listener("header_timeout = \"600ms\"")
        .site(origin.address)
        .route_line("header_timeout = \"1s\"\ntimeout = \"1s\"")
        .start()
}

/// The header block of a GET with further fields.
fn request(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let own = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
    block(&[&own[..], more].concat())
}

/// What a connection said.
#[derive(Debug, Default)]
struct Heard {
    /// In order: answers, resets, the reason of a GOAWAY.
    words: Vec<String>,
    /// The good request was served.
    is_open: bool,
    is_closed: bool,
}

impl Heard {
    /// Listens until the good request and so many others are answered, the connection ends, or time is over.
    fn of(wire: &mut Wire, acknowledges: bool, due: usize, within: Duration) -> Self {
        let mut heard = Self::default();
        let end = Instant::now() + within;
        let mut bodies = std::collections::BTreeMap::<u32, Vec<u8>>::new();
        loop {
            while let Some((kind, flags, stream, payload, length)) = frames::first(wire.unread()) {
                match kind {
                    SETTINGS if flags & ACK == 0 => {}
                    frames::DATA => {
                        let body = bodies.entry(stream).or_default();
                        body.extend_from_slice(payload);
                        if flags & frames::END_STREAM != 0 && stream == AFTER {
                            heard.is_open = true;
                        } else if flags & frames::END_STREAM != 0 {
                            let told: Value = serde_json::from_slice(body).unwrap_or_default();
                            heard.words.push(told["status"].as_u64().unwrap_or(200).to_string());
                        }
                    }
                    frames::RST_STREAM => heard.words.push(format!("reset {}", reason(payload))),
                    frames::GOAWAY => heard.words.push(format!("goaway {}", reason(&payload[4..]))),
                    _ => {}
                }
                let is_greeting = kind == SETTINGS && flags & ACK == 0 && acknowledges;
                wire.unread().drain(..length);
                if is_greeting {
                    wire.send(&frame(SETTINGS, ACK, 0, &[]));
                }
            }
            if heard.is_open && heard.words.len() >= due {
                return heard;
            }
            match wire.more(end) {
                Ok(1..) => {}
                Ok(0) => heard.is_closed = true,
                Err(error) => {
                    heard.is_closed = error.kind() != std::io::ErrorKind::TimedOut
                        && error.kind() != std::io::ErrorKind::WouldBlock
                }
            }
            if heard.is_closed || Instant::now() >= end {
                return heard;
            }
        }
    }

    fn text(&self) -> String {
        let end = match (self.is_open, self.is_closed) {
            (true, _) => "open",
            (_, true) => "close",
            _ => "silence",
        };
        // Behind a GOAWAY that says why, streams may be reset.
        let last = self.words.iter().position(|word| word.starts_with("goaway")).unwrap_or(self.words.len());
        let mut words: Vec<_> = self.words.iter().take(last + 1).cloned().collect();
        words.push(end.to_owned());
        words.join(", ")
    }
}

fn reason(payload: &[u8]) -> &'static str {
    payload.first_chunk::<4>().map_or("UNKNOWN", |code| frames::reason(u32::from_be_bytes(*code)))
}
