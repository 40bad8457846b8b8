//! Leaves wherever they stand, in segments or in write-ahead files: how queries, walks, tails and followers read them.
//!
//! The log is a row of volumes, each of which gives extents: the blocks of a segment, or one write-ahead file. A reader
//! asks a volume for the extents that can hold what it wants and reads those; one block, or a part of a file, is in
//! memory at a time. Followers read no further than [`Shelf::synced`], so that nothing they publish can be lost with
//! the power (LG2). What cannot be read is named, and everything else goes on.

use std::{
    io,
    ops::{ControlFlow, Range},
    path::Path,
    sync::Arc,
};

use base_ports::Disk;

use crate::{
    archive::{Body, Entry, Part, Segment, Unpacker, Want, candidates, leaves, read_blocks, walk},
    error::{LedgerError, disk},
    frame::{BadFrame, Frames, MAGIC},
    quarantine::Stretch,
    scan::Damage,
    shelf::{Shelf, Span, WalFile},
};

/// Bytes of a write-ahead file in memory at a time; several of the longest frames.
const CHUNK: usize = 256 << 10;

/// A stretch of the log in one file.
#[derive(Debug, Clone)]
pub(crate) enum Volume {
    Segment(Arc<Segment>),
    /// A write-ahead file, and the first index in it that stands in no segment.
    Wal(Arc<WalFile>, u64),
}

impl Volume {
    pub(crate) fn first(&self) -> u64 {
        match self {
            Self::Segment(segment) => segment.first,
            Self::Wal(_, from) => *from,
        }
    }

    pub(crate) fn end(&self) -> u64 {
        match self {
            Self::Segment(segment) => segment.end,
            Self::Wal(file, _) => file.end(),
        }
    }

    pub(crate) fn span(&self) -> Span {
        match self {
            Self::Segment(segment) => segment.span,
            Self::Wal(file, _) => file.span,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Segment(segment) => &segment.path,
            Self::Wal(file, _) => &file.path,
        }
    }
}

/// What of a volume is read at once.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    pub(crate) volume: Volume,
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) span: Span,
    place: Place,
}

impl Extent {
    /// Where in its file it begins, bytes.
    pub(crate) fn offset(&self) -> u64 {
        match self.place {
            Place::Block(offset, _) => offset,
            Place::Wal => 0,
        }
    }

    /// Bytes that reading it takes from the disk.
    pub(crate) fn bytes(&self) -> u64 {
        match (&self.volume, self.place) {
            (_, Place::Block(_, length)) => length,
            (Volume::Wal(file, _), Place::Wal) => file.len,
            (Volume::Segment(_), Place::Wal) => 0,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// Offset and length of a block; without length where there is none to be read.
    Block(u64, u64),
    Wal,
}

/// How far a reading came.
#[derive(Debug)]
pub(crate) struct Reading {
    /// Index after the last record given or passed over.
    pub(crate) next: u64,
    /// Whether the reader stopped it.
    pub(crate) is_stopped: bool,
    /// What could not be read, from `next` on.
    pub(crate) damage: Option<Damage>,
}

impl Reading {
    fn whole(next: u64) -> Reading {
        Reading { next, is_stopped: false, damage: None }
    }

    fn stopped(next: u64) -> Reading {
        Reading { is_stopped: true, ..Reading::whole(next) }
    }
}

/// A reader of the log.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    shelf: &'a Shelf,
    disk: &'a dyn Disk,
    unpacker: Unpacker,
    /// What it cannot read is told by others: it may be set aside before any of them comes there.
    is_quiet: bool,
}

impl<'a> Source<'a> {
    pub(crate) fn new(shelf: &'a Shelf, disk: &'a dyn Disk) -> Source<'a> {
        Source { shelf, disk, unpacker: Unpacker::default(), is_quiet: false }
    }

