//! Endpoints that are shut out and come back, limits, and balancers over real connections (OD, EL, LB).

use std::time::Duration;

use enforcer_traffic::fleet::{Limits, OutlierSettings};
use enforcer_traffic::{BalancerKind, ClusterSpec, HashBy, RetrySettings};

use super::harness::{Gateway, Setup};
use super::origin::Origin;

fn setup(origins: &[&Origin], cluster: ClusterSpec) -> Setup {
    Setup { h1: origins.iter().map(|origin| origin.address).collect(), cluster, ..Setup::default() }
}

async fn calls(gateway: &Gateway, times: usize) -> Vec<u16> {
    let mut web = gateway.h1("/web").await;
    let mut seen = Vec::new();
    for _ in 0..times {
        seen.push(web.get("/hello").await.status);
    }
    seen
}

#[tokio::test]
async fn od_01_an_endpoint_that_fails_is_left_alone_and_comes_back() {
    let (sick, well) = (Origin::h1().await, Origin::h1().await);
    sick.answer_all(500);
    let outlier = OutlierSettings { first: Duration::from_millis(300), ..OutlierSettings::default() };
    let mut cluster = ClusterSpec { balancer: BalancerKind::RoundRobin, ..ClusterSpec::default() };
    cluster.fleet.outlier = Some(outlier);
    let gateway = setup(&[&sick, &well], cluster).start();
    let seen = calls(&gateway, 40).await;
    let failed = seen.iter().filter(|status| **status == 500).count();
    assert!((5..=7).contains(&failed), "{seen:?}");
    let series = format!("portcullis_circuit_state{{cluster=\"h1\",endpoint=\"{}\"}}", sick.address);
    gateway.metric(&series, 1).await;
    sick.answer_all(0);
    let before = sick.requests();
    for _ in 0..40 {
        calls(&gateway, 2).await;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(sick.requests() > before + 5, "{}", sick.requests());
    gateway.metric(&series, 0).await;
}

#[tokio::test]
async fn od_01_with_retries_no_caller_sees_an_endpoint_that_hangs_up() {
    let (sick, well, third) = (Origin::h1().await, Origin::h1().await, Origin::h1().await);
    sick.answer_all(super::origin::HANG_UP);
    let mut setup = setup(&[&sick, &well, &third], ClusterSpec::default());
    setup.retry = RetrySettings::default();
    let gateway = setup.start();
    assert_eq!(calls(&gateway, 100).await, vec![200; 100]);
    assert!((5..=9).contains(&sick.requests()), "{}", sick.requests());
}

#[tokio::test]
async fn od_01_an_endpoint_that_says_nothing_is_shut_too() {
    let (silent, well) = (Origin::h1().await, Origin::h1().await);
    let mut setup = setup(&[&silent, &well], ClusterSpec::default());
    setup.cluster.balancer = BalancerKind::RoundRobin;
    setup.timeouts.header = Duration::from_millis(50);
    let gateway = setup.start();
    gateway.net.script(silent.address, base_ports::net::Route::Lead(silent.address));
    let mut web = gateway.h1("/web").await;
    for _ in 0..16 {
        web.get("/silent").await;
    }
    // Both fail; only one of two may be shut out.
    let (one, other) = (silent.requests(), well.requests());
    assert!(one.min(other) <= 6 && one.max(other) >= 9, "{one} {other}");
}

#[tokio::test]
async fn od_04_a_call_over_a_limit_of_the_cluster_is_told_so() {
    let origin = Origin::h1().await;
    for (limits, most) in [
        (Limits { in_flight: 2, queued: 0, ..Limits::default() }, 2),
        (Limits { connections: 3, ..Limits::default() }, 3),
    ] {
        let mut cluster = ClusterSpec::default();
        cluster.fleet.limits = limits;
        let gateway = setup(&[&origin], cluster).start();
        let before = origin.requests();
        let mut open = Vec::new();
        for _ in 0..most {
            let mut web = gateway.h2("/web").await;
            let ask = http::Request::get("https://site.test/silent").body(()).unwrap();
            open.push((web.start(ask, true).await, web));
        }
        while origin.requests() < before + most {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let answer = gateway.h1("/web").await.get("/hello").await;
        let (status, word) = if limits.queued == 0 { (429, "queue_full") } else { (503, "breaker") };
        assert_eq!((answer.status, answer.field("portcullis-shed")), (status, Some(word)), "{limits:?}");
        assert_eq!(answer.field("retry-after"), Some("1"));
        gateway.metric(&format!("portcullis_shed_total{{reason=\"{word}\"}}"), 1).await;
        drop(open);
        gateway.metric("portcullis_upstream_connections", 0).await;
        assert_eq!(gateway.h1("/web").await.get("/hello").await.status, 200, "{limits:?}");
    }
}

#[tokio::test]
async fn lb_09_calls_with_one_key_go_to_one_endpoint() {
    let origins = [Origin::h1().await, Origin::h1().await, Origin::h1().await];
    for balancer in [BalancerKind::Maglev, BalancerKind::RingHash, BalancerKind::Rendezvous] {
        let hash_by = Some(HashBy::Header("x-user".into()));
        let cluster = ClusterSpec { balancer, hash_by, ..ClusterSpec::default() };
        let gateway = setup(&[&origins[0], &origins[1], &origins[2]], cluster).start();
        let mut web = gateway.h1("/web").await;
        let mut homes = std::collections::HashSet::new();
        for user in 0..40 {
            let before = origins.each_ref().map(Origin::requests);
            for _ in 0..2 {
                let ask = format!("GET /hello HTTP/1.1\r\nhost: site.test\r\nx-user: {user}\r\n\r\n");
                assert_eq!(web.ask(&ask).await.status, 200);
            }
            let after = origins.each_ref().map(Origin::requests);
            let moved: Vec<_> = (0..3).filter(|at| after[*at] != before[*at]).collect();
            assert_eq!(moved.len(), 1, "{balancer:?} {user}: {before:?} {after:?}");
            homes.insert(moved[0]);
        }
        assert_eq!(homes.len(), 3, "{balancer:?}: every endpoint has its keys");
    }
}

#[tokio::test]
async fn lb_02_peak_ewma_leaves_an_endpoint_in_trouble_alone() {
    let (sick, well, third) = (Origin::h1().await, Origin::h1().await, Origin::h1().await);
    sick.answer_all(429);
    let mut cluster = ClusterSpec { balancer: BalancerKind::PeakEwma, ..ClusterSpec::default() };
    cluster.fleet.outlier = None;
    let gateway = setup(&[&sick, &well, &third], cluster).start();
    let seen = calls(&gateway, 60).await;
    let declined = seen.iter().filter(|status| **status == 429).count();
    // The less loaded of two would ask it twenty times.
    assert!(declined <= 4, "{seen:?}");
}

#[tokio::test]
async fn a_reload_keeps_an_endpoint_shut() {
    let (sick, well) = (Origin::h1().await, Origin::h1().await);
    sick.answer_all(500);
    let mut cluster = ClusterSpec { balancer: BalancerKind::RoundRobin, ..ClusterSpec::default() };
    cluster.fleet.outlier =
        Some(OutlierSettings { first: Duration::from_secs(30), ..OutlierSettings::default() });
    let gateway = setup(&[&sick, &well], cluster).start();
    calls(&gateway, 20).await;
    let asked = sick.requests();
    gateway.publish(super::harness::POLICY, 2);
    assert_eq!(calls(&gateway, 20).await, vec![200; 20]);
    assert_eq!(sick.requests(), asked);
}

/// A gateway before one endpoint that takes one call at a time, on two workers.
fn narrow(origin: &Origin) -> Gateway {
    let mut cluster = ClusterSpec::default();
    cluster.fleet.limits = Limits { endpoint_in_flight: 1, ..Limits::default() };
    Setup { workers: 2, ..setup(&[origin], cluster) }.start()
}

#[tokio::test]
async fn el_01_calls_wait_for_a_place_and_all_are_served_one_at_a_time() {
    let origin = Origin::h1().await;
    let gateway = narrow(&origin);
    let mut callers = Vec::new();
    for _ in 0..8 {
        callers.push(gateway.h1("/web").await);
    }
    // About 60 ms each.
    let calls = callers.iter_mut().map(|web| web.get("/drip?2"));
    let answers = futures_util::future::join_all(calls).await;
    assert!(
        answers.iter().all(|answer| answer.status == 200),
        "{:?}",
        answers.iter().map(|a| a.status).collect::<Vec<_>>()
    );
    assert_eq!(origin.most_at_once(), 1);
    gateway.metric("portcullis_upstream_queue_length{cluster=\"h1\"}", 0).await;
}

#[tokio::test]
async fn el_02_a_call_that_gets_no_place_in_time_is_told_and_never_sent() {
    let origin = Origin::h1().await;
    let gateway = narrow(&origin);
    let (mut slow, mut next) = (gateway.h1("/web").await, gateway.h1("/web").await);
    let began = tokio::time::Instant::now();
    let waiting = async {
        while origin.requests() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        next.get("/hello").await
    };
    let (_, answer) = tokio::join!(slow.get("/drip?60"), waiting);
    assert_eq!((answer.status, answer.field("portcullis-shed")), (429, Some("queue_deadline")));
    assert!(began.elapsed() < Duration::from_secs(6));
    assert_eq!(origin.requests(), 1, "it was never sent");
    gateway.metric("portcullis_shed_total{reason=\"queue_deadline\"}", 1).await;
}
