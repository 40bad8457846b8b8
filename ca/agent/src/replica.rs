//! The agent's copy of what its authority elsewhere says, kept the same by a stream of frames (AG-01). Pure: lines in,
//! copies out; `portcullis` carries the lines, `ca/authority` has the other half.
//!
//! Parts change a copy that nobody sees until the authority says that it is whole, with a version of each part. Where these
//! are not those of the copy it is thrown away, and the next stream begins with everything; the last whole one stays.

mod frame;

use std::collections::BTreeMap;
use std::sync::Arc;

use ca_identity::{Bundle, RevocationSet, TrustDomain, spki_sha256};

pub use frame::{Resume, Versions};

use crate::upstream::AgentEntry;
use frame::Frame;

/// Why a line of the stream does not lead on.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// It is no frame.
    #[error("a line that is no frame: {0}")]
    Line(#[from] serde_json::Error),
    /// A part of it says something impossible.
    #[error("a frame with an unusable {0}")]
    Part(&'static str),
    /// The copy is not what the authority has.
    #[error("the copy of the {0} has drifted from what the authority has; everything is asked for anew")]
    Drifted(&'static str),
}

/// Everything that the authority said, whole.
#[derive(Debug, Clone)]
pub struct Replica {
    revision: Option<u64>,
    /// With its revision; none inside where this build cannot use it.
    entries: Arc<BTreeMap<String, (u64, Option<AgentEntry>)>>,
    document: Arc<str>,
    bundle: Arc<Bundle>,
    /// With the hash of its document.
    federated: Arc<BTreeMap<TrustDomain, (String, Arc<Bundle>)>>,
    denied: RevocationSet,
    tainted: RevocationSet,
    crls: Arc<Vec<Arc<[u8]>>>,
}

impl Replica {
    /// Nothing but a bundle, as a JWK Set.
    ///
    /// # Errors
    /// When it is none of that trust domain.
    pub fn new(domain: &TrustDomain, document: &str) -> Result<Self, SyncError> {
        Ok(Self {
            revision: None,
            entries: Arc::default(),
            bundle: own_bundle(domain, document)?,
            document: document.into(),
            federated: Arc::default(),
            denied: RevocationSet::default(),
            tainted: RevocationSet::default(),
            crls: Arc::default(),
        })
    }

    /// Whether the authority was heard at all.
    pub fn is_known(&self) -> bool {
        self.revision.is_some()
    }

    /// The entries of this agent.
    pub fn entries(&self) -> Vec<AgentEntry> {
        self.entries.values().filter_map(|(_, entry)| entry.clone()).collect()
    }

    /// The bundle of the own trust domain.
    pub fn bundle(&self) -> Arc<Bundle> {
        Arc::clone(&self.bundle)
    }

    /// The same as a JWK Set, byte for byte as it came.
    pub fn document(&self) -> &str {
        &self.document
    }

    /// The bundles of other trust domains.
    pub fn federated(&self) -> Vec<Arc<Bundle>> {
        self.federated.values().map(|(_, bundle)| Arc::clone(bundle)).collect()
    }

    /// What is denied.
    pub fn denied(&self) -> RevocationSet {
        self.denied.clone()
    }

    /// What is to be issued anew.
    pub fn tainted(&self) -> RevocationSet {
        self.tainted.clone()
    }

    /// Revocation lists of the own trust domain.
    pub fn crls(&self) -> Vec<Arc<[u8]>> {
        self.crls.as_ref().clone()
    }

    fn versions(&self) -> Versions {
        let (mut entries, mut federated) = (Vec::new(), Vec::new());
        for (id, (revision, _)) in self.entries.iter() {
            entries.extend_from_slice(format!("{id} {revision}\n").as_bytes());
        }
        for (domain, (document, bundle)) in self.federated.iter() {
            let end = bundle.stale_after.map(|end| end.as_nanos().to_string()).unwrap_or_default();
            federated.extend_from_slice(format!("{domain} {end} {document}\n").as_bytes());
        }
        let crls: Vec<u8> = self.crls.iter().flat_map(|list| spki_sha256(list)).collect();
        Versions {
            entries: hash(&entries),
            bundle: hash(self.document.as_bytes()),
            federated: hash(&federated),
            denied: hex(&self.denied.digest()),
            tainted: hex(&self.tainted.digest()),
            crls: hash(&crls),
        }
    }
}

/// What a line was.
#[derive(Debug)]
pub enum Taken {
    /// A part; more is to come.
    Part,
    /// The copy is what the authority has.
    Same,
    /// There is a new copy.
    New,
}

/// The side of the agent of one stream after another.
#[derive(Debug)]
pub struct Receiver {
    domain: TrustDomain,
    current: Arc<Replica>,
    staged: Option<Replica>,
    is_doubtful: bool,
}

impl Receiver {
    /// One that goes on from that copy.
    pub fn new(domain: TrustDomain, current: Replica) -> Self {
        Self { domain, current: Arc::new(current), staged: None, is_doubtful: false }
    }

    /// The last whole copy.
    pub fn current(&self) -> Arc<Replica> {
        Arc::clone(&self.current)
    }

    /// A new stream begins: what is to be asked of the authority.
    pub fn begin(&mut self) -> Resume {
        self.staged = None;
        if self.is_doubtful {
            return Resume::default();
        }
        Resume { revision: self.current.revision, versions: self.current.versions() }
    }

    /// Takes a line.
    ///
    /// # Errors
    /// When the stream cannot go on; the next one begins with everything.
    pub fn take(&mut self, line: &[u8]) -> Result<Taken, SyncError> {
        let taken = self.step(line);
        if taken.is_err() {
            self.staged = None;
            self.is_doubtful = true;
        }
        taken
    }

    fn step(&mut self, line: &[u8]) -> Result<Taken, SyncError> {
        match serde_json::from_slice(line)? {
            Frame::State { revision, versions } => {
                let is_new = self.staged.is_some() || self.current.revision != Some(revision);
                let whole = self.staged.take().unwrap_or_else(|| self.current.as_ref().clone());
                if let Some(part) = whole.versions().differing(&versions) {
                    return Err(SyncError::Drifted(part));
                }
                self.current = Arc::new(Replica { revision: Some(revision), ..whole });
                self.is_doubtful = false;
                Ok(if is_new { Taken::New } else { Taken::Same })
            }
            part => {
                let staged = self.staged.get_or_insert_with(|| self.current.as_ref().clone());
                part.apply(staged, &self.domain)?;
                Ok(Taken::Part)
            }
        }
    }
}

fn own_bundle(domain: &TrustDomain, document: &str) -> Result<Arc<Bundle>, SyncError> {
    let read = Bundle::from_jwks(domain.clone(), document.as_bytes());
    read.map(Arc::new).map_err(|error| {
        tracing::error!(event = "bundle_unusable", %error, "the bundle of the own trust domain cannot be used");
        SyncError::Part("bundle")
    })
}

fn hash(bytes: &[u8]) -> String {
    hex(&spki_sha256(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
