//! What ends a stream, what ends the connection, and every flood (H2-01 to H2-04, HX-01, HX-02, HX-04).

use super::peer::{Peer, Seen, get};
use super::*;

#[test]
fn hx_01_and_hx_02_malformed_heads_end_their_stream_alone() {
    let base = get("/");
    let with = |more: &[(&'static str, &'static str)]| [base.as_slice(), more].concat();
    let without = |name: &str| base.iter().filter(|(known, _)| *known != name).copied().collect::<Vec<_>>();
    let cases = [
        ("upper case", with(&[("X-Upper", "1")])),
        ("no token", with(&[("a b", "1")])),
        ("an empty name", with(&[("", "1")])),
        ("a line break", with(&[("x-a", "1\r\nx: 2")])),
        ("nul", with(&[("x-a", "1\0")])),
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "1")])),
        ("upgrade", with(&[("upgrade", "h2c")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("te", with(&[("te", "gzip")])),
        ("unknown pseudo", with(&[(":version", "2")])),
        ("a protocol without connect", with(&[(":protocol", "websocket")])),
        (
            "a protocol without path",
            vec![
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "https"),
                (":authority", "h"),
            ],
        ),
        ("of answers", with(&[(":status", "200")])),
        ("repeated", with(&[(":path", "/b")])),
        ("late", [&[("x-a", "1")], base.as_slice()].concat()),
        ("an empty path", [without(":path").as_slice(), &[(":path", "")]].concat()),
        ("no path", without(":path")),
        ("no scheme", without(":scheme")),
        ("no method", without(":method")),
    ];
    let mut client = Peer::greeted();
    for (nth, (name, fields)) in cases.into_iter().enumerate() {
        let stream = u32::try_from(nth * 2 + 1).unwrap();
        client.request(stream, &fields, true);
        assert_eq!(client.take(), [], "{name}");
        assert_eq!(client.reset(stream), Some(Reason::PROTOCOL_ERROR), "{name}");
    }
    client.request(101, &get("/"), true);
    assert!(matches!(client.take()[..], [Seen::Request { stream: 101, .. }]), "the connection lives on");
}

#[test]
fn h1_19_a_head_that_is_too_large_is_answered_and_the_next_one_served() {
    let mut client = Peer::greeted();
    let many: Vec<_> = get("/").into_iter().chain(std::iter::repeat_n(("x-a", "1"), 101)).collect();
    client.request(1, &many, true);
    let long = "v".repeat(15_000);
    for stream in [3, 5] {
        let mut block = client.block(&get("/"));
        for _ in 0..5 {
            block.extend(client.block(&[("x-long-id", &long)]));
        }
        client.send(kind::HEADERS, flag::END_STREAM, stream, &block[..10_000]);
        for (nth, part) in block[10_000..].chunks(16_000).enumerate() {
            let end = if nth * 16_000 + 26_000 >= block.len() { flag::END_HEADERS } else { 0 };
            client.send(kind::CONTINUATION, end, stream, part);
        }
    }
    client.request(7, &get("/"), true);
    let seen = client.take();
    let status = |stream: u32| {
        seen.iter().find_map(|seen| match seen {
            Seen::Request { stream: own, head, .. } if *own == stream => Some(head.as_ref().err().copied()),
            _ => None,
        })
    };
    let too_large = Some(Some(431));
    assert_eq!([1, 3, 5, 7].map(status), [too_large, too_large, too_large, Some(None)]);
}

#[test]
fn hx_04_a_body_of_another_length_than_declared_is_reset() {
    for (sent, over, trailers, is_whole) in [
        (3, true, false, true),
        (4, false, false, false),
        (2, true, false, false),
        (3, false, true, true),
        (2, false, true, false),
    ] {
        let mut client = Peer::greeted();
        let fields = [get("/").as_slice(), &[("content-length", "3")]].concat();
        client.request(1, &fields, false);
        client.data(1, &vec![b'x'; sent], over);
        if trailers {
            client.send_headers(1, &[("x-a", "1")], true);
        }
        let seen = client.take();
        let reset = Seen::Reset { stream: 1, reason: Reason::PROTOCOL_ERROR };
        assert_eq!(!seen.contains(&reset), is_whole, "{sent} {over} {trailers}: {seen:?}");
    }
}

