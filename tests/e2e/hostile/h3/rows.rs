//! The classes of HTTP/3, and what a caller sends for each (RFC 9114, RFC 9204).

use super::{Does, Row, frame, request, section, varint};

fn row(id: impl Into<String>, does: Does, expected: &'static str) -> Row {
    Row { id: id.into(), does, expected }
}

fn ask(id: impl Into<String>, bytes: Vec<u8>, expected: &'static str) -> Row {
    row(id, Does::Ask(bytes, true), expected)
}

/// What H3_MESSAGE_ERROR looks like, or its refusal in words.
const MALFORMED: &str = "reset 0x10e, open | 400, open";
const UNEXPECTED: &str = "close 0x105";
const CREATION: &str = "close 0x103";
const QPACK: &str = "close 0x200";
const LOAD: &str = "close 0x107";

pub(super) fn all() -> Vec<Row> {
    [control(), frames(), fields(), floods()].into_iter().flatten().collect()
}

fn control() -> Vec<Row> {
    let control = |bytes: &[u8]| Does::Control([&[0], bytes].concat());
    let settings = |pairs: &[(u64, u64)]| {
        frame(
            4,
            &pairs
                .iter()
                .flat_map(|(name, value)| [varint(*name), varint(*value)].concat())
                .collect::<Vec<_>>(),
        )
    };
    vec![
        row("6.2.1/no settings first", control(&frame(7, &[0])), "close 0x10a"),
        row(
            "6.2.1/data on the control stream",
            control(&[frame(4, &[]), frame(0, b"x")].concat()),
            UNEXPECTED,
        ),
        row(
            "6.2.1/headers on the control stream",
            control(&[frame(4, &[]), request("/seen", &[])].concat()),
            UNEXPECTED,
        ),
        row("7.2.4/settings twice", control(&[frame(4, &[]), frame(4, &[])].concat()), UNEXPECTED),
        row("7.2.4/a setting twice", control(&settings(&[(6, 1000), (6, 1000)])), "close 0x109 | open"),
        row("7.2.4.1/a setting of http/2", control(&settings(&[(2, 0)])), "close 0x109"),
        row("7.2.4/half a setting", control(&frame(4, &[0x40])), "close 0x106 | close 0x109"),
        row("7.2.8/a type of http/2", control(&[frame(4, &[]), frame(6, &[0; 8])].concat()), UNEXPECTED),
        row("9/an unknown frame", control(&[frame(4, &[]), frame(0x21, &[0; 8])].concat()), "open"),
        row("6.2.1/a second control stream", Does::Uni([&[0][..], &frame(4, &[])].concat(), false), CREATION),
        row("6.2.1/a control stream that ends", Does::Control([&[0][..], &frame(4, &[])].concat()), "open"),
        row("6.2.2/a push stream", Does::Uni(vec![1, 0], false), "close 0x103 | open"),
        row("6.2.3/an unknown stream", Does::Uni(vec![0x21, 1, 2, 3], true), "open"),
        row("6.2/half a type", Does::Uni(vec![0x40], true), "open | close 0x103"),
        row("9204 4.2/an encoder stream that ends", Does::Uni(vec![2], true), "close 0x104 | open"),
        row(
            "9204 4.3/an entry where none has room",
            Does::Uni(vec![2, 0x40 | 1, b'x', 1, b'y'], false),
            "close 0x201 | open",
        ),
        row(
            "9204 4.3/a table where none may be",
            Does::Uni(vec![2, 0x3f, 0xe1, 0x1f], false),
            "close 0x201 | open",
        ),
        row(
            "9204 4.4/an acknowledgement of nothing",
            Does::Uni(vec![3, 0x80 | 4], false),
            "close 0x202 | open",
        ),
    ]
}

fn frames() -> Vec<Row> {
    let good = request("/seen", &[]);
    vec![
        ask("-/a request", good.clone(), "200, open"),
        ask("4.1/data first", frame(0, b"abc"), UNEXPECTED),
        ask("7.2.4/settings on a request", [frame(4, &[]), good.clone()].concat(), UNEXPECTED),
        ask("7.2.7/max push id on a request", [frame(13, &[1]), good.clone()].concat(), UNEXPECTED),
        ask("7.2.6/goaway on a request", [frame(7, &[0]), good.clone()].concat(), UNEXPECTED),
        ask("7.2.5/a promise of a client", [frame(5, &[0, 0, 0]), good.clone()].concat(), UNEXPECTED),
        ask("7.2.8/a type of http/2 on a request", [frame(8, &[0; 4]), good.clone()].concat(), UNEXPECTED),
        ask(
            "9/unknown frames around",
            [frame(0x21, &[1; 100]), good.clone(), frame(0x40, &[2; 100])].concat(),
            "200, open",
        ),
        ask("7.1/half a frame", good[..10].to_vec(), "reset 0x10d, open | close 0x106 | reset 0x106, open"),
        ask("7.1/half a type", vec![0x40], "reset 0x10d, open | close 0x106 | reset 0x106, open"),
        ask("4.1/nothing", Vec::new(), "reset 0x10d, open"),
        ask(
            "7.1/a length of 2^62 - 1",
            [varint(1), varint((1 << 62) - 1), vec![0; 100]].concat(),
            "reset 0x10d, open | close 0x106 | reset 0x106, open | close 0x107 | 431, open | reset 0x107, open",
        ),
        ask(
            "4.1/three heads",
            [good.clone(), good.clone(), good.clone()].concat(),
            "close 0x105 | reset 0x10e, open | 400, open",
        ),
        row("H1-32/half a head", Does::Ask(good[..10].to_vec(), false), LOAD),
    ]
}

