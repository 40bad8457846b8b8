//! The canonical call from both wires: CC-09 to CC-11, rows HX, gRPC facts, printed forms.

use std::time::Duration;

use bytes::BytesMut;
use http::{Request, Version};

use super::*;
use crate::{Limits, Profile};

fn builder(method: &str, uri: &str) -> http::request::Builder {
    Request::builder().version(Version::HTTP_2).method(method).uri(uri)
}

fn judge(builder: http::request::Builder, end: bool) -> Result<Call, NotCanonical> {
    judge_on(builder, end, &Transport::new(Scheme::Https))
}

fn judge_on(builder: http::request::Builder, end: bool, transport: &Transport) -> Result<Call, NotCanonical> {
    let parts = builder.body(()).unwrap().into_parts().0;
    Call::from_parts(&parts, end, transport).and_then(plain)
}

/// As a route has it that takes canonical paths alone.
pub(crate) fn plain(call: Call) -> Result<Call, NotCanonical> {
    call.misspelled(Kept::default(), false).map_or(Ok(call), Err)
}

#[test]
fn cc_08_a_call_has_the_canonical_path_and_knows_what_was_sent() {
    let sent = |target: &str| {
        let over_2 = builder("GET", &format!("https://h{target}")).body(()).unwrap().into_parts().0;
        let over_2 = Call::from_parts(&over_2, true, &Transport::new(Scheme::Https)).unwrap();
        let over_1 = h1(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(
            (over_1.path(), over_1.query(), over_1.sent_path()),
            (over_2.path(), over_2.query(), over_2.sent_path())
        );
        let (one, two) = (plain(over_1.clone()).err(), plain(over_2.clone()).err());
        assert_eq!(one.map(|flaw| flaw.rule), two.map(|flaw| flaw.rule), "{target}");
        assert!(one.is_none_or(|flaw| flaw.close) && two.is_none_or(|flaw| !flaw.close), "{target}");
        over_1
    };
    for (target, path, raw) in [
        ("/a/../b//%41?q=//%41", "/b/A", Some("/a/../b//%41")),
        ("/a%2Fb;c", "/a%2Fb;c", None),
        ("/a%2fb", "/a%2Fb", Some("/a%2fb")),
        ("/a?/../b", "/a", None),
    ] {
        let call = sent(target);
        assert_eq!((call.path(), call.sent_path()), (path, raw), "{target}");
        let query = target.split_once('?').map(|(_, query)| query);
        let printed = printed(&call);
        let told = query.map_or(path.to_owned(), |query| format!("{path}?{query}"));
        assert!(printed.starts_with(&format!("GET {told} HTTP/1.1\r\n")), "{printed}");
        assert_eq!(call.to_h3_request(None, &[]).unwrap().uri().to_string(), format!("https://h{told}"));
    }
    let marked = |target: &str| {
        let mut edits = crate::FieldEdits::default();
        edits.push("traceparent", &crate::FieldEdit::Set("x".into())).unwrap();
        sent(target).rewritten(&Rewriting { fields: Some(&edits), ..Rewriting::default() }).unwrap()
    };
    for (target, rule) in
        [("/a//b", Some("CC-05")), ("/a%2Fb", Some("CC-03")), ("/a;b", Some("CC-06")), ("/a", None)]
    {
        let found = marked(target).misspelled(Kept::default(), false).map(|flaw| flaw.rule);
        assert_eq!(found, rule, "another field hides how {target} was spelled");
    }
    assert_eq!(marked("/a//b").sent_path(), Some("/a//b"));
    let made_of_its_parts =
        sent("/v1/a%2Fb").rewritten(&Rewriting { path: Some("/v2/a%2Fb"), ..Rewriting::default() });
    assert_eq!(made_of_its_parts.unwrap().path(), "/v2/a%2Fb");
    for (target, path) in
        [("/v1/a", "/v2/a%2Fb"), ("/v1/a;b", "/v2/a%2Fb"), ("/v1/a%2Fb", "/v2/a;b"), ("/v1//a", "/v2//a")]
    {
        let made = sent(target).rewritten(&Rewriting { path: Some(path), ..Rewriting::default() });
        assert!(made.is_err(), "{target} became {path}");
    }
}

fn rule(builder: http::request::Builder) -> &'static str {
    let flaw = judge(builder, false).map(|_| ()).unwrap_err();
    assert!(!flaw.close, "{flaw}");
    flaw.rule
}

