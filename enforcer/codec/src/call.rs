//! The canonical call: one immutable value per request, which policies judge and the upstream receives.
//!
//! Built by the codec from a parsed HTTP/1 head or from HTTP/2 request parts; read by the router, the
//! authorizer and the record; printed for the next hop from its parts only (CC-09). It refuses whatever has
//! two readings: see [`NotCanonical`]. It knows no peer, no route and no resource (SETTLED S13).

mod from_h1;
mod from_h2;
mod print;
mod rewrite;
#[cfg(test)]
mod tests;

pub use rewrite::Rewriting;

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::canonical::{self, Kept, Path};
use crate::fields::{FieldIter, Fields, Span};
use crate::{NotCanonical, grpc, h1, h2};

/// One request in canonical form. Cloning copies a pointer.
#[derive(Debug, Clone)]
pub struct Call(Arc<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    method: Method,
    scheme: Scheme,
    authority: Text,
    path: Text,
    query: Text,
    has_query: bool,
    media_type: Option<Text>,
    body: BodyLength,
    protocol: CallProtocol,
    upgrade: Option<Upgrade>,
    /// Where the method starts in the path of a well-formed gRPC call.
    grpc_method: Option<usize>,
    grpc_timeout: Option<Duration>,
    trailers: bool,
    spelling: Spelling,
    fields: Fields,
}

/// How the path was sent.
#[derive(Debug, Clone, Default)]
struct Spelling {
    kept: Kept,
    /// The first rule that it breaks, and what was sent; none = it was canonical.
    other: Option<(&'static str, Box<str>)>,
}

/// Where a text of the call lives. Spans point into the frozen head, so most calls own no string at all.
#[derive(Debug, Clone)]
enum Text {
    Span(Span),
    Static(&'static str),
    Owned(Box<str>),
}

/// What the listener knows about the connection, from the socket and its configuration, never from bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transport {
    /// `https` behind TLS; `:scheme` and absolute targets must agree with it.
    pub scheme: Scheme,
    /// How strictly odd but harmless names are treated.
    pub profile: Profile,
    /// Serves HTTP/1.0 requests that carry no Host; without it they are refused (H1-08).
    pub default_host: Option<Box<str>>,
    /// Limits of the head.
    pub limits: crate::Limits,
}

impl Transport {
    /// A mesh listener with the default limits.
    pub fn new(scheme: Scheme) -> Self {
        Self { scheme, profile: Profile::Mesh, default_host: None, limits: crate::Limits::default() }
    }
}

/// The scheme of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that an authority leaves out.
    pub(crate) const fn default_port(self) -> &'static str {
        match self {
            Self::Http => "80",
            Self::Https => "443",
        }
    }
}

/// What names with `_` get (H1-28).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Dropped before judging.
    Edge,
    /// Dropped only beside their hyphen twin.
    Mesh,
}

/// How long the body of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// No body at all.
    None,
    /// Exactly so many bytes, as declared.
    Known(u64),
    /// Ends when its framing says so.
    Streamed,
}

/// The protocol in which a call arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallProtocol {
    /// HTTP/1.1 or 1.0.
    H1,
    /// HTTP/2.
    H2,
    /// HTTP/3.
    H3,
    /// gRPC over HTTP/2 or HTTP/3.
    Grpc,
    /// No HTTP: the connection itself is the call.
    Tcp,
}

/// What a call asks the connection to become. Honoured only where a route allows it (H1-24).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// A WebSocket.
    WebSocket,
    /// A tunnel.
    Connect,
}

impl Call {
    /// From an accepted HTTP/1 head.
    ///
    /// # Errors
    /// The broken rule, when target, authority or path have no single reading.
    pub fn from_h1(head: h1::RequestHead, transport: &Transport) -> Result<Self, NotCanonical> {
        from_h1::build(head, transport).map(|inner| Self(Arc::new(inner)))
    }

    /// From the head of an HTTP/2 request; `end_of_stream` when no DATA frame can follow.
    ///
    /// # Errors
    /// The broken rule, to be answered on the stream.
    pub fn from_h2(
        head: h2::RequestHead,
        end_of_stream: bool,
        transport: &Transport,
    ) -> Result<Self, NotCanonical> {
        from_h2::build(head, end_of_stream, CallProtocol::H2, transport)
            .map(|inner| Self(Arc::new(inner)))
            .map_err(NotCanonical::on_stream)
    }

    /// From the parts of a request that another parser took apart (HTTP/3), by the same rules.
    ///
    /// # Errors
    /// The broken rule, to be answered on the stream.
    pub fn from_parts(
        parts: &http::request::Parts,
        end_of_stream: bool,
        transport: &Transport,
    ) -> Result<Self, NotCanonical> {
        let protocol = match parts.version {
            http::Version::HTTP_3 => CallProtocol::H3,
            _ => CallProtocol::H2,
        };
        from_h2::build(h2::RequestHead::of_parts(parts), end_of_stream, protocol, transport)
            .map(|inner| Self(Arc::new(inner)))
            .map_err(NotCanonical::on_stream)
    }

