//! Routes of connections that carry no HTTP, and of tunnels: no other call ever finds them.

use std::net::Ipv4Addr;

use super::*;

fn to_bytes(name: &str) -> RouteSpec {
    RouteSpec { listener: Some("db".into()), to: vec![Share::all("tcp")], ..route(name) }
}

fn by_sni(name: &str, sni: &str) -> RouteSpec {
    RouteSpec { matches: MatchSpec { sni: vec![sni.into()], ..MatchSpec::default() }, ..to_bytes(name) }
}

fn built(routes: &[RouteSpec]) -> Result<Routes, RouteError> {
    let mut all = clusters().to_vec();
    all.push(cluster("tcp", UpstreamProtocol::Tcp));
    let mixed = [UpstreamProtocol::Tcp, UpstreamProtocol::Http1];
    let endpoints = mixed
        .map(|protocol| EndpointSpec::new(protocol, std::net::SocketAddr::from(([127, 0, 0, 1], 9))))
        .into();
    all.push(ClusterSpec { name: "mixed".into(), endpoints, ..ClusterSpec::default() });
    Routes::build(&[web()], &all, routes)
}

fn find<'a>(routes: &'a Routes, call: &Call, listener: &str, sni: Option<&str>) -> Found<'a> {
    let source = Ipv4Addr::LOCALHOST.into();
    routes.find(call, &Arrival { listener, port: 1, source, sni, passed: false, identity: None })
}

#[test]
fn mo1_the_resource_of_a_connection_is_the_service_of_its_route() {
    let http = on("web", "", "");
    let routes = built(&[http, by_sni("orders", "orders.test"), to_bytes("rest")]).unwrap();
    for (sni, wanted) in [(Some("orders.test"), "orders"), (Some("other.test"), "rest"), (None, "rest")] {
        let Found::Target(target) = find(&routes, &Call::tcp(), "db", sni) else { panic!("{sni:?}") };
        assert_eq!((&*target.route.name, &target.kind), (wanted, &TargetKind::Service), "{sni:?}");
    }
    assert_eq!(
        find(&routes, &Call::tcp(), "main", None),
        Found::UnknownRoute,
        "an http route takes no bytes"
    );
    let request = http::Request::get("https://h.test/").version(http::Version::HTTP_2).body(()).unwrap();
    let call = Call::from_parts(&request.into_parts().0, true, &Transport::new(Scheme::Https)).unwrap();
    for listener in ["main", "db"] {
        let found = find(&routes, &call, listener, None);
        assert!(matches!(found, Found::Target(target) if &*target.route.name == "web"), "one port, both");
    }
}

#[test]
fn tp_02_what_only_http_has_is_refused_in_a_route_that_carries_bytes() {
    let error = |spec: RouteSpec| built(&[spec]).unwrap_err().to_string();
    assert!(error(RouteSpec { listener: None, ..to_bytes("r") }).contains("write the listener"));
    let hosts = MatchSpec { hosts: vec!["a.test".into()], ..MatchSpec::default() };
    assert!(error(RouteSpec { matches: hosts, ..to_bytes("r") }).contains("nothing of http"));
    let path = MatchSpec { path: PathSpec::Prefix("/a".into()), ..MatchSpec::default() };
    assert!(error(RouteSpec { matches: path, ..to_bytes("r") }).contains("nothing of http"));
    assert!(error(RouteSpec { to: vec![Share::all("mixed")], ..to_bytes("r") }).contains("speak http"));
    let both = vec![Share::all("tcp"), Share::all("h1")];
    assert!(error(RouteSpec { to: both, ..to_bytes("r") }).contains("speak http"));
    let handling = crate::HandlingSpec { max_body: Some(1), ..crate::HandlingSpec::default() };
    assert!(error(RouteSpec { handling, ..to_bytes("r") }).contains("can do nothing"));
    let http = RouteSpec { listener: Some("db".into()), ..on("web", "", "/a") };
    assert!(built(&[to_bytes("r"), http]).is_ok(), "one port takes both");
    assert!(matches!(built(&[to_bytes("r"), to_bytes("s")]), Err(RouteError::EqualRank { .. })));
}

