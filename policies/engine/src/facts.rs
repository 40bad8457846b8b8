//! The facts of one call, as views: the proxy implements [`Facts`] over its canonical call, the ledger and
//! the command line over [`crate::OwnedFacts`]. The engine never parses request bytes again (MO10) and
//! reads only what the policies of a plan need.

use crate::Token;
use std::{borrow::Cow, fmt, net::IpAddr, sync::Arc};

/// Everything policies and records may learn about one call besides who, what and which.
pub trait Facts: Send + Sync + fmt::Debug {
    /// The connection the call came over.
    fn connection(&self) -> &ConnectionFacts;

    /// The HTTP request; `None` for TCP and for actions that have none.
    fn request(&self) -> Option<RequestView<'_>>;

    /// gRPC service and method as they stand in the path.
    fn rpc(&self) -> Option<(&str, &str)>;

    /// Calls `each` with every line of that header (lower-case name), OWS trimmed, never joined or split (MO7).
    fn header(&self, name: &str, each: &mut dyn FnMut(&str));

    /// A capture of the matched route.
    fn param(&self, _name: &str) -> Option<&str> {
        None
    }

    /// The verified token of a person that came with the call (MO5).
    fn token(&self) -> Option<&Arc<Token>> {
        None
    }
}

/// What is known of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// The peer proved an X.509-SVID on this connection.
    pub mtls: bool,
    /// 13, 12, or 0 for none.
    pub tls: u8,
    /// Transport peer, or PROXY protocol where trusted; never `x-forwarded-for`.
    pub source_ip: IpAddr,
    /// Server name asked for.
    pub sni: Option<Arc<str>>,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// Protocol of the call.
    pub protocol: Protocol,
}

/// Protocol of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1.
    H1,
    /// HTTP/2.
    H2,
    /// HTTP/3.
    H3,
    /// gRPC, over any HTTP version.
    Grpc,
    /// Bytes.
    Tcp,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: &'static [Protocol] =
        &[Protocol::H1, Protocol::H2, Protocol::H3, Protocol::Grpc, Protocol::Tcp];

    /// The id in the schema.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::H1 => "h1",
            Protocol::H2 => "h2",
            Protocol::H3 => "h3",
            Protocol::Grpc => "grpc",
            Protocol::Tcp => "tcp",
        }
    }

    /// The protocol of that id.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Protocol> {
        Protocol::ALL.iter().copied().find(|protocol| protocol.as_str() == word)
    }
}

/// The canonical request, borrowed. Segments and query sets are derived from it lazily.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestView<'a> {
    /// Exact method token.
    pub method: &'a str,
    /// Canonical authority.
    pub host: &'a str,
    /// Canonical path without query.
    pub path: &'a str,
    /// Query without `?`, verbatim.
    pub query: Option<&'a str>,
    /// `content-type` without parameters.
    pub media_type: Option<&'a str>,
    /// Declared length of the body.
    pub length: Option<u64>,
}

impl<'a> RequestView<'a> {
    /// Decoded segments of the canonical path, in order. `/` has none; `/a/` has `a` and an empty one.
    pub fn segments(self) -> impl Iterator<Item = Cow<'a, str>> {
        segments(self.path)
    }

    /// Decoded name and value pairs of the query, in order; `+` is a space.
    pub fn query_pairs(self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        pairs(self.query)
    }

    /// Whether every value whose name is read is text once it is decoded (CC-11).
    pub fn query_is_text(self, is_read: impl Fn(&str) -> bool) -> bool {
        let pairs =
            self.query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut read = pairs.filter(|(name, _)| is_read(&decode(name, true)));
        read.all(|(_, value)| str::from_utf8(&decoded(value, true)).is_ok())
    }
}

/// Decoded segments of a canonical path.
pub(crate) fn segments(path: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let rest = path.strip_prefix('/').unwrap_or(path);
    let skip_all = usize::from(rest.is_empty());
    rest.split('/').skip(skip_all).map(|segment| decode(segment, false))
}

/// Decoded pairs of a query.
pub(crate) fn pairs(query: Option<&str>) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name, true), decode(value, true))
    })
}

/// Percent-decodes. What is not UTF-8 after decoding becomes U+FFFD; such a call is refused before a policy reads it.
fn decode(text: &str, plus_is_space: bool) -> Cow<'_, str> {
    match decoded(text, plus_is_space) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(bytes) => Cow::Owned(
            String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()),
        ),
    }
}

/// Percent-decodes; what is not an escape stays as it is.
fn decoded(text: &str, plus_is_space: bool) -> Cow<'_, [u8]> {
    if !text.bytes().any(|byte| byte == b'%' || (plus_is_space && byte == b'+')) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (*first, tail) {
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    rest = after;
                }
                _ => out.push(b'%'),
            },
            (b'+', _) if plus_is_space => out.push(b' '),
            (byte, _) => out.push(byte),
        }
    }
    Cow::Owned(out)
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view<'a>(path: &'a str, query: Option<&'a str>) -> RequestView<'a> {
        RequestView { method: "GET", host: "h", path, query, media_type: None, length: None }
    }

    #[test]
    fn segments_are_decoded_and_counted() {
        let segments = |path| view(path, None).segments().collect::<Vec<_>>();
        assert_eq!(segments("/"), Vec::<String>::new());
        assert_eq!(segments("/shop.Orders/Refund"), ["shop.Orders", "Refund"]);
        assert_eq!(segments("/a/"), ["a", ""]);
        assert_eq!(segments("/a%20b/%C3%A9/%zz/%4"), ["a b", "é", "%zz", "%4"]);
    }

    #[test]
    fn cc_11_values_that_are_read_must_be_text() {
        let is_text = |query| view("/", Some(query)).query_is_text(|name| name == "q" || name == "a b");
        for query in ["", "q", "q=1", "q=%C3%A9", "q=%zz", "other=%FF", "%FF=1", "q=%E2%82%AC&x=%80"] {
            assert!(is_text(query), "{query}");
        }
        for query in ["q=%FF", "q=1&q=%C3", "%71=%ff", "a+b=%80", "a%20b=x%E2%82"] {
            assert!(!is_text(query), "{query}");
        }
    }

    #[test]
    fn query_pairs_keep_order_and_repeats() {
        let pairs = |query| view("/", Some(query)).query_pairs().collect::<Vec<_>>();
        let pair = |a: &'static str, b: &'static str| (Cow::Borrowed(a), Cow::Borrowed(b));
        assert_eq!(
            pairs("a=1&b&a=x+y%2B&&=z"),
            [pair("a", "1"), pair("b", ""), pair("a", "x y+"), pair("", "z")]
        );
        assert_eq!(view("/", None).query_pairs().count(), 0);
    }
}
