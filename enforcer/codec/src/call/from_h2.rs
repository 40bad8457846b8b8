//! The head of an HTTP/2 or HTTP/3 request becomes a call: what these forbid in a message, then the same rules as H1.

use std::borrow::Cow;

use bytes::Bytes;
use http::Method;

use super::{
    BodyLength, CallProtocol, Inner, Profile, Spelling, Text, Transport, Upgrade, grpc_shape, media_type,
    not_canonical, split_target,
};
use crate::canonical::{self, Kept};
use crate::fields::{Field, Fields, Span};
use crate::h2::RequestHead;
use crate::headers::{Class, Twin, hyphenated, is_value, twin};
use crate::{Limits, NotCanonical, grpc, h1};

pub(super) fn build(
    mut request: RequestHead,
    end_of_stream: bool,
    protocol: CallProtocol,
    transport: &Transport,
) -> Result<Inner, NotCanonical> {
    if request.method == Method::TRACE {
        return Err(NotCanonical::keeping("H1-05", 405, "trace is not served"));
    }
    if request.method.as_str().len() > h1::MAX_METHOD {
        return Err(NotCanonical::bad("H1-05", "the method is too long"));
    }
    let seen = Seen::of(&mut request, transport)?;
    let head = &request.head;
    let authority = authority(&request, &seen, transport)?;
    let (path, query, spelling, upgrade) = target(&request, transport)?;
    let body = match upgrade {
        None => body(seen.length, head, end_of_stream)?,
        Some(_) if end_of_stream || seen.length.is_some() => {
            return Err(NotCanonical::bad("HX-06", "connect with a body, or without a stream behind it"));
        }
        Some(_) => BodyLength::None,
    };
    let content_type = seen.content_type.map(|span| span.of(head));
    let is_grpc = content_type.is_some_and(grpc::is_grpc);
    let media_type = content_type.map(|value| media_type(value, seen.content_type)).transpose()?;
    let grpc_method = if is_grpc {
        // Its path is two names, which have one spelling.
        if let Some((rule, _)) = &spelling.other {
            return Err(not_canonical(rule));
        }
        if let Some(flaw) = spelling.kept.beyond(Kept::default()) {
            return Err(flaw);
        }
        let path = match path {
            Text::Span(span) => str::from_utf8(span.of(head)).unwrap_or_default(),
            _ => "",
        };
        grpc_shape(&request.method, path, query.is_some())?
    } else {
        None
    };
    let grpc_timeout = match seen.grpc_timeout {
        Some(value) if is_grpc => Some(
            grpc::parse_timeout(value.of(head))
                .ok_or(NotCanonical::bad("RPC-04", "grpc-timeout is malformed"))?,
        ),
        _ => None,
    };
    if upgrade == Some(Upgrade::WebSocket) {
        web_socket(&mut request, &seen)?;
    }
    Ok(Inner {
        method: request.method,
        scheme: transport.scheme,
        authority,
        path,
        has_query: query.is_some(),
        query: Text::Span(query.unwrap_or_default()),
        media_type,
        body,
        protocol: if is_grpc { CallProtocol::Grpc } else { protocol },
        upgrade,
        grpc_method,
        grpc_timeout,
        trailers: is_grpc || seen.te_trailers,
        spelling,
        fields: Fields::Wire { head: request.head, table: request.table },
    })
}

/// What one pass over the fields found. Those that are not end to end were taken out of the table.
#[derive(Default)]
struct Seen {
    host: Option<Span>,
    length: Option<Span>,
    content_type: Option<Span>,
    grpc_timeout: Option<Span>,
    websocket_version: Option<Span>,
    te_trailers: bool,
    underscores: bool,
    cookies: u32,
    singles: u16,
    size: usize,
}

impl Seen {
    fn of(request: &mut RequestHead, transport: &Transport) -> Result<Self, NotCanonical> {
        let mut seen = Self::default();
        let limits = &transport.limits;
        let RequestHead { head, table, .. } = request;
        if table.len() > limits.fields {
            return Err(NotCanonical::closing("H1-19", 431, "too many fields"));
        }
        let mut flaw = None;
        table.retain(|field| {
            flaw.is_some()
                || seen.take(*field, head, limits).unwrap_or_else(|found| {
                    flaw = Some(found);
                    true
                })
        });
        if let Some(flaw) = flaw {
            return Err(flaw);
        }
        if seen.underscores {
            drop_underscores(head, table, transport.profile);
        }
        if seen.cookies > 1 {
            join_cookies(head, table);
        }
        Ok(seen)
    }

