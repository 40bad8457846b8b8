//! One immutable value of policies, schema, entities and numbers that judge together (MO9, SE5).
//! Built by the policy store, shared by all workers; everything derived from it dies with it (EN1).

use crate::{Diagnostic, EntitySet, schema::Declared, schema::SchemaText};
use std::sync::Arc;

/// The numbers of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Numbers {
    /// Raised when a store is restored.
    pub epoch: u64,
    /// Grows with every change of policies, schema, entities or routes.
    pub snapshot: u64,
    /// The number people published.
    pub policies: u64,
}

/// Everything that names the versions behind a decision (key 20 of a record).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// The numbers.
    pub numbers: Numbers,
    /// SHA-256 over the policy texts.
    pub manifest: [u8; 32],
    /// SHA-256 over the schema texts.
    pub schema: [u8; 32],
    /// SHA-256 over the entities.
    pub entities: [u8; 32],
    /// Digest of the routes, as given.
    pub routes: [u8; 32],
    /// Build of the engine.
    pub engine: Arc<str>,
    /// Names that records may carry besides the fixed facts.
    pub declared: Arc<Declared>,
}

/// One policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySource {
    /// Its name, for findings and explanations.
    pub file: Arc<str>,
    /// Its text.
    pub text: Arc<str>,
    /// Shipped with the product: its forbids are never softened.
    pub is_baseline: bool,
}

impl PolicySource {
    /// A file of the site.
    #[must_use]
    pub fn new(file: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> PolicySource {
        PolicySource { file: file.into(), text: text.into(), is_baseline: false }
    }
}

/// Everything a snapshot is made of.
#[derive(Debug, Clone)]
pub struct SnapshotInput {
    /// Its numbers.
    pub numbers: Numbers,
    /// The schema.
    pub schema: SchemaText,
    /// All policy files, the baseline among them.
    pub policies: Vec<PolicySource>,
    /// The entities.
    pub entities: EntitySet,
    /// Digest of the routes this snapshot goes with.
    pub routes_digest: [u8; 32],
}

/// A checked, numbered set of rules.
#[derive(Debug)]
pub struct Snapshot {
    versions: Arc<Versions>,
}

impl Snapshot {
    /// Checks and compiles everything, or reports every finding at once.
    ///
    /// # Errors
    /// All findings, when at least one blocks.
    pub fn compile(_input: SnapshotInput) -> Result<Snapshot, Vec<Diagnostic>> {
        Err(Vec::new())
    }

    /// Findings that did not block.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        &[]
    }

    /// What judged, for the record.
    #[must_use]
    pub fn versions(&self) -> &Arc<Versions> {
        &self.versions
    }

    /// Whether that policy is shipped with the product.
    #[must_use]
    pub fn is_baseline(&self, _id: &str) -> bool {
        false
    }

    /// Number of policies, the baseline included.
    #[must_use]
    pub fn policy_count(&self) -> usize {
        0
    }
}
