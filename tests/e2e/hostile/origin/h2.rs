//! Origins over HTTP/2 whose frames are their own (OUT2): what a caller hears, and that the next call is served well.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tests::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, PUSH_PROMISE,
    RST_STREAM, SETTINGS, WHOLE, WINDOW_UPDATE, block, first, frame, setting,
};

use super::{Row, Step};
use Step::{Flood, Hold, Read as Asked, Say, Wait};

const BAD: &str = "502, then good";
const CUT: &str = "200 broken, then good";
const AGAIN: &str = "200 `good`, then good";
const HELLO: &str = "200 `hello`, then good";
const MOMENT: Duration = Duration::from_millis(50);

/// After the request on stream 1, these frames; then the connection stays open until the gateway ends it, or a moment.
fn says(id: &'static str, frames: &[Vec<u8>], expected: &'static str) -> Row {
    does(id, vec![Asked, Say(frames.concat()), Wait(MOMENT * 4)], expected)
}

fn does(id: &'static str, does: Vec<Step>, expected: &'static str) -> Row {
    Row { id, method: "POST", does, expected, lacks: &[] }
}

/// The same, the second part a moment later, when the first has left for the caller.
fn later(id: &'static str, frames: &[Vec<u8>], rest: &[Vec<u8>]) -> Row {
    does(id, vec![Asked, Say(frames.concat()), Wait(MOMENT), Say(rest.concat()), Wait(MOMENT)], CUT)
}

fn answers(id: &'static str, fields: &[(&str, &str)], expected: &'static str) -> Row {
    says(id, &[head(fields), data(b"hello", END_STREAM)], expected)
}

fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &block(fields))
}

fn data(bytes: &[u8], flags: u8) -> Vec<u8> {
    frame(DATA, flags, 1, bytes)
}

fn ok() -> Vec<u8> {
    head(&[(":status", "200")])
}

fn interim(count: usize) -> Vec<u8> {
    head(&[(":status", "103"), ("link", "</style.css>")]).repeat(count)
}

fn reset(code: u8) -> Vec<u8> {
    frame(RST_STREAM, 0, 1, &[0, 0, 0, code])
}

fn goaway(last: u8, code: u8) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[0, 0, 0, last, 0, 0, 0, code])
}

pub(super) fn all() -> Vec<Row> {
    [heads(), bodies(), ends(), connections()].into_iter().flatten().collect()
}

fn heads() -> Vec<Row> {
    let status = (":status", "200");
    vec![
        answers("HX-02/no status", &[("x", "y")], BAD),
        answers("HX-02/two statuses", &[status, status], BAD),
        answers("HX-02/a status behind a field", &[("x", "y"), status], BAD),
        answers("HX-02/an unknown pseudo field", &[status, (":odd", "/")], BAD),
        answers("HR-02/status abc", &[(":status", "abc")], BAD),
        answers("HR-02/status 99", &[(":status", "99")], BAD),
        answers("HR-02/status 2000", &[(":status", "2000")], BAD),
        answers("HR-03/an uninvited switch", &[(":status", "101")], BAD),
        answers("HX-01/upper case", &[status, ("X-Odd", "y")], BAD),
        answers("HX-01/connection", &[status, ("connection", "close")], BAD),
        answers("HX-01/transfer-encoding", &[status, ("transfer-encoding", "chunked")], BAD),
        answers("HX-01/a line end in a value", &[status, ("x", "a\r\nset-cookie: b")], BAD),
        answers("HX-01/nul in a value", &[status, ("x", "a\0b")], BAD),
        answers("HR-03/a field of 70 KiB", &[status, ("x", &"y".repeat(16_000)), ("z", "z")], HELLO),
        says("HR-03/8 interim answers", &[interim(8), ok(), data(b"hello", END_STREAM)], HELLO),
        says("HR-03/9 interim answers", &[interim(9), ok(), data(b"hello", END_STREAM)], BAD),
        does("HR-03/interim answers without end", vec![Asked, Flood(interim(1), 1_000_000)], BAD),
        Row {
            lacks: &["forged", "x-envoy"],
            ..answers(
                "HR-08/fields of ours",
                &[
                    status,
                    ("portcullis-decision-id", "forged"),
                    ("portcullis-peer", "forged"),
                    ("x-envoy-a", "forged"),
                ],
                HELLO,
            )
        },
    ]
}

fn bodies() -> Vec<Row> {
    let declared = |length| head(&[(":status", "200"), ("content-length", length)]);
    vec![
        says("HR-05/less than declared", &[declared("10"), data(b"hello", END_STREAM)], BAD),
        says("HR-05/more than declared", &[declared("3"), data(b"hello", END_STREAM)], BAD),
        says(
            "HR-01/two lengths",
            &[
                head(&[(":status", "200"), ("content-length", "5"), ("content-length", "6")]),
                data(b"hello", END_STREAM),
            ],
            BAD,
        ),
        says("HR-05/data before the head", &[data(b"hello", END_STREAM)], BAD),
        says(
            "HR-05/data after the end",
            &[ok(), data(b"hello", END_STREAM), data(b"poison", END_STREAM)],
            HELLO,
        ),
        says("HR-05/two heads", &[ok(), ok(), data(b"hello", END_STREAM)], BAD),
    ]
}

