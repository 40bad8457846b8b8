//! What happened to one policy: the versions that changed it, and who last changed each of its lines.
//!
//! Read from the stored texts of the versions that are kept, so it begins with the oldest of them.

use crate::{
    BlameLine, HistoryEntry, PolicyStore, PolicyStoreError, Step,
    content::{Hash, Kind},
    manifest::{Manifest, Signed},
};
use policies_engine::{PolicyText, policy_texts};
use std::{collections::HashMap, sync::Arc};

/// A policy in one version.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    file: String,
    line: usize,
    text: String,
}

/// Policies of objects that were cut already: most are the same in many versions.
#[derive(Default)]
struct Cut(HashMap<Hash, Arc<[PolicyText]>>);

impl PolicyStore {
    /// Every kept version in which the text of that policy changed, newest first. Blocks.
    ///
    /// # Errors
    /// No kept version has it, or versions cannot be read.
    pub fn history(&self, policy: &str) -> Result<Vec<HistoryEntry>, PolicyStoreError> {
        let active = self.archive.heads()?.active.map(|active| active.manifest.policies);
        let mut entries = Vec::new();
        let mut before: Option<Found> = None;
        self.walk(policy, |signed, found| {
            let step = match (&before, &found) {
                (None, Some(_)) => Step::Added,
                (Some(_), None) => Step::Removed,
                (Some(before), Some(now)) if before.text != now.text => Step::Changed,
                (Some(before), Some(now)) if before.file != now.file => Step::Moved,
                _ => {
                    before = found;
                    return Ok(());
                }
            };
            let text = found.as_ref().map(|found| found.text.clone());
            if let Some(Found { file, line, .. }) = found.clone().or(before.take()) {
                entries.push(HistoryEntry { version: self.info(signed, active)?, step, file, line, text });
            }
            before = found;
            Ok(())
        })?;
        entries.reverse();
        if entries.is_empty() { Err(PolicyStoreError::UnknownPolicy(policy.to_owned())) } else { Ok(entries) }
    }

    /// The lines of that policy in the version in force, each with the version that last changed it. Blocks.
    ///
    /// # Errors
    /// The version in force does not have it, or versions cannot be read.
    pub fn blame(&self, policy: &str) -> Result<Vec<BlameLine>, PolicyStoreError> {
        let active = self.archive.heads()?.active.map(|active| active.manifest.policies);
        let mut lines: Vec<BlameLine> = Vec::new();
        let mut first = 1;
        self.walk(policy, |signed, found| {
            let Manifest { policies, author, .. } = &signed.manifest;
            if Some(*policies) > active {
                return Ok(());
            }
            let Some(Found { line, text, .. }) = found else {
                lines.clear();
                return Ok(());
            };
            first = line;
            let after: Vec<&str> = text.lines().collect();
            let before: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
            let kept = common(&before, &after);
            lines = after
                .iter()
                .zip(kept)
                .map(|(text, kept)| match kept.and_then(|at| lines.get(at)) {
                    Some(line) => line.clone(),
                    None => BlameLine {
                        line: 0,
                        text: (*text).to_owned(),
                        policies: *policies,
                        author: author.clone(),
                        created: signed.manifest.committed().to_owned(),
                    },
                })
                .collect();
            Ok(())
        })?;
        if lines.is_empty() {
            return Err(PolicyStoreError::UnknownPolicy(policy.to_owned()));
        }
        for (at, line) in (first..).zip(&mut lines) {
            line.line = at;
        }
        Ok(lines)
    }

    /// Shows every kept version, oldest first, with the policy in it.
    fn walk<S>(&self, policy: &str, mut see: S) -> Result<(), PolicyStoreError>
    where
        S: FnMut(&Signed, Option<Found>) -> Result<(), PolicyStoreError>,
    {
        let mut cut = Cut::default();
        for (_, snapshot) in self.archive.versions()? {
            let signed = self.archive.signed(snapshot)?;
            let found = self.find(policy, &signed.manifest, &mut cut)?;
            see(&signed, found)?;
        }
        Ok(())
    }

    fn find(
        &self,
        policy: &str,
        manifest: &Manifest,
        cut: &mut Cut,
    ) -> Result<Option<Found>, PolicyStoreError> {
        for reference in manifest.objects.iter().filter(|object| object.kind == Kind::Policy) {
            let texts = match cut.0.get(&reference.sha256) {
                Some(texts) => Arc::clone(texts),
                None => {
                    let bytes = self.archive.object(reference)?.bytes;
                    let texts: Arc<[PolicyText]> = policy_texts(&String::from_utf8_lossy(&bytes)).into();
                    cut.0.insert(reference.sha256, Arc::clone(&texts));
                    texts
                }
            };
            if let Some(text) = texts.iter().find(|text| text.id.as_deref() == Some(policy)) {
                let PolicyText { text, line, .. } = text.clone();
                return Ok(Some(Found { file: reference.id.clone(), line, text }));
            }
        }
        Ok(None)
    }
}

/// For each line of `after`, the line of `before` that it is: the longest common subsequence.
fn common(before: &[&str], after: &[&str]) -> Vec<Option<usize>> {
    // lengths[i][j]: how many lines the rests of both from i and j have in common. A policy has at most 10 KiB.
    let width = after.len() + 1;
    let mut lengths = vec![0_u32; (before.len() + 1) * width];
    let at = |lengths: &[u32], i: usize, j: usize| lengths.get(i * width + j).copied().unwrap_or(0);
    for (i, old) in before.iter().enumerate().rev() {
        for (j, new) in after.iter().enumerate().rev() {
            let length = if old == new {
                at(&lengths, i + 1, j + 1) + 1
            } else {
                at(&lengths, i + 1, j).max(at(&lengths, i, j + 1))
            };
            if let Some(cell) = lengths.get_mut(i * width + j) {
                *cell = length;
            }
        }
    }
    let mut kept = vec![None; after.len()];
    let (mut i, mut j) = (0, 0);
    while let (Some(old), Some(new)) = (before.get(i), after.get(j)) {
        if old == new {
            if let Some(slot) = kept.get_mut(j) {
                *slot = Some(i);
            }
            (i, j) = (i + 1, j + 1);
        } else if at(&lengths, i + 1, j) >= at(&lengths, i, j + 1) {
            i += 1;
        } else {
            j += 1;
        }
    }
    kept
}

#[cfg(test)]
mod tests;
