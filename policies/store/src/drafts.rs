//! Changes as they are stored: a row each, its texts in pieces beside it, its approvals by approver (ST2).
//!
//! Every write compares the revision of the row that was read, so that nobody overwrites what he has not seen.

use crate::{
    Approval, Change, ChangeId, Checked, Edit, Impact, PolicyStoreError, archive::PIECE, content::Hash,
    files::Files, state::Life,
};
use base_ports::UnixTime;
use base_store::{Compare, Entry, Revision, Store, Transaction};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const NEWEST: &[u8] = b"policies/h/change";
const CHANGES: &[u8] = b"policies/c/";
const TEXTS: &[u8] = b"policies/e/";
const APPROVALS: &[u8] = b"policies/a/";
const FORMAT: &str = "portcullis-change/1";
const PAGE: usize = 64;
/// An approver's name longer than this, in bytes, is none.
pub(crate) const LONGEST_NAME: usize = 1 << 10;

/// The stored form of a change.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    format: String,
    base: u64,
    author: String,
    message: String,
    ticket: Option<String>,
    created: i64,
    updated: i64,
    life: Life,
    /// Files that differ from the base; none for those that go.
    edits: BTreeMap<String, Option<Hash>>,
    checked: Option<Checked>,
    impact: Option<Impact>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApprovalRow {
    by: String,
    at: i64,
    content: Hash,
}

/// A change with everything that belongs to it.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) id: ChangeId,
    pub(crate) base: u64,
    pub(crate) author: String,
    pub(crate) message: String,
    pub(crate) ticket: Option<String>,
    pub(crate) created: UnixTime,
    pub(crate) updated: UnixTime,
    pub(crate) life: Life,
    pub(crate) edits: BTreeMap<String, Option<Arc<str>>>,
    pub(crate) checked: Option<Checked>,
    pub(crate) impact: Option<Impact>,
    pub(crate) approvals: Vec<Approval>,
    /// None for one that is not stored yet.
    pub(crate) revision: Option<Revision>,
}

impl Draft {
    /// The files of the base with the edits.
    pub(crate) fn files(&self, base: &Files) -> Files {
        base.edited(self.edits.iter().map(|(name, text)| (name.as_str(), text.clone())))
    }

    pub(crate) fn into_change(self) -> Change {
        let edit =
            |(file, text): (String, Option<Arc<str>>)| Edit { file, text: text.map(|text| text.to_string()) };
        Change {
            id: self.id,
            revision: self.revision.map_or(0, Revision::get),
            base: self.base,
            author: self.author,
            message: self.message,
            ticket: self.ticket,
            created: self.created,
            updated: self.updated,
            stage: self.life.stage,
            content: self.life.content.to_string(),
            edits: self.edits.into_iter().map(edit).collect(),
            checked: self.checked,
            impact: self.impact,
            approvals: self.approvals,
            version: self.life.version,
        }
    }
}

/// A change.
pub(crate) fn read(store: &dyn Store, id: ChangeId) -> Result<Draft, PolicyStoreError> {
    let entry = store.get(&key(CHANGES, id))?.ok_or(PolicyStoreError::UnknownChange(id))?;
    whole(store, id, &entry)
}

/// Every change, oldest first.
pub(crate) fn all(store: &dyn Store) -> Result<Vec<Draft>, PolicyStoreError> {
    let of = |entry: Entry| {
        let number = entry.key.strip_prefix(CHANGES).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
        let id = number.map(|bytes| ChangeId(u64::from_be_bytes(bytes)));
        whole(store, id.ok_or_else(|| PolicyStoreError::damaged("change", "its key is no number"))?, &entry)
    };
    range(store, CHANGES)?.into_iter().map(of).collect()
}

/// The id of the next change.
pub(crate) fn next(store: &dyn Store) -> Result<ChangeId, PolicyStoreError> {
    let Some(entry) = store.get(NEWEST)? else { return Ok(ChangeId(1)) };
    let bytes = <[u8; 8]>::try_from(&*entry.value);
    let newest =
        bytes.map(u64::from_be_bytes).map_err(|cause| PolicyStoreError::damaged("newest change", cause))?;
    Ok(ChangeId(newest.saturating_add(1)))
}

