//! Versions in the store: objects by content, manifests by number with their notes, which is the newest and which is in
//! force (ST2). One transaction per version, so that a crash leaves the old state with everything it needs, or the new.

use crate::{
    Activated, PolicyStoreError,
    content::{Content, Hash, Object, Reference, text},
    feed::Published,
    manifest::{Manifest, Signed},
    position::Position,
    retain::{Forgotten, Retained},
};
use base_ports::UnixTime;
use base_store::{Compare, Entry, Revision, Store, StoreError, Transaction};
use prost::bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Snapshot in force.
const ACTIVE: &[u8] = b"policies/h/site";
/// Newest snapshot; every write of versions compares it.
const NEWEST: &[u8] = b"policies/h/newest";
/// Content of the directory that was considered last (ST10).
const DIRECTORY: &[u8] = b"policies/h/directory";
/// Objects written for a version that is not there yet.
const PENDING: &[u8] = b"policies/h/pending";
const MANIFESTS: &[u8] = b"policies/v/";
const NOTES: &[u8] = b"policies/n/";
const NEWEST_OF: &[u8] = b"policies/p/";
const ACTIVATED: &[u8] = b"policies/t/";
const OBJECTS: &[u8] = b"policies/o/";
const PAGE: usize = 64;
/// Objects are stored in pieces of this size, below the longest value of a store.
pub(crate) const PIECE: usize = 1 << 20;
/// Objects of more bytes than this are written before their version, in several transactions.
const AT_ONCE: usize = 8 << 20;

/// Reads and writes versions.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    store: Arc<dyn Store>,
}

/// Where the versions stand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heads {
    /// The newest snapshot.
    pub(crate) newest: Option<Signed>,
    /// The snapshot in force.
    pub(crate) active: Option<Signed>,
    /// What the directory held when it was considered last.
    pub(crate) directory: Option<Hash>,
    revision: Option<Revision>,
}

/// What a snapshot that is written has to do with the one in force.
pub(crate) enum Turn {
    /// Nothing yet.
    Stored,
    /// It is the version in force with other entities, and takes its place.
    Again,
    /// Its version comes into force.
    Activated(Activated),
}

/// What is written together.
pub(crate) struct Write {
    /// The snapshot: a new one, or a known one that comes into force.
    pub(crate) signed: Signed,
    /// Objects that are not kept yet.
    pub(crate) objects: Vec<Object>,
    pub(crate) turn: Turn,
    /// It is what the directory holds.
    pub(crate) directory: Option<Hash>,
    /// Whatever else changes with it.
    pub(crate) also: Transaction,
}

#[derive(Serialize, Deserialize)]
struct ActivatedRow {
    at: i64,
    by: String,
}

impl Signed {
    /// For the feed.
    pub(crate) fn published(&self) -> Published {
        let note = self.note.as_ref().map(|note| Bytes::copy_from_slice(note.as_bytes()));
        Published {
            position: Position::new(self.manifest.numbers(), self.hash),
            manifest: Bytes::copy_from_slice(&self.bytes),
            note: note.unwrap_or_default(),
            objects: self.manifest.objects.clone(),
        }
    }
}

impl Archive {
    pub(crate) fn new(store: Arc<dyn Store>) -> Archive {
        Archive { store }
    }

    pub(crate) fn heads(&self) -> Result<Heads, PolicyStoreError> {
        let of =
            |entry: Option<&Entry>| entry.map(|entry| self.signed(number("head", &entry.value)?)).transpose();
        let (newest, active) = (self.store.get(NEWEST)?, self.store.get(ACTIVE)?);
        let directory = self.store.get(DIRECTORY)?.map(|entry| <[u8; 32]>::try_from(&*entry.value).map(Hash));
        Ok(Heads {
            newest: of(newest.as_ref().or(active.as_ref()))?,
            active: of(active.as_ref())?,
            directory: directory
                .transpose()
                .map_err(|cause| PolicyStoreError::damaged("directory", cause))?,
            revision: newest.map(|entry| entry.modified),
        })
    }

    /// Every version that is kept.
    pub(crate) fn retained(&self) -> Result<Retained, PolicyStoreError> {
        let mut retained = Retained::default();
        for entry in self.all(MANIFESTS)? {
            retained.insert(&parse(&entry.key, &entry.value)?);
        }
        Ok(retained)
    }

