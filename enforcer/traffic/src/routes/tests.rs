//! RT-01 to RT-03 for hosts, prefixes and gRPC, MO1 to MO4, and the errors of a configuration.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use enforcer_codec::{Scheme, Transport};
use proptest::prelude::*;

use super::*;
use crate::{
    ClusterSpec, EndpointSpec, Fallback, GrpcMatch, Labels, MatchSpec, PathSpec, Share, UpstreamProtocol,
};

mod carried;
mod conditions;
mod mirrored;
mod reference;

fn service(name: &str, methods: &[&str]) -> ServiceSpec {
    ServiceSpec {
        name: name.into(),
        namespace: "shop".into(),
        methods: methods.iter().map(|m| (*m).to_owned()).collect(),
        ..ServiceSpec::default()
    }
}

fn route(name: &str) -> RouteSpec {
    RouteSpec { name: name.into(), service: "web".into(), to: vec![Share::all("h2")], ..RouteSpec::default() }
}

fn on(name: &str, host: &str, prefix: &str) -> RouteSpec {
    RouteSpec {
        matches: MatchSpec {
            hosts: if host.is_empty() { Vec::new() } else { vec![host.into()] },
            path: if prefix.is_empty() { PathSpec::Any } else { PathSpec::Prefix(prefix.into()) },
            ..MatchSpec::default()
        },
        ..route(name)
    }
}

fn rpc(name: &str, rpc_service: &str, method: Option<&str>) -> RouteSpec {
    let grpc = Some(GrpcMatch { service: rpc_service.into(), method: method.map(Into::into) });
    RouteSpec { matches: MatchSpec { grpc, ..MatchSpec::default() }, ..route(name) }
}

fn web() -> ServiceSpec {
    service("web", &["shop.Orders/Get", "shop.Orders/List", "shop.Stock/Get"])
}

fn cluster(name: &str, protocol: UpstreamProtocol) -> ClusterSpec {
    let endpoints = vec![EndpointSpec::new(protocol, std::net::SocketAddr::from(([127, 0, 0, 1], 9)))];
    ClusterSpec { name: name.into(), endpoints, ..ClusterSpec::default() }
}

fn clusters() -> [ClusterSpec; 2] {
    [cluster("h2", UpstreamProtocol::Http2), cluster("h1", UpstreamProtocol::Http1)]
}

fn build(routes: &[RouteSpec]) -> Result<Routes, RouteError> {
    Routes::build(&[web()], &clusters(), routes)
}

fn call(host: &str, path: &str, grpc: bool) -> Call {
    let mut builder = http::Request::builder()
        .version(http::Version::HTTP_2)
        .method(if grpc { "POST" } else { "GET" })
        .uri(format!("https://{host}{path}"));
    if grpc {
        builder = builder.header("content-type", "application/grpc");
    }
    Call::from_parts(&builder.body(()).unwrap().into_parts().0, !grpc, &Transport::new(Scheme::Https))
        .unwrap()
}

/// A call over that listener, from nobody known.
fn over(listener: &str) -> Arrival<'_> {
    Arrival {
        listener,
        port: 9443,
        source: Ipv4Addr::new(10, 0, 0, 7).into(),
        sni: None,
        passed: false,
        identity: None,
    }
}

fn find_on(routes: &Routes, call: &Call, listener: &str) -> String {
    find_at(routes, call, &over(listener))
}

/// The name of the found route, with the method's id for gRPC.
fn find_at(routes: &Routes, call: &Call, arrival: &Arrival<'_>) -> String {
    match routes.find(call, arrival) {
        Found::Unreadable(flaw) => flaw.rule.into(),
        Found::UnknownRoute => "unknown route".into(),
        Found::UnknownMethod => "unknown method".into(),
        Found::Target(Target { route, kind: TargetKind::Route | TargetKind::Service, .. }) => {
            route.name.to_string()
        }
        Found::Target(Target { route, kind: TargetKind::Method(id), .. }) => format!("{} {id}", route.name),
    }
}