fn fields() -> Vec<Row> {
    let with = |fields: &[(&str, &str)]| frame(1, &section(fields));
    const M: (&str, &str) = (":method", "GET");
    const S: (&str, &str) = (":scheme", "https");
    const A: (&str, &str) = (":authority", "localhost");
    const P: (&str, &str) = (":path", "/seen");
    let post = |length: &str| with(&[(":method", "POST"), S, A, P, ("content-length", length)]);
    let mut rows = vec![
        ask("9204 4.5/a field of a table that is empty", frame(1, &[2, 0, 0x80]), QPACK),
        ask("9204 4.5/an index beyond the table", frame(1, &[0, 0, 0xff, 0xff, 0x7f]), QPACK),
        ask("9204 4.5/half a field", frame(1, &[0, 0, 0x23, b'a']), QPACK),
        ask("9204 4.5/half a prefix", frame(1, &[0]), QPACK),
        ask(
            "9204/an integer without end",
            frame(1, &[0, 0, 0x27, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            QPACK,
        ),
        ask(
            "H1-19/a section of 70 KiB",
            request("/seen", &[("x", "v".repeat(14_000).as_str()); 5]),
            "431, open | reset 0x107, open | close 0x107 | nothing, open",
        ),
        ask("H1-19/101 fields", request("/seen", &[("x", "y"); 101]), "431, open"),
        ask("H1-07/a path of 8 KiB and one", request(&format!("/{}", "a".repeat(8192)), &[]), "414, open"),
        ask("HX-03/another host", request("/seen", &[("host", "other")]), MALFORMED),
        ask("HX-02/no method", with(&[S, A, P]), MALFORMED),
        ask("HX-02/no scheme", with(&[M, A, P]), MALFORMED),
        ask("HX-02/no path", with(&[M, S, A]), MALFORMED),
        ask("HX-02/two paths", with(&[M, S, A, P, P]), MALFORMED),
        ask("HX-02/an unknown one", with(&[M, S, A, P, (":seen", "1")]), MALFORMED),
        ask("HX-02/one of answers", with(&[M, S, A, P, (":status", "200")]), MALFORMED),
        ask("HX-02/a late one", with(&[M, S, A, ("x", "y"), P]), MALFORMED),
        ask("HX-06/connect with a path", with(&[(":method", "CONNECT"), S, A, P]), MALFORMED),
        ask("H1-05/trace", with(&[(":method", "TRACE"), S, A, P]), "405, open"),
        ask("H1-06/another scheme", with(&[M, (":scheme", "http"), A, P]), MALFORMED),
        ask("HX-04/less than declared", [post("5"), frame(0, b"abc")].concat(), MALFORMED),
        ask("HX-04/more than declared", [post("1"), frame(0, b"abc")].concat(), MALFORMED),
        ask(
            "H1-13/two lengths",
            [
                with(&[(":method", "POST"), S, A, P, ("content-length", "3"), ("content-length", "3")]),
                frame(0, b"abc"),
            ]
            .concat(),
            MALFORMED,
        ),
    ];
    for (name, value) in [
        ("Upper", "a"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        ("upgrade", "h2c"),
        ("", "a"),
        ("x", "a\r\nb: c"),
        ("x", "a\0b"),
    ] {
        rows.push(ask(
            format!("HX-01/`{name}: {}`", value.escape_debug()),
            request("/seen", &[(name, value)]),
            MALFORMED,
        ));
    }
    for odd in ["/a%2fb", "/a/../b", "//seen", "/a b", "*", ""] {
        rows.push(ask(format!("HX-05/`{odd}`"), request(odd, &[]), MALFORMED));
    }
    rows.push(ask("HX-05/`/a#b`", request("/a#b", &[]), MALFORMED));
    rows
}

fn floods() -> Vec<Row> {
    vec![
        row("H3-01/rapid reset", Does::GiveUp(3000), LOAD),
        row("H3-01/streams of an unknown type", Does::Resets(vec![0x21, 1], 3000), "open | close 0x107"),
        row("H3-01/streams that are nothing", Does::Resets(Vec::new(), 3000), "open | close 0x107"),
        ask(
            "H3-01/unknown frames without end",
            [frame(0x21, &[]).repeat(20_000), request("/seen", &[])].concat(),
            "close 0x107 | 200, open",
        ),
    ]
}
