//! The segment that is being written, and the footer of one that lacks it.
//!
//! Called by the archive alone. Only what was synced is ever relied on: a block counts as stored when
//! [`Growing::sync`] returned, and until then the write-ahead files hold it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base_ports::{Disk, DiskFile, Mono, Now};
use parking_lot::Mutex;

use super::{
    block::{Packer, Unpacker, leaves},
    footer,
    index::{Entry, Index},
    segment::{Body, HEADER, Segment, header, path_of, read_at, walk},
};
use crate::{
    error::{LedgerError, disk},
    leaf::{LeafError, View},
    rollup::Counter,
    shelf::Span,
};

/// Why a segment is not durable.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Nothing was written, or only a part; it can be tried again.
    Write(LedgerError),
    /// What was written may be lost; the file is not to be trusted.
    Sync(LedgerError),
}

/// A segment without a footer yet.
#[derive(Debug)]
pub(crate) struct Growing {
    path: PathBuf,
    first: u64,
    file: Box<dyn DiskFile>,
    /// Bytes up to the end of the last whole block.
    len: u64,
    /// Something may stand behind that.
    is_torn: bool,
    index: Arc<Mutex<Index>>,
    span: Span,
    end: u64,
    since: Mono,
    /// Blocks that are synced.
    synced: usize,
}

impl Growing {
    /// Makes the file for records from `first` on.
    pub(crate) fn create(
        dir: &Path,
        first: u64,
        origin: &str,
        now: Now,
        disk_port: &dyn Disk,
    ) -> Result<Growing, LedgerError> {
        let path = path_of(dir, first);
        let mut file = disk_port.open_append(&path).map_err(disk("open", &path))?;
        // A first try may have left something behind.
        file.truncate(0).map_err(disk("cut", &path))?;
        file.append(&header(origin, first, now.wall.as_nanos())).map_err(disk("write", &path))?;
        Ok(Growing {
            path,
            first,
            file,
            len: HEADER as u64,
            is_torn: false,
            index: Arc::default(),
            span: Span::EMPTY,
            end: first,
            since: now.mono,
            synced: 0,
        })
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn is_old(&self, age: Duration, now: Mono) -> bool {
        now.saturating_since(self.since) >= age
    }

    pub(crate) fn index_bytes(&self) -> usize {
        self.index.lock().bytes()
    }

    /// As readers see it.
    pub(crate) fn segment(&self) -> Segment {
        Segment {
            path: self.path.clone(),
            first: self.first,
            end: self.end,
            len: self.len,
            span: self.span,
            body: Body::Open(Arc::clone(&self.index)),
        }
    }

    /// Appends the block that the packer holds, and has its records counted.
    pub(crate) fn append(&mut self, packer: &mut Packer, counter: &mut Counter) -> Result<(), LedgerError> {
        let span = {
            let records = views(packer.raw());
            counter.take(packer.first(), &records);
            self.index.lock().note(&records)
        };
        let (header, block) = packer.finish(span);
        self.write(|file| file.append(block))?;
        // The header rounds the times; all who read use the same ones.
        self.index.lock().block(Entry::of(&header, self.len));
        self.span.join(header.span);
        self.len += header.len();
        self.end = header.end();
        Ok(())
    }

    fn write(
        &mut self,
        write: impl FnOnce(&mut dyn DiskFile) -> std::io::Result<()>,
    ) -> Result<(), LedgerError> {
        if self.is_torn {
            self.file.truncate(self.len).map_err(disk("cut", &self.path))?;
        }
        self.is_torn = true;
        write(self.file.as_mut()).map_err(disk("write", &self.path))?;
        self.is_torn = false;
        Ok(())
    }

    /// Makes all blocks durable.
    pub(crate) fn sync(&mut self, disk_port: &dyn Disk, dir: &Path) -> Result<(), Failed> {
        let blocks = self.index.lock().blocks.len();
        if self.synced < blocks {
            let synced = self.file.sync_data().and_then(|()| disk_port.sync_dir(dir));
            synced.map_err(disk("sync", &self.path)).map_err(Failed::Sync)?;
            self.synced = blocks;
        }
        Ok(())
    }

    /// Writes the footer and makes all of it durable. Afterwards it is not to be appended to.
    pub(crate) fn close(&mut self, disk_port: &dyn Disk, dir: &Path) -> Result<Segment, Failed> {
        let (bytes, trailer) = footer::encode(&self.index.lock(), self.len);
        self.write(|file| file.append(&bytes)).map_err(Failed::Write)?;
        // Should the sync fail, the footer goes with what is cut off.
        self.is_torn = true;
        let synced = self.file.sync_data().and_then(|()| disk_port.sync_dir(dir));
        synced.map_err(disk("sync", &self.path)).map_err(Failed::Sync)?;
        let len = self.len + bytes.len() as u64;
        Ok(Segment { len, body: Body::Closed(trailer), ..self.segment() })
    }

    /// What of it is synced; `None` when nothing is.
    pub(crate) fn synced_part(&self) -> Option<Segment> {
        let index = self.index.lock();
        let blocks = index.blocks.get(..self.synced).filter(|blocks| !blocks.is_empty())?.to_vec();
        let mut span = Span::EMPTY;
        blocks.iter().for_each(|block| span.join(block.span));
        let last = blocks.last()?;
        let (end, len) = (last.end(), last.offset + last.len);
        Some(Segment { end, len, span, body: Body::Bare(Arc::new(blocks)), ..self.segment() })
    }

    /// Cuts it back to what is synced.
    pub(crate) fn give_up(mut self, disk_port: &dyn Disk) -> Result<(), LedgerError> {
        match self.synced_part() {
            Some(part) => self.file.truncate(part.len).map_err(disk("cut", &self.path)),
            None => disk_port.remove(&self.path).map_err(disk("remove", &self.path)),
        }
    }
}

/// The records of a block in its raw form.
fn views(mut raw: &[u8]) -> Vec<Result<View<'_>, LeafError>> {
    leaves(&mut raw).map(View::of).collect()
}

