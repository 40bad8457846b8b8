//! Listeners: what their connections carry, the defaults of their profiles, and what does not go together.

use std::time::Duration;

use enforcer_proxy::Carries;

use super::{places, read, with};
use crate::config::meant::{Enforcer, Keys};

/// `GOOD` with more lines of its listener, and `more` after it.
fn listener(lines: &str, more: &str) -> String {
    with(15, "bind", &format!("bind = [\"tcp://127.0.0.1:9443\"]\n{lines}\n{more}"))
}

/// `GOOD` with a second listener `db`, and a route from it to `to`.
fn db(lines: &str, to: &str) -> String {
    let db = "[[enforcer.listener]]\nname = \"db\"\nbind = [\"tcp://127.0.0.1:5432\"]";
    let route = "[[enforcer.route]]\nname = \"db\"\nservice = \"orders\"\nlistener = \"db\"";
    listener("", &format!("{db}\n{lines}\n{route}\nto = [\"{to}\"]"))
}

fn enforcer(text: &str) -> Enforcer {
    read(text, &[]).unwrap_or_else(|faults| panic!("{faults:?}")).config.enforcer.unwrap()
}

#[test]
fn lt_01_a_profile_chooses_defaults_and_nothing_else() {
    let defaults = |lines: &str| {
        let listener = enforcer(&listener(lines, "")).listeners.remove(0);
        (listener.carries, listener.idle_timeout.as_secs(), listener.max_age.as_secs())
    };
    assert_eq!(defaults(""), (Carries::Http, 60, 3_600));
    assert_eq!(defaults("profile = \"mesh\""), (Carries::Http, 900, 86_400));
    assert_eq!(defaults("profile = \"mesh\"\nidle_timeout = \"5s\""), (Carries::Http, 5, 86_400));
    assert_eq!(defaults("protocols = [\"h2\"]"), (Carries::Http2, 60, 3_600));
    assert_eq!(defaults("protocols = [\"http1\"]"), (Carries::Http1, 60, 3_600));
    assert_eq!(defaults("protocols = [\"h2\", \"http1\"]"), (Carries::Http, 60, 3_600));
}

#[test]
fn sc_01_the_sidecar_of_the_guide_means_what_the_guide_says() {
    let guide = include_str!("../../../../docs/guide.md");
    let section = guide.split("## A pair of sidecars").nth(1).unwrap();
    let toml = section.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let enforcer = enforcer(toml);
    assert_eq!(enforcer.workload_api.unwrap().to_str(), Some("/run/portcullis/workload.sock"));
    let told: Vec<_> = enforcer
        .listeners
        .iter()
        .map(|listener| {
            (listener.callers.clone(), listener.is_sidecar, listener.max_connections_per_identity)
        })
        .collect();
    assert_eq!(told, [(Some(vec![1000]), true, 10_000), (None, true, 5_000)]);
    let callers = "callers = [\"unix:uid:1000\"]";
    for (from, to, told) in [
        (callers, "", "needs `callers`"),
        (callers, "callers = [\"unix:user:shop\"]", "no user such as `unix:uid:1000`"),
        (callers, &*format!("{callers}\nclient_auth = \"none\""), "`client_auth` is about TLS"),
        ("sidecar-in\"", &*format!("sidecar-in\"\n{callers}"), "`callers` is for profile"),
        ("tcp://127.0.0.1:15001", "tcp://0.0.0.0:15001", "is for this host"),
        ("tcp://127.0.0.1:15001", "quic://127.0.0.1:15001", "is for this host"),
        ("[policies]", "[ca]\n[policies]", "or from a Workload API"),
        ("workload_api = \"unix:///run/portcullis/workload.sock\"", "", "enforcer.workload_api"),
    ] {
        assert!(toml.contains(from), "{from}");
        let faults = format!("{:?}", read(&toml.replacen(from, to, 1), &[]).unwrap_err());
        assert!(faults.contains(told), "`{to}`: {faults}");
    }
}

