//! The classes of hardening.md 3, and what a caller sends for each.

use super::Row;

/// A request with these field lines, each ended by CRLF.
fn get(fields: &str) -> String {
    format!("GET /seen HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n")
}

/// The same with a body.
fn post(fields: &str, body: &str) -> String {
    format!("POST /seen HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n{body}")
}

/// A request with that first line.
fn line(line: &str) -> String {
    format!("{line}\r\nhost: localhost\r\n\r\n")
}

/// A request with this chunked body.
fn chunked(body: &str) -> String {
    post("transfer-encoding: chunked\r\n", body)
}

/// Text whose characters stand for bytes.
fn row(id: &str, bytes: impl AsRef<str>, expected: &'static str) -> Row {
    let parts = vec![bytes.as_ref().as_bytes().to_vec()];
    Row { id: id.into(), parts, ends: false, expected, has: &[], lacks: &[] }
}

/// One row for each way to break a rule.
fn each(rule: &str, odd: &[&str], bytes: impl Fn(&str) -> String) -> Vec<Row> {
    odd.iter().map(|odd| row(&format!("{rule}/`{}`", odd.escape_debug()), bytes(odd), BAD)).collect()
}

impl Row {
    fn has(self, has: &'static [&'static str]) -> Self {
        Self { has, ..self }
    }

    fn lacks(self, lacks: &'static [&'static str]) -> Self {
        Self { lacks, ..self }
    }

    fn then(mut self, part: &str) -> Self {
        self.parts.push(part.into());
        self
    }

    fn ends(self) -> Self {
        Self { ends: true, ..self }
    }
}

const BAD: &str = "400 close";
const SERVED: &str = "200 keep";

pub(super) fn all() -> Vec<Row> {
    let groups =
        [lines(), targets(), fields(), hosts(), framings(), bodies(), sizes(), hops(), upgrades(), orders()];
    groups.into_iter().flatten().collect()
}