/// Makes the footer of a segment again from its blocks, and writes it. The blocks are not touched.
pub(crate) fn reindex(
    segment: &Segment,
    disk_port: &dyn Disk,
    unpacker: &mut Unpacker,
) -> Result<Segment, LedgerError> {
    let path = &segment.path;
    let blocks = match &segment.body {
        Body::Bare(blocks) => blocks.to_vec(),
        Body::Closed(trailer) => walk(path, segment.first, trailer.start, disk_port)?,
        Body::Open(index) => index.lock().blocks.clone(),
    };
    let mut index = Index::default();
    for entry in &blocks {
        let len = usize::try_from(entry.len).unwrap_or(usize::MAX);
        let bytes = if len == 0 { Vec::new() } else { read_at(disk_port, path, entry.offset, len)? };
        match unpacker.open(&bytes) {
            Ok((header, raw)) if header.first == entry.first && header.end() == entry.end() => {
                index.note(&views(raw));
                index.block(Entry::of(&header, entry.offset));
            }
            _ => index.lost(Entry { len: entry.len, ..Entry::lost(entry.first, entry.count, entry.offset) }),
        }
    }
    let start = blocks.last().map_or(HEADER as u64, |last| last.offset + last.len);
    let (bytes, trailer) = footer::encode(&index, start);
    let mut file = disk_port.open_append(path).map_err(disk("open", path))?;
    file.truncate(start).map_err(disk("cut", path))?;
    file.append(&bytes).map_err(disk("write", path))?;
    file.sync_data().map_err(disk("sync", path))?;
    let len = start + bytes.len() as u64;
    Ok(Segment { len, span: trailer.span, body: Body::Closed(trailer), ..segment.clone() })
}
