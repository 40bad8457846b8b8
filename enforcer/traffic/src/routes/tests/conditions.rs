//! RT-01 and RT-02 for every further kind of condition: what it takes, how it ranks, when two routes meet.

use ca_identity::SpiffeId;

use super::*;
use crate::{ValueTest, ValuesSpec, Verdict};

/// A route with these conditions.
fn with(name: &str, matches: MatchSpec) -> RouteSpec {
    RouteSpec { matches, ..route(name) }
}

fn shaped(name: &str, path: PathSpec) -> RouteSpec {
    with(name, MatchSpec { path, ..MatchSpec::default() })
}

fn exact(name: &str, path: &str) -> RouteSpec {
    shaped(name, PathSpec::Exact(path.into()))
}

fn template(name: &str, path: &str) -> RouteSpec {
    shaped(name, PathSpec::Template(path.into()))
}

fn regex(name: &str, pattern: &str, priority: u32) -> RouteSpec {
    shaped(name, PathSpec::Regex { pattern: pattern.into(), priority })
}

fn values(name: &str, test: ValueTest, all: bool) -> ValuesSpec {
    ValuesSpec { name: name.into(), test, all }
}

fn header(name: &str, value: &str, all: bool) -> MatchSpec {
    let headers = vec![values(name, ValueTest::Exact(value.into()), all)];
    MatchSpec { headers, ..MatchSpec::default() }
}

fn asked(method: &str, target: &str, headers: &[(&str, &[u8])]) -> Call {
    let mut builder = http::Request::builder()
        .version(http::Version::HTTP_2)
        .method(method)
        .uri(format!("https://h{target}"));
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    Call::from_parts(&builder.body(()).unwrap().into_parts().0, true, &Transport::new(Scheme::Https)).unwrap()
}

