//! Answers of upstreams row by row (HR), and how they are printed for the caller.

use super::*;
use crate::{Answer, Asked, BodyLength, Downstream, Sent};

fn parse(bytes: &str, asked: Asked) -> Result<(ResponseHead, BytesMut), NotCanonical> {
    let mut buffer = BytesMut::from(bytes.as_bytes());
    match ResponseParser::new(Limits::default()).parse(&mut buffer, asked) {
        Parse::Done(head) => Ok((head, buffer)),
        Parse::Refused(flaw) => Err(flaw),
        Parse::Incomplete => panic!("incomplete: {bytes:?}"),
    }
}

fn ok(lines: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n")
}

fn bad(bytes: &str, rule: &str) {
    let flaw = parse(bytes, Asked::Other).map(|_| ()).expect_err(bytes);
    assert_eq!((flaw.rule, flaw.status, flaw.close), (rule, 502, true), "{bytes:?}: {flaw}");
}

fn print(answer: &Answer, version: Version) -> (String, Sent) {
    let mut out = BytesMut::new();
    let down = Downstream { version, keep_alive: true };
    let sent = answer.write_h1(down, &mut out, &[("portcullis-decision-id", b"01JD")]);
    (String::from_utf8(out.to_vec()).unwrap(), sent)
}

