//! What we write ourselves: answer heads made by the proxy, chunks, the last chunk with its trailers.
//!
//! Relayed heads are printed by [`Answer`](crate::Answer) and [`Call`](crate::Call).

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, StatusCode};

use super::Framing;
use crate::fields::{put_extra, put_field, put_length};
use crate::headers::{Extra, is_forbidden_trailer};

/// The interim answer to `Expect: 100-continue`, sent only after the permit.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Appends the answer that opens a tunnel (RFC 9110 9.3.6): what follows it is the target's.
pub fn write_connected(out: &mut BytesMut, fields: &[Extra<'_>]) {
    put_status(out, 200);
    put_extra(out, fields);
    out.put_slice(b"\r\n");
}

/// The fields of a hop that becomes a WebSocket.
pub(crate) const SWITCH: &[u8] = b"connection: upgrade\r\nupgrade: websocket\r\n";

/// Appends the head of an answer: status line, the given fields, framing, and `connection: close` when asked.
pub fn write_response_head(
    out: &mut BytesMut,
    status: u16,
    fields: &[Extra<'_>],
    framing: Framing,
    close: bool,
) {
    put_status(out, status);
    put_extra(out, fields);
    put_framing(out, framing, close);
}

/// Appends one chunk with its data. Empty data is no chunk: it would end the body.
pub fn write_chunk(out: &mut BytesMut, data: &[u8]) {
    if !data.is_empty() {
        write_chunk_start(out, data.len());
        out.put_slice(data);
        write_chunk_end(out);
    }
}

/// Appends the size line of a chunk of `length` bytes (not 0), whose data the caller writes next.
pub fn write_chunk_start(out: &mut BytesMut, length: usize) {
    let mut digits = [0_u8; 16];
    let mut left = length;
    let mut from = digits.len();
    for (at, slot) in digits.iter_mut().enumerate().rev() {
        let nibble = u32::try_from(left & 15).unwrap_or(0);
        *slot = char::from_digit(nibble, 16).and_then(|c| u8::try_from(c).ok()).unwrap_or(b'0');
        from = at;
        left >>= 4;
        if left == 0 {
            break;
        }
    }
    out.put_slice(digits.get(from..).unwrap_or_default());
    out.put_slice(b"\r\n");
}

/// Appends the line end after the data of a chunk.
pub fn write_chunk_end(out: &mut BytesMut) {
    out.put_slice(b"\r\n");
}

/// Appends the last chunk, with the trailers that may be passed on.
pub fn write_last_chunk(out: &mut BytesMut, trailers: Option<&HeaderMap>) {
    out.put_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        let name = name.as_str().as_bytes();
        if !is_forbidden_trailer(name) {
            put_field(out, name, value.as_bytes());
        }
    }
    out.put_slice(b"\r\n");
}

/// `HTTP/1.1 200 OK`.
pub(crate) fn put_status(out: &mut BytesMut, status: u16) {
    if status == 200 {
        out.put_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(itoa::Buffer::new().format(status).as_bytes());
    out.put_slice(b" ");
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    out.put_slice(reason.unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
}

/// Framing fields, `connection: close` when the connection ends with this answer, and the empty line.
pub(crate) fn put_framing(out: &mut BytesMut, framing: Framing, close: bool) {
    match framing {
        Framing::Empty | Framing::UntilClose => {}
        Framing::Length(length) => put_length(out, length),
        Framing::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
    }
    if close || framing == Framing::UntilClose {
        out.put_slice(b"connection: close\r\n");
    }
    out.put_slice(b"\r\n");
}
