//! The newest changes, kept for watches within a fixed amount of memory. Watches read them here; none has a queue.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::Revision;
use crate::watch::{Change, Watch};

/// Most changes kept.
const CHANGES: usize = 16_384;
/// Most bytes of keys and values kept.
const BYTES: usize = 16 << 20;
/// Changes that a watch takes at once, at least when they are of one commit.
const TAKEN: usize = 256;

/// Where a store tells its changes. Watches end when it is gone.
#[derive(Debug)]
pub(crate) struct Feed {
    kept: Arc<Mutex<Kept>>,
    newest: watch::Sender<Revision>,
}

impl Feed {
    /// A feed that begins after `revision`.
    pub(crate) fn after(revision: Revision) -> Self {
        let kept = Kept { changes: VecDeque::new(), bytes: 0, forgotten: revision, newest: revision };
        Self { kept: Arc::new(Mutex::new(kept)), newest: watch::Sender::new(revision) }
    }

    /// Tells the changes up to `newest`.
    pub(crate) fn publish(&self, changes: Vec<Change>, newest: Revision) {
        self.kept.lock().push(changes, newest);
        self.newest.send_replace(newest);
    }

    pub(crate) fn watch(&self, prefix: &[u8], from: Revision) -> Watch {
        Watch {
            prefix: prefix.to_vec(),
            seen: from,
            ready: VecDeque::new(),
            kept: Arc::clone(&self.kept),
            newest: self.newest.subscribe(),
        }
    }
}

/// The changes that are remembered.
#[derive(Debug)]
pub(crate) struct Kept {
    changes: VecDeque<Change>,
    bytes: usize,
    /// Of this commit and those before it, some changes are gone.
    forgotten: Revision,
    newest: Revision,
}

impl Kept {
    fn push(&mut self, changes: Vec<Change>, newest: Revision) {
        self.newest = newest;
        for change in changes {
            self.bytes = self.bytes.saturating_add(size(&change));
            self.changes.push_back(change);
        }
        while self.changes.len() > CHANGES || self.bytes > BYTES {
            let Some(oldest) = self.changes.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(size(&oldest));
            self.forgotten = oldest.revision;
        }
    }

    /// Hands `take` the next changes after `seen`, whole commits only, and gives the revision seen then; `None` when
    /// some of them are forgotten.
    pub(crate) fn read(&self, seen: Revision, mut take: impl FnMut(&Change)) -> Option<Revision> {
        if seen < self.forgotten {
            return None;
        }
        let (mut seen, mut taken) = (seen, 0usize);
        let next = self.changes.partition_point(|change| change.revision <= seen);
        for change in self.changes.range(next..) {
            if taken >= TAKEN && change.revision > seen {
                return Some(seen);
            }
            take(change);
            taken = taken.saturating_add(1);
            seen = change.revision;
        }
        Some(seen.max(self.newest))
    }

    pub(crate) fn newest(&self) -> Revision {
        self.newest
    }
}

fn size(change: &Change) -> usize {
    const EACH: usize = 64;
    EACH + change.key.len() + change.value.as_ref().map_or(0, bytes::Bytes::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Event;
    use bytes::Bytes;

    fn change(revision: u64, value: usize) -> Change {
        Change { revision: revision.into(), key: b"k".to_vec(), value: Some(Bytes::from(vec![0; value])) }
    }

    async fn revisions(watch: &mut Watch, count: u64) -> Vec<u64> {
        let mut found = Vec::new();
        for _ in 0..count {
            match watch.next().await {
                Some(Event::Change(change)) => found.push(change.revision.get()),
                other => panic!("{other:?}"),
            }
        }
        found
    }

    #[tokio::test]
    async fn a_watch_gets_every_change_once_also_beyond_one_helping() {
        let feed = Feed::after(Revision::ZERO);
        let mut watch = feed.watch(b"k", Revision::ZERO);
        for revision in 1..=1_000 {
            feed.publish(vec![change(revision, 1)], revision.into());
        }
        assert_eq!(revisions(&mut watch, 1_000).await, (1..=1_000).collect::<Vec<_>>());
        drop(feed);
        assert_eq!(watch.next().await, None);
    }

    #[tokio::test]
    async fn a_slow_watch_is_told_to_resync_once_and_goes_on() {
        let feed = Feed::after(Revision::ZERO);
        let mut watch = feed.watch(b"k", Revision::ZERO);
        for revision in 1..=5 {
            feed.publish(vec![change(revision, 5 << 20)], revision.into());
        }
        assert_eq!(watch.next().await, Some(Event::Resync));
        feed.publish(vec![change(6, 1)], 6.into());
        assert_eq!(revisions(&mut watch, 1).await, [6]);
        let mut late = feed.watch(b"k", 3.into());
        assert_eq!(revisions(&mut late, 3).await, [4, 5, 6]);
        assert!(feed.kept.lock().bytes <= BYTES);
    }

    #[tokio::test]
    async fn one_commit_larger_than_all_memory_for_changes_means_resync() {
        let feed = Feed::after(Revision::ZERO);
        let mut watch = feed.watch(b"", Revision::ZERO);
        feed.publish((0..CHANGES + 1).map(|_| change(1, 0)).collect(), 1.into());
        assert_eq!(watch.next().await, Some(Event::Resync));
    }

    #[tokio::test]
    async fn a_change_behind_many_of_other_prefixes_is_found() {
        let feed = Feed::after(Revision::ZERO);
        let mut watch = feed.watch(b"other", Revision::ZERO);
        let other = Change { key: b"other".to_vec(), ..change(1_000, 1) };
        let changes = (1..1_000).map(|revision| change(revision, 1)).chain([other]);
        feed.publish(changes.collect(), 1_000.into());
        assert_eq!(revisions(&mut watch, 1).await, [1_000]);
    }
}
