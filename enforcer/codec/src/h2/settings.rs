//! What either side says about itself (RFC 9113 6.5).

use super::connection::Role;
use super::frame::{PAYLOAD, kind, put};
use super::{Reason, STREAM_WINDOW, STREAMS};
use crate::Limits;

const TABLE: u16 = 1;
const PUSH: u16 = 2;
const STREAMS_AT_ONCE: u16 = 3;
const WINDOW: u16 = 4;
const FRAME: u16 = 5;
const LIST: u16 = 6;
/// RFC 8441 3.
const CONNECT_PROTOCOL: u16 = 8;

/// What a peer said. It begins with what the standard says for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) table: u32,
    pub(super) window: u32,
    pub(super) frame: u32,
    /// Streams that we may have open at once.
    pub(super) streams: u32,
}

/// Streams that may be open before a server has said how many (6.5.2).
const FIRST_STREAMS: u32 = 100;

impl Default for Settings {
    fn default() -> Self {
        Self { table: 4096, window: 65_535, frame: 16_384, streams: FIRST_STREAMS }
    }
}

impl Settings {
    /// Takes the payload of a frame; `role` is ours.
    pub(super) fn take(&mut self, payload: &[u8], role: Role, is_first: bool) -> Result<(), Reason> {
        let (all, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        if is_first {
            self.streams = u32::MAX;
        }
        for [a, b, c, d, e, f] in all {
            let value = u32::from_be_bytes([*c, *d, *e, *f]);
            match u16::from_be_bytes([*a, *b]) {
                TABLE => self.table = value,
                // A server does not speak of pushes that it takes.
                PUSH if value > u32::from(role == Role::Server) => return Err(Reason::PROTOCOL_ERROR),
                STREAMS_AT_ONCE => self.streams = value,
                WINDOW if value > u32::MAX >> 1 => return Err(Reason::FLOW_CONTROL_ERROR),
                WINDOW => self.window = value,
                FRAME if !(16_384..=16_777_215).contains(&value) => return Err(Reason::PROTOCOL_ERROR),
                FRAME => self.frame = value,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Appends what we say.
pub(super) fn put_ours(role: Role, limits: &Limits, out: &mut Vec<u8>) {
    let list = u32::try_from(limits.head).unwrap_or(u32::MAX);
    let frame = u32::try_from(PAYLOAD).unwrap_or_default();
    let mut payload = Vec::with_capacity(30);
    let server = [(STREAMS_AT_ONCE, STREAMS), (CONNECT_PROTOCOL, 1)];
    let client = [(PUSH, 0)];
    let own: &[(u16, u32)] = match role {
        Role::Server => &server,
        Role::Client => &client,
    };
    let both = [(WINDOW, STREAM_WINDOW), (FRAME, frame), (LIST, list)];
    for &(name, value) in own.iter().chain(&both) {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    put(kind::SETTINGS, 0, 0, &payload, out);
}