fn passing(name: &str, names: &[&str]) -> RouteSpec {
    RouteSpec { passes: names.iter().map(|name| (*name).to_owned()).collect(), ..to_bytes(name) }
}

#[test]
fn lt_16_a_server_name_passes_through_or_ends_here_and_no_route_takes_both() {
    let near = MatchSpec { ports: vec![1], sources: vec!["127.0.0.0/8".into()], ..MatchSpec::default() };
    let all = RouteSpec { matches: near, ..to_bytes("all") };
    let routes = built(&[all, passing("through", &["db.test", "*.Old.test"]), on("web", "", "")]).unwrap();
    for (sni, is_passed) in [
        ("db.test", true),
        ("a.old.test", true),
        ("a.b.old.test", true),
        ("old.test", false),
        ("x.test", false),
    ] {
        assert_eq!(routes.passes("db", sni), is_passed, "{sni}");
        assert!(!routes.passes("main", sni), "of another listener");
        let through = Arrival { passed: true, ..over_db(sni) };
        let found = routes.find(&Call::tcp(), &through);
        assert_eq!(
            matches!(found, Found::Target(target) if &*target.route.name == "through"),
            is_passed,
            "{sni}"
        );
        let Found::Target(ended) = routes.find(&Call::tcp(), &over_db(sni)) else { panic!("{sni}") };
        assert_eq!(&*ended.route.name, "all", "a name whose TLS ended here");
        let told = |arrival: &Arrival<'_>| routes.explain(&Call::tcp(), arrival).unwrap();
        assert_eq!(told(&through)[1].verdict == Verdict::Taken, is_passed);
        assert_eq!(
            told(&over_db(sni))[1].verdict,
            Verdict::Unmet("the TLS of its server name passes through".into())
        );
    }
    assert!(routes.is_passing("db") && !routes.is_passing("main"));
}

#[test]
fn lt_16_what_passes_through_cannot_ask_for_what_only_the_other_end_sees() {
    let error = |spec: RouteSpec| built(&[spec]).unwrap_err().to_string();
    let names = MatchSpec { sni: vec!["db.test".into()], ..MatchSpec::default() };
    let known = MatchSpec { identities: vec!["spiffe://a.test".into()], ..MatchSpec::default() };
    for matches in [names, known] {
        let found = error(RouteSpec { matches, ..passing("r", &["db.test"]) });
        assert!(found.contains("may match source_ip and port"), "{found}");
    }
    assert!(
        error(RouteSpec { to: vec![Share::all("h1")], ..passing("r", &["a.test"]) })
            .contains("tcp:// endpoints")
    );
    assert!(error(RouteSpec { listener: None, ..passing("r", &["a.test"]) }).contains("write the listener"));
    assert!(error(passing("r", &["a.test:443"])).contains("no server name"));
    let twice = [passing("r", &["*.a.test"]), passing("s", &["b.a.test"])];
    assert!(matches!(built(&twice), Err(RouteError::EqualRank { .. })));
    assert!(built(&[passing("r", &["a.test"]), by_sni("s", "a.test")]).is_ok(), "one of them only");
}

#[test]
fn lt_16_names_meet_where_one_takes_what_the_other_takes() {
    for (one, other, meet) in [
        ("a.test", "A.test", true),
        ("*.a.test", "b.a.test", true),
        ("*.a.test", "*.b.a.test", true),
        ("*.a.test", "a.test", false),
        ("*.a.test", "*.b.test", false),
        ("a.test", "b.test", false),
    ] {
        assert_eq!((hosts_meet(one, other), hosts_meet(other, one)), (meet, meet), "{one} {other}");
    }
}

