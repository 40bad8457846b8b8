//! Taking over what a ledger in another directory has recorded: the one on which the process before this one ended its
//! calls while this one had the ledger already (UP-02).
//!
//! Its records are appended as they are, under the stream they name, so their numbers stay free of holes across the
//! change. Each is taken once, also when an earlier try was cut; what a crash of the other process left out is declared
//! as after a crash of our own. Refuses nothing by age: whoever calls holds the lock of that directory.

use std::{collections::BTreeSet, path::Path};

use base_ports::Disk;
use policies_engine::AuditUnavailable;
use tokio::sync::oneshot;

use crate::{
    error::{LedgerError, disk},
    frame::Frames,
    leaf::{Body, View},
    ledger::Ledger,
    recover::{Streams, files, scan, state},
    scan::{leaves, read},
    shelf::{Span, WalFile},
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
        let (mut there, mut span, mut all) = (Vec::new(), Span::EMPTY, Streams::default());
        for (first, path) in files(&wal, disk_port)? {
            let file = scan(path, first, disk_port, &mut all)?;
            span.join(file.span);
            there.push(file);
        }
        let mut boots = all.known();
        boots.extend(state.iter().flat_map(|state| state.boots.keys()));
        let here = self.known(&mut all, &boots, span)?;
        let mut count = 0;
        for file in &there {
            count += self.take_file(file, &here, disk_port)?;
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
        for file in inner.shelf.files().iter().filter(|file| file.span.to >= span.from) {
            let bytes = read(file, &inner.shelf, inner.disk.as_ref())?.unwrap_or_default();
            for leaf in leaves(&bytes) {
                if Streams::concerns(leaf, boots) {
                    let unreadable =
                        |source| LedgerError::Unreadable { path: file.path.clone(), offset: 0, source };
                    here.note(leaf).and_then(|_| all.note(leaf)).map_err(unreadable)?;
                }
            }
        }
        Ok(here)
    }

    fn take_file(&self, file: &WalFile, here: &Streams, disk_port: &dyn Disk) -> Result<u64, LedgerError> {
        let bytes = disk_port.read(&file.path).map_err(disk("read", &file.path))?;
        let mut adopted = Vec::new();
        for leaf in Frames::of_file(&bytes).map_while(Result::ok) {
            let unreadable = |source| LedgerError::Unreadable { path: file.path.clone(), offset: 0, source };
            let view = View::of(leaf).map_err(unreadable)?;
            let place = view.place().map_err(unreadable)?;
            if !here.covers(&place) {
                adopted.push(Adopted { time: view.time, leaf: leaf.to_vec(), done: None });
            }
        }
        let count = adopted.len() as u64;
        if count > 0 {
            self.written(adopted)?;
        }
        Ok(count)
    }

    /// Waits until they are on disk, and everything said before.
    fn written(&self, mut adopted: Vec<Adopted>) -> Result<(), LedgerError> {
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

#[cfg(test)]
mod tests;
