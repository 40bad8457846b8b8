//! Several listeners in one process: HTTP beside connections that carry no HTTP, each judged and on record.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tests::bytes::Bytes;
use tests::peers::{missing, missing_module};
use tests::port::free_port;
use tests::upstream::Upstream;
use tests::{Gateway, Result, Script, check};

use crate::certificates::{asked, make, section};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("lt_01_one_process_serves_http_and_tcp_by_one_set_of_policies", missing("curl"), both),
        trial("lt_14_dt_05_one_port_takes_http_and_what_is_none", missing("curl"), mixed),
        trial("px_02_a_forwarder_tells_who_calls_and_the_endpoint_hears_it", None, forwarded),
        trial("lt_13_a_unix_socket_is_a_listener_under_tls_all_the_same", missing("curl"), unix),
        trial("lt_13_an_endpoint_on_a_unix_socket_takes_calls_and_checks", missing("curl"), unix_endpoint),
        trial(
            "tl_07_a_certificate_is_chosen_by_name_and_its_calls_are_for_its_names",
            missing("openssl"),
            named,
        ),
        trial("cn_01_a_tunnel_opens_to_what_the_route_lists_and_nowhere_else", None, tunnel),
        trial("cn_01_a_stream_of_http_2_becomes_a_tunnel", missing_module("h2"), tunnel_over_http2),
        trial("tp_02_a_connection_ends_within_a_second_of_its_permit", None, ended),
    ]
}

const PATIENCE: Duration = Duration::from_secs(20);

/// Permits these actions to `web`.
fn policy(id: &str, action: &str, resource: &str) -> String {
    format!(
        "@id(\"{id}\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"{action}\", resource == {resource});\n"
    )
}

/// A listener for connections that carry no HTTP, and its route.
fn carrier(name: &str, port: u16, service: &str, to: &Bytes) -> String {
    format!(
        "[[enforcer.listener]]\nname = \"{name}\"\nbind = [\"tcp://127.0.0.1:{port}\"]\nprofile = \"tcp\"\n\
         [[enforcer.service]]\nname = \"{service}\"\n\
         [[enforcer.route]]\nname = \"{name}\"\nservice = \"{service}\"\nlistener = \"{name}\"\nto = [\"tcp://{}\"]\n",
        to.address
    )
}

fn both() -> Result {
    let (web, echo, mail) = (Upstream::echo(), Bytes::start(""), Bytes::start("220 mail.test\r\n"));
    let (db, smtp) = (free_port(), free_port());
    let permits = [
        policy("read", "http:GET", "Route::\"site\""),
        policy("db", "tcp:connect", "Service::\"db\""),
        "@id(\"smtp\")\npermit (principal, action == Action::\"tcp:connect\", resource == Service::\"mail\")\nwhen { context.connection.listener == \"smtp\" && context.connection has sni && context.connection.sni == \"localhost\" };\n".into(),
    ];
    let gateway = Gateway::build()
        .policy(&permits.concat())
        .site(web.address)
        .section(&carrier("db", db, "db", &echo))
        .section(&carrier("smtp", smtp, "mail", &mail))
        .start()?;
    let tls = gateway.identity()?;
    let shown = tls.display().to_string();
    let (status, _) = gateway.curl(&tls, "/hello", &[])?;
    check!(status == 200, "http beside tcp: {status}");
    let said = Script::run("tls_client", &[&db.to_string(), &shown, "echo", "1", "70000", "3000000"])?;
    check!(said.len() == 3 && said.iter().all(|line| line["same"] == true), "{said:?}");
    let said = Script::run("tls_client", &[&smtp.to_string(), &shown, "greeting"])?;
    let after = said[0]["after"].as_f64().unwrap_or(9.0);
    check!(said[0]["heard"] == "220 mail.test\r\n" && after < 0.4, "a server that speaks first: {said:?}");

    let recorded = gateway.decisions(&["--effect", "allow", "--action", "tcp:connect"])?;
    check!(recorded.len() == 2, "{recorded:?}");
    let (of_mail, of_db) = (&recorded[0], &recorded[1]);
    check!(of_mail["determining"][0] == "smtp" && of_db["determining"][0] == "db", "{recorded:?}");
    check!(of_db["resource"].to_string().contains("db"), "resource: {of_db}");
    check!(of_db.to_string().contains("\"listener\":\"db\""), "listener: {of_db}");
    let (_, metrics) = gateway.http("/metrics")?;
    for series in [
        "portcullis_requests_total{protocol=\"tcp\",route=\"db\",code=\"200\"} 1",
        "portcullis_requests_total{protocol=\"tcp\",route=\"smtp\",code=\"200\"} 1",
        "portcullis_connections{listener=\"public\"",
        "portcullis_connections{listener=\"smtp\"",
    ] {
        check!(metrics.contains(series), "no {series} in\n{metrics}");
    }
    let found = gateway.json(&["route", "test", "TCP", "localhost", "--listener", "smtp"])?;
    check!(found["found"]["route"] == "smtp" && found.to_string().contains("Service::"), "{found}");
    let plain = std::process::Command::new("curl")
        .args(["-sS", &format!("http://localhost:{}/", gateway.address.port())])
        .output()?;
    let plain = String::from_utf8_lossy(&plain.stdout).into_owned();
    check!(plain.contains("tls_required"), "plain http on a port with TLS: {plain}");
    let told = gateway.json(&["status"])?.to_string();
    check!(told.contains(&format!("tcp://127.0.0.1:{db}")), "status: {told}");
    Ok(())
}

