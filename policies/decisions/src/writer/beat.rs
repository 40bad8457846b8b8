//! A heartbeat in line: what it says is known when it gets its number (SQ5).

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use base_ports::Now;

use super::OWN_LANE;
use crate::{
    leaf::{Heartbeat, Stream},
    voucher::HeldSvid,
};

/// What a heartbeat is made of.
#[derive(Debug, Clone)]
pub(crate) struct Beat {
    /// Last number written per lane.
    pub(crate) lanes: BTreeMap<u16, u64>,
    /// Records lost since the boot.
    pub(crate) lost: u64,
    /// Nothing follows but the close.
    pub(crate) is_last: bool,
    /// Who signs: the SVID of the last `stream_open` in line.
    pub(crate) held: Option<Arc<dyn HeldSvid>>,
}

impl Beat {
    /// The heartbeat under that number. It tells everything before it in the ledger's own lane too.
    pub(super) fn told(&self, stream: &Stream, seq: u64, now: Now) -> Heartbeat {
        let mut heartbeat =
            Heartbeat { lanes: self.lanes.clone(), lost: self.lost, is_last: self.is_last, signature: None };
        heartbeat.lanes.insert(OWN_LANE, seq.saturating_sub(1));
        let stream = Stream { lane: OWN_LANE, seq, ..stream.clone() };
        let text = heartbeat.text(&stream, now.wall, now.mono.as_nanos());
        // Signing is foreign code: a panic in it costs the signature, not the heartbeat.
        let sign = || self.held.as_ref().and_then(|held| held.sign(text.as_bytes()));
        heartbeat.signature = catch_unwind(AssertUnwindSafe(sign)).unwrap_or_default().map(Into::into);
        if self.held.is_some() && heartbeat.signature.is_none() {
            tracing::error!(event = "heartbeat_unsigned", "the SVID of this enforcer signs no heartbeat");
        }
        heartbeat
    }
}
