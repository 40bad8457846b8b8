//! Payloads of public request-smuggling and desynchronisation work, each with its one expected outcome.

use super::*;

/// What the gate makes of a payload.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Refused by this rule; nothing of it reaches an upstream.
    Refused(&'static str),
    /// Served, with so many bytes left for the next message.
    Served { left: usize },
}

/// Head and body as a gateway reads them: the head, then its body to the end.
fn outcome(bytes: &[u8]) -> Outcome {
    let (_, wire, mut rest) = match request(bytes) {
        Ok(parsed) => parsed,
        Err(flaw) => return Outcome::Refused(flaw.rule),
    };
    let mut decoder = BodyDecoder::request(wire.framing, Limits::default());
    loop {
        match decoder.decode(&mut rest) {
            Ok(Some(BodyEvent::End)) => return Outcome::Served { left: rest.len() },
            Ok(Some(_)) => {}
            Ok(None) => return Outcome::Refused(decoder.finish().unwrap_err().rule),
            Err(flaw) => return Outcome::Refused(flaw.rule),
        }
    }
}

const P: &str = "POST / HTTP/1.1\r\nHost: h\r\n";
const SMUGGLED: &str = "GET /admin HTTP/1.1\r\nHost: h\r\n\r\n";

/// Header lines after a POST, the body, the rule that refuses it.
const REFUSED: &[(&str, &str, &str)] = &[
    // CL.TE and TE.CL in every dress.
    ("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG", "H1-12"),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "5c\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n",
        "H1-12",
    ),
    ("Content-Length: 6\r\nTransfer-Encoding : chunked\r\n", "0\r\n\r\nG", "H1-09"),
    ("Content-Length: 6\r\nTransfer-Encoding\t: chunked\r\n", "0\r\n\r\nG", "H1-09"),
    ("Content-Length: 6\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\nG", "H1-09"),
    ("Content-Length: 6\r\nFoo: bar\r\n\tTransfer-Encoding: chunked\r\n", "0\r\n\r\nG", "H1-09"),
    ("Content-Length: 6\r\nFoo: bar\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG", "H1-01"),
    ("Content-Length: 6\r\nFoo: bar\rTransfer-Encoding: chunked\r\n", "0\r\n\r\nG", "H1-01"),
    ("Content-Length: 6\r\nTransfer-Encoding: xchunked\r\n", "0\r\n\r\nG", "H1-14"),
    ("Content-Length: 6\r\nTransfer-Encoding: chunked, identity\r\n", "0\r\n\r\nG", "H1-14"),
    ("Content-Length: 6\r\nTransfer-Encoding: \"chunked\"\r\n", "0\r\n\r\nG", "H1-14"),
    ("Content-Length: 6\r\nTransfer-Encoding: 'chunked'\r\n", "0\r\n\r\nG", "H1-14"),
    ("Content-Length: 6\r\nTransfer-Encoding: \u{b}chunked\r\n", "0\r\n\r\nG", "H1-10"),
    ("Content-Length: 6\r\nTransfer-Encoding: chunked\u{c}\r\n", "0\r\n\r\nG", "H1-10"),
    ("Content-Length: 6\r\nTransfer-Encoding:\0chunked\r\n", "0\r\n\r\nG", "H1-10"),
    ("Content-Length: 6\r\nTransfer-Encoding: chunked\u{7f}\r\n", "0\r\n\r\nG", "H1-10"),
    ("Content-Length: 6\r\nTransfer-Encoding: \u{a0}chunked\r\n", "0\r\n\r\nG", "H1-14"),
    ("Content-Length: 6\r\nTransfer_Encoding: chunked\r\n", "0\r\n\r\nG", "H1-27"),
    ("Content-Length: 6\r\nTransfer-Encod\u{131}ng: chunked\r\n", "0\r\n\r\nG", "H1-10"),
    ("Content-Length: 6\r\nTransfer-Encoding\0: chunked\r\n", "0\r\n\r\nG", "H1-09"),
    ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", "H1-14"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n", "H1-14"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: \r\n", "0\r\n\r\n", "H1-14"),
    ("Transfer-Encoding: chunked;a=b\r\n", "0\r\n\r\n", "H1-14"),
    ("Transfer-Encoding: CHUNKED\r\n", "0\r\n\r\n", "H1-14"),
    ("Transfer-Encoding: gzip\r\n", "0\r\n\r\n", "H1-14"),
    ("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n", "H1-14"),
    // CL.CL.
    ("Content-Length: 5\r\nContent-Length: 6\r\n", "12345G", "H1-13"),
    ("Content-Length: 5\r\ncontent-length: 5\r\n", "12345", "H1-13"),
    ("Content-Length: 5, 6\r\n", "12345G", "H1-13"),
    ("Content-Length: +5\r\n", "12345", "H1-13"),
    ("Content-Length: -0\r\n", "", "H1-13"),
    ("Content-Length: 0x5\r\n", "12345", "H1-13"),
    ("Content-Length: 05\r\n", "12345", "H1-13"),
    ("Content-Length: 5 6\r\n", "12345", "H1-13"),
    ("Content-Length: 5\u{660}\r\n", "12345", "H1-13"),
    ("Content-Length: \r\n", "", "H1-13"),
    ("Content-Length: 36893488147419103233\r\n", "1", "H1-13"),
    ("Content_Length: 5\r\n", "12345", "H1-27"),
    ("Content-Length : 5\r\n", "12345", "H1-09"),
    ("Content-Length\u{b}: 5\r\n", "12345", "H1-09"),
    ("Content-Length: 10\r\n", "short", "H1-16"),
    // Chunks.
    ("Transfer-Encoding: chunked\r\n", "0\n\r\n", "H1-01"),
    ("Transfer-Encoding: chunked\r\n", "1\nZ\r\n0\r\n\r\n", "H1-01"),
    ("Transfer-Encoding: chunked\r\n", "1\r\nZ\n0\r\n\r\n", "H1-16"),
    ("Transfer-Encoding: chunked\r\n", "1\r\nZQ\r\n0\r\n\r\n", "H1-16"),
    ("Transfer-Encoding: chunked\r\n", "0x1\r\nZ\r\n0\r\n\r\n", "H1-16"),
    ("Transfer-Encoding: chunked\r\n", "-1\r\nZ\r\n0\r\n\r\n", "H1-16"),
    ("Transfer-Encoding: chunked\r\n", "1 \r\nZ\r\n0\r\n\r\n", "H1-16"),
    ("Transfer-Encoding: chunked\r\n", "10000000000000001\r\nZ\r\n0\r\n\r\n", "H1-16"),
    ("Transfer-Encoding: chunked\r\n", "1;ext\r\nZ\r\n0\r\n\r\n", "H1-17"),
    ("Transfer-Encoding: chunked\r\n", "1;\nZ\r\n0\r\n\r\n", "H1-17"),
    ("Transfer-Encoding: chunked\r\n", "1;\rxx\r\nZ\r\n0\r\n\r\n", "H1-17"),
    ("Transfer-Encoding: chunked\r\n", "\r\n1\r\nZ\r\n0\r\n\r\n", "H1-16"),
    ("Transfer-Encoding: chunked\r\n", "0\r\nX", "H1-16"),
    ("Transfer-Encoding: chunked\r\n", "0\r\nContent-Length: 4\r\n\r\n", "H1-18"),
    ("Transfer-Encoding: chunked\r\n", "0\r\nTransfer-Encoding: chunked\r\n\r\n", "H1-18"),
    ("Transfer-Encoding: chunked\r\n", "0\r\nHost: evil\r\n\r\n", "H1-18"),
    ("Transfer-Encoding: chunked\r\n", "0\r\nPortcullis-Peer: spiffe://x/admin\r\n\r\n", "H1-18"),
    ("Transfer-Encoding: chunked\r\n", "0\r\nX: a\n\r\n", "H1-01"),
    // Routing and identity.
    ("Host: evil\r\n", "", "H1-08"),
    ("X: a\r\nHost: h\r\n", "", "H1-08"),
    ("Connection: content-length\r\nContent-Length: 5\r\n", "12345", "H1-21"),
    ("Connection: authorization\r\n", "", "H1-21"),
    ("Connection: x-forwarded-client-cert\r\n", "", "H1-21"),
    ("X_Forwarded_Client_Cert: forged\r\n", "", "H1-27"),
    ("Authorization: a\r\nAuthorization: b\r\n", "", "H1-20"),
    ("Content-Type: a/b\r\nContent-Type: c/d\r\n", "", "H1-20"),
    ("Content-Type: application/grpc\r\n", "", "RPC-01"),
];