fn get() -> http::request::Builder {
    builder("GET", "https://h/a")
}

fn grpc() -> http::request::Builder {
    builder("POST", "https://shop:8443/shop.Orders/Get")
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
}

fn h1(bytes: &str) -> Call {
    let mut buffer = BytesMut::from(bytes.as_bytes());
    match h1::parse_request_head(&mut buffer, &Limits::default()) {
        h1::Parse::Done(head) => Call::from_h1(head, &Transport::new(Scheme::Https)).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn printed(call: &Call) -> String {
    let mut out = BytesMut::new();
    call.write_h1(&mut out, &[("portcullis-peer", b"spiffe://example.org/web"), ("x", b"bad\r\nvalue")]);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn cc_09_the_upstream_receives_the_judged_call_and_our_fields() {
    let call =
        h1("POST /a?b=%20 HTTP/1.1\r\nHOST: Shop.Example.:443\r\nX-One:  1 \r\nX-Forwarded-For: me\r\n\
                   Connection: x-two\r\nX-Two: 2\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(
        printed(&call),
        "POST /a?b=%20 HTTP/1.1\r\nhost: shop.example\r\nx-one: 1\r\ncontent-length: 3\r\n\
         portcullis-peer: spiffe://example.org/web\r\n\r\n"
    );
    let request = call.to_h3_request(None, &[("portcullis-peer", b"spiffe://example.org/web")]).unwrap();
    assert_eq!(request.uri(), "https://shop.example/a?b=%20");
    assert_eq!(request.method(), "POST");
    let headers = request.headers();
    assert_eq!(headers["x-one"], "1");
    assert_eq!(headers["content-length"], "3");
    assert_eq!(headers["portcullis-peer"], "spiffe://example.org/web");
    assert_eq!(headers.len(), 3);
}

#[test]
fn cc_10_single_valued_fields_are_not_repeated() {
    for name in [
        "host",
        "content-length",
        "content-type",
        "authorization",
        "proxy-authorization",
        "origin",
        "grpc-timeout",
    ] {
        let value = if name == "host" { "h" } else { "1" };
        assert_eq!(rule(get().header(name, value).header(name, value)), "CC-10", "{name}");
    }
    let call = judge(get().header("accept", "a").header("accept", "b"), true).unwrap();
    assert_eq!(call.header("accept").collect::<Vec<_>>(), [b"a", b"b"]);
}

#[test]
fn cc_11_bytes_outside_ascii_are_never_read_lossily() {
    let value = http::HeaderValue::from_bytes(b"caf\xe9").unwrap();
    let call = judge(get().header("x", value.clone()), true).unwrap();
    let flaw = call.header_texts("x").unwrap_err();
    assert_eq!((flaw.status, flaw.close), (400, false));
    assert_eq!(rule(get().header("content-type", value)), "H1-11");
}

#[test]
fn hx_01_connection_specific_fields_are_refused() {
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "5"),
        ("proxy-connection", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
    ] {
        assert_eq!(rule(get().header(name, value)), "HX-01", "{name}");
    }
    assert!(judge(get().header("te", "trailers"), true).unwrap().accepts_trailers());
}

#[test]
fn hx_01_values_neither_start_nor_end_with_white_space() {
    for padded in [" application/grpc", "application/grpc ", "\tapplication/grpc", "application/grpc\t", " "]
    {
        let call = builder("POST", "https://h/shop.Orders/Get").header("content-type", padded);
        assert_eq!(rule(call), "HX-01", "{padded:?}");
        assert_eq!(rule(get().header("x-plain", padded)), "HX-01", "{padded:?}");
    }
    let call = judge(get().header("x-plain", "a \tb").header("x-empty", ""), true).unwrap();
    assert_eq!(call.header("x-plain").collect::<Vec<_>>(), [b"a \tb"]);
    assert_eq!(call.header("x-empty").collect::<Vec<_>>(), [b""]);
}

#[test]
fn hx_02_scheme_and_authority_agree_with_the_transport() {
    assert_eq!(rule(builder("GET", "http://h/a")), "HX-02");
    assert_eq!(rule(builder("GET", "/a")), "HX-02");
    assert_eq!(judge(builder("GET", "/a").header("host", "H"), true).unwrap().authority(), "h");
}

#[test]
fn hx_03_authority_and_host_are_equal() {
    assert_eq!(rule(get().header("host", "other")), "HX-03");
    let call = judge(get().header("host", "H:443"), true).unwrap();
    assert_eq!((call.authority(), call.headers().count()), ("h", 0));
}

#[test]
fn hx_04_a_declared_length_needs_a_body() {
    let flaw = judge(get().header("content-length", "3"), true).map(|_| ()).unwrap_err();
    assert_eq!(flaw.rule, "HX-04");
    assert_eq!(judge(get().header("content-length", "3"), false).unwrap().body(), BodyLength::Known(3));
    assert_eq!(judge(get().header("content-length", "0"), true).unwrap().body(), BodyLength::Known(0));
    assert_eq!(judge(get(), true).unwrap().body(), BodyLength::None);
    assert_eq!(judge(get(), false).unwrap().body(), BodyLength::Streamed);
    assert_eq!(rule(get().header("content-length", "+3")), "H1-13");
}

#[test]
fn hx_05_paths_are_judged_as_on_http_1() {
    for (path, expected) in [
        ("/a/../b", "CC-05"),
        ("/a//b", "CC-05"),
        ("/%61", "CC-04"),
        ("/a;b", "CC-06"),
        ("/a%2fb", "CC-03"),
        ("/a\\b", "CC-02"),
        ("/a{b", "CC-02"),
    ] {
        assert_eq!(rule(builder("GET", &format!("https://h{path}"))), expected, "{path}");
    }
    let call = judge(builder("GET", "https://h"), true).unwrap();
    assert_eq!(call.path(), "/");
    let long = format!("https://h/{}", "a".repeat(8192));
    assert_eq!(judge(builder("GET", &long), true).map(|_| ()).unwrap_err().status, 414);
}

#[test]
fn hx_06_connect_has_an_authority_only() {
    let call = judge(builder("CONNECT", "h:8443"), false).unwrap();
    assert_eq!((call.upgrade(), call.path(), call.authority()), (Some(Upgrade::Connect), "", "h:8443"));
    assert_eq!(call.body(), BodyLength::None, "what follows is no body");
    assert_eq!(judge(builder("CONNECT", "h:8443"), true).unwrap_err().rule, "HX-06", "nothing can follow");
    assert_eq!(rule(builder("CONNECT", "h:8443").header("content-length", "1")), "HX-06");
    assert_eq!(rule(builder("CONNECT", "https://h/a")), "HX-06");
}

#[test]
fn limits_hold_on_http_2() {
    let mut many = get();
    for _ in 0..100 {
        many = many.header("cookie", "a=1");
    }
    assert!(judge(many, true).is_ok());
    let mut many = get();
    for _ in 0..101 {
        many = many.header("cookie", "a=1");
    }
    assert_eq!(judge(many, true).map(|_| ()).unwrap_err().status, 431);
    let flaw = judge(get().header("x", "v".repeat(16 * 1024)), true).map(|_| ()).unwrap_err();
    assert_eq!(flaw.status, 431);
    assert_eq!(judge(builder("TRACE", "https://h/"), true).map(|_| ()).unwrap_err().status, 405);
    assert_eq!(judge(get().header("expect", "x"), true).map(|_| ()).unwrap_err().status, 417);
    assert_eq!(rule(builder(&"A".repeat(33), "https://h/")), "H1-05");
}

#[test]
fn hv_11_reserved_and_override_fields_are_stripped_on_http_2() {
    let call = judge(
        get()
            .header("portcullis-peer", "forged")
            .header("x-forwarded-client-cert", "forged")
            .header("forwarded", "for=1")
            .header("x-real-ip", "1")
            .header("x-http-method-override", "PUT")
            .header("expect", "100-continue")
            .header("accept", "a"),
        true,
    )
    .unwrap();
    assert_eq!(call.headers().map(|(name, _)| name).collect::<Vec<_>>(), ["accept"]);
    for name in ["portcullis_peer", "x_forwarded_client_cert", "x_http_method_override", "content_type"] {
        assert_eq!(rule(get().header(name, "x")), "H1-27", "{name}");
    }
    let edge = Transport { profile: Profile::Edge, ..Transport::new(Scheme::Https) };
    assert_eq!(judge_on(get().header("my_one", "1"), true, &edge).unwrap().headers().count(), 0);
    assert_eq!(judge(get().header("my_one", "1"), true).unwrap().headers().count(), 1);
    assert_eq!(judge(get().header("my_one", "1").header("my-one", "1"), true).unwrap().headers().count(), 1);
}

#[test]
fn cookie_crumbs_become_one_line_on_http_1() {
    let call = judge(get().header("cookie", "a=1").header("x", "y").header("cookie", "b=2"), true).unwrap();
    assert_eq!(
        printed(&call),
        "GET /a HTTP/1.1\r\nhost: h\r\nx: y\r\ncookie: a=1; b=2\r\nportcullis-peer: spiffe://example.org/web\r\n\r\n"
    );
}

#[test]
fn rpc_01_a_grpc_call_has_service_and_method() {
    let call = judge(grpc(), false).unwrap();
    assert_eq!((call.protocol(), call.grpc()), (CallProtocol::Grpc, Some(("shop.Orders", "Get"))));
    assert_eq!((call.host(), call.media_type()), ("shop", Some("application/grpc+proto")));
    let odd = builder("POST", "https://h/shop.Orders/Get/x").header("content-type", "application/grpc");
    let odd = judge(odd, false).unwrap();
    assert_eq!((odd.protocol(), odd.grpc()), (CallProtocol::Grpc, None));
    let query = builder("POST", "https://h/shop.Orders/Get?x").header("content-type", "application/grpc");
    assert_eq!(judge(query, false).unwrap().grpc(), None);
    let read = builder("GET", "https://h/shop.Orders/Get").header("content-type", "application/grpc");
    assert_eq!(judge(read, true).map(|_| ()).unwrap_err().status, 405);
    let plain = builder("POST", "https://h/shop.Orders/Get").header("content-type", "application/JSON; a=b");
    let plain = judge(plain, false).unwrap();
    assert_eq!(
        (plain.protocol(), plain.grpc(), plain.media_type()),
        (CallProtocol::H2, None, Some("application/json"))
    );
}

#[test]
fn rpc_04_the_timeout_is_passed_on_never_longer() {
    let call = judge(grpc().header("grpc-timeout", "2S"), false).unwrap();
    assert_eq!(call.grpc_timeout(), Some(Duration::from_secs(2)));
    let timeout = |limit: Option<u64>| {
        let request = call.to_h3_request(limit.map(Duration::from_millis), &[]).unwrap();
        request.headers()["grpc-timeout"].to_str().unwrap().to_owned()
    };
    let parsed = |limit| grpc::parse_timeout(timeout(limit).as_bytes()).unwrap();
    assert_eq!(parsed(None), Duration::from_secs(2));
    assert_eq!(parsed(Some(1500)), Duration::from_millis(1500));
    assert_eq!(parsed(Some(9000)), Duration::from_secs(2));
    assert_eq!(rule(grpc().header("grpc-timeout", "2s")), "RPC-04");
    let headers = call.to_h3_request(None, &[]).unwrap();
    assert_eq!(headers.headers()["te"], "trailers");
}

#[test]
fn a_call_is_two_pointers_at_most_and_hosts_lose_their_port() {
    assert!(size_of::<Call>() <= 2 * size_of::<usize>());
    assert_eq!(h1("GET / HTTP/1.1\r\nHost: h:8443\r\n\r\n").host(), "h");
    assert_eq!(h1("GET / HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n").host(), "[::1]");
    assert_eq!(h1("GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n").host(), "[::1]");
}