fn find(routes: &Routes, host: &str, path: &str) -> String {
    find_on(routes, &call(host, path, false), "mesh")
}

fn find_rpc(routes: &Routes, path: &str) -> String {
    find_on(routes, &call("any", path, true), "mesh")
}

#[test]
fn rt_01_hosts_match_exactly_or_by_suffix() {
    let routes = build(&[on("exact", "Shop.Example", ""), on("suffix", "*.shop.example", "")]).unwrap();
    for (host, name) in [
        ("shop.example", "exact"),
        ("SHOP.example:8443", "exact"),
        ("a.shop.example", "suffix"),
        ("a.b.shop.example", "suffix"),
        ("example", "unknown route"),
        ("xshop.example", "unknown route"),
        ("shop.example.org", "unknown route"),
    ] {
        assert_eq!(find(&routes, host, "/"), name, "{host}");
    }
}

#[test]
fn rt_01_prefixes_match_by_segment() {
    let routes = build(&[on("api", "", "/api"), on("slash", "", "/b/")]).unwrap();
    for (path, name) in [
        ("/api", "api"),
        ("/api/", "api"),
        ("/api/v1/x", "api"),
        ("/apix", "unknown route"),
        ("/API", "unknown route"),
        ("/", "unknown route"),
        ("/x/api", "unknown route"),
        ("/b", "slash"),
        ("/b/c", "slash"),
    ] {
        assert_eq!(find(&routes, "h", path), name, "{path}");
    }
}

#[test]
fn rt_01_grpc_routes_take_grpc_calls_only() {
    let routes =
        build(&[rpc("orders", "shop.Orders", None), rpc("list", "shop.Orders", Some("List"))]).unwrap();
    assert_eq!(find_rpc(&routes, "/shop.Orders/Get"), "orders shop.Orders/Get");
    assert_eq!(find_rpc(&routes, "/shop.Orders/List"), "list shop.Orders/List");
    assert_eq!(find_rpc(&routes, "/shop.Stock/Get"), "unknown method");
    assert_eq!(find(&routes, "h", "/shop.Orders/Get"), "unknown route");
}

#[test]
fn rt_01_listeners_separate_routes() {
    let inner = RouteSpec { listener: Some("inner".into()), ..on("inner", "", "/a") };
    let outer = RouteSpec { listener: Some("outer".into()), ..on("outer", "", "/a") };
    let routes = build(&[inner, outer, on("both", "", "/a"), on("rest", "", "/")]).unwrap();
    let a = call("h", "/a", false);
    assert_eq!(find_on(&routes, &a, "inner"), "inner");
    assert_eq!(find_on(&routes, &a, "outer"), "outer");
    assert_eq!(find_on(&routes, &a, "third"), "both");
    assert_eq!(find_on(&routes, &call("h", "/b", false), "inner"), "rest");
}

#[test]
fn rt_02_the_most_specific_route_wins_in_any_order() {
    let mut specs = vec![
        on("exact-api", "a.b.c", "/api"),
        on("exact", "a.b.c", ""),
        on("suffix-long", "*.b.c", "/api/v1"),
        on("suffix", "*.c", ""),
        on("any-deep", "", "/api/v1/x"),
        on("any", "", ""),
        rpc("rpc", "shop.Orders", None),
    ];
    for turn in 0..specs.len() {
        specs.rotate_left(1);
        let routes = build(&specs).unwrap();
        for (host, path, name) in [
            ("a.b.c", "/api/v1/x", "exact-api"),
            ("a.b.c", "/x", "exact"),
            ("x.b.c", "/api/v1/x", "suffix-long"),
            ("x.b.c", "/api", "suffix"),
            ("x.y.c", "/api/v1", "suffix"),
            ("other", "/api/v1/x/y", "any-deep"),
            ("other", "/api/v1", "any"),
        ] {
            assert_eq!(find(&routes, host, path), name, "{host}{path} turn {turn}");
        }
        assert_eq!(find_rpc(&routes, "/shop.Orders/Get"), "rpc shop.Orders/Get");
    }
}

