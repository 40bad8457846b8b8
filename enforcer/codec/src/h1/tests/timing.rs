//! Prints what the hot path costs per request; asserts results, never times.
//! `cargo test -p enforcer-codec --release -- --nocapture timing`

use std::hint::black_box;
use std::time::Duration;

use super::*;
use crate::{Answer, Asked, Downstream};

const REQUEST: &str = "GET /api/v1/orders?limit=10 HTTP/1.1\r\nHost: localhost:8443\r\nUser-Agent: oha/1.4\r\n\
                       Accept: */*\r\nAccept-Encoding: gzip, compress, deflate, br\r\n\
                       X-Request-Id: 7b9f1c1e-3a52-4a3e-8d57-0f6d5d9a1c11\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Wed, 25 Nov 2026 16:00:00 GMT\r\n\
                      Content-Type: text/plain\r\nContent-Length: 64\r\nConnection: keep-alive\r\n\r\n";

#[expect(clippy::disallowed_methods, reason = "measures real time for a printed figure, decides nothing")]
fn per_turn(name: &str, turns: u32, mut turn: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = std::time::Instant::now();
        for _ in 0..turns {
            turn();
        }
        best = best.min(start.elapsed() / turns);
    }
    println!("timing {name}: {} ns", best.as_nanos());
}

#[test]
fn timing_of_the_hot_path_is_printed() {
    let turns = if cfg!(debug_assertions) { 200 } else { 200_000 };
    let transport = Transport::new(Scheme::Https);
    let mut parser = RequestParser::new(Limits::default());
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    let mut head = || {
        buffer.reserve(REQUEST.len());
        buffer.extend_from_slice(REQUEST.as_bytes());
        match parser.parse(&mut buffer) {
            Parse::Done(head) => head,
            other => panic!("{other:?}"),
        }
    };
    per_turn("request head", turns, || drop(black_box(head())));
    per_turn("request head + call", turns, || drop(black_box(Call::from_h1(head(), &transport).unwrap())));
    let call = Call::from_h1(head(), &transport).unwrap();
    let mut out = BytesMut::with_capacity(4096);
    per_turn("call printed", turns, || {
        out.clear();
        call.write_h1(&mut out, &[("portcullis-peer", b"spiffe://example.org/web")]);
        black_box(&out);
    });
    let mut parser = ResponseParser::new(Limits::default());
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    let down = Downstream { version: Version::Http11, keep_alive: true };
    per_turn("answer parsed + printed", turns, || {
        buffer.reserve(ANSWER.len());
        buffer.extend_from_slice(ANSWER.as_bytes());
        let Parse::Done(head) = parser.parse(&mut buffer, Asked::Other) else { panic!() };
        out.clear();
        black_box(Answer::from_h1(head).write_h1(down, &mut out, &[]));
    });
    assert_eq!(call.path(), "/api/v1/orders");
}
