//! Odd but legal requests, from a table and at random, as they are sent over either protocol.

use enforcer_codec::canonical::{self, Path};
use serde_json::{Value, json};

/// A request. Text stands for bytes, one character each.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    method: String,
    path: String,
    query: Option<String>,
    fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// How large the pieces are in which the body is sent; it declares its length where there is one piece.
    pub(super) piece: usize,
}

/// A request with that path and query.
fn get(path: &str, query: Option<&str>) -> Request {
    Request {
        method: "GET".into(),
        path: path.into(),
        query: query.map(Into::into),
        piece: 1 << 14,
        ..Request::default()
    }
}

pub(super) fn with(fields: &[(&str, &str)]) -> Request {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Request { fields, ..get("/fields", None) }
}

pub(super) fn asking(query: &str) -> Request {
    get("/query", Some(query))
}

fn body(body: impl Into<Vec<u8>>, piece: usize) -> Request {
    Request { method: "POST".into(), body: body.into(), piece, ..get("/body", None) }
}

/// What is worth a row of its own.
pub(super) fn odd() -> Vec<Request> {
    let mut all = vec![
        get("/", None),
        get("/", Some("")),
        get("/a", Some("?")),
        get("/a", Some("?a=/../b")),
        get("/a", Some("q=1&q=2&q=")),
        get("/a", Some("q=a%20b+c&Q=d")),
        get("/a", Some("q=%00%0d%0a")),
        get("/a", Some("q=%ff")),
        get("/a", Some("q&=q&&q==")),
        get("/a", Some("a:b@c/d;e,f!$'()*~-._")),
        get("/a%20b", None),
        get("/%C3%A9", None),
        get("/%C3%A9/%E2%82%AC", None),
        get("/a:b@c!$&'()*+,=~-._", None),
        get("/...", None),
        get("/..a/a..", None),
        get("/a/", None),
        get("/A/a", None),
        get("/%3Fa", None),
        get("/%23a", None),
        get("/%25", None),
        get("/%252e%252e/a", None),
        get("/a%2Eb", None),
        get("/a/%2e%2e/b", None),
        get("/a%2Fb", None),
        get("/a%2fb/c", None),
        get("/a%2F..%2Fb", None),
        get("/a%2F%2Fb", None),
        get("/a/../../b/./c//d", Some("q=1")),
        get("/a;x=1/b;y/..", None),
        get("/a/..;/b", None),
        get("/%41%62/{c}", None),
        get("/a%00", None),
        get("/a//b", None),
        get("/a/./b", None),
        get("/a;b=c", None),
        get("/a\\b", None),
        get("/%7Ea", None),
        get(&format!("/{}", "a".repeat(900)), None),
        with(&[("x-odd", "a"), ("x-odd", "b")]),
        with(&[("x-odd", "a, b"), ("X-ODD", "c")]),
        with(&[("x-odd", "")]),
        with(&[("x-odd", "a\tb")]),
        with(&[("x-odd", "\"a\\\"b\"")]),
        with(&[("x-odd", "caf\u{e9}")]),
        with(&[("x-other", "caf\u{e9} \u{ff}")]),
        with(&[("!#$%&'*+-.^`|~", "token")]),
        with(&[("x-a", "1"), ("x-b", "2"), ("x-a", "3")]),
        with(&[("cookie", "a=b; c=d")]),
        with(&[("x-forwarded-for", "6.6.6.6"), ("portcullis-peer", "me"), ("x-original-url", "/b")]),
        with(&[("authorization", "Basic YTpi"), ("accept", "*/*"), ("range", "bytes=0-")]),
        with(&[("x-long", "v".repeat(15_000).as_str())]),
        body("abc", 1 << 14),
        body("abc", 1),
        body("GET /b HTTP/1.1\r\nhost: b\r\n\r\n", 1 << 14),
        body("0\r\n\r\nGET /b HTTP/1.1\r\nhost: b\r\n\r\n", 7),
        body((0..=255).collect::<Vec<u8>>(), 1 << 14),
        body(vec![b'x'; 100_000], 999),
    ];
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "REPORT", "M-SEARCH", "get", "X!"] {
        all.push(Request { method: method.into(), ..get("/method", None) });
    }
    all
}

/// A generator of which the same start gives the same requests.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most.max(1) as u64).unwrap_or_default()
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    fn text(&mut self, parts: &[&str], most: usize) -> String {
        (0..self.below(most + 1)).map(|_| self.of(parts)).collect()
    }
}

