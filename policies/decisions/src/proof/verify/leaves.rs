//! The one pass over all records.

use base_ports::UnixTime;
use bytes::Bytes;
use std::{collections::BTreeMap, rc::Rc};

use super::{Auditor, Fault, Found, Material, Stored, Unreadable, Verified, complete::Completeness, forked};
use crate::{
    leaf::{Kind, View},
    proof::{
        checkpoint::Checkpoint,
        frontier::Frontier,
        hash::{HASH, TreeHash, perfect},
        prove::Tiles,
        tile::{TileId, WIDTH},
    },
};

/// Faults that are named; what is behind them follows from them.
const NAMED: usize = 20;

/// State of the pass.
pub(super) struct Pass<'a> {
    material: &'a dyn Material,
    checkpoint: &'a Checkpoint,
    kept: Option<&'a Checkpoint>,
    auditor: &'a Auditor<'a>,
    verified: &'a mut Verified,
    /// None before the first record, and after what makes every root wrong.
    frontier: Option<Frontier>,
    next: Option<u64>,
    /// Stretches without records, as faults with the index at which it goes on.
    holes: Vec<(Fault, u64)>,
    last: (Rc<str>, u64),
    /// Where the records of the tile that is filling were found.
    filling: Vec<(Rc<str>, u64)>,
    full: Vec<(TileId, Vec<TreeHash>)>,
    complete: Completeness,
    versions: Versions,
    unread: Option<Unreadable>,
}

