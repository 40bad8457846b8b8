//! Properties of the head parser: any split gives one result, random bytes never panic, print-parse is identity.

use proptest::prelude::*;

use super::*;
use crate::{Answer, Asked};

/// Everything a caller can see of a parse.
fn view(parse: Parse<RequestHead>, rest: &[u8]) -> Option<Result<String, NotCanonical>> {
    let head = match parse {
        Parse::Incomplete => return None,
        Parse::Refused(flaw) => return Some(Err(flaw)),
        Parse::Done(head) => head,
    };
    let wire = head.wire();
    Some(
        Call::from_h1(head, &Transport::new(Scheme::Https))
            .map(|call| format!("{} {wire:?} {rest:?}", show(&call))),
    )
}

fn show(call: &Call) -> String {
    format!(
        "{} {} {} {:?} {:?} {:?} {:?}",
        call.method(),
        call.authority(),
        call.path(),
        call.query(),
        call.headers().collect::<Vec<_>>(),
        call.body(),
        call.media_type(),
    )
}

fn whole(bytes: &[u8]) -> Option<Result<String, NotCanonical>> {
    let mut buffer = BytesMut::from(bytes);
    let parse = parse_request_head(&mut buffer, &Limits::default());
    view(parse, &buffer)
}

/// The same bytes in pieces; what follows the head is appended to the rest.
fn split(bytes: &[u8], piece: usize) -> Option<Result<String, NotCanonical>> {
    let mut parser = RequestParser::new(Limits::default());
    let mut buffer = BytesMut::new();
    let mut parts = bytes.chunks(piece);
    while let Some(part) = parts.next() {
        buffer.extend_from_slice(part);
        match parser.parse(&mut buffer) {
            Parse::Incomplete => {}
            done => {
                parts.for_each(|part| buffer.extend_from_slice(part));
                return view(done, &buffer);
            }
        }
    }
    None
}

/// Bytes that are nearly a request.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => "[A-Za-z-]{1,12}: ?[ -~]{0,20}\r\n",
        1 => Just("content-length: 5\r\n".to_owned()),
        1 => Just("Transfer-Encoding: chunked\r\n".to_owned()),
        1 => Just("Connection: close, X-Hop\r\n".to_owned()),
        1 => "[ -~]{0,20}\r\n",
        1 => "[\r\n\t -~]{0,6}",
    ];
    let start = prop_oneof![
        6 => Just("GET /a?b HTTP/1.1\r\nHost: h\r\n".to_owned()),
        1 => Just("\r\nPOST /a HTTP/1.0\r\nHost: H:443\r\n".to_owned()),
        1 => "[ -~]{0,30}\r\n",
    ];
    (start, proptest::collection::vec(line, 0..6), "(\r\n){0,2}[a-z]{0,3}")
        .prop_map(|(start, lines, end)| format!("{start}{}{end}", lines.concat()).into_bytes())
}

