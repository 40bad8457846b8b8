//! What a caller may send that moves no call (H2-01 to H2-03): frames that cost work have budgets that grow with the work
//! they accompany. When one is spent, the connection ends with ENHANCE_YOUR_CALM.

use std::time::Duration;

use super::frame::{HEAD, Head, flag, kind};

const WINDOW: Duration = Duration::from_secs(10);
/// What a caller with a proved identity may do, in times of what anybody may.
const PROVED: u32 = 10;
/// Control bytes without a request or a body byte in between (H2-03).
const NO_PROGRESS: u32 = 64 * 1024;
/// CONTINUATION frames of one header block.
const CONTINUATIONS: u32 = 20;
/// RST_STREAM over the life of a connection, or a tenth of its streams, whichever is more (H2-02).
const RESETS: u32 = 10_000;
/// Of them, those of calls that had no byte of an answer yet, in the same measure (H2-02): what was asked for was work alone.
const GIVEN_UP: u32 = 50;
/// Streams that errors of the caller made us reset, over the life of a connection (H2-02).
const OWN_RESETS: u32 = 500;

/// What a caller has left.
#[derive(Debug)]
pub(super) struct Budget {
    times: u32,
    since: Duration,
    window: Counts,
    life: Life,
}

/// Frames of the current window.
#[derive(Debug, Default)]
struct Counts {
    streams: u32,
    resets: u32,
    pings: u32,
    settings: u32,
    priorities: u32,
    unknown: u32,
    empty: u32,
    updates: u32,
    /// DATA that we sent.
    sent: u32,
}

/// What outlives a window.
#[derive(Debug, Default)]
struct Life {
    streams: u32,
    resets: u32,
    own_resets: u32,
    given_up: u32,
    idle_bytes: u32,
    continuations: u32,
}

impl Budget {
    pub(super) fn new(is_proved: bool, now: Duration) -> Self {
        let times = if is_proved { PROVED } else { 1 };
        Self { times, since: now, window: Counts::default(), life: Life::default() }
    }

    /// Takes one frame of the caller; false when that was one too many.
    pub(super) fn take(&mut self, frame: Head, now: Duration) -> bool {
        let is_progress = match frame.kind {
            kind::HEADERS => true,
            kind::DATA => frame.length > 0 || frame.has(flag::END_STREAM),
            _ => false,
        };
        if is_progress {
            self.life.idle_bytes = 0;
            if frame.kind == kind::HEADERS {
                self.life.continuations = 0;
                self.life.streams = self.life.streams.saturating_add(1);
                self.window.streams = self.window.streams.saturating_add(1);
            }
            return true;
        }
        let bytes = frame.length.saturating_add(HEAD as u32);
        self.life.idle_bytes = self.life.idle_bytes.saturating_add(bytes);
        if frame.kind == kind::CONTINUATION {
            self.life.continuations = self.life.continuations.saturating_add(1);
            return self.life.continuations <= CONTINUATIONS;
        }
        if now.saturating_sub(self.since) >= WINDOW {
            self.since = now;
            self.window = Counts::default();
        }
        let Self { times, window, life, .. } = self;
        let (count, base, earned): (&mut u32, u32, u32) = match frame.kind {
            kind::DATA => (&mut window.empty, 100, 0),
            kind::PRIORITY | kind::PRIORITY_UPDATE => (&mut window.priorities, 100, 0),
            kind::RST_STREAM => {
                life.resets = life.resets.saturating_add(1);
                if life.resets > RESETS.max(life.streams.wrapping_div(10)) {
                    return false;
                }
                (&mut window.resets, 100, window.streams.wrapping_div(10))
            }
            kind::SETTINGS => (&mut window.settings, 50, 0),
            // Clients measure the path with a PING per burst of data that they receive. One that claims to be an answer
            // counts as well.
            kind::PING => (&mut window.pings, 100, window.sent),
            kind::WINDOW_UPDATE => (&mut window.updates, 100, window.sent.saturating_mul(10)),
            _ => (&mut window.unknown, 100, 0),
        };
        *count = count.saturating_add(1);
        let is_earned = frame.kind == kind::WINDOW_UPDATE && *count <= earned;
        if is_earned {
            // Credit for data that flows is part of its progress.
            life.idle_bytes = 0;
        }
        let most = base.saturating_mul(*times).saturating_add(earned);
        *count <= most && life.idle_bytes <= NO_PROGRESS.saturating_mul(*times)
    }

    /// A frame of DATA was sent.
    pub(super) fn sent(&mut self) {
        self.window.sent = self.window.sent.saturating_add(1);
    }

    /// The caller gave up a call before its answer began; false when that was one too many.
    pub(super) fn gives_up(&mut self) -> bool {
        let Self { times, life, .. } = self;
        life.given_up = life.given_up.saturating_add(1);
        life.given_up <= GIVEN_UP.saturating_mul(*times).max(life.streams.wrapping_div(10))
    }

    /// A stream was reset for an error of the caller; false when that was one too many.
    pub(super) fn reset(&mut self) -> bool {
        self.life.own_resets = self.life.own_resets.saturating_add(1);
        self.life.own_resets <= OWN_RESETS
    }
}

#[cfg(test)]
mod tests;