#[test]
fn smuggling_payloads_after_a_post_are_refused() {
    assert!(REFUSED.len() >= 60, "{}", REFUSED.len());
    for (lines, body, rule) in REFUSED {
        let bytes = format!("{P}{lines}\r\n{body}");
        assert_eq!(outcome(bytes.as_bytes()), Outcome::Refused(rule), "{bytes:?}");
    }
}

#[test]
fn smuggling_payloads_in_the_request_line_are_refused() {
    for (line, rule) in [
        ("GET /\u{0}admin HTTP/1.1", "H1-07"),
        ("GET /a%0d%0aX:b HTTP/1.1", "CC-03"),
        ("GET /a/%2e%2e/admin HTTP/1.1", "CC-04"),
        ("GET /a/../admin HTTP/1.1", "CC-05"),
        ("GET /a/..;/admin HTTP/1.1", "CC-05"),
        ("GET //admin HTTP/1.1", "CC-05"),
        ("GET /%61dmin HTTP/1.1", "CC-04"),
        ("GET /admin%2f..%2fa HTTP/1.1", "CC-05"),
        ("GET /admin;x HTTP/1.1", "CC-06"),
        ("GET /admin%c0%af HTTP/1.1", "CC-03"),
        ("GET /\\admin HTTP/1.1", "H1-07"),
        ("GET https://evil/ HTTP/1.1", "H1-06"),
        ("GET /a HTTP/1.1 GET /admin HTTP/1.1", "H1-03"),
        ("GET /a HTTP/1.1\rGET /admin HTTP/1.1", "H1-01"),
        ("GET @evil/ HTTP/1.1", "H1-06"),
        ("GET evil HTTP/1.1", "H1-06"),
        ("GET /?a\"b HTTP/1.1", "CC-02"),
    ] {
        let bytes = format!("{line}\r\nHost: h\r\n\r\n");
        assert_eq!(outcome(bytes.as_bytes()), Outcome::Refused(rule), "{line:?}");
    }
}

#[test]
fn a_smuggled_request_is_never_part_of_the_first_one() {
    // The second request stays in the buffer as a request of its own, to be judged on its own.
    let clean = format!("{P}Content-Length: 3\r\n\r\nabc{SMUGGLED}");
    assert_eq!(outcome(clean.as_bytes()), Outcome::Served { left: SMUGGLED.len() });
    let chunked = format!("{P}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n{SMUGGLED}");
    assert_eq!(outcome(chunked.as_bytes()), Outcome::Served { left: SMUGGLED.len() });
    let none = format!("GET / HTTP/1.1\r\nHost: h\r\n\r\n{SMUGGLED}");
    assert_eq!(outcome(none.as_bytes()), Outcome::Served { left: SMUGGLED.len() });
    // A body that looks like a request is body.
    let inside = format!("{P}Content-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len());
    assert_eq!(outcome(inside.as_bytes()), Outcome::Served { left: 0 });
}
