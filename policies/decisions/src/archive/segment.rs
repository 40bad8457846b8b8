//! Segments: files of blocks, what is known of each, and how one is looked at when the ledger opens (LG3).
//!
//! A segment is a header of 4 KiB, blocks, and once it is closed a footer. The start reads headers and trailers; of a
//! segment without a footer (the last one, after a crash) it walks the blocks. Nothing here changes a file but
//! [`mend`], which cuts off what a crash tore and the write-ahead files still hold.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use base_ports::Disk;
use parking_lot::Mutex;

use super::{
    block::{self, Header},
    footer::{TRAILER, Trailer},
    index::{Entry, Index},
};
use crate::{
    error::{LedgerError, disk},
    shelf::{Span, listed, named},
};

/// How names of segments end.
const KIND: &str = ".seg";

/// Bytes before the first block.
pub(crate) const HEADER: usize = 4_096;

/// First bytes of a segment; the digits are the format version.
const MAGIC: [u8; 8] = *b"PCSEG001";

/// The part of the magic that all versions share.
const FAMILY: &[u8] = b"PCSEG";

/// Codec of the blocks, as the header says it: zstd, where it makes a block smaller.
const CODEC: u8 = 1;

/// Longest block: header and records of the largest size.
const MAX_BLOCK: usize = block::HEADER + 256 * (2 + 65_535);

/// One segment as readers see it.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    /// Index of its first record.
    pub(crate) first: u64,
    /// Index after its last record.
    pub(crate) end: u64,
    /// Bytes of the file.
    pub(crate) len: u64,
    pub(crate) span: Span,
    pub(crate) body: Body,
}

/// How its blocks are found.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// It grows: its index is in memory.
    Open(Arc<Mutex<Index>>),
    /// By its footer.
    Closed(Trailer),
    /// Without a footer; the table is from its blocks.
    Bare(Arc<Vec<Entry>>),
}

impl Segment {
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self.body, Body::Bare(_))
    }

    /// What follows begins at `next`: what of a table of blocks does not reach there cannot be read, and what goes
    /// beyond was given up.
    fn reach(&mut self, next: u64) {
        let Body::Bare(blocks) = &mut self.body else { return };
        let blocks = Arc::make_mut(blocks);
        blocks.retain(|block| block.end() <= next);
        let (end, offset) =
            blocks.last().map_or((self.first, HEADER as u64), |last| (last.end(), last.offset + last.len));
        if end < next {
            blocks.push(Entry::lost(end, next - end, offset));
            self.span = Span::ALL;
        }
        self.end = next;
    }

    /// From a table of blocks.
    fn bare(path: PathBuf, first: u64, len: u64, blocks: Vec<Entry>) -> Segment {
        let mut span = Span::EMPTY;
        blocks.iter().for_each(|block| span.join(block.span));
        let end = blocks.last().map_or(first, Entry::end);
        Segment { path, first, end, len, span, body: Body::Bare(Arc::new(blocks)) }
    }
}

impl Segment {
    /// Whether header and trailer on disk are those of this closed segment.
    pub(crate) fn is_framed(&self, disk_port: &dyn Disk) -> Result<bool, LedgerError> {
        let head = read_at(disk_port, &self.path, 0, HEADER)?;
        let again = look(self.path.clone(), self.first, disk_port)?;
        let is_closed = !again.is_bare() && (again.end, again.len) == (self.end, self.len);
        Ok(is_closed && check_header(&self.path, self.first, &head)?)
    }
}

/// Where the segment with that first index stands.
pub(crate) fn path_of(dir: &Path, first: u64) -> PathBuf {
    named(dir, first, KIND)
}

/// The header of a new segment; `created` is Unix nanoseconds.
pub(crate) fn header(origin: &str, first: u64, created: i64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&created.to_le_bytes());
    out.push(CODEC);
    // An origin is as long as a trust domain and a name; more than fits is cut.
    let origin = origin.as_bytes();
    let origin = origin.get(..origin.len().min(HEADER - 64)).unwrap_or_default();
    out.extend_from_slice(&u16::try_from(origin.len()).unwrap_or_default().to_le_bytes());
    out.extend_from_slice(origin);
    out.resize(HEADER - 4, 0);
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// Whether a header is whole and of the segment with that first index. One of a later version is refused.
fn check_header(path: &Path, first: u64, bytes: &[u8]) -> Result<bool, LedgerError> {
    let Some((said, checksum)) = bytes.split_last_chunk::<4>().filter(|_| bytes.len() == HEADER) else {
        return Ok(false);
    };
    let is_whole = crc32c::crc32c(said) == u32::from_le_bytes(*checksum);
    if is_whole && said.starts_with(FAMILY) && !said.starts_with(&MAGIC) {
        return Err(LedgerError::Newer { path: path.to_owned() });
    }
    let is_ours = said.strip_prefix(&MAGIC).is_some_and(|rest| rest.starts_with(&first.to_le_bytes()));
    Ok(is_whole && is_ours)
}

