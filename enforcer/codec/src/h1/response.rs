//! Answer heads of upstreams (rows HR of hardening.md 3): whatever is odd is 502 and ends the connection.

use bytes::{Bytes, BytesMut};

use super::reader::{Flaw, Line, Reader, content_length};
use super::{Framing, Parse, Version};
use crate::fields::{Field, Span};
use crate::headers::{is_hop_by_hop, is_reserved};
use crate::{Asked, Limits, NotCanonical};

/// The head of an upstream's answer.
#[derive(Debug)]
pub struct ResponseHead {
    pub(crate) head: Bytes,
    pub(crate) table: Vec<Field>,
    pub(crate) length: Option<u64>,
    status: u16,
    framing: Framing,
    keep_alive: bool,
}

impl ResponseHead {
    /// The status, 100 to 599.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// How the body ends. `UntilClose` bodies are relayed, and the connection is not used again (HR-07).
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// True when the upstream connection may serve another request after this body.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive && self.framing != Framing::UntilClose
    }

    /// True for 1xx but 101: another head follows.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// The parser of the answers on one upstream connection.
#[derive(Debug)]
pub struct ResponseParser {
    limits: Limits,
    reader: Reader,
    status: Option<(u16, Version)>,
    found: Found,
    interim: u8,
}

impl ResponseParser {
    /// A parser at the start of an upstream connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, reader: Reader::default(), status: None, found: Found::default(), interim: 0 }
    }

    /// Goes on with the bytes so far; `asked` is what kind of request this answers.
    pub fn parse(&mut self, buffer: &mut BytesMut, asked: Asked) -> Parse<ResponseHead> {
        match self.advance(buffer) {
            Ok(None) => Parse::Incomplete,
            Ok(Some((status, version))) => {
                let at = std::mem::take(&mut self.reader).at;
                let found = std::mem::take(&mut self.found);
                match self.finish(status, version, asked, found, buffer.split_to(at).freeze()) {
                    Ok(head) => Parse::Done(head),
                    Err(flaw) => Parse::Refused(flaw),
                }
            }
            Err(flaw) => Parse::Refused(flaw),
        }
    }

    fn advance(&mut self, buffer: &mut [u8]) -> Result<Option<(u16, Version)>, NotCanonical> {
        if self.status.is_none() {
            let line = match self.reader.line(buffer, 512) {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(None),
                Err(Flaw::TooLong) => return Err(bad("HR-02", "the status line is too long")),
                Err(Flaw::Refused(flaw)) => return Err(flaw.upstream("HR-02")),
            };
            self.status = Some(status_line(buffer, line)?);
            self.found.table.reserve(16);
        }
        loop {
            let field = self
                .reader
                .field(buffer, &self.limits)
                .map_err(|flaw| flaw.upstream(if flaw.status == 431 { "HR-03" } else { "HR-02" }))?;
            match field {
                None => return Ok(None),
                Some(None) => return Ok(self.status.take()),
                Some(Some((field, _))) => self.found.take(buffer, field)?,
            }
        }
    }

    fn finish(
        &mut self,
        status: u16,
        version: Version,
        asked: Asked,
        mut found: Found,
        head: Bytes,
    ) -> Result<ResponseHead, NotCanonical> {
        if status == 101 && !(asked == Asked::WebSocket && found.upgrade_option && found.is_websocket) {
            return Err(bad("HR-03", "a switch of protocols that nobody asked for"));
        }
        self.interim = if status < 200 { self.interim.saturating_add(1) } else { 0 };
        if self.interim > self.limits.interim {
            return Err(bad("HR-03", "too many interim answers"));
        }
        if found.chunked && (found.length.is_some() || version == Version::Http10) {
            return Err(bad("HR-01", "transfer-encoding with content-length or in http/1.0"));
        }
        for name in std::mem::take(&mut found.connection_names) {
            let name = name.of(&head).to_ascii_lowercase();
            found.table.retain(|field| field.name.of(&head) != name);
        }
        let framing = match (found.chunked, found.length) {
            _ if status < 200 || status == 204 || status == 304 || asked == Asked::Head => Framing::Empty,
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::UntilClose,
        };
        let keep_alive = match version {
            Version::Http11 => !found.close && status != 101,
            Version::Http10 => found.keep_alive && !found.close,
        };
        Ok(ResponseHead { head, table: found.table, length: found.length, status, framing, keep_alive })
    }
}

/// HR-04, HR-06: bytes on an upstream connection that no request is waiting for.
///
/// # Errors
/// When the buffer is not empty.
pub fn leftover(buffer: &[u8]) -> Result<(), NotCanonical> {
    if buffer.is_empty() { Ok(()) } else { Err(bad("HR-06", "bytes that belong to no answer")) }
}

const fn bad(rule: &'static str, detail: &'static str) -> NotCanonical {
    NotCanonical::closing(rule, 502, detail)
}

/// `HTTP/1.x SP 3DIGIT [SP reason]`; the reason is dropped.
fn status_line(buffer: &[u8], line: Line) -> Result<(u16, Version), NotCanonical> {
    const FORM: NotCanonical = bad("HR-02", "the status line is malformed");
    let text = buffer.get(line.start..line.end).unwrap_or_default();
    let (version, rest) = match text.split_first_chunk::<9>() {
        Some((b"HTTP/1.1 ", rest)) => (Version::Http11, rest),
        Some((b"HTTP/1.0 ", rest)) => (Version::Http10, rest),
        _ => return Err(FORM),
    };
    let (digits, reason) = rest.split_first_chunk::<3>().ok_or(FORM)?;
    if !matches!(reason, [] | [b' ', ..]) || reason.iter().any(|&b| (b < 0x20 && b != b'\t') || b == 0x7f) {
        return Err(FORM);
    }
    let status = digits
        .iter()
        .try_fold(0_u16, |sum, &b| {
            sum.checked_mul(10)?.checked_add(u16::try_from(char::from(b).to_digit(10)?).ok()?)
        })
        .ok_or(FORM)?;
    if !(100..=599).contains(&status) {
        return Err(bad("HR-02", "a status outside 100 to 599"));
    }
    Ok((status, version))
}

#[derive(Debug, Default)]
struct Found {
    table: Vec<Field>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    is_websocket: bool,
    connection_names: Vec<Span>,
}

impl Found {
    fn take(&mut self, buffer: &[u8], field: Field) -> Result<(), NotCanonical> {
        let value = field.value.of(buffer);
        match field.name.of(buffer) {
            b"content-length" => {
                let length = content_length(value).ok_or(bad("HR-01", "content-length is malformed"))?;
                if self.length.replace(length).is_some() {
                    return Err(bad("HR-01", "content-length is repeated"));
                }
            }
            b"transfer-encoding" => {
                if value != b"chunked" || std::mem::replace(&mut self.chunked, true) {
                    return Err(bad("HR-01", "transfer-encoding is not exactly `chunked`"));
                }
            }
            b"connection" => {
                let mut at = field.value.start as usize;
                for part in value.split(|&byte| byte == b',') {
                    let lead = part.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
                    let option = part.trim_ascii();
                    let span = Span::new(at.saturating_add(lead), option.len());
                    at = at.saturating_add(part.len()).saturating_add(1);
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
            }
            b"upgrade" => self.is_websocket = value.eq_ignore_ascii_case(b"websocket"),
            name if is_hop_by_hop(name) || is_reserved(name) => {}
            _ => self.table.push(field),
        }
        Ok(())
    }
}
