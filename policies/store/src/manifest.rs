//! What a snapshot consisted of, and who made it, as it is stored and signed (ST3, `portcullis-manifest/1`).
//!
//! A manifest is written once and never again: whoever needs its bytes takes those that were stored. Manifests of
//! before there were authors and signatures are of the same format with fewer fields, and read as such.

use crate::{
    ChangeId, Checked, Origin,
    content::{Content, Hash, Object, Reference},
};
use base_ports::UnixTime;
use policies_engine::Numbers;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const FORMAT: &str = "portcullis-manifest/1";
/// Version of Cedar's language that is written here.
const LANGUAGE: &str = "4.6";
/// Oldest engine that judges by these manifests as this one does, and what this one is.
const ENGINE: u64 = 1;
const ANALYSIS: &str = "not proved: no solver";

/// One version. A manifest with a field we do not know is refused as a whole (PS8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    format: String,
    #[serde(default)]
    trust_domain: String,
    pub(crate) epoch: u64,
    pub(crate) snapshot: u64,
    pub(crate) policies: u64,
    /// SHA-256 of the manifest before it.
    parent: Option<Hash>,
    #[serde(default)]
    language: String,
    #[serde(default)]
    min_engine: u64,
    created: String,
    /// When the version of policies was committed: the same for every snapshot with these policies, as are the fields
    /// up to `analysis`.
    #[serde(default)]
    committed: String,
    #[serde(default)]
    pub(crate) origin: Origin,
    #[serde(default)]
    pub(crate) author: String,
    #[serde(default)]
    pub(crate) committer: String,
    #[serde(default)]
    pub(crate) approvers: Vec<String>,
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) ticket: Option<String>,
    #[serde(default)]
    pub(crate) rollback_of: Option<u64>,
    #[serde(default)]
    pub(crate) change: Option<ChangeId>,
    #[serde(default)]
    pub(crate) checks: Checked,
    #[serde(default)]
    analysis: String,
    pub(crate) routes: Hash,
    pub(crate) objects: Vec<Reference>,
}

/// Who makes a version of policies, and why.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meta {
    pub(crate) origin: Origin,
    pub(crate) author: String,
    pub(crate) committer: String,
    pub(crate) approvers: Vec<String>,
    pub(crate) message: String,
    pub(crate) ticket: Option<String>,
    pub(crate) rollback_of: Option<u64>,
    pub(crate) change: Option<ChangeId>,
    pub(crate) checks: Checked,
    /// RFC 3339; empty for now.
    pub(crate) committed: String,
}

/// A manifest with the bytes that were signed.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) manifest: Manifest,
    pub(crate) bytes: Arc<[u8]>,
    /// SHA-256 of the bytes.
    pub(crate) hash: Hash,
    /// None for those older than signatures.
    pub(crate) note: Option<Arc<str>>,
}

/// What the next manifest is about.
#[derive(Debug)]
pub(crate) struct Next<'a> {
    pub(crate) trust_domain: &'a str,
    pub(crate) numbers: Numbers,
    pub(crate) meta: Meta,
    pub(crate) content: &'a Content,
    pub(crate) objects: &'a [Object],
    pub(crate) now: UnixTime,
}

impl Manifest {
    /// The manifest after `newest`.
    pub(crate) fn after(newest: Option<&Signed>, next: Next<'_>) -> Manifest {
        let (meta, now) = (next.meta, next.now.to_string());
        Manifest {
            format: FORMAT.to_owned(),
            trust_domain: next.trust_domain.to_owned(),
            epoch: next.numbers.epoch,
            snapshot: next.numbers.snapshot,
            policies: next.numbers.policies,
            parent: newest.map(|newest| newest.hash),
            language: LANGUAGE.to_owned(),
            min_engine: ENGINE,
            committed: if meta.committed.is_empty() { now.clone() } else { meta.committed },
            created: now,
            origin: meta.origin,
            author: meta.author,
            committer: meta.committer,
            approvers: meta.approvers,
            message: meta.message,
            ticket: meta.ticket,
            rollback_of: meta.rollback_of,
            change: meta.change,
            checks: meta.checks,
            analysis: ANALYSIS.to_owned(),
            routes: next.content.routes,
            objects: next.objects.iter().map(|object| object.reference.clone()).collect(),
        }
    }

    /// SHA-256 of the manifest before it.
    pub(crate) fn parent(&self) -> Option<Hash> {
        self.parent
    }

    pub(crate) fn numbers(&self) -> Numbers {
        Numbers { epoch: self.epoch, snapshot: self.snapshot, policies: self.policies }
    }

    /// For another snapshot with these policies.
    pub(crate) fn meta(&self) -> Meta {
        Meta {
            origin: self.origin,
            author: self.author.clone(),
            committer: self.committer.clone(),
            approvers: self.approvers.clone(),
            message: self.message.clone(),
            ticket: self.ticket.clone(),
            rollback_of: self.rollback_of,
            change: self.change,
            checks: self.checks.clone(),
            committed: self.committed().to_owned(),
        }
    }

    /// When this snapshot was made; RFC 3339.
    pub(crate) fn created(&self) -> &str {
        &self.created
    }

    /// When the version of policies was made; RFC 3339.
    pub(crate) fn committed(&self) -> &str {
        if self.committed.is_empty() { &self.created } else { &self.committed }
    }

    /// Whether the files and the shipped policies are these (their numbers may differ).
    pub(crate) fn is_of(&self, objects: &[Object]) -> bool {
        let ours = self.objects.iter().filter(|object| !object.is_told());
        ours.eq(objects.iter().map(|object| &object.reference).filter(|object| !object.is_told()))
    }

    /// Whether everything that judges is this.
    pub(crate) fn is_all_of(&self, content: &Content, objects: &[Object]) -> bool {
        self.routes == content.routes
            && self.objects.iter().eq(objects.iter().map(|object| &object.reference))
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    pub(crate) fn from_json(bytes: &[u8]) -> Result<Manifest, String> {
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(|cause| cause.to_string())?;
        if manifest.format != FORMAT {
            return Err(format!("unknown format `{}`", manifest.format));
        }
        if manifest.min_engine > ENGINE || !is_known(&manifest.language) {
            return Err(format!(
                "it needs engine {} and Cedar {}; this is engine {ENGINE} with Cedar {LANGUAGE}",
                manifest.min_engine, manifest.language
            ));
        }
        Ok(manifest)
    }
}

/// Languages up to the minor version of ours; none for manifests of before.
fn is_known(language: &str) -> bool {
    let parse = |text: &str| -> Option<(u32, u32)> {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    match (parse(language), parse(LANGUAGE)) {
        (Some((major, minor)), Some((our_major, our_minor))) => major == our_major && minor <= our_minor,
        _ => language.is_empty(),
    }
}

#[cfg(test)]
mod tests;
