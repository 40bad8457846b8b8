//! Names as clusters use them: where they may lead, what stays of a cluster when they lead elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base_ports::{ManualClock, ManualResolver, SeededRng, UnixTime};
use enforcer_traffic::{ClusterSpec, EndpointSpec, NamedSpec, Network, Routes, UpstreamProtocol};

use super::*;
use crate::fleets::Fleets;

const LONG: Duration = Duration::from_secs(300);

struct Bench {
    resolver: ManualResolver,
    clock: Arc<ManualClock>,
    names: Arc<Names>,
}

impl Bench {
    fn new(own: &[&str]) -> Self {
        let resolver = ManualResolver::default();
        let clock = Arc::new(ManualClock::new(UnixTime::default()));
        let own = own.iter().map(|own| own.parse().unwrap()).collect();
        let clock_port = Arc::clone(&clock) as Arc<dyn Clock>;
        let names = Names::new(Arc::new(resolver.clone()), clock_port, own);
        Self { resolver, clock, names }
    }

    fn says(&self, addresses: &[&str]) {
        let addresses: Vec<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.resolver.script("shop.test", &addresses, LONG);
    }

    async fn ask(&self, cluster: &Cluster) -> bool {
        self.names.ask(cluster, &"shop.test".into()).await
    }

    fn places(&self, cluster: &Cluster) -> Vec<String> {
        self.names.endpoints(cluster).iter().map(|endpoint| endpoint.addr.to_string()).collect()
    }
}

/// One endpoint at an address and one by name, both of port 80.
fn spec(granted: &[&str]) -> ClusterSpec {
    let at =
        |address: &str| EndpointSpec::new(UpstreamProtocol::Http1, address.parse::<SocketAddr>().unwrap());
    ClusterSpec {
        name: "shop".into(),
        endpoints: vec![at("10.0.0.9:80")],
        named: vec![NamedSpec {
            host: "shop.test".into(),
            port: 80,
            each: EndpointSpec { weight: 7, ..at("0.0.0.0:80") },
        }],
        granted: granted.iter().map(|network| Network::parse(network).unwrap()).collect(),
        ..ClusterSpec::default()
    }
}

fn routes(spec: ClusterSpec) -> Routes {
    Routes::build(&[], &[spec], &[]).unwrap()
}

fn cluster(routes: &Routes) -> &Arc<Cluster> {
    routes.clusters().first().unwrap()
}

#[tokio::test]
async fn hc_02_a_name_stands_for_every_address_that_it_has() {
    let bench = Bench::new(&[]);
    let routes = routes(spec(&[]));
    assert_eq!(bench.places(cluster(&routes)), ["10.0.0.9:80"], "nobody knows the name yet");
    // An address that is written too is one endpoint, the written one.
    bench.says(&["10.0.0.2", "10.0.0.1", "2001:db8::1", "10.0.0.9"]);
    bench.names.prepare(&routes).await;
    let found = ["10.0.0.9:80", "10.0.0.1:80", "10.0.0.2:80", "[2001:db8::1]:80"];
    assert_eq!(bench.places(cluster(&routes)), found);
    let weights: Vec<_> = bench.names.endpoints(cluster(&routes)).iter().map(|one| one.weight).collect();
    assert_eq!(weights, [1, 7, 7, 7]);
    bench.names.prepare(&routes).await;
    assert_eq!(bench.resolver.asked(), 1, "what is known holds up nothing");
}

#[tokio::test]
async fn hc_02_a_name_that_nobody_knows_gives_no_endpoint_and_the_last_good_ones_stay() {
    let bench = Bench::new(&[]);
    let routes = routes(spec(&[]));
    bench.names.prepare(&routes).await;
    assert_eq!(bench.places(cluster(&routes)), ["10.0.0.9:80"]);
    bench.says(&["10.0.0.1"]);
    assert!(bench.ask(cluster(&routes)).await);
    bench.resolver.forget("shop.test");
    bench.clock.advance(LONG);
    assert!(!bench.ask(cluster(&routes)).await);
    assert_eq!(bench.places(cluster(&routes)), ["10.0.0.9:80", "10.0.0.1:80"]);
}

