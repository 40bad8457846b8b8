//! Entries in memory, by id and by parent. Filled from the store at start, then by the one writer.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use ca_identity::SpiffeId;

use super::{EntryFilter, EntryRecord};

/// All entries.
#[derive(Debug, Default)]
pub(crate) struct Index {
    by_id: BTreeMap<String, Arc<EntryRecord>>,
    by_parent: BTreeMap<Option<SpiffeId>, BTreeSet<String>>,
}

impl Index {
    pub(crate) fn insert(&mut self, entry: Arc<EntryRecord>) {
        self.remove(&entry.id);
        self.by_parent.entry(entry.parent_id.clone()).or_default().insert(entry.id.clone());
        self.by_id.insert(entry.id.clone(), entry);
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Arc<EntryRecord>> {
        let entry = self.by_id.remove(id)?;
        if let Some(children) = self.by_parent.get_mut(&entry.parent_id) {
            children.remove(id);
            if children.is_empty() {
                self.by_parent.remove(&entry.parent_id);
            }
        }
        Some(entry)
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<EntryRecord>> {
        self.by_id.get(id).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<EntryRecord>> {
        self.by_id.values()
    }

    /// Entries of one agent: its own, and those of every agent.
    pub(crate) fn of_agent(&self, agent: &SpiffeId) -> Vec<Arc<EntryRecord>> {
        [None, Some(agent.clone())]
            .iter()
            .filter_map(|parent| self.by_parent.get(parent))
            .flatten()
            .filter_map(|id| self.get(id))
            .collect()
    }

    /// A page in order of ids, behind `after`.
    pub(crate) fn page(
        &self,
        filter: &EntryFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<Arc<EntryRecord>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(_, entry)| entry)
            .filter(|entry| filter.matches(entry))
            .take(limit)
            .cloned()
            .collect()
    }
}
