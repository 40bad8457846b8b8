//! Taking over what a ledger in another directory has recorded: the one on which the process before this one ended its
//! calls while this one had the ledger already (UP-02).
//!
//! Its records are appended as they are, under the stream they name, so their numbers stay free of holes across the
//! change. Each is taken once, also when an earlier try was cut; what a crash of the other process left out is declared
//! as after a crash of our own. Refuses nothing by age: whoever calls holds the lock of that directory.

use std::{collections::BTreeSet, ops::ControlFlow, path::Path, sync::Arc};

use base_ports::Disk;
use policies_engine::AuditUnavailable;
use tokio::sync::oneshot;

use crate::{
    archive,
    error::{LedgerError, disk},
    leaf::{Body, View},
    ledger::Ledger,
    quarantine::Quarantine,
    recover::{Streams, Torn, files, note_segments, scan, state},
    shelf::{Shelf, Span},
    source::{Source, Volume},
    writer::Adopted,
};

impl Ledger {
    /// Takes over the records of the ledger in `dir`, which nobody writes any more, and returns how many came. They are
    /// on disk then, and the directory may go. Reads files and waits for the disk: call it from a thread that may block.
    ///
    /// # Errors
    /// Damage there that no crash explains, or our own disk takes nothing; then nothing may be removed.
    pub fn adopt(&self, dir: &Path) -> Result<u64, LedgerError> {
        let (wal, disk_port) = (dir.join("wal"), self.inner().disk.as_ref());
        if !disk_port.exists(&wal) {
            return Ok(0);
        }
        let state = state(&dir.join("state"), disk_port)?;
        let quarantine = Arc::new(Quarantine::read(dir, disk_port));
        let damage = Torn { quarantine: &quarantine, synced: 0 };
        let (mut there, mut span, mut all) = (Vec::new(), Span::EMPTY, Streams::default());
        for (first, path) in files(&wal, disk_port)? {
            let file = scan(path, first, disk_port, &mut all, &damage)?;
            span.join(file.span);
            there.push(file);
        }
        let (segments, bad) = archive::load(&dir.join("seg"), disk_port)?;
        let segments = archive::mend(segments, &bad, there.first().map(|file| file.first), disk_port)?;
        segments.iter().for_each(|segment| span.join(segment.span));
        note_segments(&segments, &mut all, disk_port)?;
        let there = Shelf::new(segments, there).beside(Arc::clone(&quarantine));
        let mut boots = all.known();
        boots.extend(state.iter().flat_map(|state| state.boots.keys()));
        let here = self.known(&mut all, &boots, span)?;
        // Before the records that need it.
        if let Some(side) = self.redaction().side() {
            side.adopt(dir).map_err(disk("take over what is beside", dir))?;
        }
        let mut count = 0;
        for volume in there.volumes() {
            count += self.take(&there, &volume, &here, disk_port)?;
        }
        let boots = state.map_or_else(|| all.boots(), |state| state.boots);
        let mut missing = Vec::new();
        for (boot, lanes) in boots.iter().filter(|(boot, _)| !all.closed.contains(*boot)) {
            let crashed = all.crashed(*boot, lanes);
            if !crashed.gaps.is_empty() {
                missing.push(Body::Recovery { boot: crashed.boot, lanes: crashed.lanes });
                missing.extend(crashed.gaps.into_iter().map(Body::Gap));
            }
        }
        if !missing.is_empty() {
            self.inner().say(missing);
            self.written(Vec::new())?;
        }
        Ok(count)
    }

    /// What of these streams stands in our own files already.
    fn known(
        &self,
        all: &mut Streams,
        boots: &BTreeSet<[u8; 8]>,
        span: Span,
    ) -> Result<Streams, LedgerError> {
        let (inner, mut here) = (self.inner(), Streams::default());
        let mut source = Source::new(&inner.shelf, inner.disk.as_ref());
        let wanted = Span { from: span.from, to: i64::MAX };
        for volume in inner.shelf.volumes().iter().filter(|volume| volume.span().touches(wanted)) {
            for extent in source.extents(volume, wanted, &[])? {
                let mut outcome = Ok(());
                source.read(&extent, extent.first, &mut |_, leaf| {
                    if Streams::concerns(leaf, boots) {
                        outcome = here.note(leaf).and_then(|_| all.note(leaf)).map(|_| ());
                    }
                    if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })?;
                outcome.map_err(unreadable(volume))?;
            }
        }
        Ok(here)
    }

    fn take(
        &self,
        there: &Shelf,
        volume: &Volume,
        here: &Streams,
        disk_port: &dyn Disk,
    ) -> Result<u64, LedgerError> {
        let (mut source, mut count) = (Source::new(there, disk_port), 0);
        for extent in source.extents(volume, Span::ALL, &[])? {
            let (mut adopted, mut outcome) = (Vec::new(), Ok(()));
            let reading = source.read(&extent, extent.first, &mut |_, leaf| {
                outcome = View::checked(leaf).and_then(|view| {
                    if !here.covers(&view.place()?) {
                        adopted.push(Adopted { time: view.time, leaf: leaf.to_vec(), done: None });
                    }
                    Ok(())
                });
                if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            outcome.map_err(unreadable(volume))?;
            if let Some(damage) = reading.damage {
                return Err(LedgerError::DamagedRange { damage });
            }
            count += adopted.len() as u64;
            if !adopted.is_empty() {
                self.written(adopted)?;
            }
        }
        Ok(count)
    }

    /// Waits until they are on disk, and everything said before.
    pub(crate) fn written(&self, mut adopted: Vec<Adopted>) -> Result<(), LedgerError> {
        let (done, outcome) = oneshot::channel();
        match adopted.last_mut() {
            Some(last) => last.done = Some(done),
            None => adopted.push(Adopted { time: 0, leaf: Vec::new(), done: Some(done) }),
        }
        self.inner().adopt(adopted);
        match outcome.blocking_recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(refused)) => Err(LedgerError::NotAdopted(refused)),
            Err(_closed) => {
                let why = "the ledger was closed".to_owned();
                Err(LedgerError::NotAdopted(AuditUnavailable(why)))
            }
        }
    }
}

pub(crate) fn unreadable(volume: &Volume) -> impl FnOnce(crate::LeafError) -> LedgerError {
    let path = volume.path().to_owned();
    move |source| LedgerError::Unreadable { path, offset: 0, source }
}

#[cfg(test)]
mod tests;
