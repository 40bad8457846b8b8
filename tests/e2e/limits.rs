//! What the shipped gateway does at its limits: rates of callers, shares of connections, file descriptors. What is refused
//! says why, administration is always there, and what was given up comes back.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("rl_02_a_caller_above_its_rate_is_told_when_to_come_again", missing("curl"), rates),
        trial("al_05_an_identity_with_its_share_of_connections_gets_no_more", missing("openssl"), shares),
        trial(
            "al_02_a_flood_under_a_small_limit_of_descriptors_ends_and_calls_are_served",
            missing("curl"),
            flood,
        ),
        trial("al_02_the_oldest_idle_connection_makes_room", missing("prlimit"), evicted),
        trial(
            "ov_02_near_its_limits_the_gateway_refuses_calls_and_never_administration",
            missing("prlimit"),
            ladder,
        ),
    ]
}

fn metric(gateway: &Gateway, series: &str) -> Result<f64> {
    let (_, text) = gateway.http("/metrics")?;
    let line = text.lines().find(|line| line.starts_with(series));
    Ok(line.and_then(|line| line.rsplit_once(' ')).map_or("0", |(_, value)| value).parse()?)
}

/// Writes the configuration with one text in place of another, and has it reloaded.
fn reload(gateway: &Gateway, from: &str, to: &str) -> Result {
    let path = gateway.dir().join("portcullis.toml");
    let text = fs::read_to_string(&path)?;
    check!(text.contains(from), "`{from}` is not in {text}");
    fs::write(&path, text.replacen(from, to, 1))?;
    let reloaded = gateway.cli(&["config", "reload"])?;
    check!(reloaded.code == 0, "{reloaded:?}");
    Ok(())
}

fn rates() -> Result {
    let upstream = Upstream::echo();
    let to = format!("http://{}", upstream.address);
    let gateway = Gateway::build()
        .listener("profile = \"mesh\"")
        .listener("rate = { total = \"1000/h\" }")
        .service("site", &[])
        .route("site", "site", "{ path = \"/\" }", &to)
        .route_line("rate = { per_identity = \"2/h\" }")
        .route("free", "site", "{ path = \"/free\" }", &to)
        .start()?;
    let tls = gateway.identity()?;
    for _ in 0..2 {
        check!(gateway.curl(&tls, "/hello", &[])?.0 == 200, "a call within the rate was refused");
    }
    let (status, answer) = gateway.curl(&tls, "/hello", &["-i"])?;
    check!(status == 429, "{status} {answer}");
    for field in [
        "portcullis-shed: rate",
        "retry-after: 1",
        "ratelimit-policy: \"identity\";q=2;w=3600",
        "ratelimit: ",
    ] {
        check!(answer.contains(field), "no `{field}` in {answer}");
    }
    check!(gateway.curl(&tls, "/free", &[])?.0 == 200, "another route was limited as well");
    check!(metric(&gateway, "portcullis_shed_total{reason=\"rate\"}")? == 1.0, "not counted");
    check!(upstream.calls() == 3, "the upstream saw {} calls", upstream.calls());
    // The decision stands: it was a permit.
    let recorded = gateway.decisions(&["--action", "http:GET"])?;
    check!(recorded.len() == 4 && recorded.iter().all(|one| one["effect"] == "allow"), "{recorded:?}");
    // A reload of something else changes nothing about it.
    reload(&gateway, "name = \"free\"", "timeout = \"7s\"\nname = \"free\"")?;
    check!(gateway.curl(&tls, "/hello", &[])?.0 == 429, "a reload forgot what was taken");
    reload(&gateway, "\"2/h\"", "\"5/s\"")?;
    check!(gateway.curl(&tls, "/hello", &[])?.0 == 200, "another rate is in force");
    // The listener does not even judge.
    reload(&gateway, "\"1000/h\"", "\"1/h\"")?;
    check!(gateway.curl(&tls, "/free", &[])?.0 == 200, "one call is left");
    let before = gateway.decisions(&["--action", "http:GET"])?.len();
    let (status, answer) = gateway.curl(&tls, "/free", &["-i"])?;
    check!(status == 429 && answer.contains("ratelimit-policy: \"total\";q=1;w=3600"), "{status} {answer}");
    check!(gateway.decisions(&["--action", "http:GET"])?.len() == before, "what is not taken was judged");
    Ok(())
}

/// A connection that shows the identity and says nothing; ended by the gateway or when dropped.
struct Idle(Child);

impl Idle {
    fn open(gateway: &Gateway, tls: &Path) -> Result<Self> {
        // What stands behind the certificate of the caller.
        let chain = fs::read_to_string(tls.join("svid.pem"))?;
        let issuers = tls.join("issuers.pem");
        let behind = chain.match_indices("-----BEGIN").nth(1).ok_or("a chain of one")?.0;
        fs::write(&issuers, &chain[behind..])?;
        let mut openssl = Command::new("openssl");
        openssl.args([
            "s_client",
            "-quiet",
            "-connect",
            &gateway.address.to_string(),
            "-servername",
            "localhost",
        ]);
        openssl
            .arg("-cert")
            .arg(tls.join("svid.pem"))
            .arg("-cert_chain")
            .arg(&issuers)
            .arg("-key")
            .arg(tls.join("svid.key"));
        openssl.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let before = metric(gateway, "portcullis_handshakes_total{result=\"ok\"}")?;
        let idle = Self(openssl.spawn()?);
        until(
            "no handshake",
            || Ok(metric(gateway, "portcullis_handshakes_total{result=\"ok\"}")? > before),
        )?;
        Ok(idle)
    }