/// Manifests that judged and manifests that were activated.
#[derive(Default)]
struct Versions {
    /// Raw value of the last record, so that the next one with the same is not read.
    last: Vec<u8>,
    judged: BTreeMap<Vec<u8>, (u64, u64)>,
    activated: BTreeMap<Vec<u8>, u64>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        material: &'a dyn Material,
        checkpoint: &'a Checkpoint,
        kept: Option<&'a Checkpoint>,
        auditor: &'a Auditor<'a>,
        verified: &'a mut Verified,
    ) -> Self {
        Self {
            material,
            checkpoint,
            kept,
            auditor,
            verified,
            frontier: None,
            next: None,
            holes: Vec::new(),
            last: ("wal".into(), 0),
            filling: Vec::with_capacity(WIDTH),
            full: Vec::new(),
            complete: Completeness::new(),
            versions: Versions::default(),
            unread: None,
        }
    }

    pub(super) fn take(&mut self, found: Found<'_>) {
        match self.next {
            None => self.begin(found.index),
            Some(next) if next != found.index => {
                let what = format!("expected this record, found the one of index {}", found.index);
                self.holes.push((Fault::at(next, found.file, found.offset, what), found.index));
                self.resume(found.index);
            }
            Some(_) => (),
        }
        self.next = Some(found.index + 1);
        self.verified.read += 1;
        if *self.last.0 != *found.file {
            self.last.0 = found.file.into();
        }
        self.last.1 = found.offset;
        self.form(&found);
        if found.index < self.end_of_tree() {
            self.grow(&found);
        } else {
            self.verified.uncovered += 1;
        }
    }

    fn begin(&mut self, index: u64) {
        self.verified.first = index;
        if index > self.material.base() {
            let what = "the records before this one are gone, and no record says that retention took them";
            self.holes.push((Fault { index: Some(self.material.base()), ..Fault::new(what) }, index));
        }
        self.resume(index);
    }

    /// Goes on at that index; the tree before it comes from tiles.
    fn resume(&mut self, index: u64) {
        self.frontier = None;
        let Some(before) = index.checked_sub(self.material.base()) else { return };
        let (tiles, size) = (Stored(self.material), self.checkpoint.size);
        if before > size {
            return;
        }
        match Frontier::load(before, |id, _| tiles.tile(id, id.width(size))) {
            Ok(frontier) => self.frontier = Some(frontier),
            Err(error) => self.unread = Some(error),
        }
        self.sizes();
    }

    fn end_of_tree(&self) -> u64 {
        self.material.base() + self.checkpoint.size
    }

    /// What the record itself says.
    fn form(&mut self, found: &Found<'_>) {
        let view = match View::checked(found.leaf) {
            Ok(view) => view,
            Err(error) => {
                self.fault(Fault::at(
                    found.index,
                    found.file,
                    found.offset,
                    format!("it is no record: {error}"),
                ));
                return;
            }
        };
        if found.index < self.end_of_tree() {
            self.verified.time = Some(UnixTime::from_nanos(view.time));
        }
        if let Err(what) = self.complete.note(&view, found.leaf, self.auditor.identities) {
            self.fault(Fault::at(found.index, found.file, found.offset, what));
        }
        self.versions.note(&view, found.index);
        if view.kind() == Kind::DECISION {
            self.draw(found);
        }
    }

    /// Every decision is as likely to be drawn as any other.
    fn draw(&mut self, found: &Found<'_>) {
        let ((most, rng), verified) = (self.auditor.sample, &mut *self.verified);
        verified.decisions += 1;
        let drawn = || (found.index, Bytes::copy_from_slice(found.leaf));
        if verified.sample.len() < most {
            verified.sample.push(drawn());
        } else if most > 0
            && let Ok(at) = usize::try_from(rng.u64() % verified.decisions)
            && let Some(place) = verified.sample.get_mut(at)
        {
            *place = drawn();
        }
    }

    fn grow(&mut self, found: &Found<'_>) {
        let Some(mut frontier) = self.frontier.take() else { return };
        if frontier.size().is_multiple_of(WIDTH as u64) {
            self.filling.clear();
        }
        self.filling.push(self.last.clone());
        let full = &mut self.full;
        frontier.push(TreeHash::of_leaf(found.leaf), |id, hashes| full.push((id, hashes)));
        self.frontier = Some(frontier);
        if !self.full.is_empty() {
            for (id, hashes) in std::mem::take(&mut self.full) {
                self.compare(id, &hashes);
            }
        }
        self.sizes();
    }

    /// Roots at the sizes that were signed.
    fn sizes(&mut self) {
        let Some(frontier) = &self.frontier else { return };
        let size = frontier.size();
        if let Some(kept) = self.kept.filter(|kept| kept.size == size) {
            if frontier.root() == kept.root {
                self.verified.since = Some(size);
            } else {
                self.fault(forked(kept));
            }
        }
        if size != self.checkpoint.size {
            return;
        }
        let Some(frontier) = self.frontier.take() else { return };
        for (id, hashes) in frontier.partial() {
            self.compare(id, hashes);
        }
        if frontier.root() != self.checkpoint.root {
            let what = format!(
                "the {size} records have the root {}, the checkpoint says {}",
                frontier.root(),
                self.checkpoint.root
            );
            self.fault(Fault { file: Some("checkpoint".to_owned()), ..Fault::new(what) });
        }
        self.frontier = Some(frontier);
    }

    /// Compares a tile with the one that is stored.
    fn compare(&mut self, id: TileId, hashes: &[TreeHash]) {
        let (name, bytes) = match self.material.tile(id, hashes.len()) {
            Ok(Some(stored)) => stored,
            Ok(None) => {
                let name = format!("tile/{}", id.path(hashes.len()));
                return self.fault(Fault { file: Some(name), ..Fault::new("the tile is missing") });
            }
            Err(error) => {
                self.unread.get_or_insert(error);
                return;
            }
        };
        let is_length = bytes.len() >= hashes.len() * HASH && bytes.len().is_multiple_of(HASH);
        let (stored, _) = bytes.as_chunks::<HASH>();
        let same = stored.iter().zip(hashes).take_while(|(stored, hash)| **stored == hash.0).count();
        if same == hashes.len() && is_length {
            return;
        }
        if !is_length || same == stored.len() {
            let what = format!("the tile has {} bytes, expected {}", bytes.len(), hashes.len() * HASH);
            return self.fault(Fault { file: Some(name), ..Fault::new(what) });
        }
        let index = self.material.base() + id.index * WIDTH as u64 + same as u64;
        let (expected, computed) = (stored.get(same).copied().map(TreeHash), hashes.get(same));
        let (Some(expected), Some(computed)) = (expected, computed) else { return };
        let is_record = id.level == 0 && !self.is_above(id, hashes);
        match self.filling.get(same).filter(|_| is_record && self.filling.len() == hashes.len()) {
            Some((file, offset)) => {
                let what = format!("the record has the hash {computed}, its tile says {expected}");
                let fault = Fault::at(index, file, *offset, what);
                self.fault(fault);
            }
            None => {
                let what = format!("the tile says {expected}, its records give {computed}");
                let fault = Fault::at(index, &name, (same * HASH) as u64, what);
                // Hashes of higher levels stand for many records; the first of them is named by its own tile.
                self.fault(Fault { index: fault.index.filter(|_| id.level == 0), ..fault });
            }
        }
    }

    /// Whether the level above the tile agrees with what was computed.
    fn is_above(&self, id: TileId, hashes: &[TreeHash]) -> bool {
        if hashes.len() < WIDTH {
            return false;
        }
        let parent = TileId { level: id.level + 1, index: id.index / WIDTH as u64 };
        let at = usize::try_from(id.index % WIDTH as u64).unwrap_or(WIDTH);
        let stored = Stored(self.material).tile(parent, parent.width(self.checkpoint.size));
        stored.is_ok_and(|stored| stored.get(at) == Some(&perfect(hashes)))
    }

    fn fault(&mut self, fault: Fault) {
        if self.verified.faults.len() < NAMED {
            self.verified.faults.push(fault);
        }
    }

    /// What can be said only when everything was read.
    pub(super) fn end(mut self, damage: Option<Fault>) -> Result<(), Unreadable> {
        let next = self.next.unwrap_or(self.material.base());
        let end = self.end_of_tree();
        match damage {
            // What follows from it was found before.
            Some(fault) => self.verified.faults.insert(0, fault),
            None if next < end => {
                let (file, offset) = self.last.clone();
                let what =
                    format!("the records end here, and the checkpoint covers those before index {end}");
                self.fault(Fault::at(next, &file, offset, what));
            }
            None => (),
        }
        for (fault, end) in std::mem::take(&mut self.holes) {
            // What retention took is not expected, and neither are the streams that began in it.
            if self.complete.is_retired(fault.index.unwrap_or(0)..end) {
                self.complete.is_whole = false;
            } else {
                self.fault(fault);
            }
        }
        // What cannot be read is worth telling only where nothing is known to be changed.
        if let Some(unread) = self.unread.take().filter(|_| self.verified.faults.is_empty()) {
            return Err(unread);
        }
        let is_cut = !self.verified.faults.is_empty();
        let is_whole = self.complete.is_whole && !self.complete.has_set_aside();
        let complete = std::mem::take(&mut self.complete);
        for fault in complete.end(self.auditor.now, self.verified).into_iter().filter(|_| !is_cut) {
            self.fault(fault);
        }
        let versions = std::mem::take(&mut self.versions);
        self.verified.versions = versions.span();
        if is_whole && !is_cut {
            for fault in versions.unproved() {
                self.fault(fault);
            }
        }
        Ok(())
    }
}

impl Versions {
    fn note(&mut self, view: &View<'_>, index: u64) {
        let raw = view.versions();
        if raw.is_empty() || (view.kind() != Kind::ACTIVATION && raw == self.last) {
            return;
        }
        let (Some(manifest), Some(number)) = (view.manifest(), view.policies_version()) else { return };
        if view.kind() == Kind::ACTIVATION {
            self.activated.entry(manifest.to_vec()).or_insert(number);
        } else if view.kind() == Kind::DECISION {
            self.last = raw.to_vec();
            self.judged.entry(manifest.to_vec()).or_insert((number, index));
        }
    }

    fn span(&self) -> Option<(u64, u64)> {
        let numbers = || self.judged.values().map(|(number, _)| *number);
        numbers().min().zip(numbers().max())
    }

    fn unproved(&self) -> Vec<Fault> {
        let unknown = self.judged.iter().filter(|(manifest, _)| !self.activated.contains_key(*manifest));
        unknown
            .map(|(manifest, (number, index))| {
                let hash = crate::leaf::hex(manifest);
                let what =
                    format!("it was judged by version {number}, manifest {hash}, which no record activates");
                Fault { index: Some(*index), ..Fault::new(what) }
            })
            .collect()
    }
}