#[test]
fn rt_02_equal_rank_is_an_error_when_a_call_can_match_both() {
    let two = |a: RouteSpec, b: RouteSpec| build(&[a, b]).map(|_| ());
    let clash = Err(RouteError::EqualRank { first: "a".into(), second: "b".into() });
    assert_eq!(two(route("a"), route("b")), clash);
    assert_eq!(two(on("a", "h", "/x"), on("b", "H.", "/x/")), clash);
    assert_eq!(two(on("a", "*.h", "/x"), on("b", "*.h", "/x")), clash);
    assert_eq!(two(rpc("a", "s.S", None), rpc("b", "s.S", None)), clash);
    let listener = |spec: RouteSpec, name: &str| RouteSpec { listener: Some(name.into()), ..spec };
    assert_eq!(two(listener(route("a"), "l"), listener(route("b"), "l")), clash);
    // A gRPC call on that listener matches both, each by one further matcher.
    assert_eq!(two(rpc("a", "s.S", None), listener(on("b", "", "/s.S"), "l")), clash);

    assert_eq!(two(listener(route("a"), "l"), listener(route("b"), "m")), Ok(()));
    assert_eq!(two(listener(route("a"), "l"), route("b")), Ok(()));
    assert_eq!(two(on("a", "h", "/x"), on("b", "i", "/x")), Ok(()));
    assert_eq!(two(rpc("a", "s.S", None), on("b", "", "/s.S")), Ok(()));
}

#[test]
fn rt_03_a_thousand_routes_are_matched_exactly() {
    let specs: Vec<_> = (0..1000)
        .map(|n| on(&format!("r{n}"), &format!("h{}.example", n % 50), &format!("/p{n}/q")))
        .collect();
    let routes = build(&specs).unwrap();
    for n in 0..1000 {
        assert_eq!(find(&routes, &format!("h{}.example", n % 50), &format!("/p{n}/q/x")), format!("r{n}"));
    }
}

#[test]
fn mo1_targets_are_enumerable_and_dense() {
    let routes = build(&[on("http", "", "/http"), rpc("stock", "shop.Stock", None), route("all")]).unwrap();
    let names: Vec<_> = routes
        .targets()
        .iter()
        .enumerate()
        .map(|(at, target)| {
            assert_eq!(at, target.index as usize);
            match &target.kind {
                TargetKind::Route | TargetKind::Service => target.route.name.to_string(),
                TargetKind::Method(id) => format!("{} {id}", target.route.name),
            }
        })
        .collect();
    assert_eq!(
        names,
        [
            "http",
            "stock",
            "all",
            "stock shop.Stock/Get",
            "all shop.Orders/Get",
            "all shop.Orders/List",
            "all shop.Stock/Get",
        ]
    );
    assert_eq!(routes.routes()[1].namespace.as_ref(), "shop");
}

#[test]
fn mo3_one_interface_in_two_services_needs_scopes() {
    let first = service("first", &["shop.Orders/Get"]);
    let second = service("second", &["shop.Orders/Get"]);
    let ambiguous = RouteError::AmbiguousRpc {
        rpc: "shop.Orders".into(),
        first: "first".into(),
        second: "second".into(),
    };
    assert_eq!(Routes::build(&[first.clone(), second.clone()], &clusters(), &[]).unwrap_err(), ambiguous);
    let scoped =
        |spec: &ServiceSpec, scope: &str| ServiceSpec { rpc_scope: Some(scope.into()), ..spec.clone() };
    assert!(Routes::build(&[scoped(&first, "x"), scoped(&second, "x")], &clusters(), &[]).is_err());
    let services = [scoped(&first, "one"), scoped(&second, "two")];
    let spec = RouteSpec { service: "second".into(), ..rpc("r", "shop.Orders", None) };
    let routes = Routes::build(&services, &clusters(), &[spec]).unwrap();
    assert_eq!(find_rpc(&routes, "/shop.Orders/Get"), "r two:shop.Orders/Get");
    assert_eq!(rpc_service_id(&services[1], "shop.Orders/Get"), "two:shop.Orders");
}

