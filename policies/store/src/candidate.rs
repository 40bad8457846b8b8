//! What files would be if they were in force: compiled with the entities there are now, numbered nothing, stored
//! nowhere. For impact and suggestions, which replay recorded decisions against it (IM2, EX8).

use crate::{
    PolicyStore,
    outside::Outside,
    rules::{Rules, Shipped},
    writer::content,
};
use policies_engine::{Diagnostic, Numbers, Snapshot};
use std::sync::Arc;

impl PolicyStore {
    /// The snapshot that those files of a directory of policies would make: name and text of each. Blocks while it
    /// compiles.
    ///
    /// # Errors
    /// All findings, when at least one blocks.
    pub fn candidate(&self, files: &[(String, Arc<str>)]) -> Result<Arc<Snapshot>, Vec<Diagnostic>> {
        let rules = Rules::new(files.iter().cloned().collect(), Shipped::here(), None, Outside::default())?;
        let content = content(rules, &self.wanted.lock().clone());
        let previous = self.active.borrow().clone();
        Snapshot::compile_after(previous.as_ref(), content.input(Numbers::default())).map(Arc::new)
    }
}
