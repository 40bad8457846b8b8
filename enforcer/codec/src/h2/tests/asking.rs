//! Our side as a client: what it asks, what it makes of answers, what it does not take.

use super::*;
use crate::{Answer, Asked};

fn answer(stream: u32, status: u16, over: bool) -> Seen {
    Seen::Answer { stream, status, over }
}

#[test]
fn a_call_goes_out_and_its_answer_comes_in() {
    let mut caller = Peer::greeted();
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "h.test"),
        (":path", "/shop.Orders/Get"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", "9S"),
        ("portcullis-hop", "a"),
        ("x-a", "1"),
    ];
    caller.send_headers(1, &fields, false);
    let Some(Event::Request { head: Ok(head), over, .. }) = caller.event() else { panic!("a request") };
    let call = Call::from_h2(head, over, &Transport::new(Scheme::Https)).unwrap();

    let mut endpoint = Peer::endpoint(&[]);
    let extra = [("x-a", &b"2"[..]), ("portcullis-decision-id", b"D")];
    let request = call.write_h2(true, Some(Duration::from_secs(3)), &extra).unwrap();
    assert_eq!(endpoint.ours.open(false, false, request), Ok(1));
    endpoint.ours.data(1, b"ask", true).unwrap();
    let frames = endpoint.frames();
    assert_eq!(
        endpoint.fields(&frames[0].1),
        pairs(&[
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/shop.Orders/Get"),
            (":authority", "h.test"),
            ("content-type", "application/grpc"),
            ("portcullis-hop", "a"),
            ("x-a", "2"),
            ("portcullis-decision-id", "D"),
            ("te", "trailers"),
            ("grpc-timeout", "3000000u"),
        ])
    );
    assert_eq!((frames[1].0.kind, &frames[1].1[..]), (kind::DATA, &b"ask"[..]));

    endpoint.send_headers(
        1,
        &[(":status", "200"), ("content-type", "application/grpc"), ("alt-svc", "no")],
        false,
    );
    let Some(Event::Answer { stream: 1, head, over: false }) = endpoint.event() else { panic!("an answer") };
    let answer = Answer::from_h2(head, false, Asked::Other).unwrap();
    assert_eq!(answer.headers().collect::<Vec<_>>(), [("content-type", &b"application/grpc"[..])]);
    endpoint.data(1, b"told", false);
    endpoint.send_headers(1, &[("grpc-status", "0")], true);
    let seen = endpoint.take();
    assert_eq!(
        seen,
        [
            Seen::Data { stream: 1, bytes: b"told".to_vec(), over: false },
            Seen::Trailers { stream: 1, fields: 1 }
        ]
    );
    assert!(endpoint.ours.stream(1).unwrap().is_whole());
    endpoint.ours.remove(1);
    assert!(endpoint.frames().is_empty(), "nothing is left to say");
}

#[test]
fn a_second_call_costs_few_octets() {
    let mut endpoint = Peer::endpoint(&[]);
    let open = |encoder: &mut Encoder, out: &mut Vec<u8>| {
        encoder.request("POST", Some("http"), "h.test:1", Some(("/shop.Orders/Get", true)), out);
        encoder.field(b"content-type", b"application/grpc", out);
    };
    endpoint.ours.open(true, false, open).unwrap();
    let first = endpoint.frames()[0].1.clone();
    endpoint.ours.open(true, false, open).unwrap();
    let second = endpoint.frames()[0].1.clone();
    assert_eq!(second.len(), 5, "{} before", first.len());
    assert_eq!(endpoint.fields(&first), endpoint.fields(&second));
}

#[test]
fn hr_03_interim_answers_are_left_out_and_counted() {
    let mut endpoint = Peer::endpoint(&[]);
    let stream = endpoint.asked();
    for _ in 0..8 {
        endpoint.send_headers(stream, &[(":status", "103"), ("link", "x")], false);
    }
    assert_eq!(endpoint.take(), []);
    endpoint.send_headers(stream, &[(":status", "200")], true);
    assert_eq!(endpoint.take(), [answer(stream, 200, true)]);

    let stream = endpoint.asked();
    for _ in 0..9 {
        endpoint.send_headers(stream, &[(":status", "100")], false);
    }
    assert_eq!(endpoint.take(), [Seen::Reset { stream, reason: Reason::PROTOCOL_ERROR }]);
}

