//! One test per row of the gate that a head alone can break.

use super::*;
use crate::{BodyLength, Profile, Upgrade};

#[test]
fn h1_01_bare_line_ends_close() {
    closes("GET / HTTP/1.1\nHost: h\r\n\r\n", "H1-01");
    closes("GET / HTTP/1.1\r\nHost: h\n\r\n", "H1-01");
    closes("GET / HTTP/1.1\r\nHost: h\r\n\n", "H1-01");
    closes("GET /\r HTTP/1.1\r\nHost: h\r\n\r\n", "H1-01");
    closes(get("x: a\rb\r\n"), "H1-01");
    closes(get("x\r: a\r\n"), "H1-01");
    closes(get("x: a\r\r\n"), "H1-01");
    closes("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "H1-01");
}

#[test]
fn h1_02_one_empty_line_may_stand_before_a_request() {
    assert!(request(format!("\r\n{}", get(""))).is_ok());
    closes(format!("\r\n\r\n{}", get("")), "H1-02");
    closes(format!(" {}", get("")), "H1-03");
}

#[test]
fn h1_03_the_request_line_has_one_form() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/11",
        "GET / HTTP/1.1x",
        "GET / HTTPS/1.1",
        "GET / XTTP/1.1",
        "GET / HTTP/1,1",
        "GET / HTTP/a.b",
        "GET",
        "GET / a HTTP/1.1",
    ] {
        closes(format!("{line}\r\nHost: h\r\n\r\n"), "H1-03");
    }
}

