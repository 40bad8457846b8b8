//! The form of the files of the side store: frames as in a write-ahead file, one for each person, and one first that
//! counts who was erased. What is torn at the end was never needed: its flush had not returned.

use std::path::Path;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use base_ports::Rng;

use super::Day;
use crate::{
    commit::PersonKey,
    frame::{self, Frames},
};

/// First bytes of a file; the digits are the version of the form.
const MAGIC: [u8; 8] = *b"PCSIDE01";

/// First byte of a frame: somebody.
const PERSON: u8 = 1;

/// First byte of a frame: how many were erased.
const ERASED: u8 = 2;

const TERM: usize = 8;
const SECRET: usize = 32;

/// Longest id that a frame takes with some room, bytes.
pub(crate) const LONGEST: usize = 32 * 1024;

/// Names of files: `DAY-TAG-N.side`, so that no two processes ever write the same.
pub(super) struct Names;

impl Names {
    pub(super) fn of(day: Day, tag: u64, n: u32) -> String {
        format!("{day:08}-{tag:016x}-{n:04}.side")
    }

    /// The day of a file; `None` for what is none.
    pub(super) fn day(path: &Path) -> Option<Day> {
        let name = path.file_name()?.to_str()?.strip_suffix(".side")?;
        name.split_once('-')?.0.parse().ok()
    }
}

/// Somebody in a file, sealed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'b> {
    /// A keyed hash of the id, to find it by.
    pub(super) term: [u8; TERM],
    nonce: [u8; NONCE_LEN],
    sealed: &'b [u8],
    payload: &'b [u8],
}

/// What is in a file.
#[derive(Debug, Default)]
pub(super) struct Contents<'b> {
    pub(super) people: Vec<Found<'b>>,
    pub(super) erased: u64,
    /// It is no such file, or a frame in its midst is bad.
    pub(super) is_damaged: bool,
}

/// Reads a file.
pub(super) fn read(bytes: &[u8]) -> Contents<'_> {
    let mut contents = Contents { is_damaged: !bytes.starts_with(&MAGIC), ..Contents::default() };
    if contents.is_damaged {
        return contents;
    }
    let mut frames = Frames::of_file(bytes);
    for payload in frames.by_ref().map_while(Result::ok) {
        match payload.split_first() {
            Some((&ERASED, count)) if count.len() == 8 => {
                contents.erased += count.iter().fold(0, |count, byte| count << 8 | u64::from(*byte));
            }
            Some((&PERSON, rest)) => match person(rest, payload) {
                Some(found) => contents.people.push(found),
                None => contents.is_damaged = true,
            },
            _ => contents.is_damaged = true,
        }
    }
    contents.is_damaged |= frames.offset() < bytes.len() && frames.any_later();
    contents
}

fn person<'b>(rest: &'b [u8], payload: &'b [u8]) -> Option<Found<'b>> {
    let (term, rest) = rest.split_first_chunk::<TERM>()?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
    Some(Found { term: *term, nonce: *nonce, sealed, payload })
}

/// A file from which so many were erased.
pub(super) fn begin(erased: u64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    frame::append(&mut out, |out| {
        out.push(ERASED);
        out.extend_from_slice(&erased.to_be_bytes());
    });
    out
}

/// Appends somebody as he stands in another file of the day.
pub(super) fn keep(out: &mut Vec<u8>, found: &Found<'_>) {
    frame::append(out, |out| out.extend_from_slice(found.payload));
}

/// What files are sealed with.
pub(super) struct Seal {
    key: LessSafeKey,
    terms: hmac::Key,
}

impl Seal {
    pub(super) fn new(key: &[u8; 32]) -> Seal {
        let root = hmac::Key::new(hmac::HMAC_SHA256, key);
        let derived = |name: &[u8]| hmac::sign(&root, name);
        let sealing = UnboundKey::new(&AES_256_GCM, derived(b"portcullis-side-seal/1").as_ref());
        let Ok(sealing) = sealing else {
            // INVARIANT: a hash of 32 bytes is a key of AES-256; without one nothing may be written.
            std::process::abort();
        };
        let terms = hmac::Key::new(hmac::HMAC_SHA256, derived(b"portcullis-side-term/1").as_ref());
        Seal { key: LessSafeKey::new(sealing), terms }
    }

    /// What a person is found by without opening anything.
    pub(super) fn term(&self, id: &str) -> [u8; TERM] {
        let hash = hmac::sign(&self.terms, id.as_bytes());
        let mut term = [0; TERM];
        term.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
        term
    }

    /// Appends somebody.
    pub(super) fn person(&self, out: &mut Vec<u8>, day: Day, id: &str, key: &PersonKey, rng: &dyn Rng) {
        let mut nonce = [0; NONCE_LEN];
        rng.fill(&mut nonce);
        let mut body = Vec::with_capacity(SECRET + id.len() + AES_256_GCM.tag_len());
        body.extend_from_slice(key.secret());
        body.extend_from_slice(id.as_bytes());
        let context = day.to_be_bytes();
        let sealed = self.key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(context),
            &mut body,
        );
        if sealed.is_err() {
            // INVARIANT: AES-GCM refuses only inputs beyond 2^36 bytes; what is not sealed must never leave here.
            std::process::abort();
        }
        frame::append(out, |out| {
            out.push(PERSON);
            out.extend_from_slice(&self.term(id));
            out.extend_from_slice(&nonce);
            out.extend_from_slice(&body);
        });
    }

    /// Opens somebody: id and key. `None` when he is damaged or sealed with another key.
    pub(super) fn open(&self, day: Day, found: &Found<'_>) -> Option<(String, PersonKey)> {
        let mut body = found.sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(found.nonce);
        let plain = self.key.open_in_place(nonce, Aad::from(day.to_be_bytes()), &mut body).ok()?;
        let (secret, id) = plain.split_first_chunk::<SECRET>()?;
        Some((std::str::from_utf8(id).ok()?.to_owned(), PersonKey::new(*secret)))
    }
}