    /// Takes away what was written for a version that never came to be.
    pub(crate) async fn sweep(&self, retained: &Retained) -> Result<(), PolicyStoreError> {
        let Some(pending) = self.store.get(PENDING)? else { return Ok(()) };
        let known = retained.objects();
        let mut transaction = Transaction::new().delete(PENDING.to_vec());
        let (hashes, _) = pending.value.as_chunks::<32>();
        for hash in hashes.iter().map(|bytes| Hash(*bytes)).filter(|hash| !known.contains(hash)) {
            for piece in self.pieces(&hash)? {
                transaction = transaction.delete(piece.key);
            }
        }
        self.store.commit(transaction).await?;
        Ok(())
    }

    /// The pieces of an object, in order.
    fn pieces(&self, hash: &Hash) -> Result<Vec<Entry>, StoreError> {
        self.all(&object(hash))
    }

    /// The bytes of an object. One without pieces is empty, or not kept: whoever takes them checks them against the
    /// hash.
    pub(crate) fn bytes(&self, hash: &Hash) -> Result<Vec<u8>, PolicyStoreError> {
        let pieces = self.pieces(hash)?;
        Ok(pieces.iter().map(|piece| &*piece.value).collect::<Vec<_>>().concat())
    }

    fn all(&self, prefix: &[u8]) -> Result<Vec<Entry>, StoreError> {
        base_store::all(self.store.as_ref(), prefix, PAGE)
    }

    pub(crate) fn signed(&self, snapshot: u64) -> Result<Signed, PolicyStoreError> {
        let key = numbered(MANIFESTS, snapshot);
        let entry = self.store.get(&key)?.ok_or(PolicyStoreError::Unknown(snapshot))?;
        let manifest = parse(&key, &entry.value)?;
        if manifest.snapshot != snapshot {
            return Err(PolicyStoreError::damaged(format!("manifest {snapshot}"), "it names another number"));
        }
        let note =
            self.store.get(&numbered(NOTES, snapshot))?.map(|entry| String::from_utf8(entry.value.to_vec()));
        let note =
            note.transpose().map_err(|cause| PolicyStoreError::damaged(format!("note {snapshot}"), cause))?;
        let bytes: Arc<[u8]> = Arc::from(&*entry.value);
        Ok(Signed { manifest, hash: Hash::of(&bytes), bytes, note: note.map(Arc::from) })
    }

    /// When and by whom a version came into force.
    pub(crate) fn activated(&self, policies: u64) -> Result<Option<Activated>, PolicyStoreError> {
        let Some(entry) = self.store.get(&numbered(ACTIVATED, policies))? else { return Ok(None) };
        let row: ActivatedRow = serde_json::from_slice(&entry.value)
            .map_err(|cause| PolicyStoreError::damaged(format!("activation {policies}"), cause))?;
        Ok(Some(Activated { at: UnixTime::from_nanos(row.at), by: row.by }))
    }

    /// The newest snapshot with these policies.
    pub(crate) fn newest_of(&self, policies: u64) -> Result<Option<u64>, PolicyStoreError> {
        let entry = self.store.get(&numbered(NEWEST_OF, policies))?;
        entry.map(|entry| number("number", &entry.value)).transpose()
    }

    /// The versions of policies that are kept, each with its newest snapshot, by number.
    pub(crate) fn versions(&self) -> Result<Vec<(u64, u64)>, PolicyStoreError> {
        let of = |entry: Entry| {
            let policies = entry.key.strip_prefix(NEWEST_OF).unwrap_or_default();
            Ok((number("number", policies)?, number("number", &entry.value)?))
        };
        self.all(NEWEST_OF)?.into_iter().map(of).collect()
    }

    /// What a version consisted of; every object is checked against its address.
    pub(crate) fn content(&self, manifest: &Manifest) -> Result<Content, PolicyStoreError> {
        let damaged = |cause| PolicyStoreError::damaged(format!("snapshot {}", manifest.snapshot), cause);
        let read = |reference| Ok((reference, text(&self.object(reference)?.bytes).map_err(damaged)?));
        let objects = manifest.objects.iter().map(read).collect::<Result<Vec<_>, PolicyStoreError>>()?;
        Content::from_objects(objects, manifest.routes).map_err(damaged)
    }