#[test]
fn mo3_common_interfaces_are_always_scoped() {
    let health = "grpc.health.v1.Health/Check";
    let services = [service("web", &[health]), service("db", &[health])];
    let routes = Routes::build(&services, &clusters(), &[route("r")]).unwrap();
    assert_eq!(find_rpc(&routes, "/grpc.health.v1.Health/Check"), "r web:grpc.health.v1.Health/Check");
    assert_eq!(method_id(&services[1], health), "db:grpc.health.v1.Health/Check");
}

#[test]
fn mo4_a_wildcard_route_registers_no_method() {
    let routes = build(&[route("all")]).unwrap();
    assert_eq!(find_rpc(&routes, "/shop.Orders/Get"), "all shop.Orders/Get");
    for path in [
        "/shop.Orders/Refund",
        "/shop.Orders/get",
        "/shop.Orders/Get/",
        "/shop.Orders/Get?x",
        "/shop.Orders",
        "/",
        "/a/b/c",
    ] {
        assert_eq!(find_rpc(&routes, path), "unknown method", "{path}");
    }
    assert_eq!(find(&routes, "h", "/shop.Orders/Refund"), "all");
}

#[test]
fn connect_finds_no_route() {
    let builder = http::Request::builder().version(http::Version::HTTP_2).method("CONNECT").uri("h:443");
    let parts = builder.body(()).unwrap().into_parts().0;
    let connect = Call::from_parts(&parts, false, &Transport::new(Scheme::Https)).unwrap();
    assert_eq!(find_on(&build(&[route("all")]).unwrap(), &connect, "mesh"), "unknown route");
}

#[test]
fn a_configuration_without_meaning_is_an_error_that_names_it() {
    let error = |spec: RouteSpec| build(&[spec]).unwrap_err().to_string();
    let with_host = |host: &str| error(on("r", host, ""));
    for host in ["a:80", "*", "*a.b", "a.*", "a b", "*.", "user@h", "[::1]:443", "*.[::1]", "a/b"] {
        assert!(with_host(host).contains(&format!("`{host}`")), "{host}");
    }
    assert!(build(&[on("r", "[::1]", "")]).is_ok());
    assert_eq!(error(on("r", "", "/a/../b")), "route `r`: path `/a/../b`: it is not canonical; write `/b`");
    assert!(error(on("r", "", "a")).contains("CC-01"));
    let mut both = rpc("r", "s.S", None);
    both.matches.path = PathSpec::Prefix("/a".into());
    assert!(error(both).contains("exclude"));
    assert!(error(rpc("r", "s.S/Get", None)).contains("malformed"));
    assert!(error(RouteSpec { service: "nope".into(), ..route("r") }).contains("unknown service `nope`"));
    let to = |name: &str, weight| vec![Share { weight, ..Share::all(name) }];
    assert!(error(RouteSpec { to: Vec::new(), ..route("r") }).contains("needs a cluster"));
    assert!(error(RouteSpec { to: to("h2", 0), ..route("r") }).contains("needs a cluster"));
    assert!(error(RouteSpec { to: to("h3", 1), ..route("r") }).contains("unknown cluster `h3`"));
    assert!(error(RouteSpec { to: to("h1", 1), ..rpc("r", "s.S", None) }).contains("127.0.0.1:9"));
    let mut idle = clusters();
    idle[0].endpoints[0].weight = 0;
    let odd = Routes::build(&[web()], &idle, &[route("r")]).unwrap_err();
    assert_eq!(odd.to_string(), "cluster `h2` has no endpoint with a weight above 0");
    let twice = [cluster("a", UpstreamProtocol::Http2), cluster("a", UpstreamProtocol::Http2)];
    assert!(Routes::build(&[web()], &twice, &[]).unwrap_err().to_string().contains("cluster `a`"));
    assert_eq!(
        build(&[route("r"), on("r", "h", "")]).unwrap_err(),
        RouteError::Duplicate { kind: "route", name: "r".into() }
    );
    assert!(
        Routes::build(&[web(), web()], &clusters(), &[]).unwrap_err().to_string().contains("service `web`")
    );
    let odd = Routes::build(&[service("s", &["Get"])], &clusters(), &[]).unwrap_err();
    assert_eq!(odd.to_string(), "service `s`: `Get` is not `pkg.Service/Method`");
    let scope = ServiceSpec { rpc_scope: Some("a:b".into()), ..service("s", &[]) };
    assert!(Routes::build(&[scope], &clusters(), &[]).is_err());
}

