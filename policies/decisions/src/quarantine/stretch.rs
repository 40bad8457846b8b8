//! One stretch that was set aside: how it stands on the list, and the records in its place.

use std::{io, path::Path, sync::Arc};

use aws_lc_rs::digest::{self, SHA256};
use base_ports::{Mono, Now, UnixTime};
use policies_engine::{AdministrationRecord, DecisionId, Record};
use serde::{Deserialize, Serialize};

use super::{Place, Unread};
use crate::{
    lane::millis,
    leaf::{
        Stream,
        encode::{self, Head},
        hex,
    },
    ledger::stream_tag,
    redact::Redaction,
};

/// Lane of the records in its place. Each stretch is a stream of its own, whose boot is of its hash and whose numbers are
/// those of its records, so that nothing else is needed to make them again.
pub(crate) const LANE: u16 = u16::MAX - 2;

/// What such a record says was done.
pub(crate) const OPERATION: &str = "quarantine";

/// Version of the list.
const VERSION: u32 = 1;

/// Longest reason on record, characters.
const LONGEST: usize = 256;

/// One stretch, and all that its records need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stretch {
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// Name of the file it was in.
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// SHA-256 of the bytes, hexadecimal.
    sha256: String,
    pub(crate) why: String,
    /// When it was set aside, Unix nanoseconds.
    at: i64,
    enforcer: String,
    instance: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    stretches: Vec<Stretch>,
}

impl Stretch {
    pub(super) fn new(path: &Path, unread: Unread, bytes: &[u8], place: &Place) -> Stretch {
        let Unread { first, count, offset, why, .. } = unread;
        Stretch {
            first,
            count,
            file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            offset,
            bytes: bytes.len() as u64,
            sha256: hex(digest::digest(&SHA256, bytes).as_ref()),
            why: why.chars().take(LONGEST).collect(),
            at: place.clock.now().wall.as_nanos(),
            enforcer: place.enforcer.clone(),
            instance: place.instance.clone(),
        }
    }

    /// Index after its last record.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.count
    }

    /// Whether it begins at that offset of its file with that record.
    pub(crate) fn is_at(&self, offset: u64, index: u64) -> bool {
        (self.offset, self.first) == (offset, index)
    }

    /// Where its file goes on.
    pub(crate) fn next_offset(&self) -> usize {
        usize::try_from(self.offset + self.bytes).unwrap_or(usize::MAX)
    }

    /// Under which name its bytes are set aside.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.file, self.offset)
    }

    /// When it was set aside, Unix nanoseconds.
    pub(crate) fn at(&self) -> i64 {
        self.at
    }

    /// The record in the place of one of its indexes. The same for ever.
    pub(crate) fn leaf(&self, index: u64) -> Vec<u8> {
        let seq = index.saturating_sub(self.first) + 1;
        let (enforcer, instance) = (self.enforcer.clone(), self.instance.clone());
        let stream = Stream { enforcer, instance, boot: self.boot(), lane: LANE, seq };
        let wall = UnixTime::from_nanos(self.at);
        let id = DecisionId::new(millis(wall), stream_tag(&stream), seq);
        let detail = |name: &str, value: String| (name.to_owned(), value);
        let record = Record::Administration(AdministrationRecord {
            operation: OPERATION.to_owned(),
            principal: None,
            details: vec![
                detail("first", self.first.to_string()),
                detail("last", self.end().saturating_sub(1).to_string()),
                detail("file", self.file.clone()),
                detail("offset", self.offset.to_string()),
                detail("bytes", self.bytes.to_string()),
                detail("sha256", self.sha256.clone()),
                detail("why", self.why.clone()),
            ],
            time: Now { wall, mono: Mono::from_nanos(0) },
        });
        let (mut out, redaction) = (Vec::new(), Redaction::default());
        let head = Head { id, stream: &stream, seq, lost: 0, redaction: &redaction };
        encode::record(&mut out, head, &record);
        out
    }

    fn boot(&self) -> [u8; 8] {
        let mut context = digest::Context::new(&SHA256);
        context.update(b"portcullis-quarantine/1\0");
        context.update(self.file.as_bytes());
        context.update(&[0]);
        context.update(&self.offset.to_be_bytes());
        context.update(&self.first.to_be_bytes());
        context.update(self.sha256.as_bytes());
        let hash = context.finish();
        hash.as_ref().first_chunk().copied().unwrap_or_default()
    }
}

/// The list of these stretches.
pub(super) fn encode(list: &[Arc<Stretch>]) -> io::Result<Vec<u8>> {
    let stored =
        Stored { version: VERSION, stretches: list.iter().map(|stretch| Stretch::clone(stretch)).collect() };
    serde_json::to_vec_pretty(&stored).map_err(io::Error::other)
}

/// The stretches of a list; `None` for what is none.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Arc<Stretch>>> {
    let stored: Stored = serde_json::from_slice(bytes).ok()?;
    (stored.version == VERSION).then(|| stored.stretches.into_iter().map(Arc::new).collect())
}

/// What the records in the place of a stretch say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Index of its first record.
    pub first: u64,
    /// Index of its last record.
    pub last: u64,
    /// Name of the file it was in.
    pub file: String,
    /// At which byte of it.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// What is wrong there.
    pub why: String,
}

impl SetAside {
    /// From the details of a record; `None` for those of another.
    pub(crate) fn told(details: &[(String, String)]) -> Option<SetAside> {
        let text = |wanted: &str| details.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        let number = |wanted: &str| text(wanted)?.parse().ok();
        Some(SetAside {
            first: number("first")?,
            last: number("last")?,
            file: text("file")?.clone(),
            offset: number("offset")?,
            bytes: number("bytes")?,
            why: text("why")?.clone(),
        })
    }
}

impl std::fmt::Display for SetAside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SetAside { first, last, file, offset, bytes, why } = self;
        write!(f, "index {first}-{last}: `{file}` at byte {offset}, {bytes} bytes: {why}")
    }
}
