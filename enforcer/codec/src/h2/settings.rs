//! What either side says about itself (RFC 9113 6.5).

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
}

impl Default for Settings {
    fn default() -> Self {
        Self { table: 4096, window: 65_535, frame: 16_384 }
    }
}

impl Settings {
    /// Takes the payload of a frame.
    pub(super) fn take(&mut self, payload: &[u8]) -> Result<(), Reason> {
        let (all, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        for [a, b, c, d, e, f] in all {
            let value = u32::from_be_bytes([*c, *d, *e, *f]);
            match u16::from_be_bytes([*a, *b]) {
                TABLE => self.table = value,
                PUSH if value > 1 => return Err(Reason::PROTOCOL_ERROR),
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
pub(super) fn put_ours(limits: &Limits, out: &mut Vec<u8>) {
    let list = u32::try_from(limits.head).unwrap_or(u32::MAX);
    let frame = u32::try_from(PAYLOAD).unwrap_or_default();
    let mut payload = Vec::with_capacity(30);
    let ours = [
        (STREAMS_AT_ONCE, STREAMS),
        (WINDOW, STREAM_WINDOW),
        (FRAME, frame),
        (LIST, list),
        (CONNECT_PROTOCOL, 1),
    ];
    for (name, value) in ours {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    put(kind::SETTINGS, 0, 0, &payload, out);
}