#[test]
fn frames_that_break_the_protocol_end_the_connection() {
    let block = Peer::greeted().block(&get("/"));
    type Frame = (u8, u8, u32, Vec<u8>);
    let cases: Vec<(&str, Reason, Vec<Frame>)> = vec![
        ("DATA on stream 0", Reason::PROTOCOL_ERROR, vec![(kind::DATA, 0, 0, vec![1])]),
        ("DATA on an idle stream", Reason::PROTOCOL_ERROR, vec![(kind::DATA, 0, 5, vec![1])]),
        ("HEADERS on an even stream", Reason::PROTOCOL_ERROR, vec![(kind::HEADERS, 5, 2, block.clone())]),
        ("RST of an idle stream", Reason::PROTOCOL_ERROR, vec![(kind::RST_STREAM, 0, 7, vec![0; 4])]),
        (
            "WINDOW_UPDATE of an idle stream",
            Reason::PROTOCOL_ERROR,
            vec![(kind::WINDOW_UPDATE, 0, 7, vec![0, 0, 0, 1])],
        ),
        ("WINDOW_UPDATE of nothing", Reason::PROTOCOL_ERROR, vec![(kind::WINDOW_UPDATE, 0, 0, vec![0; 4])]),
        (
            "a window too large",
            Reason::FLOW_CONTROL_ERROR,
            vec![(kind::WINDOW_UPDATE, 0, 0, vec![0x7f, 255, 255, 255])],
        ),
        ("PUSH_PROMISE", Reason::PROTOCOL_ERROR, vec![(kind::PUSH_PROMISE, 4, 1, vec![0; 8])]),
        ("a PING of seven", Reason::FRAME_SIZE_ERROR, vec![(kind::PING, 0, 0, vec![0; 7])]),
        ("SETTINGS of seven", Reason::FRAME_SIZE_ERROR, vec![(kind::SETTINGS, 0, 0, vec![0; 7])]),
        ("an answer with SETTINGS", Reason::FRAME_SIZE_ERROR, vec![(kind::SETTINGS, 1, 0, vec![0; 6])]),
        ("SETTINGS on a stream", Reason::PROTOCOL_ERROR, vec![(kind::SETTINGS, 0, 1, vec![])]),
        (
            "a window of settings",
            Reason::FLOW_CONTROL_ERROR,
            vec![(kind::SETTINGS, 0, 0, vec![0, 4, 128, 0, 0, 0])],
        ),
        (
            "a frame size of settings",
            Reason::PROTOCOL_ERROR,
            vec![(kind::SETTINGS, 0, 0, vec![0, 5, 0, 0, 0, 1])],
        ),
        ("push of settings", Reason::PROTOCOL_ERROR, vec![(kind::SETTINGS, 0, 0, vec![0, 2, 0, 0, 0, 2])]),
        ("a frame too long", Reason::FRAME_SIZE_ERROR, vec![(kind::DATA, 0, 1, vec![0; 16_385])]),
        ("CONTINUATION alone", Reason::PROTOCOL_ERROR, vec![(kind::CONTINUATION, 4, 1, block.clone())]),
        (
            "a PING within a block",
            Reason::PROTOCOL_ERROR,
            vec![(kind::HEADERS, 0, 1, block.clone()), (kind::PING, 0, 0, vec![0; 8])],
        ),
        (
            "another stream within a block",
            Reason::PROTOCOL_ERROR,
            vec![(kind::HEADERS, 0, 1, block.clone()), (kind::CONTINUATION, 4, 3, vec![])],
        ),
        (
            "padding longer than the frame",
            Reason::PROTOCOL_ERROR,
            vec![(kind::HEADERS, 0xc, 1, vec![9, 0x82])],
        ),
        (
            "priority longer than the frame",
            Reason::FRAME_SIZE_ERROR,
            vec![(kind::HEADERS, 0x24, 1, vec![9, 0x82])],
        ),
        ("a block of nothing", Reason::COMPRESSION_ERROR, vec![(kind::HEADERS, 5, 1, vec![0x80])]),
        ("a short GOAWAY", Reason::FRAME_SIZE_ERROR, vec![(kind::GOAWAY, 0, 0, vec![0; 7])]),
    ];
    for (name, reason, frames) in cases {
        let mut client = Peer::greeted();
        for (kind, flags, stream, payload) in frames {
            client.send(kind, flags, stream, &payload);
        }
        assert_eq!(client.take(), [Seen::Ended(reason)], "{name}");
        let last = client.frames().pop().unwrap();
        assert_eq!(
            (last.0.kind, last.1[4..].to_vec()),
            (kind::GOAWAY, reason.0.to_be_bytes().to_vec()),
            "{name}"
        );
    }
    for first in [b"GET / HTTP/1.1\r\n".to_vec(), [frame::PREFACE, &[0, 0, 8, 6, 0, 0, 0, 0, 0]].concat()] {
        let mut client = Peer::new(false);
        client.sent = first;
        assert_eq!(client.take(), [Seen::Ended(Reason::PROTOCOL_ERROR)], "SETTINGS come first");
    }
}

#[test]
fn more_streams_than_allowed_are_refused_and_served_later() {
    let mut client = Peer::greeted();
    for nth in 0..=STREAMS {
        client.request(nth * 2 + 1, &get("/"), true);
    }
    assert_eq!(client.take().len(), STREAMS as usize);
    assert_eq!(client.reset(STREAMS * 2 + 1), Some(Reason::REFUSED_STREAM));
    client.ours.remove(1);
    client.request(STREAMS * 2 + 3, &get("/"), true);
    assert_eq!(client.take().len(), 1);
}