#[test]
fn h1_04_other_versions_are_not_served() {
    for version in ["1.2", "1.9", "2.1", "3.0", "9.9"] {
        assert_eq!(refused(format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n")), ("H1-04", 505));
    }
    closes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "H1-04");
    closes("GET / HTTP/0.9\r\n\r\n", "H1-04");
    closes("GET /\r\n", "H1-04");
}

#[test]
fn h1_05_methods_are_tokens_of_at_most_32_bytes() {
    let long = "A".repeat(32);
    assert!(request(format!("{long} / HTTP/1.1\r\nHost: h\r\n\r\n")).is_ok());
    closes(format!("{long}A / HTTP/1.1\r\nHost: h\r\n\r\n"), "H1-05");
    for method in ["G(T", "GE\u{e9}", "GE\0", "G:T", "{}"] {
        closes(format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n"), "H1-05");
    }
    assert_eq!(refused("TRACE / HTTP/1.1\r\nHost: h\r\n\r\n"), ("H1-05", 405));
    assert_eq!(request("get / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().0.method(), "get");
}

#[test]
fn h1_06_the_target_fits_the_method_and_the_host() {
    for (line, host) in [
        ("GET *", "h"),
        ("GET h:443", "h"),
        ("GET h", "h"),
        ("CONNECT /", "h"),
        ("CONNECT h", "h"),
        ("CONNECT other:443", "h"),
        ("GET https://other/", "h"),
        ("GET http://h/", "h"),
        ("GET https://u@h/", "h"),
        ("GET https:///", "h"),
        ("GET https://h?q", "h"),
        ("GET ftp://h/", "h"),
        ("GET mailto:a", "h"),
    ] {
        closes(format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n"), "H1-06");
    }
    let (call, ..) = request("GET https://H:443/a?b HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!((call.authority(), call.path(), call.query()), ("h", "/a", Some("b")));
    let (call, ..) = request("GET https://h HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(call.path(), "/");
    let (call, ..) = request("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(call.path(), "*");
    let (call, ..) = request("CONNECT h:8443 HTTP/1.1\r\nHost: h:8443\r\n\r\n").unwrap();
    assert_eq!((call.upgrade(), call.path()), (Some(Upgrade::Connect), ""));
}

#[test]
fn h1_07_targets_are_short_and_visible() {
    let longest = format!("/{}", "a".repeat(8191));
    assert!(request(format!("GET {longest} HTTP/1.1\r\nHost: h\r\n\r\n")).is_ok());
    assert_eq!(refused(format!("GET {longest}a HTTP/1.1\r\nHost: h\r\n\r\n")), ("H1-07", 414));
    assert_eq!(refused(format!("GET {longest}{longest}")), ("H1-07", 414));
    for target in ["/\u{e9}", "/a#b", "/a\\b", "/a\0", "/a\u{7f}", "/?a#", "/?\u{1}"] {
        closes(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"), "H1-07");
    }
}

#[test]
fn h1_08_exactly_one_valid_host() {
    closes("GET / HTTP/1.1\r\n\r\n", "H1-08");
    closes("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", "H1-08");
    closes("GET / HTTP/1.1\r\nHost: h\r\nHOST: i\r\n\r\n", "H1-08");
    for host in ["", "h/a", "u@h", "h,i", "h i", "h:", "h:x", "h:0", "h:99999", "h\u{e9}", "[::1"] {
        closes(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), "H1-08");
    }
    closes("GET / HTTP/1.0\r\n\r\n", "H1-08");
    let transport = Transport { default_host: Some("fallback".into()), ..Transport::new(Scheme::Https) };
    let (call, ..) = request_on("GET / HTTP/1.0\r\n\r\n", &transport).unwrap();
    assert_eq!(call.authority(), "fallback");
    assert_eq!(request_on("GET / HTTP/1.1\r\n\r\n", &transport).unwrap_err().rule, "H1-08");
}

#[test]
fn h1_09_field_lines_are_token_colon_value() {
    for line in
        ["nocolon", "a b: c", "a : b", "a\t: b", ": b", "(a): b", " a: b", "\ta: b", "a\0: b", "=a: b"]
    {
        closes(get(&format!("x: y\r\n{line}\r\n")), "H1-09");
    }
    closes("GET / HTTP/1.1\r\n Host: h\r\n\r\n", "H1-09");
}

#[test]
fn h1_10_control_bytes_are_refused_everywhere_in_a_value() {
    for control in (0_u8..0x20).chain([0x7f]).filter(|b| !matches!(b, b'\t' | b'\n' | b'\r')) {
        for at in 0..18 {
            let mut value = b"aaaaaaaa\xc3\xa9aaaaaaaa".to_vec();
            value[at] = control;
            let mut bytes = b"GET / HTTP/1.1\r\nHost: h\r\nx: ".to_vec();
            bytes.extend(value);
            bytes.extend(b"b\r\n\r\n");
            closes(bytes, "H1-10");
        }
    }
    closes(b"GET / HTTP/1.1\r\nHost: h\r\n\xc3\xa9: b\r\n\r\n", "H1-10");
    assert!(request(get("x: a\tb\r\n")).is_ok());
}

#[test]
fn h1_11_high_bytes_pass_unless_the_field_is_read() {
    let (call, ..) = request(get("x: caf\u{e9}\r\ny: plain\r\n")).unwrap();
    assert_eq!(call.header("x").next().unwrap(), "caf\u{e9}".as_bytes());
    let flaw = call.header_texts("x").unwrap_err();
    assert_eq!((flaw.rule, flaw.status, flaw.close), ("H1-11", 400, true));
    assert_eq!(call.header_texts("y").unwrap(), ["plain"]);
    closes(get("content-type: text/\u{e9}\r\n"), "H1-11");
}

#[test]
fn h1_12_two_framings_close() {
    closes(get("content-length: 1\r\ntransfer-encoding: chunked\r\n"), "H1-12");
    closes(get("transfer-encoding: chunked\r\ncontent-length: 1\r\n"), "H1-12");
    closes("POST / HTTP/1.0\r\nHost: h\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n", "H1-12");
}

#[test]
fn h1_13_content_length_is_one_plain_number() {
    for value in
        ["", "+1", "-1", "0x1", "1 1", "1,1", "1, 1", "01", "00", "1a", "18446744073709551616", "1.0", "1;2"]
    {
        closes(get(&format!("content-length: {value}\r\n")), "H1-13");
    }
    closes(get("content-length: 1\r\ncontent-length: 1\r\n"), "H1-13");
    closes(get("content-length: 1\r\nContent-Length: 2\r\n"), "H1-13");
    let (call, wire, _) = request(get("content-length:  12 \t\r\n")).unwrap();
    assert_eq!((call.body(), wire.framing), (BodyLength::Known(12), Framing::Length(12)));
    let (call, ..) = request(get("content-length: 9999999999999999999\r\n")).unwrap();
    assert_eq!(call.body(), BodyLength::Known(9_999_999_999_999_999_999));
}

#[test]
fn h1_14_transfer_encoding_is_exactly_chunked() {
    for value in [
        "identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked, chunked",
        "chunked;q=1",
        "chunked,",
        "xchunked",
        "Chunked",
        "chunke",
        "",
        "\"chunked\"",
        "chunked chunked",
    ] {
        closes(get(&format!("transfer-encoding: {value}\r\n")), "H1-14");
    }
    closes(get("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"), "H1-14");
    closes(get("transfer-encoding: \u{b}chunked\r\n"), "H1-10");
    let (call, wire, _) = request(get("Transfer-Encoding: chunked\r\n")).unwrap();
    assert_eq!((call.body(), wire.framing), (BodyLength::Streamed, Framing::Chunked));
}

const WEBSOCKET: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn h1_15_transfer_encoding_has_no_place_in_http_10_upgrades_and_connect() {
    closes("POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "H1-15");
    closes("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\nTransfer-Encoding: chunked\r\n\r\n", "H1-15");
    closes(get(&format!("{WEBSOCKET}transfer-encoding: chunked\r\n")), "H1-15");
}

#[test]
fn h1_19_counts_and_sizes_are_bounded() {
    let fields = |n: usize| get(&"x: y\r\n".repeat(n - 1));
    assert!(request(fields(100)).is_ok());
    assert_eq!(refused(fields(101)), ("H1-19", 431));
    let field = |n: usize| get(&format!("x:{}\r\n", "v".repeat(n - 1)));
    assert!(request(field(16 * 1024)).is_ok());
    assert_eq!(refused(field(16 * 1024 + 1)), ("H1-19", 431));
    // An endless field is refused before it ends.
    assert_eq!(refused(&get(&format!("x: {}", "v".repeat(17 * 1024))).as_bytes()[..17_000]), ("H1-19", 431));
    // `Host: h` counts 4 + 2 + 32, each of the five fields 4 + its value + 32.
    let block = |total: usize| {
        let values = total - 38 - 5 * 36;
        let lines: String = (0..5)
            .map(|n| format!("xyz{n}:{}\r\n", "v".repeat(values / 5 + usize::from(n < values % 5))))
            .collect();
        get(&lines)
    };
    assert!(request(block(64 * 1024)).is_ok());
    assert_eq!(refused(block(64 * 1024 + 1)), ("H1-19", 431));
}

#[test]
fn h1_20_single_valued_fields_are_not_repeated() {
    for name in [
        "content-type",
        "authorization",
        "proxy-authorization",
        "origin",
        "grpc-timeout",
        "sec-websocket-key",
        "sec-websocket-version",
    ] {
        let lines = format!("{name}: 1\r\n{}: 1\r\n", name.to_uppercase());
        assert_eq!(refused(get(&lines)), ("H1-20", 400), "{name}");
    }
    assert!(request(get("accept: a\r\naccept: b\r\n")).is_ok());
}

#[test]
fn h1_21_connection_cannot_name_guarded_fields() {
    for name in [
        "host",
        "Content-Length",
        "transfer-encoding",
        "authorization",
        "Cookie",
        "portcullis-peer",
        "x-forwarded-client-cert",
    ] {
        closes(get(&format!("connection: close, {name}\r\n")), "H1-21");
    }
    closes(get("connection: a b\r\n"), "H1-21");
}

#[test]
fn h1_22_hop_by_hop_and_reserved_fields_are_not_part_of_the_call() {
    let (call, ..) = request(get(
        "Connection: keep-alive, X-Hop ,TE\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: trailers\r\n\
         Trailer: a\r\nUpgrade: h2c\r\nX-Hop: 1\r\nX-Forwarded-For: 1\r\nPortcullis-Peer: me\r\nForwarded: a\r\n\
         X-Real-IP: 1\r\nX-Envoy-Peer: x\r\nX-Http-Method-Override: PUT\r\n\
         X-Original-URL: /b\r\nX-Rewrite-URL: /b\r\nAccept: a\r\nHTTP2-Settings: x\r\n",
    ))
    .unwrap();
    assert_eq!(names(&call), ["accept"]);
    assert!(call.accepts_trailers());
}

#[test]
fn h1_23_only_100_continue_can_be_expected() {
    assert_eq!(refused(get("expect: 200-ok\r\n")), ("H1-23", 417));
    let (call, wire, _) = request(get("expect: 100-Continue\r\ncontent-length: 1\r\n")).unwrap();
    assert!(wire.expects_continue);
    assert!(names(&call).is_empty());
}

#[test]
fn h1_24_other_upgrades_are_ignored() {
    for lines in [
        "upgrade: websocket\r\n",
        "connection: upgrade\r\nupgrade: h2c\r\n",
        "connection: upgrade\r\nupgrade: websocket, h2c\r\n",
    ] {
        let (call, ..) = request(get(lines)).unwrap();
        assert_eq!((call.upgrade(), names(&call).len()), (None, 0), "{lines}");
    }
    assert_eq!(request(get(WEBSOCKET)).unwrap().0.upgrade(), Some(Upgrade::WebSocket));
}

#[test]
fn h1_25_websocket_upgrades_are_complete_and_have_no_body() {
    closes(get(&format!("{WEBSOCKET}content-length: 3\r\n")), "H1-25");
    closes(get(&WEBSOCKET.replace("13", "12")), "H1-25");
    closes(get(&WEBSOCKET.replace("dGhl", "dGh")), "H1-25");
    closes(get("connection: upgrade\r\nupgrade: websocket\r\n"), "H1-25");
    closes("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\nContent-Length: 3\r\n\r\n", "H1-25");
    assert!(request(get(&format!("{WEBSOCKET}content-length: 0\r\n"))).is_ok());
}

#[test]
fn h1_26_bytes_after_an_upgrade_head_stay_in_the_buffer() {
    let (_, wire, rest) = request(format!("{}early", get(WEBSOCKET))).unwrap();
    assert_eq!((&rest[..], wire.framing), (&b"early"[..], Framing::Empty));
}

#[test]
fn h1_27_look_alikes_of_guarded_names_are_refused() {
    for name in [
        "x_forwarded_for",
        "Portcullis_Peer",
        "content_length",
        "transfer_encoding",
        "x-real_ip",
        "x_envoy-a",
        "X_HTTP_Method_Override",
        "x-http-method_override",
        "x_method_override",
        "x_http_method",
        "content_type",
        "proxy_authorization",
    ] {
        assert_eq!(refused(get(&format!("{name}: 1\r\n"))), ("H1-27", 400), "{name}");
    }
}

#[test]
fn h1_28_underscores_are_dropped_at_the_edge_and_beside_their_twin() {
    let bytes = get("my_one: 1\r\nmy_two: 2\r\nmy-two: 3\r\n");
    let (call, ..) = request(&bytes).unwrap();
    assert_eq!(names(&call), ["my_one", "my-two"]);
    let edge = Transport { profile: Profile::Edge, ..Transport::new(Scheme::Https) };
    let (call, ..) = request_on(&bytes, &edge).unwrap();
    assert_eq!(names(&call), ["my-two"]);
}

#[test]
fn h1_29_pipelined_requests_are_parsed_one_at_a_time() {
    let mut parser = RequestParser::new(Limits::default());
    let mut buffer = BytesMut::from(format!("{}{}GET", get("a: 1\r\n"), get("b: 2\r\n")).as_bytes());
    let mut seen = Vec::new();
    while let Parse::Done(head) = parser.parse(&mut buffer) {
        let call = Call::from_h1(head, &Transport::new(Scheme::Https)).unwrap();
        seen.extend(names(&call));
    }
    assert_eq!(seen, ["a", "b"]);
    assert_eq!(&buffer[..], b"GET");
}

#[test]
fn h1_30_close_is_seen() {
    let (_, wire, _) = request(get("connection: Close\r\n")).unwrap();
    assert!(!wire.keep_alive);
    let (_, wire, _) = request(get("")).unwrap();
    assert!(wire.keep_alive);
}

#[test]
fn h1_31_http_10_is_served_then_closed() {
    let (_, wire, _) = request("GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n").unwrap();
    assert_eq!((wire.version, wire.keep_alive), (Version::Http10, false));
}

#[test]
fn h1_32_a_partial_head_is_known_to_be_one() {
    let mut parser = RequestParser::new(Limits::default());
    let mut buffer = BytesMut::new();
    assert!(matches!(parser.parse(&mut buffer), Parse::Incomplete));
    assert!(!parser.is_started());
    buffer.extend_from_slice(b"GET / HTTP/1.1\r\nHo");
    assert!(matches!(parser.parse(&mut buffer), Parse::Incomplete));
    assert!(parser.is_started());
}