impl Request {
    pub(super) fn random(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let segment = [
            "a", "B", "0", "-", ".", "_", "~", "!", "$", "&", "'", "(", ")", "*", "+", ",", "=", ":", "@",
            "%20", "%C3%A9", "%25", "%3B", "%2F", "%2e", "..", ";",
        ];
        let path: String = (0..=dice.below(4)).map(|_| format!("/{}", dice.text(&segment, 4))).collect();
        let pairs = [
            "q=",
            "q=a",
            "&",
            "q=%20",
            "+",
            "=",
            "?",
            "/",
            "..",
            "%E2%82%AC",
            "%",
            "%zz",
            "b",
            ";",
            "[",
            "]",
            "|",
            "^",
            "`",
            "{",
        ];
        let query = (dice.below(2) == 0).then(|| dice.text(&pairs, 6));
        let names = [
            "x-odd",
            "X-Odd",
            "x-a",
            "x-b",
            "accept",
            "x-",
            "~",
            "x.y",
            "via",
            "user-agent",
            "if-match",
            "x_y",
        ];
        let values = [
            "",
            "a",
            " ",
            "\t",
            ",",
            ";",
            "=",
            "\"",
            "\\",
            "(",
            "caf\u{e9}",
            "%0d%0a",
            ":",
            "\u{80}",
            "a, b",
            "{",
            "never",
        ];
        let fields = (0..dice.below(5)).map(|_| (dice.of(&names).to_owned(), dice.text(&values, 4)));
        let fields: Vec<_> = fields.collect();
        let method = dice.of(&["GET", "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]).to_owned();
        let length = if method == "GET" || dice.below(2) == 0 { 0 } else { 1 + dice.below(5000) };
        let body = (0..length).map(|_| u8::try_from(dice.next() & 0xff).unwrap_or_default()).collect();
        let piece = if dice.below(2) == 0 { 1 << 14 } else { 1 + dice.below(700) };
        Self { method, path, query, fields, body, piece }
    }

    fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// The bytes of HTTP/1.
    pub(super) fn http1(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: localhost\r\n", self.method, self.target());
        for (name, value) in &self.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let is_whole = self.body.len() <= self.piece;
        match (self.body.is_empty(), is_whole) {
            (true, _) => {}
            (_, true) => head.push_str(&format!("content-length: {}\r\n", self.body.len())),
            (_, false) => head.push_str("transfer-encoding: chunked\r\n"),
        }
        let mut bytes: Vec<u8> =
            format!("{head}\r\n").chars().filter_map(|byte| u8::try_from(u32::from(byte)).ok()).collect();
        if is_whole {
            bytes.extend_from_slice(&self.body);
            return bytes;
        }
        for part in self.body.chunks(self.piece) {
            bytes.extend(format!("{:x}\r\n", part.len()).bytes());
            bytes.extend_from_slice(part);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        bytes
    }

    /// The fields of HTTP/2.
    pub(super) fn http2(&self) -> Vec<(String, String)> {
        let mut fields: Vec<(String, String)> = vec![
            (":method".into(), self.method.clone()),
            (":scheme".into(), "https".into()),
            (":authority".into(), "localhost".into()),
            (":path".into(), self.target()),
        ];
        fields.extend(
            self.fields
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned())),
        );
        if !self.body.is_empty() && self.body.len() <= self.piece {
            fields.push(("content-length".into(), self.body.len().to_string()));
        }
        fields
    }

    /// Its path as it is judged on a route that takes every spelling.
    pub(super) fn canonical_path(&self) -> Option<String> {
        match canonical::spelled(self.path.as_bytes()).ok()?.0 {
            Path::Canonical(path) => Some(path.to_owned()),
            Path::Other { canonical, .. } => Some(canonical),
        }
    }

    /// What an origin must receive of it.
    pub(super) fn told(&self) -> Value {
        // What a gateway takes out, and what an edge takes out with it.
        let is_dropped = |name: &str| {
            name.contains('_')
                || ["x-forwarded-for", "portcullis-peer", "x-original-url"]
                    .contains(&name.to_ascii_lowercase().as_str())
        };
        let kept = self.fields.iter().filter(|(name, _)| !is_dropped(name));
        let mut fields: Vec<_> = kept
            .map(|(name, value)| json!([name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])]))
            .collect();
        fields.sort_by_key(ToString::to_string);
        let body: String = self.body.iter().map(|byte| char::from(*byte)).collect();
        json!({ "method": self.method, "path": self.path, "query": self.query, "headers": fields, "body": body })
    }
}

/// The values of a parameter of a query, as a form is read.
pub(super) fn parameters(query: &str, wanted: &str) -> Vec<String> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
        while let Some((first, tail)) = rest.split_first() {
            let hex =
                rest.get(1..3).and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
            match (first, hex) {
                (b'%', Some(byte)) => (bytes.push(byte), rest = &rest[3..]).1,
                _ => (bytes.push(*first), rest = tail).1,
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let named = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    named.filter(|(name, _)| decode(name) == wanted).map(|(_, value)| decode(value)).collect()
}
