//! An upstream's answer in one form: read by the proxy, printed for the downstream hop from its parts.
//!
//! Hop-by-hop and reserved fields are gone before a value of this type exists (HR-08).

use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, HeaderName};
use http::{HeaderMap, Response, StatusCode};

use crate::edits::FieldEdits;
use crate::fields::{FieldIter, Fields, length_value, put_extra};
use crate::h1::{Framing, ResponseHead, SWITCH, Version, content_length};
use crate::h2::{AnswerHead, Encoder};
use crate::headers::{Extra, is_hop_by_hop, is_reserved, is_value};
use crate::{BodyLength, NotCanonical};

/// What kind of request an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// HEAD: the answer has no body, whatever it declares.
    Head,
    /// A WebSocket: the answer may be a switch of protocols (RFC 6455 4.2.2).
    WebSocket,
    /// Anything else.
    Other,
}

impl Asked {
    /// By method.
    pub fn by(method: &http::Method) -> Self {
        if *method == http::Method::HEAD { Self::Head } else { Self::Other }
    }
}

/// The head of an answer.
#[derive(Debug)]
pub struct Answer {
    status: u16,
    declared: Option<u64>,
    body: BodyLength,
    fields: Fields,
}

/// The HTTP/1 connection on which an answer is printed.
#[derive(Debug, Clone, Copy)]
pub struct Downstream {
    /// Version of the request.
    pub version: Version,
    /// The connection should serve another request.
    pub keep_alive: bool,
}

/// How the printed answer goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// In this form the body must be written.
    pub framing: Framing,
    /// After the body the connection must be closed.
    pub close: bool,
}

impl Answer {
    /// From the head of an HTTP/1 upstream.
    pub fn from_h1(head: ResponseHead) -> Self {
        let body = match head.framing() {
            Framing::Empty => BodyLength::None,
            Framing::Length(length) => BodyLength::Known(length),
            Framing::Chunked | Framing::UntilClose => BodyLength::Streamed,
        };
        Self {
            status: head.status(),
            declared: head.length,
            body,
            fields: Fields::Wire { head: head.head, table: head.table },
        }
    }

    /// From the parts of an HTTP/3 answer; `end_of_stream` when no DATA frame follows.
    ///
    /// # Errors
    /// HR-01 when content-length is malformed, repeated, or promises a body that does not come.
    pub fn from_h3(
        parts: http::response::Parts,
        end_of_stream: bool,
        asked: Asked,
    ) -> Result<Self, NotCanonical> {
        let http::response::Parts { status, mut headers, .. } = parts;
        let lengths = headers.get_all(CONTENT_LENGTH).iter();
        let declared = declared(lengths.map(http::HeaderValue::as_bytes))?;
        let status = status.as_u16();
        let body = framed_body(status, declared, end_of_stream, asked)?;
        strip(&mut headers);
        Ok(Self { status, declared, body, fields: Fields::Map(headers) })
    }

    /// From the head of an HTTP/2 answer; `end_of_stream` when no DATA frame follows.
    ///
    /// # Errors
    /// As [`Self::from_h3`].
    pub fn from_h2(head: AnswerHead, end_of_stream: bool, asked: Asked) -> Result<Self, NotCanonical> {
        let status = head.status();
        let AnswerHead { head, mut table, .. } = head;
        let lengths = table.iter().filter(|field| field.name.of(&head) == CONTENT_LENGTH.as_str().as_bytes());
        let declared = declared(lengths.map(|field| field.value.of(&head)))?;
        let body = framed_body(status, declared, end_of_stream, asked)?;
        table.retain(|field| !is_stripped(field.name.of(&head)));
        Ok(Self { status, declared, body, fields: Fields::Wire { head, table } })
    }

    /// The same with other fields.
    #[must_use]
    pub fn edited(mut self, edits: &FieldEdits) -> Self {
        let mut map = self.fields.to_map(&[]);
        edits.apply(&mut map);
        self.fields = Fields::Map(map);
        self
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// After this head both sides speak another protocol.
    pub fn is_switch(&self) -> bool {
        self.status == 101
    }

    /// The length of the body that follows.
    pub fn body(&self) -> BodyLength {
        self.body
    }

    /// The end-to-end fields, without framing.
    pub fn headers(&self) -> FieldIter<'_> {
        self.fields.iter()
    }