    /// The same for one that waits where it cannot read, and raises no alarm about it.
    pub(crate) fn quiet(self) -> Source<'a> {
        Source { is_quiet: true, ..self }
    }

    /// The extents of a volume that touch these times and may meet all conditions, in the order of the log.
    pub(crate) fn extents(
        &self,
        volume: &Volume,
        wanted: Span,
        wants: &[Want<'_>],
    ) -> Result<Vec<Extent>, LedgerError> {
        let segment = match volume {
            Volume::Wal(file, from) => {
                let extent = |()| Extent {
                    volume: volume.clone(),
                    first: *from,
                    end: file.end(),
                    span: file.span,
                    place: Place::Wal,
                };
                return Ok((*from < file.end()).then_some(()).map(extent).into_iter().collect());
            }
            Volume::Segment(segment) => segment,
        };
        let entries = match self.entries(segment, wants) {
            Err(LedgerError::Disk { source, .. }) if self.is_gone(segment, &source) => Vec::new(),
            entries => entries?,
        };
        let touching = entries.into_iter().filter(|entry| entry.span.touches(wanted));
        Ok(touching
            .map(|entry| Extent {
                volume: volume.clone(),
                first: entry.first,
                end: entry.end(),
                span: entry.span,
                place: Place::Block(entry.offset, entry.len),
            })
            .collect())
    }

    fn entries(&self, segment: &Segment, wants: &[Want<'_>]) -> Result<Vec<Entry>, LedgerError> {
        let chosen = |entries: &[Entry], bits: &crate::archive::Bits| {
            let numbered = entries.iter().enumerate();
            numbered.filter(|(at, _)| bits.has(*at)).map(|(_, entry)| *entry).collect()
        };
        let trailer = match &segment.body {
            Body::Open(index) => {
                let index = index.lock();
                let mut chosen: Vec<Entry> = chosen(&index.blocks, &index.candidates(wants));
                // What came since is read from where the reader knows it.
                chosen.retain(|entry| entry.end() <= segment.end);
                return Ok(chosen);
            }
            Body::Bare(blocks) => return Ok(blocks.to_vec()),
            Body::Closed(trailer) => trailer,
        };
        let part = |part| {
            let (offset, len) = trailer.place(part);
            let bytes = self.disk.read_at(&segment.path, offset, len).map_err(disk("read", &segment.path))?;
            Ok::<_, LedgerError>(trailer.fits(part, &bytes).then_some(bytes))
        };
        let blocks = part(Part::Blocks)?.and_then(|bytes| read_blocks(&bytes, trailer));
        let Some(blocks) = blocks else {
            self.shelf.suspect(segment);
            return walk(&segment.path, segment.first, trailer.start, self.disk);
        };
        if wants.is_empty() {
            return Ok(blocks);
        }
        let is_traced = wants.iter().any(|want| matches!(want, Want::Trace(_)));
        let traces = if is_traced { part(Part::Traces)? } else { Some(Vec::new()) };
        let found = part(Part::Terms)?.zip(traces);
        match found.and_then(|(terms, traces)| candidates(trailer, wants, &terms, &traces)) {
            Some(bits) => Ok(chosen(&blocks, &bits)),
            None => {
                self.shelf.suspect(segment);
                Ok(blocks)
            }
        }
    }

    /// Gives the records of an extent from index `from` on.
    pub(crate) fn read(
        &mut self,
        extent: &Extent,
        from: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<Reading, LedgerError> {
        match (&extent.volume, extent.place) {
            (Volume::Wal(file, first), _) => self.read_wal(file, from.max(*first)..extent.end, each),
            (Volume::Segment(segment), Place::Block(offset, len)) => {
                self.read_block(segment, extent, (offset, len), from, each)
            }
            (Volume::Segment(_), Place::Wal) => Ok(Reading::whole(extent.end)),
        }
    }

    fn read_block(
        &mut self,
        segment: &Segment,
        extent: &Extent,
        (offset, len): (u64, u64),
        from: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<Reading, LedgerError> {
        let from = from.max(extent.first);
        // Also where the block can be read again: the tree has what stands in its place.
        let stretch = self.shelf.quarantine().in_block(&segment.path, offset);
        let stretch = stretch.filter(|stretch| stretch.end() == extent.end);
        if let Some(stretch) = stretch.as_ref().filter(|stretch| stretch.first <= from) {
            return Ok(replaced(stretch, from, each));
        }
        let problem = match self.disk.read_at(&segment.path, offset, usize::try_from(len).unwrap_or(0)) {
            Err(error) if self.is_gone(segment, &error) => return Ok(Reading::whole(extent.end)),
            Err(error) => format!("the block at byte {offset} cannot be read: {error}"),
            Ok(_) if len == 0 => format!("there is no readable block at byte {offset}"),
            Ok(bytes) => match self.unpacker.open(&bytes) {
                Err(bad) => format!("byte {offset}: {bad}"),
                Ok((header, _)) if (header.first, header.end()) != (extent.first, extent.end) => {
                    format!("byte {offset}: the block belongs elsewhere")
                }
                Ok((_, mut raw)) => {
                    for (index, leaf) in (extent.first..).zip(leaves(&mut raw)) {
                        let aside = stretch.as_ref().filter(|stretch| stretch.first <= index);
                        let aside = aside.map(|stretch| stretch.leaf(index));
                        let leaf = aside.as_deref().unwrap_or(leaf);
                        if index >= from && each(index, leaf).is_break() {
                            return Ok(Reading::stopped(index));
                        }
                    }
                    return Ok(Reading::whole(extent.end));
                }
            },
        };
        Ok(self.damaged(&segment.path, from..extent.end, problem))
    }

    /// Whether retention has taken the file meanwhile.
    fn is_gone(&self, segment: &Segment, error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::NotFound && !self.shelf.has_segment(segment.first)
    }

    fn read_wal(
        &mut self,
        file: &WalFile,
        wanted: Range<u64>,
        each: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<Reading, LedgerError> {
        let (mut index, mut offset) = self.shelf.mark(file.first, wanted.start);
        let (mut next, aside) = (wanted.start, self.shelf.quarantine().in_file(&file.path));
        while next < wanted.end {
            let room = file.len.saturating_sub(offset).min(CHUNK as u64);
            let chunk = match self.disk.read_at(&file.path, offset, usize::try_from(room).unwrap_or(CHUNK)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.shelf.has_wal(file.first) => {
                    return self.moved(next..wanted.end, each);
                }
                chunk => chunk.map_err(disk("read", &file.path))?,
            };
            let mut bytes = chunk.as_slice();
            if offset == 0 {
                match bytes.strip_prefix(&MAGIC) {
                    Some(frames) => bytes = frames,
                    None => {
                        return Ok(self.damaged(&file.path, next..file.end(), "it has no magic".to_owned()));
                    }
                }
            }
            let mut frames = Frames::of_batch(bytes);
            let is_last = offset + chunk.len() as u64 >= file.len || (chunk.len() as u64) < room;
            let (met, bad) = loop {
                let here = offset + (chunk.len() - bytes.len() + frames.offset()) as u64;
                if let Some(stretch) = aside.iter().find(|stretch| stretch.is_at(here, index)) {
                    break (Some(stretch), None);
                }
                match frames.next() {
                    Some(Ok(leaf)) => {
                        if index >= next {
                            if each(index, leaf).is_break() {
                                return Ok(Reading::stopped(index));
                            }
                            next = index + 1;
                        }
                        index += 1;
                        if next >= wanted.end {
                            return Ok(Reading::whole(next));
                        }
                    }
                    Some(Err(BadFrame::Cut)) if !is_last => break (None, None),
                    Some(Err(bad)) => break (None, Some(bad.to_string())),
                    None if is_last => break (None, Some("the file ends before its records".to_owned())),
                    None => break (None, None),
                }
            };
            if let Some(stretch) = met {
                let end = stretch.end().min(wanted.end).max(next);
                let mut until = |at: u64, leaf: &[u8]| {
                    if at < end { each(at, leaf) } else { ControlFlow::Break(()) }
                };
                let reading = replaced(stretch, next.max(index), &mut until);
                if reading.is_stopped && reading.next < end {
                    return Ok(reading);
                }
                (next, index) = (end, stretch.end());
                offset = stretch.offset + stretch.bytes;
                continue;
            }
            let read = (chunk.len() - bytes.len() + frames.offset()) as u64;
            if let Some(bad) = bad {
                let problem = format!("frames are damaged: byte {}: {bad}", offset + read);
                return Ok(self.damaged(&file.path, next.max(index)..file.end(), problem));
            }
            offset += read;
        }
        Ok(Reading::whole(next))
    }

    /// Reads records whose write-ahead file is gone: they are in a segment now, or past retention.
    fn moved(
        &mut self,
        wanted: Range<u64>,
        each: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<Reading, LedgerError> {
        let mut next = wanted.start;
        for volume in self.shelf.volumes() {
            if volume.end() <= next || volume.first() >= wanted.end {
                continue;
            }
            for extent in self.extents(&volume, Span::ALL, &[])? {
                if extent.end <= next || extent.first >= wanted.end {
                    continue;
                }
                let mut until = |index: u64, leaf: &[u8]| {
                    if index < wanted.end { each(index, leaf) } else { ControlFlow::Break(()) }
                };
                let reading = self.read(&extent, next, &mut until)?;
                if reading.damage.is_some() || (reading.is_stopped && reading.next < wanted.end) {
                    return Ok(reading);
                }
                next = reading.next;
            }
        }
        Ok(Reading::whole(wanted.end))
    }

    fn damaged(&self, path: &Path, range: Range<u64>, problem: String) -> Reading {
        let damage = Damage {
            file: path.to_owned(),
            first: range.start,
            last: range.end.saturating_sub(1).max(range.start),
            problem,
        };
        if !self.is_quiet {
            self.shelf.note_damage(&damage);
        }
        Reading { next: range.start, is_stopped: false, damage: Some(damage) }
    }
}

/// Gives the records in the place of a stretch that was set aside, from index `from` on.
fn replaced(stretch: &Stretch, from: u64, each: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>) -> Reading {
    for index in from..stretch.end() {
        if each(index, &stretch.leaf(index)).is_break() {
            return Reading::stopped(index);
        }
    }
    Reading::whole(stretch.end())
}

/// Gives the leaves of a range of indexes in order and returns the index after the last one given. It ends early where
/// a file is damaged or where `each` breaks. One block is in memory at a time.
pub(crate) fn each_leaf(
    shelf: &Shelf,
    disk_port: &dyn Disk,
    range: Range<u64>,
    mut each: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> Result<u64, LedgerError> {
    let mut source = Source::new(shelf, disk_port);
    let next = std::cell::Cell::new(range.start);
    let mut in_order = |index: u64, leaf: &[u8]| {
        // What retention took under way leaves a hole, and nobody is to take it for the end of the log.
        if index >= range.end || index != next.get() || each(index, leaf).is_break() {
            return ControlFlow::Break(());
        }
        next.set(index + 1);
        ControlFlow::Continue(())
    };
    for volume in shelf.volumes() {
        if volume.end() <= next.get() || volume.first() >= range.end {
            continue;
        }
        for extent in source.extents(&volume, Span::ALL, &[])? {
            if extent.end <= next.get() {
                continue;
            }
            if extent.first > next.get() || extent.first >= range.end {
                return Ok(next.get());
            }
            let reading = source.read(&extent, next.get(), &mut in_order)?;
            if reading.is_stopped || reading.damage.is_some() {
                return Ok(next.get());
            }
        }
    }
    Ok(next.get())
}

#[cfg(test)]
mod tests;