proptest! {
    #[test]
    fn any_split_of_a_head_gives_the_same_result(bytes in nearly(), piece in 1_usize..9) {
        prop_assert_eq!(whole(&bytes), split(&bytes, piece));
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1_usize..9) {
        prop_assert_eq!(whole(&bytes), split(&bytes, piece));
        let mut buffer = BytesMut::from(&bytes[..]);
        let answer = ResponseParser::new(Limits::default()).parse(&mut buffer, Asked::Other);
        let is_answer = bytes.starts_with(b"HTTP/1.");
        prop_assert!(is_answer || !matches!(answer, Parse::Done(_)));
    }

    #[test]
    fn cc_09_parse_of_print_of_a_call_is_the_call(
        method in "(GET|POST|PUT|[A-Z]{1,8})",
        path in "(/[a-zA-Z0-9._~!$&'()*+,:@=-]{1,6}){1,4}/?",
        query in proptest::option::of("[a-z0-9=&%?/:]{0,12}"),
        host in "[a-z]{1,5}([.][a-z]{1,5}){0,2}(:8443)?",
        fields in proptest::collection::vec(
            ("x-[a-z]{1,6}", "[!-~]([ -~]{0,10}[!-~])?|", prop_oneof![3 => Just((" ", "")), 1 => Just((" \t", " ")),
             1 => Just(("", "")), 1 => Just(("\t", "\t")), 1 => Just((" ", " "))], any::<bool>()),
            0..6,
        ),
        length in proptest::option::of(any::<u32>()),
    ) {
        prop_assume!(!matches!(method.as_str(), "TRACE" | "CONNECT"));
        prop_assume!(!path.split('/').any(|s| s == "." || s == ".."));
        let mut text = format!("{method} {path}");
        if let Some(query) = &query {
            text.push('?');
            text.push_str(query);
        }
        text.push_str(&format!(" HTTP/1.1\r\nHost: {host}\r\n"));
        let mut expected = text.clone();
        for (name, value, (before, after), dropped) in &fields {
            text.push_str(&format!("{}:{before}{value}{after}\r\n", name.to_uppercase()));
            if *dropped {
                text.push_str("Portcullis-Peer: forged\r\n");
            }
            expected.push_str(&format!("{name}: {value}\r\n"));
        }
        match length {
            Some(length) => text.push_str(&format!("Content-Length: {length}\r\n\r\n")),
            None => text.push_str("Transfer-Encoding: chunked\r\n\r\n"),
        }
        let (call, ..) = request(&text).unwrap();
        prop_assert_eq!(call.headers().count(), fields.len());
        prop_assert_eq!((call.path(), call.query()), (path.as_str(), query.as_deref()));
        let mut printed = BytesMut::new();
        call.write_h1(&mut printed, &[]);
        expected.push_str(&match length {
            Some(length) => format!("content-length: {length}\r\n\r\n"),
            None => "transfer-encoding: chunked\r\n\r\n".to_owned(),
        });
        prop_assert_eq!(String::from_utf8_lossy(&printed), expected.replacen("Host", "host", 1));
        let (again, _, rest) = request(&printed).unwrap();
        prop_assert_eq!(show(&call), show(&again));
        prop_assert!(rest.is_empty());
        let mut twice = BytesMut::new();
        again.write_h1(&mut twice, &[]);
        prop_assert_eq!(&printed, &twice);

        // The HTTP/2 form of the call says the same.
        let (parts, ()) = call.to_h3_request(None, &[]).unwrap().into_parts();
        let over = Call::from_parts(&parts, false, &Transport::new(Scheme::Https)).unwrap();
        prop_assert_eq!(
            (call.method(), call.authority(), call.path(), call.query(), call.body()),
            (over.method(), over.authority(), over.path(), over.query(), over.body())
        );
        let sorted = |call: &Call| {
            let mut all: Vec<_> = call.headers().map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
            all.sort();
            all
        };
        prop_assert_eq!(sorted(&call), sorted(&over));
    }

    #[test]
    fn any_split_of_an_answer_gives_the_same_result(
        status in 100_u16..620,
        lines in proptest::collection::vec("[A-Za-z-]{1,12}:[ -~]{0,12}\r\n", 0..5),
        piece in 1_usize..9,
    ) {
        let bytes = format!("HTTP/1.1 {status} Any\r\n{}\r\nrest", lines.concat());
        let show = |parse: Parse<ResponseHead>| match parse {
            Parse::Incomplete => None,
            Parse::Refused(flaw) => Some(Err(flaw)),
            Parse::Done(head) => {
                let framing = head.framing();
                let answer = Answer::from_h1(head);
                let fields: Vec<_> = answer.headers().map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
                Some(Ok((answer.status(), framing, fields)))
            }
        };
        let mut buffer = BytesMut::from(bytes.as_bytes());
        let at_once = show(ResponseParser::new(Limits::default()).parse(&mut buffer, Asked::Other));
        let mut parser = ResponseParser::new(Limits::default());
        let mut buffer = BytesMut::new();
        let mut in_parts = None;
        for part in bytes.as_bytes().chunks(piece) {
            buffer.extend_from_slice(part);
            in_parts = show(parser.parse(&mut buffer, Asked::Other));
            if in_parts.is_some() {
                break;
            }
        }
        prop_assert!(at_once.is_some());
        prop_assert_eq!(at_once, in_parts);
    }
}

#[test]
fn bytes_once_seen_are_not_searched_again() {
    let mut parser = RequestParser::new(Limits::default());
    let mut buffer = BytesMut::from(&b"GET / HTTP/1.1\r\nHost: h\r\nx: aaaa"[..]);
    assert!(matches!(parser.parse(&mut buffer), Parse::Incomplete));
    // A search from the start of the line would now end it here, in a bare LF (H1-01).
    let last = buffer.len() - 1;
    buffer[last] = b'\n';
    buffer.extend_from_slice(b"aaaa\r\n\r\n");
    assert!(matches!(parser.parse(&mut buffer), Parse::Refused(flaw) if flaw.rule == "H1-10"));
}

#[test]
fn lines_at_their_limit_are_judged_alike_in_pieces() {
    for extra in 0..5 {
        for end in ["\r\n\r\n", "\n\r\n", "\r\n", ""] {
            let value = "v".repeat(16 * 1024 - 1 + extra);
            let bytes = format!("GET / HTTP/1.1\r\nHost: h\r\nx:{value}{end}");
            assert_eq!(split(bytes.as_bytes(), 1), whole(bytes.as_bytes()), "{extra} {end:?}");
            let target = "t".repeat(8 * 1024 + 40 + extra);
            let bytes = format!("GET /{target}{end}");
            assert_eq!(split(bytes.as_bytes(), 1), whole(bytes.as_bytes()), "{extra} {end:?}");
        }
    }
}