fn mixed() -> Result {
    let (web, mail) = (Upstream::echo(), Bytes::start("220 mail.test\r\n"));
    let policy = "@id(\"all\")\npermit (principal == Workload::\"spiffe://example.org/web\", action in Action::\"call\", resource);\n";
    let gateway = Gateway::build()
        .policy(policy)
        .listener("protocols = [\"http1\", \"h2\", \"tcp\"]")
        .site(web.address)
        .section(&format!(
            "[[enforcer.service]]\nname = \"mail\"\n[[enforcer.route]]\nname = \"mail\"\nservice = \"mail\"\nlistener = \"public\"\nto = [\"tcp://{}\"]",
            mail.address
        ))
        .start()?;
    let tls = gateway.identity()?;
    for version in ["--http1.1", "--http2", "--no-alpn"] {
        let (status, body) = gateway.curl(&tls, "/hello", &[version, "--data-binary", "hi"])?;
        check!(status == 200 && body.ends_with("hi"), "{version}: {status} {body}");
    }
    let (port, shown) = (gateway.address.port().to_string(), tls.display().to_string());
    let said = Script::run("tls_client", &[&port, &shown, "greeting"])?;
    let after = said[0]["after"].as_f64().unwrap_or(9.0);
    check!(said[0]["heard"] == "220 mail.test\r\n" && after < 0.4, "a server that speaks first: {said:?}");
    let recorded = gateway.decisions(&["--effect", "allow"])?;
    let calls = recorded.iter().filter(|one| one["action"] == "http:POST").count();
    let opened = recorded.iter().filter(|one| one["action"] == "tcp:connect").count();
    check!((calls, opened) == (3, 1), "{recorded:?}");
    let (_, metrics) = gateway.http("/metrics")?;
    for series in
        ["portcullis_detect_total{result=\"http1\"} 1", "portcullis_detect_total{result=\"silence\"} 1"]
    {
        check!(metrics.contains(series), "no {series} in\n{metrics}");
    }
    check!(metrics.contains("portcullis_detect_stall_seconds"), "{metrics}");
    Ok(())
}

fn ended() -> Result {
    let (echo, port) = (Bytes::start(""), free_port());
    let gateway = Gateway::build()
        .policy(&policy("db", "tcp:connect", "Service::\"db\""))
        .section(&carrier("db", port, "db", &echo))
        .start()?;
    let tls = gateway.identity()?.display().to_string();
    let port = port.to_string();
    let mut held = Script::start("tls_client", &[&port, &tls, "hold"])?;
    check!(held.next(PATIENCE)?["open"] == true, "not open");
    gateway.publish("web.cedar", &policy("db", "tcp:connect", "Service::\"other\""))?;
    let in_force = Instant::now();
    let end = held.next(Duration::from_secs(5))?;
    let took = in_force.elapsed();
    check!(end["left"] == 0 && took < Duration::from_secs(1), "{end} after {took:?}");
    let recorded = gateway.decisions(&["--reason", "revoked_by_change"])?;
    check!(recorded.len() == 1 && recorded[0]["action"] == "tcp:connect", "{recorded:?}");

    let before = echo.connections();
    let said = Script::run("tls_client", &[&port, &tls, "greeting"])?;
    check!(said[0]["heard"] == "", "a byte of a connection that is denied: {said:?}");
    check!(echo.connections() == before, "dialled for a caller that is denied");
    let denied = gateway.decisions(&["--effect", "deny", "--reason", "no_permit"])?;
    check!(denied.len() == 1, "{denied:?}");
    let id = denied[0]["id"].as_str().ok_or("no id")?;
    let suggested = gateway.json(&["policy", "suggest", id])?;
    gateway.publish("suggested.cedar", suggested["policy"].as_str().ok_or("no policy")?)?;
    let said = Script::run("tls_client", &[&port, &tls, "echo", "5"])?;
    check!(said[0]["same"] == true, "the suggested policy does not permit it: {said:?}\n{suggested}");
    Ok(())
}

