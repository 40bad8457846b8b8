//! Heads and bodies of HTTP/1.

use bytes::BytesMut;
use enforcer_codec::h1::{BodyDecoder, BodyEvent, Framing, Parse, RequestParser, ResponseParser};
use enforcer_codec::{Asked, Call, CallProtocol, Limits, NotCanonical, Profile, Scheme, Transport};

use super::{Target, pieces, rule};

const WORDS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    " ",
    "\t",
    ":",
    ": ",
    ",",
    ";",
    "GET ",
    "POST ",
    "CONNECT ",
    "OPTIONS * ",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 101 \r\n",
    "HTTP/1.1 100 \r\n",
    "HTTP/1.1 204 \r\n",
    "host: a\r\n",
    "content-length: 5\r\n",
    "transfer-encoding: chunked\r\n",
    "connection: close\r\n",
    "connection: upgrade, x\r\n",
    "upgrade: websocket\r\n",
    "sec-websocket-version: 13\r\n",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "expect: 100-continue\r\n",
    "te: trailers\r\n",
    "content-type: application/grpc\r\n",
    "grpc-timeout: 1S\r\n",
    "x_a: b\r\n",
    "cookie: a=b\r\n",
    "authorization: a\r\n",
    "https://a",
    "/a?b",
    "%2e",
    "%2f",
    "..",
    "//",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "0\r\nx: y\r\n\r\n",
    "\u{0}",
    "\u{7f}",
    "\u{ff}",
];

fn seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 8] = [
        b"GET /a?b=c HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: a:8443\r\nContent-Length: 5\r\nCookie: a=b\r\n\r\nhello",
        b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nte: trailers\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n",
        b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n",
        b"GET https://a/b%20c HTTP/1.1\r\nhost: A\r\nmy_name: 1\r\nexpect: 100-continue\r\n\r\n",
        b"OPTIONS * HTTP/1.0\r\nhost: [::1]:80\r\n\r\n",
        b"\r\nDELETE /a HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 1\r\nx: caf\xe9\r\n\r\n",
    ];
    texts.iter().map(|text| text.to_vec()).collect()
}

pub(super) const REQUEST: Target = Target { name: "h1_request", run: request, seeds, words: WORDS };

fn request(input: &[u8]) -> String {
    let whole = heads(&[input]);
    assert_eq!(whole, heads(&pieces(input)), "another reading when it comes in pieces");
    whole
}

/// What is made of the requests on a connection.
fn heads(parts: &[&[u8]]) -> String {
    let transport = Transport { profile: Profile::Edge, ..Transport::new(Scheme::Https) };
    let (mut parser, mut buffer) = (RequestParser::new(transport.limits), BytesMut::new());
    let mut told = String::new();
    for part in parts {
        buffer.extend_from_slice(part);
        loop {
            match parser.parse(&mut buffer) {
                Parse::Incomplete => break,
                Parse::Refused(flaw) => return told + &rule(flaw),
                Parse::Done(head) => {
                    let wire = head.wire();
                    match Call::from_h1(head, &transport) {
                        Ok(call) => {
                            printed_is_the_same(&call, &transport);
                            told.push_str(&format!("call {:?} {:?} ", call.upgrade(), call.body()));
                        }
                        Err(flaw) => told.push_str(&rule(flaw)),
                    }
                    // Bodies have a target of their own.
                    if wire.framing != Framing::Empty {
                        return told;
                    }
                }
            }
        }
    }
    told
}