/// Frames until the connection ended, of so many that were sent.
fn flood(is_proved: bool, most: u32, mut one: impl FnMut(&mut Peer, u32)) -> Option<u32> {
    let mut client = Peer::greeted();
    if is_proved {
        client.ours.budget_of_proved();
    }
    for nth in 1..=most {
        one(&mut client, nth);
        let ended = client.take().into_iter().find_map(|seen| match seen {
            Seen::Ended(reason) => Some(reason),
            Seen::Request { stream, .. } | Seen::Reset { stream, .. } => {
                client.ours.remove(stream);
                None
            }
            _ => None,
        });
        client.frames();
        if let Some(reason) = ended {
            assert_eq!(reason, Reason::ENHANCE_YOUR_CALM);
            return Some(nth);
        }
    }
    None
}

#[test]
fn h2_01_each_frame_that_moves_no_call_has_a_budget() {
    let plain = |kind: u8, flags: u8, payload: &'static [u8]| {
        move |client: &mut Peer, _: u32| client.send(kind, flags, 0, payload)
    };
    assert_eq!(flood(false, 1000, plain(kind::PING, 0, &[0; 8])), Some(101));
    assert_eq!(flood(false, 1000, plain(kind::PING, flag::ACK, &[0; 8])), Some(101));
    assert_eq!(flood(false, 1000, plain(kind::SETTINGS, 0, &[])), Some(50), "one came with the greeting");
    assert_eq!(flood(false, 1000, plain(0x7f, 0, &[])), Some(101));
    assert_eq!(flood(false, 1000, plain(kind::PRIORITY_UPDATE, 0, &[0; 5])), Some(101));
    assert_eq!(flood(false, 1000, plain(kind::WINDOW_UPDATE, 0, &[0, 0, 0, 1])), Some(101));
    assert_eq!(
        flood(true, 2000, plain(kind::PING, 0, &[0; 8])),
        Some(1001),
        "ten times for a proved identity"
    );
    assert_eq!(flood(false, 1000, |client, _| client.send(kind::PRIORITY, 0, 9, &[0; 5])), Some(101));
    let empty = |client: &mut Peer, nth: u32| {
        if nth == 1 {
            client.request(1, &get("/"), false);
            client.event();
        }
        client.data(1, b"", false);
    };
    assert_eq!(flood(false, 1000, empty), Some(101));
    let padding = |client: &mut Peer, nth: u32| {
        if nth == 1 {
            client.request(1, &get("/"), false);
            client.event();
        }
        client.send(kind::DATA, flag::PADDED, 1, &[3, 0, 0, 0]);
    };
    assert_eq!(flood(false, 1000, padding), Some(101), "padding alone is as empty");
    // 64 KiB of control bytes without a request (H2-03), long before 100 frames.
    assert_eq!(flood(false, 1000, plain(0x7f, 0, &[0; 16_000])), Some(5));
}

#[test]
fn h2_01_a_window_of_ten_seconds_begins_anew() {
    let mut client = Peer::greeted();
    for _ in 0..3 {
        for _ in 0..100 {
            client.send(kind::PING, 0, 0, &[0; 8]);
        }
        assert_eq!(client.take(), []);
        client.now += Duration::from_secs(10);
    }
}

#[test]
fn h2_01_at_most_twenty_continuations_make_a_block() {
    for (count, ends) in [(20, false), (21, true)] {
        let mut client = Peer::greeted();
        let block = client.block(&get("/"));
        client.send(kind::HEADERS, flag::END_STREAM, 1, &block);
        for nth in 1..=count {
            client.send(kind::CONTINUATION, if nth == count { flag::END_HEADERS } else { 0 }, 1, &[]);
        }
        assert_eq!(client.take() == [Seen::Ended(Reason::ENHANCE_YOUR_CALM)], ends, "{count}");
    }
}

#[test]
fn h2_02_rapid_resets_and_resets_that_we_are_made_to_send_end_the_connection() {
    let rapid = |client: &mut Peer, nth: u32| {
        client.request(nth * 2 + 1, &get("/"), true);
        client.send(kind::RST_STREAM, 0, nth * 2 + 1, &[0, 0, 0, 8]);
    };
    // 50 of them had no byte of an answer; of a caller that is known ten times as many.
    assert_eq!((flood(false, 1000, rapid), flood(true, 1000, rapid)), (Some(51), Some(501)));
    let made = |client: &mut Peer, nth: u32| {
        client.request(nth * 2 + 1, &get("/"), false);
        client.window(nth * 2 + 1, 0);
    };
    assert_eq!(flood(true, 1000, made), Some(501));
    let malformed = |client: &mut Peer, nth: u32| {
        client.request(nth * 2 + 1, &[(":method", "GET")], true);
    };
    assert_eq!(flood(true, 1000, malformed), Some(501));
}
