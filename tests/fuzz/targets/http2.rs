//! HTTP/2 of a caller and of an endpoint: whole connections with their header blocks, and calls made of random fields.

use std::time::Duration;

use enforcer_codec::h2::{Connection, Event};
use enforcer_codec::{Answer, Asked, Call, Limits, Scheme, Transport};
use tests::frames::{
    self, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, WHOLE, block, frame, setting,
};

use super::{Target, pieces, rule};

const WORDS: &[&str] = &[
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "\0\0\0\u{4}\0\0\0\0\0",
    "\0\0\0\u{4}\u{1}\0\0\0\0",
    "\0\0\u{8}\u{6}\0\0\0\0\0",
    "\0\0\u{4}\u{3}\0\0\0\0\u{1}",
    "\0\0\u{4}\u{8}\0\0\0\0\0",
    "\0\0\0\u{0}\u{1}\0\0\0\u{1}",
    "\0\0\u{1}\u{0}\u{8}\0\0\0\u{1}",
    "\0\0\0\u{9}\u{4}\0\0\0\u{1}",
    "\0\0\u{5}\u{2}\0\0\0\0\u{1}",
    "\0\0\u{4}\u{1}\u{5}\0\0\0\u{3}\u{82}\u{87}\u{84}\u{41}",
    "\u{82}",
    "\u{84}",
    "\u{87}",
    "\u{be}",
    "\u{20}",
    "\u{3f}\u{e1}\u{1f}",
    "\u{40}\u{1}x\u{1}y",
    "\0\u{1}x\u{1}y",
    "\u{10}",
    "\u{41}\u{8c}",
    "\u{7f}\u{ff}\u{ff}\u{ff}\u{7f}",
    "\u{ff}\u{ff}\u{ff}\u{ff}\u{f}",
];

