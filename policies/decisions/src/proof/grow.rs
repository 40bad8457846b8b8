//! The thread "ledger-tree": follows what is synced, appends it to the tree, writes tiles and signs checkpoints (VF2).
//!
//! Leaves come from the writer's own batches while the thread keeps up, else from the files. Nothing enters the tree
//! before it is synced, and the order of durability is leaves, tiles, checkpoint (LG2). At most one checkpoint's worth of
//! leaves is ahead of what is signed, so memory is bounded whatever the disk does.

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};

use base_ports::{Clock, Mono};
use bytes::Bytes;
use tokio::sync::broadcast::{Receiver, error::TryRecvError};

use super::{
    checkpoint::Checkpoint,
    error::TreeError,
    frontier::Frontier,
    hash::TreeHash,
    name::LogName,
    tile::TileId,
    tree::{Signed, Tree},
};
use crate::{frame::Frames, writer::Fresh};

/// Leaves of one checkpoint, at most.
const MOST: u64 = 10_000;

/// How long new leaves wait for a checkpoint, at most.
const PERIOD: Duration = Duration::from_secs(1);

/// How often the thread looks while there is work.
const NAP: Duration = Duration::from_millis(50);

/// How long it sleeps when nothing comes.
const SLEEP: Duration = Duration::from_secs(10);

/// Batches that wait to be synced; beyond this they are read from the files again, bytes.
const WAITING: usize = 8 << 20;

/// Grows the tree.
#[derive(Debug)]
pub(crate) struct Grower {
    pub(crate) tree: Arc<Tree>,
    pub(crate) name: LogName,
    /// Directory of the ledger.
    pub(crate) dir: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) fresh: Receiver<Fresh>,
    pub(crate) frontier: Frontier,
    /// Leaves of one checkpoint, at most.
    pub(crate) most: u64,
    batches: VecDeque<(u64, Bytes)>,
    waiting: usize,
    /// Full tiles that are not on disk yet.
    unwritten: Vec<(TileId, Vec<TreeHash>)>,
    last: Option<Mono>,
    /// A panic would leave this: then the edge of the tree is read again.
    is_growing: bool,
    is_failing: bool,
    /// Index of a record that could not be read in the last turn.
    unread: Option<u64>,
}

impl Grower {
    pub(crate) fn new(
        tree: Arc<Tree>,
        (name, dir): (LogName, PathBuf),
        clock: Arc<dyn Clock>,
        fresh: Receiver<Fresh>,
        frontier: Frontier,
    ) -> Self {
        Self {
            tree,
            name,
            dir,
            clock,
            fresh,
            frontier,
            most: MOST,
            batches: VecDeque::new(),
            waiting: 0,
            unwritten: Vec::new(),
            last: None,
            is_growing: false,
            is_failing: false,
            unread: None,
        }
    }

    /// Runs until the tree is stopped.
    pub(crate) fn run(&mut self) {
        let tree = Arc::clone(&self.tree);
        tree.bell.attach();
        loop {
            let stop = tree.is_stopped();
            let outcome = self.turn(stop);
            match &outcome {
                Err(error) if !self.is_failing => {
                    tracing::error!(event = "ledger_tree_failed", %error, "no checkpoint is signed until this ends");
                }
                Ok(_) if self.is_failing => {
                    tracing::info!(event = "ledger_tree_works", "checkpoints are signed again")
                }
                _ => (),
            }
            self.is_failing = outcome.is_err();
            match outcome {
                // What is left behind is more than one checkpoint's worth.
                Ok(true) => (),
                _ if stop => return,
                Ok(false) if self.frontier.size() > self.signed() => tree.bell.nap(NAP),
                Ok(false) => drop(tree.bell.sleep(NAP, SLEEP)),
                Err(_) => tree.bell.nap(PERIOD),
            }
        }
    }

    /// Takes in what is synced and signs it when it is time; `true` when more waits.
    pub(crate) fn turn(&mut self, stop: bool) -> Result<bool, TreeError> {
        if self.is_growing {
            self.reload()?;
        }
        self.collect();
        let synced = self.tree.shelf.synced().saturating_sub(self.tree.base);
        let target = synced.min(self.signed() + self.most);
        if target > self.frontier.size() {
            self.tree.bell.awake();
            self.is_growing = true;
            self.grow(target)?;
            self.is_growing = false;
        }
        let unsigned = self.frontier.size() - self.signed();
        let now = self.clock.mono();
        let is_old = self.last.is_none_or(|last| now.saturating_since(last) >= PERIOD);
        if unsigned > 0 && (stop || unsigned >= self.most || is_old) {
            self.publish()?;
            self.last = Some(now);
        }
        Ok(self.frontier.size() < synced && self.frontier.size() == self.signed())
    }

