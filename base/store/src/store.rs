//! The port: what every store can do.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::{Entry, Revision, StoreError, Transaction, Watch};

/// Resolves when the commit is durable.
pub type Committed = Pin<Box<dyn Future<Output = Result<Revision, StoreError>> + Send + 'static>>;

/// Ordered keys with revisions.
pub trait Store: Send + Sync + fmt::Debug {
    /// What the key holds.
    ///
    /// # Errors
    /// [`StoreError::Index`] when the index failed; it is rebuilt from the journal meanwhile, so ask again.
    fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError>;

    /// Up to `limit` entries whose key begins with `prefix`, in order, after the key `after` when given.
    ///
    /// # Errors
    /// [`StoreError::Index`] when the index failed; it is rebuilt from the journal meanwhile, so ask again.
    fn range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, StoreError>;

    /// The newest durable commit.
    fn revision(&self) -> Revision;

    /// Commits; the future resolves when it is durable, or says why nothing was changed. The order of calls is the
    /// order of revisions. Dropping the future does not take the commit back.
    fn commit(&self, transaction: Transaction) -> Committed;

    /// Changes below `prefix` after the revision `from`, in order; begins with a resync when `from` is too old.
    ///
    /// # Errors
    /// When the store is closed.
    fn watch(&self, prefix: &[u8], from: Revision) -> Result<Watch, StoreError>;
}