fn request(more: &[(&str, &str)]) -> Vec<u8> {
    let own = [(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/a?b")];
    block(&[&own[..], more].concat())
}

fn conversations() -> Vec<Vec<u8>> {
    let greeted = [PREFACE, &frame(SETTINGS, 0, 0, &setting(4, 100))].concat();
    let with = |frames: &[Vec<u8>]| [greeted.clone(), frames.concat()].concat();
    let part = request(&[("x", "y")]);
    vec![
        with(&[frame(HEADERS, WHOLE, 1, &[0x82, 0x87, 0x84, 0x41, 1, b'a'])]),
        with(&[
            frame(HEADERS, END_HEADERS, 1, &request(&[("content-length", "3")])),
            frame(DATA, END_STREAM, 1, b"abc"),
        ]),
        with(&[
            frame(HEADERS, END_HEADERS, 1, &request(&[])),
            frame(DATA, frames::PADDED, 1, &[2, b'a', 0, 0]),
            frame(HEADERS, WHOLE, 1, &block(&[("x-sum", "1")])),
        ]),
        with(&[
            frame(HEADERS, END_STREAM, 1, &part[..10]),
            frame(frames::CONTINUATION, END_HEADERS, 1, &part[10..]),
        ]),
        with(&[
            frame(frames::PING, 0, 0, &[1; 8]),
            frame(frames::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]),
            frame(frames::PRIORITY, 0, 1, &[0; 5]),
        ]),
        with(&[
            frame(HEADERS, WHOLE, 1, &request(&[])),
            frame(frames::RST_STREAM, 0, 1, &[0, 0, 0, 8]),
            frame(frames::GOAWAY, 0, 0, &[0; 8]),
        ]),
        // An entry of the table, told again.
        with(&[
            frame(HEADERS, WHOLE, 1, &[&request(&[])[..], &[0x40, 1, b'x', 1, b'y']].concat()),
            frame(HEADERS, WHOLE, 3, &[&request(&[])[..], &[0xbe]].concat()),
        ]),
    ]
}

pub(super) const CONNECTION: Target =
    Target { name: "h2_connection", run: connection, seeds: conversations, words: WORDS };

fn connection(input: &[u8]) -> String {
    let whole = conversation(&[input], false);
    assert_eq!(whole, conversation(&pieces(input), false), "another reading when it comes in pieces");
    // The same with a driver that takes, answers and forgets.
    conversation(&pieces(input), true);
    whole
}

/// What arrives, and what is said to it.
fn conversation(parts: &[&[u8]], answers: bool) -> String {
    let transport = Transport::new(Scheme::Https);
    let mut server = Connection::<()>::server(Limits::default(), false, Duration::ZERO);
    let mut told = String::new();
    let (mut held, mut given) = (0_usize, 0_usize);
    for part in parts {
        let mut rest = *part;
        given += part.len();
        loop {
            let (stream, over) =
                match server.receive(&mut rest, Duration::ZERO) {
                    Ok(None) => break,
                    Err(ended) => return format!("{told}{ended} {:?}", said(server.pending())),
                    Ok(Some(Event::Request { stream, head, over })) => {
                        let call = head.and_then(|head| Call::from_h2(head, over, &transport));
                        told.push_str(&call.map_or_else(rule, |call| {
                            format!("call {:?} {:?} ", call.upgrade(), call.body())
                        }));
                        (stream, over)
                    }
                    Ok(Some(Event::Data { stream, bytes, over })) => {
                        held += bytes.len();
                        if over {
                            told.push_str("end ");
                        }
                        (stream, over)
                    }
                    Ok(Some(Event::Trailers { stream, fields })) => {
                        told.push_str(&format!("{} trailers ", fields.len()));
                        (stream, true)
                    }
                    Ok(Some(Event::Reset { stream })) => {
                        told.push_str("reset ");
                        (stream, true)
                    }
                    Ok(Some(_)) => continue,
                };
            if answers {
                server.release(stream, 1);
                let answered = server.answer(stream, 200, false, |_, _| ());
                if answered.is_ok() && over {
                    server.data(stream, b"", true).unwrap_or_default();
                }
                if over {
                    server.remove(stream);
                }
                let written = server.pending().len();
                server.wrote(written / 2);
            }
        }
    }
    assert!(held <= given, "more came out than went in");
    // Each frame that moves no call is answered by no more than itself.
    assert!(
        answers || server.pending().len() <= 200 + given * 2,
        "{} bytes for {given}",
        server.pending().len()
    );
    format!("{told}{:?}", said(server.pending()))
}

pub(super) const ENDPOINT: Target =
    Target { name: "h2_endpoint", run: endpoint, seeds: answers, words: WORDS };

fn answers() -> Vec<Vec<u8>> {
    let greeted = frame(SETTINGS, 0, 0, &setting(3, 10));
    let with = |frames: &[Vec<u8>]| [greeted.clone(), frames.concat()].concat();
    let head = |more: &[(&str, &str)]| block(&[&[(":status", "200")], more].concat());
    vec![
        with(&[frame(HEADERS, WHOLE, 1, &[0x88])]),
        with(&[
            frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "103"), ("link", "a")])),
            frame(HEADERS, END_HEADERS, 1, &head(&[("content-length", "3")])),
            frame(DATA, END_STREAM, 1, b"abc"),
        ]),
        with(&[
            frame(HEADERS, END_HEADERS, 3, &head(&[])),
            frame(DATA, frames::PADDED, 3, &[2, b'a', 0, 0]),
            frame(HEADERS, WHOLE, 3, &block(&[("grpc-status", "0")])),
            frame(frames::RST_STREAM, 0, 1, &[0, 0, 0, 7]),
        ]),
        with(&[
            frame(frames::GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0]),
            frame(HEADERS, WHOLE, 3, &head(&[])),
            frame(HEADERS, WHOLE, 5, &head(&[])),
        ]),
        with(&[frame(frames::PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x88])]),
    ]
}

fn endpoint(input: &[u8]) -> String {
    let whole = asked(&[input], false);
    assert_eq!(whole, asked(&pieces(input), false), "another reading when it comes in pieces");
    asked(&pieces(input), true);
    whole
}