    fn is_closed(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result {
    let began = Instant::now();
    while !is_so()? {
        check!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn descriptors(gateway: &Gateway) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", gateway.pid()))?.count())
}

/// The process may have so many descriptors from now on.
fn allow(gateway: &Gateway, descriptors: usize) -> Result {
    let pid = gateway.pid().to_string();
    let done = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={descriptors}:")]).status()?;
    check!(done.success(), "prlimit ended with {done}");
    Ok(())
}

fn shares() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::build()
        .listener("shed_header = \"on\"\nmax_connections_per_identity = 1")
        .site(upstream.address)
        .start()?;
    let tls = gateway.identity()?;
    let idle = Idle::open(&gateway, &tls)?;
    let (status, answer) = gateway.curl(&tls, "/hello", &["-i", "--http1.1"])?;
    check!(status == 503 && answer.contains("portcullis-shed: id_share"), "{status} {answer}");
    check!(metric(&gateway, "portcullis_shed_total{reason=\"id_share\"}")? == 1.0, "not counted");
    check!(gateway.log().contains("connection_shed"), "not told:\n{}", gateway.log());
    drop(idle);
    until("its place is not free again", || {
        Ok(gateway.curl(&tls, "/hello", &[]).is_ok_and(|(status, _)| status == 200))
    })
}

fn flood() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::build()
        .below(&["sh", "-c", "ulimit -n 240; exec \"$@\"", "sh"])
        .listener("handshake_timeout = \"2s\"")
        .site(upstream.address)
        .start()?;
    let tls = gateway.identity()?;
    check!(gateway.curl(&tls, "/hello", &[])?.0 == 200, "not even before the flood");
    for _ in 0..3 {
        let silent: Vec<_> = (0..300).filter_map(|_| TcpStream::connect(gateway.address).ok()).collect();
        let refused = || -> Result<f64> {
            let reasons = ["conn_limit", "fds", "handshake_budget"];
            let count = |reason| metric(&gateway, &format!("portcullis_shed_total{{reason=\"{reason}\"}}"));
            reasons.into_iter().map(count).sum()
        };
        until("nothing of the flood was refused", || Ok(refused()? > 0.0))?;
        // Whoever looks after the gateway gets in.
        check!(gateway.http("/livez")?.0 == 200, "health is gone");
        check!(gateway.cli(&["status"])?.code != 69, "the admin socket is gone");
        check!(silent.len() > 100, "{} of the flood got in", silent.len());
    }
    until("nobody is served after the flood", || {
        Ok(gateway.curl(&tls, "/hello", &[]).is_ok_and(|(status, _)| status == 200))
    })
}

fn evicted() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::before(upstream.address)?;
    let tls = gateway.identity()?;
    let (mut first, _second) = (Idle::open(&gateway, &tls)?, Idle::open(&gateway, &tls)?);
    allow(&gateway, descriptors(&gateway)?)?;
    let _more: Vec<_> = (0..4).filter_map(|_| TcpStream::connect(gateway.address).ok()).collect();
    until("the oldest idle connection stays", || first.is_closed())?;
    until("it is not told", || Ok(gateway.log().contains("listener_exhausted")))?;
    allow(&gateway, 1_000)?;
    until("nobody is served after that", || {
        Ok(gateway.curl(&tls, "/hello", &[]).is_ok_and(|(status, _)| status == 200))
    })
}

fn ladder() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::before(upstream.address)?;
    let tls = gateway.identity()?;
    let mut idle = Idle::open(&gateway, &tls)?;
    check!(gateway.curl(&tls, "/hello", &[])?.0 == 200, "not even before");
    // Half of what a small limit allows is kept for administration: this is more than the other half.
    allow(&gateway, descriptors(&gateway)? * 19 / 10)?;
    let step = || metric(&gateway, "portcullis_overload_step{worker=\"0\"}");
    until("no step is taken", || Ok(step()? == 4.0))?;
    let calls = upstream.calls();
    let refused = gateway.curl(&tls, "/hello", &[]);
    check!(
        refused.as_ref().is_ok_and(|(status, _)| *status == 503) || refused.is_err(),
        "served: {refused:?}"
    );
    check!(upstream.calls() == calls, "the upstream was asked");
    check!(metric(&gateway, "portcullis_shed_total{reason=\"fds\"}")? > 0.0, "not counted");
    check!(gateway.http("/readyz")?.0 == 200, "administration is refused as well");
    check!(gateway.cli(&["status"])?.code == 0, "{:?}", gateway.cli(&["status"]));
    check!(!idle.is_closed()?, "what has not served yet is not idle");
    allow(&gateway, 1_000)?;
    until("the step is never left", || Ok(step()? == 0.0))?;
    check!(gateway.curl(&tls, "/hello", &[])?.0 == 200, "not served again");
    check!(gateway.log().contains("overload"), "not told:\n{}", gateway.log());
    Ok(())
}
