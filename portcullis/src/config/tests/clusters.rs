//! What a cluster and the retries of a route mean, and what has no meaning there.

use std::time::Duration;

use enforcer_traffic::fleet::Probe;
use enforcer_traffic::{BalancerKind, Fallback, HashBy, Labels, Network, TlsSettings, UpstreamProtocol};

use super::{places, read, with};

/// The cluster of the route `web`: these lines.
fn cluster(lines: &str) -> String {
    with(28, "to", &format!("cluster = \"a\"\n[[enforcer.cluster]]\nname = \"a\"\n{lines}"))
}

#[test]
fn the_cluster_of_the_guide_means_what_the_guide_says() {
    let guide = include_str!("../../../../docs/guide.md");
    let toml = guide.split("```toml\n[[enforcer.cluster]]").nth(1).unwrap().split("```").next().unwrap();
    let text = format!(
        "{}\n[[enforcer.cluster]]{toml}",
        with(16, "[[enforcer.service]]", "[[enforcer.service]]\nname = \"shop\"\n[[enforcer.service]]")
    );
    let enforcer = read(&text, &[]).unwrap().config.enforcer.unwrap();
    let cluster = enforcer.clusters.iter().find(|cluster| cluster.name == "shop").unwrap();
    assert_eq!(cluster.balancer, BalancerKind::Maglev);
    assert_eq!(cluster.hash_by, Some(HashBy::Header("x-user".into())));
    let priorities: Vec<_> = cluster.endpoints.iter().map(|endpoint| endpoint.priority).collect();
    assert_eq!(priorities, [0, 0, 1]);
    assert_eq!(cluster.fleet.limits.endpoint_in_flight, 64);
    let outlier = cluster.fleet.outlier.as_ref().unwrap();
    assert_eq!((outlier.failures_in_a_row, outlier.first), (3, Duration::from_secs(5)));
    let check = cluster.check.as_ref().unwrap();
    assert_eq!(check.probe, Probe::Http { path: "/healthz".into(), host: None });
    assert_eq!((check.interval, check.timeout), (Duration::from_secs(10), Duration::from_secs(1)));
    let retry = &enforcer.routes.last().unwrap().retry;
    assert_eq!((retry.attempts, retry.try_timeout), (1, Some(Duration::from_millis(500))));
}

#[test]
fn tl_09_the_secured_cluster_of_the_guide_means_what_the_guide_says() {
    let guide = include_str!("../../../../docs/guide.md");
    let toml = guide.split("```toml\n[[enforcer.cluster]]").nth(2).unwrap().split("```").next().unwrap();
    let text = format!(
        "{}\n[[enforcer.cluster]]{toml}",
        with(16, "[[enforcer.service]]", "[[enforcer.service]]\nname = \"shop\"\n[[enforcer.service]]")
    );
    let enforcer = read(&text, &[]).unwrap().config.enforcer.unwrap();
    let cluster = enforcer.clusters.iter().find(|cluster| cluster.name == "orders").unwrap();
    assert_eq!(cluster.endpoints[0].protocol, UpstreamProtocol::Http2);
    let tls = cluster.tls.as_ref().unwrap();
    assert_eq!(tls.expected(), ["spiffe://example.org/orders"]);
    assert_eq!(tls.server_name(), Some("orders.example.org"));
    let text = secured("expect = [\"spiffe://example.org/ns/*\"]");
    let enforcer = read(&text, &[]).unwrap().config.enforcer.unwrap();
    let cluster = enforcer.clusters.iter().find(|cluster| cluster.name == "a").unwrap();
    assert_eq!(cluster.endpoints[0].protocol, UpstreamProtocol::Http1);
    assert_eq!(cluster.tls.as_ref().unwrap().server_name(), Some("example.org"));
}