/// A gateway whose caller may open tunnels to these targets.
fn opening(targets: &str) -> Result<Gateway> {
    Gateway::build()
        .policy("@id(\"out\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"http:CONNECT\", resource == Route::\"out\")\nwhen { context.request.method == \"CONNECT\" };\n")
        .service("egress", &[])
        .section(&format!(
            "[[enforcer.route]]\nname = \"out\"\nservice = \"egress\"\nconnect = [{targets}]\n"
        ))
        .start()
}

fn tunnel_over_http2() -> Result {
    let echo = Bytes::start("");
    let open = echo.address.to_string();
    let gateway = opening(&format!("\"{open}\""))?;
    let (address, tls) = (gateway.address.to_string(), gateway.identity()?.display().to_string());
    let said = Script::run("h2_tunnel", &[&address, &tls, "connect", &open, "1", "70000", "1000000"])?;
    check!(said[0]["status"] == 200 && said[1]["echoes"] == 3 && said[2]["ended"] == "end", "{said:?}");
    let unlisted = Script::run("h2_tunnel", &[&address, &tls, "connect", "127.0.0.1:22", "1"])?;
    check!(unlisted[0]["status"] == 404, "a target that no route lists: {unlisted:?}");
    check!(echo.connections() == 1, "{} connections", echo.connections());
    Ok(())
}

fn tunnel() -> Result {
    let (echo, port) = (Bytes::start(""), free_port());
    let open = echo.address.to_string();
    let gateway = opening(&format!("\"{open}\", \"localhost:{port}\""))?;
    let tls = gateway.identity()?.display().to_string();
    let listener = gateway.address.port().to_string();
    let said = Script::run("tls_client", &[&listener, &tls, "connect", &open])?;
    check!(said[0]["status"] == 200 && said[1]["same"] == true, "{said:?}");
    let barred = Script::run("tls_client", &[&listener, &tls, "connect", &format!("localhost:{port}")])?;
    check!(barred[0]["status"] == 403, "a name that leads to this machine: {barred:?}");
    let unlisted = Script::run("tls_client", &[&listener, &tls, "connect", "127.0.0.1:22"])?;
    check!(unlisted[0]["status"] == 404, "a target that no route lists: {unlisted:?}");
    check!(echo.connections() == 1, "{} connections", echo.connections());
    let found = gateway.json(&["route", "test", "CONNECT", &open])?;
    check!(found["found"]["route"] == "out", "{found}");
    let recorded = gateway.decisions(&["--action", "http:CONNECT", "--effect", "allow"])?;
    check!(recorded.len() == 2 && recorded[1]["request"]["host"] == open.as_str(), "{recorded:?}");
    Ok(())
}

fn forwarded() -> Result {
    let (origin, port) = (Bytes::start("hello"), free_port());
    let section = carrier("db", port, "db", &origin)
        .replace(
            "profile = \"tcp\"",
            "profile = \"tcp\"\nproxy_protocol = \"require\"\ntrusted_forwarders = [\"127.0.0.1\"]",
        )
        .replace(&format!("to = [\"tcp://{}\"]", origin.address), "cluster = \"db\"");
    let gateway = Gateway::build()
        .policy("@id(\"there\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"tcp:connect\", resource)\nwhen { context.connection.source_ip.isInRange(ip(\"203.0.113.0/24\")) };\n")
        .section(&section)
        .section(&format!(
            "[[enforcer.cluster]]\nname = \"db\"\nendpoints = [\"tcp://{}\"]\nproxy_protocol = \"v2\"\n",
            origin.address
        ))
        .start()?;
    let tls = gateway.identity()?.display().to_string();
    let port = port.to_string();
    let told = |source: &str| format!("PROXY TCP4 {source} 198.51.100.1 1111 443");
    let said = Script::run("tls_client", &[&port, &tls, "proxy", &told("203.0.113.7")])?;
    check!(said[0]["heard"].as_str().is_some_and(|heard| heard.starts_with("hello")), "{said:?}");
    let said = Script::run("tls_client", &[&port, &tls, "proxy", &told("203.0.114.7")])?;
    check!(said[0]["heard"] == "", "another source: {said:?}");
    let said = Script::run("tls_client", &[&port, &tls, "greeting"])?;
    check!(said[0]["failed"].is_string(), "a connection without header: {said:?}");
    let recorded = gateway.decisions(&["--action", "tcp:connect"])?;
    check!(recorded.len() == 2, "{recorded:?}");
    check!(recorded[1].to_string().contains("203.0.113.7"), "source: {}", recorded[1]);
    Ok(())
}

