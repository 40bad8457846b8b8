//! Certificates without an entry: the pipeline is the same.

use std::time::Duration;

use ca_identity::inspect;

use crate::ports::{IdentityEvent, IssueKind};
use crate::testing::{Bench, HOUR, id, judge, request};
use crate::{AuthorityError, Minting};

const BY: &str = "local user 0";

fn laptop() -> Minting {
    let dns_names = vec!["laptop.local".to_owned()];
    Minting { spiffe_id: id("/laptop"), dns_names, ttl: Some(HOUR * 8) }
}

#[tokio::test]
async fn ic_02_what_is_minted_passes_gate_and_record_and_says_who_wanted_it() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let issued = authority.mint(laptop(), &request().1, BY).await.unwrap();
    assert_eq!(judge(&authority, &issued, &bench), Ok(()));
    assert_eq!((issued.not_after, issued.ttl_clamped), (bench.now() + HOUR * 8, false));
    assert_eq!(inspect::certificate(&issued.chain[0]).unwrap().dns_names, ["laptop.local"]);
    let [record] = <[_; 1]>::try_from(authority.issued(None, 10).unwrap()).unwrap();
    assert_eq!((record.kind, record.entry, bench.gate.asked()), (IssueKind::Minted, None, 1));
    let told = |event: &IdentityEvent| {
        matches!(event, IdentityEvent::Minted { serial, spiffe_id, by }
            if *serial == issued.serial && *spiffe_id == issued.id && by == BY)
    };
    assert_eq!(bench.events.count(told), 1);
    // The kind reads back from its row after a restart.
    assert_eq!(bench.open().await.issued(None, 10).unwrap()[0].kind, IssueKind::Minted);

    let long = Minting { ttl: Some(HOUR * 24 * 90), ..laptop() };
    assert!(authority.mint(long, &request().1, BY).await.unwrap().ttl_clamped);
}

#[tokio::test]
async fn ic_02_nothing_is_minted_that_entries_may_not_have_or_the_gate_refuses() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let csr = request().1;
    let foreign = ca_identity::SpiffeId::parse("spiffe://other.example/web").unwrap();
    for spiffe_id in [id("/portcullis/ca"), authority.config().trust_domain.id(), foreign] {
        let refused = authority.mint(Minting { spiffe_id, ..laptop() }, &csr, BY).await;
        assert!(matches!(refused, Err(AuthorityError::Entry(_))), "{refused:?}");
    }
    let names = Minting { dns_names: vec!["*.example.org".to_owned()], ..laptop() };
    let short = Minting { ttl: Some(Duration::from_secs(299)), ..laptop() };
    for wrong in [names, short] {
        assert!(matches!(authority.mint(wrong, &csr, BY).await, Err(AuthorityError::Entry(_))));
    }
    bench.gate.close(true);
    assert!(matches!(authority.mint(laptop(), &csr, BY).await, Err(AuthorityError::GateRefused { .. })));
    assert!(authority.issued(None, 10).unwrap().is_empty());
    assert_eq!(bench.events.count(|event| matches!(event, IdentityEvent::Minted { .. })), 0);
}
