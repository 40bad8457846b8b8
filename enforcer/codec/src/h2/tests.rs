//! The connection against a small client: what is served, what is refused, and that splits change nothing.

mod asking;
mod peer;
mod refused;
mod splits;
mod windows;

use std::time::Duration;

use peer::{Peer, Seen, get, pairs};

use super::frame::{flag, kind};
use super::*;
use crate::{Call, Limits, Scheme, Transport};

#[test]
fn a_request_becomes_a_call_and_its_answer_one_write() {
    let mut client = Peer::greeted();
    client.request(1, &get("/a?b"), true);
    let [Seen::Request { stream: 1, head: Ok(head), over: true }] = &client.take()[..] else {
        panic!("one request");
    };
    assert!(head.contains("GET https h.test /a?b"), "{head}");
    client.ours.answer(1, 200, false, |encoder, out| encoder.field(b"server", b"x", out)).unwrap();
    assert_eq!(client.ours.room(1), Room::Free(16 * 1024));
    client.ours.data(1, b"hello", true).unwrap();
    assert_eq!(client.ours.room(1), Room::Gone(Reason::STREAM_CLOSED));
    client.ours.remove(1);
    let frames = client.frames();
    assert_eq!(frames.iter().map(|frame| frame.0.kind).collect::<Vec<_>>(), [kind::HEADERS, kind::DATA]);
    assert_eq!(client.fields(&frames[0].1), pairs(&[(":status", "200"), ("server", "x")]));
    assert_eq!(frames[1].1, b"hello");
    assert!(frames[1].0.has(flag::END_STREAM));
}

#[test]
fn h2_04_whether_our_settings_were_acknowledged_is_known() {
    let mut client = Peer::greeted();
    assert!(!client.ours.is_heard());
    client.send(kind::SETTINGS, flag::ACK, 0, &[]);
    client.take();
    assert!(client.ours.is_heard());
}

#[test]
fn ws_02_extended_connect_becomes_the_request_that_http_1_has_for_it() {
    let ask = |more: &[(&'static str, &'static str)], over: bool| {
        let mut client = Peer::greeted();
        let base = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":path", "/chat?a=1"),
            (":authority", "h.test"),
            ("sec-websocket-protocol", "x"),
            ("sec-websocket-key", "of another hop"),
        ];
        client.send_headers(1, &[&base, more].concat(), over);
        let Some(Event::Request { head: Ok(head), over, .. }) = client.event() else { panic!("a request") };
        Call::from_h2(head, over, &Transport::new(Scheme::Https))
    };
    let call = ask(&[("sec-websocket-version", "13")], false).unwrap();
    assert_eq!((call.method(), call.upgrade()), ("GET", Some(crate::Upgrade::WebSocket)));
    let mut out = bytes::BytesMut::new();
    call.write_h1(&mut out, &[("sec-websocket-key", b"ours")]);
    assert_eq!(
        String::from_utf8(out.to_vec()).unwrap(),
        "GET /chat?a=1 HTTP/1.1\r\nhost: h.test\r\nsec-websocket-protocol: x\r\nsec-websocket-version: 13\r\n\
         connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: ours\r\n\r\n"
    );
    for (more, over, rule, status) in [
        (&[][..], false, "H1-25", 400),
        (&[("sec-websocket-version", "8")], false, "H1-25", 400),
        (&[("sec-websocket-version", "13")], true, "HX-06", 400),
        (&[("sec-websocket-version", "13"), ("content-length", "3")], false, "HX-06", 400),
    ] {
        let flaw = ask(more, over).unwrap_err();
        assert_eq!((flaw.rule, flaw.status), (rule, status), "{more:?}");
    }
}

#[test]
fn hx_06_a_protocol_that_we_do_not_speak_is_not_implemented() {
    let mut client = Peer::greeted();
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "connect-udp"),
        (":scheme", "https"),
        (":path", "/"),
        (":authority", "h"),
    ];
    client.send_headers(1, &fields, false);
    let Some(Event::Request { head: Ok(head), over, .. }) = client.event() else { panic!("a request") };
    let flaw = Call::from_h2(head, over, &Transport::new(Scheme::Https)).unwrap_err();
    assert_eq!((flaw.rule, flaw.status), ("HX-06", 501));
}

#[test]
fn a_decoded_head_is_printed_as_it_was_kept() {
    let mut client = Peer::greeted();
    let fields =
        [get("/a").as_slice(), &[("x-a", "1"), ("cookie", "a=1"), ("te", "trailers"), ("cookie", "b=2")]]
            .concat();
    client.send_headers(1, &fields, true);
    let Some(Event::Request { head: Ok(head), over, .. }) = client.event() else { panic!("a request") };
    let call = Call::from_h2(head, over, &Transport::new(Scheme::Https)).unwrap();
    let mut out = bytes::BytesMut::new();
    call.write_h1(&mut out, &[]);
    let text = String::from_utf8(out.to_vec()).unwrap();
    assert_eq!(text, "GET /a HTTP/1.1\r\nhost: h.test\r\nx-a: 1\r\ncookie: a=1; b=2\r\n\r\n");
    assert_eq!(call.header("cookie").collect::<Vec<_>>(), [b"a=1; b=2"]);
    assert!(call.accepts_trailers());
}

