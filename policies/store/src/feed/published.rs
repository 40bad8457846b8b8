//! What the store publishes, and the frame that brings a follower from what it has to it.

use crate::{
    PolicyStoreError,
    archive::Archive,
    content::{Hash, Reference},
    generated::messages,
    position::Position,
};
use prost::bytes::Bytes;
use std::collections::HashSet;

/// A snapshot as it was committed and signed: the very bytes that followers check.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) position: Position,
    pub(crate) manifest: Bytes,
    pub(crate) note: Bytes,
    pub(crate) objects: Vec<Reference>,
}

/// Objects up to this many bytes in all go with the frame; a follower fetches the others.
const INLINE: usize = 2 << 20;

impl Published {
    /// The frame for a follower that has `from`: with all small objects when `from` is none, too old or unknown.
    /// Blocks.
    pub(crate) fn frame(
        &self,
        from: Option<&Position>,
        archive: &Archive,
    ) -> Result<messages::Snapshot, PolicyStoreError> {
        let known = from.map(|from| known(from, archive)).unwrap_or_default();
        let mut asked = HashSet::new();
        let mut left = INLINE;
        let mut objects = Vec::new();
        for Reference { sha256, .. } in &self.objects {
            if known.contains(sha256) || !asked.insert(sha256) {
                continue;
            }
            let content = archive.bytes(sha256)?;
            let Some(less) = left.checked_sub(content.len()) else { break };
            left = less;
            objects.push(messages::Object { sha256: bytes_of(sha256), content: content.into() });
        }
        Ok(messages::Snapshot { manifest: self.manifest.clone(), note: self.note.clone(), objects })
    }
}

/// The objects of a version that is still kept; none when it is not, or was another one.
fn known(from: &Position, archive: &Archive) -> HashSet<Hash> {
    let Ok(signed) = archive.signed(from.snapshot) else { return HashSet::new() };
    let is_it = signed.manifest.epoch == from.epoch && signed.hash.0 == from.digest;
    let objects = signed.manifest.objects.into_iter().filter(|_| is_it);
    objects.map(|reference| reference.sha256).collect()
}

pub(crate) fn bytes_of(hash: &Hash) -> Bytes {
    Bytes::copy_from_slice(&hash.0)
}
