//! Versions in the store: objects by content, manifests by number, the head (ST2). One transaction per version, so
//! that a crash leaves the old head with everything it needs, or the new one.

use crate::{
    PolicyStoreError,
    content::{Content, Hash, Object},
    feed::Published,
    manifest::Manifest,
    position::Position,
    retain::{Forgotten, Retained},
};
use base_store::{Compare, Entry, Revision, Store, StoreError, Transaction};
use prost::bytes::Bytes;
use std::sync::Arc;

const HEAD: &[u8] = b"policies/h/site";
const MANIFESTS: &[u8] = b"policies/v/";
const NEWEST_OF: &[u8] = b"policies/p/";
const OBJECTS: &[u8] = b"policies/o/";
const PAGE: usize = 64;
/// Objects are stored in pieces of this size, below the longest value of a store.
const PIECE: usize = 1 << 20;

/// Reads and writes versions.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    store: Arc<dyn Store>,
}

/// The newest version, and when its key was written.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) manifest: Manifest,
    revision: Revision,
}

impl Head {
    /// For the feed.
    pub(crate) fn published(&self) -> Result<Published, serde_json::Error> {
        let manifest = self.manifest.to_json()?;
        Ok(Published {
            position: Position::new(self.manifest.numbers(), Hash::of(&manifest)),
            manifest: manifest.into(),
            note: Bytes::new(),
            objects: self.manifest.objects.clone(),
        })
    }
}

impl Archive {
    pub(crate) fn new(store: Arc<dyn Store>) -> Archive {
        Archive { store }
    }

    pub(crate) fn head(&self) -> Result<Option<Head>, PolicyStoreError> {
        let Some(entry) = self.store.get(HEAD)? else { return Ok(None) };
        let manifest = self.manifest(number("head", &entry.value)?)?;
        Ok(Some(Head { manifest, revision: entry.modified }))
    }

    /// Every version that is kept.
    pub(crate) fn retained(&self) -> Result<Retained, PolicyStoreError> {
        let mut retained = Retained::default();
        for entry in self.all(MANIFESTS)? {
            retained.insert(&parse(&entry.key, &entry.value)?);
        }
        Ok(retained)
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
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let page = self.store.range(prefix, all.last().map(|entry| &*entry.key), PAGE)?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    pub(crate) fn manifest(&self, snapshot: u64) -> Result<Manifest, PolicyStoreError> {
        let key = numbered(MANIFESTS, snapshot);
        let entry = self.store.get(&key)?.ok_or(PolicyStoreError::Unknown(snapshot))?;
        let manifest = parse(&key, &entry.value)?;
        if manifest.snapshot == snapshot {
            Ok(manifest)
        } else {
            Err(PolicyStoreError::damaged(format!("manifest {snapshot}"), "it names another number"))
        }
    }

    /// The newest snapshot with these policies.
    pub(crate) fn newest_of(&self, policies: u64) -> Result<Option<u64>, PolicyStoreError> {
        let entry = self.store.get(&numbered(NEWEST_OF, policies))?;
        entry.map(|entry| number("number", &entry.value)).transpose()
    }

    /// What a version consisted of; every object is checked against its address.
    pub(crate) fn content(&self, manifest: &Manifest) -> Result<Content, PolicyStoreError> {
        let mut objects = Vec::with_capacity(manifest.objects.len());
        for reference in &manifest.objects {
            let pieces = self.pieces(&reference.sha256)?;
            let bytes = pieces.iter().map(|piece| &*piece.value).collect::<Vec<_>>().concat();
            if Object::address(reference.kind, &reference.id, &bytes) != reference.sha256 {
                let what = format!("object {}", reference.sha256);
                return Err(PolicyStoreError::damaged(what, "it is missing or its bytes are others"));
            }
            objects.push(Object { reference: reference.clone(), bytes });
        }
        Content::from_objects(objects, manifest.routes)
            .map_err(|cause| PolicyStoreError::damaged(format!("snapshot {}", manifest.snapshot), cause))
    }

    /// Makes `manifest` the head, durably, unless somebody else moved the head meanwhile.
    pub(crate) async fn write(
        &self,
        manifest: Manifest,
        objects: impl IntoIterator<Item = Object>,
        forgotten: &Forgotten,
        head: Option<&Head>,
    ) -> Result<Head, PolicyStoreError> {
        let text = manifest.to_json().map_err(|cause| PolicyStoreError::damaged("manifest", cause))?;
        let snapshot = manifest.snapshot.to_be_bytes().to_vec();
        let expected = head.map_or(Compare::Absent, |head| Compare::ModifiedAt(head.revision));
        let mut transaction = Transaction::new()
            .require(HEAD.to_vec(), expected)
            .put(numbered(MANIFESTS, manifest.snapshot), text)
            .put(numbered(NEWEST_OF, manifest.policies), snapshot.clone())
            .put(HEAD.to_vec(), snapshot);
        for Object { reference, bytes } in objects {
            for (at, piece) in (0_u32..).zip(bytes.chunks(PIECE)) {
                let key = [&*object(&reference.sha256), &at.to_be_bytes()].concat();
                transaction = transaction.put(key, piece.to_vec());
            }
        }
        for hash in &forgotten.objects {
            for piece in self.pieces(hash)? {
                transaction = transaction.delete(piece.key);
            }
        }
        let gone = forgotten.snapshots.iter().map(|snapshot| numbered(MANIFESTS, *snapshot));
        for key in gone.chain(forgotten.policies.iter().map(|policies| numbered(NEWEST_OF, *policies))) {
            transaction = transaction.delete(key);
        }
        let revision = self.store.commit(transaction).await?;
        Ok(Head { manifest, revision })
    }
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
