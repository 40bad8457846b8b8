//! The classes of HTTP/2, and what a caller sends for each.

use tests::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HAS_PRIORITY, HEADERS, PADDED, PING, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WHOLE, WINDOW_UPDATE, block, frame, integer, setting,
};

use super::{Row, request};

fn row(id: impl Into<String>, bytes: Vec<u8>, expected: &'static str) -> Row {
    Row { id: id.into(), bytes, expected, is_last: false }
}

fn get(more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, &request("/seen", more))
}

/// A request with these fields and no others.
fn raw(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, &block(fields))
}

/// A request that has a body.
fn begun(more: &[(&str, &str)]) -> Vec<u8> {
    let own = [(":method", "POST"), (":scheme", "https"), (":authority", "localhost"), (":path", "/seen")];
    frame(HEADERS, END_HEADERS, 1, &block(&[&own[..], more].concat()))
}

const PROTOCOL: &str = "goaway PROTOCOL_ERROR, close";
const SIZE: &str = "goaway FRAME_SIZE_ERROR, close";
const FLOW: &str = "goaway FLOW_CONTROL_ERROR, close";
const HPACK: &str = "goaway COMPRESSION_ERROR, close";
const CALM: &str = "goaway ENHANCE_YOUR_CALM, close";
const RESET: &str = "reset PROTOCOL_ERROR, open";
const BAD: &str = "400, open";
const SERVED: &str = "200, open";

pub(super) fn all() -> Vec<Row> {
    [sizes(), places(), streams(), windows(), tables(), lists(), fields(), pseudo(), bodies()]
        .into_iter()
        .flatten()
        .collect()
}

/// 4.2, 6: lengths and values of frames.
fn sizes() -> Vec<Row> {
    vec![
        row("preface/no settings first", get(&[]), PROTOCOL),
        row("preface/an acknowledgement first", frame(SETTINGS, ACK, 0, &[]), PROTOCOL),
        row("4.2/a frame of 16 KiB and one", frame(DATA, 0, 1, &[0; 16_385]), SIZE),
        row("4.2/an unknown frame of 16 KiB and one", frame(0x7f, 0, 0, &[0; 16_385]), SIZE),
        row("5.5/an unknown frame", [frame(0x7f, 0xff, 9, b"x"), get(&[])].concat(), SERVED),
        row("6.3/priority of 4", frame(PRIORITY, 0, 1, &[0; 4]), SIZE),
        row("6.4/reset of 3", [get(&[]), frame(RST_STREAM, 0, 1, &[0; 3])].concat(), SIZE),
        row("6.5/settings of 5", frame(SETTINGS, 0, 0, &[0; 5]), SIZE),
        row("6.5/an acknowledgement with a payload", frame(SETTINGS, ACK, 0, &setting(1, 1)), SIZE),
        row("6.5/push of 2", frame(SETTINGS, 0, 0, &setting(2, 2)), PROTOCOL),
        row("6.5/window of 2^31", frame(SETTINGS, 0, 0, &setting(4, 1 << 31)), FLOW),
        row("6.5/frames of 100", frame(SETTINGS, 0, 0, &setting(5, 100)), PROTOCOL),
        row("6.5/frames of 2^24", frame(SETTINGS, 0, 0, &setting(5, 1 << 24)), PROTOCOL),
        row("6.5/an unknown setting", frame(SETTINGS, 0, 0, &setting(0xabcd, 7)), "open"),
        row("6.7/ping of 7", frame(PING, 0, 0, &[0; 7]), SIZE),
        row("6.8/goaway of 4", frame(GOAWAY, 0, 0, &[0; 4]), SIZE),
        row("6.9/window of 3", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), SIZE),
        row("6.1/padding over the end", [begun(&[]), frame(DATA, PADDED, 1, &[9, 0, 0])].concat(), PROTOCOL),
        row("6.1/padded and empty", [begun(&[]), frame(DATA, PADDED, 1, &[])].concat(), SIZE),
        row("6.2/padding over the end", frame(HEADERS, WHOLE | PADDED, 1, &[200, 0x82]), PROTOCOL),
        row("6.2/priority without room", frame(HEADERS, WHOLE | HAS_PRIORITY, 1, &[0, 0]), SIZE),
    ]
}