fn clash(a: RouteSpec, b: RouteSpec) -> bool {
    match build(&[a, b]) {
        Ok(_) => false,
        Err(RouteError::EqualRank { first, second }) => {
            assert_eq!((first.as_str(), second.as_str()), ("a", "b"));
            true
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn rt_02_exact_then_templates_then_prefixes_then_patterns_then_any() {
    let mut specs = vec![
        exact("exact", "/users/7/orders"),
        template("two", "/users/{id}/orders"),
        template("one", "/users/{id}/{what}"),
        on("long", "", "/users/7"),
        on("short", "", "/users"),
        regex("high", "/[a-z]+/x", 9),
        regex("low", "/.*", 1),
        route("any"),
    ];
    for turn in 0..specs.len() {
        specs.rotate_left(1);
        let routes = build(&specs).unwrap();
        for (path, name) in [
            ("/users/7/orders", "exact"),
            ("/users/8/orders", "two"),
            ("/users/8/carts", "one"),
            ("/users/8/orders/", "short"),
            ("/users/7", "long"),
            ("/users/8", "short"),
            ("/shop/x", "high"),
            ("/shop/y", "low"),
        ] {
            assert_eq!(find(&routes, "h", path), name, "{path} turn {turn}");
        }
        let star = http::Request::builder().version(http::Version::HTTP_2).method("OPTIONS").uri("https://h");
        let mut parts = star.body(()).unwrap().into_parts().0;
        parts.uri = "https://h/".parse().unwrap();
        let root = Call::from_parts(&parts, true, &Transport::new(Scheme::Https)).unwrap();
        assert_eq!(find_on(&routes, &root, "mesh"), "low");
    }
    let without_low =
        build(&specs.into_iter().filter(|spec| spec.name != "low").collect::<Vec<_>>()).unwrap();
    assert_eq!(find(&without_low, "h", "/SHOP"), "any");
}

#[test]
fn rt_01_a_route_names_the_segments_of_its_template() {
    let routes = build(&[template("t", "/users/{id}"), exact("e", "/x")]).unwrap();
    let Found::Target(target) = routes.find(&call("h", "/users/%C3%A9", false), &over("mesh")) else {
        panic!()
    };
    let params = target.route.template.as_ref().unwrap().params("/users/%C3%A9");
    assert_eq!(params, [("id".into(), "é".into())]);
    let Found::Target(target) = routes.find(&call("h", "/x", false), &over("mesh")) else { panic!() };
    assert_eq!(target.route.template, None);
}

#[test]
fn rt_01_methods_and_headers_and_query_and_cookies_decide_and_rank() {
    let tenant = |test| MatchSpec { query: vec![values("tenant", test, false)], ..MatchSpec::default() };
    let session = MatchSpec {
        cookies: vec![values("session", ValueTest::Present, false)],
        methods: vec!["GET".into(), "HEAD".into()],
        headers: vec![values("accept", ValueTest::Prefix("text/".into()), false)],
        ..MatchSpec::default()
    };
    let routes = build(&[
        with("session", session),
        with("acme", tenant(ValueTest::Exact("a & b".into()))),
        with("beta", MatchSpec { methods: vec!["DELETE".into()], ..header("x-beta", "1", true) }),
        route("any"),
    ])
    .unwrap();
    for (method, target, headers, name) in [
        ("GET", "/", &[("cookie", &b"a=b; session=1"[..]), ("accept", b"text/html")][..], "session"),
        ("GET", "/", &[("cookie", b"a=b"), ("cookie", b"session="), ("accept", b"text/html")], "session"),
        ("POST", "/", &[("cookie", b"session=1"), ("accept", b"text/html")], "any"),
        ("GET", "/", &[("cookie", b"xsession=1"), ("accept", b"text/html")], "any"),
        ("GET", "/", &[("cookie", b"session=1"), ("accept", b"*/*")], "any"),
        ("GET", "/?tenant=a+%26%20b", &[], "acme"),
        ("GET", "/?tenant=x&t%65nant=a+%26+b", &[], "acme"),
        ("GET", "/?tenant=a", &[], "any"),
        ("DELETE", "/", &[("x-beta", b"1"), ("x-beta", b"1")], "beta"),
        ("DELETE", "/", &[("x-beta", b"1"), ("x-beta", b"2")], "any"),
        ("DELETE", "/", &[], "any"),
        ("DELETE", "/", &[("x-beta", b"1, 1")], "any"),
        // Three conditions rank above one.
        ("GET", "/?tenant=a+%26+b", &[("cookie", b"session=1"), ("accept", b"text/html")], "session"),
    ] {
        let call = asked(method, target, headers);
        assert_eq!(find_on(&routes, &call, "mesh"), name, "{method} {target} {headers:?}");
    }
}

#[test]
fn cc_11_a_route_that_reads_a_field_refuses_what_is_no_text() {
    let routes = build(&[with("beta", header("x-beta", "1", false)), on("far", "other", "")]).unwrap();
    let odd: &[(&str, &[u8])] = &[("x-beta", b"\xff")];
    assert_eq!(find_on(&routes, &asked("GET", "/", odd), "mesh"), "H1-11");
    assert!(routes.explain(&asked("GET", "/", odd), &over("mesh")).is_err());
    // Nobody reads it there.
    let unread = build(&[with("beta", header("x-gamma", "1", false)), route("any")]).unwrap();
    assert_eq!(find_on(&unread, &asked("GET", "/", odd), "mesh"), "any");
    let tenant = ValueTest::Exact("a".into());
    let tenant = MatchSpec { query: vec![values("tenant", tenant, false)], ..MatchSpec::default() };
    let routes = build(&[with("acme", tenant), route("any")]).unwrap();
    for (target, wanted) in [("/?tenant=%ff", "H1-11"), ("/?tenant=%C3%A9", "any"), ("/?other=%ff", "any")] {
        assert_eq!(find_on(&routes, &asked("GET", target, &[]), "mesh"), wanted, "{target}");
    }
}

#[test]
fn rt_01_the_caller_decides_by_verified_identity_network_server_name_and_port() {
    let who = |pattern: &str| MatchSpec { identities: vec![pattern.into()], ..MatchSpec::default() };
    let routes = build(&[
        with("web", who("spiffe://example.org/web")),
        with("shop", who("spiffe://example.org/ns/shop/*")),
        with(
            "net",
            MatchSpec {
                sources: vec!["192.0.2.0/24".into(), "2001:db8::/32".into()],
                ..MatchSpec::default()
            },
        ),
        with(
            "sni",
            MatchSpec { sni: vec!["*.edge.example".into()], ports: vec![443, 8443], ..MatchSpec::default() },
        ),
        route("any"),
    ]);
    assert!(matches!(routes, Err(RouteError::EqualRank { .. })), "web may call from that network");
    let far =
        MatchSpec { sources: vec!["192.0.2.0/24".into(), "2001:db8::/32".into()], ..who("spiffe://far.org") };
    let routes = build(&[
        with("web", who("spiffe://example.org/web")),
        with("shop", who("spiffe://example.org/ns/shop/*")),
        with("net", far),
        with(
            "sni",
            MatchSpec { sni: vec!["*.edge.example".into()], ports: vec![443], ..who("spiffe://edge.org") },
        ),
        route("any"),
    ])
    .unwrap();
    for (id, source, sni, port, name) in [
        ("spiffe://example.org/web", "10.0.0.1", "", 9443, "web"),
        ("spiffe://example.org/ns/shop/cart", "10.0.0.1", "", 9443, "shop"),
        ("spiffe://example.org/ns/shopx/cart", "10.0.0.1", "", 9443, "any"),
        ("spiffe://far.org/a", "192.0.2.9", "", 9443, "net"),
        ("spiffe://far.org/a", "::ffff:192.0.2.9", "", 9443, "net"),
        ("spiffe://far.org/a", "2001:db8::1", "", 9443, "net"),
        ("spiffe://far.org/a", "192.0.3.9", "", 9443, "any"),
        ("spiffe://edge.org/a", "10.0.0.1", "a.edge.example", 443, "sni"),
        ("spiffe://edge.org/a", "10.0.0.1", "edge.example", 443, "any"),
        ("spiffe://edge.org/a", "10.0.0.1", "a.edge.example", 8443, "any"),
        ("", "192.0.2.9", "a.edge.example", 443, "any"),
    ] {
        let id = (!id.is_empty()).then(|| SpiffeId::parse(id).unwrap());
        let arrival = Arrival {
            port,
            source: source.parse().unwrap(),
            sni: (!sni.is_empty()).then_some(sni),
            identity: id.as_ref(),
            ..over("mesh")
        };
        assert_eq!(find_at(&routes, &call("h", "/", false), &arrival), name, "{arrival:?}");
    }
}

#[test]
fn rt_02_routes_of_equal_rank_must_exclude_each_other() {
    let method = |name: &str, method: &str| {
        with(name, MatchSpec { methods: vec![method.into()], ..MatchSpec::default() })
    };
    let get = |spec: RouteSpec| RouteSpec {
        matches: MatchSpec { methods: vec!["GET".into()], ..spec.matches },
        ..spec
    };
    for (a, b, meet) in [
        (exact("a", "/x"), exact("b", "/x"), true),
        (exact("a", "/x"), exact("b", "/x/"), false),
        (template("a", "/{x}"), template("b", "/{y}"), true),
        (template("a", "/u/{x}"), template("b", "/{y}/v"), true),
        (template("a", "/u/{x}"), template("b", "/v/{y}"), false),
        (template("a", "/u/{x}"), template("b", "/u/{x}/"), false),
        (template("a", "/{x}/"), template("b", "/u/{x}"), false),
        (template("a", "/{x}/{y}/c"), template("b", "/a/{x}/{y}"), true),
        (get(template("a", "/u/{x}")), template("b", "/{y}/v"), false),
        (regex("a", "/a", 1), regex("b", "/b", 1), true),
        (regex("a", "/a", 1), regex("b", "/b", 2), false),
        (get(regex("a", "/a", 1)), regex("b", "/a", 1), false),
        (method("a", "GET"), method("b", "POST"), false),
        (method("a", "GET"), method("b", "GET"), true),
        (with("a", header("x", "1", false)), with("b", header("x", "2", false)), true),
        (with("a", header("x", "1", true)), with("b", header("x", "2", false)), false),
        (with("a", header("origin", "1", false)), with("b", header("origin", "2", false)), false),
        (with("a", header("x", "1", true)), with("b", header("y", "2", true)), true),
        (with("a", header("x", "1", true)), method("b", "GET"), true),
        (rpc("a", "s.S", None), get(on("b", "", "/s.S")), false),
    ] {
        let (text, other) = (format!("{:?}", a.matches), format!("{:?}", b.matches));
        assert_eq!(clash(a, b), meet, "{text}\n{other}");
    }
}

#[test]
fn mo4_a_method_is_offered_by_the_routes_that_can_take_it() {
    let post = |name: &str, method: &str| {
        with(
            name,
            MatchSpec {
                methods: vec![method.into()],
                path: PathSpec::Prefix("/shop.Orders".into()),
                ..MatchSpec::default()
            },
        )
    };
    let targets = |spec: RouteSpec| build(&[spec]).unwrap().targets().len() - 1;
    assert_eq!(targets(post("r", "POST")), 2);
    assert_eq!(targets(post("r", "GET")), 0);
    assert_eq!(targets(template("r", "/shop.Stock/{method}")), 1);
    assert_eq!(targets(exact("r", "/shop.Orders/Get")), 1);
    assert_eq!(targets(regex("r", "/shop[.].*/Get", 1)), 2);
}

#[test]
fn a_condition_without_meaning_is_an_error_that_names_it() {
    let error = |matches: MatchSpec| build(&[with("r", matches)]).unwrap_err().to_string();
    let plain = MatchSpec::default;
    let path = |path| MatchSpec { path, ..plain() };
    for (matches, part) in [
        (path(PathSpec::Exact("/%41".into())), "write `/A`"),
        (path(PathSpec::Exact("a".into())), "CC-01"),
        (path(PathSpec::Template("/a".into())), "names no segment"),
        (path(PathSpec::Template("/a{b}".into())), "whole segment"),
        (path(PathSpec::Regex { pattern: "(".into(), priority: 1 }), "path `(`"),
        (MatchSpec { methods: vec!["get".into()], ..plain() }, "write `GET`"),
        (MatchSpec { methods: vec!["TRACE".into()], ..plain() }, "reaches no route"),
        (MatchSpec { methods: vec![String::new()], ..plain() }, "is no method"),
        (header("X-Beta", "1", true), "is no header that a route can read"),
        (header("host", "1", true), "is no header that a route can read"),
        (header("portcullis-peer", "1", true), "is no header that a route can read"),
        (header("te", "1", true), "is no header that a route can read"),
        (header("x_y z", "1", true), "is no header that a route can read"),
        (
            MatchSpec { cookies: vec![values("a=b", ValueTest::Present, true)], ..plain() },
            "no name of a cookie",
        ),
        (MatchSpec { query: vec![values("", ValueTest::Present, true)], ..plain() }, "a name is empty"),
        (MatchSpec { query: vec![values("a", ValueTest::Regex("[".into()), true)], ..plain() }, "`a`: "),
        (MatchSpec { identities: vec!["web".into()], ..plain() }, "`web` is no SPIFFE ID"),
        (MatchSpec { sources: vec!["10.0.0.1/8".into()], ..plain() }, "is no network"),
        (MatchSpec { sni: vec!["a:1".into()], ..plain() }, "is no server name"),
    ] {
        let found = error(matches);
        assert!(found.contains(part) && found.contains("route `r`"), "{found} has no {part}");
    }
}

#[test]
fn every_route_says_why_it_does_not_take_a_call() {
    let routes = build(&[
        on("host", "other.example", "/"),
        on("path", "", "/api"),
        with("tenant", header("x-tenant", "a", true)),
        exact("taken", "/x"),
        route("any"),
    ])
    .unwrap();
    let standings = routes.explain(&asked("GET", "/x", &[]), &over("mesh")).unwrap();
    let said: Vec<_> = standings.iter().map(|standing| (&*standing.route, &standing.verdict)).collect();
    let unmet = |text: &str| Verdict::Unmet(text.into());
    assert_eq!(
        said,
        [
            ("host", &unmet("host is `other.example`")),
            ("path", &unmet("path is `/api` or below it")),
            ("tenant", &unmet("every value of header `x-tenant` is `a`")),
            ("taken", &Verdict::Taken),
            ("any", &Verdict::Outranked),
        ]
    );
}