/// What stores `draft` as it is now, unless somebody wrote it since it was read. Texts of a change that has ended go.
pub(crate) fn put(
    store: &dyn Store,
    draft: &Draft,
    mut transaction: Transaction,
) -> Result<Transaction, PolicyStoreError> {
    let Draft { id, .. } = *draft;
    transaction = match draft.revision {
        Some(revision) => transaction.require(key(CHANGES, id), Compare::ModifiedAt(revision)),
        None => transaction
            .require(key(CHANGES, id), Compare::Absent)
            .put(NEWEST.to_vec(), id.0.to_be_bytes().to_vec()),
    };
    let is_open = draft.life.stage.is_open();
    let mut edits = BTreeMap::new();
    let mut texts: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (name, text) in draft.edits.iter().filter(|_| is_open) {
        let hash = text.as_ref().map(|text| Hash::of(text.as_bytes()));
        if let (Some(hash), Some(text)) = (hash, text) {
            let empty = text.is_empty().then_some([].as_slice());
            for (at, piece) in (0_u32..).zip(text.as_bytes().chunks(PIECE).chain(empty)) {
                texts.insert([&*key(TEXTS, id), &hash.0, &at.to_be_bytes()].concat(), piece.to_vec());
            }
        }
        edits.insert(name.clone(), hash);
    }
    let row = Row {
        format: FORMAT.to_owned(),
        base: draft.base,
        author: draft.author.clone(),
        message: draft.message.clone(),
        ticket: draft.ticket.clone(),
        created: draft.created.as_nanos(),
        updated: draft.updated.as_nanos(),
        life: draft.life.clone(),
        edits,
        checked: draft.checked.clone(),
        impact: draft.impact,
    };
    let row = serde_json::to_vec(&row).map_err(|cause| PolicyStoreError::damaged("change", cause))?;
    transaction = transaction.put(key(CHANGES, id), row);
    for stored in range(store, &key(TEXTS, id))? {
        // Named by its hash: a piece that is there already is the same.
        if texts.remove(&*stored.key).is_none() {
            transaction = transaction.delete(stored.key);
        }
    }
    for (key, piece) in texts {
        transaction = transaction.put(key, piece);
    }
    for stored in range(store, &key(APPROVALS, id))? {
        let by = stored.key.strip_prefix(&*key(APPROVALS, id)).unwrap_or_default();
        if !draft.life.approvals.iter().any(|approver| approver.as_bytes() == by) {
            transaction = transaction.delete(stored.key);
        }
    }
    for Approval { by, at } in &draft.approvals {
        let row = ApprovalRow { by: by.clone(), at: at.as_nanos(), content: draft.life.content };
        let row = serde_json::to_vec(&row).map_err(|cause| PolicyStoreError::damaged("approval", cause))?;
        transaction = transaction.put([&*key(APPROVALS, id), by.as_bytes()].concat(), row);
    }
    Ok(transaction)
}

/// What takes a change away for good.
pub(crate) fn forget(
    store: &dyn Store,
    id: ChangeId,
    mut transaction: Transaction,
) -> Result<Transaction, PolicyStoreError> {
    for prefix in [TEXTS, APPROVALS] {
        for entry in range(store, &key(prefix, id))? {
            transaction = transaction.delete(entry.key);
        }
    }
    Ok(transaction.delete(key(CHANGES, id)))
}

