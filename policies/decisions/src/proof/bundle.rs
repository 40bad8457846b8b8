//! A bundle: records of a question with what proves them, and the texts of the policies that judged them, in one file
//! that is checked with the key of the log alone (VF6).
//!
//! It is lines of JSON. `DecisionBundle` begins it; `Checkpoint` is what the `Entry` lines behind it lead to; `Policies`
//! has all policy files of one version, whose hash the records name; `End` says how many there were, so that a file that
//! was cut off is seen. A bundle proves what is in it, not that nothing was left out: that is what `verify` of the whole
//! log is for. A line that is not understood to the last member is a fault.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use policies_engine::Snapshot;
use serde::Deserialize;

use super::{check::includes, checkpoint::Checkpoint, hash::TreeHash, note::VerifierKey};
use crate::leaf::{StoredRecord, hex};

/// Faults that are told; more are counted.
const TOLD: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields)]
enum Line {
    DecisionBundle {
        #[serde(rename = "apiVersion")]
        version: String,
        origin: String,
        #[serde(rename = "made")]
        _made: String,
        #[serde(rename = "question")]
        _question: serde_json::Value,
    },
    Checkpoint {
        note: String,
    },
    Entry {
        index: String,
        leaf: String,
        path: Vec<String>,
    },
    Policies {
        #[serde(rename = "snapshot")]
        _snapshot: u64,
        #[serde(rename = "version")]
        _version: u64,
        files: Vec<PolicyFile>,
    },
    End {
        entries: u64,
        policies: u64,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    file: String,
    text: String,
}

/// What is wrong with a bundle, and in which line, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleFault {
    /// The line.
    pub line: u64,
    /// What.
    pub what: String,
}

/// What a bundle proves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bundled {
    /// The log.
    pub origin: String,
    /// Size of the last checkpoint.
    pub size: u64,
    /// Records that are proved.
    pub entries: u64,
    /// Decisions among them.
    pub decisions: u64,
    /// Positions in the log of the first and of the last record.
    pub range: Option<(u64, u64)>,
    /// Versions of policies whose texts are in the file and judged records in it: hash and number.
    pub judged: BTreeMap<String, u64>,
    /// Those whose texts are not in the file.
    pub untold: BTreeMap<String, u64>,
    /// What is wrong.
    pub faults: Vec<BundleFault>,
    /// How many faults there are.
    pub wrong: u64,
}

/// A bundle under examination. Only one record is in memory at a time.
#[derive(Debug)]
pub struct Bundle<'k> {
    keys: &'k [VerifierKey],
    line: u64,
    checkpoint: Option<Checkpoint>,
    named: BTreeMap<[u8; 32], u64>,
    texts: BTreeSet<[u8; 32]>,
    policies: u64,
    /// Entry lines, proved or not.
    seen: u64,
    is_ended: bool,
    found: Bundled,
}

impl<'k> Bundle<'k> {
    /// Nothing is believed but what these keys signed.
    #[must_use]
    pub fn new(keys: &'k [VerifierKey]) -> Self {
        Self {
            keys,
            line: 0,
            checkpoint: None,
            named: BTreeMap::new(),
            texts: BTreeSet::new(),
            policies: 0,
            seen: 0,
            is_ended: false,
            found: Bundled::default(),
        }
    }

    /// Looks at the next line.
    pub fn line(&mut self, bytes: &[u8]) {
        self.line += 1;
        if let Err(what) = self.read(bytes) {
            self.fault(what);
        }
    }

    /// What was found.
    #[must_use]
    pub fn finish(mut self) -> Bundled {
        if !self.is_ended {
            self.fault("the file ends here, and not with its last line: it was cut off".to_owned());
        }
        for (manifest, version) in self.named {
            let list =
                if self.texts.contains(&manifest) { &mut self.found.judged } else { &mut self.found.untold };
            list.insert(hex(&manifest), version);
        }
        self.found
    }

    fn fault(&mut self, what: String) {
        self.found.wrong += 1;
        if self.found.faults.len() < TOLD {
            self.found.faults.push(BundleFault { line: self.line, what });
        }
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), String> {
        let line: Line =
            serde_json::from_slice(bytes).map_err(|error| format!("no line of a bundle: {error}"))?;
        if self.is_ended {
            return Err("something follows the last line".to_owned());
        }
        let is_first = matches!(line, Line::DecisionBundle { .. });
        if is_first != (self.line == 1) {
            return Err("a bundle begins with its head, and has one".to_owned());
        }
        match line {
            Line::DecisionBundle { version, origin, .. } => {
                self.found.origin = origin;
                if version == "portcullis/v1" { Ok(()) } else { Err(format!("it is of version `{version}`")) }
            }
            Line::Checkpoint { note } => self.checkpoint(&note),
            Line::Entry { index, leaf, path } => {
                self.seen += 1;
                self.entry(&index, &leaf, &path)
            }
            Line::Policies { files, .. } => {
                self.policies += 1;
                let manifest = Snapshot::manifest_of(files.iter().map(|file| (&*file.file, &*file.text)));
                self.texts.insert(manifest);
                Ok(())
            }
            Line::End { entries, policies } => {
                self.is_ended = true;
                if (entries, policies) == (self.seen, self.policies) {
                    return Ok(());
                }
                let (seen, texts) = (self.seen, self.policies);
                Err(format!(
                    "{entries} records and {policies} versions were written, {seen} and {texts} are here"
                ))
            }
        }
    }

    fn checkpoint(&mut self, note: &str) -> Result<(), String> {
        self.checkpoint = None;
        let checkpoint = Checkpoint::open(note.as_bytes(), self.keys);
        let checkpoint = checkpoint.map_err(|error| format!("the checkpoint: {error}"))?;
        if checkpoint.origin != self.found.origin {
            return Err(format!("the checkpoint is of `{}`", checkpoint.origin));
        }
        self.found.size = self.found.size.max(checkpoint.size);
        self.checkpoint = Some(checkpoint);
        Ok(())
    }

    fn entry(&mut self, index: &str, leaf: &str, path: &[String]) -> Result<(), String> {
        let checkpoint = self.checkpoint.as_ref().ok_or("no checkpoint that is believed stands before it")?;
        let index: u64 = index.parse().map_err(|_no_number| format!("`{index}` is no index"))?;
        let leaf = STANDARD.decode(leaf).map_err(|error| format!("index {index}: the record: {error}"))?;
        let path: Option<Vec<_>> = path.iter().map(|hash| TreeHash::from_base64(hash)).collect();
        let path = path.ok_or_else(|| format!("index {index}: a hash is none"))?;
        if !includes(TreeHash::of_leaf(&leaf), index, &path, checkpoint.size, checkpoint.root) {
            return Err(format!("index {index}: the record is not in the tree of the checkpoint"));
        }
        if self.found.range.is_some_and(|(_, last)| index <= last) {
            return Err(format!("index {index}: it stands behind a later one, or twice"));
        }
        let record = StoredRecord::decode(index, leaf.into());
        let record = record.map_err(|error| format!("index {index}: proved, and no record: {error}"))?;
        let (first, _) = self.found.range.unwrap_or((index, index));
        self.found.range = Some((first, index));
        self.found.entries += 1;
        self.found.decisions += u64::from(record.decision().is_some());
        // Without a manifest nothing judged: a refusal before there were policies.
        if let Some(versions) = record.versions.filter(|versions| versions.manifest != [0; 32]) {
            self.named.insert(versions.manifest, versions.numbers.policies);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