/// What is judged is what is printed: it parses to the same call.
pub(super) fn printed_is_the_same(call: &Call, transport: &Transport) {
    // A tunnel and gRPC have no such form.
    if call.upgrade().is_some() || call.protocol() == CallProtocol::Grpc {
        return;
    }
    let mut out = BytesMut::new();
    call.write_h1(&mut out, &[]);
    let text = String::from_utf8_lossy(&out).into_owned();
    let Parse::Done(head) =
        RequestParser::new(Limits { fields: 200, head: 1 << 20, ..Limits::default() }).parse(&mut out)
    else {
        panic!("what is printed is no head: {text:?}");
    };
    assert!(out.is_empty(), "something follows what is printed: {text:?}");
    let again = Call::from_h1(head, transport).unwrap_or_else(|flaw| panic!("{flaw} in {text:?}"));
    let fields = |call: &Call| {
        call.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(
        (call.method(), call.authority(), call.path(), call.query(), call.body(), fields(call)),
        (again.method(), again.authority(), again.path(), again.query(), again.body(), fields(&again)),
        "{text:?}"
    );
}

pub(super) const ANSWER: Target = Target { name: "h1_answer", run: answer, seeds: answers, words: WORDS };

fn answers() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 5] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\nhello",
        b"HTTP/1.1 103 Early\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.0 404 Not Found\r\nserver: a\r\n\r\nnothing",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nset-cookie: a\r\nset-cookie: b\r\nportcullis-peer: me\r\n\r\n",
    ];
    texts.iter().map(|text| text.to_vec()).collect()
}

fn answer(input: &[u8]) -> String {
    let whole = answered(&[input]);
    assert_eq!(whole, answered(&pieces(input)), "another reading when it comes in pieces");
    whole
}

fn answered(parts: &[&[u8]]) -> String {
    let mut told = String::new();
    for asked in [Asked::Other, Asked::Head, Asked::WebSocket] {
        let (mut parser, mut buffer) = (ResponseParser::new(Limits::default()), BytesMut::new());
        'parts: for part in parts {
            buffer.extend_from_slice(part);
            loop {
                match parser.parse(&mut buffer, asked) {
                    Parse::Incomplete => break,
                    Parse::Refused(flaw) => {
                        told.push_str(&rule(flaw));
                        break 'parts;
                    }
                    Parse::Done(head) if head.is_interim() => told.push('i'),
                    Parse::Done(head) => {
                        told.push_str(&format!("{:?} {} ", head.framing(), head.keep_alive()));
                        break 'parts;
                    }
                }
            }
        }
    }
    told
}

pub(super) const BODY: Target = Target { name: "h1_body", run: body, seeds: chunks, words: WORDS };

fn chunks() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 4] = [
        b"5\r\nhello\r\n0\r\n\r\n",
        b"1\r\na\r\nA\r\n0123456789\r\n0\r\nx-sum: 1\r\ny: z\r\n\r\n",
        b"5;a=b\r\nhello\r\n0;c\r\n\r\n",
        b"ffffffffffffffff\r\n",
    ];
    texts.iter().map(|text| text.to_vec()).collect()
}

fn body(input: &[u8]) -> String {
    let mut told = String::new();
    for framing in [Framing::Chunked, Framing::Length(7), Framing::UntilClose] {
        for make in [BodyDecoder::request as fn(Framing, Limits) -> BodyDecoder, BodyDecoder::response] {
            let whole = decoded(make(framing, Limits::default()), &[input]);
            let parts = decoded(make(framing, Limits::default()), &pieces(input));
            assert_eq!(whole, parts, "another reading when it comes in pieces");
            assert!(whole.0.len() <= input.len(), "more came out than went in");
            told.push_str(&whole.1);
        }
    }
    told
}

/// The bytes of a body, how it ended, and what is left.
fn decoded(mut decoder: BodyDecoder, parts: &[&[u8]]) -> (Vec<u8>, String, Vec<u8>) {
    let (mut buffer, mut body) = (BytesMut::new(), Vec::new());
    let mut told = String::new();
    let over = |flaw: NotCanonical| format!("{} ", rule(flaw));
    let mut parts = parts.iter();
    while let Some(part) = parts.next() {
        buffer.extend_from_slice(part);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(None) => break,
                Ok(Some(BodyEvent::Data(bytes))) => body.extend_from_slice(&bytes),
                Ok(Some(BodyEvent::Trailers(trailers))) => {
                    told.push_str(&format!("{} trailers ", trailers.len()))
                }
                Ok(Some(BodyEvent::End)) => {
                    let rest = parts.fold(buffer.to_vec(), |rest, part| [rest, part.to_vec()].concat());
                    return (body, told + "end ", rest);
                }
                Err(flaw) => return (body, told + &over(flaw), Vec::new()),
            }
        }
    }
    let end = decoder.finish().map_or_else(over, |()| "closed ".to_owned());
    (body, told + &end, Vec::new())
}