#[test]
fn tl_09_the_external_cluster_of_the_guide_means_what_the_guide_says() {
    let guide = include_str!("../../../../docs/guide.md");
    let toml = guide.split("```toml\n[[enforcer.cluster]]").nth(3).unwrap().split("```").next().unwrap();
    let text = format!(
        "{}\n[[enforcer.cluster]]{toml}",
        with(16, "[[enforcer.service]]", "[[enforcer.service]]\nname = \"shop\"\n[[enforcer.service]]")
    );
    let enforcer = read(&text, &[]).unwrap().config.enforcer.unwrap();
    let cluster = enforcer.clusters.iter().find(|cluster| cluster.name == "partner").unwrap();
    let tls = cluster.tls.as_ref().unwrap();
    assert_eq!(
        (tls.server_name(), tls.authority()),
        (Some("api.partner.example"), Some("api.partner.example"))
    );
    let TlsSettings::External { roots, .. } = tls else { panic!("{tls:?}") };
    assert!(roots.file.as_ref().unwrap().ends_with("tls/partner.pem"));
    // By address, at another port.
    let enforcer =
        read(&secured("external = true\nsni = \"a.example\""), &[]).unwrap().config.enforcer.unwrap();
    let cluster = enforcer.clusters.iter().find(|cluster| cluster.name == "a").unwrap();
    let tls = cluster.tls.as_ref().unwrap();
    assert_eq!((tls.server_name(), tls.authority()), (Some("a.example"), Some("a.example:1")));
}

#[test]
fn hc_02_the_named_cluster_of_the_guide_means_what_the_guide_says() {
    let guide = include_str!("../../../../docs/guide.md");
    let toml = guide.split("```toml\n[[enforcer.cluster]]").nth(4).unwrap().split("```").next().unwrap();
    let text = format!(
        "{}\n[[enforcer.cluster]]{toml}",
        with(16, "[[enforcer.service]]", "[[enforcer.service]]\nname = \"shop\"\n[[enforcer.service]]")
    );
    let enforcer = read(&text, &[]).unwrap().config.enforcer.unwrap();
    let cluster = enforcer.clusters.iter().find(|cluster| cluster.name == "stock").unwrap();
    assert!(cluster.endpoints.is_empty());
    let named: Vec<_> = cluster.named.iter().map(ToString::to_string).collect();
    assert_eq!(named, ["stock.example.org:8000"]);
    assert_eq!(cluster.named[0].each.protocol, UpstreamProtocol::Http1);
    assert_eq!(cluster.granted, [Network::parse("127.0.0.0/8").unwrap()]);
    assert_eq!(enforcer.resolver, None);
    let lines = "[[enforcer.cluster.endpoint]]\naddress = \"https://Shop.test:1\"\nweight = 3\n";
    let text = cluster_with("protocol = \"h2\"\nexpect = [\"spiffe://example.org\"]", lines);
    let enforcer = read(&text, &[]).unwrap().config.enforcer.unwrap();
    let cluster = enforcer.clusters.iter().find(|cluster| cluster.name == "a").unwrap();
    let named = cluster.named.first().unwrap();
    assert_eq!((named.to_string().as_str(), named.each.weight), ("shop.test:1", 3));
    assert_eq!(named.each.protocol, UpstreamProtocol::Http2);
}

#[test]
fn lb_14_the_parts_of_the_guide_mean_what_the_guide_says() {
    let guide = include_str!("../../../../docs/guide.md");
    let toml = guide.split("```toml\n[[enforcer.cluster]]").nth(5).unwrap().split("```").next().unwrap();
    let text = format!(
        "{}\n[[enforcer.cluster]]{toml}",
        with(16, "[[enforcer.service]]", "[[enforcer.service]]\nname = \"shop\"\n[[enforcer.service]]")
    );
    let enforcer = read(&text, &[]).unwrap().config.enforcer.unwrap();
    let cluster = enforcer.clusters.iter().find(|cluster| cluster.name == "cart").unwrap();
    let labels: Vec<_> = cluster.written().map(|endpoint| endpoint.labels.to_string()).collect();
    assert_eq!(labels, ["version=1", "version=2"]);
    assert_eq!(cluster.fallback, Fallback::Default(Labels::parse(["version=1"]).unwrap()));
    let shares: Vec<_> = enforcer
        .routes
        .last()
        .unwrap()
        .to
        .iter()
        .map(|share| (share.subset.to_string(), share.weight))
        .collect();
    assert_eq!(shares, [("version=1".to_owned(), 95), ("version=2".to_owned(), 5)]);
}

