//! What the client makes of answers that are not as they should be.

use ca_identity::testing::TestCa;

use super::*;

fn answer(ca: &TestCa, path: &str) -> X509svidResponse {
    let svid = ca.svid(path);
    X509svidResponse {
        svids: vec![X509svid {
            spiffe_id: svid.id.to_string(),
            x509_svid: svid.chain.iter().flat_map(|der| der.to_vec()).collect(),
            x509_svid_key: svid.key.pkcs8().to_vec().into(),
            bundle: ca.bundle().to_der().into(),
            hint: "h".to_owned(),
        }],
        ..Default::default()
    }
}

fn ca() -> TestCa {
    TestCa::new("example.org", ca_identity::testing::now())
}

fn refusal(answer: X509svidResponse) -> String {
    X509Context::try_from(answer).unwrap_err().to_string()
}

#[test]
fn a_complete_answer_is_taken_with_chain_bundle_and_hint() {
    let ca = ca();
    let context = X509Context::try_from(answer(&ca, "/a")).unwrap();
    assert_eq!(context.svids[0].chain.len(), 2);
    assert_eq!(context.svids[0].hint.as_deref(), Some("h"));
    assert_eq!(context.bundles.get(ca.trust_domain()).unwrap().to_der(), ca.bundle().to_der());
}

#[test]
fn wa_07_of_equal_hints_the_first_counts() {
    let ca = ca();
    let mut two = answer(&ca, "/a");
    two.svids.extend(answer(&ca, "/b").svids);
    let context = X509Context::try_from(two).unwrap();
    assert_eq!(context.svids[0].hint.as_deref(), Some("h"));
    assert_eq!(context.svids[1].hint, None);
}

#[test]
fn federated_bundles_are_kept_apart_by_domain() {
    let (ours, theirs) = (ca(), TestCa::new("partner.test", ca_identity::testing::now()));
    let mut both = answer(&ours, "/a");
    both.federated_bundles.insert("spiffe://partner.test".to_owned(), theirs.bundle().to_der().into());
    let context = X509Context::try_from(both).unwrap();
    assert_eq!(context.bundles.len(), 2);
    assert_eq!(context.bundles.get(theirs.trust_domain()).unwrap().to_der(), theirs.bundle().to_der());
}

#[test]
fn an_answer_that_is_not_whole_is_refused_with_the_identity_it_is_about() {
    let ca = ca();
    let edit = |change: fn(&mut X509svid)| {
        let mut answer = answer(&ca, "/a");
        change(&mut answer.svids[0]);
        answer
    };
    assert_eq!(refusal(X509svidResponse::default()), "the Workload API answered without any SVID");
    for broken in [
        edit(|svid| svid.x509_svid = Bytes::new()),
        edit(|svid| svid.x509_svid = svid.x509_svid.slice(..svid.x509_svid.len() - 1)),
        edit(|svid| svid.x509_svid = Bytes::from_static(b"-----BEGIN CERTIFICATE-----")),
        edit(|svid| svid.x509_svid_key = Bytes::from_static(&[1, 2, 3])),
        edit(|svid| svid.x509_svid_key = PrivateKey::generate_p256().unwrap().pkcs8().to_vec().into()),
        edit(|svid| svid.spiffe_id = "spiffe://example.org/b".to_owned()),
    ] {
        let text = refusal(broken);
        assert!(text.starts_with("SVID `spiffe://example.org/"), "{text}");
    }
    for broken in [
        edit(|svid| svid.bundle = Bytes::new()),
        edit(|svid| svid.bundle = svid.x509_svid.clone()),
        edit(|svid| svid.spiffe_id = "example.org/a".to_owned()),
    ] {
        let text = refusal(broken);
        assert!(text.starts_with("bundle of `"), "{text}");
    }
}

#[tokio::test]
async fn nobody_at_the_socket_is_told_with_its_path() {
    let error = WorkloadClient::connect("unix:///no/such/socket").await.unwrap_err();
    assert_eq!(error.to_string(), "cannot connect to `/no/such/socket`");
    assert!(matches!(WorkloadClient::connect("tcp://127.0.0.1:1").await, Err(ClientError::Address(_))));
}