/// The segments of a directory, oldest first, and what is wrong with some of them. A missing directory has none.
pub(crate) fn load(dir: &Path, disk_port: &dyn Disk) -> Result<(Vec<Segment>, Vec<BadHeader>), LedgerError> {
    let names = match listed(dir, KIND, disk_port) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(disk("list", dir)(error)),
    };
    let (mut segments, mut bad) = (Vec::with_capacity(names.len()), Vec::new());
    for (first, path) in names {
        let head = match disk_port.read_at(&path, 0, HEADER) {
            // Retention of a process that runs has taken it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            head => head.map_err(disk("read", &path))?,
        };
        if !check_header(&path, first, &head)? {
            bad.push(BadHeader { path: path.clone(), first });
        }
        segments.push(look(path, first, disk_port)?);
    }
    let firsts: Vec<_> = segments.iter().map(|segment: &Segment| segment.first).collect();
    for (segment, next) in segments.iter_mut().zip(firsts.into_iter().skip(1)) {
        segment.reach(next);
    }
    Ok((segments, bad))
}

/// A segment whose header does not fit. Its blocks say themselves where they belong.
#[derive(Debug)]
pub(crate) struct BadHeader {
    pub(crate) path: PathBuf,
    pub(crate) first: u64,
}

/// Looks at one segment: at its trailer, or where it has none at the headers of its blocks.
fn look(path: PathBuf, first: u64, disk_port: &dyn Disk) -> Result<Segment, LedgerError> {
    let len = disk_port.len(&path).map_err(disk("look at", &path))?;
    if let Some(at) = len.checked_sub(TRAILER as u64) {
        let trailer = Trailer::decode(&read_at(disk_port, &path, at, TRAILER)?, len);
        if let Some(trailer) = trailer.filter(|trailer| trailer.first == first) {
            let Trailer { count, span, .. } = trailer;
            return Ok(Segment { path, first, end: first + count, len, span, body: Body::Closed(trailer) });
        }
    }
    let blocks = walk(&path, first, len, disk_port)?;
    Ok(Segment::bare(path, first, len, blocks))
}

/// The blocks of a file by their headers. Between blocks that can be found, what cannot be read is an entry of its own;
/// behind the last one there is none.
pub(crate) fn walk(
    path: &Path,
    first: u64,
    len: u64,
    disk_port: &dyn Disk,
) -> Result<Vec<Entry>, LedgerError> {
    let (mut offset, mut next, mut blocks) = (HEADER as u64, first, Vec::new());
    while offset < len {
        let head = Header::decode(&read_at(disk_port, path, offset, block::HEADER)?);
        let is_next = |header: &Header| header.first == next && offset + header.len() <= len;
        match head.ok().filter(is_next) {
            Some(header) => {
                blocks.push(Entry::of(&header, offset));
                next = header.end();
                offset += header.len();
            }
            None => match resume(path, offset + 1, next, len, disk_port)? {
                Some((at, header)) => {
                    if header.first > next {
                        blocks.push(Entry::lost(next, header.first - next, offset));
                    }
                    blocks.push(Entry::of(&header, at));
                    next = header.end();
                    offset = at + header.len();
                }
                None => break,
            },
        }
    }
    Ok(blocks)
}

/// The first whole block at `from` or behind it that holds records from `next` on.
fn resume(
    path: &Path,
    from: u64,
    next: u64,
    len: u64,
    disk_port: &dyn Disk,
) -> Result<Option<(u64, Header)>, LedgerError> {
    const WINDOW: usize = 1 << 20;
    let mut offset = from;
    while offset + (block::HEADER as u64) <= len {
        let window = read_at(disk_port, path, offset, WINDOW)?;
        let magics = window.windows(block::MAGIC.len()).enumerate();
        for (at, _) in magics.filter(|(_, bytes)| *bytes == block::MAGIC) {
            let at = offset + at as u64;
            let bytes = read_at(disk_port, path, at, MAX_BLOCK)?;
            if let Ok(header) = block::check(&bytes)
                && header.first >= next
            {
                return Ok(Some((at, header)));
            }
        }
        // A magic may lie across the end of the window.
        offset += (window.len() - (block::MAGIC.len() - 1).min(window.len().saturating_sub(1))) as u64;
    }
    Ok(None)
}

