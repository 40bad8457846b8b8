//! The index: where reads are answered from. Rebuildable from the journal at any time, so it is never the truth.

mod map;
mod sled;

use std::fmt;

use crate::overlay::Changed;
use crate::{Entry, Revision, StoreError};

pub(crate) use map::MapIndex;
pub(crate) use sled::SledIndex;

/// The journal's position that an index stands for: a revision and the hash of the chain up to it.
pub(crate) type Position = (Revision, [u8; 32]);

/// Ordered entries plus the position they stand for. `apply` is atomic: all changes and the position, or nothing.
pub(crate) trait Index: Send + Sync + fmt::Debug {
    fn position(&self) -> Result<Option<Position>, StoreError>;
    fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError>;
    fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, StoreError>;
    fn apply(&self, changes: &Changed, position: Position) -> Result<(), StoreError>;
}