fn whole(store: &dyn Store, id: ChangeId, entry: &Entry) -> Result<Draft, PolicyStoreError> {
    let damaged = |cause: String| PolicyStoreError::damaged(format!("change {id}"), cause);
    let row: Row = serde_json::from_slice(&entry.value).map_err(|cause| damaged(cause.to_string()))?;
    if row.format != FORMAT {
        return Err(damaged(format!("unknown format `{}`", row.format)));
    }
    let mut edits = BTreeMap::new();
    for (name, hash) in row.edits {
        let text = hash.map(|hash| text(store, id, hash)).transpose()?;
        edits.insert(name, text);
    }
    let mut approvals = Vec::new();
    for entry in range(store, &key(APPROVALS, id))? {
        let row: ApprovalRow =
            serde_json::from_slice(&entry.value).map_err(|cause| damaged(format!("approval: {cause}")))?;
        approvals.push(Approval { by: row.by, at: UnixTime::from_nanos(row.at) });
    }
    let names: BTreeSet<String> = approvals.iter().map(|approval| approval.by.clone()).collect();
    Ok(Draft {
        id,
        base: row.base,
        author: row.author,
        message: row.message,
        ticket: row.ticket,
        created: UnixTime::from_nanos(row.created),
        updated: UnixTime::from_nanos(row.updated),
        life: Life { approvals: names, ..row.life },
        edits,
        checked: row.checked,
        impact: row.impact,
        approvals,
        revision: Some(entry.modified),
    })
}

fn text(store: &dyn Store, id: ChangeId, hash: Hash) -> Result<Arc<str>, PolicyStoreError> {
    let pieces = range(store, &[&*key(TEXTS, id), &hash.0].concat())?;
    let bytes = pieces.iter().map(|piece| &*piece.value).collect::<Vec<_>>().concat();
    let text =
        Some(bytes).filter(|bytes| Hash::of(bytes) == hash).and_then(|bytes| String::from_utf8(bytes).ok());
    text.map(Arc::from).ok_or_else(|| {
        PolicyStoreError::damaged(
            format!("text {hash} of change {id}"),
            "it is missing or its bytes are others",
        )
    })
}

fn range(store: &dyn Store, prefix: &[u8]) -> Result<Vec<Entry>, PolicyStoreError> {
    Ok(base_store::all(store, prefix, PAGE)?)
}

fn key(prefix: &[u8], id: ChangeId) -> Vec<u8> {
    [prefix, &id.0.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stage;
    use base_store::Memory;

    /// As the build of 2026-11-25 wrote it.
    const ROW: &str = r#"{"format":"portcullis-change/1","base":3,"author":"ann","message":"read only","ticket":null,"created":1764000000000000000,"updated":1764000001000000000,"life":{"stage":"checked","content":"3b310a598edf2acfb1a31fbb1d10ec4c78f860bf24308c881735ebdbbb4e3beb","checked":["3b310a598edf2acfb1a31fbb1d10ec4c78f860bf24308c881735ebdbbb4e3beb",true],"version":null},"edits":{"a.cedar":null},"checked":null,"impact":{"replayed":9,"newly_denied":1,"newly_allowed":0}}"#;

    async fn stored(row: &str) -> Result<Draft, PolicyStoreError> {
        let store = Memory::new();
        store.commit(Transaction::new().put(key(CHANGES, ChangeId(5)), row.to_owned())).await.unwrap();
        read(&*store, ChangeId(5))
    }

    #[tokio::test]
    async fn a_change_of_this_format_stays_readable_and_what_is_not_understood_is_refused() {
        let draft = stored(ROW).await.unwrap();
        assert_eq!((draft.base, draft.life.stage, draft.edits.len()), (3, Stage::Checked, 1));
        assert!(draft.life.is_sound() && draft.impact.unwrap().newly_denied == 1);
        for bad in [
            ROW.replace("portcullis-change/1", "portcullis-change/2"),
            ROW.replace("{\"format\"", "{\"new\":1,\"format\""),
            ROW.replace("\"checked\",", "\"blessed\","),
            ROW.replace("{\"a.cedar\":null}", &format!("{{\"a.cedar\":\"{}\"}}", Hash::of(b"x"))),
            ROW.split_at(100).0.to_owned(),
        ] {
            assert!(matches!(stored(&bad).await, Err(PolicyStoreError::Damaged { .. })), "{bad}");
        }
    }
}
