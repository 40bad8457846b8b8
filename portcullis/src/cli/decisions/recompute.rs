//! `decisions verify --recompute N`: a sample of the records that were verified, judged again by stock Cedar (VF6).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use policies_decisions::{Fault as Wrong, StoredRecord, Verified};
use serde_json::{Value, json};

use crate::cli::block_on;
use crate::client::{Client, Fault};
use crate::messages::Message;
use crate::output::Exit;

/// Records of one call.
const CHUNK: usize = 32;

/// What stock Cedar said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Recomputed {
    pub(super) same: u64,
    /// Why nothing can be said, and of how many.
    pub(super) undecided: BTreeMap<String, u64>,
    /// What came out otherwise.
    pub(super) different: Vec<Wrong>,
}

/// Has the sample judged again by the process behind `client`, which stores the policies.
pub(super) fn judged(client: &Client, found: &Verified) -> Result<Recomputed, Fault> {
    let mut sample = found.sample.clone();
    // Records of one version together: each is compiled once.
    let version = |leaf: &bytes::Bytes| {
        let versions = StoredRecord::decode(0, leaf.clone()).ok().and_then(|record| record.versions);
        versions.map(|versions| versions.numbers.snapshot)
    };
    sample.sort_by_cached_key(|(index, leaf)| (version(leaf), *index));
    let mut recomputed = Recomputed::default();
    for chunk in sample.chunks(CHUNK) {
        let leaves: Vec<_> = chunk.iter().map(|(_, leaf)| STANDARD.encode(leaf)).collect();
        let answer = block_on(client.post("/v1/decisions:verify", &json!({ "leaves": leaves })))?;
        let results = answer.get("results").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if results.len() != chunk.len() {
            let message = Message::error("PC0141", "the answer does not say what became of each record");
            return Err(Fault::new(Exit::Failed, message));
        }
        for ((index, _), result) in chunk.iter().zip(results) {
            let of = |name: &str| result.get(name).and_then(Value::as_str).unwrap_or_default();
            match of("result") {
                "same" => recomputed.same += 1,
                "different" => {
                    let what = format!("stock Cedar decides otherwise: {}", of("why"));
                    recomputed.different.push(Wrong { index: Some(*index), file: None, offset: None, what });
                }
                _ => *recomputed.undecided.entry(of("why").to_owned()).or_default() += 1,
            }
        }
    }
    Ok(recomputed)
}

impl Recomputed {
    /// The line of the report.
    pub(super) fn told(&self, decisions: u64) -> String {
        let undecided: u64 = self.undecided.values().sum();
        let all = self.same + undecided + self.different.len() as u64;
        let mut text = format!("{all} of {decisions} decisions by stock Cedar, {} as recorded", self.same);
        if undecided > 0 {
            let why: Vec<_> = self.undecided.iter().map(|(why, count)| format!("{count}: {why}")).collect();
            text.push_str(&format!(", {undecided} undecided ({})", why.join("; ")));
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        json!({ "same": self.same, "undecided": self.undecided, "different": self.different.len() })
    }
}
