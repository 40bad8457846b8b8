//! A ledger directory as material: files alone, nothing is written or locked.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use base_ports::Disk;

use super::{Fault, Found, Material, Unreadable, unreadable};
use crate::{
    LedgerError,
    archive::{self, BadHeader, Body, Part, Segment},
    frame::{BadFrame, HEADER, Magic, magic},
    proof::{name::LogName, place::Place, tile::TileId},
    quarantine::{Quarantine, Step, Steps},
    recover,
    shelf::{Shelf, Span},
    source::Source,
};

/// The ledger in a directory.
#[derive(Debug)]
pub struct DirMaterial {
    place: Place,
    base: u64,
    segments: Vec<Segment>,
    /// Segments whose header is damaged.
    bad: Vec<BadHeader>,
    files: Vec<(u64, PathBuf)>,
    quarantine: Arc<Quarantine>,
    disk: Arc<dyn Disk>,
}

impl DirMaterial {
    /// Looks at the directory that holds `wal`, `tile` and `checkpoint`.
    ///
    /// # Errors
    /// It is none.
    pub fn open(dir: &Path, disk: Arc<dyn Disk>) -> Result<Self, Unreadable> {
        let shown = dir.display().to_string();
        let name = LogName::load(dir, disk.as_ref()).map_err(|error| unreadable(&shown, &error))?;
        let name = name.unwrap_or(LogName::first(0));
        let failed = |error: LedgerError| unreadable(&shown, &Told(&error));
        let (segments, bad) = archive::load(&dir.join("seg"), disk.as_ref()).map_err(failed)?;
        let files = recover::files(&dir.join("wal"), disk.as_ref()).map_err(failed)?;
        let place = Place::new(name.place(dir), Arc::clone(&disk));
        let quarantine = Arc::new(Quarantine::read(dir, disk.as_ref()));
        Ok(Self { place, base: name.base, segments, bad, files, quarantine, disk })
    }
}

impl DirMaterial {
    /// The records that stand in segments; returns the index after the last one.
    fn archived(
        &self,
        each: &mut dyn FnMut(Found<'_>),
        damage: &mut Option<Fault>,
    ) -> Result<u64, Unreadable> {
        for bad in &self.bad {
            let what = "the header of the segment is damaged";
            damage.get_or_insert(Fault::at(bad.first, &bad.path.display().to_string(), 0, what));
        }
        let shelf = Shelf::new(self.segments.clone(), Vec::new()).beside(Arc::clone(&self.quarantine));
        let mut source = Source::new(&shelf, self.disk.as_ref());
        let mut next = 0;
        for volume in shelf.volumes() {
            let file = volume.path().display().to_string();
            let failed = |error: LedgerError| unreadable(&file, &Told(&error));
            for extent in source.extents(&volume, Span::ALL, &[]).map_err(failed)? {
                let offset = extent.offset();
                let mut found = |index: u64, leaf: &[u8]| {
                    each(Found { index, leaf, file: &file, offset });
                    ControlFlow::Continue(())
                };
                let reading = source.read(&extent, extent.first, &mut found).map_err(failed)?;
                if let Some(bad) = reading.damage {
                    damage.get_or_insert(Fault::at(bad.first, &file, offset, bad.problem));
                }
            }
            next = volume.end();
        }
        for segment in &self.segments {
            self.footer(segment, damage)?;
        }
        Ok(next)
    }

    /// The index of a segment proves nothing and can be made again, but nobody may change it unseen.
    fn footer(&self, segment: &Segment, damage: &mut Option<Fault>) -> Result<(), Unreadable> {
        let file = segment.path.display().to_string();
        let Body::Closed(trailer) = &segment.body else {
            // The last one may still grow.
            let is_last = self.segments.last().is_some_and(|last| last.first == segment.first);
            if !is_last {
                damage.get_or_insert(Fault { file: Some(file), ..Fault::new("the segment has no index") });
            }
            return Ok(());
        };
        for part in [Part::Blocks, Part::Terms, Part::Traces] {
            let (offset, len) = trailer.place(part);
            let bytes =
                self.disk.read_at(&segment.path, offset, len).map_err(|error| unreadable(&file, &error))?;
            if !trailer.fits(part, &bytes) {
                let fault = Fault::new("the index of the segment is damaged; its records are not");
                damage.get_or_insert(Fault { file: Some(file.clone()), offset: Some(offset), ..fault });
            }
        }
        Ok(())
    }
}

impl Material for DirMaterial {
    fn checkpoint(&self) -> Result<Vec<u8>, Unreadable> {
        let shown = self.place.checkpoint_path().display().to_string();
        let found = self.place.checkpoint().map_err(|error| unreadable(&shown, &error))?;
        found.ok_or_else(|| unreadable(&shown, &"there is no checkpoint"))
    }

    fn base(&self) -> u64 {
        self.base
    }

    fn tile(&self, id: TileId, width: usize) -> Result<Option<(String, Vec<u8>)>, Unreadable> {
        let found = self.place.stored(id, width).map_err(|error| unreadable("tile", &error))?;
        Ok(found.map(|(path, bytes)| (path.display().to_string(), bytes)))
    }

    fn leaves(&self, each: &mut dyn FnMut(Found<'_>)) -> Result<Option<Fault>, Unreadable> {
        let mut damage = None;
        let next = self.archived(each, &mut damage)?;
        for (at, (first, path)) in self.files.iter().enumerate() {
            let file = path.display().to_string();
            let bytes = self.disk.read(path).map_err(|error| unreadable(&file, &error))?;
            let is_last = at + 1 == self.files.len();
            match magic(&bytes) {
                Magic::Known => (),
                Magic::Cut if is_last => continue,
                Magic::Version => return Err(unreadable(&file, &"it was written by a newer version")),
                Magic::Cut | Magic::Blank | Magic::Foreign => {
                    let what = "it does not begin as a file of the ledger";
                    damage.get_or_insert(Fault::at(*first, &file, 0, what));
                    continue;
                }
            }
            let mut steps = Steps::of_file(&bytes, *first, self.quarantine.in_file(path));
            loop {
                let (offset, index) = (steps.offset() as u64, steps.index());
                match steps.next() {
                    None => break,
                    // What stands in a segment as well was read there.
                    Some(Step::Record(_)) if index < next => (),
                    Some(Step::Record(leaf)) => {
                        each(Found { index, leaf, file: &file, offset: offset + HEADER as u64 });
                    }
                    Some(Step::Aside(stretch)) => {
                        for index in stretch.first.max(next)..stretch.end() {
                            each(Found { index, leaf: &stretch.leaf(index), file: &file, offset });
                        }
                    }
                    // It may still be written to.
                    Some(Step::Bad(BadFrame::Cut)) if is_last && !steps.any_later() => break,
                    Some(Step::Bad(bad)) => {
                        damage.get_or_insert(Fault::at(index, &file, offset, bad.to_string()));
                        break;
                    }
                }
            }
        }
        Ok(damage)
    }
}

/// An error with its causes.
struct Told<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        self.0.source().map_or(Ok(()), |cause| write!(f, ": {cause}"))
    }
}
