//! Bodies: length, chunks or until close, pushed in as they arrive and given out as data, trailers, end.
//!
//! The chunk grammar has one reading (H1-16 to H1-18); an early end is never turned into a clean one (HR-05).

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Framing;
use super::reader::Reader;
use crate::headers::is_forbidden_trailer;
use crate::{Limits, NotCanonical};

/// What the next bytes of a body are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyEvent {
    /// A piece of the body, never empty.
    Data(Bytes),
    /// The trailer section of a chunked body, when it is not empty; `End` follows.
    Trailers(HeaderMap),
    /// The body is complete. What follows in the buffer belongs to the next message.
    End,
}

/// The decoder of one body.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    upstream: bool,
    limits: Limits,
}

#[derive(Debug)]
enum State {
    Length(u64),
    UntilClose,
    Size { value: u64, digits: u8 },
    Extension { value: u64, length: u8 },
    SizeFeed(u64),
    Chunk(u64),
    ChunkReturn,
    ChunkFeed,
    Trailers(Reader, HeaderMap),
    Done,
}

impl BodyDecoder {
    /// For the body of a request: refusals are 400 and close.
    pub fn request(framing: Framing, limits: Limits) -> Self {
        Self::new(framing, false, limits)
    }

    /// For the body of an upstream's answer: refusals are 502.
    pub fn response(framing: Framing, limits: Limits) -> Self {
        Self::new(framing, true, limits)
    }

    fn new(framing: Framing, upstream: bool, limits: Limits) -> Self {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { value: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        let limits =
            Limits { fields: limits.trailers, field: limits.trailer_bytes, head: usize::MAX, ..limits };
        Self { state, upstream, limits }
    }

    /// True when the body is complete.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// True when only the end of the connection ends the body.
    pub fn is_endless(&self) -> bool {
        matches!(self.state, State::UntilClose)
    }

    /// Takes the next event out of the buffer; none when more bytes are needed.
    ///
    /// # Errors
    /// H1-16, H1-17, H1-18 (requests) or HR-05 (answers): the connection must be closed.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<BodyEvent>, NotCanonical> {
        self.step(buffer).map_err(|flaw| if self.upstream { flaw.upstream("HR-05") } else { flaw })
    }

    /// The peer closed: ends a close-delimited body.
    ///
    /// # Errors
    /// When the body is not complete.
    pub fn finish(&mut self) -> Result<(), NotCanonical> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ if self.upstream => Err(NotCanonical::closing("HR-05", 502, "the body ended early")),
            _ => Err(NotCanonical::bad("H1-16", "the body ended early")),
        }
    }

    fn step(&mut self, buffer: &mut BytesMut) -> Result<Option<BodyEvent>, NotCanonical> {
        loop {
            match &mut self.state {
                State::Done => return Ok(Some(BodyEvent::End)),
                State::UntilClose => {
                    return Ok((!buffer.is_empty()).then(|| BodyEvent::Data(buffer.split().freeze())));
                }
                State::Length(left) | State::Chunk(left) => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                    if take == 0 {
                        return Ok(None);
                    }
                    *left = left.saturating_sub(take as u64);
                    if *left == 0 {
                        let chunk = matches!(self.state, State::Chunk(_));
                        self.state = if chunk { State::ChunkReturn } else { State::Done };
                    }
                    return Ok(Some(BodyEvent::Data(buffer.split_to(take).freeze())));
                }
                State::Trailers(reader, trailers) => {
                    let Some(section) = read_trailers(reader, trailers, buffer, &self.limits)? else {
                        return Ok(None);
                    };
                    self.state = State::Done;
                    if !section.is_empty() {
                        return Ok(Some(BodyEvent::Trailers(section)));
                    }
                }
                state => {
                    let Some(&byte) = buffer.first() else {
                        return Ok(None);
                    };
                    *state = line_byte(state, byte, self.upstream)?;
                    buffer.advance(1);
                }
            }
        }
    }
}

/// One byte of a chunk-size line or of the CRLF after a chunk.
fn line_byte(state: &State, byte: u8, upstream: bool) -> Result<State, NotCanonical> {
    const CHUNK: NotCanonical = NotCanonical::bad("H1-16", "a malformed chunk");
    const EXTENSION: NotCanonical = NotCanonical::bad("H1-17", "a chunk extension");
    Ok(match (state, byte) {
        (&State::Size { value, digits }, b'\r') if digits > 0 => State::SizeFeed(value),
        (&State::Size { value, digits }, b';') if digits > 0 && upstream => {
            State::Extension { value, length: 0 }
        }
        (State::Size { digits, .. }, b';') if *digits > 0 => return Err(EXTENSION),
        (&State::Size { value, digits }, _) => match char::from(byte).to_digit(16) {
            Some(digit) if digits < 16 => {
                State::Size { value: (value << 4) | u64::from(digit), digits: digits.saturating_add(1) }
            }
            None if byte == b'\n' => return Err(NotCanonical::bad("H1-01", "a bare lf in a chunk line")),
            _ => return Err(CHUNK),
        },
        (&State::Extension { value, .. }, b'\r') => State::SizeFeed(value),
        (&State::Extension { value, length }, 0x20..=0x7e | b'\t') if length < 64 => {
            State::Extension { value, length: length.saturating_add(1) }
        }
        (State::Extension { .. }, _) => return Err(EXTENSION),
        (State::SizeFeed(0), b'\n') => State::Trailers(Reader::default(), HeaderMap::new()),
        (State::SizeFeed(value), b'\n') => State::Chunk(*value),
        (State::SizeFeed(_), _) => return Err(NotCanonical::bad("H1-01", "a bare cr in a chunk line")),
        (State::ChunkReturn, b'\r') => State::ChunkFeed,
        (State::ChunkFeed, b'\n') => State::Size { value: 0, digits: 0 },
        _ => return Err(CHUNK),
    })
}

/// Takes a complete trailer section out of the buffer.
fn read_trailers(
    reader: &mut Reader,
    trailers: &mut HeaderMap,
    buffer: &mut BytesMut,
    limits: &Limits,
) -> Result<Option<HeaderMap>, NotCanonical> {
    const LARGE: NotCanonical = NotCanonical::closing("H1-18", 431, "the trailer section is too large");
    loop {
        let field = reader.field(buffer, limits);
        let field = field.map_err(|flaw| if flaw.status == 431 { LARGE } else { flaw })?;
        if reader.at > limits.trailer_bytes {
            return Err(LARGE);
        }
        match field {
            None => return Ok(None),
            Some(None) => {
                buffer.advance(reader.at);
                return Ok(Some(std::mem::take(trailers)));
            }
            Some(Some((field, _))) => {
                let name = field.name.of(buffer);
                if is_forbidden_trailer(name) {
                    return Err(NotCanonical::bad("H1-18", "a field that must not stand in trailers"));
                }
                let name = HeaderName::from_bytes(name);
                let value = HeaderValue::from_bytes(field.value.of(buffer));
                if let (Ok(name), Ok(value)) = (name, value) {
                    trailers.append(name, value);
                }
            }
        }
    }
}