/// Where frames may stand.
fn places() -> Vec<Row> {
    let open = frame(HEADERS, END_STREAM, 1, &request("/seen", &[]));
    let zero = |kind, payload: &[u8]| frame(kind, 0, 0, payload);
    vec![
        row("6.1/data on stream 0", zero(DATA, b"x"), PROTOCOL),
        row("6.2/headers on stream 0", frame(HEADERS, WHOLE, 0, &request("/seen", &[])), PROTOCOL),
        row("6.3/priority on stream 0", zero(PRIORITY, &[0; 5]), PROTOCOL),
        row("6.4/reset on stream 0", zero(RST_STREAM, &[0; 4]), PROTOCOL),
        row("6.10/continuation on stream 0", zero(CONTINUATION, &[]), PROTOCOL),
        row("6.5/settings on stream 1", frame(SETTINGS, 0, 1, &[]), PROTOCOL),
        row("6.7/ping on stream 1", frame(PING, 0, 1, &[0; 8]), PROTOCOL),
        row("6.8/goaway on stream 1", frame(GOAWAY, 0, 1, &[0; 8]), PROTOCOL),
        row("6.6/a promise", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), PROTOCOL),
        row("6.10/continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &[]), PROTOCOL),
        row("6.10/another frame in a block", [open.clone(), frame(PING, 0, 0, &[0; 8])].concat(), PROTOCOL),
        row("6.10/data in a block", [open.clone(), frame(DATA, 0, 1, b"x")].concat(), PROTOCOL),
        row("6.10/an unknown frame in a block", [open.clone(), frame(0x7f, 0, 1, b"x")].concat(), PROTOCOL),
        row(
            "6.10/the block of another stream",
            [open.clone(), frame(CONTINUATION, END_HEADERS, 3, &[])].concat(),
            PROTOCOL,
        ),
        row(
            "6.10/a block in two parts",
            [open, frame(CONTINUATION, END_HEADERS, 1, &block(&[("x", "y")]))].concat(),
            SERVED,
        ),
    ]
}

/// 5.1: which streams may say what.
fn streams() -> Vec<Row> {
    let whole = |stream| frame(HEADERS, WHOLE, stream, &request("/seen", &[]));
    vec![
        row("5.1/data on an idle stream", frame(DATA, 0, 9, b"x"), PROTOCOL),
        row("5.1/reset of an idle stream", frame(RST_STREAM, 0, 9, &[0; 4]), PROTOCOL),
        row("5.1/window of an idle stream", frame(WINDOW_UPDATE, 0, 9, &[0, 0, 0, 1]), PROTOCOL),
        row("5.1.1/an even stream", whole(2), PROTOCOL),
        row(
            "5.1.1/an older stream",
            [whole(5), whole(3)].concat(),
            "goaway PROTOCOL_ERROR, close | goaway STREAM_CLOSED, close | 200, goaway STREAM_CLOSED, close | 200, goaway PROTOCOL_ERROR, close",
        ),
        row(
            "5.1/data after the end",
            [whole(1), frame(DATA, 0, 1, b"x")].concat(),
            "reset STREAM_CLOSED, open | goaway STREAM_CLOSED, close",
        ),
        row(
            "5.1/headers after the end",
            [whole(1), whole(1)].concat(),
            "reset STREAM_CLOSED, open | goaway STREAM_CLOSED, close",
        ),
        row(
            "5.1/data after a reset",
            [begun(&[]), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), frame(DATA, 0, 1, b"x")].concat(),
            "goaway STREAM_CLOSED, close | reset STREAM_CLOSED, open | open",
        ),
        row(
            "5.3/a stream that depends on itself",
            frame(PRIORITY, 0, 3, &[0, 0, 0, 3, 1]),
            "open | reset PROTOCOL_ERROR, open | goaway PROTOCOL_ERROR, close",
        ),
    ]
}