#[test]
fn hr_01_odd_framings_are_bad_gateway() {
    for lines in [
        "content-length: 1\r\ntransfer-encoding: chunked\r\n",
        "content-length: 1\r\ncontent-length: 1\r\n",
        "content-length: 1, 1\r\n",
        "content-length: +1\r\n",
        "content-length: 01\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: Chunked\r\n",
    ] {
        bad(&ok(lines), "HR-01");
    }
    bad("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "HR-01");
}

#[test]
fn hr_02_odd_lines_are_bad_gateway() {
    for line in [
        "HTTP/1.1 200 OK\n",
        "HTTP/1.1 099 No\r\n",
        "HTTP/1.1 600 No\r\n",
        "HTTP/1.1 20 OK\r\n",
        "HTTP/1.1 2000 OK\r\n",
        "HTTP/1.1 200OK\r\n",
        "HTTP/1.1  200 OK\r\n",
        "HTTP/2.0 200 OK\r\n",
        "http/1.1 200 OK\r\n",
        "HTTP/1.1 200 O\0K\r\n",
        "HTTP/1.1 +20 OK\r\n",
        "ICY 200 OK\r\n",
        "\r\n",
    ] {
        bad(&format!("{line}content-length: 0\r\n\r\n"), "HR-02");
    }
    for lines in ["a: b\r\n c\r\n", "a: b\n", "a: b\rc\r\n", "a : b\r\n", "nocolon\r\n", "a: \0\r\n"] {
        bad(&ok(lines), "HR-02");
    }
    bad(&format!("HTTP/1.1 200 {}", "a".repeat(600)), "HR-02");
    assert_eq!(parse("HTTP/1.1 204\r\n\r\n", Asked::Other).unwrap().0.status(), 204);
    assert_eq!(parse("HTTP/1.1 200 \r\n\r\n", Asked::Other).unwrap().0.status(), 200);
}

#[test]
fn hr_03_switches_floods_and_large_heads_are_bad_gateway() {
    bad("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "HR-03");
    bad(&ok(&"a: b\r\n".repeat(101)), "HR-03");
    bad(&ok(&format!("a: {}\r\n", "b".repeat(17_000))), "HR-03");
    let mut parser = ResponseParser::new(Limits::default());
    let mut buffer = BytesMut::from("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(9).as_bytes());
    for _ in 0..8 {
        assert!(matches!(parser.parse(&mut buffer, Asked::Other), Parse::Done(head) if head.is_interim()));
    }
    assert!(matches!(parser.parse(&mut buffer, Asked::Other), Parse::Refused(flaw) if flaw.rule == "HR-03"));
}

#[test]
fn hr_04_answers_without_a_body_have_none_whatever_they_say() {
    let declared = "content-length: 5\r\n\r\nhello";
    for (line, asked) in
        [("204 No Content", Asked::Other), ("304 Not Modified", Asked::Other), ("200 OK", Asked::Head)]
    {
        let (head, rest) = parse(&format!("HTTP/1.1 {line}\r\n{declared}"), asked).unwrap();
        assert_eq!(head.framing(), Framing::Empty, "{line}");
        assert_eq!(leftover(&rest).unwrap_err().status, 502, "{line}");
    }
}

#[test]
fn hr_06_bytes_of_no_answer_are_found() {
    assert_eq!(leftover(b"").map_err(|flaw| flaw.rule), Ok(()));
    let (_, rest) = parse(&format!("{}{}", ok("content-length: 0\r\n"), ok("")), Asked::Other).unwrap();
    assert_eq!(leftover(&rest).map_err(|flaw| flaw.rule), Err("HR-06"));
}

#[test]
fn hr_07_close_delimited_answers_end_the_upstream_connection() {
    let (head, _) = parse(&ok(""), Asked::Other).unwrap();
    assert_eq!((head.framing(), head.keep_alive()), (Framing::UntilClose, false));
    let (head, _) = parse(&ok("content-length: 0\r\n"), Asked::Other).unwrap();
    assert!(head.keep_alive());
    let (head, _) = parse(&ok("content-length: 0\r\nConnection: close\r\n"), Asked::Other).unwrap();
    assert!(!head.keep_alive());
    let (head, _) = parse("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", Asked::Other).unwrap();
    assert!(!head.keep_alive());
}

#[test]
fn hr_08_reserved_and_hop_by_hop_fields_of_answers_are_stripped() {
    let lines = "Server: x\r\nPortcullis-Decision-Id: forged\r\nX-Envoy-Upstream: 1\r\nConnection: X-Hop\r\n\
                 X-Hop: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\nContent-Length: 5\r\n";
    let answer = Answer::from_h1(parse(&ok(lines), Asked::Other).unwrap().0);
    assert_eq!(answer.headers().map(|(name, _)| name).collect::<Vec<_>>(), ["server"]);
    let (text, sent) = print(&answer, Version::Http11);
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\nserver: x\r\nportcullis-decision-id: 01JD\r\ncontent-length: 5\r\n\r\n"
    );
    assert_eq!(sent, Sent { framing: Framing::Length(5), close: false });
}

#[test]
fn a_streamed_answer_is_chunked_or_ends_with_the_connection() {
    let answer = Answer::from_h1(parse(&ok("transfer-encoding: chunked\r\n"), Asked::Other).unwrap().0);
    assert_eq!(answer.body(), BodyLength::Streamed);
    let (text, sent) = print(&answer, Version::Http11);
    assert!(text.ends_with("transfer-encoding: chunked\r\n\r\n"), "{text}");
    assert_eq!(sent, Sent { framing: Framing::Chunked, close: false });
    let (text, sent) = print(&answer, Version::Http10);
    assert!(text.ends_with("connection: close\r\n\r\n") && !text.contains("chunked"), "{text}");
    assert_eq!(sent, Sent { framing: Framing::UntilClose, close: true });
}

#[test]
fn an_answer_to_head_keeps_its_declared_length() {
    let answer = Answer::from_h1(parse(&ok("content-length: 5\r\n"), Asked::Head).unwrap().0);
    let (text, sent) = print(&answer, Version::Http11);
    assert!(text.contains("content-length: 5\r\n"), "{text}");
    assert_eq!(sent.framing, Framing::Empty);
    assert_eq!(answer.to_h2(&[]).headers()["content-length"], "5");
}

#[test]
fn an_answer_that_can_have_no_body_declares_none() {
    let head = "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n";
    let answer = Answer::from_h1(parse(head, Asked::Other).unwrap().0);
    let (text, sent) = print(&answer, Version::Http11);
    assert!(!text.contains("content-length"), "{text}");
    assert_eq!(sent, Sent { framing: Framing::Empty, close: false });
    assert!(answer.to_h2(&[]).headers().is_empty());
    let answer =
        Answer::from_h1(parse("HTTP/1.1 304 Not\r\ncontent-length: 5\r\n\r\n", Asked::Other).unwrap().0);
    assert!(print(&answer, Version::Http11).0.contains("content-length: 5\r\n"));
}

#[test]
fn an_http_2_answer_is_printed_for_http_1() {
    let response = http::Response::builder()
        .status(404)
        .header("set-cookie", "a=1")
        .header("set-cookie", "b=2")
        .header("x-envoy-a", "1")
        .body(())
        .unwrap();
    let (parts, ()) = response.into_parts();
    let answer = Answer::from_h3(parts, true, Asked::Other).unwrap();
    let (text, _) = print(&answer, Version::Http11);
    assert_eq!(
        text,
        "HTTP/1.1 404 Not Found\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nportcullis-decision-id: 01JD\r\n\
         content-length: 0\r\n\r\n"
    );
    let (parts, ()) = http::Response::builder().header("content-length", "3").body(()).unwrap().into_parts();
    assert_eq!(Answer::from_h3(parts, true, Asked::Other).unwrap_err().rule, "HR-05");
}

#[test]
fn the_heads_we_make_ourselves_have_no_second_reading() {
    let mut out = BytesMut::new();
    write_response_head(
        &mut out,
        403,
        &[("content-type", b"application/problem+json"), ("x", b"a\r\nb: c")],
        Framing::Length(2),
        true,
    );
    let text = String::from_utf8(out.to_vec()).unwrap();
    assert_eq!(
        text,
        "HTTP/1.1 403 Forbidden\r\ncontent-type: application/problem+json\r\ncontent-length: 2\r\n\
         connection: close\r\n\r\n"
    );
}
