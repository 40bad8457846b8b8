//! Signed notes over manifests (ST4): which bytes are which snapshot of which trust domain, and who says so.
//!
//! The form is that of checkpoints of transparency logs: text, an empty line, one line for each signature. Pure: the
//! feed, the follower and `policy export` call [`verify`] on the bytes they received, before they read them.

use crate::{content::Hash, manifest::Manifest};
use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use policies_engine::Numbers;
use std::{fmt, str::FromStr};

/// A note longer than this, in bytes, is none.
const LONGEST: usize = 16 << 10;
/// Algorithm byte of Ed25519 in key ids and verifiers.
const ED25519_ALGORITHM: u8 = 1;

/// A public key that signs notes, with the name it signs under: `example.org/policies+1f2e3d4c+AbCd..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    key: [u8; 32],
}

/// Why a note is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is no signed note.
    #[error("the note is malformed")]
    Malformed,
    /// No key that is trusted here signed it.
    #[error("the note is not signed by a trusted key")]
    Untrusted,
    /// A trusted key is named, and the signature is not its.
    #[error("a signature of the note is wrong")]
    Forged,
    /// It is about other bytes.
    #[error("the note is about another manifest")]
    OtherManifest,
    /// The manifest cannot be understood as a whole, or carries other numbers than the note (PS8).
    #[error("the manifest is not one that this build understands, or has other numbers than its note")]
    NotUnderstood,
}

/// The numbers of `manifest`, if a key of `keys` signed exactly these bytes. Every signature that names one of `keys`
/// must be good, and one must be there.
///
/// # Errors
/// Whatever is wrong; then nothing of the manifest may be used.
pub fn verify(note: &str, manifest: &[u8], keys: &[Verifier]) -> Result<Numbers, NoteError> {
    verified(note, (manifest, Hash::of(manifest)), keys).map(|manifest| manifest.numbers())
}

/// The manifest of these bytes, with their hash, in the same way.
pub(crate) fn verified(
    note: &str,
    (manifest, hash): (&[u8], Hash),
    keys: &[Verifier],
) -> Result<Manifest, NoteError> {
    let said = signed(note, keys)?;
    if !keys.iter().any(|key| key.name == said.name) {
        return Err(NoteError::Untrusted);
    }
    if hash != said.hash {
        return Err(NoteError::OtherManifest);
    }
    let manifest = Manifest::from_json(manifest).map_err(|_cause| NoteError::NotUnderstood)?;
    let told = manifest.numbers();
    if (told.epoch, told.snapshot) == (said.epoch, said.snapshot) {
        Ok(manifest)
    } else {
        Err(NoteError::NotUnderstood)
    }
}

/// What a note says.
struct Said<'a> {
    name: &'a str,
    epoch: u64,
    snapshot: u64,
    hash: Hash,
}

/// What a note says whose signatures are good.
fn signed<'a>(note: &'a str, keys: &[Verifier]) -> Result<Said<'a>, NoteError> {
    let malformed = NoteError::Malformed;
    if note.len() > LONGEST {
        return Err(malformed);
    }
    let (text, signatures) = note.rsplit_once("\n\n").ok_or(malformed)?;
    let text = note.get(..text.len().saturating_add(1)).ok_or(malformed)?;
    let mut is_trusted = false;
    for line in signatures.strip_suffix('\n').ok_or(malformed)?.split('\n') {
        let (name, blob) = line.strip_prefix("— ").and_then(|line| line.split_once(' ')).ok_or(malformed)?;
        let blob = STANDARD.decode(blob).map_err(|_cause| malformed)?;
        let (id, signature) = blob.split_first_chunk::<4>().ok_or(malformed)?;
        for key in keys.iter().filter(|key| key.name == name && key.id() == *id) {
            let public = UnparsedPublicKey::new(&ED25519, &key.key);
            public.verify(text.as_bytes(), signature).map_err(|_cause| NoteError::Forged)?;
            is_trusted = true;
        }
    }
    if !is_trusted {
        return Err(NoteError::Untrusted);
    }
    let mut lines = text.split('\n');
    let (Some(name), Some(numbers), Some(hash), Some(""), None) =
        (lines.next(), lines.next(), lines.next(), lines.next(), lines.next())
    else {
        return Err(malformed);
    };
    let (epoch, snapshot) = numbers.split_once('.').ok_or(malformed)?;
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| number.to_string() == text);
    let (epoch, snapshot) = number(epoch).zip(number(snapshot)).ok_or(malformed)?;
    let bytes = STANDARD.decode(hash).map_err(|_cause| malformed)?;
    let hash = Hash(bytes.try_into().map_err(|_other_length| malformed)?);
    Ok(Said { name, epoch, snapshot, hash })
}

/// The note about `manifest`, signed by each of `keys`.
pub(crate) fn sign<'a>(
    name: &str,
    numbers: Numbers,
    manifest: &[u8],
    keys: impl IntoIterator<Item = &'a Ed25519KeyPair>,
) -> String {
    let hash = STANDARD.encode(Hash::of(manifest).0);
    let text = format!("{name}\n{}.{}\n{hash}\n", numbers.epoch, numbers.snapshot);
    let lines = keys.into_iter().map(|pair| {
        let id = Verifier::of(name, pair).id();
        let blob = [&id, pair.sign(text.as_bytes()).as_ref()].concat();
        format!("— {name} {}\n", STANDARD.encode(blob))
    });
    let lines: String = lines.collect();
    format!("{text}\n{lines}")
}

impl Verifier {
    pub(crate) fn of(name: &str, pair: &Ed25519KeyPair) -> Verifier {
        // INVARIANT: an Ed25519 public key has 32 bytes, so the default is never taken.
        let key = pair.public_key().as_ref().try_into().unwrap_or_default();
        Verifier { name: name.to_owned(), key }
    }

    /// The name it signs under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// First four bytes of the hash over name, algorithm and key, as signature lines carry it.
    fn id(&self) -> [u8; 4] {
        let named = [self.name.as_bytes(), b"\n", &[ED25519_ALGORITHM], &self.key].concat();
        digest(&SHA256, &named).as_ref().first_chunk().copied().unwrap_or_default()
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = u32::from_be_bytes(self.id());
        let key = STANDARD.encode([&[ED25519_ALGORITHM], self.key.as_slice()].concat());
        write!(f, "{}+{id:08x}+{key}", self.name)
    }
}

impl FromStr for Verifier {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Verifier, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Malformed);
        };
        let bytes = STANDARD.decode(key).map_err(|_cause| NoteError::Malformed)?;
        let key = match bytes.split_first() {
            Some((&ED25519_ALGORITHM, key)) => {
                key.try_into().map_err(|_other_length| NoteError::Malformed)?
            }
            _ => return Err(NoteError::Malformed),
        };
        let verifier = Verifier { name: name.to_owned(), key };
        let is_named = !name.is_empty() && !name.contains(char::is_whitespace);
        if is_named && format!("{:08x}", u32::from_be_bytes(verifier.id())) == id {
            Ok(verifier)
        } else {
            Err(NoteError::Malformed)
        }
    }
}

#[cfg(test)]
mod tests;
