//! Signed notes (C2SP signed-note): text, an empty line, one line for each signature, and the keys for them.

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use base_ports::UnixTime;
use base64::{Engine, engine::general_purpose::STANDARD};

/// A longer note is none, bytes.
const LONGEST: usize = 16 << 10;

/// Algorithm byte of Ed25519 in key ids.
const ALGORITHM: u8 = 1;

/// Signs checkpoints for a ledger: a port, so that this crate sees no key file.
pub trait Signer: fmt::Debug + Send + Sync {
    /// The Ed25519 keys that sign now, the newest first.
    fn public_keys(&self) -> Vec<[u8; 32]>;

    /// Signatures over `text` with the keys that sign now, each with its key.
    fn sign(&self, text: &[u8]) -> Vec<([u8; 32], [u8; 64])>;

    /// Every key that signs or signed, the newest first.
    fn history(&self) -> Vec<LogKey> {
        let keys = self.public_keys().into_iter();
        keys.map(|key| LogKey { key, since: None, until: None, signs: true }).collect()
    }

    /// Makes the next key and keeps it aside.
    ///
    /// # Errors
    /// The keys are fixed, or too many of them sign; for people.
    fn draw(&self, _now: UnixTime) -> Result<[u8; 32], String> {
        Err("the keys of this log are fixed".to_owned())
    }

    /// The key that was drawn signs first from now on, and those before it until then. Durable when it returns.
    ///
    /// # Errors
    /// It was not drawn, or cannot be kept; for people.
    fn turn(&self, _key: [u8; 32], _now: UnixTime, _until: UnixTime) -> Result<(), String> {
        Err("the keys of this log are fixed".to_owned())
    }
}

/// A key of a log, and when it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogKey {
    /// Ed25519.
    pub key: [u8; 32],
    /// Since when; the first one since ever.
    pub since: Option<UnixTime>,
    /// Until when, once there is a newer one.
    pub until: Option<UnixTime>,
    /// It signs now.
    pub signs: bool,
}

/// Ed25519 keys in memory.
pub struct LogKeys(Vec<Ed25519KeyPair>);

impl LogKeys {
    /// From seeds, the newest first. `None` when there is no seed.
    #[must_use]
    pub fn from_seeds(seeds: &[[u8; 32]]) -> Option<Self> {
        let pairs: Option<Vec<_>> =
            seeds.iter().map(|seed| Ed25519KeyPair::from_seed_unchecked(seed).ok()).collect();
        pairs.filter(|pairs| !pairs.is_empty()).map(Self)
    }
}

impl fmt::Debug for LogKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogKeys({})", self.0.len())
    }
}

impl Signer for LogKeys {
    fn public_keys(&self) -> Vec<[u8; 32]> {
        // INVARIANT: an Ed25519 public key has 32 bytes and a signature 64, so no default is taken.
        self.0.iter().map(|pair| pair.public_key().as_ref().try_into().unwrap_or_default()).collect()
    }

    fn sign(&self, text: &[u8]) -> Vec<([u8; 32], [u8; 64])> {
        let signatures = self.0.iter().map(|pair| pair.sign(text).as_ref().try_into().unwrap_or([0; 64]));
        self.public_keys().into_iter().zip(signatures).collect()
    }
}

/// A public key with the name it signs under, as auditors keep it: `example.org/decisions/main+1f2e3d4c+AbCd..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: [u8; 32],
}

/// Why a note or a key is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It has not the form.
    #[error("it is no signed checkpoint")]
    Malformed,
    /// No key that is trusted signed it.
    #[error("no signature of the given key is on it")]
    Unsigned,
    /// A trusted key is named, and the signature is not its.
    #[error("its signature is wrong")]
    Forged,
    /// The text is not a verifier key.
    #[error("it is no verifier key, which looks as example.org/decisions/main+1f2e3d4c+AbCd..")]
    NotAKey,
    /// It is about another log.
    #[error("it is about another log")]
    OtherLog,
}

impl VerifierKey {
    /// A key under a name.
    #[must_use]
    pub fn new(name: &str, key: [u8; 32]) -> Self {
        Self { name: name.to_owned(), key }
    }

    /// The name it signs under, which is the origin of the log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key itself.
    pub(crate) fn public(&self) -> &[u8; 32] {
        &self.key
    }

    /// What signature lines begin with: four bytes of the hash over name, algorithm and key.
    fn id(&self) -> [u8; 4] {
        let named = [self.name.as_bytes(), b"\n", &[ALGORITHM], &self.key].concat();
        digest(&SHA256, &named).as_ref().first_chunk().copied().unwrap_or_default()
    }

    /// The id in hex, for people.
    #[must_use]
    pub fn id_hex(&self) -> String {
        crate::leaf::hex(&self.id())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([&[ALGORITHM], self.key.as_slice()].concat());
        write!(f, "{}+{}+{key}", self.name, self.id_hex())
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        // A `+` may also stand in the key.
        let parts = text.trim().split_once('+').and_then(|(name, rest)| Some((name, rest.split_once('+')?)));
        let (name, (_, key)) = parts.ok_or(NoteError::NotAKey)?;
        let bytes = STANDARD.decode(key).or(Err(NoteError::NotAKey))?;
        let key = match bytes.split_first() {
            Some((&ALGORITHM, key)) => key.try_into().or(Err(NoteError::NotAKey))?,
            _ => return Err(NoteError::NotAKey),
        };
        let found = Self::new(name, key);
        let is_named = !name.is_empty() && !name.contains(char::is_whitespace);
        if is_named && found.to_string() == text.trim() { Ok(found) } else { Err(NoteError::NotAKey) }
    }
}

/// `text`, which ends with a line break, with the signatures of `signer` under `name`.
pub(crate) fn sign(name: &str, text: &str, signer: &dyn Signer) -> String {
    let mut note = format!("{text}\n");
    for (key, signature) in signer.sign(text.as_bytes()) {
        let id = VerifierKey::new(name, key).id();
        let blob = STANDARD.encode([id.as_slice(), &signature].concat());
        note.push_str(&format!("— {name} {blob}\n"));
    }
    note
}

/// The text of a note that one of `keys` signed. Every line that names one of them must be good.
pub(crate) fn open<'a>(note: &'a [u8], keys: &[VerifierKey]) -> Result<&'a str, NoteError> {
    let malformed = NoteError::Malformed;
    let note = std::str::from_utf8(note).or(Err(malformed))?;
    if note.len() > LONGEST || note.contains(|c: char| c.is_ascii_control() && c != '\n') {
        return Err(malformed);
    }
    let (text, lines) = note.rsplit_once("\n\n").ok_or(malformed)?;
    let text = note.get(..text.len() + 1).ok_or(malformed)?;
    let mut is_signed = false;
    for line in lines.strip_suffix('\n').ok_or(malformed)?.split('\n') {
        let (name, blob) = line.strip_prefix("— ").and_then(|line| line.split_once(' ')).ok_or(malformed)?;
        let blob = STANDARD.decode(blob).or(Err(malformed))?;
        let (id, signature) = blob.split_first_chunk::<4>().ok_or(malformed)?;
        for key in keys.iter().filter(|key| key.name == name && key.id() == *id) {
            let public = UnparsedPublicKey::new(&ED25519, &key.key);
            public.verify(text.as_bytes(), signature).or(Err(NoteError::Forged))?;
            is_signed = true;
        }
    }
    if is_signed { Ok(text) } else { Err(NoteError::Unsigned) }
}
