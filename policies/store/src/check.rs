//! Checks a directory as `policy validate` does: starts nothing, stores nothing, numbers nothing.

use crate::{
    content::{Content, Hash},
    inspect,
    part::part,
    rules::Rules,
};
use base_ports::{Clock, SystemClock};
use policies_engine::{Diagnostic, EntitySet, Numbers, Snapshot, lint};
use std::{path::Path, sync::Arc};

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Every finding, warnings too.
    pub diagnostics: Vec<Diagnostic>,
    /// Policies of the directory, when all of them are valid.
    pub policies: usize,
}

/// Reads and compiles the directory or file `path` together with the shipped policies and `entities`. Blocks.
#[must_use]
pub fn check_dir(path: &Path, entities: &EntitySet) -> Report {
    let rules = part(path).rules;
    let outside = rules.as_ref().map(|rules| rules.outside.clone()).unwrap_or_default();
    let sources = rules.as_ref().map(|rules| rules.policies().collect::<Vec<_>>()).unwrap_or_default();
    match compile(rules, entities) {
        Ok(snapshot) => Report {
            diagnostics: outside.conceal(lint::warnings(&snapshot, &sources)),
            policies: snapshot.policies().filter(|policy| !policy.is_baseline).count(),
        },
        Err(diagnostics) => Report { diagnostics, policies: 0 },
    }
}

/// The snapshot of the directory or file `path` together with the shipped policies and `entities`. Blocks.
///
/// # Errors
/// All findings, when it cannot be read or does not compile.
pub fn compile_dir(path: &Path, entities: &EntitySet) -> Result<Arc<Snapshot>, Vec<Diagnostic>> {
    let rules = part(path).rules;
    let outside = rules.as_ref().map(|rules| rules.outside.clone()).unwrap_or_default();
    compile(rules, entities).map(Arc::new).map_err(|found| outside.conceal(found))
}

/// The snapshot of what was read.
pub(crate) fn compile(
    rules: Result<Rules, Vec<Diagnostic>>,
    entities: &EntitySet,
) -> Result<Snapshot, Vec<Diagnostic>> {
    let content = Content { rules: rules?, entities: Arc::new(entities.clone()), routes: Hash([0; 32]) };
    inspect::compile(&content, Numbers::default(), None, SystemClock.now().wall)
}

#[cfg(test)]
mod tests;