#[test]
fn tp_02_a_tcp_listener_and_its_route_to_tcp_endpoints_belong_together() {
    let enforcer = enforcer(&db("profile = \"tcp\"", "tcp://127.0.0.1:5433"));
    let listener = &enforcer.listeners[1];
    assert_eq!(listener.carries, Carries::Bytes);
    assert_eq!(
        (listener.idle_timeout, listener.max_age),
        (Duration::from_secs(3_600), Duration::from_secs(86_400))
    );
    for (text, place, told) in [
        (db("", "tcp://127.0.0.1:5433"), "PC0104 24:12", "profile = \"tcp\""),
        (
            db("profile = \"tcp\"", "http://127.0.0.1:5433"),
            "PC0104 24:12",
            "its routes need tcp:// endpoints",
        ),
        (
            db("profile = \"tcp\"", "tcp://127.0.0.1:5433")
                .replace("listener = \"db\"", "match = { path = \"/a\" }"),
            "PC0104 18:8",
            "no route takes the connections of `db`",
        ),
        (
            db("profile = \"tcp\"", "tcp://127.0.0.1:5433")
                .replace("listener = \"db\"", "listener = \"db\"\nmatch = { path = \"/a\" }"),
            "PC0104 26:6",
            "nothing of http",
        ),
        (
            db("profile = \"tcp\"\nprotocols = [\"h2\"]", "tcp://127.0.0.1:5433"),
            "PC0104 21:13",
            "leave `protocols` out",
        ),
        (db("protocols = [\"h2\", \"tcp\"]", "tcp://127.0.0.1:5433"), "PC0104 20:13", "stands alone"),
        (db("protocols = []", "http://127.0.0.1:5433"), "PC0104 20:13", "names none"),
        (db("protocols = [\"udp\"]", "http://127.0.0.1:5433"), "PC0104 20:14", "one of http1, h2, tcp"),
        (db("profile = \"sidecar\"", "http://127.0.0.1:5433"), "PC0104 20:11", "one of edge, mesh, tcp"),
        (
            db("profile = \"tcp\"", "tcp://127.0.0.1:5433")
                .replace("5432\"]", "5432\", \"quic://127.0.0.1:5432\"]"),
            "PC0104 19:8",
            "quic:// is HTTP/3",
        ),
    ] {
        let faults = read(&text, &[]).map(|_| ()).unwrap_err();
        assert!(places(&faults).contains(&place.to_owned()), "{place}: {faults:#?}");
        assert!(faults.iter().any(|fault| fault.to_string().contains(told)), "{told}: {faults:#?}");
    }
}

#[test]
fn the_tcp_listener_of_the_guide_means_what_the_guide_says() {
    let guide = include_str!("../../../../docs/guide.md");
    let toml = guide
        .split("```toml\n[[enforcer.listener]]\nname = \"db\"")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let enforcer = enforcer(&listener("", &format!("[[enforcer.listener]]\nname = \"db\"{toml}")));
    let (listener, route) =
        (&enforcer.listeners[1], enforcer.routes.iter().find(|route| route.name == "db").unwrap());
    assert_eq!((listener.carries, listener.bind[0].port()), (Carries::Bytes, 5432));
    assert_eq!((route.service.as_str(), route.listener.as_deref()), ("postgres", Some("db")));
}

#[test]
fn px_01_who_may_forward_is_said_where_it_is_asked_for() {
    let text = listener("proxy_protocol = \"require\"\ntrusted_forwarders = [\"10.0.0.0/24\", \"::1\"]", "");
    let networks: Vec<_> = enforcer(&text).listeners[0].forwarders.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/24", "::1/128"]);
    let tcp =
        "[[enforcer.cluster]]\nname = \"c\"\nendpoints = [\"tcp://127.0.0.1:1\"]\nproxy_protocol = \"v2\"";
    assert!(enforcer(&listener("", tcp)).clusters.iter().any(|cluster| cluster.tells_caller));
    for (text, place, told) in [
        (listener("proxy_protocol = \"require\"", ""), "PC0104 16:18", "needs `trusted_forwarders`"),
        (listener("trusted_forwarders = [\"10.0.0.1\"]", ""), "PC0104 16:22", "says nothing without"),
        (
            listener("proxy_protocol = \"require\"\ntrusted_forwarders = [\"spiffe://a/b\"]", ""),
            "PC0104 17:22",
            "`spiffe://a/b` is no network",
        ),
        (
            listener("proxy_protocol = \"require\"\ntrusted_forwarders = [\"10.0.0.1/8\"]", ""),
            "PC0104 17:22",
            "`10.0.0.1/8` is no network",
        ),
        (listener("", &tcp.replace("tcp://", "http://")), "PC0104 20:18", "is for tcp:// endpoints"),
        (listener("proxy_protocol = \"v3\"", ""), "PC0104 16:18", "one of off, require"),
    ] {
        let faults = read(&text, &[]).map(|_| ()).unwrap_err();
        assert!(places(&faults).contains(&place.to_owned()), "{place}: {faults:#?}");
        assert!(faults.iter().any(|fault| fault.to_string().contains(told)), "{told}: {faults:#?}");
    }
}

#[test]
fn tl_07_certificates_need_to_be_told_from_the_own_svid() {
    let certificate = "[[enforcer.listener.certificate]]\nchain = \"./a.pem\"\nkey = \"./a.key\"";
    let listener_of = |lines: &str| enforcer(&listener(lines, certificate)).listeners.remove(0);
    let files = listener_of("hosts = [\"own.test\"]").certificates;
    assert_eq!(files, [("/etc/portcullis/./a.pem".into(), "/etc/portcullis/./a.key".into())]);
    let faults = read(&listener("", certificate), &[]).map(|_| ()).unwrap_err();
    assert!(faults[0].to_string().contains("needs `hosts`"), "{faults:#?}");
    let faults = read(&listener("hosts = [\"own.test\"]", &certificate.replace("key =", "kee =")), &[]);
    assert!(faults.map(|_| ()).unwrap_err()[0].to_string().contains("did you mean `key`?"));
}