#[test]
fn lt_13_an_endpoint_on_a_unix_socket_is_plain_and_speaks_what_its_cluster_says() {
    let lines = "[[enforcer.cluster.endpoint]]\naddress = \"unix:///run/shop/app.sock\"\n";
    for (protocol, spoken) in [("", UpstreamProtocol::Http1), ("protocol = \"h2\"", UpstreamProtocol::Http2)]
    {
        let enforcer = read(&cluster_with(protocol, lines), &[]).unwrap().config.enforcer.unwrap();
        let cluster = enforcer.clusters.iter().find(|cluster| cluster.name == "a").unwrap();
        let endpoint = cluster.endpoints.last().unwrap();
        assert_eq!(
            (endpoint.addr.to_string().as_str(), endpoint.protocol),
            ("unix:/run/shop/app.sock", spoken)
        );
        assert!(cluster.tls.is_none());
    }
    let long = lines.replace("shop", &"x".repeat(100));
    assert!(read(&cluster_with("", &long), &[]).is_err(), "longer than the kernel takes");
    assert!(read(&cluster_with("expect = [\"spiffe://example.org\"]", lines), &[]).is_err(), "it is plain");
    let relative = lines.replace("unix:///run", "unix://run");
    assert!(read(&cluster_with("", &relative), &[]).is_err(), "nobody knows from where");
}

fn cluster_with(lines: &str, endpoint: &str) -> String {
    cluster(&format!("{lines}\n{endpoint}"))
}

fn secured(lines: &str) -> String {
    cluster(&format!("endpoints = [\"https://127.0.0.1:1\"]\n{lines}"))
}

#[test]
fn a_cluster_that_says_nothing_has_the_defaults_of_the_data_plane() {
    let text = cluster("endpoints = [\"http://127.0.0.1:1\"]\noutlier = {}");
    let enforcer = read(&text, &[]).unwrap().config.enforcer.unwrap();
    let written = enforcer.clusters.iter().find(|cluster| cluster.name == "a").unwrap();
    let default = enforcer_traffic::ClusterSpec::default();
    assert_eq!((&written.fleet, &written.balance), (&default.fleet, &default.balance));
    assert_eq!(written.connect_timeout, default.connect_timeout);
    assert_eq!(enforcer.routes[1].retry, enforcer_traffic::RetrySettings::default());
    let text = with(28, "to", "to = [\"http://127.0.0.1:1\"]\nretry = {}");
    let enforcer = read(&text, &[]).unwrap().config.enforcer.unwrap();
    assert_eq!(enforcer.routes[1].retry, enforcer_traffic::RetrySettings::default());
    assert_eq!(enforcer.clusters[1].fleet, default.fleet, "the short form has them too");
}

#[test]
fn a_zone_is_the_zone_of_every_cluster_and_outliers_can_be_off() {
    let text = cluster("endpoints = [\"http://127.0.0.1:1\"]\noutlier = { mode = \"off\" }")
        .replace("[enforcer]", "[enforcer]\nzone = \"eu\"");
    let enforcer = read(&text, &[]).unwrap().config.enforcer.unwrap();
    assert!(enforcer.clusters.iter().all(|cluster| cluster.zone.as_deref() == Some("eu")));
    assert!(enforcer.clusters.iter().any(|cluster| cluster.fleet.outlier.is_none()));
}

#[test]
fn lt_06_https_endpoints_speak_http_3_when_the_cluster_says_so_and_unix_sockets_cannot() {
    for (lines, is_required) in [("", false), ("require_h3 = true", true), ("require_h3 = false", false)] {
        let lines = format!("expect = [\"spiffe://example.org\"]\nprotocol = \"h3\"\n{lines}");
        let enforcer = read(&secured(&lines), &[]).unwrap().config.enforcer.unwrap();
        let cluster = enforcer.clusters.iter().find(|cluster| cluster.name == "a").unwrap();
        assert_eq!(cluster.endpoints[0].protocol, UpstreamProtocol::Http3);
        assert_eq!(cluster.requires_h3, is_required);
    }
    let unix = "[[enforcer.cluster.endpoint]]\naddress = \"unix:///run/shop/app.sock\"\n";
    assert!(read(&cluster_with("protocol = \"h3\"", unix), &[]).is_err());
}