    /// Judges one field; true when it is judged and passed on.
    fn take(&mut self, field: Field, head: &[u8], limits: &Limits) -> Result<bool, NotCanonical> {
        let (name, value) = (field.name.of(head), field.value.of(head));
        let length = name.len().saturating_add(value.len());
        self.size = self.size.saturating_add(length).saturating_add(32);
        if length > limits.field || self.size > limits.head {
            return Err(NotCanonical::closing("H1-19", 431, "a field or the head is too large"));
        }
        if !is_value(value) {
            return Err(NotCanonical::bad("H1-10", "a control byte in a value"));
        }
        // RFC 9113 8.2.1: whoever trims such a value reads another one than was judged.
        if matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t']) {
            return Err(NotCanonical::bad("HX-01", "a value that starts or ends with white space"));
        }
        if name.contains(&b'_') {
            self.underscores = true;
            if twin(name) == Twin::Guarded {
                return Err(NotCanonical::bad("H1-27", "a look-alike of a guarded name"));
            }
        }
        let (single, is_passed) = match Class::of(name) {
            Class::Connection | Class::TransferEncoding | Class::Upgrade => {
                return Err(NotCanonical::bad("HX-01", "a connection-specific field"));
            }
            Class::Dropped if matches!(name, b"keep-alive" | b"proxy-connection") => {
                return Err(NotCanonical::bad("HX-01", "a connection-specific field"));
            }
            Class::Te if value == b"trailers" => {
                self.te_trailers = true;
                (0, false)
            }
            Class::Te => return Err(NotCanonical::bad("HX-01", "te other than trailers")),
            Class::Expect if !value.eq_ignore_ascii_case(b"100-continue") => {
                return Err(NotCanonical::closing("H1-23", 417, "an expectation other than 100-continue"));
            }
            Class::Expect | Class::Dropped => (0, false),
            Class::Single(bit) => (bit, true),
            Class::Host => {
                self.host = Some(field.value);
                (1 << 8, false)
            }
            Class::ContentLength => {
                self.length = Some(field.value);
                (1 << 9, false)
            }
            Class::ContentType => {
                self.content_type = Some(field.value);
                (1 << 10, true)
            }
            Class::GrpcTimeout => {
                self.grpc_timeout = Some(field.value);
                (1 << 11, true)
            }
            Class::WebSocketKey => (1 << 12, true),
            Class::WebSocketVersion => {
                self.websocket_version = Some(field.value);
                (1 << 13, true)
            }
            Class::Plain => {
                self.cookies = self.cookies.saturating_add(u32::from(name == b"cookie"));
                (0, true)
            }
        };
        if self.singles & single != 0 {
            return Err(NotCanonical::bad("CC-10", "a single-valued field is repeated"));
        }
        self.singles |= single;
        Ok(is_passed)
    }
}

/// Names with `_` that have an ordinary hyphen twin (H1-28).
fn drop_underscores(head: &Bytes, table: &mut Vec<Field>, profile: Profile) {
    let names: Vec<Span> = table.iter().map(|field| field.name).collect();
    table.retain(|field| {
        let name = field.name.of(head);
        if !name.contains(&b'_') {
            return true;
        }
        let twin = hyphenated(name);
        profile == Profile::Mesh && !names.iter().any(|other| other.of(head) == twin)
    });
}

/// Cookie crumbs become one line, for policies as for the upstream (RFC 9113 8.2.3).
fn join_cookies(head: &mut Bytes, table: &mut Vec<Field>) {
    let mut joined = head.to_vec();
    let name = Span::new(joined.len(), b"cookie".len());
    joined.extend_from_slice(b"cookie: ");
    let start = joined.len();
    table.retain(|field| {
        let is_crumb = field.name.of(head) == b"cookie";
        // An empty one says nothing, and would leave a space at an end that HTTP/1 takes away.
        if is_crumb && field.value.len > 0 {
            if joined.len() > start {
                joined.extend_from_slice(b"; ");
            }
            joined.extend_from_slice(field.value.of(head));
        }
        !is_crumb
    });
    table.push(Field { name, value: Span::new(start, joined.len().saturating_sub(start)) });
    joined.extend_from_slice(b"\r\n");
    *head = joined.into();
}

