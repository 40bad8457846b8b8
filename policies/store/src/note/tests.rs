//! Notes as somebody in between would change them.

use super::*;
use crate::{
    content::{Content, Object},
    manifest::{Meta, Next},
    rules::Rules,
};
use base_ports::UnixTime;
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

const NAME: &str = "example.org/policies";

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

/// A manifest as it is stored.
static MANIFEST: LazyLock<(Vec<u8>, Numbers)> = LazyLock::new(|| {
    let content = Content { rules: Rules::shipped(), entities: Arc::default(), routes: Hash([0; 32]) };
    let objects: Vec<Object> = content.objects().unwrap();
    let (meta, now) = (Meta::default(), UnixTime::from_secs(0));
    let numbers = Numbers { epoch: 1, snapshot: 1, policies: 1 };
    let next = Next { trust_domain: "", numbers, meta, content: &content, objects: &objects, now };
    let manifest = Manifest::after(None, next);
    (manifest.to_json().unwrap(), manifest.numbers())
});

fn signed_by(pairs: &[Ed25519KeyPair]) -> (String, Vec<Verifier>) {
    let (bytes, numbers) = &*MANIFEST;
    let keys = pairs.iter().map(|pair| Verifier::of(NAME, pair)).collect();
    (sign(NAME, *numbers, bytes, pairs), keys)
}

#[test]
fn st4_a_note_binds_exactly_these_bytes_to_their_numbers() {
    let (note, keys) = signed_by(&[pair(1)]);
    let (bytes, numbers) = &*MANIFEST;
    assert_eq!(verify(&note, bytes, &keys), Ok(*numbers));
    assert!(note.starts_with("example.org/policies\n1.1\n"), "{note}");
    assert_eq!(verify(&note, bytes, &[Verifier::of(NAME, &pair(2))]), Err(NoteError::Untrusted));
    assert_eq!(
        verify(&note, bytes, &[Verifier::of("other.org/policies", &pair(1))]),
        Err(NoteError::Untrusted)
    );
    assert_eq!(verify(&note, bytes, &[]), Err(NoteError::Untrusted));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert_eq!(verify(&note, &changed, &keys), Err(NoteError::OtherManifest), "byte {at}");
    }
    for at in 0..note.len() {
        let mut changed = note.clone().into_bytes();
        changed[at] ^= 1;
        if let Ok(changed) = String::from_utf8(changed) {
            assert!(verify(&changed, bytes, &keys).is_err(), "byte {at}: {changed}");
        }
        if let Some((cut, _)) = note.split_at_checked(at) {
            assert!(verify(cut, bytes, &keys).is_err(), "cut at {at}");
        }
    }
}

#[test]
fn st4_after_a_rotation_who_trusts_either_key_believes_and_a_forged_line_spoils_the_note() {
    let (note, keys) = signed_by(&[pair(2), pair(1)]);
    let (bytes, numbers) = &*MANIFEST;
    for key in &keys {
        assert_eq!(verify(&note, bytes, std::slice::from_ref(key)), Ok(*numbers));
    }
    let (alone, _) = signed_by(&[pair(1)]);
    let other = sign(NAME, Numbers { snapshot: 9, ..*numbers }, bytes, &[pair(2)]);
    let forged = format!("{alone}{}\n", other.lines().last().unwrap());
    assert_eq!(verify(&forged, bytes, &keys), Err(NoteError::Forged));
    assert_eq!(verify(&other, bytes, &keys), Err(NoteError::NotUnderstood), "numbers of another snapshot");
}

#[test]
fn st4_a_public_key_reads_back_from_its_text() {
    let verifier = Verifier::of(NAME, &pair(1));
    let text = verifier.to_string();
    assert_eq!(text.parse(), Ok(verifier.clone()));
    assert_eq!(verifier.name(), NAME);
    for bad in
        ["", "a", "a+b", "a+00000000+AA==", text.split_at(1).1, &text.replace('+', "-"), &format!("{text}A")]
    {
        assert_eq!(bad.parse::<Verifier>(), Err(NoteError::Malformed), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn st4_text_that_nobody_signed_is_no_note(text in "[—a-z0-9+/= .\n]{0,200}", manifest in prop::collection::vec(any::<u8>(), 0..40)) {
        let (_, keys) = signed_by(&[pair(1)]);
        prop_assert!(verify(&text, &manifest, &keys).is_err());
        prop_assert!(text.parse::<Verifier>().is_err());
    }
}