#[test]
fn what_is_no_answer_resets_its_stream() {
    let heads: [(&[(&str, &str)], bool); 10] = [
        (&[("server", "x")], true),
        (&[(":status", "20")], true),
        (&[(":status", "+20")], true),
        (&[(":status", "600")], true),
        (&[(":status", "101")], false),
        (&[(":status", "103")], true),
        (&[(":status", "200"), (":status", "200")], true),
        (&[(":status", "200"), ("connection", "close")], true),
        (&[(":status", "200"), ("x", "a"), (":path", "/")], true),
        (&[(":status", "200"), ("content-length", "5")], true),
    ];
    for (fields, over) in heads {
        let mut endpoint = Peer::endpoint(&[]);
        let stream = endpoint.asked();
        endpoint.send_headers(stream, fields, over);
        assert_eq!(endpoint.take(), [Seen::Reset { stream, reason: Reason::PROTOCOL_ERROR }], "{fields:?}");
        assert_eq!(endpoint.reset(stream), Some(Reason::PROTOCOL_ERROR));
    }
    // A body before its head.
    let mut endpoint = Peer::endpoint(&[]);
    let stream = endpoint.asked();
    endpoint.data(stream, b"x", true);
    assert_eq!(endpoint.take(), [Seen::Reset { stream, reason: Reason::PROTOCOL_ERROR }]);
    // Less, and more, than was declared; anything where nothing may be.
    for (status, length, bodiless, body) in
        [("200", "3", false, 2), ("200", "3", false, 4), ("200", "3", true, 3), ("304", "3", false, 3)]
    {
        let mut endpoint = Peer::endpoint(&[]);
        let stream = endpoint.ours.open(true, bodiless, |_, _| {}).unwrap();
        endpoint.send_headers(stream, &[(":status", status), ("content-length", length)], false);
        endpoint.data(stream, &vec![0; body], true);
        let seen = endpoint.take();
        assert_eq!(
            seen.last(),
            Some(&Seen::Reset { stream, reason: Reason::PROTOCOL_ERROR }),
            "{status} {body}"
        );
    }
    let mut endpoint = Peer::endpoint(&[]);
    let stream = endpoint.ours.open(true, true, |_, _| {}).unwrap();
    endpoint.send_headers(stream, &[(":status", "200"), ("content-length", "3")], true);
    assert_eq!(endpoint.take(), [answer(stream, 200, true)], "of HEAD");
}

#[test]
fn what_a_server_must_not_say_ends_the_connection() {
    let setting = |name: u8, value: u32| {
        let [a, b, c, d] = value.to_be_bytes();
        vec![0, name, a, b, c, d]
    };
    let cases: [(u8, u32, Vec<u8>, Reason); 5] = [
        (kind::PUSH_PROMISE, 1, vec![0, 0, 0, 2, 0x88], Reason::PROTOCOL_ERROR),
        (kind::SETTINGS, 0, setting(2, 1), Reason::PROTOCOL_ERROR),
        (kind::HEADERS, 3, vec![0x88], Reason::PROTOCOL_ERROR),
        (kind::HEADERS, 2, vec![0x88], Reason::PROTOCOL_ERROR),
        (kind::GOAWAY, 0, vec![0; 7], Reason::FRAME_SIZE_ERROR),
    ];
    for (frame, stream, payload, reason) in cases {
        let mut endpoint = Peer::endpoint(&[]);
        endpoint.asked();
        endpoint.send(
            frame,
            flag::END_HEADERS & if frame == kind::SETTINGS { 0 } else { 4 },
            stream,
            &payload,
        );
        assert_eq!(endpoint.take(), [Seen::Ended(reason)], "frame {frame} on {stream}");
    }
}