/// H1-01 to H1-05: lines, versions, methods.
fn lines() -> Vec<Row> {
    let plain = get("");
    let mut rows = vec![
        row("H1-01/lf after the request line", "GET /seen HTTP/1.1\nhost: localhost\r\n\r\n", BAD),
        row("H1-01/lf after a field", "GET /seen HTTP/1.1\r\nhost: localhost\nx: y\r\n\r\n", BAD),
        row("H1-01/lf at the end of the head", "GET /seen HTTP/1.1\r\nhost: localhost\r\n\n", BAD),
        row("H1-01/lf before the request", format!("\n{plain}"), BAD),
        row("H1-01/cr in the request line", "GET /seen\r HTTP/1.1\r\nhost: localhost\r\n\r\n", BAD),
        row("H1-01/cr in a value", get("x: a\rb\r\n"), BAD),
        row("H1-01/cr in a name", get("x\r: a\r\n"), BAD),
        row("H1-01/cr cr lf", get("x: a\r\r\n"), BAD),
        row("H1-02/two empty lines", format!("\r\n\r\n{plain}"), BAD),
        row("-/one empty line", format!("\r\n{plain}"), SERVED),
        row("H1-03/space before the request", format!(" {plain}"), BAD),
        row("H1-03/bytes between requests", format!("{plain}the body of a get\r\n"), "200 400 close"),
        row("H1-04/version 1.2", line("GET /seen HTTP/1.2"), "505 close"),
        row("H1-04/version 9.9", line("GET /seen HTTP/9.9"), "505 close"),
        row("H1-04/version 3.0", line("GET /seen HTTP/3.0"), "505 close"),
        row("H1-04/http/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD),
        row("H1-04/http/0.9", "GET /seen\r\n", BAD),
        row("H1-04/version 0.9", line("GET /seen HTTP/0.9"), BAD),
        row("H1-05/trace", line("TRACE /seen HTTP/1.1"), "405 keep"),
        row("H1-05/33 bytes", line(&format!("{} /seen HTTP/1.1", "A".repeat(33))), BAD),
        row("-/32 bytes", line(&format!("{} /seen HTTP/1.1", "A".repeat(32))), SERVED),
        row("H1-05/a separator", line("GE(T /seen HTTP/1.1"), BAD),
        row("H1-05/nul", line("GE\0T /seen HTTP/1.1"), BAD),
    ];
    let odd = [
        "GET  /seen HTTP/1.1",
        "GET\t/seen HTTP/1.1",
        "GET /seen HTTP/1.1 ",
        "GET /seen http/1.1",
        "GET /seen HTTP/1.1.1",
        "GET /seen HTTP/11",
        "GET /a b HTTP/1.1",
        "GET",
    ];
    rows.extend(each("H1-03", &odd, line));
    rows
}

/// H1-06, H1-07, CC-03 to CC-06: what is asked for.
fn targets() -> Vec<Row> {
    let mut rows = vec![
        row("-/absolute form", line("GET https://localhost/seen?a HTTP/1.1"), SERVED)
            .has(&["get /seen?a http/1.1"]),
        row("-/options of all", line("OPTIONS * HTTP/1.1"), SERVED).has(&["options * http/1.1"]),
        row("H1-07/8 KiB and one", line(&format!("GET /{} HTTP/1.1", "a".repeat(8192))), "414 close"),
        row("-/8 KiB", line(&format!("GET /{} HTTP/1.1", "a".repeat(8191))), SERVED),
    ];
    let mut odd = |rule: &str, targets: &[&str]| {
        rows.extend(each(rule, targets, |target| line(&format!("GET {target} HTTP/1.1"))));
    };
    odd(
        "H1-06",
        &[
            "*",
            "localhost:443",
            "seen",
            "https://other/seen",
            "http://localhost/seen",
            "https://a@localhost/",
        ],
    );
    odd("H1-07", &["/caf\u{e9}", "/seen#a", "/a\\b", "/a\0b", "/a\u{7f}"]);
    odd("CC-03", &["/a%2fb", "/a%5cb", "/a%00", "/%c0%af", "/%zz", "/%2"]);
    odd("CC-04", &["/a/%2e%2e/b", "/%61"]);
    odd("CC-05", &["/a/../b", "/./seen", "//seen", "/a/..;/b"]);
    odd("CC-06", &["/a;b"]);
    rows.extend(each("H1-06", &["CONNECT /seen", "CONNECT other:443", "CONNECT localhost"], |start| {
        line(&format!("{start} HTTP/1.1"))
    }));
    rows
}

/// H1-09 to H1-11: field lines.
fn fields() -> Vec<Row> {
    let mut rows = vec![
        row("H1-09/obs-fold of the first field", "GET /seen HTTP/1.1\r\n host: localhost\r\n\r\n", BAD),
        row("H1-10/utf-8 in a name", get("caf\u{e9}: y\r\n"), BAD),
        row("-/utf-8 in a value", get("x: caf\u{e9}\r\n"), SERVED),
        row("H1-11/utf-8 where it is read", get("content-type: text/\u{e9}\r\n"), BAD),
    ];
    let odd = ["nocolon", "x : y", "x\t: y", ": y", "x(y): z", "x: y\r\n z", "x: y\r\n\tz"];
    rows.extend(each("H1-09", &odd, |odd| get(&format!("{odd}\r\n"))));
    rows.extend(each("H1-10", &["x: a\0b", "x: \u{1b}[2J", "x: a\u{7f}", "x: \u{8}"], |odd| {
        get(&format!("{odd}\r\n"))
    }));
    rows
}

/// H1-08: exactly one host.
fn hosts() -> Vec<Row> {
    let mut rows = vec![
        row("H1-08/none", "GET /seen HTTP/1.1\r\nx: y\r\n\r\n", BAD),
        row("H1-08/none in 1.0", "GET /seen HTTP/1.0\r\n\r\n", BAD),
        row("H1-08/twice", get("Host: localhost\r\n"), BAD),
        row("H1-08/two", get("host: other\r\n"), BAD),
    ];
    let odd = [
        "",
        "a/b",
        "a@localhost",
        "localhost, other",
        "local host",
        "localhost:",
        "localhost:x",
        "localhost:0",
        "localhost:99999",
        "[::1",
        "local\u{e9}",
    ];
    rows.extend(each("H1-08", &odd, |host| format!("GET /seen HTTP/1.1\r\nhost: {host}\r\n\r\n")));
    rows
}

/// H1-12 to H1-15: how long a body is.
fn framings() -> Vec<Row> {
    const TE: &str = "transfer-encoding: chunked\r\n";
    const HIDDEN: &str = "0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut rows = vec![
        row("H1-12/cl.te", post(&format!("content-length: 4\r\n{TE}"), HIDDEN), BAD),
        row("H1-12/te.cl", post(&format!("{TE}content-length: 4\r\n"), HIDDEN), BAD),
        row("H1-13/twice", post("content-length: 1\r\ncontent-length: 1\r\n", "a"), BAD),
        row("H1-13/two", post("content-length: 0\r\ncontent-length: 1\r\n", "a"), BAD),
        row("H1-14/two lines", post(&format!("{TE}{TE}"), HIDDEN), BAD),
        row("H1-15/in 1.0", format!("POST /seen HTTP/1.0\r\nhost: localhost\r\n{TE}\r\n{HIDDEN}"), BAD),
        row("H1-10/vertical tab before chunked", post("transfer-encoding: \u{b}chunked\r\n", HIDDEN), BAD),
        row("H1-09/space before the colon of te", post("transfer-encoding : chunked\r\n", HIDDEN), BAD),
        row("H1-14/folded te", post("transfer-encoding:\r\n chunked\r\n", HIDDEN), BAD),
        row("H1-01/te behind a bare lf", post("x: y\ntransfer-encoding: chunked\r\n", HIDDEN), BAD),
        row("H1-27/te with an underscore", post("transfer_encoding: chunked\r\n", ""), BAD),
        row("H1-27/cl with an underscore", post("content_length: 5\r\n", ""), BAD),
        row(
            "-/a request in a body",
            post("content-length: 43\r\n", "GET /hidden HTTP/1.1\r\nhost: localhost\r\n\r\n\r\n"),
            SERVED,
        )
        .has(&["post /seen", "content-length: 43"]),
        row(
            "-/a body of a get",
            "GET /seen HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nabc",
            SERVED,
        )
        .has(&["content-length: 3"]),
    ];
    let odd = ["+1", "-1", "0x1", "1 1", "1,1", "01", "", "1a", "18446744073709551617", "1.0"];
    rows.extend(each("H1-13", &odd, |odd| post(&format!("content-length: {odd}\r\n"), "a")));
    let odd = [
        "identity",
        "gzip, chunked",
        "identity, chunked",
        "chunked, chunked",
        "chunked;q=1",
        "Chunked",
        "xchunked",
        "chunked,",
        "\"chunked\"",
        "",
    ];
    rows.extend(each("H1-14", &odd, |odd| post(&format!("transfer-encoding: {odd}\r\n"), HIDDEN)));
    rows
}

