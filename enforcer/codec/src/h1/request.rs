//! Request heads: the request line, the fields, and what they say about this hop.
//!
//! Called by the proxy with a connection's read buffer. It refuses rows H1-01 to H1-28 of hardening.md 3 as
//! far as they need no listener; the rest is judged when the head becomes a [`Call`](crate::Call).

use bytes::{Bytes, BytesMut};
use http::Method;

use super::reader::{Flaw, Line, Reader, content_length};
use super::{Framing, MAX_METHOD, Parse, Version, Wire};
use crate::fields::{Field, Span};
use crate::headers::{Class, Twin, twin};
use crate::token::is_token;
use crate::{Limits, NotCanonical};

/// A request head that passed the gate: an offset table over its own bytes.
#[derive(Debug)]
pub struct RequestHead {
    pub(crate) head: Bytes,
    pub(crate) method: Method,
    pub(crate) target: Span,
    pub(crate) version: Version,
    pub(crate) table: Vec<Field>,
    pub(crate) host: Option<Span>,
    pub(crate) content_type: Option<Span>,
    pub(crate) connection_names: Vec<Span>,
    pub(crate) underscores: bool,
    pub(crate) websocket: bool,
    pub(crate) expect_unknown: bool,
    pub(crate) te_trailers: bool,
    pub(crate) framing: Framing,
    expects_continue: bool,
    keep_alive: bool,
}

impl RequestHead {
    /// What concerns this hop only; take it before the head becomes a call.
    pub fn wire(&self) -> Wire {
        Wire {
            version: self.version,
            framing: self.framing,
            keep_alive: self.keep_alive,
            expects_continue: self.expects_continue,
        }
    }
}

/// Parses one head that starts at the front of `buffer`.
pub fn parse_request_head(buffer: &mut BytesMut, limits: &Limits) -> Parse<RequestHead> {
    RequestParser::new(*limits).parse(buffer)
}

/// The parser of one connection. It continues where it stopped, so slow heads cost linear time.
#[derive(Debug)]
pub struct RequestParser {
    limits: Limits,
    reader: Reader,
    start: Option<StartLine>,
    blank: bool,
    found: Found,
}

impl RequestParser {
    /// A parser at the start of a connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, reader: Reader::default(), start: None, blank: false, found: Found::default() }
    }

    /// True when bytes of an unfinished head were seen: silence now is a slow head (H1-32).
    pub fn is_started(&self) -> bool {
        self.start.is_some() || self.blank || self.reader.at != 0
    }

    /// Goes on with the bytes so far; between calls `buffer` may only grow. A complete head is taken out.
    pub fn parse(&mut self, buffer: &mut BytesMut) -> Parse<RequestHead> {
        match self.advance(buffer) {
            Ok(None) => Parse::Incomplete,
            Ok(Some(start)) => {
                let at = std::mem::take(&mut self.reader).at;
                let found = std::mem::take(&mut self.found);
                self.blank = false;
                match found.finish(start, buffer.split_to(at).freeze()) {
                    Ok(head) => Parse::Done(head),
                    Err(flaw) => Parse::Refused(flaw),
                }
            }
            Err(flaw) => Parse::Refused(flaw),
        }
    }

    fn advance(&mut self, buffer: &mut [u8]) -> Result<Option<StartLine>, NotCanonical> {
        while self.start.is_none() {
            // Method, two spaces and version may stand around the longest target.
            let limit = self.limits.target.saturating_add(MAX_METHOD).saturating_add(10);
            let line = match self.reader.line(buffer, limit) {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(None),
                Err(Flaw::TooLong) => return Err(TARGET),
                Err(Flaw::Refused(flaw)) => return Err(flaw),
            };
            if !line.is_empty() {
                self.start = Some(StartLine::of(buffer, line, &self.limits)?);
                self.found.table.reserve(16);
            } else if std::mem::replace(&mut self.blank, true) {
                return Err(NotCanonical::bad("H1-02", "more than one empty line before the request"));
            }
        }
        loop {
            match self.reader.field(buffer, &self.limits)? {
                None => return Ok(None),
                Some(None) => return Ok(self.start.take()),
                Some(Some((field, underscore))) => self.found.take(buffer, field, underscore)?,
            }
        }
    }
}

const TARGET: NotCanonical = NotCanonical::closing("H1-07", 414, "the target is too long");

#[derive(Debug)]
struct StartLine {
    method: Method,
    target: Span,
    version: Version,
}