    /// One object, checked against its address.
    pub(crate) fn object(&self, reference: &Reference) -> Result<Object, PolicyStoreError> {
        let pieces = self.pieces(&reference.sha256)?;
        let bytes = pieces.iter().map(|piece| &*piece.value).collect::<Vec<_>>().concat();
        if Object::address(reference.kind, &reference.id, &bytes) == reference.sha256 {
            return Ok(Object { reference: reference.clone(), bytes });
        }
        let what = format!("object {}", reference.sha256);
        Err(PolicyStoreError::damaged(what, "it is missing or its bytes are others"))
    }

    /// Writes a version, puts one into force, or both: durably, unless somebody else wrote versions since `heads`.
    pub(crate) async fn write(&self, heads: &Heads, write: Write) -> Result<Heads, PolicyStoreError> {
        let Write { signed, objects, turn, directory, also } = write;
        let is_large = objects.iter().map(|object| object.bytes.len()).sum::<usize>() > AT_ONCE;
        let objects = if is_large { self.before(objects).await? } else { objects };
        let is_newest =
            heads.newest.as_ref().is_none_or(|newest| newest.manifest.snapshot < signed.manifest.snapshot);
        let newest = if is_newest { Some(signed.clone()) } else { heads.newest.clone() };
        let mut transaction = self.guarded(heads, newest.as_ref(), also);
        if is_newest {
            transaction = put_signed(transaction, &signed);
        }
        if is_large {
            transaction = transaction.delete(PENDING.to_vec());
        }
        for object in objects {
            transaction = put_object(transaction, &object);
        }
        if let Turn::Activated(Activated { at, by }) = &turn {
            let row = ActivatedRow { at: at.as_nanos(), by: by.clone() };
            let row =
                serde_json::to_vec(&row).map_err(|cause| PolicyStoreError::damaged("activation", cause))?;
            transaction = transaction.put(numbered(ACTIVATED, signed.manifest.policies), row);
        }
        let active = match turn {
            Turn::Stored => heads.active.clone(),
            Turn::Again | Turn::Activated(_) => {
                transaction =
                    transaction.put(ACTIVE.to_vec(), signed.manifest.snapshot.to_be_bytes().to_vec());
                Some(signed)
            }
        };
        if let Some(directory) = directory {
            transaction = transaction.put(DIRECTORY.to_vec(), directory.0.to_vec());
        }
        let revision = Some(self.store.commit(transaction).await?);
        Ok(Heads { newest, active, directory: directory.or(heads.directory), revision })
    }

    /// Takes away what is not needed any longer.
    pub(crate) async fn forget(
        &self,
        heads: &Heads,
        forgotten: &Forgotten,
    ) -> Result<Heads, PolicyStoreError> {
        let mut transaction = self.guarded(heads, heads.newest.as_ref(), Transaction::new());
        for hash in &forgotten.objects {
            for piece in self.pieces(hash)? {
                transaction = transaction.delete(piece.key);
            }
        }
        for snapshot in &forgotten.snapshots {
            transaction =
                transaction.delete(numbered(MANIFESTS, *snapshot)).delete(numbered(NOTES, *snapshot));
        }
        for policies in &forgotten.policies {
            transaction =
                transaction.delete(numbered(NEWEST_OF, *policies)).delete(numbered(ACTIVATED, *policies));
        }
        let revision = Some(self.store.commit(transaction).await?);
        Ok(Heads { revision, ..heads.clone() })
    }

    /// Notes what the directory holds, when that makes no version.
    pub(crate) async fn consider(&self, heads: &Heads, directory: Hash) -> Result<Heads, PolicyStoreError> {
        let transaction = self.guarded(heads, heads.newest.as_ref(), Transaction::new());
        let transaction = transaction.put(DIRECTORY.to_vec(), directory.0.to_vec());
        let revision = Some(self.store.commit(transaction).await?);
        Ok(Heads { directory: Some(directory), revision, ..heads.clone() })
    }