    /// The values of one field, by its lower-case name.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.headers().named(name)
    }

    /// Appends the HTTP/1.1 head for the caller and says how its body must be written.
    pub fn write_h1(&self, down: Downstream, out: &mut BytesMut, extra: &[Extra<'_>]) -> Sent {
        crate::h1::put_status(out, self.status);
        self.fields.write_h1(out);
        put_extra(out, extra);
        if self.is_switch() {
            out.extend_from_slice(SWITCH);
            out.extend_from_slice(b"\r\n");
            return Sent { framing: Framing::UntilClose, close: true };
        }
        let framing = match (self.body, down.version) {
            (BodyLength::None, _) => Framing::Empty,
            (BodyLength::Known(length), _) => Framing::Length(length),
            (BodyLength::Streamed, Version::Http11) => Framing::Chunked,
            (BodyLength::Streamed, Version::Http10) => Framing::UntilClose,
        };
        let close = !down.keep_alive || down.version == Version::Http10 || framing == Framing::UntilClose;
        // An answer to HEAD and a 304 keep the length they declare; 1xx and 204 never carry one.
        let declared = self.declared.filter(|_| self.status >= 200 && self.status != 204);
        let shown = match (framing, declared) {
            (Framing::Empty, Some(length)) => Framing::Length(length),
            (framing, _) => framing,
        };
        crate::h1::put_framing(out, shown, close && self.status >= 200);
        Sent { framing, close }
    }

    /// Appends the fields of the HTTP/2 head for the caller, with the proxy's own in place of equal names.
    pub fn write_h2(&self, encoder: &mut Encoder, out: &mut Vec<u8>, extra: &[Extra<'_>]) {
        for (name, value) in self.headers() {
            // Of the handshake of another hop.
            if self.is_switch() && name == "sec-websocket-accept" {
                continue;
            }
            if !extra.iter().any(|(own, _)| *own == name) {
                encoder.field(name.as_bytes(), value, out);
            }
        }
        for (name, value) in extra.iter().filter(|(_, value)| is_value(value)) {
            encoder.field(name.as_bytes(), value, out);
        }
        if let Some(length) = self.shown_length() {
            encoder.field(b"content-length", itoa::Buffer::new().format(length).as_bytes(), out);
        }
    }

    /// The head for a caller over HTTP/3.
    pub fn to_h2(&self, extra: &[Extra<'_>]) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_GATEWAY);
        *response.version_mut() = http::Version::HTTP_2;
        let mut map = self.fields.to_map(extra);
        if let Some(length) = self.shown_length() {
            map.insert(CONTENT_LENGTH, length_value(length));
        }
        *response.headers_mut() = map;
        response
    }

    /// The length that an answer over HTTP/2 or HTTP/3 declares.
    fn shown_length(&self) -> Option<u64> {
        match self.body {
            BodyLength::Known(length) => Some(length),
            BodyLength::None => self.declared.filter(|_| self.status >= 200 && self.status != 204),
            BodyLength::Streamed => None,
        }
    }
}

/// The length that an answer declares, once.
fn declared<'a>(mut lengths: impl Iterator<Item = &'a [u8]>) -> Result<Option<u64>, NotCanonical> {
    const LENGTH: NotCanonical = NotCanonical::keeping("HR-01", 502, "content-length is malformed");
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => content_length(value).ok_or(LENGTH).map(Some),
        (Some(_), Some(_)) => Err(LENGTH),
    }
}

/// The body of an answer that came in frames.
fn framed_body(
    status: u16,
    declared: Option<u64>,
    end_of_stream: bool,
    asked: Asked,
) -> Result<BodyLength, NotCanonical> {
    let bodiless = asked == Asked::Head || matches!(status, 100..200 | 204 | 304);
    Ok(match (bodiless, end_of_stream, declared) {
        (true, _, _) => BodyLength::None,
        (false, true, Some(length)) if length > 0 => {
            return Err(NotCanonical::keeping("HR-05", 502, "the stream ended before its content-length"));
        }
        (false, _, Some(length)) => BodyLength::Known(length),
        (false, true, None) => BodyLength::Known(0),
        (false, false, None) => BodyLength::Streamed,
    })
}

fn is_stripped(name: &[u8]) -> bool {
    name == CONTENT_LENGTH.as_str().as_bytes() || is_hop_by_hop(name) || is_reserved(name)
}

fn strip(headers: &mut HeaderMap) {
    let gone: Vec<HeaderName> =
        headers.keys().filter(|name| is_stripped(name.as_str().as_bytes())).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}
