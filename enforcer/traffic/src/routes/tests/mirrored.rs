//! Mirrors (RT-05): a cluster of their own, and what cannot have one.

use super::*;
use crate::MirrorSpec;
use crate::fleet::{CheckSettings, Probe};

fn mirrored(to: &str, share: u16, route: RouteSpec) -> RouteSpec {
    RouteSpec { mirror: Some(MirrorSpec { to: Share::all(to), share }), ..route }
}

#[test]
fn rt_05_a_mirror_has_a_cluster_to_itself_which_is_not_asked_for_its_health() {
    let (interval, timeout) = (Duration::from_secs(10), Duration::from_secs(1));
    let check = Some(CheckSettings { probe: Probe::Tcp, interval, timeout });
    let checked = ClusterSpec { check, ..cluster("h2", UpstreamProtocol::Http2) };
    let routes = [
        mirrored("h2", 100, on("a", "", "/a")),
        mirrored("h2", 10_000, on("b", "", "/b")),
        on("c", "", "/c"),
    ];
    let built = Routes::build(&[web()], &[checked], &routes).unwrap();
    let [a, b, c] = built.routes() else { panic!("{built:?}") };
    let (of, to) = (&a.to[0].0, &a.mirror.as_ref().unwrap().to);
    assert_eq!((&*of.name, &*to.name, a.mirror.as_ref().unwrap().share), ("h2", "h2 (mirror)", 100));
    assert_eq!((&to.spec.endpoints, &to.spec.check), (&of.spec.endpoints, &None));
    assert!(Arc::ptr_eq(to, &b.mirror.as_ref().unwrap().to), "mirrors to one cluster share");
    assert_eq!(c.mirror, None);
    let indices: Vec<_> = built.clusters().iter().map(|cluster| cluster.index as usize).collect();
    assert_eq!(indices, [0, 1]);
}

#[test]
fn rt_05_what_is_not_handed_on_over_http_is_not_mirrored() {
    let error = build(&[mirrored("nowhere", 1, on("a", "", "/a"))]).unwrap_err().to_string();
    assert_eq!(error, "route `a` names the unknown cluster `nowhere`");
    let grpc = build(&[mirrored("h1", 1, rpc("a", "shop.Orders", None))]).unwrap_err();
    assert!(matches!(grpc, RouteError::GrpcOverHttp1 { .. }), "{grpc}");
    let tcp = cluster("tcp", UpstreamProtocol::Tcp);
    let [h2, _] = clusters();
    let route = mirrored("tcp", 1, on("a", "", "/a"));
    let error = Routes::build(&[web()], &[h2.clone(), tcp.clone()], &[route]).unwrap_err();
    assert!(error.to_string().contains("a mirror is for calls over http"), "{error}");
    let carried = RouteSpec { listener: Some("l".into()), to: vec![Share::all("tcp")], ..super::route("a") };
    let error = Routes::build(&[web()], &[h2, tcp], &[mirrored("h2", 1, carried)]).unwrap_err();
    assert!(error.to_string().contains("a mirror is for calls over http"), "{error}");
}
