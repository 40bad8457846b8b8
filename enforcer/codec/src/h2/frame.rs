//! Frames: their heads, and the small ones whole (RFC 9113 4 and 6).

use super::Reason;

/// Octets of the head of a frame.
pub(super) const HEAD: usize = 9;
/// The largest payload that is taken, which every sender may send (4.2).
pub(super) const PAYLOAD: usize = 16 * 1024;
/// The first octets of a client (3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
pub(super) mod kind {
    pub(in crate::h2) const DATA: u8 = 0;
    pub(in crate::h2) const HEADERS: u8 = 1;
    pub(in crate::h2) const PRIORITY: u8 = 2;
    pub(in crate::h2) const RST_STREAM: u8 = 3;
    pub(in crate::h2) const SETTINGS: u8 = 4;
    pub(in crate::h2) const PUSH_PROMISE: u8 = 5;
    pub(in crate::h2) const PING: u8 = 6;
    pub(in crate::h2) const GOAWAY: u8 = 7;
    pub(in crate::h2) const WINDOW_UPDATE: u8 = 8;
    pub(in crate::h2) const CONTINUATION: u8 = 9;
    pub(in crate::h2) const PRIORITY_UPDATE: u8 = 0x10;
}

/// Flags of frames.
pub(super) mod flag {
    pub(in crate::h2) const ACK: u8 = 1;
    pub(in crate::h2) const END_STREAM: u8 = 1;
    pub(in crate::h2) const END_HEADERS: u8 = 4;
    pub(in crate::h2) const PADDED: u8 = 8;
    pub(in crate::h2) const PRIORITY: u8 = 0x20;
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Octets of the payload, below 2^24.
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// The stream, without the reserved bit.
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn parse(bytes: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, d, e, f, g] = bytes;
        let length = u32::from_be_bytes([0, a, b, c]);
        Self { length, kind, flags, stream: number([d, e, f, g]) }
    }

    pub(super) fn print(self) -> [u8; HEAD] {
        let [_, a, b, c] = self.length.to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    pub(super) const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// 31 bits, the first of 32 left out.
pub(super) const fn number(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes) & (u32::MAX >> 1)
}

/// Appends a frame.
pub(super) fn put(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&Head { length, kind, flags, stream }.print());
    out.extend_from_slice(payload);
}

pub(super) fn put_reset(stream: u32, reason: Reason, out: &mut Vec<u8>) {
    put(kind::RST_STREAM, 0, stream, &reason.0.to_be_bytes(), out);
}

pub(super) fn put_window(stream: u32, more: u32, out: &mut Vec<u8>) {
    put(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes(), out);
}

pub(super) fn put_goaway(last: u32, reason: Reason, out: &mut Vec<u8>) {
    let [a, b, c, d] = last.to_be_bytes();
    let [e, f, g, h] = reason.0.to_be_bytes();
    put(kind::GOAWAY, 0, 0, &[a, b, c, d, e, f, g, h], out);
}
