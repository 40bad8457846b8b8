//! What a bad origin does, and what its caller hears.

use std::time::Duration;

use super::{Row, Step};
use Step::{Cut, Drip, Flood, Hold, Read, Say, Wait};

/// After the request, these bytes; then the connection ends.
fn says(id: &'static str, bytes: impl AsRef<[u8]>, expected: &'static str) -> Row {
    does(id, vec![Read, Say(bytes.as_ref().to_vec())], expected)
}

fn does(id: &'static str, does: Vec<Step>, expected: &'static str) -> Row {
    Row { id, method: "POST", does, expected, lacks: &[] }
}

/// After the request, an answer with these field lines.
fn fields(id: &'static str, fields: &str, expected: &'static str) -> Row {
    says(id, format!("HTTP/1.1 200 OK\r\n{fields}\r\nhello"), expected)
}

/// After the request, the head and the first bytes of an answer with a chunked body; a moment later the rest.
fn chunks(id: &'static str, rest: &str, expected: &'static str) -> Row {
    let begun = text("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe");
    does(id, vec![Read, begun, Wait(MOMENT), text(rest)], expected)
}

/// The same in one piece, so that nothing of it has left when the fault is found.
fn chunks_at_once(id: &'static str, rest: &str, expected: &'static str) -> Row {
    says(id, format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe{rest}"), expected)
}

/// The same, with the connection kept open after it.
fn kept(id: &'static str, bytes: &str, expected: &'static str) -> Row {
    does(id, vec![Read, Say(bytes.into()), Hold], expected)
}

fn text(text: &str) -> Step {
    Say(text.into())
}

const BAD: &str = "502, then good";
const CUT: &str = "200 broken, then good";
const LATE: &str = "504, then good";
const MOMENT: Duration = Duration::from_millis(50);

pub(super) fn all() -> Vec<Row> {
    [framings(), lines(), interim(), bodies(), queues(), clocks()].into_iter().flatten().collect()
}

fn framings() -> Vec<Row> {
    vec![
        fields("HR-01/cl and te", "content-length: 5\r\ntransfer-encoding: chunked\r\n", BAD),
        fields("HR-01/te and cl", "transfer-encoding: chunked\r\ncontent-length: 5\r\n", BAD),
        fields("HR-01/cl twice", "content-length: 5\r\ncontent-length: 5\r\n", BAD),
        fields("HR-01/two cl", "content-length: 5\r\ncontent-length: 50\r\n", BAD),
        fields("HR-01/a list of cl", "content-length: 5, 5\r\n", BAD),
        fields("HR-01/signed cl", "content-length: +5\r\n", BAD),
        fields("HR-01/negative cl", "content-length: -5\r\n", BAD),
        fields("HR-01/hex cl", "content-length: 0x5\r\n", BAD),
        fields("HR-01/empty cl", "content-length:\r\n", BAD),
        fields("HR-01/gzip, chunked", "transfer-encoding: gzip, chunked\r\n", BAD),
        fields("HR-01/identity", "transfer-encoding: identity\r\n", BAD),
        fields("HR-01/te twice", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", BAD),
        says("HR-01/te in 1.0", "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", BAD),
    ]
}

fn lines() -> Vec<Row> {
    vec![
        says("HR-02/garbage", "\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0", BAD),
        says("HR-02/garbage of 100 KiB", "x".repeat(100 * 1024), BAD),
        says("HR-02/http/2", b"\0\0\0\x04\0\0\0\0\0", BAD),
        says("HR-02/tls", b"\x15\x03\x01\0\x02\x02\x46", BAD),
        says("HR-02/bare lf", "HTTP/1.1 200 OK\ncontent-length: 0\n\n", BAD),
        says("HR-02/lf after a field", "HTTP/1.1 200 OK\r\nx: y\ncontent-length: 0\r\n\r\n", BAD),
        says("HR-02/status 99", "HTTP/1.1 099 Low\r\ncontent-length: 0\r\n\r\n", BAD),
        says("HR-02/status 600", "HTTP/1.1 600 High\r\ncontent-length: 0\r\n\r\n", BAD),
        says("HR-02/status 2000", "HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n", BAD),
        says("HR-02/http/3", "HTTP/3.0 200 OK\r\ncontent-length: 0\r\n\r\n", BAD),
        says("HR-02/icy", "ICY 200 OK\r\ncontent-length: 0\r\n\r\n", BAD),
        says("HR-02/an empty line first", "\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", BAD),
        fields("HR-02/obs-fold", "x: y\r\n z\r\ncontent-length: 5\r\n", BAD),
        fields("HR-02/nul in a value", "x: a\0b\r\ncontent-length: 5\r\n", BAD),
        fields("HR-02/a split answer", "x: a\r\rset-cookie: b\r\ncontent-length: 5\r\n", BAD),
        fields("HR-02/space before the colon", "content-length : 5\r\n", BAD),
        fields("HR-03/101 fields", &"x: y\r\n".repeat(101), BAD),
        fields("HR-03/a field of 17 KiB", &format!("x: {}\r\n", "y".repeat(17 * 1024)), BAD),
        does(
            "HR-03/a field without end",
            vec![Read, text("HTTP/1.1 200 OK\r\nx: "), Flood(vec![b'y'; 65536], 4096)],
            BAD,
        ),
        does(
            "HR-03/fields without end",
            vec![Read, text("HTTP/1.1 200 OK\r\n"), Flood(b"x: y\r\n".repeat(1000), 4096)],
            BAD,
        ),
        Row {
            lacks: &["forged", "x-hop", "x-envoy", "keep-alive", "upgrade"],
            ..fields(
                "HR-08/fields of ours",
                "portcullis-decision-id: forged\r\nportcullis-peer: forged\r\nx-envoy-a: forged\r\nconnection: x-hop\r\nx-hop: forged\r\nkeep-alive: 5\r\nupgrade: h2c\r\ncontent-length: 5\r\n",
                "200 `hello`, then good",
            )
        },
    ]
}

fn interim() -> Vec<Row> {
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let end = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    vec![
        kept("-/8 interim answers", &format!("{}{end}", early.repeat(8)), "200 `hello`, then 504"),
        kept("HR-03/9 interim answers", &format!("{}{end}", early.repeat(9)), BAD),
        does("HR-03/interim answers without end", vec![Read, Flood(early.repeat(100).into(), 10_000)], BAD),
        kept(
            "HR-03/an uninvited switch",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            BAD,
        ),
        kept(
            "HR-03/an uninvited switch to h2c",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
            BAD,
        ),
    ]
}

fn bodies() -> Vec<Row> {
    let end = |id, text: &str, expected| kept(id, text, expected);
    vec![
        does(
            "HR-05/half of a declared body",
            vec![Read, text("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"), Wait(MOMENT)],
            CUT,
        ),
        does(
            "HR-05/reset in a declared body",
            vec![text("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"), Wait(MOMENT), Cut],
            CUT,
        ),
        end(
            "HR-05/more than declared",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\npoisoned",
            "200 `hello`, then good",
        ),
        chunks("HR-05/half a chunk", "\r\n9\r\nllo", CUT),
        chunks("HR-05/no last chunk", "\r\n3\r\nllo\r\n", CUT),
        chunks("HR-05/half a last chunk", "\r\n0\r\n", CUT),
        chunks("HR-05/no size", "\r\nxyz\r\n", CUT),
        chunks("HR-05/a size of 17 digits", "\r\nfffffffffffffffff\r\n", CUT),
        chunks("HR-05/a negative size", "\r\n-1\r\n\r\n", CUT),
        chunks("HR-05/a chunk that is too long", "llo\r\n0\r\n\r\n", CUT),
        chunks("HR-05/a bare lf", "\n0\n\n", CUT),
        chunks("H1-17/an extension of 100 bytes", &format!("\r\n0;{}\r\n\r\n", "a".repeat(100)), CUT),
        chunks("-/an extension", "\r\n3;a=b\r\nllo\r\n0\r\n\r\n", "200 `hello`, then good"),
        chunks("HR-05/a trailer that frames", "\r\n0\r\ncontent-length: 9\r\n\r\n", CUT),
        chunks("HR-05/33 trailers", &format!("\r\n0\r\n{}\r\n", "x: y\r\n".repeat(33)), CUT),
        chunks_at_once("HR-05/no size, at once", "\r\nxyz\r\n", BAD),
        chunks_at_once("HR-05/a chunk that is too long, at once", "llo\r\n0\r\n\r\n", BAD),
        end(
            "HR-04/a body of 204",
            "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\npoisoned",
            "204, then good",
        ),
        end(
            "HR-04/chunks of 204",
            "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "204, then good",
        ),
        end(
            "HR-04/a body of 304",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\nhello",
            "304, then good",
        ),
        Row {
            method: "HEAD",
            ..end(
                "HR-04/a body of HEAD",
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
                "200, then good",
            )
        },
        says("HR-07/until the end", "HTTP/1.1 200 OK\r\n\r\nhello", "200 `hello`, then good"),
        does("HR-07/until a reset", vec![text("HTTP/1.1 200 OK\r\n\r\nhello"), Wait(MOMENT), Cut], CUT),
        says("HR-07/1.0", "HTTP/1.0 200 OK\r\n\r\nhello", "200 `hello`, then good"),
        says(
            "HR-07/closed though declared kept",
            "HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello",
            "200 `hello`, then good",
        ),
    ]
}

/// Answers that nobody asked for.
fn queues() -> Vec<Row> {
    let poison = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\npoisoned";
    let end = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    vec![
        kept("HR-06/two answers", &format!("{end}{poison}"), "200 `hello`, then good"),
        does(
            "HR-06/another answer, later",
            vec![Read, text(end), Wait(MOMENT / 5), text(poison), Hold],
            "200 `hello`, then good",
        ),
        does(
            "-/an answer before the body was taken",
            vec![
                text("HTTP/1.1 413 Too Much\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig"),
                Wait(MOMENT),
                Cut,
            ],
            "413 `big`, then good",
        ),
        does(
            "HR-06/an answer to half a body",
            vec![text(poison), Wait(MOMENT), Cut],
            "200 `poisoned`, then good",
        ),
    ]
}

/// Origins that say nothing, too little, too slowly; and ends at every point.
fn clocks() -> Vec<Row> {
    let get = |row: Row| Row { method: "GET", ..row };
    vec![
        does("TO-02/silence", vec![Read, Hold], LATE),
        does("TO-02/nothing is read", vec![Hold], LATE),
        does("TO-02/half a head and silence", vec![Read, text("HTTP/1.1 200 OK\r\nco"), Hold], LATE),
        does(
            "TO-02/a head byte by byte",
            vec![Read, Drip(b"HTTP/1.1 200 OK\r\nx: aaaaaaaaaaaaaaaaaaaaaa\r\n".into(), MOMENT), Hold],
            LATE,
        ),
        does(
            "TO-02/a body byte by byte",
            vec![
                Read,
                text("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"),
                Drip(vec![b'x'; 1000], MOMENT),
                Hold,
            ],
            CUT,
        ),
        does(
            "TO-02/half a body and silence",
            vec![Read, text("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"), Hold],
            CUT,
        ),
        does("OUT2/closes at once", vec![], BAD),
        does("OUT2/reset at once", vec![Wait(MOMENT), Cut], BAD),
        does("OUT2/closes after the request", vec![Read], BAD),
        does("OUT2/closes after half a status line", vec![Read, text("HTTP/1.1 2")], BAD),
        does("OUT2/closes after half a head", vec![Read, text("HTTP/1.1 200 OK\r\nx: y\r\n")], BAD),
        does(
            "OUT2/reset after half a head",
            vec![text("HTTP/1.1 200 OK\r\nx: y\r\n"), Wait(MOMENT), Cut],
            BAD,
        ),
        get(does("RY-05/a GET whose connection closes is told again", vec![Read], "200 `good`, then good")),
        get(does(
            "RY-05/a GET whose connection is reset is told again",
            vec![Wait(MOMENT), Cut],
            "200 `good`, then good",
        )),
        get(does("HR-02/a GET with a malformed answer is not", vec![Read, text("nonsense\r\n\r\n")], BAD)),
    ]
}