/// Looks at the blocks that a crash may have torn: those that still stand in write-ahead files, from `wal_first` on, and
/// those of a last segment without a footer. What is bad and stands in a write-ahead file is cut off, with all behind
/// it: it is put away again. What is bad and stands nowhere else stays, to be named by whoever reads it.
pub(crate) fn mend(
    segments: Vec<Segment>,
    bad: &[BadHeader],
    wal_first: Option<u64>,
    disk_port: &dyn Disk,
) -> Result<Vec<Segment>, LedgerError> {
    let covered = |index: u64| wal_first.is_some_and(|wal| wal <= index);
    let last = segments.last().map(|segment| segment.first);
    let (mut kept, mut is_cut) = (Vec::with_capacity(segments.len()), false);
    for segment in segments {
        let is_open = segment.is_bare() && Some(segment.first) == last;
        if is_cut || (covered(segment.first) && bad.iter().any(|bad| bad.first == segment.first)) {
            disk_port.remove(&segment.path).map_err(disk("remove", &segment.path))?;
            is_cut = true;
        } else if is_open || segment.end.checked_sub(1).is_some_and(covered) {
            let torn = torn_at(&segment, &covered, disk_port)?;
            is_cut = torn.is_some();
            kept.extend(cut(segment, torn, wal_first, disk_port)?);
        } else {
            kept.push(segment);
        }
    }
    Ok(kept)
}

/// The blocks of a segment as it stands on disk.
fn table(segment: &Segment, disk_port: &dyn Disk) -> Result<Vec<Entry>, LedgerError> {
    match &segment.body {
        Body::Bare(blocks) => Ok(blocks.to_vec()),
        Body::Open(index) => Ok(index.lock().blocks.clone()),
        Body::Closed(trailer) => walk(&segment.path, segment.first, trailer.start, disk_port),
    }
}

/// The first index of a block that is torn, if there is one.
fn torn_at(
    segment: &Segment,
    covered: &dyn Fn(u64) -> bool,
    disk_port: &dyn Disk,
) -> Result<Option<u64>, LedgerError> {
    let mut next = segment.first;
    for entry in table(segment, disk_port)?.iter() {
        next = entry.end();
        if !covered(entry.first) {
            continue;
        }
        let len = usize::try_from(entry.len).unwrap_or(usize::MAX);
        let bytes = read_at(disk_port, &segment.path, entry.offset, len)?;
        if !block::check(&bytes).is_ok_and(|header| Entry::of(&header, entry.offset) == *entry) {
            return Ok(Some(entry.first));
        }
    }
    // A footer that speaks of blocks that are not there.
    Ok((next < segment.end && covered(next)).then_some(next))
}

/// What is left of a segment that is torn at an index. A file of which nothing is left is removed.
fn cut(
    segment: Segment,
    torn: Option<u64>,
    wal_first: Option<u64>,
    disk_port: &dyn Disk,
) -> Result<Option<Segment>, LedgerError> {
    if torn.is_none() && !segment.is_bare() {
        return Ok(Some(segment));
    }
    let mut blocks = table(&segment, disk_port)?;
    let Segment { path, first, len, .. } = segment;
    blocks.retain(|block| torn.is_none_or(|torn| block.first < torn));
    let (next, end) =
        blocks.last().map_or((first, HEADER as u64), |last| (last.end(), last.offset + last.len));
    if blocks.is_empty() && wal_first.is_none_or(|wal| wal <= first) {
        disk_port.remove(&path).map_err(disk("remove", &path))?;
        return Ok(None);
    }
    if let Some(wal) = wal_first.filter(|wal| *wal > next) {
        // It was written, synced and relied on, and is not to be read any more.
        let mut segment = Segment::bare(path, first, len, blocks);
        segment.reach(wal);
        return Ok(Some(segment));
    }
    if len > end {
        let mut file = disk_port.open_append(&path).map_err(disk("open", &path))?;
        file.truncate(end).map_err(disk("cut", &path))?;
        file.sync_data().map_err(disk("sync", &path))?;
        let lost = len - end;
        tracing::warn!(event = "ledger_torn_segment", file = %path.display(), offset = end, lost, "cut off a torn tail");
    }
    Ok(Some(Segment::bare(path, first, end, blocks)))
}

/// A part of a file, shorter where the file ends.
pub(crate) fn read_at(
    disk_port: &dyn Disk,
    path: &Path,
    offset: u64,
    len: usize,
) -> Result<Vec<u8>, LedgerError> {
    disk_port.read_at(path, offset, len).map_err(disk("read", path))
}
