//! Endpoints that are asked for their health (HC-01).

use std::time::Duration;

use enforcer_traffic::ClusterSpec;
use enforcer_traffic::fleet::{CheckSettings, Probe};

use super::harness::{Gateway, Setup};
use super::origin::Origin;

fn cluster(probe: Probe) -> ClusterSpec {
    let (interval, timeout) = (Duration::from_millis(30), Duration::from_millis(300));
    let mut cluster =
        ClusterSpec { check: Some(CheckSettings { probe, interval, timeout }), ..ClusterSpec::default() };
    cluster.fleet.outlier = None;
    cluster
}

/// Waits until calls are answered by those endpoints only, and by each of them. Checks count as requests too, so the
/// endpoints are told apart by what they answer.
async fn served_by(gateway: &Gateway, host: &str, statuses: &[u16]) {
    let mut seen = Vec::new();
    for _ in 0..100 {
        let mut web = gateway.h2("/web").await;
        seen = Vec::new();
        for _ in 0..12 {
            seen.push(web.get(host, "/hello").await.status);
        }
        if seen.iter().all(|status| statuses.contains(status))
            && statuses.iter().all(|status| seen.contains(status))
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{seen:?} instead of {statuses:?}");
}

#[tokio::test]
async fn hc_01_an_endpoint_that_fails_its_http_checks_gets_no_calls_until_it_passes() {
    let (sick, well) = (Origin::h1().await, Origin::h1().await);
    let probe = Probe::Http { path: "/healthz".into(), host: None };
    let h1 = vec![sick.address, well.address];
    let gateway = Setup { h1, cluster: cluster(probe), ..Setup::default() }.start();
    served_by(&gateway, "site.test", &[200]).await;
    sick.answer_all(404);
    served_by(&gateway, "site.test", &[200]).await;
    let asked = sick.requests();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(sick.requests() > asked, "it is still asked for its health");
    well.answer_all(404);
    sick.answer_all(201);
    served_by(&gateway, "site.test", &[201]).await;
    let paths = gateway.records.all().into_iter().filter_map(|(_, record)| {
        record.facts.and_then(|facts| facts.request().map(|request| request.path.to_owned()))
    });
    assert!(paths.into_iter().all(|path| path == "/hello"), "no policy is asked about a check");
}

#[tokio::test]
async fn hc_01_checks_speak_grpc_and_tcp_too() {
    let (sick, well) = (Origin::h2().await, Origin::h2().await);
    let h2 = vec![sick.address, well.address];
    let grpc = cluster(Probe::Grpc { service: "shop.Orders".into() });
    let gateway = Setup { h2: h2.clone(), cluster: grpc, ..Setup::default() }.start();
    sick.answer_all(503);
    served_by(&gateway, "h2.test", &[200]).await;
    sick.answer_all(0);
    well.answer_all(503);
    served_by(&gateway, "h2.test", &[200]).await;
    drop(gateway);
    // A connection is enough for tcp, whatever is answered on it.
    let gateway = Setup { h2, cluster: cluster(Probe::Tcp), ..Setup::default() }.start();
    served_by(&gateway, "h2.test", &[200, 503]).await;
    drop(well);
    served_by(&gateway, "h2.test", &[200]).await;
}
