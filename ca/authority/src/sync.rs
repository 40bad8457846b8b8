//! What an agent of another host has to know, and what of it is sent so that its copy becomes the same (AG-01). Pure:
//! what was sent and what there is in, frames out. `service/sync` carries them, `ca/agent` has the other half.
//!
//! Nothing depends on having seen every change: each time what there is now is compared with what the agent has. A stream
//! that begins anew goes on from the agent's own words: parts of the same version are left out, entries go on from its
//! revision as long as removals since then are known, and everything else is sent whole.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use base_ports::UnixTime;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ca_identity::{Bundle, MARK, RevocationSet, TrustDomain, spki_sha256};
use serde::{Deserialize, Serialize};

use crate::crl::Crl;
use crate::entry::EntryRecord;
use crate::row;

/// Entries, and marks of the deny set, in one frame.
const ENTRIES: usize = 500;
const MARKS: usize = 20_000;
/// Revocation lists of more bytes reach no workload, so no agent needs them (RV-06).
const CRL_BYTES: usize = 256 * 1024;
/// Removals that are remembered.
const REMOVALS: usize = 4096;

/// Everything for one agent at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// Of the last change of entries that is in it.
    pub(crate) revision: u64,
    pub(crate) entries: BTreeMap<String, Arc<EntryRecord>>,
    /// The bundle of the own trust domain as a JWK Set.
    pub(crate) document: String,
    pub(crate) federated: BTreeMap<TrustDomain, Arc<Bundle>>,
    pub(crate) denied: RevocationSet,
    pub(crate) tainted: RevocationSet,
    pub(crate) crls: Arc<[Crl]>,
}

/// A word for the content of each part: equal words, equal parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Versions {
    /// SHA-256 over id and revision of each entry, in the order of ids.
    entries: String,
    /// SHA-256 of the document.
    bundle: String,
    /// SHA-256 over domain, end and document of each.
    federated: String,
    /// Marks of the deny set, XORed with their number.
    denied: String,
    /// The same of what is to be issued anew.
    tainted: String,
    /// SHA-256 over the lists.
    crls: String,
}

/// What an agent has when it comes.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Resume {
    /// As the last `state` said.
    revision: Option<u64>,
    versions: Versions,
}

impl Resume {
    pub(crate) fn revision(&self) -> Option<u64> {
        self.revision
    }
}

/// One line of the stream. Parts change a copy that nobody sees; `state` says that it is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub(crate) enum Frame {
    /// Entries that are new or changed, and the ids of those that are gone. `whole`: there are no others.
    Entries { whole: bool, put: Vec<EntryFrame>, gone: Vec<String> },
    /// The bundle of the own trust domain as a JWK Set.
    Bundle { document: String },
    /// Bundles of other trust domains, and those that are known no longer. `whole`: there are no others.
    Federated { whole: bool, put: Vec<FederatedFrame>, gone: Vec<String> },
    /// Marks of what is denied, in base64. `whole`: there are no others.
    Denied { whole: bool, put: String, gone: String },
    /// The same of what is to be issued anew.
    Tainted { whole: bool, put: String, gone: String },
    /// Revocation lists in base64 of DER; all there are.
    Crls { lists: Vec<String> },
    /// What came before is whole. The versions are those of the result.
    State { revision: u64, versions: Versions },
}

/// An entry, as far as an agent has to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct EntryFrame {
    id: String,
    revision: u64,
    spiffe_id: String,
    selectors: Vec<String>,
    dns_names: Vec<String>,
    federates_with: Vec<String>,
    hint: String,
    created_at_nanos: i64,
}

/// The bundle of another trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FederatedFrame {
    trust_domain: String,
    /// JWK Set.
    document: String,
    /// From then on it is not relied on.
    stale_after_nanos: Option<i64>,
}

/// Ids of entries that were removed, or given to another agent, by the revision of that.
#[derive(Debug)]
pub(crate) struct Removals {
    /// Everything after this revision is remembered.
    floor: u64,
    removed: VecDeque<(u64, String)>,
}

impl Removals {
    /// Remembers from that revision on.
    pub(crate) fn since(floor: u64) -> Self {
        Self { floor, removed: VecDeque::new() }
    }

    pub(crate) fn note(&mut self, revision: u64, id: &str) {
        self.removed.push_back((revision, id.to_owned()));
        if self.removed.len() > REMOVALS
            && let Some((revision, _)) = self.removed.pop_front()
        {
            self.floor = self.floor.max(revision);
        }
    }