    /// A connection of which nothing is read: the call is that it may be (TP-02).
    pub fn tcp() -> Self {
        let nothing = || Text::Static("");
        Self(Arc::new(Inner {
            method: Method::CONNECT,
            scheme: Scheme::Https,
            authority: nothing(),
            path: nothing(),
            query: nothing(),
            has_query: false,
            media_type: None,
            body: BodyLength::Streamed,
            protocol: CallProtocol::Tcp,
            upgrade: None,
            grpc_method: None,
            grpc_timeout: None,
            trailers: false,
            spelling: Spelling::default(),
            fields: Fields::Map(http::HeaderMap::new()),
        }))
    }

    /// The method, case kept.
    pub fn method(&self) -> &str {
        self.0.method.as_str()
    }

    /// The method as a value of `http`.
    pub fn http_method(&self) -> &Method {
        &self.0.method
    }

    /// The scheme of the transport.
    pub fn scheme(&self) -> Scheme {
        self.0.scheme
    }

    /// Lower-case host, with its port unless that is the scheme's own.
    pub fn authority(&self) -> &str {
        self.text(&self.0.authority)
    }

    /// The authority without port; IPv6 keeps its brackets.
    pub fn host(&self) -> &str {
        let authority = self.authority();
        match authority.rsplit_once(':') {
            Some((host, _)) if !host.is_empty() && !authority.ends_with(']') => host,
            _ => authority,
        }
    }

    /// Host and port that a CONNECT asks a tunnel to; IPv6 keeps its brackets.
    pub fn target(&self) -> Option<(&str, u16)> {
        if self.0.upgrade != Some(Upgrade::Connect) {
            return None;
        }
        let (authority, host) = (self.authority(), self.host());
        let port = authority.strip_prefix(host)?.strip_prefix(':').unwrap_or(self.0.scheme.default_port());
        Some((host, port.parse().ok()?))
    }

    /// Canonical path: starts with `/`, or is `*` (OPTIONS), or empty (CONNECT).
    pub fn path(&self) -> &str {
        self.text(&self.0.path)
    }

    /// Why the call cannot be on a route that keeps only `these` parts of a path, and takes paths in another spelling or not
    /// (CC-03, CC-06, CC-08). What is judged and passed on is the canonical path in any case.
    #[must_use]
    pub fn misspelled(&self, these: Kept, takes_others: bool) -> Option<NotCanonical> {
        let Spelling { kept, other } = &self.0.spelling;
        let odd = other.as_ref().filter(|_| !takes_others);
        let flaw = kept.beyond(these).or_else(|| odd.map(|(rule, _)| not_canonical(rule)))?;
        Some(NotCanonical { close: self.0.protocol == CallProtocol::H1, ..flaw })
    }

    /// The path as it was sent, where that is not the canonical one: for the log, and for nothing else.
    #[must_use]
    pub fn sent_path(&self) -> Option<&str> {
        self.0.spelling.other.as_ref().map(|(_, sent)| &**sent)
    }

    /// The same call, which asks to become nothing else (H1-24).
    #[must_use]
    #[cold]
    pub fn without_upgrade(&self) -> Self {
        Self(Arc::new(Inner { upgrade: None, ..Inner::clone(&self.0) }))
    }

    /// The query without `?`, verbatim.
    pub fn query(&self) -> Option<&str> {
        self.0.has_query.then(|| self.text(&self.0.query))
    }