#[test]
fn what_has_no_meaning_in_a_cluster_is_refused_where_it_stands() {
    let with_endpoint = |lines: &str| cluster(&format!("endpoints = [\"http://127.0.0.1:1\"]\n{lines}"));
    let mut wrong = Vec::new();
    for (text, place, says) in [
        (
            with(28, "to", "to = [\"http://127.0.0.1:1\"]\nbalancer = \"maglev\""),
            "PC0104 29:12",
            "say which with `hash_by`",
        ),
        (with_endpoint("hash_by = \"source_id\""), "PC0104 32:11", "use maglev, ring_hash or rendezvous"),
        (
            with_endpoint("balancer = \"maglev\"\nhash_by = \"query:q\""),
            "PC0104 33:11",
            "none of header:NAME, cookie:NAME, param:NAME, source_id, source_ip",
        ),
        (with_endpoint("bound_percent = 125"), "PC0104 32:17", "`bound_percent` needs `hash_by`"),
        (with_endpoint("require_h3 = true"), "PC0104 32:14", "needs protocol = \"h3\""),
        (with_endpoint("require_h3 = \"yes\""), "PC0104 32:14", "true or false"),
        (with_endpoint("balancer = \"best\""), "PC0104 32:12", "peak_ewma"),
        (with_endpoint("resolve_to = [\"127.0.0.0/8\"]"), "PC0104 32:14", "for endpoints by name"),
        (
            cluster("endpoints = [\"http://shop.test:1\"]\nresolve_to = [\"127.0.0.1/8\"]"),
            "PC0104 32:14",
            "`127.0.0.1/8` is no network",
        ),
        (cluster("endpoints = [\"http://sh_op:1\"]"), "PC0104 31:14", "NAME:port"),
        (with_endpoint("subset_fallback = \"default\""), "PC0104 32:19", "needs `subset_default`"),
        (with_endpoint("subset_default = [\"a=1\"]"), "PC0104 32:18", "needs subset_fallback"),
        (
            cluster("[[enforcer.cluster.endpoint]]\naddress = \"http://127.0.0.1:1\"\nlabels = [\"v2\"]"),
            "PC0104 33:10",
            "`v2` is no label",
        ),
        (secured("external = true"), "PC0104 31:13", "external endpoints prove one name"),
        (
            secured("external = true\nsni = \"a.example\"\nexpect = [\"spiffe://example.org\"]"),
            "PC0104 34:10",
            "`expect` is for workloads",
        ),
        (
            secured("external = true\nsni = \"a.example\"\nprotocol = \"h3\""),
            "PC0104 34:12",
            "over http1 or h2",
        ),
        (
            secured("expect = [\"spiffe://example.org\"]\nroots = \"r.pem\""),
            "PC0104 33:9",
            "`roots` is for external = true",
        ),
        (with_endpoint("external = true"), "PC0104 32:12", "is for https endpoints"),
        (with_endpoint("max_in_flight = 0"), "PC0104 32:17", "a whole number from 1"),
        (cluster("[[enforcer.cluster.endpoint]]\naddress = \"quic://127.0.0.1:1\""), "PC0104 32:11", "http"),
        (
            with_endpoint("check = { probe = \"http\", path = \"healthz\" }"),
            "PC0104 32:34",
            "no path of a request",
        ),
        (with_endpoint("check = { path = \"/\" }"), "PC0102 32:9", "`probe` is missing"),
        (cluster("[[enforcer.cluster.endpoint]]\nweight = 1"), "PC0102 31:1", "`address` is missing"),
        (
            with(28, "to", "to = [\"http://127.0.0.1:1\"]\nretry = { attempts = 11 }"),
            "PC0104 29:22",
            "a whole number from 0",
        ),
    ] {
        let faults = read(&text, &[]).unwrap_err();
        let shown: Vec<_> = faults.iter().map(|fault| fault.to_string()).collect();
        if !places(&faults).contains(&place.to_owned()) || !shown.join("\n").contains(says) {
            wrong.push(format!("{place} `{says}`: {:?}\n{}", places(&faults), shown.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
