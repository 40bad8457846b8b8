//! Origins that misbehave (HR rows of hardening.md 3, OUT2): what a caller hears of it, and that nothing of it reaches
//! the next call. The first connection of each origin does what its row says; every later one is a good server.

mod h2;
mod rows;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;
use tests::wire::{Caller, Heard, Wire};
use tests::{Gateway, Result};

use super::Table;
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("out2_hostile_origins_harm_one_call_and_never_the_next", None, || {
            origins("origins", "http", rows::all())
        }),
        trial("out2_hostile_origins_over_http_2_harm_one_call_and_never_the_next", None, || {
            origins("origins over http/2", "h2c", h2::all())
        }),
    ]
}

/// What an origin does, step by step; then it closes.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Reads one request, its body too.
    Read,
    Say(Vec<u8>),
    /// Says it so many times, or until nobody listens.
    Flood(Vec<u8>, usize),
    /// Says one byte after the other, with that pause.
    Drip(Vec<u8>, Duration),
    Wait(Duration),
    /// Nothing more, and no end, until the gateway ends it.
    Hold,
    /// Ends so that the other side sees a reset: with unread bytes in the socket.
    Cut,
}

/// One misbehaviour.
pub(super) struct Row {
    id: &'static str,
    method: &'static str,
    does: Vec<Step>,
    /// What the caller hears.
    expected: &'static str,
    /// What the answer must not hold.
    lacks: &'static [&'static str],
}

/// A call is given that long.
const CALL: Duration = Duration::from_millis(900);

fn origins(title: &'static str, scheme: &str, rows: Vec<Row>) -> Result {
    let mut builder = Gateway::build().service("site", &[]);
    let mut ended = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let (address, over) = start(row.does.clone(), scheme == "h2c")?;
        ended.push(over);
        builder = builder
            .route(
                &format!("row-{number}"),
                "site",
                &format!("{{ path = \"/{number}\" }}"),
                &format!("{scheme}://{address}"),
            )
            .route_line("header_timeout = \"600ms\"")
            .route_line(&format!("timeout = \"{}ms\"", CALL.as_millis()));
    }
    let gateway = builder.start()?;
    let caller = Caller::new(gateway.address, &gateway.identity()?, b"http/1.1")?;
    let mut table = Table::new(title);
    for ((number, row), over) in rows.iter().enumerate().zip(ended) {
        let mut wire = caller.dial()?;
        let first = heard(&mut wire, row.method, number, row.lacks)?;
        // What an origin says meanwhile belongs to nobody.
        std::thread::sleep(Duration::from_millis(20));
        // On the same connection where it lives on, else on another.
        let mut next =
            if first.ends_with(" close") || first.contains("broken") { caller.dial()? } else { wire };
        let second = heard(&mut next, "GET", number, &[])?;
        let second = if second.starts_with("200 `good`") { "good".to_owned() } else { second };
        let mut seen = format!("{}, then {second}", first.trim_end_matches(" close"));
        if matches!(row.does.last(), Some(Step::Hold | Step::Flood(..))) && !is_over(&over) {
            seen.push_str(", but the origin was not cut off");
        }
        table.row(row.id, row.expected, seen);
    }
    table.end(25)
}

/// Whether the bad connection has ended, given a moment.
fn is_over(over: &AtomicUsize) -> bool {
    (0..150).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        over.load(Ordering::SeqCst) > 0
    })
}

/// One call; what was heard of it.
fn heard(wire: &mut Wire, method: &str, number: usize, lacks: &[&str]) -> Result<String> {
    let body = if method == "POST" { "content-length: 2\r\n\r\nhi" } else { "\r\n" };
    wire.send(format!("{method} /{number} HTTP/1.1\r\nhost: localhost\r\n{body}").as_bytes());
    let heard = match wire.hear(method == "HEAD", CALL * 4) {
        Err(error) => format!("broken: {error}"),
        Ok(Heard::Closed) => "nothing close".to_owned(),
        Ok(Heard::Silence) => "silence close".to_owned(),
        Ok(Heard::Reply(reply)) => {
            let body = String::from_utf8_lossy(&reply.body);
            let is_ours = reply.head.contains("application/problem+json");
            let mut text = match (is_ours, body.len()) {
                (true, _) | (_, 0) => reply.status.to_string(),
                (_, 1..20) => format!("{} `{body}`", reply.status),
                (_, length) => format!("{} of {length}", reply.status),
            };
            if !reply.is_whole {
                text = format!("{} broken", reply.status);
            }
            for odd in lacks.iter().filter(|odd| reply.head.contains(**odd)) {
                text.push_str(&format!(", but `{odd}` was passed on"));
            }
            if reply.head.contains("connection: close") {
                text.push_str(" close");
            }
            text
        }
    };
    Ok(heard)
}

/// An origin, and how many of its bad connections have ended.
fn start(does: Vec<Step>, is_h2: bool) -> Result<(SocketAddr, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let over = Arc::<AtomicUsize>::default();
    let ended = Arc::clone(&over);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let (does, ended) = (does.clone(), Arc::clone(&ended));
            std::thread::spawn(move || {
                if number > 0 {
                    return drop(if is_h2 { h2::good(stream) } else { good(stream) });
                }
                drop(misbehave(stream, &does, is_h2));
                ended.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    Ok((address, over))
}

fn good(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        read(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood")?;
    }
}

fn misbehave(mut stream: TcpStream, does: &[Step], is_h2: bool) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    for step in does {
        match step {
            Step::Read if is_h2 => h2::asked(&mut stream)?,
            Step::Read => read(&mut stream)?,
            Step::Say(bytes) => stream.write_all(bytes)?,
            Step::Flood(bytes, times) => {
                for _ in 0..*times {
                    stream.write_all(bytes)?;
                }
            }
            Step::Drip(bytes, pause) => {
                for byte in bytes {
                    stream.write_all(&[*byte])?;
                    std::thread::sleep(*pause);
                }
            }
            Step::Wait(pause) => std::thread::sleep(*pause),
            Step::Hold => drop(stream.read_to_end(&mut Vec::new())?),
            Step::Cut => {
                stream.peek(&mut [0])?;
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Reads a request with the body that `heard` sends.
fn read(stream: &mut TcpStream) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if head.starts_with(b"POST") { stream.read_exact(&mut [0; 2]) } else { Ok(()) }
}
