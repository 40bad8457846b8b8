//! The numbers of listeners: a name keeps its own as long as the process runs, whatever reloads bring and take, so that views
//! and connections mean the same one.

use parking_lot::Mutex;

/// By the order in which the names came up.
#[derive(Debug, Default)]
pub(super) struct Numbers(Mutex<Vec<String>>);

impl Numbers {
    /// The number of the listener of that name.
    pub(super) fn of(&self, name: &str) -> usize {
        let mut names = self.0.lock();
        names.iter().position(|known| known == name).unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        })
    }
}