/// 6.9: credit.
fn windows() -> Vec<Row> {
    const MOST: [u8; 4] = [0x7f, 0xff, 0xff, 0xff];
    vec![
        row("6.9/no credit for the connection", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), PROTOCOL),
        row("6.9/no credit for a stream", [begun(&[]), frame(WINDOW_UPDATE, 0, 1, &[0; 4])].concat(), RESET),
        row("6.9.1/too much for the connection", frame(WINDOW_UPDATE, 0, 0, &MOST), FLOW),
        row(
            "6.9.1/too much for a stream",
            [begun(&[]), frame(WINDOW_UPDATE, 0, 1, &MOST)].concat(),
            "reset FLOW_CONTROL_ERROR, open",
        ),
        row(
            "6.9.2/too much by settings",
            [
                begun(&[]),
                frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0, 0, 0]),
                frame(SETTINGS, 0, 0, &setting(4, 0x7fff_ffff)),
            ]
            .concat(),
            FLOW,
        ),
    ]
}

/// RFC 7541: what breaks the table.
fn tables() -> Vec<Row> {
    let whole = |tail: &[u8]| frame(HEADERS, WHOLE, 1, &[&request("/seen", &[])[..], tail].concat());
    let mut far = Vec::new();
    integer(0x80, 7, 500, &mut far);
    let mut large = Vec::new();
    integer(0x20, 5, 1 << 20, &mut large);
    vec![
        row("hpack/index 0", whole(&[0x80]), HPACK),
        row("hpack/an index beyond the table", whole(&far), HPACK),
        row(
            "hpack/a table larger than was said",
            frame(HEADERS, WHOLE, 1, &[&large[..], &request("/seen", &[])].concat()),
            HPACK,
        ),
        row("hpack/a new size behind a field", whole(&[0x20]), HPACK),
        row("hpack/an integer without end", whole(&[0xff; 12]), HPACK),
        row("hpack/an integer of 2^40", whole(&[0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), HPACK),
        row("hpack/half a string", whole(&[0, 5, b'a']), HPACK),
        row("hpack/half a field", whole(&[0, 1, b'a']), HPACK),
        row("hpack/padding of a code that is not ones", whole(&[0, 1, b'x', 0x81, 0x00]), HPACK),
        row("hpack/the end as a letter", whole(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]), HPACK),
        row("hpack/a whole octet of padding", whole(&[0, 1, b'x', 0x82, 0x1f, 0xff]), HPACK),
    ]
}

/// H1-19: counts and sizes after decoding, with one counter for all versions.
fn lists() -> Vec<Row> {
    let large = "v".repeat(16_000);
    let list = block(&[("x", large.as_str()); 6]);
    // One entry of the table, told again and again.
    let mut bomb = request("/seen", &[]);
    bomb.push(0x40);
    integer(0, 7, 1, &mut bomb);
    bomb.push(b'x');
    integer(0, 7, 4000, &mut bomb);
    bomb.extend([b'y'; 4000]);
    bomb.extend([0xbe; 10_000]);
    let crumbs: Vec<_> = std::iter::repeat_n(("cookie", "a=b"), 101).collect();
    let mut long = frame(HEADERS, END_STREAM, 1, &request("/seen", &[]));
    for part in list.chunks(16_384) {
        long.extend(frame(CONTINUATION, 0, 1, part));
    }
    long.extend(frame(CONTINUATION, END_HEADERS, 1, &[]));
    vec![
        row("H1-19/100 fields", get(&[("x", "y"); 100]), SERVED),
        row("H1-19/101 fields", get(&[("x", "y"); 101]), "431, open"),
        row("H1-19/101 crumbs of a cookie", get(&crumbs), "431, open"),
        row("H1-19/a list of 96 KiB", long, "431, open | reset PROTOCOL_ERROR, open"),
        row("H1-19/a bomb", frame(HEADERS, WHOLE, 1, &bomb), "goaway ENHANCE_YOUR_CALM, close | 431, open"),
        row(
            "H1-07/a path of 8 KiB and one",
            frame(HEADERS, WHOLE, 1, &request(&format!("/{}", "a".repeat(8192)), &[])),
            "414, open",
        ),
    ]
}

