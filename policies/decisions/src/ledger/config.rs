//! What a ledger is opened with: where it lies, whose it is, how long records are kept, who signs.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    archive::SegmentLimits,
    lane::{RING, Waits},
    meter::Meter,
    proof::Signer,
    redact::Redaction,
    retain::Keep,
    voucher::Voucher,
};

/// What a ledger is opened with.
#[derive(Debug, Clone)]
pub struct LedgerConfig {
    /// Its directory, `data_dir/ledger`.
    pub dir: PathBuf,
    /// Last part of the log origin, `main`.
    pub name: String,
    /// SPIFFE id of this enforcer.
    pub enforcer_id: String,
    /// Configured name of this process, for people.
    pub instance: String,
    /// Trust domain, first part of the log origin.
    pub trust_domain: String,
    /// Product and version, for `stream_open`.
    pub build: String,
    /// How long written records may wait for a sync.
    pub commit_interval: Duration,
    /// How long records are kept.
    pub keep: Keep,
    /// How long calls wait for their record.
    pub waits: Waits,
    /// Records a lane holds.
    pub ring: usize,
    /// Size at which a write-ahead file is closed, bytes.
    pub file_size: u64,
    /// When a segment is closed.
    pub segment: SegmentLimits,
    /// Room set aside for gap records on a full disk, bytes; none with zero.
    pub reserve: u64,
    /// Who signs checkpoints; without one there is no tree.
    pub signer: Option<Arc<dyn Signer>>,
    /// What does not go on record in clear.
    pub redaction: Arc<Redaction>,
    /// How long the clear values of commitments are kept; as long as records without, and never longer.
    pub clear: Option<Duration>,
    /// Whose SVID signs heartbeats; without one they are unsigned.
    pub voucher: Option<Arc<dyn Voucher>>,
    /// Where records, syncs and reads are counted.
    pub meter: Option<Arc<Meter>>,
}

impl LedgerConfig {
    /// With the defaults of the specification: synced every 50 ms, 30 days or 10 GiB kept, write-ahead files of 32 MiB,
    /// segments of 128 MiB or ten minutes, 64 MiB set aside.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, trust_domain: &str, enforcer_id: &str, instance: &str) -> Self {
        Self {
            dir: dir.into(),
            name: "main".to_owned(),
            enforcer_id: enforcer_id.to_owned(),
            instance: instance.to_owned(),
            trust_domain: trust_domain.to_owned(),
            build: concat!("portcullis ", env!("CARGO_PKG_VERSION")).to_owned(),
            commit_interval: Duration::from_millis(50),
            keep: Keep::default(),
            waits: Waits::default(),
            ring: RING,
            file_size: 32 << 20,
            segment: SegmentLimits::default(),
            reserve: 64 << 20,
            signer: None,
            redaction: Arc::default(),
            clear: None,
            voucher: None,
            meter: None,
        }
    }
}
