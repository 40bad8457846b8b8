//! Takes clients as they are: gRPC names a Unix socket in `:authority` by its path, `run%2Fworkload.sock` in C, C++,
//! Python and Ruby, `/run/workload.sock` in older Java and Go. That is no authority of a URI, and h2 resets the stream
//! before any service sees it (hyperium/h2 #487). On a Unix socket the name says nothing, so it is put into letters,
//! digits, dots and hyphens as the bytes come in.
//!
//! `portcullis` wraps each connection of the Workload API. The rewriting keeps every length, so frames and the dynamic
//! table of HPACK stay as the client counts them; what is no literal in plain text passes as it is. Nothing is refused
//! here: what is malformed stays so for h2 to judge.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const NAME: &[u8] = b":authority";
/// Index of `:authority` in the static table (RFC 7541, appendix A).
const NAME_INDEX: u64 = 1;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Stream dependency and weight.
const PRIORITY_BYTES: u32 = 5;

/// A connection on a Unix socket whose `:authority` is made acceptable as it is read.
#[derive(Debug)]
pub struct LocalStream<S> {
    inner: S,
    reader: Frames,
}

impl<S> LocalStream<S> {
    /// Wraps a connection from its first byte on.
    pub fn new(inner: S) -> Self {
        Self { inner, reader: Frames::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LocalStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        for byte in buf.filled_mut().iter_mut().skip(before) {
            *byte = self.reader.take(*byte);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LocalStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Where in the frames of HTTP/2 the next byte stands.
#[derive(Debug, Default)]
struct Frames {
    at: At,
    /// Bytes taken of the preface or of a frame's head.
    taken: u8,
    kind: u8,
    flags: u8,
    /// Bytes left of the frame's payload.
    left: u32,
    /// Bytes of it before the header block, and after it.
    skip: u32,
    padding: u32,
    block: Block,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Preface,
    Head,
    PadLength,
    Payload,
    /// Not HTTP/2: nothing is looked at.
    Other,
}

impl Frames {
    /// The byte as h2 is to see it.
    fn take(&mut self, byte: u8) -> u8 {
        match self.at {
            At::Other => {}
            At::Preface => {
                let expected = PREFACE.get(usize::from(self.taken));
                self.taken = self.taken.saturating_add(1);
                if expected != Some(&byte) {
                    self.at = At::Other;
                } else if usize::from(self.taken) == PREFACE.len() {
                    (self.at, self.taken) = (At::Head, 0);
                }
            }
            At::Head => self.head(byte),
            At::PadLength => {
                self.padding = u32::from(byte);
                self.left = self.left.saturating_sub(1);
                self.at = if self.left == 0 { At::Head } else { At::Payload };
            }
            At::Payload => return self.payload(byte),
        }
        byte
    }

    fn head(&mut self, byte: u8) {
        match self.taken {
            0 => self.left = u32::from(byte) << 16,
            1 => self.left |= u32::from(byte) << 8,
            2 => self.left |= u32::from(byte),
            3 => self.kind = byte,
            4 => self.flags = byte,
            _ => {}
        }
        self.taken = self.taken.saturating_add(1);
        if self.taken < 9 {
            return;
        }
        (self.taken, self.skip, self.padding) = (0, 0, 0);
        if self.kind == HEADERS {
            self.block = Block::default();
            self.skip = if self.flags & PRIORITY == 0 { 0 } else { PRIORITY_BYTES };
        }
        self.at = match self.left {
            0 => At::Head,
            _ if self.kind == HEADERS && self.flags & PADDED != 0 => At::PadLength,
            _ => At::Payload,
        };
    }

    fn payload(&mut self, byte: u8) -> u8 {
        let in_block =
            matches!(self.kind, HEADERS | CONTINUATION) && self.skip == 0 && self.left > self.padding;
        self.skip = self.skip.saturating_sub(1);
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.at = At::Head;
        }
        if in_block { self.block.take(byte) } else { byte }
    }
}

/// Where in a header block (RFC 7541, 6) the next byte stands.
#[derive(Debug, Default)]
struct Block {
    part: Part,
    /// The number being read, and how far its next seven bits are shifted.
    number: u64,
    shift: u32,
    /// Whether the string is in Huffman code.
    coded: bool,
    /// Bytes of the string that were taken.
    taken: u64,
    /// Whether the field may still be `:authority`.
    is_authority: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The first byte of a field.
    #[default]
    Field,
    /// The rest of a number; `literal` when a literal follows it.
    Index {
        literal: bool,
    },
    NameLength,
    NameLengthRest,
    Name,
    ValueLength,
    ValueLengthRest,
    Value,
}

impl Block {
    fn take(&mut self, byte: u8) -> u8 {
        match self.part {
            Part::Field => self.field(byte),
            Part::Index { literal } => {
                if self.continued(byte) {
                    self.indexed(literal);
                }
            }
            Part::NameLength | Part::ValueLength => self.length(byte),
            Part::NameLengthRest | Part::ValueLengthRest => {
                if self.continued(byte) {
                    self.string();
                }
            }
            Part::Name => {
                let expected = usize::try_from(self.taken).ok().and_then(|at| NAME.get(at));
                self.is_authority &= expected == Some(&byte);
                self.taken = self.taken.saturating_add(1);
                if self.taken == self.number {
                    self.is_authority &= NAME.len() as u64 == self.number;
                    self.part = Part::ValueLength;
                }
            }
            Part::Value => {
                self.taken = self.taken.saturating_add(1);
                if self.taken == self.number {
                    self.part = Part::Field;
                }
                if self.is_authority && !self.coded {
                    return plain(byte);
                }
            }
        }
        byte
    }

    fn field(&mut self, byte: u8) {
        let (mask, literal) = match byte {
            0x80.. => (0x7f, false),
            0x40..0x80 => (0x3f, true),
            0x20..0x40 => (0x1f, false),
            0x00..0x20 => (0x0f, true),
        };
        if self.prefix(byte, mask) {
            self.indexed(literal);
        } else {
            self.part = Part::Index { literal };
        }
    }

    fn indexed(&mut self, literal: bool) {
        self.is_authority = self.number == 0 || self.number == NAME_INDEX;
        self.part = match (literal, self.number) {
            (false, _) => Part::Field,
            (true, 0) => Part::NameLength,
            (true, _) => Part::ValueLength,
        };
    }

    fn length(&mut self, byte: u8) {
        self.coded = byte & 0x80 != 0;
        if self.prefix(byte, 0x7f) {
            self.string();
        } else {
            self.part =
                if self.part == Part::NameLength { Part::NameLengthRest } else { Part::ValueLengthRest };
        }
    }

    /// The length of a string is known.
    fn string(&mut self) {
        self.taken = 0;
        let name = matches!(self.part, Part::NameLength | Part::NameLengthRest);
        self.is_authority &= !(name && self.coded);
        self.part = match (name, self.number) {
            (true, 0) => {
                self.is_authority = false;
                Part::ValueLength
            }
            (true, _) => Part::Name,
            (false, 0) => Part::Field,
            (false, _) => Part::Value,
        };
    }

    /// The first byte of a number (RFC 7541, 5.1); true when it is all of it.
    fn prefix(&mut self, byte: u8, mask: u8) -> bool {
        self.number = u64::from(byte & mask);
        self.shift = 0;
        byte & mask != mask
    }

    /// A further byte of a number; true when it is the last one.
    fn continued(&mut self, byte: u8) -> bool {
        let bits = u64::from(byte & 0x7f).checked_shl(self.shift).unwrap_or(u64::MAX);
        self.number = self.number.saturating_add(bits);
        self.shift = self.shift.saturating_add(7);
        byte & 0x80 == 0
    }
}

/// A byte that any authority may hold.
fn plain(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() || byte == b'.' { byte } else { b'-' }
}

#[cfg(test)]
mod tests;
