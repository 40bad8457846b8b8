//! Changes in the store: made, edited, checked, approved, committed, abandoned (ST6).

use crate::{Change, ChangeId, Checks, Edit, Impact, NewChange, PolicyStore, PolicyStoreError, VersionInfo};

impl PolicyStore {
    /// Makes a change.
    ///
    /// # Errors
    /// Its base is no version, a file cannot be taken, there are too many open changes, or it cannot be stored.
    pub async fn draft(&self, new: NewChange) -> Result<Change, PolicyStoreError> {
        Err(later(&new))
    }

    /// Adds edits to a change, if its revision is still `if_revision`; drops its checks and approvals when that makes
    /// another content. An edit whose text is the base's takes the file out of the change.
    ///
    /// # Errors
    /// [`PolicyStoreError::Stale`], it is not open, a file cannot be taken, or it cannot be stored.
    pub async fn edit_change(
        &self,
        id: ChangeId,
        if_revision: u64,
        edits: Vec<Edit>,
    ) -> Result<Change, PolicyStoreError> {
        Err(later(&(id, if_revision, edits)))
    }

    /// Lets a change start from the newest version, if no file was changed on both sides.
    ///
    /// # Errors
    /// [`PolicyStoreError::Conflict`] names the policies that both changed; else as [`PolicyStore::edit_change`].
    pub async fn rebase_change(&self, id: ChangeId, if_revision: u64) -> Result<Change, PolicyStoreError> {
        Err(later(&(id, if_revision)))
    }

    /// A change.
    ///
    /// # Errors
    /// It is not stored, or cannot be read.
    pub fn change(&self, id: ChangeId) -> Result<Change, PolicyStoreError> {
        Err(later(&id))
    }

    /// Every change that is kept, newest first: all open ones, and the last that ended.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn changes(&self) -> Result<Vec<Change>, PolicyStoreError> {
        Err(later(&()))
    }

    /// Compiles the change with the entities in force, runs its cases, compares it with the version in force, and
    /// notes what came of it. The summary of the result is in [`Change::checked`] from then on.
    ///
    /// # Errors
    /// It is not open, was edited while the check ran, or cannot be stored. Findings are no error.
    pub async fn check_change(&self, id: ChangeId) -> Result<Checks, PolicyStoreError> {
        Err(later(&id))
    }

    /// Notes what a replay of recorded decisions found for the content of that revision.
    ///
    /// # Errors
    /// [`PolicyStoreError::Stale`], it is not open, or it cannot be stored.
    pub async fn note_impact(
        &self,
        id: ChangeId,
        if_revision: u64,
        impact: Impact,
    ) -> Result<Change, PolicyStoreError> {
        Err(later(&(id, if_revision, impact)))
    }

    /// Notes that `by` approves the content of that revision. Whether he may is the caller's to ask Cedar.
    ///
    /// # Errors
    /// [`PolicyStoreError::Stale`], it was not checked as it is, or it cannot be stored.
    pub async fn approve(
        &self,
        id: ChangeId,
        if_revision: u64,
        by: &str,
    ) -> Result<Change, PolicyStoreError> {
        Err(later(&(id, if_revision, by)))
    }

    /// Makes a signed, numbered version of the change; not in force until [`PolicyStore::activate`]. Whether `by` may
    /// is the caller's to ask Cedar over [`Change::context`] of this revision: a change that was written since is
    /// refused.
    ///
    /// # Errors
    /// [`PolicyStoreError::Stale`]; [`PolicyStoreError::Conflict`] when its base is not the newest version; not
    /// checked; no longer valid with the entities there are now; or not stored, then nothing was committed.
    pub async fn commit(
        &self,
        id: ChangeId,
        if_revision: u64,
        by: &str,
    ) -> Result<VersionInfo, PolicyStoreError> {
        Err(later(&(id, if_revision, by)))
    }

    /// Gives a change up.
    ///
    /// # Errors
    /// It is not open, or it cannot be stored.
    pub async fn abandon(&self, id: ChangeId) -> Result<Change, PolicyStoreError> {
        Err(later(&id))
    }
}

fn later(_: &impl Sized) -> PolicyStoreError {
    PolicyStoreError::Input("not available yet".to_owned())
}
