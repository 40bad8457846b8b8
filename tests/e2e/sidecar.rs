//! A pair of sidecars: an application that knows no TLS calls its own gateway, which calls the gateway of the other
//! application as this workload. Both judge, both record, and the kernel says who the application is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tests::bytes::Bytes;
use tests::gateway::Gateway;
use tests::peers::{missing, missing_module, missing_users};
use tests::port::free_port;
use tests::upstream::Upstream;
use tests::{Result, Script, check, own_uid};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("sc_01_an_application_calls_through_the_pair_under_its_own_identity", missing("curl"), http),
        trial("sc_02_grpc_goes_through_the_pair", missing_module("grpc"), grpc),
        trial("sc_02_the_pair_speaks_http_3_when_its_cluster_says_so", missing("curl"), over_http_3),
        trial("sc_03_bytes_go_through_the_pair_to_the_application_as_they_are", None, bytes),
        trial("sc_03_a_pair_is_ready_when_the_application_listens", None, readiness),
        trial("out4_a_process_of_another_user_is_refused_and_on_record", missing_users(), stranger),
        trial("sc_05_a_call_that_comes_back_is_508", missing("curl"), circle),
        trial("sc_04_calls_wait_until_the_identity_is_there", missing("curl"), held),
    ]
}

const PATIENCE: Duration = Duration::from_secs(20);
const SHOP: &str = "spiffe://example.org/shop";
const PERMIT: &str = "@id(\"shop\")\npermit (principal == Workload::\"spiffe://example.org/shop\", action in Action::\"call\", resource);\n";

/// The gateways of the application that calls and of the one that is called.
struct Pair {
    outer: Gateway,
    inner: Gateway,
    /// Where the application calls.
    out: u16,
    /// Where it opens connections that carry no HTTP.
    out_bytes: u16,
}

/// What the called application consists of.
struct Application {
    http: String,
    grpc: String,
    bytes: String,
    /// Takes connections where nothing else of it does: without them the pair is not ready.
    _spare: Arc<TcpListener>,
}

impl Application {
    /// One that answers nothing.
    fn none() -> Self {
        let spare = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let silent = spare.local_addr().expect("its address");
        Self {
            http: format!("http://{silent}"),
            grpc: format!("h2c://{silent}"),
            bytes: format!("tcp://{silent}"),
            _spare: Arc::new(spare),
        }
    }
}

impl Pair {
    fn start(application: &Application, outer_policy: &str, inner_policy: &str) -> Result<Self> {
        Self::over("h2", application, outer_policy, inner_policy)
    }

    /// What the gateways speak with each other is `protocol`.
    fn over(
        protocol: &str,
        application: &Application,
        outer_policy: &str,
        inner_policy: &str,
    ) -> Result<Self> {
        let uid = own_uid();
        let (in_bytes, out, out_bytes) = (free_port(), free_port(), free_port());
        let inner = Gateway::build()
            .policy(inner_policy)
            .entries(&format!("[[ca.entry]]\nspiffe_id = \"{SHOP}\"\nselectors = [\"unix:uid:{uid}\"]\n"))
            .listener("profile = \"sidecar-in\"")
            .quic()
            .service("orders", &["shop.Orders/Get", "shop.Orders/Chat"])
            .route("site", "orders", "{ path = \"/\" }", &application.http)
            .route("rpc", "orders", "{ grpc = \"shop.Orders/*\" }", &application.grpc)
            .section(&format!(
                "[[enforcer.listener]]\nname = \"bytes\"\nbind = [\"tcp://127.0.0.1:{in_bytes}\"]\nprofile = \"sidecar-in\"\nprotocols = [\"tcp\"]\n\
                 [[enforcer.service]]\nname = \"db\"\n\
                 [[enforcer.route]]\nname = \"db\"\nservice = \"db\"\nlistener = \"bytes\"\nto = [\"{}\"]\n",
                application.bytes
            ))
            .start()?;
        let ports = (in_bytes, out, out_bytes);
        let outer = Self::outer(protocol, &inner, outer_policy, ports).start()?;
        Ok(Self { outer, inner, out, out_bytes })
    }