impl StartLine {
    fn of(buffer: &[u8], line: Line, limits: &Limits) -> Result<Self, NotCanonical> {
        const FORM: NotCanonical =
            NotCanonical::bad("H1-03", "the request line is not `method target HTTP/1.x`");
        let text = buffer.get(line.start..line.end).unwrap_or_default();
        match memchr::memchr2(b'\r', b'\t', text).and_then(|at| text.get(at)) {
            None => {}
            Some(b'\r') => return Err(NotCanonical::bad("H1-01", "a bare cr")),
            Some(_) => return Err(FORM),
        }
        let mut parts = text.split(|&byte| byte == b' ');
        let (Some(method), Some(target), version) = (parts.next(), parts.next(), parts.next()) else {
            return Err(FORM);
        };
        if parts.next().is_some() || target.is_empty() {
            return Err(FORM);
        }
        let Some(version) = version else {
            return Err(NotCanonical::bad("H1-04", "no protocol version: http/0.9 is not served"));
        };
        if method.len() > MAX_METHOD || !is_token(method) {
            return Err(NotCanonical::bad("H1-05", "the method is not a token of at most 32 bytes"));
        }
        let version = match version {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] => return Err(other_version(*major, *minor)),
            _ => return Err(FORM),
        };
        if target.len() > limits.target {
            return Err(TARGET);
        }
        if target.iter().any(|&b| !matches!(b, 0x21..=0x7e) || matches!(b, b'#' | b'\\')) {
            return Err(NotCanonical::bad("H1-07", "a byte that no target may have"));
        }
        let method_len = method.len();
        let method = Method::from_bytes(method)
            .map_err(|_odd| NotCanonical::bad("H1-05", "the method is not a token of at most 32 bytes"))?;
        let target = Span::new(line.start.saturating_add(method_len).saturating_add(1), target.len());
        Ok(Self { method, target, version })
    }
}

/// H1-04: which answer a version gets that is not 1.0 or 1.1.
fn other_version(major: u8, minor: u8) -> NotCanonical {
    match (major, minor) {
        (b'1', b'2'..=b'9') | (b'2'..=b'9', b'1'..=b'9') | (b'3'..=b'9', b'0') => {
            NotCanonical::closing("H1-04", 505, "this http version is not served")
        }
        (b'2', b'0') => NotCanonical::bad("H1-04", "an http/2 preface or version on an http/1 connection"),
        (b'0', b'0'..=b'9') => NotCanonical::bad("H1-04", "http/0.9 is not served"),
        _ => NotCanonical::bad("H1-03", "the request line is not `method target HTTP/1.x`"),
    }
}

/// What the fields so far said.
#[derive(Debug, Default)]
struct Found {
    table: Vec<Field>,
    host: Option<Span>,
    content_type: Option<Span>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    connection_names: Vec<Span>,
    upgrade: Option<Span>,
    expects_continue: bool,
    expect_unknown: bool,
    te_trailers: bool,
    websocket_key: Option<Span>,
    websocket_version: Option<Span>,
    grpc_timeout: Option<Span>,
    singles: u16,
    underscores: bool,
}

impl Found {
    fn take(&mut self, buffer: &[u8], field: Field, underscore: bool) -> Result<(), NotCanonical> {
        const REPEATED: NotCanonical = NotCanonical::bad("H1-20", "a single-valued field is repeated");
        let value = field.value.of(buffer);
        let name = field.name.of(buffer);
        if underscore {
            self.underscores = true;
            if twin(name) == Twin::Guarded {
                return Err(NotCanonical::bad("H1-27", "a look-alike of a guarded name"));
            }
        }
        match Class::of(name) {
            Class::Plain => self.table.push(field),
            Class::Dropped => {}
            Class::Single(bit) => {
                if self.singles & bit != 0 {
                    return Err(REPEATED);
                }
                self.singles |= bit;
                self.table.push(field);
            }
            Class::ContentType => self.once(|found| &mut found.content_type, field, REPEATED)?,
            Class::GrpcTimeout => self.once(|found| &mut found.grpc_timeout, field, REPEATED)?,
            Class::WebSocketKey => self.once(|found| &mut found.websocket_key, field, REPEATED)?,
            Class::WebSocketVersion => self.once(|found| &mut found.websocket_version, field, REPEATED)?,
            Class::Host => {
                if self.host.replace(field.value).is_some() {
                    return Err(NotCanonical::bad("H1-08", "host is repeated"));
                }
            }
            Class::ContentLength => {
                let length = content_length(value)
                    .ok_or(NotCanonical::bad("H1-13", "content-length is not one plain number"))?;
                if self.length.replace(length).is_some() {
                    return Err(NotCanonical::bad("H1-13", "content-length is repeated"));
                }
            }
            Class::TransferEncoding => {
                if value != b"chunked" || std::mem::replace(&mut self.chunked, true) {
                    return Err(NotCanonical::bad("H1-14", "transfer-encoding is not exactly `chunked`"));
                }
            }
            Class::Connection => self.options(buffer, field.value)?,
            Class::Te => self.te_trailers |= value.eq_ignore_ascii_case(b"trailers"),
            Class::Upgrade => self.upgrade = Some(field.value),
            Class::Expect => {
                let known = value.eq_ignore_ascii_case(b"100-continue");
                self.expects_continue |= known;
                self.expect_unknown |= !known;
            }
        }
        Ok(())
    }

