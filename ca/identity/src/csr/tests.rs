//! Requests that prove nothing, and what survives of one that does.

use super::*;
use crate::testing;

fn request(edit: impl FnOnce(&mut CertificateParams), pair: &rcgen::KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::default();
    edit(&mut params);
    params.serialize_request(pair).unwrap().der().to_vec()
}

#[test]
fn is_02_only_the_public_key_survives_a_request() {
    let key = PrivateKey::generate_p256().unwrap();
    let der = request(
        |params| {
            params.subject_alt_names = vec![testing::uri("spiffe://example.org/admin")];
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        },
        &key.to_pair().unwrap(),
    );
    let parsed = parse(&der).unwrap();
    assert_eq!(parsed.spki(), key.public_spki());
    assert_eq!(parsed, parse(&build(&key, &[]).unwrap()).unwrap());
}

#[test]
fn is_02_a_request_of_another_key_proves_nothing() {
    let key = PrivateKey::generate_p256().unwrap();
    let mut der = build(&key, &["web.example.org".to_owned()]).unwrap();
    let other = PrivateKey::generate_p256().unwrap();
    let at = der.windows(65).position(|window| key.public_spki().ends_with(window)).unwrap();
    let point = other.public_spki().get(other.public_spki().len().saturating_sub(65)..).unwrap();
    der.iter_mut().skip(at).zip(point).for_each(|(to, from)| *to = *from);
    assert!(matches!(parse(&der), Err(CsrError::Possession(Refusal::BadSignature))));
}

#[test]
fn is_02_a_changed_byte_a_byte_too_many_and_an_oversized_request_are_refused() {
    let key = PrivateKey::generate_p256().unwrap();
    let der = build(&key, &[]).unwrap();
    assert!(parse(&der).is_ok());
    for at in 0..der.len() {
        let mut changed = der.clone();
        changed.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 0x01);
        assert!(parse(&changed).is_err(), "byte {at}");
    }
    let trailing = [der.as_slice(), &[0]].concat();
    assert!(matches!(parse(&trailing), Err(CsrError::TrailingBytes)));
    assert!(matches!(parse(&[]), Err(CsrError::Malformed(_))));
    let names: Vec<String> = (0..400).map(|n| format!("host-{n}.web.example.org")).collect();
    assert!(matches!(parse(&build(&key, &names).unwrap()), Err(CsrError::TooLarge)));
}

#[test]
fn is_02_keys_are_taken_by_kind_and_size() {
    let generated = |algorithm| rcgen::KeyPair::generate_for(algorithm).unwrap();
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        assert!(parse(&request(|_| {}, &generated(algorithm))).is_ok(), "{algorithm:?}");
    }
    let p521 = request(|_| {}, &generated(&rcgen::PKCS_ECDSA_P521_SHA512));
    assert!(matches!(parse(&p521), Err(CsrError::Key(Refusal::KeyAlgorithm))));
    assert!(subject_algorithm(KeyKind::Rsa { bits: 2048, exponent: 65_537 }).is_ok());
    for (bits, exponent) in [(4097, 65_537), (2048, 3), (2048, 65_538)] {
        assert!(subject_algorithm(KeyKind::Rsa { bits, exponent }).is_err(), "{bits} {exponent}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_answered_without_a_panic(bytes: Vec<u8>) {
        proptest::prop_assert!(parse(&bytes).is_err());
    }
}