    fn signed(&self) -> u64 {
        self.tree.covered().saturating_sub(self.tree.base)
    }

    /// Takes the batches of the writer.
    fn collect(&mut self) {
        loop {
            match self.fresh.try_recv() {
                Ok(Fresh::Frames { first, frames }) => {
                    self.waiting += frames.len();
                    self.batches.push_back((first, frames));
                }
                Ok(Fresh::End) => (),
                Err(TryRecvError::Lagged(_)) => self.forget(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
            if self.waiting > WAITING {
                self.forget();
            }
        }
    }

    fn forget(&mut self) {
        self.batches.clear();
        self.waiting = 0;
    }

    /// Appends leaves until the tree has that size.
    fn grow(&mut self, target: u64) -> Result<(), TreeError> {
        let end = self.tree.base + target;
        while self.frontier.size() < target {
            let next = self.tree.base + self.frontier.size();
            let first = self.batches.front().map_or(u64::MAX, |(first, _)| *first);
            if first > next {
                self.read(next, end.min(first))?;
            } else {
                self.take_batch(end);
            }
        }
        Ok(())
    }

    /// Appends what the first batch has below `end`.
    fn take_batch(&mut self, end: u64) {
        let Some((mut index, bytes)) = self.batches.pop_front() else { return };
        self.waiting -= bytes.len();
        let mut frames = Frames::of_batch(&bytes);
        while index < end {
            let Some(Ok(leaf)) = frames.next() else { return };
            if index == self.tree.base + self.frontier.size() {
                self.push(TreeHash::of_leaf(leaf));
            }
            index += 1;
        }
        let rest = bytes.slice(frames.offset()..);
        if !rest.is_empty() {
            self.waiting += rest.len();
            self.batches.push_front((index, rest));
        }
    }

    /// Appends leaves from the files.
    fn read(&mut self, from: u64, to: u64) -> Result<(), TreeError> {
        let (tree, base) = (Arc::clone(&self.tree), self.tree.base);
        let end = tree.tiles().each(from - base, to - base, |_, hash| {
            self.push(hash);
            Ok(())
        })?;
        let index = base + end;
        if index >= to {
            self.unread = None;
            return Ok(());
        }
        // Met again a while later, it is set aside, and the next turn finds what stands in its place.
        if self.unread.replace(index) == Some(index) {
            tree.set_aside(index)?;
        }
        Err(TreeError::Unread { index })
    }

    fn push(&mut self, hash: TreeHash) {
        let unwritten = &mut self.unwritten;
        self.frontier.push(hash, |id, hashes| unwritten.push((id, hashes)));
    }

    /// Makes the tiles durable, then the checkpoint, then says so.
    fn publish(&mut self) -> Result<(), TreeError> {
        let tree = &self.tree;
        tree.place.write(&self.unwritten)?;
        // What the last checkpoint covers is never written again.
        let (partial, signed) = (self.frontier.partial(), self.signed());
        let partial: Vec<_> = partial
            .filter(|(id, hashes)| id.width(signed) != hashes.len())
            .map(|(id, hashes)| (id, hashes.to_vec()))
            .collect();
        tree.place.write(&partial)?;
        let checkpoint = Checkpoint {
            origin: tree.origin.clone(),
            size: self.frontier.size(),
            root: self.frontier.root(),
        };
        let note = checkpoint.sign(tree.signer.as_ref());
        tree.place.publish(&note)?;
        tree.put(Signed { checkpoint, note });
        let written = self.unwritten.drain(..).chain(partial);
        written.for_each(|(id, hashes)| tree.place.drop_partials(id, hashes.len()));
        if !self.name.is_signed {
            let name = LogName { is_signed: true, ..self.name };
            name.save(&self.dir, tree.disk.as_ref())?;
            self.name = name;
        }
        Ok(())
    }

    /// Goes back to what is signed.
    fn reload(&mut self) -> Result<(), TreeError> {
        let tree = Arc::clone(&self.tree);
        self.frontier =
            Frontier::load(self.signed(), |id, width| super::prove::Tiles::tile(&tree.tiles(), id, width))?;
        self.unwritten.clear();
        self.forget();
        self.is_growing = false;
        Ok(())
    }
}