    /// Those after `revision`; none when they are not all remembered.
    pub(crate) fn after(&self, revision: u64) -> Option<Vec<String>> {
        let later = self.removed.iter().filter(|(at, _)| *at > revision).map(|(_, id)| id.clone());
        (revision >= self.floor).then(|| later.collect())
    }
}

/// What the agent has by now: `None` of a part means nothing that is known.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    entries: Option<BTreeMap<String, u64>>,
    bundle: Option<String>,
    federated: Option<BTreeMap<TrustDomain, Arc<Bundle>>>,
    denied: Option<RevocationSet>,
    tainted: Option<RevocationSet>,
    crls: Option<Arc<[Crl]>>,
}

impl Sent {
    /// What an agent has that comes with those words, as far as it can be told from what there is.
    pub(crate) fn resumed(resume: &Resume, now: &Standing, removed: Option<Vec<String>>) -> Self {
        let (theirs, ours) = (&resume.versions, now.versions());
        let same = |is_same: bool| is_same.then_some(());
        let all = || now.entries.values().map(|entry| (entry.id.clone(), entry.revision)).collect();
        let since = |revision: u64| {
            // As if it had everything that is older, and what was removed since.
            let older = now.entries.values().filter(|entry| entry.revision <= revision);
            let older = older.map(|entry| (entry.id.clone(), entry.revision));
            removed.as_ref().map(|gone| older.chain(gone.iter().map(|id| (id.clone(), 0))).collect())
        };
        Self {
            entries: match theirs.entries == ours.entries {
                true => Some(all()),
                // What is denied takes its entries along, whatever their revision.
                false if theirs.denied == ours.denied => resume.revision.and_then(since),
                false => None,
            },
            bundle: same(theirs.bundle == ours.bundle).map(|()| now.document.clone()),
            federated: same(theirs.federated == ours.federated).map(|()| now.federated.clone()),
            denied: same(theirs.denied == ours.denied).map(|()| now.denied.clone()),
            tainted: same(theirs.tainted == ours.tainted).map(|()| now.tainted.clone()),
            crls: same(theirs.crls == ours.crls).map(|()| Arc::clone(&now.crls)),
        }
    }

    /// The parts after which the agent has what there is now; and notes that it has. `Standing::state` comes behind them.
    pub(crate) fn parts(&mut self, now: &Standing) -> Vec<Frame> {
        let mut frames = Vec::new();
        self.entries(now, &mut frames);
        if self.bundle.as_ref() != Some(&now.document) {
            frames.push(Frame::Bundle { document: now.document.clone() });
            self.bundle = Some(now.document.clone());
        }
        self.federated(now, &mut frames);
        let denied = |whole, put, gone| Frame::Denied { whole, put, gone };
        marks(&mut self.denied, &now.denied, denied, &mut frames);
        let tainted = |whole, put, gone| Frame::Tainted { whole, put, gone };
        marks(&mut self.tainted, &now.tainted, tainted, &mut frames);
        if self.crls.as_ref().is_none_or(|sent| !Arc::ptr_eq(sent, &now.crls)) {
            let lists = now.lists().map(|der| STANDARD.encode(der)).collect();
            frames.push(Frame::Crls { lists });
            self.crls = Some(Arc::clone(&now.crls));
        }
        frames
    }

    fn entries(&mut self, now: &Standing, frames: &mut Vec<Frame>) {
        let mut whole = self.entries.is_none();
        let sent = self.entries.take().unwrap_or_default();
        let is_new = |entry: &&Arc<EntryRecord>| sent.get(&entry.id) != Some(&entry.revision);
        let put: Vec<_> =
            now.entries.values().filter(is_new).map(|entry| EntryFrame::of(entry.as_ref())).collect();
        let mut gone: Vec<_> = sent.into_keys().filter(|id| !now.entries.contains_key(id)).collect();
        for some in put.chunks(ENTRIES) {
            frames.push(Frame::Entries { whole, put: some.to_vec(), gone: std::mem::take(&mut gone) });
            whole = false;
        }
        if whole || !gone.is_empty() {
            frames.push(Frame::Entries { whole, put: Vec::new(), gone });
        }
        self.entries = Some(now.entries.values().map(|entry| (entry.id.clone(), entry.revision)).collect());
    }

