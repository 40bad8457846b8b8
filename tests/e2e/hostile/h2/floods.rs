//! Floods over HTTP/2 (H2-01 to H2-04, G17): each ends its own connection soon, and a good caller beside it loses nothing.

use std::time::{Duration, Instant};

use tests::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, PRIORITY,
    PRIORITY_UPDATE, RST_STREAM, SETTINGS, WHOLE, WINDOW_UPDATE, block, frame, setting,
};
use tests::recorder::Recorder;
use tests::wire::Caller;
use tests::{Result, check};

use super::super::Table;
use super::super::good::{Good, scale};
use super::{Heard, gateway, request};

/// An attack: what comes first, then one part after the other.
struct Flood {
    id: &'static str,
    first: Vec<u8>,
    part: fn(u32) -> Vec<u8>,
}

/// Parts of a flood in one write.
const BATCH: u32 = 50;
/// Before so many parts are sent the connection must have ended (G17).
const MOST: u32 = 10_000;

/// Stream of the nth part.
fn stream(nth: u32) -> u32 {
    nth * 2 + 1
}

fn get(nth: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream(nth), &request("/flood", &[]))
}

fn post(nth: u32) -> Vec<u8> {
    let fields =
        [(":method", "POST"), (":scheme", "https"), (":authority", "localhost"), (":path", "/flood")];
    frame(HEADERS, END_HEADERS, stream(nth), &block(&fields))
}

fn all() -> Vec<Flood> {
    let flood = |id, part| Flood { id, first: Vec::new(), part };
    let behind = |id, first, part| Flood { id, first, part };
    vec![
        flood("ping", |_| frame(PING, 0, 0, &[7; 8])),
        flood("answers to no ping", |_| frame(PING, ACK, 0, &[7; 8])),
        flood("settings", |_| frame(SETTINGS, 0, 0, &[])),
        flood("settings of 16 KiB", |_| frame(SETTINGS, 0, 0, &setting(0x77, 1).repeat(2700))),
        flood("windows by settings", |nth| frame(SETTINGS, 0, 0, &setting(4, nth))),
        flood("acknowledgements", |_| frame(SETTINGS, ACK, 0, &[])),
        flood("priority", |nth| frame(PRIORITY, 0, stream(nth), &[0, 0, 0, 0, 9])),
        flood("priority updates", |_| frame(PRIORITY_UPDATE, 0, 0, &[0, 0, 0, 1, b'u'])),
        flood("unknown frames", |_| frame(0x7f, 0, 0, &[])),
        flood("unknown frames of 16 KiB", |_| frame(0x7f, 0, 0, &[0; 16_384])),
        flood("credit for the connection", |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        behind("credit for a stream", post(0), |_| frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
        behind("empty data", post(0), |_| frame(DATA, 0, 1, &[])),
        behind("padding", post(0), |_| frame(DATA, 8, 1, &[0])),
        flood("goaway", |_| frame(GOAWAY, 0, 0, &[0; 8])),
        behind("empty continuations", frame(HEADERS, END_STREAM, 1, &request("/flood", &[])), |_| {
            frame(CONTINUATION, 0, 1, &[])
        }),
        behind("continuations", frame(HEADERS, END_STREAM, 1, &request("/flood", &[])), |_| {
            frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(16_000))]))
        }),
        flood("rapid reset", |nth| [get(nth), frame(RST_STREAM, 0, stream(nth), &[0, 0, 0, 8])].concat()),
        flood("rapid reset of bodies", |nth| {
            [post(nth), frame(RST_STREAM, 0, stream(nth), &[0, 0, 0, 8])].concat()
        }),
        flood("made you reset by credit", |nth| {
            [post(nth), frame(WINDOW_UPDATE, 0, stream(nth), &[0; 4])].concat()
        }),
        flood("made you reset by lengths", |nth| {
            let fields = [
                (":method", "POST"),
                (":scheme", "https"),
                (":authority", "localhost"),
                (":path", "/flood"),
                ("content-length", "1"),
            ];
            [frame(HEADERS, END_HEADERS, stream(nth), &block(&fields)), frame(DATA, 0, stream(nth), b"abc")]
                .concat()
        }),
        flood("made you reset by fields", |nth| {
            frame(HEADERS, WHOLE, stream(nth), &request("/flood", &[("connection", "a")]))
        }),
        flood("streams beyond the limit", post),
        flood("heads beyond the limit", |nth| {
            frame(HEADERS, WHOLE, stream(nth), &request("/flood", &[("x", "y"); 110]))
        }),
    ]
}

pub(super) fn floods() -> Result {
    let origin = Recorder::start();
    let gateway = gateway(&origin)?;
    let tls = gateway.identity()?;
    let (caller, good) =
        (Caller::new(gateway.address, &tls, b"h2")?, Caller::new(gateway.address, &tls, b"http/1.1")?);
    let alone = Good::alone(&good, Duration::from_millis(500))?;
    println!("the good caller alone: {}", alone.text());
    let mut table = Table::new("floods over http/2");
    for Flood { id, first, part } in all() {
        let mut lines = Vec::new();
        let beside = Good::start(&good);
        for _ in 0..scale() {
            let mut wire = caller.dial()?;
            wire.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &first].concat());
            let (began, mut sent) = (Instant::now(), 0);
            let mut heard = Heard::default();
            while !heard.is_closed && sent < MOST {
                let batch: Vec<u8> = (sent..sent + BATCH).flat_map(|nth| part(nth + 1)).collect();
                wire.send(&batch);
                sent += BATCH;
                let more = Heard::of(&mut wire, true, 0, Duration::from_millis(1));
                heard.words.extend(more.words);
                heard.is_closed |= more.is_closed;
            }
            let calm = heard.words.iter().any(|word| word == "goaway ENHANCE_YOUR_CALM");
            let end = if calm || heard.is_closed { "ended" } else { "open" };
            lines.push(format!("{end} after {sent} parts, {} ms", began.elapsed().as_millis()));
            check!(lines.len() == 1 || heard.is_closed, "{id}: {lines:?}");
            table.row(format!("G17/{id}"), "ended", end);
        }
        let went = beside.went()?;
        println!("{id}: {}; the good caller: {}", lines.join("; "), went.text());
        table.row(format!("G17/{id}, the good caller"), "0 lost", format!("{} lost", went.lost));
    }
    table.row("H2-04/answers without a window", "every stream is reset in time", stalled(&caller)?);
    table.end(24)
}

/// 100 answers for which there is no room: each call ends with its clock, and the connection goes on.
fn stalled(caller: &Caller) -> Result<String> {
    let mut wire = caller.dial()?;
    wire.send(&[PREFACE, &frame(SETTINGS, 0, 0, &setting(4, 0))].concat());
    for nth in 0..100 {
        wire.send(&get(nth));
    }
    let heard = Heard::of(&mut wire, true, 0, Duration::from_secs(3));
    let resets = heard.words.iter().filter(|word| word.starts_with("reset ")).count();
    Ok(match (resets, heard.is_closed) {
        (100, false) => "every stream is reset in time".to_owned(),
        _ => format!(
            "{resets} resets, {:?}, closed: {}",
            heard.words.iter().take(3).collect::<Vec<_>>(),
            heard.is_closed
        ),
    })
}