    /// The end-to-end fields, which are judged and passed on: lower-case names, trimmed values. Host, framing,
    /// hop-by-hop and reserved fields are not among them.
    pub fn headers(&self) -> FieldIter<'_> {
        self.0.fields.iter()
    }

    /// The values of one field, by its lower-case name.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.headers().named(name)
    }

    /// The values of a field that a policy or a route reads, as text.
    ///
    /// # Errors
    /// H1-11 when a value has bytes outside ASCII: never a lossy reading (CC-11).
    pub fn header_texts<'a>(&'a self, name: &'a str) -> Result<Vec<&'a str>, NotCanonical> {
        self.header(name)
            .map(|value| str::from_utf8(value).ok().filter(|text| text.is_ascii()))
            .collect::<Option<_>>()
            .ok_or_else(|| self.unreadable())
    }

    /// What refuses this call when a field that is read has a value that is no ASCII text (H1-11, HV-08).
    pub fn unread(&self, is_read: impl Fn(&str) -> bool) -> Option<NotCanonical> {
        let is_odd = self.headers().any(|(name, value)| !value.is_ascii() && is_read(name));
        is_odd.then(|| self.unreadable())
    }

    /// What refuses this call when a value that is read is no text: of a field, ASCII; of a query, UTF-8 (H1-11, CC-11).
    pub fn unreadable(&self) -> NotCanonical {
        NotCanonical {
            close: self.0.protocol == CallProtocol::H1,
            ..NotCanonical::bad("H1-11", "a value that is read is no text")
        }
    }

    /// The type and subtype of the body, lower-case, without parameters.
    pub fn media_type(&self) -> Option<&str> {
        self.0.media_type.as_ref().map(|text| self.text(text))
    }

    /// How long the body is.
    pub fn body(&self) -> BodyLength {
        self.0.body
    }

    /// The protocol.
    pub fn protocol(&self) -> CallProtocol {
        self.0.protocol
    }

    /// What the connection is asked to become.
    pub fn upgrade(&self) -> Option<Upgrade> {
        self.0.upgrade
    }

    /// Service and method of a gRPC call; none when its path is not exactly `/pkg.Service/Method`.
    pub fn grpc(&self) -> Option<(&str, &str)> {
        grpc::split_at(self.path(), self.0.grpc_method?)
    }

    /// The caller's `grpc-timeout`.
    pub fn grpc_timeout(&self) -> Option<Duration> {
        self.0.grpc_timeout
    }

    /// True when the caller takes trailers (always for gRPC).
    pub fn accepts_trailers(&self) -> bool {
        self.0.trailers
    }

    fn text<'a>(&'a self, text: &'a Text) -> &'a str {
        match (text, &self.0.fields) {
            (Text::Span(span), Fields::Wire { head, .. }) => {
                str::from_utf8(span.of(head)).unwrap_or_default()
            }
            (Text::Span(_), Fields::Map(_)) => "",
            (Text::Static(text), _) => text,
            (Text::Owned(text), _) => text,
        }
    }
}

fn not_canonical(rule: &'static str) -> NotCanonical {
    NotCanonical::bad(rule, "the path is not in canonical form")
}

/// Canonical path and query of the target that stands there, and how the path was spelled.
fn split_target(head: &[u8], target: Span) -> Result<(Text, Option<Span>, Spelling), NotCanonical> {
    let (bytes, start) = (target.of(head), target.start as usize);
    let (path, query) = match memchr::memchr(b'?', bytes) {
        Some(at) => {
            let from = at.saturating_add(1);
            (at, Some(Span::new(start.saturating_add(from), bytes.len().saturating_sub(from))))
        }
        None => (bytes.len(), None),
    };
    if let Some(query) = query {
        check_query(query.of(head))?;
    }
    let sent = bytes.get(..path).unwrap_or_default();
    Ok(match canonical::spelled(sent)? {
        (Path::Canonical(_), kept) => {
            (Text::Span(Span::new(start, path)), query, Spelling { kept, other: None })
        }
        (Path::Other { canonical, rule }, kept) => {
            // INVARIANT: what has a canonical form is ASCII.
            let sent = str::from_utf8(sent).unwrap_or_default().into();
            (Text::Owned(canonical.into()), query, Spelling { kept, other: Some((rule, sent)) })
        }
    })
}

/// Media type of a content-type value; the common ones cost no allocation.
fn media_type(value: &[u8], at: Option<Span>) -> Result<Text, NotCanonical> {
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    let kind = value.get(..end).unwrap_or_default().trim_ascii();
    let text = str::from_utf8(kind)
        .ok()
        .filter(|text| text.is_ascii())
        .ok_or(NotCanonical::bad("H1-11", "content-type has bytes outside ascii"))?;
    Ok(match (text, at) {
        ("application/grpc", _) => Text::Static("application/grpc"),
        ("application/json", _) => Text::Static("application/json"),
        (_, Some(at)) if !kind.iter().any(u8::is_ascii_uppercase) => {
            Text::Span(Span::new(at.start as usize, kind.len()))
        }
        _ => Text::Owned(text.to_ascii_lowercase().into()),
    })
}

/// What a recognised gRPC request must look like (RPC-01).
fn grpc_shape(method: &Method, path: &str, has_query: bool) -> Result<Option<usize>, NotCanonical> {
    if *method != Method::POST {
        return Err(NotCanonical::keeping("RPC-01", 405, "a grpc call is a post"));
    }
    Ok(if has_query { None } else { grpc::method_offset(path) })
}

/// Bytes of a query: visible ASCII that every HTTP version can carry (CC-02).
fn check_query(query: &[u8]) -> Result<(), NotCanonical> {
    let odd = |&b: &u8| !(0x21..=0x7e).contains(&b) || matches!(b, b'"' | b'#' | b'<' | b'>' | b'\\');
    if query.iter().any(odd) {
        return Err(NotCanonical::bad("CC-02", "a byte of the query must be percent-encoded"));
    }
    Ok(())
}