#[test]
fn mo5_an_issuer_is_believed_as_the_guide_says_and_not_without_an_audience() {
    let guide = include_str!("../../../../docs/guide.md");
    let section = guide.split("### People as callers").nth(1).unwrap();
    let toml = section.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let (issuer, lines) = toml.split_once("[[enforcer.listener]]").unwrap();
    let lines: Vec<&str> =
        lines.lines().filter(|line| line.contains("issuers") || line.contains("client_auth")).collect();
    let enforcer = enforcer(&listener(&lines.join("\n"), issuer));
    let meant = &enforcer.issuers[0];
    assert_eq!((meant.believed.name.as_str(), meant.believed.passes_on), ("corp", true));
    assert_eq!((meant.believed.groups_claim.as_str(), &meant.keys), ("groups", &Keys::Discovery));
    assert_eq!(enforcer.listeners[0].issuers, ["corp"]);
    let corp = "[[enforcer.issuer]]\nname = \"corp\"\nurl = \"https://id.test\"\naudience = [\"shop\"]\n";
    for (lines, issuer, told) in [
        ("", corp.replace("corp", "Corp"), "`Corp` is no alias"),
        ("", corp.replace("\"shop\"", ""), "tokens for anybody would be taken"),
        ("", corp.replace("https", "http"), "`http://id.test` is no https URL"),
        ("", format!("{corp}jwks_url = \"http://id.test/keys\""), "`http://id.test/keys` is no https URL"),
        ("", format!("{corp}jwks_url = \"https://id.test\"\njwks_file = \"keys\""), "not from both"),
        ("", format!("{corp}jwks_file = \"keys\"\nroots = \"roots\""), "a file has no server"),
        ("issuers = [\"cop\"]", corp.to_owned(), "did you mean `corp`?"),
        ("issuers = [\"corp\"]", String::new(), "issuers are none"),
        ("profile = \"tcp\"\nissuers = [\"corp\"]", corp.to_owned(), "this listener carries bytes"),
        ("", format!("{corp}{corp}"), "issuer `corp` is defined twice"),
    ] {
        let faults = read(&listener(lines, &issuer), &[]).map(|_| ()).unwrap_err();
        assert!(faults.iter().any(|fault| fault.to_string().contains(told)), "{told}: {faults:#?}");
    }
}

#[test]
fn lt_13_a_unix_socket_is_an_address_like_others() {
    let bind = |more: &str| with(15, "bind", &format!("bind = [\"tcp://127.0.0.1:9443\", {more}]"));
    let paths = enforcer(&bind("\"unix:///run/a.sock\"")).listeners.remove(0).sockets;
    assert_eq!(paths, [std::path::PathBuf::from("/run/a.sock")]);
    for (text, told) in [
        (bind("\"unix:///run/a.sock\", \"unix:///run/a.sock\""), "bound twice"),
        (bind("\"unix://run/a.sock\""), "not an absolute path"),
        (bind(&format!("\"unix:///{}\"", "x".repeat(200))), "the kernel takes"),
        (
            bind("\"unix:///run/a.sock\"").replace(
                "sock\"]",
                "sock\"]\nproxy_protocol = \"require\"\ntrusted_forwarders = [\"10.0.0.1\"]",
            ),
            "is for tcp:// addresses",
        ),
    ] {
        let faults = read(&text, &[]).map(|_| ()).unwrap_err();
        assert!(faults.iter().any(|fault| fault.to_string().contains(told)), "{told}: {faults:#?}");
    }
}

#[test]
fn cf4_a_name_or_an_address_of_two_listeners_is_told_with_both_places() {
    let twice = |name: &str, bind: &str| {
        let text = listener("", &format!("[[enforcer.listener]]\nname = \"{name}\"\nbind = [\"{bind}\"]"));
        let faults = read(&text, &[]).map(|_| ()).unwrap_err();
        (places(&faults), faults[0].to_string())
    };
    let (place, text) = twice("second", "tcp://127.0.0.1:9443");
    assert_eq!(place, ["PC0106 19:8"]);
    assert!(text.contains("bound twice") && text.contains("the first one is in line 15"), "{text}");
    let (place, text) = twice("public", "tcp://127.0.0.1:9444");
    assert_eq!(place, ["PC0106 18:8"]);
    assert!(text.contains("defined twice") && text.contains("the first one is in line 14"), "{text}");
}