    fn outer(
        protocol: &str,
        inner: &Gateway,
        policy: &str,
        (in_bytes, out, out_bytes): (u16, u16, u16),
    ) -> tests::gateway::Builder {
        let uid = own_uid();
        let listener = |name: &str, port: u16, more: &str| {
            format!(
                "[[enforcer.listener]]\nname = \"{name}\"\nbind = [\"tcp://127.0.0.1:{port}\"]\nprofile = \"sidecar-out\"\ncallers = [\"unix:uid:{uid}\"]\n{more}\n"
            )
        };
        let expect = "expect = [\"spiffe://example.org/gateway\"]";
        Gateway::build()
            .identity_of(inner, SHOP)
            .policy(policy)
            .service("orders", &["shop.Orders/Get", "shop.Orders/Chat"])
            .section(&listener("out", out, ""))
            .section(&listener("out-bytes", out_bytes, "protocols = [\"tcp\"]"))
            .section(&format!(
                "[[enforcer.cluster]]\nname = \"orders\"\nendpoints = [\"https://{}\"]\nprotocol = \"{protocol}\"\n{expect}\n\
                 [[enforcer.cluster]]\nname = \"db\"\nendpoints = [\"https://127.0.0.1:{in_bytes}\"]\nprotocol = \"tcp\"\n{expect}\n\
                 [[enforcer.service]]\nname = \"db\"\n\
                 [[enforcer.route]]\nname = \"site\"\nservice = \"orders\"\nmatch = {{ path = \"/\" }}\ncluster = \"orders\"\n\
                 [[enforcer.route]]\nname = \"rpc\"\nservice = \"orders\"\nmatch = {{ grpc = \"shop.Orders/*\" }}\ncluster = \"orders\"\n\
                 [[enforcer.route]]\nname = \"circle\"\nservice = \"orders\"\nmatch = {{ path = \"/circle\" }}\nto = [\"http://127.0.0.1:{out}\"]\n\
                 [[enforcer.route]]\nname = \"db\"\nservice = \"db\"\nlistener = \"out-bytes\"\ncluster = \"db\"",
                inner.address
            ))
    }
}

/// An application's plain call: status and body.
fn call(port: u16, path: &str, arguments: &[&str], uid: Option<u32>) -> Result<(u16, String)> {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "10", "-w", "\n%{http_code}"]).args(arguments);
    curl.arg(format!("http://127.0.0.1:{port}{path}"));
    if let Some(uid) = uid {
        curl.uid(uid);
    }
    let output = curl.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').ok_or("curl printed nothing")?;
    Ok((status.parse()?, body.to_owned()))
}

fn http() -> Result {
    let web = Upstream::echo();
    let application = Application { http: format!("http://{}", web.address), ..Application::none() };
    let outer_policy = format!(
        "{PERMIT}@id(\"no-secret\")\nforbid (principal, action, resource) when {{ context has request && context.request.path == \"/kept\" }};\n"
    );
    let inner_policy = format!(
        "{PERMIT}@id(\"no-inner\")\nforbid (principal, action, resource) when {{ context has request && context.request.path == \"/inner\" }};\n"
    );
    let pair = Pair::start(&application, &outer_policy, &inner_policy)?;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let spoofed = ["-H", "portcullis-peer: spiffe://example.org/boss", "--data-binary", "hello", version];
        let (status, body) = call(pair.out, "/orders?x=1", &spoofed, None)?;
        check!(status == 200 && body.ends_with("hello"), "{version}: {status} {body}\n{}", pair.outer.log());
        check!(body.starts_with("POST /orders?x=1 HTTP/1.1"), "host and path are kept: {body}");
        check!(body.contains(&format!("host: 127.0.0.1:{}", pair.out)), "{body}");
        check!(body.contains("portcullis-peer: spiffe://example.org/shop\r\n"), "{body}");
        check!(!body.contains("boss"), "a spoofed identity arrived: {body}");
    }
    let (status, _) = call(pair.out, "/kept", &[], None)?;
    check!(status == 403, "denied at the caller's side: {status}");
    let (status, _) = call(pair.out, "/inner", &[], None)?;
    check!(status == 403, "denied at the called side: {status}");
    check!(web.calls() == 2, "{} calls arrived", web.calls());
    let of =
        |gateway: &Gateway, effect: &str| gateway.decisions(&["--effect", effect, "--action", "http:GET"]);
    let (kept, asked) = (of(&pair.outer, "deny")?, of(&pair.outer, "allow")?);
    check!(kept.len() == 1 && kept[0]["determining"][0] == "no-secret", "{kept:?}");
    check!(asked.len() == 1 && asked[0]["request"]["path"] == "/inner", "{asked:?}");
    check!(asked[0].to_string().contains("\"listener\":\"out\""), "{asked:?}");
    check!(asked[0].to_string().contains("\"local\""), "the kind of credential: {asked:?}");
    let inner = of(&pair.inner, "deny")?;
    check!(inner.len() == 1 && inner[0]["determining"][0] == "no-inner", "{inner:?}");
    check!(inner[0].to_string().contains(SHOP), "{inner:?}");
    let garbage = {
        let mut stream = TcpStream::connect(("127.0.0.1", pair.out))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"\x16\x03\x01garbage\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        answer
    };
    check!(garbage.starts_with("HTTP/1.1 400"), "what is no http is refused: {garbage}");
    Ok(())
}