proptest! {
    #[test]
    fn mo1_every_target_is_found_by_the_call_it_is_for(methods in proptest::collection::btree_set("[a-c][.][A-C]/[A-D]", 0..8)) {
        let names: Vec<&str> = methods.iter().map(String::as_str).collect();
        let routes = Routes::build(&[service("web", &names)], &clusters(), &[route("all")]).unwrap();
        let found: BTreeSet<String> = names.iter().map(|name| find_rpc(&routes, &format!("/{name}"))).collect();
        let all: BTreeSet<String> = names.iter().map(|name| format!("all {name}")).collect();
        prop_assert_eq!(found, all);
        prop_assert_eq!(routes.targets().len(), names.len() + 1);
    }
}

#[test]
fn lb_14_routes_that_ask_for_the_same_part_share_it_and_a_part_of_nobody_is_an_error() {
    let labelled = |last: u8, labels: &str| EndpointSpec {
        labels: Labels::parse([labels]).unwrap(),
        ..EndpointSpec::new(UpstreamProtocol::Http1, std::net::SocketAddr::from(([10, 0, 0, last], 80)))
    };
    let cluster = ClusterSpec {
        name: "shop".into(),
        endpoints: vec![labelled(1, "version=1"), labelled(2, "version=2")],
        ..ClusterSpec::default()
    };
    let service = ServiceSpec { name: "shop".into(), ..ServiceSpec::default() };
    let route = |name: &str, subset: &[&str]| RouteSpec {
        name: name.into(),
        service: "shop".into(),
        matches: MatchSpec { hosts: vec![format!("{name}.test")], ..MatchSpec::default() },
        to: vec![Share { subset: Labels::parse(subset.iter().copied()).unwrap(), ..Share::all("shop") }],
        ..RouteSpec::default()
    };
    let some =
        [route("a", &["version=2"]), route("b", &["version=2"]), route("c", &[]), route("d", &["version=1"])];
    let routes =
        Routes::build(std::slice::from_ref(&service), std::slice::from_ref(&cluster), &some).unwrap();
    let index: Vec<_> = routes.routes().iter().map(|route| route.to[0].0.index).collect();
    assert_eq!(index, [1, 1, 0, 2]);
    let places: Vec<Vec<_>> =
        routes.clusters().iter().map(|cluster| cluster.layout.places().collect()).collect();
    assert_eq!(places, [vec![0, 1], vec![1], vec![0]]);
    let nobody = [route("a", &["version=3"])];
    let error =
        Routes::build(std::slice::from_ref(&service), std::slice::from_ref(&cluster), &nobody).unwrap_err();
    assert!(matches!(error, RouteError::NoSubset { .. }), "{error}");
    let cluster = ClusterSpec { fallback: Fallback::Any, ..cluster };
    let routes = Routes::build(&[service], &[cluster], &nobody).unwrap();
    assert_eq!(routes.clusters()[1].layout.places().collect::<Vec<_>>(), [0, 1]);
}