fn ends() -> Vec<Row> {
    vec![
        says("RY-02/refused stream", &[reset(7), goaway(1, 0)], AGAIN),
        says("RY-02/goaway before the call", &[goaway(0, 0)], AGAIN),
        says("OUT2/reset", &[reset(2)], BAD),
        later("OUT2/reset after the head", &[ok()], &[reset(2)]),
        later("OUT2/reset in the body", &[ok(), data(b"he", 0)], &[reset(8)]),
        says("OUT2/goaway with an error", &[goaway(1, 2)], BAD),
        says("-/goaway beside an answer", &[goaway(1, 0), ok(), data(b"hello", END_STREAM)], HELLO),
        does("OUT2/closes after the request", vec![Asked], BAD),
        later("OUT2/closes after the head", &[ok()], &[]),
    ]
}

fn connections() -> Vec<Row> {
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(500);
    vec![
        does(
            "HR-02/http/1",
            vec![Say(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".into()), Hold],
            BAD,
        ),
        says("9113/data on stream 0", &[frame(DATA, 0, 0, b"x")], BAD),
        says(
            "9113/a stream that nobody opened",
            &[frame(HEADERS, WHOLE, 3, &block(&[(":status", "200")]))],
            BAD,
        ),
        says(
            "9113/a push",
            &[frame(
                PUSH_PROMISE,
                END_HEADERS,
                1,
                &[&[0, 0, 0, 2][..], &block(&[(":method", "GET")])].concat(),
            )],
            BAD,
        ),
        says("9113/a frame of 20 KiB", &[ok(), data(&[b'x'; 20_000], END_STREAM)], BAD),
        says("9113/a window beyond its end", &[frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])], BAD),
        says("9113/credit of nothing", &[frame(WINDOW_UPDATE, 0, 1, &[0; 4])], BAD),
        says("9113/settings beyond their range", &[frame(SETTINGS, 0, 0, &setting(4, u32::MAX))], BAD),
        says(
            "9113/another frame in a block",
            &[frame(HEADERS, 0, 1, &block(&[(":status", "200")])), data(b"x", 0)],
            BAD,
        ),
        says(
            "9113/a block without end",
            &[
                frame(HEADERS, 0, 1, &block(&[(":status", "200")])),
                frame(CONTINUATION, 0, 1, &block(&[("x", "y")])).repeat(20_000),
            ],
            BAD,
        ),
        says("7541/an index of no table", &[frame(HEADERS, WHOLE, 1, &[0xff, 0xff, 0xff, 0x0f])], BAD),
        says("7541/half a field", &[frame(HEADERS, WHOLE, 1, &[0, 5, b'a'])], BAD),
        says("-/500 pings", &[pings, ok(), data(b"hello", END_STREAM)], HELLO),
    ]
}

/// Greets, and reads until a request is there, its body too.
pub(super) fn asked(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut held = Vec::new();
    greet(stream, &mut held)?;
    while next(stream, &mut held)?.is_none() {}
    Ok(())
}

/// A good server.
pub(super) fn good(mut stream: TcpStream) -> std::io::Result<()> {
    let mut held = Vec::new();
    greet(&mut stream, &mut held)?;
    loop {
        if let Some(id) = next(&mut stream, &mut held)? {
            let answer = [
                frame(HEADERS, END_HEADERS, id, &block(&[(":status", "200")])),
                frame(DATA, END_STREAM, id, b"good"),
            ];
            stream.write_all(&answer.concat())?;
        }
    }
}

fn greet(stream: &mut TcpStream, held: &mut Vec<u8>) -> std::io::Result<()> {
    stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    while held.len() < PREFACE.len() {
        more(stream, held)?;
    }
    held.drain(..PREFACE.len());
    Ok(())
}

/// The next frame; the stream whose request it ends.
fn next(stream: &mut TcpStream, held: &mut Vec<u8>) -> std::io::Result<Option<u32>> {
    loop {
        if let Some((kind, flags, id, payload, length)) = first(held) {
            let answer = match kind {
                SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => frame(PING, ACK, 0, payload),
                _ => Vec::new(),
            };
            held.drain(..length);
            stream.write_all(&answer)?;
            let is_over = (kind == HEADERS || kind == DATA) && flags & END_STREAM != 0;
            return Ok(is_over.then_some(id));
        }
        more(stream, held)?;
    }
}

fn more(stream: &mut TcpStream, held: &mut Vec<u8>) -> std::io::Result<()> {
    let mut bytes = [0; 4096];
    match stream.read(&mut bytes)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        read => {
            held.extend_from_slice(&bytes[..read]);
            Ok(())
        }
    }
}