fn grpc() -> Result {
    let mut server = Script::start("grpc_server", &[])?;
    let port = server.next(PATIENCE)?["port"].as_u64().ok_or("no port")?;
    let application = Application { grpc: format!("h2c://127.0.0.1:{port}"), ..Application::none() };
    let pair = Pair::start(&application, PERMIT, PERMIT)?;
    let address = format!("127.0.0.1:{}", pair.out);
    let said = Script::run("grpc_client", &[&address, "plain", "unary", "/shop.Orders/Get", "10", "7"])?;
    check!(
        said[0]["code"] == "OK" && said[0].to_string().contains("order 7"),
        "{said:?}\n{}",
        pair.outer.log()
    );
    let said = Script::run("grpc_client", &[&address, "plain", "chat", "/shop.Orders/Chat", "10", "a", "b"])?;
    check!(said[0]["code"] == "OK" && said[0].to_string().contains("echo b"), "{said:?}");
    for gateway in [&pair.outer, &pair.inner] {
        let recorded = gateway.decisions(&["--effect", "allow", "--action", "grpc"])?;
        check!(recorded.len() == 2, "{recorded:?}");
    }
    Ok(())
}

/// Both judge and record as over HTTP/2.
fn over_http_3() -> Result {
    let web = Upstream::echo();
    let application = Application { http: format!("http://{}", web.address), ..Application::none() };
    let pair = Pair::over("h3", &application, PERMIT, PERMIT)?;
    let body = "x".repeat(100_000);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let (status, told) = call(pair.out, "/orders?x=1", &["--data-binary", "hello", version], None)?;
        check!(status == 200 && told.ends_with("hello"), "{version}: {status} {told}\n{}", pair.outer.log());
        check!(told.starts_with("POST /orders?x=1 HTTP/1.1"), "host and path are kept: {told}");
        check!(told.contains("portcullis-peer: spiffe://example.org/shop\r\n"), "{told}");
        let (status, told) = call(pair.out, "/orders", &["--data-binary", &body, version], None)?;
        check!(status == 200 && told.ends_with(&body), "{version}: {status}, {} bytes", told.len());
    }
    for gateway in [&pair.outer, &pair.inner] {
        let recorded = gateway.decisions(&["--effect", "allow", "--action", "http:POST"])?;
        check!(recorded.len() == 4 && recorded[0].to_string().contains(SHOP), "{recorded:?}");
    }
    let (_, metrics) = pair.inner.http("/metrics")?;
    let series = "portcullis_requests_total{protocol=\"h3\",route=\"site\",code=\"200\"} 4";
    check!(metrics.contains(series), "no {series}:\n{metrics}");
    let (_, metrics) = pair.outer.http("/metrics")?;
    let dials = metrics.lines().filter(|line| line.starts_with("portcullis_pool_dials_total{"));
    check!(dials.into_iter().all(|line| line.contains("\"ok\"")), "a dial failed: {metrics}");
    Ok(())
}