#[test]
fn bodies_and_trailers_arrive_and_are_credited_in_few_frames() {
    let mut client = Peer::greeted();
    client.request(1, &get("/"), false);
    client.take();
    let mut updates = 0;
    for nth in 0..200 {
        client.data(1, &vec![nth; 16_000], false);
        let [Seen::Data { stream: 1, bytes, over: false }] = &client.take()[..] else { panic!("data") };
        assert_eq!(bytes.len(), 16_000);
        client.ours.release(1, 16_000);
        updates += client.frames().len();
    }
    // 3.2 MB: six times half a window of the stream, once of the connection.
    assert_eq!(updates, 7);
    client.send_headers(1, &[("x-sum", "1")], true);
    assert_eq!(client.take(), [Seen::Trailers { stream: 1, fields: 1 }]);
}

#[test]
fn a_call_that_ends_before_its_body_is_reset_and_the_rest_has_no_reader() {
    for (answer, reason) in [(false, Reason::CANCEL), (true, Reason::NO_ERROR)] {
        let mut client = Peer::greeted();
        client.request(1, &get("/"), false);
        client.data(1, b"some", false);
        client.take();
        if answer {
            client.ours.answer(1, 403, true, |_, _| {}).unwrap();
        }
        client.ours.remove(1);
        assert_eq!(client.reset(1), Some(reason));
        // What was on its way is not held against the caller.
        client.data(1, b"more", true);
        client.send_headers(1, &[("x-late", "1")], true);
        client.window(1, 10);
        client.request(3, &get("/"), true);
        assert!(matches!(client.take()[..], [Seen::Request { stream: 3, .. }]));
        // Only so much can have been.
        client.send_headers(1, &[("x-late", "1")], true);
        assert_eq!(client.take(), [Seen::Ended(Reason::STREAM_CLOSED)]);
    }
}

#[test]
fn a_caller_is_asked_to_go_before_it_is_told_which_call_is_the_last() {
    let mut client = Peer::greeted();
    client.request(1, &get("/"), true);
    client.take();
    client.ours.leave();
    let frames = client.frames();
    assert_eq!(frames.len(), 2);
    assert_eq!((frames[0].0.kind, &frames[0].1[..4]), (kind::GOAWAY, &[0x7f, 0xff, 0xff, 0xff][..]));
    client.request(3, &get("/"), true);
    assert!(matches!(client.take()[..], [Seen::Request { stream: 3, .. }]), "sent before it heard");
    client.send(kind::PING, flag::ACK, 0, &frames[1].1);
    client.take();
    let last = client.frames();
    assert_eq!((last[0].0.kind, &last[0].1[..4]), (kind::GOAWAY, &[0, 0, 0, 3][..]));
    client.request(5, &get("/"), true);
    assert_eq!(client.take(), []);
    assert!(!client.ours.is_left());
    client.ours.remove(1);
    client.ours.remove(3);
    assert!(client.ours.is_left());
}

#[test]
fn a_head_larger_than_a_frame_goes_on_in_the_next() {
    let mut client = Peer::greeted();
    client.request(1, &get("/"), true);
    client.take();
    let long = vec![b'v'; 40_000];
    client.ours.answer(1, 200, true, |encoder, out| encoder.field(b"x-long", &long, out)).unwrap();
    let frames = client.frames();
    let kinds: Vec<_> = frames.iter().map(|(head, _)| (head.kind, head.flags)).collect();
    assert_eq!(
        kinds,
        [(kind::HEADERS, flag::END_STREAM), (kind::CONTINUATION, 0), (kind::CONTINUATION, flag::END_HEADERS)]
    );
    let block: Vec<u8> = frames.into_iter().flat_map(|(_, payload)| payload).collect();
    assert!(block.windows(100).any(|part| part == &long[..100]));
}

#[test]
fn mm_02_an_idle_connection_holds_no_buffer() {
    let mut client = Peer::greeted();
    for nth in 0..20 {
        client.request(nth * 2 + 1, &get("/"), true);
        client.take();
        client.ours.answer(nth * 2 + 1, 200, true, |_, _| {}).unwrap();
        client.ours.remove(nth * 2 + 1);
        client.frames();
    }
    client.ours.trim();
    assert_eq!(client.ours.buffers(), 0);
    assert!(size_of::<Connection<()>>() <= 700, "{}", size_of::<Connection<()>>());
}
