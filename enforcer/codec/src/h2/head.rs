//! The heads of messages as HTTP/2 and HTTP/3 have them: pseudo-header fields, then fields, over one buffer.
//!
//! What makes a message malformed (RFC 9113 8.1.1) is found here; what a call may not be is judged when the head becomes a
//! [`Call`](crate::Call).

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::hpack::Lines;
use crate::fields::{Field, Span};
use crate::h1::content_length;
use crate::headers::is_value;
use crate::{NotCanonical, grpc, token};

/// The head of a request.
#[derive(Debug)]
pub struct RequestHead {
    /// Each field as the line that HTTP/1 prints.
    pub(crate) head: Bytes,
    pub(crate) method: Method,
    pub(crate) scheme: Option<Span>,
    pub(crate) authority: Option<Span>,
    pub(crate) path: Option<Span>,
    /// What the stream is to become (RFC 8441 4).
    pub(crate) protocol: Option<Span>,
    pub(crate) table: Vec<Field>,
}

/// The head of an answer.
#[derive(Debug)]
pub struct AnswerHead {
    /// Each field as the line that HTTP/1 prints.
    pub(crate) head: Bytes,
    pub(crate) table: Vec<Field>,
    status: u16,
}

/// A message that is malformed: its stream ends with PROTOCOL_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Why a head makes no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    Malformed,
    /// It is answered.
    Refused(NotCanonical),
}

impl From<Malformed> for Unfit {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

const TOO_LARGE: NotCanonical = NotCanonical::keeping("H1-19", 431, "too many fields, or too large ones");

impl RequestHead {
    /// From the fields of a header block.
    pub(super) fn of(lines: &Lines) -> Result<Self, Unfit> {
        if lines.is_over {
            return Err(Unfit::Refused(TOO_LARGE));
        }
        let bytes = &lines.bytes;
        let (pseudo, fields) = parted(lines)?;
        let [mut method, mut scheme, mut authority, mut path, mut protocol] = [None; 5];
        for field in pseudo {
            let slot = match field.name.of(bytes) {
                b":method" => &mut method,
                b":scheme" => &mut scheme,
                b":authority" => &mut authority,
                b":path" => &mut path,
                b":protocol" => &mut protocol,
                _ => return Err(Unfit::Malformed),
            };
            if slot.replace(field.value).is_some() {
                return Err(Unfit::Malformed);
            }
        }
        are_proper(fields, bytes)?;
        let method = Method::from_bytes(method.ok_or(Malformed)?.of(bytes)).map_err(|_odd| Malformed)?;
        let is_whole = scheme.is_some() && path.is_some_and(|path| path.len > 0);
        let is_fit = match (method == Method::CONNECT, protocol) {
            (false, None) | (true, Some(_)) => is_whole,
            (false, Some(_)) => false,
            (true, None) => true,
        };
        if !is_fit {
            return Err(Unfit::Malformed);
        }
        let head = Bytes::copy_from_slice(bytes);
        Ok(Self { head, method, scheme, authority, path, protocol, table: fields.to_vec() })
    }

    /// From the parts of a request whose fields another parser took apart (HTTP/3).
    pub(crate) fn of_parts(parts: &http::request::Parts) -> Self {
        let mut lines = Lines::default();
        let mut put = |name: &str, value: &[u8]| {
            let start = lines.bytes.len();
            lines.bytes.extend_from_slice(name.as_bytes());
            lines.bytes.extend_from_slice(b": ");
            lines.bytes.extend_from_slice(value);
            lines.bytes.extend_from_slice(b"\r\n");
            let from = start.saturating_add(name.len()).saturating_add(2);
            Field { name: Span::new(start, name.len()), value: Span::new(from, value.len()) }
        };
        let mut pseudo = |name, text: Option<&str>| text.map(|text| put(name, text.as_bytes()).value);
        let scheme = pseudo(":scheme", parts.uri.scheme_str());
        let authority = pseudo(":authority", parts.uri.authority().map(http::uri::Authority::as_str));
        let path = pseudo(":path", parts.uri.path_and_query().map(http::uri::PathAndQuery::as_str));
        let fields = parts.headers.iter();
        let table = fields.map(|(name, value)| put(name.as_str(), value.as_bytes())).collect();
        let (method, head) = (parts.method.clone(), lines.bytes.into());
        Self { method, head, scheme, authority, path, protocol: None, table }
    }

