//! What the standards ask of a Workload API and of its client, and what an attacker must not get from one.

use ca_identity::{IdentitySnapshot, Refusal, Usage, testing::TestCa, verify_svid};

use super::*;
use crate::generated::messages::X509svid;

#[tokio::test]
async fn wa_14_both_calls_for_wit_svids_are_unimplemented() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    for path in ["/SpiffeWorkloadAPI/FetchWITSVID", "/SpiffeWorkloadAPI/FetchWITBundles"] {
        assert_eq!(call(&host, path).await.unwrap_err().code(), Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn we_03_a_caller_shows_nothing_and_claims_of_its_own_change_nothing() {
    let nobody = Selector::parse("unix:uid:4294967294").unwrap();
    let others = AgentEntry { selectors: vec![nobody], ..entry("b", "/others", 2) };
    let host = Host::start(vec![entry("a", "/a", 1), others]).await;
    // No TLS, no credentials, an empty message: the header alone. What a caller says of itself is not read.
    for claims in [&[][..], &["authorization", "x-spiffe-id", "x-forwarded-client-cert", "unix-uid"]] {
        let mut request = with_header(X509svidRequest {});
        for claim in claims {
            let others = "spiffe://example.org/others".parse().unwrap();
            request.metadata_mut().insert(*claim, others);
        }
        let mut stream = host.raw().await.fetch_x509svid(request).await.unwrap().into_inner();
        let message = next(&mut stream).await.unwrap();
        let ids: Vec<&str> = message.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect();
        assert_eq!(ids, ["spiffe://example.org/a"], "{claims:?}");
    }
}

#[tokio::test]
async fn wa_04_what_an_answer_leaves_out_is_gone() {
    let hinted = AgentEntry { hint: "db".to_owned(), ..entry("a", "/a", 2) };
    let host = Host::start(vec![hinted, entry("b", "/b", 1)]).await;
    let mut updates = host.client().await.watch_x509();
    let first = soon(updates.next()).await.unwrap();
    assert_eq!((first.svids[0].hint.as_deref(), first.svids.len()), (Some("db"), 2));

    host.authority.set_entries(vec![entry("a", "/a", 2)]);
    let second = soon(updates.next()).await.unwrap();
    assert_eq!((second.svids[0].hint.as_deref(), second.svids.len()), (None, 1));

    // Bundles of other domains, too: a message without them withdraws them.
    let (ours, theirs) = (answering("example.org"), TestCa::new("partner.test", noon()));
    let mut both = ours.1.clone();
    both.federated_bundles.insert("spiffe://partner.test".to_owned(), theirs.bundle().to_der().into());
    assert_eq!(X509Context::try_from(both).unwrap().bundles.len(), 2);
    assert_eq!(X509Context::try_from(ours.1).unwrap().bundles.len(), 1);
}

/// An authority, and an answer of the Workload API with an SVID of it.
fn answering(domain: &str) -> (TestCa, X509svidResponse) {
    let ca = TestCa::new(domain, noon());
    let svid = ca.svid("/a");
    let message = X509svid {
        spiffe_id: svid.id.to_string(),
        x509_svid: svid.chain.iter().flat_map(|der| der.to_vec()).collect(),
        x509_svid_key: svid.key.pkcs8().to_vec().into(),
        bundle: ca.bundle().to_der().into(),
        hint: String::new(),
    };
    (ca, X509svidResponse { svids: vec![message], ..Default::default() })
}

#[test]
fn wa_13_a_peer_is_judged_by_the_bundle_of_its_own_domain_and_without_one_not_trusted() {
    let (ours, mut answer) = answering("example.org");
    let (partner, stranger) = (TestCa::new("partner.test", noon()), TestCa::new("stranger.test", noon()));
    answer.federated_bundles.insert("spiffe://partner.test".to_owned(), partner.bundle().to_der().into());
    let bundles = X509Context::try_from(answer).unwrap().bundles;
    let trust = IdentitySnapshot { bundles, ..IdentitySnapshot::default() };
    let judge = |ca: &TestCa, chain: &[_]| {
        let answer = verify_svid(chain, &trust, Usage::Server, noon()).map(|peer| peer.id);
        assert!(answer.as_ref().is_ok_and(|id| id.is_member_of(ca.trust_domain())) || answer.is_err());
        answer.map(drop)
    };
    for known in [&ours, &partner] {
        assert_eq!(judge(known, &known.svid("/web").chain), Ok(()));
    }
    let unknown = Refusal::UnknownTrustDomain(stranger.trust_domain().clone());
    assert_eq!(judge(&stranger, &stranger.svid("/web").chain), Err(unknown));
    // The partner's CA cannot vouch for a name of ours.
    let key = ca_identity::PrivateKey::generate_p256().unwrap();
    let forged = partner.leaf(&key, |leaf| {
        let ours = rcgen::SanType::URI("spiffe://example.org/web".try_into().unwrap());
        leaf.subject_alt_names = vec![ours];
    });
    assert!(judge(&ours, &[forged, partner.signing().clone()]).is_err());
}

#[tokio::test]
async fn threat_wa7_with_the_authority_down_nothing_expired_is_served_and_all_comes_back() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let mut stream = host.x509().await;
    let first = next(&mut stream).await.unwrap();
    host.authority.fail(Some("it is down"));

    // Until the end of what is held, callers old and new get it.
    host.authority.advance(3_599);
    let late = next(&mut host.x509().await).await.unwrap();
    assert_eq!(late.svids[0].x509_svid, first.svids[0].x509_svid);

    // From then on nobody gets it, and the reason is told.
    host.authority.advance(1);
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::Unavailable);
    for _ in 0..3 {
        assert_eq!(next(&mut host.x509().await).await.unwrap_err().code(), Code::Unavailable);
        host.authority.advance(3_600);
    }
    let told = async {
        while !next(&mut host.x509().await).await.unwrap_err().message().contains("it is down") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(told).await;

    host.authority.fail(None);
    host.authority.advance(200);
    let back = async {
        loop {
            if let Ok(context) = host.client().await.fetch_x509().await {
                return context;
            }
        }
    };
    let back = soon(back).await;
    assert!(ids(&back) == ["/a"] && back.svids[0].not_after > noon() + Duration::from_secs(3_600));
}

#[tokio::test]
async fn rv_06_a_new_revocation_list_is_pushed_with_svids_and_with_bundles() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let (mut svids, mut bundles) = (host.x509().await, host.bundles().await);
    assert!(next(&mut svids).await.unwrap().crl.is_empty());
    assert!(next(&mut bundles).await.unwrap().crl.is_empty());

    host.authority.list(&[&[0x30, 1], &[0x30, 2]]);

    let message = next(&mut svids).await.unwrap();
    assert_eq!(
        (&message.crl[0][..], &message.crl[1][..], message.svids.len()),
        (&[0x30, 1][..], &[0x30, 2][..], 1)
    );
    assert_eq!(next(&mut bundles).await.unwrap().crl, message.crl);
}
