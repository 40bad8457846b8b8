//! Finding the route of a call among 1,000 (RT-03): median over calls of every route, of hosts and paths.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "INVARIANT: a bench stops at the first surprise, and prints"
)]

use std::hint::black_box;
use std::net::Ipv4Addr;

use base_ports::{Clock, SystemClock};
use enforcer_codec::{Call, Scheme, Transport};
use enforcer_traffic::{
    Arrival, ClusterSpec, EndpointSpec, Found, MatchSpec, PathSpec, RouteSpec, Routes, ServiceSpec, Share,
    UpstreamProtocol,
};

const ROUTES: usize = 1000;
/// The path of the route with that number.
type Shape = fn(usize) -> PathSpec;

/// Calls between two looks at the clock.
const BATCH: usize = 1000;

fn main() {
    let service = ServiceSpec { name: "s".into(), ..ServiceSpec::default() };
    let endpoints =
        vec![EndpointSpec::new(UpstreamProtocol::Http1, std::net::SocketAddr::from(([127, 0, 0, 1], 9)))];
    let cluster = ClusterSpec { name: "c".into(), endpoints, ..ClusterSpec::default() };
    let shapes: [(&str, Shape); 3] = [
        ("exact", |n| PathSpec::Exact(format!("/p{n}/q/r"))),
        ("prefix", |n| PathSpec::Prefix(format!("/p{n}/q"))),
        ("template", |n| PathSpec::Template(format!("/p{n}/{{x}}/r"))),
    ];
    for (name, shape) in shapes {
        let specs: Vec<_> = (0..ROUTES).map(|n| route(n, shape(n))).collect();
        let routes =
            Routes::build(std::slice::from_ref(&service), std::slice::from_ref(&cluster), &specs).unwrap();
        let calls: Vec<_> = (0..ROUTES).map(call).collect();
        println!("{name}: {} ns a call, median of 200 batches over {ROUTES} routes", median(&routes, &calls));
    }
}

fn route(n: usize, path: PathSpec) -> RouteSpec {
    let matches = MatchSpec { hosts: vec![format!("h{}.example.org", n % 50)], path, ..MatchSpec::default() };
    RouteSpec {
        name: format!("r{n}"),
        service: "s".into(),
        to: vec![Share::all("c")],
        matches,
        ..RouteSpec::default()
    }
}

fn call(n: usize) -> Call {
    let uri = format!("https://h{}.example.org/p{n}/q/r", n % 50);
    let request = http::Request::builder().version(http::Version::HTTP_2).uri(uri).body(()).unwrap();
    Call::from_parts(&request.into_parts().0, true, &Transport::new(Scheme::Https)).unwrap()
}

fn median(routes: &Routes, calls: &[Call]) -> u64 {
    let source = Ipv4Addr::LOCALHOST.into();
    let arrival =
        Arrival { listener: "public", port: 9443, source, sni: None, passed: false, identity: None };
    let mut took: Vec<u64> = (0..200)
        .map(|_| {
            let begun = SystemClock.now().mono;
            for call in calls.iter().cycle().take(BATCH) {
                assert!(matches!(black_box(routes.find(black_box(call), &arrival)), Found::Target(_)));
            }
            let nanos = SystemClock.now().mono.saturating_since(begun).as_nanos();
            u64::try_from(nanos).unwrap() / BATCH as u64
        })
        .collect();
    took.sort_unstable();
    took[took.len() / 2]
}