#[tokio::test]
async fn out5_what_is_off_limits_is_not_used_and_a_poisoned_answer_changes_nothing() {
    let bench = Bench::new(&["10.0.0.3:80", "10.0.0.4:9901"]);
    let routes = routes(spec(&[]));
    bench.says(&["127.0.0.1", "169.254.169.254", "::1", "fe80::1", "10.0.0.1", "10.0.0.3", "10.0.0.4"]);
    assert!(bench.ask(cluster(&routes)).await);
    // 10.0.0.3:80 is a port of our own.
    assert_eq!(bench.places(cluster(&routes)), ["10.0.0.9:80", "10.0.0.1:80", "10.0.0.4:80"]);
    bench.says(&["127.0.0.1", "169.254.169.254"]);
    for _ in 0..4 {
        bench.clock.advance(LONG);
        assert!(!bench.ask(cluster(&routes)).await, "nothing but what is off limits is no empty answer");
    }
    assert_eq!(bench.places(cluster(&routes)), ["10.0.0.9:80", "10.0.0.1:80", "10.0.0.4:80"]);
}

#[tokio::test]
async fn out5_a_grant_is_of_one_cluster_and_ends_with_it() {
    let bench = Bench::new(&[]);
    bench.says(&["127.0.0.1", "169.254.169.254"]);
    let granted = routes(spec(&["127.0.0.0/8"]));
    bench.names.prepare(&granted).await;
    assert_eq!(bench.places(cluster(&granted)), ["10.0.0.9:80", "127.0.0.1:80"]);
    // A configuration that takes the grant away is asked for anew.
    let narrow = routes(spec(&[]));
    bench.names.prepare(&narrow).await;
    assert_eq!(bench.places(cluster(&narrow)), ["10.0.0.9:80"]);
}

#[tokio::test]
async fn hc_02_what_is_known_of_an_address_that_stays_goes_on() {
    let bench = Bench::new(&[]);
    let routes = routes(spec(&[]));
    bench.says(&["10.0.0.1", "10.0.0.2"]);
    bench.names.prepare(&routes).await;
    let fleets = Fleets::new(&bench.names, 1, 1_024);
    let rng = SeededRng::new(1);
    let now = || bench.clock.mono();
    let (before, fleet) = fleets.of(cluster(&routes), &rng, now());
    let entry = fleet.enter(2, false, now()).unwrap();
    let (same, again) = fleets.of(cluster(&routes), &rng, now());
    assert!(Arc::ptr_eq(&before, &same) && Arc::ptr_eq(&fleet, &again), "nothing happened");
    bench.says(&["10.0.0.2", "10.0.0.3"]);
    bench.clock.advance(LONG);
    assert!(bench.ask(cluster(&routes)).await);
    let (after, other) = fleets.of(cluster(&routes), &rng, now());
    let places: Vec<_> = after.spec.endpoints.iter().map(|endpoint| endpoint.addr.to_string()).collect();
    assert_eq!(places, ["10.0.0.9:80", "10.0.0.2:80", "10.0.0.3:80"]);
    let in_flight: Vec<_> = other.endpoints().iter().map(|endpoint| endpoint.in_flight()).collect();
    assert_eq!(in_flight, [0, 1, 0]);
    fleet.endpoints()[2].leave(entry);
    assert_eq!(other.endpoints()[1].in_flight(), 0);
}

#[tokio::test]
async fn out6_a_cluster_has_no_more_than_ten_thousand_endpoints() {
    let bench = Bench::new(&[]);
    let routes = routes(spec(&[]));
    let many: Vec<IpAddr> =
        (0..20_000u32).map(|nth| std::net::Ipv4Addr::from(nth + (10 << 24)).into()).collect();
    bench.resolver.script("shop.test", &many, LONG);
    bench.names.prepare(&routes).await;
    assert_eq!(bench.places(cluster(&routes)).len(), 10_000);
}