fn over_db(sni: &str) -> Arrival<'_> {
    let source = Ipv4Addr::LOCALHOST.into();
    Arrival { listener: "db", port: 1, source, sni: Some(sni), passed: false, identity: None }
}

/// `CONNECT authority`, as an HTTP/1 caller asks.
fn tunnel(authority: &str) -> Call {
    let head = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    let mut parser = enforcer_codec::h1::RequestParser::new(enforcer_codec::Limits::default());
    match parser.parse(&mut bytes::BytesMut::from(head.as_bytes())) {
        enforcer_codec::h1::Parse::Done(head) => Call::from_h1(head, &Transport::new(Scheme::Https)).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn opens(name: &str, targets: &[&str]) -> RouteSpec {
    let connect = targets.iter().map(|target| (*target).to_owned()).collect();
    RouteSpec { connect, to: Vec::new(), ..route(name) }
}

#[test]
fn cn_01_a_tunnel_leads_to_a_target_of_the_allow_list_and_nowhere_else() {
    let inner =
        RouteSpec { listener: Some("inner".into()), ..opens("inner", &["db.test:5432", "*.api.test:443"]) };
    let routes =
        built(&[on("web", "", ""), opens("out", &["*.api.test:443", "[::1]:9", "10.0.0.1:22"]), inner])
            .unwrap();
    let name = |authority: &str, listener: &str| match find(&routes, &tunnel(authority), listener, None) {
        Found::Target(target) => target.route.name.to_string(),
        _ => String::new(),
    };
    for (authority, on_main, on_inner) in [
        ("a.api.test:443", "out", "inner"),
        ("A.Api.Test:443", "out", "inner"),
        ("db.test:5432", "", "inner"),
        ("[::1]:9", "out", "out"),
        ("10.0.0.1:22", "out", "out"),
        ("api.test:443", "", ""),
        ("a.api.test:80", "", ""),
        ("a.api.test:444", "", ""),
        ("10.0.0.2:22", "", ""),
    ] {
        assert_eq!(
            (name(authority, "main").as_str(), name(authority, "inner").as_str()),
            (on_main, on_inner),
            "{authority}"
        );
    }
    assert_eq!(routes.routes()[1].timeouts.idle.as_secs(), 3_600);
    let request =
        http::Request::builder().method("CONNECT").uri("a.api.test:443").version(http::Version::HTTP_3);
    let call =
        Call::from_parts(&request.body(()).unwrap().into_parts().0, false, &Transport::new(Scheme::Https));
    let call = call.unwrap();
    assert_eq!(find(&routes, &call, "main", None), Found::UnknownRoute, "no stream of http/3 is a tunnel");
}

#[test]
fn cn_01_what_a_tunnel_cannot_have_is_refused() {
    let error = |spec: RouteSpec| built(&[spec]).unwrap_err().to_string();
    assert!(error(opens("r", &["db.test"])).contains("`db.test` is no target"));
    assert!(error(opens("r", &["*:443"])).contains("`*:443` is no target"));
    assert!(
        error(RouteSpec { to: vec![Share::all("h1")], ..opens("r", &["a.test:1"]) })
            .contains("only one of them")
    );
    let path = MatchSpec { path: PathSpec::Prefix("/a".into()), ..MatchSpec::default() };
    assert!(error(RouteSpec { matches: path, ..opens("r", &["a.test:1"]) }).contains("may match source"));
    let handling = crate::HandlingSpec { max_body: Some(1), ..crate::HandlingSpec::default() };
    assert!(error(RouteSpec { handling, ..opens("r", &["a.test:1"]) }).contains("nothing can be done"));
    let twice = [opens("r", &["*.a.test:1", "b.test:1"]), opens("s", &["c.a.test:1"])];
    assert!(matches!(built(&twice), Err(RouteError::EqualRank { .. })));
    assert!(built(&[opens("r", &["*.a.test:1"]), opens("s", &["c.a.test:2"])]).is_ok());
}