#[test]
fn no_more_streams_are_opened_than_the_server_takes() {
    let mut endpoint = Peer::endpoint(&[0, 3, 0, 0, 0, 2]);
    let (first, second) = (endpoint.asked(), endpoint.asked());
    assert_eq!((first, second, endpoint.ours.opens()), (1, 3, Opens::Later));
    assert_eq!(endpoint.ours.open(true, false, |_, _| {}), Err(Reason::REFUSED_STREAM));
    endpoint.send_headers(first, &[(":status", "204")], true);
    endpoint.take();
    endpoint.ours.remove(first);
    assert_eq!(endpoint.ours.opens(), Opens::Now);
    // A hundred until it has said how many.
    let mut fresh = Connection::<()>::client(Limits::default(), Duration::ZERO);
    for _ in 0..100 {
        fresh.open(true, false, |_, _| {}).unwrap();
    }
    assert_eq!(fresh.opens(), Opens::Later);
}

#[test]
fn ry_02_a_server_that_leaves_says_which_calls_it_did_not_begin() {
    let mut endpoint = Peer::endpoint(&[]);
    let (first, second) = (endpoint.asked(), endpoint.asked());
    endpoint.send(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(endpoint.take(), [Seen::Leaving]);
    assert_eq!(endpoint.ours.stream(second).unwrap().reset(), Some(Reason::REFUSED_STREAM));
    assert_eq!(endpoint.ours.opens(), Opens::Never);
    assert!(!endpoint.ours.is_left());
    endpoint.send_headers(first, &[(":status", "200")], true);
    assert_eq!(endpoint.take(), [answer(first, 200, true)]);
    endpoint.ours.remove(first);
    endpoint.ours.remove(second);
    assert!(endpoint.ours.is_left());
}

#[test]
fn an_answer_that_is_complete_outlives_a_reset() {
    let mut endpoint = Peer::endpoint(&[]);
    let stream = endpoint.ours.open(false, false, |_, _| {}).unwrap();
    endpoint.send_headers(stream, &[(":status", "413")], true);
    endpoint.send(kind::RST_STREAM, 0, stream, &0_u32.to_be_bytes());
    assert_eq!(
        endpoint.take(),
        [answer(stream, 413, true), Seen::Reset { stream, reason: Reason::NO_ERROR }]
    );
    assert!(endpoint.ours.stream(stream).unwrap().is_whole());
    assert_eq!(endpoint.ours.room(stream), Room::Gone(Reason::NO_ERROR));
}

#[test]
fn what_was_on_its_way_to_a_call_that_was_given_up_is_taken() {
    let mut endpoint = Peer::endpoint(&[]);
    let stream = endpoint.asked();
    endpoint.frames();
    endpoint.ours.remove(stream);
    assert_eq!(endpoint.reset(stream), Some(Reason::CANCEL));
    endpoint.send_headers(stream, &[(":status", "103")], false);
    endpoint.send_headers(stream, &[(":status", "200")], false);
    endpoint.data(stream, &[0; 1000], false);
    endpoint.send_headers(stream, &[("x-sum", "1")], true);
    let next = endpoint.asked();
    endpoint.send_headers(next, &[(":status", "200")], true);
    assert_eq!(endpoint.take(), [answer(next, 200, true)]);
}

#[test]
fn a_server_may_give_up_every_call() {
    let mut endpoint = Peer::endpoint(&[]);
    for _ in 0..20_000 {
        let stream = endpoint.asked();
        endpoint.send(kind::RST_STREAM, 0, stream, &7_u32.to_be_bytes());
        assert_eq!(endpoint.take(), [Seen::Reset { stream, reason: Reason::REFUSED_STREAM }]);
        endpoint.ours.remove(stream);
        endpoint.frames();
    }
    // Not those that it never had.
    for _ in 0..2_000 {
        endpoint.send(kind::RST_STREAM, 0, 1, &7_u32.to_be_bytes());
    }
    assert_eq!(endpoint.take(), [Seen::Ended(Reason::ENHANCE_YOUR_CALM)]);
}

#[test]
fn pl_03_an_endpoint_is_asked_whether_it_is_there() {
    let mut endpoint = Peer::endpoint(&[]);
    endpoint.ours.ping();
    let frames = endpoint.frames();
    assert_eq!((frames[0].0.kind, frames[0].0.flags), (kind::PING, 0));
    endpoint.send(kind::PING, flag::ACK, 0, &frames[0].1);
    assert_eq!(endpoint.take(), []);
}