/// H1-16 to H1-18, H1-32: bodies and trailers.
fn bodies() -> Vec<Row> {
    let mut rows = vec![
        row("-/chunks", chunked("3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"), SERVED).has(&["abcd"]),
        row("H1-16/more than the size", chunked("3\r\nabcd\r\n0\r\n\r\n"), BAD),
        row("H1-16/a chunk ends early", chunked("5\r\nabc"), "400 close").ends(),
        row("H1-16/content-length ends early", post("content-length: 9\r\n", "abc"), "400 close").ends(),
        row("H1-01/lf after the size", chunked("3\nabc\r\n0\r\n\r\n"), BAD),
        row("H1-01/cr after the size", chunked("3\rabc\r\n0\r\n\r\n"), BAD),
        row("H1-16/lf after a chunk", chunked("3\r\nabc\n0\r\n\r\n"), BAD),
        row("H1-01/lf in the trailers", chunked("0\r\nx: y\n\r\n"), BAD),
        row("H1-17/an extension", chunked("3;a=b\r\nabc\r\n0\r\n\r\n"), BAD),
        row("H1-17/an extension of the last", chunked("0;a\r\n\r\n"), BAD),
        row("-/a trailer", chunked("0\r\nx-sum: 1\r\n\r\n"), SERVED),
        row("H1-18/33 trailers", chunked(&format!("0\r\n{}\r\n", "x: y\r\n".repeat(33))), "431 close"),
        row(
            "H1-18/8 KiB of trailers",
            chunked(&format!("0\r\nx: {}\r\n\r\n", "y".repeat(8300))),
            "431 close",
        ),
        row("H1-09/folded trailer", chunked("0\r\nx: y\r\n z\r\n\r\n"), BAD),
        row("H1-32/half a head", "GET /seen HTTP/1.1\r\nho", "408 close"),
        row("H1-32/an empty line only", "\r\n", "408 close"),
        row("H1-32/half a body", post("content-length: 9\r\n", "abc"), "408 close"),
        row("H1-32/half a chunk", chunked("5\r\nabc"), "408 close"),
    ];
    let odd = ["", "+3", "-3", "0x3", " 3", "3 ", "g", "00000000000000003", "fffffffffffffffff"];
    rows.extend(each("H1-16", &odd, |odd| chunked(&format!("{odd}\r\nabc\r\n0\r\n\r\n"))));
    let names = [
        "transfer-encoding",
        "content-length",
        "host",
        "authorization",
        "cookie",
        "portcullis-peer",
        "x-forwarded-for",
        "content-type",
        "connection",
    ];
    rows.extend(each("H1-18", &names, |name| chunked(&format!("0\r\n{name}: 1\r\n\r\n"))));
    rows
}