fn unix_endpoint() -> Result {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir()?;
    let path = dir.path().join("app.sock");
    let gateway = Gateway::build()
        .service("site", &[])
        .section(&format!(
            "[[enforcer.cluster]]\nname = \"app\"\nendpoints = [\"unix://{0}\"]\n[enforcer.cluster.check]\nprobe = \"http\"\n\
             [[enforcer.route]]\nname = \"app\"\nservice = \"site\"\nmatch = {{ path = \"/app\" }}\ncluster = \"app\"\n\
             [[enforcer.route]]\nname = \"short\"\nservice = \"site\"\nmatch = {{ path = \"/short\" }}\nto = [\"unix://{0}\"]",
            path.display()
        ))
        .start()?;
    let tls = gateway.identity()?;
    let (status, _) = gateway.curl(&tls, "/app", &[])?;
    check!(status == 503, "nobody listens yet: {status}");
    set_permissions(dir.path(), Permissions::from_mode(0o777))?;
    let origin = Upstream::echo_on(&path);
    let (status, _) = gateway.curl(&tls, "/short", &[])?;
    check!(status == 503 && origin.calls() == 0, "dialled where anybody could have put the socket: {status}");
    set_permissions(dir.path(), Permissions::from_mode(0o700))?;
    let end = Instant::now() + PATIENCE;
    while origin.calls() == 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    check!(origin.calls() > 0, "no check arrives");
    for path in ["/app", "/short"] {
        let (status, body) = gateway.curl(&tls, path, &["--data-binary", "hello"])?;
        check!(
            status == 200 && body.ends_with("hello") && body.contains("host: localhost"),
            "{status} {body}"
        );
    }
    let (_, metrics) = gateway.http("/metrics")?;
    check!(metrics.contains(&format!("endpoint=\"unix:{}\"", path.display())), "{metrics}");
    Ok(())
}

fn unix() -> Result {
    let upstream = Upstream::echo();
    let home = tempfile::tempdir()?;
    let socket = home.path().join("gateway.sock");
    let gateway = Gateway::build()
        .site(upstream.address)
        .section(&format!(
            "[[enforcer.listener]]\nname = \"local\"\nbind = [\"unix://{}\"]\n",
            socket.display()
        ))
        .start()?;
    let tls = gateway.identity()?;
    let shown = socket.display().to_string();
    for version in ["--http1.1", "--http2"] {
        let (status, body) = gateway.curl(&tls, "/hello", &["--unix-socket", &shown, version])?;
        check!(
            status == 200 && body.contains("portcullis-peer: spiffe://example.org/web"),
            "{status} {body}"
        );
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&socket)?.permissions().mode() & 0o777;
    check!(mode == 0o660, "mode {mode:o}");
    let recorded = gateway.decisions(&["--action", "http:GET"])?;
    check!(recorded.len() == 2 && recorded[0].to_string().contains("\"listener\":\"local\""), "{recorded:?}");
    let told = gateway.json(&["status"])?.to_string();
    check!(told.contains(&format!("unix://{shown}")), "status: {told}");
    Ok(())
}

fn named() -> Result {
    let upstream = Upstream::echo();
    let home = tempfile::tempdir()?;
    let chain = home.path().join("shop.pem");
    make(home.path(), "shop", "DNS:shop.test,DNS:*.api.test")?;
    let certificate = format!("hosts = [\"localhost\"]\n{}", section(home.path(), "shop"));
    let gateway = Gateway::build().site(upstream.address).listener(&certificate).start()?;
    let tls = gateway.identity()?;
    let own = tls.join("bundle.pem");
    for (name, host, roots, status) in [
        ("shop.test", "shop.test", &chain, "200"),
        ("a.api.test", "a.api.test", &chain, "200"),
        ("localhost", "localhost", &own, "200"),
        ("shop.test", "localhost", &chain, "421"),
        ("localhost", "shop.test", &own, "421"),
        ("shop.test", "shop.test", &own, "000"),
    ] {
        let told = asked(&gateway, &tls, name, Some(host), roots)?;
        check!(told == status, "{host} to {name}: {told}, not {status}");
    }
    let recorded = gateway.decisions(&["--reason", "authority_mismatch"])?;
    check!(recorded.len() == 2, "{recorded:?}");
    Ok(())
}