    /// The caller speaks gRPC, and wants its answer so.
    pub fn is_grpc(&self) -> bool {
        self.value(CONTENT_TYPE.as_str()).is_some_and(grpc::is_grpc)
    }

    /// The length that the body must have, when one is declared and is a number.
    pub(super) fn length(&self) -> Option<u64> {
        content_length(self.value("content-length")?)
    }

    fn value(&self, name: &str) -> Option<&[u8]> {
        value(&self.table, &self.head, name)
    }
}

impl AnswerHead {
    /// From the fields of a header block.
    pub(super) fn of(lines: &Lines) -> Result<Self, Malformed> {
        if lines.is_over {
            return Err(Malformed);
        }
        let (pseudo, fields) = parted(lines)?;
        let [status] = pseudo else { return Err(Malformed) };
        if status.name.of(&lines.bytes) != b":status" {
            return Err(Malformed);
        }
        let digits = <[u8; 3]>::try_from(status.value.of(&lines.bytes)).map_err(|_odd| Malformed)?;
        let status = str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok());
        let status = status.filter(|status| (100..600).contains(status)).ok_or(Malformed)?;
        are_proper(fields, &lines.bytes)?;
        Ok(Self { head: Bytes::copy_from_slice(&lines.bytes), table: fields.to_vec(), status })
    }

    /// The status, 100 to 599.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The length that the body must have, when one is declared and is a number.
    pub(super) fn length(&self) -> Option<u64> {
        content_length(value(&self.table, &self.head, "content-length")?)
    }
}

/// The pseudo-header fields of a block, which come first, and the others.
fn parted(lines: &Lines) -> Result<(&[Field], &[Field]), Malformed> {
    let pseudo = lines.fields.iter().take_while(|field| is_pseudo(field.name.of(&lines.bytes))).count();
    lines.fields.split_at_checked(pseudo).ok_or(Malformed)
}

fn value<'a>(table: &[Field], head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let field = table.iter().find(|field| field.name.of(head) == name.as_bytes())?;
    Some(field.value.of(head))
}

/// The fields of a trailer section, which has no pseudo-header fields.
pub(super) fn trailers(lines: &Lines) -> Result<HeaderMap, Malformed> {
    are_proper(&lines.fields, &lines.bytes)?;
    let mut map = HeaderMap::with_capacity(lines.fields.len());
    for field in &lines.fields {
        let name = HeaderName::from_bytes(field.name.of(&lines.bytes)).map_err(|_odd| Malformed)?;
        let value = HeaderValue::from_bytes(field.value.of(&lines.bytes)).map_err(|_odd| Malformed)?;
        map.append(name, value);
    }
    Ok(map)
}

fn is_pseudo(name: &[u8]) -> bool {
    name.first() == Some(&b':')
}

/// Lower-case tokens for names, none of a connection's own, and values that no line can break out of (8.2.1, 8.2.2).
fn are_proper(fields: &[Field], bytes: &[u8]) -> Result<(), Malformed> {
    for field in fields {
        let (name, value) = (field.name.of(bytes), field.value.of(bytes));
        let is_name = !name.is_empty() && name.iter().all(|&byte| byte != 0 && token::lower(byte) == byte);
        if !is_name || !is_value(value) || is_of_connection(name, value) {
            return Err(Malformed);
        }
    }
    Ok(())
}

fn is_of_connection(name: &[u8], value: &[u8]) -> bool {
    match name.len() {
        2 => name == b"te" && value != b"trailers",
        7 => name == b"upgrade",
        10 => matches!(name, b"connection" | b"keep-alive"),
        16 => name == b"proxy-connection",
        17 => name == b"transfer-encoding",
        _ => false,
    }
}