    fn federated(&mut self, now: &Standing, frames: &mut Vec<Frame>) {
        let whole = self.federated.is_none();
        let sent = self.federated.take().unwrap_or_default();
        let gone: Vec<_> = sent
            .keys()
            .filter(|domain| !now.federated.contains_key(*domain))
            .map(ToString::to_string)
            .collect();
        if whole || !gone.is_empty() {
            frames.push(Frame::Federated { whole, put: Vec::new(), gone });
        }
        // One in a frame: a document may have a megabyte.
        for (domain, bundle) in &now.federated {
            if sent.get(domain).is_none_or(|sent| !Arc::ptr_eq(sent, bundle)) {
                let put = vec![FederatedFrame {
                    trust_domain: domain.to_string(),
                    document: bundle.to_jwks(),
                    stale_after_nanos: bundle.stale_after.map(UnixTime::as_nanos),
                }];
                frames.push(Frame::Federated { whole: false, put, gone: Vec::new() });
            }
        }
        self.federated = Some(now.federated.clone());
    }
}

fn marks(
    sent: &mut Option<RevocationSet>,
    now: &RevocationSet,
    frame: fn(bool, String, String) -> Frame,
    frames: &mut Vec<Frame>,
) {
    let mut whole = sent.is_none();
    let before = sent.take().unwrap_or_default();
    let (put, gone) = (now.beyond(&before), before.beyond(now));
    for some in put.chunks(MARKS) {
        frames.push(frame(whole, encode(some), String::new()));
        whole = false;
    }
    for some in gone.chunks(MARKS) {
        frames.push(frame(false, String::new(), encode(some)));
    }
    if whole {
        frames.push(frame(true, String::new(), String::new()));
    }
    *sent = Some(now.clone());
}

fn encode(marks: &[[u8; MARK]]) -> String {
    STANDARD.encode(marks.concat())
}

impl Standing {
    /// Says that what came before is whole.
    pub(crate) fn state(&self) -> Frame {
        Frame::State { revision: self.revision, versions: self.versions() }
    }

    fn versions(&self) -> Versions {
        let (mut entries, mut federated) = (Vec::new(), Vec::new());
        for (id, entry) in &self.entries {
            entries.extend_from_slice(format!("{id} {}\n", entry.revision).as_bytes());
        }
        for (domain, bundle) in &self.federated {
            let end = bundle.stale_after.map(|end| end.as_nanos().to_string()).unwrap_or_default();
            let document = row::hex(&spki_sha256(bundle.to_jwks().as_bytes()));
            federated.extend_from_slice(format!("{domain} {end} {document}\n").as_bytes());
        }
        let crls: Vec<u8> = self.lists().flat_map(spki_sha256).collect();
        Versions {
            entries: row::hex(&spki_sha256(&entries)),
            bundle: row::hex(&spki_sha256(self.document.as_bytes())),
            federated: row::hex(&spki_sha256(&federated)),
            denied: row::hex(&self.denied.digest()),
            tainted: row::hex(&self.tainted.digest()),
            crls: row::hex(&spki_sha256(&crls)),
        }
    }

    /// The revocation lists that agents get: all, or none when they are too large for workloads.
    fn lists(&self) -> impl Iterator<Item = &[u8]> {
        let bytes: usize = self.crls.iter().map(|list| list.der.len()).sum();
        self.crls.iter().filter(move |_| bytes <= CRL_BYTES).map(|list| list.der.as_ref())
    }
}

impl EntryFrame {
    fn of(entry: &EntryRecord) -> Self {
        Self {
            id: entry.id.clone(),
            revision: entry.revision,
            spiffe_id: entry.spiffe_id.to_string(),
            selectors: entry.selectors.iter().map(ToString::to_string).collect(),
            dns_names: entry.dns_names.clone(),
            federates_with: entry.federates_with.iter().map(ToString::to_string).collect(),
            hint: entry.hint.clone().unwrap_or_default(),
            created_at_nanos: entry.created_at.as_nanos(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ag_01_removals_are_all_remembered_or_none_are_told() {
        let mut removals = Removals::since(10);
        assert_eq!(removals.after(9), None, "what was before is not known");
        assert_eq!(removals.after(10), Some(Vec::new()));
        for revision in 11..=(11 + REMOVALS as u64) {
            removals.note(revision, &revision.to_string());
        }
        assert_eq!(removals.after(10), None, "the oldest was forgotten");
        let last = 11 + REMOVALS as u64;
        assert_eq!(removals.after(last - 1), Some(vec![last.to_string()]));
        assert_eq!(removals.after(11).unwrap().len(), REMOVALS);
    }
}
