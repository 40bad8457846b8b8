//! Heartbeats: how far the lanes of a boot have come, signed by the enforcer itself (SQ5).
//!
//! The signed text holds the number of the heartbeat in the ledger's own lane and its times, so that a heartbeat can be
//! neither moved, renumbered nor told twice.

use std::collections::BTreeMap;

use base_ports::UnixTime;
use bytes::Bytes;

use super::{Stream, hex};

/// What an enforcer says of its lanes every 10 s, and as its last word at an orderly end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heartbeat {
    /// Lane and last number: all up to there are records or gaps.
    pub lanes: BTreeMap<u16, u64>,
    /// Records lost since the boot.
    pub lost: u64,
    /// Nothing follows but the close.
    pub is_last: bool,
    /// By the key of the last SVID that a `stream_open` of this boot carries; none while no SVID is held.
    pub signature: Option<Bytes>,
}

impl Heartbeat {
    /// What the signature is over.
    #[must_use]
    pub fn text(&self, stream: &Stream, time: UnixTime, mono: u64) -> String {
        let state = if self.is_last { "last" } else { "going" };
        let mut text = format!(
            "portcullis-heartbeat/1\n{}\n{}\n{}\n{}\n{mono}\n{state}\n{}\n",
            stream.enforcer,
            hex(&stream.boot),
            stream.seq,
            time.as_nanos(),
            self.lost
        );
        self.lanes.iter().for_each(|(lane, last)| text.push_str(&format!("{lane} {last}\n")));
        text
    }
}
