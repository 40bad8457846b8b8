//! Endpoints outside all trust domains: they prove a name, and hear nothing of who calls (TL-09).

use std::sync::Arc;
use std::time::Duration;

use base_ports::{Clock, ManualClock, SystemClock};
use ca_identity::testing::TestCa;
use ca_identity::tls::{Trust, WebRoots, public_config};
use enforcer_traffic::{ClusterSpec, Roots, TlsSettings};

use super::harness::{Setup, certificate};
use super::origin::Origin;
use super::secured::{Front, H2};

const NAME: &str = "api.partner.test";

/// A cluster that calls `NAME`, and believes that authority.
fn cluster(known: &TestCa) -> ClusterSpec {
    let certificates = known.bundle().certificates().cloned().collect();
    let roots = Roots { file: None, read: Some(WebRoots::new(certificates).unwrap()) };
    let tls = TlsSettings::External { name: NAME.into(), authority: format!("{NAME}:8443"), roots };
    ClusterSpec { tls: Some(tls), ..ClusterSpec::default() }
}

/// A server of the web with a certificate for that name.
async fn server(origin: &Origin, ca: &TestCa, name: &str, alpn: &'static [u8]) -> Front {
    let trust = Trust::new(Arc::new(SystemClock));
    let shown = certificate(ca, &[name]);
    let config = public_config(&trust, Some(&shown), &[alpn]);
    Front::under(origin, trust, config).await
}

fn web() -> TestCa {
    TestCa::new("web.test", SystemClock.now().wall)
}

#[tokio::test]
async fn tl_09_a_server_outside_is_called_by_its_name_and_hears_of_nobody() {
    let (one, two, web) = (Origin::h1().await, Origin::h2().await, web());
    let (h1, h2) = (server(&one, &web, NAME, b"http/1.1").await, server(&two, &web, NAME, H2).await);
    let setup =
        Setup { h1: vec![h1.address], h2: vec![h2.address], cluster: cluster(&web), ..Setup::default() };
    let gateway = setup.start();
    let mut caller = gateway.h1("/web").await;
    let told = caller.get("/head").await;
    assert_eq!(told.status, 200);
    let told = told.text().to_ascii_lowercase();
    assert!(told.contains("host: api.partner.test:8443\r\n"), "{told}");
    assert!(!told.contains("spiffe://") && !told.contains("site.test"), "{told}");
    assert!(told.contains("portcullis-decision-id: "), "{told}");
    // What the trust domain does is nothing to it: the connection is kept.
    gateway.trust.publish(gateway.ca.snapshot(Some(gateway.ca.svid("/gateway")))).unwrap();
    assert_eq!(caller.get("/head").await.status, 200);
    assert_eq!(one.connections(), 1);
    let mut caller = gateway.h2("/web").await;
    let told = caller.get("h2.test", "/head").await;
    assert_eq!(told.status, 200);
    assert!(!told.text().contains("spiffe://"), "{}", told.text());
    assert_eq!(caller.get("h2.test", "/head").await.status, 200);
    assert_eq!(two.connections(), 1);
}

#[tokio::test]
async fn tl_09_a_server_outside_that_is_not_who_it_should_be_gets_no_call() {
    let long_ago = TestCa::new("web.test", SystemClock.now().wall - Duration::from_secs(90 * 24 * 3600));
    let (right, same) = (web(), web());
    let stranger = TestCa::new("stranger.test", SystemClock.now().wall);
    let cases: [(&str, &TestCa, &TestCa, &str, &str); 4] = [
        ("another name", &right, &right, "evil.test", "wrong_name"),
        ("other roots", &right, &stranger, NAME, "no_path"),
        ("other roots of the same name", &right, &same, NAME, "bad_signature"),
        ("expired", &long_ago, &long_ago, NAME, "expired"),
    ];
    for (case, known, shown, name, word) in cases {
        let origin = Origin::h1().await;
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(SystemClock.now().wall));
        let front = {
            let trust = Trust::new(match case {
                "expired" => {
                    Arc::new(ManualClock::new(SystemClock.now().wall - Duration::from_secs(90 * 24 * 3600)))
                }
                _ => clock,
            });
            let config = public_config(&trust, Some(&certificate(shown, &[name])), &[b"http/1.1"]);
            Front::under(&origin, trust, config).await
        };
        let setup = Setup { cluster: cluster(known), ..Setup::with_h1(front.address) };
        let gateway = setup.start();
        let mut caller = gateway.h1("/web").await;
        assert_eq!(caller.get("/hello").await.status, 502, "{case}");
        gateway.metric(&format!("portcullis_pool_dials_total{{result=\"{word}\"}}"), 1).await;
        assert_eq!(origin.requests(), 0, "{case}");
    }
}