fn bytes() -> Result {
    let db = Bytes::start("220 db\r\n");
    let application = Application { bytes: format!("tcp://{}", db.address), ..Application::none() };
    let pair = Pair::start(&application, PERMIT, PERMIT)?;
    let mut stream = TcpStream::connect(("127.0.0.1", pair.out_bytes))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut heard = [0; 8];
    stream.read_exact(&mut heard)?;
    check!(&heard == b"220 db\r\n", "a server that speaks first: {heard:?}");
    stream.write_all(b"select 1")?;
    stream.read_exact(&mut heard)?;
    check!(&heard == b"select 1", "{heard:?}");
    for gateway in [&pair.outer, &pair.inner] {
        let recorded = gateway.decisions(&["--effect", "allow", "--action", "tcp:connect"])?;
        check!(recorded.len() == 1 && recorded[0].to_string().contains(SHOP), "{recorded:?}");
    }
    Ok(())
}

fn stranger() -> Result {
    let web = Upstream::echo();
    let application = Application { http: format!("http://{}", web.address), ..Application::none() };
    let pair = Pair::start(&application, PERMIT, PERMIT)?;
    let refused = call(pair.out, "/orders", &[], Some(65_534))?;
    check!(refused == (0, String::new()), "another user got through: {refused:?}");
    check!(web.calls() == 0, "its call arrived");
    let recorded = pair.outer.decisions(&["--effect", "deny", "--reason", "no_identity"])?;
    check!(recorded.len() == 1 && recorded[0].to_string().contains("uid 65534"), "{recorded:?}");
    let (status, _) = call(pair.out, "/orders", &[], None)?;
    check!(status == 200, "the own user: {status}");
    Ok(())
}

fn readiness() -> Result {
    let port = free_port();
    let sidecar = Gateway::build()
        .policy(PERMIT)
        .listener("profile = \"sidecar-in\"")
        .service("orders", &[])
        .route("site", "orders", "{ path = \"/\" }", &format!("http://127.0.0.1:{port}"))
        .start_unready()?;
    let waited = sidecar.cli(&["wait", "--timeout", "2s"])?;
    check!(waited.code != 0 && waited.stderr.contains("application"), "{waited:?}");
    let (status, body) = sidecar.http("/readyz")?;
    check!(
        status == 503 && body.contains(&format!("nothing listens at 127.0.0.1:{port}")),
        "{status} {body}"
    );
    check!(sidecar.http("/livez")?.0 == 200, "it lives");
    let application = TcpListener::bind(("127.0.0.1", port))?;
    check!(sidecar.cli(&["wait", "--timeout", "20s"])?.code == 0, "not ready with its application");
    drop(application);
    let end = Instant::now() + PATIENCE;
    while sidecar.http("/readyz")?.0 != 503 {
        check!(Instant::now() < end, "ready without its application");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn circle() -> Result {
    let pair = Pair::start(&Application::none(), PERMIT, PERMIT)?;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let (status, body) = call(pair.out, "/circle", &[version], None)?;
        check!(status == 508, "{version}: {status} {body}");
    }
    Ok(())
}

fn held() -> Result {
    let web = Upstream::echo();
    let application = Application { http: format!("http://{}", web.address), ..Application::none() };
    let mut pair = Pair::start(&application, PERMIT, PERMIT)?;
    pair.outer.terminate()?;
    pair.inner.terminate()?;
    let out = pair.out;
    let outer = {
        let (in_bytes, unused) = (free_port(), free_port());
        Pair::outer("h2", &pair.inner, PERMIT, (in_bytes, out, unused)).start_unready()?
    };
    let started = Instant::now();
    let (status, body) = call(out, "/orders", &[], None)?;
    let waited = started.elapsed();
    check!(status == 503, "nobody gives an identity: {status} {body}");
    check!((4..8).contains(&waited.as_secs()), "held for {waited:?}");
    check!(outer.cli(&["wait", "--timeout", "100ms"])?.code != 0, "it says that it is ready");
    let waiting =
        std::thread::spawn(move || call(out, "/orders", &[], None).map_err(|error| error.to_string()));
    pair.inner.restart()?;
    let (status, body) = waiting.join().map_err(|_panic| "a panic")??;
    check!(status == 200, "a call that waits gets through: {status} {body}\n{}", outer.log());
    check!(outer.cli(&["wait", "--timeout", "10s"])?.code == 0, "it is not ready");
    Ok(())
}