    /// Writes the note of the snapshot in force anew: it had none, or the key was rotated.
    pub(crate) async fn renote(&self, heads: &Heads, note: Arc<str>) -> Result<Heads, PolicyStoreError> {
        let Some(active) = &heads.active else { return Ok(heads.clone()) };
        let key = numbered(NOTES, active.manifest.snapshot);
        let transaction = self.guarded(heads, heads.newest.as_ref(), Transaction::new());
        let revision = Some(self.store.commit(transaction.put(key, note.as_bytes().to_vec())).await?);
        let active = Signed { note: Some(note), ..active.clone() };
        let is_newest = heads.newest.as_ref().is_some_and(|newest| newest.hash == active.hash);
        let newest = if is_newest { Some(active.clone()) } else { heads.newest.clone() };
        Ok(Heads { newest, active: Some(active), directory: heads.directory, revision })
    }

    /// A transaction that fails when somebody else wrote versions since `heads`.
    fn guarded(&self, heads: &Heads, newest: Option<&Signed>, also: Transaction) -> Transaction {
        let expected = heads.revision.map_or(Compare::Absent, Compare::ModifiedAt);
        let newest = newest.map_or(0, |newest| newest.manifest.snapshot);
        also.require(NEWEST.to_vec(), expected).put(NEWEST.to_vec(), newest.to_be_bytes().to_vec())
    }

    /// Writes many objects ahead of their version; [`Archive::sweep`] finds them should it never come.
    async fn before(&self, objects: Vec<Object>) -> Result<Vec<Object>, PolicyStoreError> {
        let hashes: Vec<u8> = objects.iter().flat_map(|object| object.reference.sha256.0).collect();
        let mut transaction = Transaction::new().put(PENDING.to_vec(), hashes);
        let mut bytes = 0;
        for object in objects {
            // One of 64 MiB is below the longest transaction in pieces only.
            for (key, piece) in pieces(&object) {
                bytes += piece.len();
                transaction = transaction.put(key, piece);
                if bytes > AT_ONCE {
                    self.store.commit(std::mem::take(&mut transaction)).await?;
                    bytes = 0;
                }
            }
        }
        if !transaction.is_empty() {
            self.store.commit(transaction).await?;
        }
        Ok(Vec::new())
    }
}

fn put_signed(transaction: Transaction, signed: &Signed) -> Transaction {
    let Signed { manifest, bytes, note, .. } = signed;
    let transaction = transaction
        .put(numbered(MANIFESTS, manifest.snapshot), bytes.to_vec())
        .put(numbered(NEWEST_OF, manifest.policies), manifest.snapshot.to_be_bytes().to_vec());
    match note {
        Some(note) => transaction.put(numbered(NOTES, manifest.snapshot), note.as_bytes().to_vec()),
        None => transaction,
    }
}

fn put_object(transaction: Transaction, object: &Object) -> Transaction {
    pieces(object).fold(transaction, |transaction, (key, piece)| transaction.put(key, piece))
}

/// Keys and values of an object; one that is empty is one empty piece.
fn pieces(object: &Object) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let empty = object.bytes.is_empty().then_some([].as_slice());
    let address = self::object(&object.reference.sha256);
    (0_u32..).zip(object.bytes.chunks(PIECE).chain(empty)).map(move |(at, piece)| {
        let key = [&*address, &at.to_be_bytes()].concat();
        (key, piece.to_vec())
    })
}

fn parse(key: &[u8], value: &[u8]) -> Result<Manifest, PolicyStoreError> {
    Manifest::from_json(value)
        .map_err(|cause| PolicyStoreError::damaged(format!("manifest {}", key.escape_ascii()), cause))
}

fn numbered(prefix: &[u8], number: u64) -> Vec<u8> {
    [prefix, &number.to_be_bytes()].concat()
}

fn object(hash: &Hash) -> Vec<u8> {
    [OBJECTS, &hash.0].concat()
}

fn number(what: &str, value: &[u8]) -> Result<u64, PolicyStoreError> {
    let bytes = <[u8; 8]>::try_from(value).map_err(|cause| PolicyStoreError::damaged(what, cause))?;
    Ok(u64::from_be_bytes(bytes))
}