/// H1-19, H1-20: counts and sizes.
fn sizes() -> Vec<Row> {
    let mut rows = vec![
        row("-/100 fields", get(&"x: y\r\n".repeat(99)), SERVED),
        row("H1-19/101 fields", get(&"x: y\r\n".repeat(100)), "431 close"),
        row("H1-19/101 cookies", get(&"cookie: a=b\r\n".repeat(100)), "431 close"),
        row("-/a field of 16 KiB", get(&format!("x:{}\r\n", "v".repeat(16 * 1024 - 1))), SERVED),
        row("H1-19/a field of 16 KiB and one", get(&format!("x:{}\r\n", "v".repeat(16 * 1024))), "431 close"),
        row(
            "H1-19/a head of 64 KiB and more",
            get(&format!("x:{}\r\n", "v".repeat(16_000)).repeat(5)),
            "431 close",
        ),
        row("H1-19/a name of 17 KiB", get(&format!("{}: y\r\n", "n".repeat(17 * 1024))), "431 close"),
    ];
    let names = ["authorization", "content-type", "origin", "proxy-authorization"];
    rows.extend(each("H1-20", &names, |name| get(&format!("{name}: 1\r\n{name}: 1\r\n"))));
    rows
}

/// H1-21, H1-22, H1-27, H1-28, IN7: what concerns this hop, and what only we may say.
fn hops() -> Vec<Row> {
    const SPOOFED: &str = "portcullis-peer: spiffe://example.org/admin\r\nx-forwarded-client-cert: URI=spiffe://example.org/admin\r\n\
         forwarded: for=6.6.6.6\r\nx-forwarded-for: 6.6.6.6\r\nx-real-ip: 6.6.6.6\r\nx-envoy-peer: admin\r\n";
    const HOP: &str =
        "connection: x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\nproxy-connection: a\r\nte: gzip\r\ntrailer: a\r\n";
    let mut rows = vec![
        row("-/hop-by-hop fields", get(HOP), SERVED).lacks(&[
            "x-hop",
            "keep-alive",
            "proxy-connection",
            "te:",
            "trailer",
        ]),
        row("-/spoofed fields", get(SPOOFED), SERVED)
            .has(&["portcullis-peer: spiffe://example.org/web"])
            .lacks(&["admin", "6.6.6.6", "x-envoy"]),
        row(
            "-/another method",
            get("x-http-method-override: DELETE\r\nx-method-override: DELETE\r\n"),
            SERVED,
        )
        .lacks(&["delete"]),
        row("-/another path", get("x-original-url: /admin\r\nx-rewrite-url: /admin\r\n"), SERVED)
            .lacks(&["/admin"]),
        row("-/an underscore", get("my_name: 1\r\n"), SERVED).lacks(&["my_name"]),
        row("H1-27/a look-alike", get("x_forwarded_for: 1\r\n"), BAD),
        row("H1-27/a look-alike of an identity", get("Portcullis_Peer: 1\r\n"), BAD),
        row("H1-21/no list of names", get("connection: a b\r\n"), BAD),
    ];
    let names = [
        "host",
        "content-length",
        "transfer-encoding",
        "authorization",
        "cookie",
        "portcullis-peer",
        "x-forwarded-client-cert",
    ];
    rows.extend(each("H1-21", &names, |name| get(&format!("connection: close, {name}\r\n"))));
    rows
}

