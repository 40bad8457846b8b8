//! An offered snapshot on its way to being held: signature, numbers, parent, hashes (ST4, ST5, ST8). Pure.
//!
//! Nothing of a frame is used before a pinned key has signed its very bytes, and nothing is held in part: whatever is
//! wrong refuses the whole.

use super::refused::Refused;
use crate::{
    content::{Content, Hash, Object, Reference, text},
    generated::messages,
    manifest::Manifest,
    note::{NoteError, Verifier, verified},
    position::Position,
};
use policies_engine::Numbers;
use prost::bytes::Bytes;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// A whole snapshot whose every byte was checked.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) offer: Offer,
    pub(crate) objects: HashMap<Hash, Arc<str>>,
}

/// A manifest that a pinned key signed.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pub(crate) position: Position,
    pub(crate) numbers: Numbers,
    pub(crate) manifest: Manifest,
    pub(crate) raw: Bytes,
    pub(crate) note: Bytes,
}

impl Offer {
    /// Believes `raw` when one of `keys` signed it.
    pub(crate) fn verified(raw: Bytes, note: Bytes, keys: &[Verifier]) -> Result<Offer, Refused> {
        let digest = Hash::of(&raw);
        let text = std::str::from_utf8(&note).map_err(|_no_text| NoteError::Malformed)?;
        let manifest = match verified(text, (&raw, digest), keys) {
            Ok(manifest) => manifest,
            Err(NoteError::NotUnderstood) => return Err(not_understood(&raw, digest)),
            Err(cause) => return Err(cause.into()),
        };
        let numbers = manifest.numbers();
        let position = Position::new(numbers, digest);
        Ok(Offer { position, numbers, manifest, raw, note })
    }

    /// Only goes forward from what is held, along the chain of parents (PS4).
    pub(crate) fn follows(&self, held: Option<&Offer>) -> Result<(), Refused> {
        let Some(held) = held else { return Ok(()) };
        let refuse = |detail: String| Err(Refused::new("PC2024", detail).of(self.position));
        let (offered, running) = (self.position, held.position);
        if offered.number() == running.number() {
            return refuse(format!(
                "it differs from the snapshot {running} that is in force under the same number"
            ));
        }
        if offered.number() < running.number() {
            return refuse(format!("it is older than snapshot {running}, which is in force"));
        }
        let is_next =
            offered.epoch == running.epoch && running.snapshot.checked_add(1) == Some(offered.snapshot);
        if is_next && self.manifest.parent() != Some(Hash(running.digest)) {
            return refuse(format!("it does not come after the snapshot {running} that is in force"));
        }
        Ok(())
    }

    /// The objects that neither the frame nor the snapshot in force has.
    pub(crate) fn missing(&self, objects: &HashMap<Hash, Bytes>, held: Option<&Held>) -> Vec<Hash> {
        let mut asked = HashSet::new();
        let references = self.manifest.objects.iter().map(|reference| reference.sha256);
        references
            .filter(|hash| {
                let is_had =
                    objects.contains_key(hash) || held.is_some_and(|held| held.objects.contains_key(hash));
                !is_had && asked.insert(*hash)
            })
            .collect()
    }

    /// Checks what came against the addresses that the manifest names, and adds what is held already.
    pub(crate) fn complete(
        self,
        mut came: HashMap<Hash, Bytes>,
        held: Option<&Held>,
    ) -> Result<Held, Refused> {
        let mut objects = HashMap::with_capacity(self.manifest.objects.len());
        for Reference { kind, id, sha256, .. } in &self.manifest.objects {
            if objects.contains_key(sha256) {
                continue;
            }
            if let Some(content) = came.remove(sha256) {
                if Object::address(*kind, id, &content) != *sha256 {
                    return Err(damaged(format!("the bytes of object `{id}` are others than its hash says")));
                }
                let text = text(&content).map_err(|cause| {
                    let detail = format!("object `{id}` is no text: {cause}");
                    Refused::new("PC2022", detail).of(self.position)
                })?;
                objects.insert(*sha256, text);
            } else if let Some(text) = held.and_then(|held| held.objects.get(sha256)) {
                objects.insert(*sha256, Arc::clone(text));
            } else {
                return Err(damaged(format!("object `{id}` ({sha256}) is missing")));
            }
        }
        if let Some(stranger) = came.keys().next() {
            return Err(damaged(format!("object {stranger} belongs to another snapshot")));
        }
        Ok(Held { offer: self, objects })
    }
}

impl Held {
    /// What it says. Routes and entities of the publisher are among it; what it was told only where that is asked for.
    pub(crate) fn content(&self, with_told: bool) -> Result<Content, String> {
        let manifest = &self.offer.manifest;
        let mut objects = Vec::with_capacity(manifest.objects.len());
        for reference in manifest.objects.iter().filter(|reference| with_told || !reference.is_told()) {
            let text = self.objects.get(&reference.sha256);
            let text = text.ok_or_else(|| format!("object `{}` is missing", reference.id))?;
            objects.push((reference, Arc::clone(text)));
        }
        Content::from_objects(objects, manifest.routes)
    }
}

/// The objects of a frame; none of them is checked yet.
pub(crate) fn received(objects: Vec<messages::Object>) -> Result<HashMap<Hash, Bytes>, Refused> {
    let mut all = HashMap::with_capacity(objects.len());
    for messages::Object { sha256, content } in objects {
        let Ok(hash) = <[u8; 32]>::try_from(&*sha256) else {
            return Err(damaged("an object has no hash".to_owned()));
        };
        if all.insert(Hash(hash), content).is_some() {
            return Err(damaged("an object came twice".to_owned()));
        }
    }
    Ok(all)
}

/// Somebody on the way changed it, so the publisher is asked again.
pub(crate) fn damaged(detail: String) -> Refused {
    Refused::new("PC2023", detail)
}

/// The note is good, so these are the publisher's bytes; this build does not know what they mean (PS8).
fn not_understood(raw: &[u8], digest: Hash) -> Refused {
    let numbers: Option<Told> = serde_json::from_slice(raw).ok();
    let detail = match Manifest::from_json(raw) {
        Err(cause) => format!("this build does not understand the manifest: {cause}"),
        Ok(_) => "the manifest carries other numbers than its note".to_owned(),
    };
    let refused = Refused::new("PC2022", detail);
    let (epoch, snapshot) = numbers.map(|told| (told.epoch, told.snapshot)).unwrap_or_default();
    refused.of(Position { epoch, snapshot, digest: digest.0 })
}

/// What any format of a manifest will have.
#[derive(serde::Deserialize)]
struct Told {
    epoch: u64,
    snapshot: u64,
}
