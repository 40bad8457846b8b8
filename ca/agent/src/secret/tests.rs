//! Secrets as Envoy reads them: golden bytes, both forms, and no key in sight.

use ca_identity::testing::{TestCa, now};

use std::sync::Arc;

use super::*;

fn content(secret: &Secret) -> Type {
    let wire = Wire::decode(secret.resource().value).unwrap();
    assert_eq!(wire.name, secret.name);
    wire.r#type.unwrap()
}

fn text(source: Option<DataSource>) -> String {
    let Some(Specifier::InlineBytes(bytes)) = source.unwrap().specifier else { panic!("not inline") };
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn ig2_the_messages_of_sds_have_their_published_bytes() {
    let source = |bytes: &'static [u8]| Some(inline(Bytes::from_static(bytes)));
    let certificate = TlsCertificate { certificate_chain: source(b"C"), private_key: source(b"K") };
    let secret = Wire { name: "n".to_owned(), r#type: Some(Type::TlsCertificate(certificate)) };
    assert_eq!(secret.encode_to_vec(), b"\x0a\x01n\x12\x0a\x0a\x03\x12\x01C\x12\x03\x12\x01K");
    let context = CertificateValidationContext {
        trusted_ca: source(b"R"),
        crl: source(b"L"),
        custom_validator_config: Some(TypedExtensionConfig {
            name: "v".to_owned(),
            typed_config: Some(SharedAny { type_url: "t".to_owned(), value: Bytes::from_static(b"x") }),
        }),
        only_verify_leaf_cert_crl: true,
    };
    let secret = Wire { name: "n".to_owned(), r#type: Some(Type::ValidationContext(context)) };
    let golden = b"\x0a\x01n\x22\x19\x0a\x03\x12\x01R\x3a\x03\x12\x01L\x62\x0b\x0a\x01v\x12\x06\x0a\x01t\x12\x01x\x70\x01";
    assert_eq!(secret.encode_to_vec(), golden);
    let domain = TrustDomain { name: "d".to_owned(), trust_bundle: source(b"R") };
    let config = SpiffeCertValidatorConfig { trust_domains: vec![domain] };
    assert_eq!(config.encode_to_vec(), b"\x0a\x08\x0a\x01d\x12\x03\x12\x01R");
}

#[test]
fn sd_01_a_certificate_is_the_svid_with_its_key_in_pem() {
    let svid = TestCa::new("example.org", now()).svid("/web");
    let secret = Secret::certificate("default", &svid);
    let Type::TlsCertificate(certificate) = content(&secret) else { panic!("no certificate") };
    let chain = pem::read_certificates(text(certificate.certificate_chain).as_bytes()).unwrap();
    let key = pem::read_private_key(text(certificate.private_key).as_bytes()).unwrap();
    assert_eq!((chain, key.pkcs8()), (svid.chain.clone(), svid.key.pkcs8()));
    assert_eq!(secret.resource().type_url, SECRET_TYPE);
    assert!(!secret.is_context && secret.size() > 500);
}

#[test]
fn sd_03_what_to_verify_with_comes_by_trust_domain_or_as_plain_roots() {
    let (own, other) = (TestCa::new("example.org", now()).bundle(), TestCa::new("other.org", now()).bundle());
    let lists = Crls::of(&[Arc::from([0x30, 1].as_slice()), Arc::from([0x30, 2].as_slice())]);
    let secret = Secret::context("ALL", &[&own, &other], &lists, Form::Spiffe);
    assert!(secret.is_context);
    let Type::ValidationContext(context) = content(&secret) else { panic!("no context") };
    assert_eq!((&context.trusted_ca, &context.crl, context.only_verify_leaf_cert_crl), (&None, &None, false));
    let config = context.custom_validator_config.unwrap();
    assert_eq!(config.name, "envoy.tls.cert_validator.spiffe");
    let config = config.typed_config.unwrap();
    assert_eq!(config.type_url, VALIDATOR_TYPE);
    let config = SpiffeCertValidatorConfig::decode(config.value).unwrap();
    let domains = config.trust_domains.into_iter().map(|domain| (domain.name, text(domain.trust_bundle)));
    let pem_of = |bundle: &Bundle| pem::write_certificates(bundle.certificates());
    let expected = [("example.org".to_owned(), pem_of(&own)), ("other.org".to_owned(), pem_of(&other))];
    assert_eq!(domains.collect::<Vec<_>>(), expected);

    let plain = Secret::context("ROOTCA", &[&own], &Crls::default(), Form::Plain);
    let Type::ValidationContext(context) = content(&plain) else { panic!("no context") };
    assert_eq!((text(context.trusted_ca), context.custom_validator_config), (pem_of(&own), None));
    assert_eq!((context.crl, context.only_verify_leaf_cert_crl), (None, false));

    let listed = Secret::context("ROOTCA", &[&own], &lists, Form::Plain);
    let Type::ValidationContext(context) = content(&listed) else { panic!("no context") };
    assert_eq!(text(context.trusted_ca), pem_of(&own));
    let both = [[0x30, 1], [0x30, 2]].map(|list| pem::write_crl(&list)).concat();
    assert_eq!((text(context.crl), context.only_verify_leaf_cert_crl), (both, true));
    assert_ne!(listed.version, plain.version);
}

#[test]
fn a_version_follows_the_content_and_names_no_key() {
    let ca = TestCa::new("example.org", now());
    let (one, other) = (ca.svid("/web"), ca.svid("/web"));
    let versions = [&one, &one, &other].map(|svid| Secret::certificate("a", svid).version);
    assert!(versions[0] == versions[1] && versions[1] != versions[2], "{versions:?}");
    assert_ne!(version([b"ab".as_slice(), b"c"]), version([b"a".as_slice(), b"bc"]));
}

#[test]
fn bn_06_debug_of_a_secret_shows_no_key() {
    let svid = TestCa::new("example.org", now()).svid("/web");
    let secret = Secret::certificate("default", &svid);
    let shown = format!("{secret:?}{:?}{:?}", secret.resource(), content(&secret));
    assert!(shown.contains("default") && !shown.contains("PRIVATE KEY"), "{shown}");
}