/// HX-01: fields.
fn fields() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, value) in [
        ("Upper", "a"),
        ("connection", "close"),
        ("keep-alive", "5"),
        ("proxy-connection", "a"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("", "a"),
        ("a b", "c"),
        ("a:", "c"),
        ("a\r\nb", "c"),
        ("caf\u{e9}", "c"),
        ("x", "a\r\nb: c"),
        ("x", "a\nb"),
        ("x", "a\0b"),
    ] {
        rows.push(row(
            format!("HX-01/`{}: {}`", name.escape_debug(), value.escape_debug()),
            get(&[(name, value)]),
            RESET,
        ));
    }
    for (rule, name, value) in [
        ("HX-03", "host", "other"),
        ("H1-27", "x_forwarded_for", "1"),
        ("H1-27", "content_length", "5"),
        ("H1-11", "content-type", "text/\u{e9}"),
    ] {
        rows.push(row(format!("{rule}/`{name}: {}`", value.escape_debug()), get(&[(name, value)]), BAD));
    }
    for name in ["authorization", "content-type", "origin"] {
        rows.push(row(format!("H1-20/`{name}`"), get(&[(name, "a"), (name, "a")]), BAD));
    }
    rows.push(row("HX-01/te: trailers", get(&[("te", "trailers")]), SERVED));
    rows.push(row("H1-23/another expectation", get(&[("expect", "tea")]), "417, open"));
    rows
}

/// HX-02, HX-03, HX-05, HX-06: pseudo-header fields.
fn pseudo() -> Vec<Row> {
    const M: (&str, &str) = (":method", "GET");
    const S: (&str, &str) = (":scheme", "https");
    const A: (&str, &str) = (":authority", "localhost");
    const P: (&str, &str) = (":path", "/seen");
    const C: (&str, &str) = (":method", "CONNECT");
    let path = |path: &str| frame(HEADERS, WHOLE, 1, &request(path, &[]));
    let mut rows = vec![
        row("HX-02/no method", raw(&[S, A, P]), RESET),
        row("HX-02/no scheme", raw(&[M, A, P]), RESET),
        row("HX-02/no path", raw(&[M, S, A]), RESET),
        row("HX-02/an empty path", raw(&[M, S, A, (":path", "")]), RESET),
        row("HX-02/two methods", raw(&[M, M, S, A, P]), RESET),
        row("HX-02/two paths", raw(&[M, S, A, P, P]), RESET),
        row("HX-02/two authorities", raw(&[M, S, A, A, P]), RESET),
        row("HX-02/an unknown one", raw(&[M, S, A, P, (":seen", "1")]), RESET),
        row("HX-02/one of answers", raw(&[M, S, A, P, (":status", "200")]), RESET),
        row("HX-02/a late one", raw(&[M, S, A, ("x", "y"), P]), RESET),
        row("HX-06/connect with a path", raw(&[C, S, A, P]), "reset PROTOCOL_ERROR, open | 400, open"),
        row("HX-06/a protocol of a get", raw(&[M, S, A, P, (":protocol", "websocket")]), RESET),
        row(
            "HX-06/an unknown protocol",
            raw(&[C, S, A, P, (":protocol", "tea")]),
            "400, open | 501, open | reset PROTOCOL_ERROR, open",
        ),
        row("H1-08/no authority", raw(&[M, S, P]), "400, open | reset PROTOCOL_ERROR, open"),
        row("H1-08/host in its place", raw(&[M, S, P, ("host", "localhost")]), SERVED),
        row("H1-08/two hosts", raw(&[M, S, A, P, ("host", "localhost"), ("host", "localhost")]), BAD),
        row("H1-05/a method with a space", raw(&[(":method", "GET /a"), S, A, P]), RESET),
        row("H1-05/a method with a line", raw(&[(":method", "GET\r\n"), S, A, P]), RESET),
        row("H1-05/trace", raw(&[(":method", "TRACE"), S, A, P]), "405, open"),
        row("H1-06/another scheme", raw(&[M, (":scheme", "http"), A, P]), BAD),
        row("HX-05/asterisk of a get", path("*"), "400, open | reset PROTOCOL_ERROR, open"),
        row("HX-05/no slash", path("seen"), "400, open | reset PROTOCOL_ERROR, open"),
        row("HX-05/absolute", path("https://localhost/seen"), "400, open | reset PROTOCOL_ERROR, open"),
    ];
    for odd in ["/a b", "/a\r\nx: y", "/a\0", "/a#b", "/a\\b", "/caf\u{e9}", "/?a#b", "/?a\r\nb", "/?\u{1}"] {
        rows.push(row(
            format!("HV-05/`{}`", odd.escape_debug()),
            path(odd),
            "400, open | reset PROTOCOL_ERROR, open",
        ));
    }
    for odd in ["/a%2fb", "/a/../b", "//seen", "/a;b", "/%61", "/%00"] {
        rows.push(row(format!("HX-05/`{odd}`"), path(odd), BAD));
    }
    for odd in ["local host", "a@localhost", "localhost:x", "localhost, b", "localhost\r\nx: y", ""] {
        let bytes = raw(&[M, S, (":authority", odd), P]);
        rows.push(row(
            format!("H1-08/`{}`", odd.escape_debug()),
            bytes,
            "400, open | reset PROTOCOL_ERROR, open",
        ));
    }
    rows
}