/// H1-23 to H1-26: other expectations, other protocols.
fn upgrades() -> Vec<Row> {
    const SOCKET: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const H2C: &str =
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
    vec![
        row("H1-23/another expectation", get("expect: tea\r\n"), "417 keep"),
        row(
            "H1-23/another expectation with a body",
            post("expect: tea\r\ncontent-length: 5\r\n", "GET /"),
            "417 close",
        ),
        row("-/100-continue", post("expect: 100-continue\r\ncontent-length: 3\r\n", ""), "100 200 keep")
            .then("abc")
            .has(&["abc"])
            .lacks(&["expect"]),
        row(
            "-/100-continue and the body at once",
            post("expect: 100-continue\r\ncontent-length: 3\r\n", "abc"),
            SERVED,
        )
        .has(&["abc"]),
        row("-/h2c", get(H2C), SERVED).lacks(&["h2c", "http2"]),
        row("-/upgrade without connection", get("upgrade: websocket\r\n"), SERVED).lacks(&["upgrade"]),
        row("H1-25/a body with an upgrade", get(&format!("{SOCKET}content-length: 3\r\n")), BAD),
        row("H1-25/a short key", get(&SOCKET.replace("dGhl", "dG")), BAD),
        row("H1-25/another version", get(&SOCKET.replace("13", "8")), BAD),
        row("H1-20/two keys", get(&format!("{SOCKET}sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n")), BAD),
        row("H1-15/chunks with an upgrade", get(&format!("{SOCKET}transfer-encoding: chunked\r\n")), BAD),
        // The origin answers 200, as to any request: no switch, and what came early is dropped.
        row("-/early bytes of a refused upgrade", get(SOCKET), "200 close").lacks(&["/after"]),
        row(
            "H1-25/connect with a body",
            "CONNECT localhost:443 HTTP/1.1\r\nhost: localhost:443\r\ncontent-length: 3\r\n\r\nabc",
            BAD,
        ),
        row("RPC-01/grpc", post("content-type: application/grpc\r\ncontent-length: 0\r\n", ""), "415 close"),
    ]
}

/// H1-29 to H1-31: several requests.
fn orders() -> Vec<Row> {
    let three = [get(""), get(""), post("content-length: 1\r\n", "a")].concat();
    vec![
        row("-/pipelined", three, "200 200 200 keep"),
        row("-/after connection: close", get("connection: close\r\n"), "200 close"),
        row("-/http/1.0", "GET /seen HTTP/1.0\r\nhost: localhost\r\n\r\n", "200 close"),
        row(
            "-/http/1.0 with keep-alive",
            "GET /seen HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n",
            "200 close",
        ),
        row("-/head", "HEAD /seen HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", "200 close"),
    ]
}