    fn once(
        &mut self,
        slot: impl Fn(&mut Self) -> &mut Option<Span>,
        field: Field,
        repeated: NotCanonical,
    ) -> Result<(), NotCanonical> {
        if slot(self).replace(field.value).is_some() {
            return Err(repeated);
        }
        self.table.push(field);
        Ok(())
    }

    /// The options of one `Connection` line; names of other fields are kept for the call.
    fn options(&mut self, buffer: &[u8], value: Span) -> Result<(), NotCanonical> {
        let mut at = value.start as usize;
        for part in value.of(buffer).split(|&byte| byte == b',') {
            let lead = part.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
            let option = part.trim_ascii();
            let span = Span::new(at.saturating_add(lead), option.len());
            at = at.saturating_add(part.len()).saturating_add(1);
            if !option.is_empty() && !is_token(option) {
                return Err(NotCanonical::bad("H1-21", "connection is not a list of names"));
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_option = true;
            } else if !option.is_empty() {
                self.connection_names.push(span);
            }
        }
        Ok(())
    }

    fn finish(self, start: StartLine, head: Bytes) -> Result<RequestHead, NotCanonical> {
        let websocket = self.websocket(&start, &head);
        let tunnel = websocket || start.method == Method::CONNECT;
        if self.chunked {
            if self.length.is_some() {
                return Err(NotCanonical::bad("H1-12", "content-length together with transfer-encoding"));
            }
            if start.version == Version::Http10 || tunnel {
                return Err(NotCanonical::bad("H1-15", "transfer-encoding where none can be"));
            }
        }
        if start.version == Version::Http11 && self.host.is_none() {
            return Err(NotCanonical::bad("H1-08", "host is missing"));
        }
        if tunnel && self.length.is_some_and(|length| length > 0) {
            return Err(NotCanonical::bad("H1-25", "a body with an upgrade or connect"));
        }
        if websocket && !self.websocket_fields_are_valid(&head) {
            return Err(NotCanonical::bad("H1-25", "the websocket fields are malformed"));
        }
        let framing = match (self.chunked, self.length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::Empty,
        };
        Ok(RequestHead {
            keep_alive: start.version == Version::Http11 && !self.close,
            method: start.method,
            target: start.target,
            version: start.version,
            table: self.table,
            host: self.host,
            content_type: self.content_type,
            connection_names: self.connection_names,
            underscores: self.underscores,
            websocket,
            expect_unknown: self.expect_unknown,
            expects_continue: self.expects_continue && start.version == Version::Http11,
            te_trailers: self.te_trailers,
            framing,
            head,
        })
    }

    /// H1-24: without `Connection: upgrade`, or for another protocol, the request goes on as it is.
    fn websocket(&self, start: &StartLine, head: &[u8]) -> bool {
        self.upgrade_option
            && start.method == Method::GET
            && start.version == Version::Http11
            && self.upgrade.is_some_and(|span| span.of(head).eq_ignore_ascii_case(b"websocket"))
    }

    fn websocket_fields_are_valid(&self, head: &[u8]) -> bool {
        let key = self.websocket_key.map(|span| span.of(head)).unwrap_or_default();
        let version = self.websocket_version.map(|span| span.of(head)).unwrap_or_default();
        let is_base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
        version == b"13"
            && key.len() == 24
            && key.strip_suffix(b"==").is_some_and(|digits| digits.iter().all(is_base64))
    }
}