/// What comes to three calls, and what is said to it.
fn asked(parts: &[&[u8]], gives_up: bool) -> String {
    let mut client = Connection::<()>::client(Limits::default(), Duration::ZERO);
    for over in [true, false, true] {
        client.open(over, false, |encoder, out| encoder.field(b"x", b"y", out)).unwrap();
    }
    let written = client.pending().len();
    client.wrote(written);
    let mut told = String::new();
    let (mut held, mut given) = (0_usize, 0_usize);
    for part in parts {
        let mut rest = *part;
        given += part.len();
        loop {
            let stream = match client.receive(&mut rest, Duration::ZERO) {
                Ok(None) => break,
                Err(ended) => return format!("{told}{ended} {:?}", said(client.pending())),
                Ok(Some(Event::Request { .. })) => panic!("a server asked"),
                Ok(Some(Event::Answer { stream, head, over })) => {
                    let answer = Answer::from_h2(head, over, Asked::Other);
                    told.push_str(&answer.map_or_else(rule, |answer| {
                        format!("answer {} {:?} ", answer.status(), answer.body())
                    }));
                    stream
                }
                Ok(Some(Event::Data { stream, bytes, .. })) => {
                    held += bytes.len();
                    stream
                }
                Ok(Some(Event::Trailers { stream, fields })) => {
                    told.push_str(&format!("{} trailers ", fields.len()));
                    stream
                }
                Ok(Some(Event::Reset { stream })) => {
                    told.push_str("reset ");
                    stream
                }
                Ok(Some(_)) => continue,
            };
            if gives_up {
                client.remove(stream);
            }
        }
    }
    assert!(held <= given, "more came out than went in");
    assert!(gives_up || client.pending().len() <= 200 + given * 2);
    format!("{told}{:?}", said(client.pending()))
}

/// Which frames are said.
fn said(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some((kind, _, _, _, length)) = frames::first(bytes) {
        kinds.push(kind);
        bytes = &bytes[length..];
    }
    kinds.dedup();
    kinds
}

pub(super) const CALL: Target = Target { name: "h2_call", run: call, seeds: lists, words: FIELDS };

const FIELDS: &[&str] = &[
    "\n",
    "\n:method GET",
    "\n:path /a",
    "\n:scheme https",
    "\n:authority a",
    "\nhost a",
    "\ncookie a=b",
    "\nte trailers",
    "\nx_y z",
    "\ncontent-length 5",
    "\ncontent-type application/grpc",
    "\ngrpc-timeout 1S",
    "\n:protocol websocket",
    "\nsec-websocket-version 13",
    "\nexpect 100-continue",
    "%2e",
    "%2f",
    "..",
    "//",
    ";",
    "?",
    "#",
    ":443",
    "\r",
    "\0",
    "\u{ff}",
    " ",
];

/// A name, a space and a value per line.
fn lists() -> Vec<Vec<u8>> {
    let own = ":method GET\n:scheme https\n:authority a\n:path /a?b=c";
    [
        own.to_owned(),
        format!("{own}\ncookie a=b\ncookie c=d\nhost a\nx y"),
        ":method POST\n:scheme https\n:authority a\n:path /pkg.Svc/Get\ncontent-type application/grpc+proto\nte trailers\ngrpc-timeout 5S".into(),
        ":method CONNECT\n:protocol websocket\n:scheme https\n:authority a\n:path /chat\nsec-websocket-version 13".into(),
        ":method CONNECT\n:authority a:443".into(),
    ]
    .map(String::into_bytes)
    .into()
}

/// What a list of fields makes of a call, which must print to one that HTTP/1 reads the same.
fn call(input: &[u8]) -> String {
    let text: String = input.iter().map(|byte| char::from(*byte)).collect();
    let fields: Vec<(&str, &str)> =
        text.split('\n').map(|line| line.split_once(' ').unwrap_or((line, ""))).collect();
    let bytes = block(&fields);
    if bytes.len() > 16_384 {
        return "long".to_owned();
    }
    let sent = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, END_HEADERS, 1, &bytes)].concat();
    let mut server = Connection::<()>::server(Limits::default(), false, Duration::ZERO);
    let mut rest = &sent[..];
    loop {
        match server.receive(&mut rest, Duration::ZERO) {
            Ok(Some(Event::Request { head, over, .. })) => {
                let transport = Transport::new(Scheme::Https);
                return match head.and_then(|head| Call::from_h2(head, over, &transport)) {
                    Ok(call) => {
                        super::http1::printed_is_the_same(&call, &transport);
                        format!("{:?} {:?} {:?}", call.protocol(), call.upgrade(), call.body())
                    }
                    Err(flaw) => rule(flaw),
                };
            }
            Ok(Some(_)) => {}
            Ok(None) => return format!("none {:?}", said(server.pending())),
            Err(ended) => return ended.to_string(),
        }
    }
}