/// HX-04 and trailers.
fn bodies() -> Vec<Row> {
    let data = |flags, bytes: &[u8]| frame(DATA, flags, 1, bytes);
    let length = |length| begun(&[("content-length", length)]);
    let trailers = |flags, fields: &[(&str, &str)]| frame(HEADERS, flags, 1, &block(fields));
    vec![
        row("-/a body", [length("3"), data(END_STREAM, b"abc")].concat(), SERVED),
        row("HX-04/less than declared", [length("5"), data(END_STREAM, b"abc")].concat(), RESET),
        row("HX-04/more than declared", [length("1"), data(END_STREAM, b"abc")].concat(), RESET),
        row(
            "HX-04/nothing of what is declared",
            get(&[("content-length", "5")]),
            "reset PROTOCOL_ERROR, open | 400, open",
        ),
        row(
            "H1-13/two lengths",
            [begun(&[("content-length", "3"), ("content-length", "3")]), data(END_STREAM, b"abc")].concat(),
            "400, reset NO_ERROR, open | 400, open | reset PROTOCOL_ERROR, open",
        ),
        row(
            "H1-13/a signed length",
            [length("+3"), data(END_STREAM, b"abc")].concat(),
            "400, open | reset PROTOCOL_ERROR, open",
        ),
        row(
            "HX-02/pseudo-header in trailers",
            [begun(&[]), data(0, b"abc"), trailers(WHOLE, &[(":path", "/a")])].concat(),
            RESET,
        ),
        row(
            "8.1/trailers that do not end",
            [begun(&[]), data(0, b"abc"), trailers(END_HEADERS, &[("x", "y")])].concat(),
            RESET,
        ),
        row(
            "HX-01/upper case in trailers",
            [begun(&[]), data(0, b"abc"), trailers(WHOLE, &[("X", "y")])].concat(),
            RESET,
        ),
        row(
            "H1-32/half a body",
            [length("5"), data(0, b"abc")].concat(),
            "408, open | 408, reset NO_ERROR, open",
        ),
        Row {
            is_last: true,
            ..row("H1-32/half a header block", frame(HEADERS, END_STREAM, 1, &request("/seen", &[])), CALM)
        },
        Row { is_last: true, ..row("H1-32/half a frame", get(&[])[..20].to_vec(), CALM) },
    ]
}