fn authority(request: &RequestHead, seen: &Seen, transport: &Transport) -> Result<Text, NotCanonical> {
    let (head, scheme) = (&request.head, transport.scheme);
    let is_other = |given: Span| !str::from_utf8(given.of(head)).is_ok_and(|given| scheme.is(given));
    if request.scheme.is_some_and(is_other) {
        return Err(NotCanonical::bad("HX-02", "`:scheme` differs from the transport"));
    }
    let host = seen.host.map(|host| canonical::authority(host.of(head), scheme)).transpose()?;
    let Some(given) = request.authority else {
        let host = host.ok_or(NotCanonical::bad("HX-02", "neither `:authority` nor host"))?;
        return Ok(Text::Owned(host.into()));
    };
    let canonical = canonical::authority(given.of(head), scheme)?;
    if host.is_some_and(|host| host != canonical) {
        return Err(NotCanonical::bad("HX-03", "`:authority` and host differ"));
    }
    Ok(match canonical {
        // A borrowed authority is a prefix of its input.
        Cow::Borrowed(text) => Text::Span(Span::new(given.start as usize, text.len())),
        Cow::Owned(text) => Text::Owned(text.into()),
    })
}

/// What asks for a WebSocket becomes the request that HTTP/1 has for it. Its key is that of a hop over HTTP/1 (RFC 8441 5).
fn web_socket(request: &mut RequestHead, seen: &Seen) -> Result<(), NotCanonical> {
    if seen.websocket_version.map(|version| version.of(&request.head)) != Some(b"13") {
        return Err(NotCanonical::bad("H1-25", "the websocket fields are malformed"));
    }
    let RequestHead { head, table, method, .. } = request;
    table.retain(|field| Class::of(field.name.of(head)) != Class::WebSocketKey);
    *method = Method::GET;
    Ok(())
}

type Target = (Text, Option<Span>, Spelling, Option<Upgrade>);

fn target(request: &RequestHead, transport: &Transport) -> Result<Target, NotCanonical> {
    let protocol = request.protocol.map(|protocol| protocol.of(&request.head));
    if protocol.is_some_and(|protocol| protocol != b"websocket") {
        // RFC 8441 4 leaves the status open; RFC 9220 3 names this one.
        return Err(NotCanonical::keeping("HX-06", 501, "a protocol other than websocket"));
    }
    if request.method == Method::CONNECT && protocol.is_none() {
        if request.path.is_some() || request.scheme.is_some() {
            return Err(NotCanonical::bad("HX-06", "connect with `:scheme` or `:path`"));
        }
        return Ok((Text::Static(""), None, Spelling::default(), Some(Upgrade::Connect)));
    }
    // Without `:authority` the parser of HTTP/3 drops a `:scheme` that it has checked.
    if request.scheme.is_none() && request.authority.is_some() {
        return Err(NotCanonical::bad("HX-02", "`:scheme` is missing"));
    }
    let span = request.path.unwrap_or_default();
    let bytes = span.of(&request.head);
    if bytes.len() > transport.limits.target {
        return Err(NotCanonical::closing("H1-07", 414, "the target is too long"));
    }
    if bytes == b"*" && request.method == Method::OPTIONS {
        return Ok((Text::Static("*"), None, Spelling::default(), None));
    }
    let (path, query, spelling) = split_target(&request.head, span)?;
    Ok((path, query, spelling, protocol.map(|_websocket| Upgrade::WebSocket)))
}

fn body(length: Option<Span>, head: &[u8], end_of_stream: bool) -> Result<BodyLength, NotCanonical> {
    let declared = match length {
        Some(value) => Some(
            h1::content_length(value.of(head))
                .ok_or(NotCanonical::bad("H1-13", "content-length is malformed"))?,
        ),
        None => None,
    };
    match (declared, end_of_stream) {
        (Some(n), true) if n > 0 => {
            Err(NotCanonical::bad("HX-04", "the stream ended before its content-length"))
        }
        (Some(n), _) => Ok(BodyLength::Known(n)),
        (None, true) => Ok(BodyLength::None),
        (None, false) => Ok(BodyLength::Streamed),
    }
}
