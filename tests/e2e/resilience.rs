//! Endpoints that fail, hang, fill up and come back, behind the shipped gateway: what callers see of it, and what
//! operators read (RY, OD, EL, LB).

use std::process::Stdio;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tests::peers::missing;
use tests::upstream::{HANG_UP, SILENCE, Upstream};
use tests::{Gateway, Result, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("ry_02_no_caller_notices_an_endpoint_that_fails_and_it_comes_back", missing("curl"), sick),
        trial("ry_02_a_write_is_told_twice_only_when_it_was_not_told_at_all", missing("curl"), writes),
        trial("hc_01_an_endpoint_that_fails_its_checks_gets_no_calls", missing("curl"), checked),
        trial("lb_09_a_user_stays_at_one_endpoint_across_a_reload", missing("curl"), sticky),
        trial("lb_11_a_reserve_takes_over_when_the_first_are_shut", missing("curl"), reserve),
        trial("am_01_a_cluster_that_fails_gets_fewer_calls_until_it_answers", missing("curl"), admitted),
        trial("el_01_a_call_waits_a_second_for_a_full_endpoint_and_is_told_why", missing("curl"), full),
    ]
}

/// A gateway whose only route goes to a cluster of these; `more` stands in the cluster, `route` in the route.
fn gateway(upstreams: &[&Upstream], more: &str, route: &str) -> Result<Gateway> {
    let endpoints: Vec<_> =
        upstreams.iter().map(|upstream| format!("\"http://{}\"", upstream.address)).collect();
    Gateway::build()
        .listener("shed_header = \"on\"")
        .service("site", &[])
        .section(&format!(
            "[[enforcer.cluster]]\nname = \"shop\"\nendpoints = [{}]\n{more}\n",
            endpoints.join(", ")
        ))
        .section(&format!(
            "[[enforcer.route]]\nname = \"site\"\nservice = \"site\"\nmatch = {{ path = \"/\" }}\ncluster = \"shop\"\n{route}\n"
        ))
        .start()
}

fn metric(gateway: &Gateway, series: &str) -> Result<Option<f64>> {
    let (_, text) = gateway.http("/metrics")?;
    let line = text.lines().find(|line| line.starts_with(series));
    Ok(line.and_then(|line| line.rsplit_once(' ')).and_then(|(_, value)| value.parse().ok()))
}

fn admitted() -> Result {
    let origin = Upstream::echo();
    let gateway = gateway(&[&origin], "admission = \"on\"", "retry = { attempts = 0 }")?;
    let tls = gateway.identity()?;
    origin.answer_all(500);
    let mut statuses = Vec::new();
    for _ in 0..100 {
        statuses.push(gateway.curl(&tls, "/hello", &[])?.0);
    }
    let refused = statuses.iter().filter(|status| **status == 503).count();
    // The mean is near 78 of 100; one in a million runs is outside of this.
    check!((50..=95).contains(&refused), "{refused} of 100 were refused");
    check!(statuses.iter().all(|status| [500, 503].contains(status)), "{statuses:?}");
    check!(origin.calls() == 100 - refused, "{} calls of {}", origin.calls(), 100 - refused);
    let shed = metric(&gateway, "portcullis_shed_total{reason=\"breaker\"}")?;
    check!(shed == Some(refused as f64), "{shed:?} of {refused}");
    origin.answer_all(0);
    let since = Instant::now();
    let mut in_a_row = 0;
    while in_a_row < 100 {
        check!(since.elapsed() < Duration::from_secs(60), "calls are refused though the cluster answers");
        in_a_row = if gateway.curl(&tls, "/hello", &[])?.0 == 200 { in_a_row + 1 } else { 0 };
    }
    Ok(())
}

fn sick() -> Result {
    let (sick, well) = (Upstream::echo(), Upstream::echo());
    let gateway = gateway(&[&sick, &well], "", "")?;
    let tls = gateway.identity()?;
    let circuit = format!("portcullis_circuit_state{{cluster=\"shop\",endpoint=\"{}\"}}", sick.address);
    for mood in [503, HANG_UP] {
        sick.answer_all(mood);
        let before = sick.calls();
        for nth in 0..30 {
            let (status, body) = gateway.curl(&tls, "/hello", &[])?;
            check!(status == 200, "call {nth} with mood {mood}: {status} {body}\n{}", gateway.log());
        }
        let asked = sick.calls() - before;
        check!((1..=12).contains(&asked), "the sick endpoint was asked {asked} times with mood {mood}");
        check!(metric(&gateway, &circuit)? == Some(1.0), "the circuit is not open after {asked} failures");
        check!(standing(&gateway, &sick)?["state"] == "shut out", "{}", standing(&gateway, &sick)?);
        sick.answer_all(0);
        let (before, began) = (sick.calls(), Instant::now());
        while sick.calls() < before + 4 {
            check!(began.elapsed() < Duration::from_secs(20), "it never came back\n{}", gateway.log());
            check!(gateway.curl(&tls, "/hello", &[])?.0 == 200, "a call failed while it came back");
        }
        check!(metric(&gateway, &circuit)? == Some(0.0), "the circuit is still open");
        check!(standing(&gateway, &sick)?["state"] == "in use", "{}", standing(&gateway, &sick)?);
    }
    let retries = metric(&gateway, "portcullis_retries_total{result=\"sent\"}")?;
    check!(retries.is_some_and(|retries| retries >= 2.0), "retries: {retries:?}");
    let log = gateway.log();
    for event in ["tried_again", "endpoint_shut", "endpoint_open"] {
        check!(log.contains(event), "no `{event}` in the log:\n{log}");
    }
    let recorded = gateway.decisions(&["--action", "http:GET"])?;
    let calls = well.calls() + sick.calls();
    check!(recorded.len() <= calls, "a call is decided once, however often it is tried");
    Ok(())
}

/// What the data plane says of that endpoint.
fn standing(gateway: &Gateway, endpoint: &Upstream) -> Result<serde_json::Value> {
    let all = gateway.json(&["proxy", "endpoints"])?;
    let address = endpoint.address.to_string();
    let found = all["items"].as_array().into_iter().flatten().find(|one| one["address"] == address.as_str());
    found.cloned().ok_or_else(|| format!("{address} is not among {all}").into())
}

fn checked() -> Result {
    let (sick, well) = (Upstream::echo(), Upstream::echo());
    let more = "outlier = { mode = \"off\" }\ncheck = { probe = \"http\", path = \"/healthz\", interval = \"100ms\" }";
    let gateway = gateway(&[&sick, &well], more, "retry = { attempts = 0 }")?;
    let tls = gateway.identity()?;
    let turns = |what: &str, is_well: bool| -> Result {
        let began = Instant::now();
        loop {
            let mut statuses = Vec::new();
            for _ in 0..10 {
                statuses.push(gateway.curl(&tls, "/hello", &[])?.0);
            }
            let others = statuses.iter().filter(|status| **status != 200).count();
            if (others == 0) == is_well {
                return Ok(());
            }
            check!(began.elapsed() < Duration::from_secs(20), "{what}: {statuses:?}");
        }
    };
    turns("at the beginning", true)?;
    sick.answer_all(503);
    // Ill after three checks, and from then on without calls.
    turns("after it turned ill", true)?;
    let (ill, fit) = (standing(&gateway, &sick)?, standing(&gateway, &well)?);
    check!(ill["health"] == "ill" && fit["health"] == "well", "{ill} {fit}");
    let recorded = gateway.decisions(&["--action", "http:GET"])?;
    check!(recorded.iter().all(|one| one["request"]["path"] == "/hello"), "a check was put on record");
    // All are ill: that is a panic, and all are used again.
    well.answer_all(503);
    turns("in a panic", false)?;
    sick.answer_all(0);
    well.answer_all(0);
    turns("at the end", true)
}

fn writes() -> Result {
    let (sick, other) = (Upstream::echo(), Upstream::echo());
    let gateway = gateway(&[&sick, &other], "outlier = { mode = \"off\" }\nbalancer = \"round_robin\"", "")?;
    let tls = gateway.identity()?;
    sick.answer_all(HANG_UP);
    let mut failed = 0;
    for _ in 0..10 {
        let (status, _) = gateway.curl(&tls, "/order", &["-d", "one"])?;
        check!(status == 200 || status == 502, "{status}");
        failed += usize::from(status == 502);
    }
    // What the endpoint may have done is told to nobody else.
    check!(failed == sick.calls() && failed + other.calls() == 10, "{failed} {}", sick.calls());
    check!(failed > 0, "the sick endpoint was never asked");
    Ok(())
}

fn sticky() -> Result {
    let origins = [Upstream::echo(), Upstream::echo(), Upstream::echo()];
    let all: Vec<_> = origins.iter().collect();
    let gateway = gateway(&all, "balancer = \"maglev\"\nhash_by = \"header:x-user\"", "")?;
    let tls = gateway.identity()?;
    let home = |user: &str| -> Result<usize> {
        let before: Vec<_> = origins.iter().map(Upstream::calls).collect();
        for _ in 0..3 {
            let (status, body) = gateway.curl(&tls, "/", &["-H", &format!("x-user: {user}")])?;
            check!(status == 200, "{status} {body}");
        }
        let went = |at: &usize| origins.get(*at).map(Upstream::calls) == before.get(*at).map(|n| n + 3);
        (0..origins.len()).find(went).ok_or_else(|| format!("the calls of {user} were spread").into())
    };
    let users = ["ann", "bob", "cid", "dan", "eve", "fay"];
    let homes = users.map(home);
    let path = gateway.dir().join("portcullis.toml");
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(&path, text.replace("hash_by =", "slow_start = \"1s\"\nhash_by ="))?;
    let reloaded = gateway.cli(&["config", "reload"])?;
    check!(reloaded.code == 0, "{reloaded:?}");
    for (user, before) in users.iter().zip(homes) {
        check!(home(user)? == before?, "{user} moved");
    }
    Ok(())
}

fn reserve() -> Result {
    let (one, other, reserve) = (Upstream::echo(), Upstream::echo(), Upstream::echo());
    let more = format!(
        "outlier = {{ max_percent = 100, back_off = \"60s\" }}\n[[enforcer.cluster.endpoint]]\naddress = \"http://{}\"\npriority = 1",
        reserve.address
    );
    let gateway = gateway(&[&one, &other], &more, "")?;
    let tls = gateway.identity()?;
    for _ in 0..5 {
        check!(gateway.curl(&tls, "/", &[])?.0 == 200, "a call failed while all were well");
    }
    check!(reserve.calls() == 0, "the reserve was asked while all were well");
    one.answer_all(503);
    other.answer_all(503);
    for nth in 0..20 {
        let (status, body) = gateway.curl(&tls, "/", &[])?;
        check!(status == 200 || nth < 10, "call {nth}: {status} {body}\n{}", gateway.log());
    }
    check!(reserve.calls() >= 10, "the reserve was asked {} times", reserve.calls());
    Ok(())
}

fn full() -> Result {
    let upstream = Upstream::echo();
    let gateway = gateway(&[&upstream], "max_in_flight_per_endpoint = 1\nmax_queued = 1", "")?;
    let tls = gateway.identity()?;
    upstream.answer_all(SILENCE);
    let mut slow = gateway.curl_command(&tls, "/slow").stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let began = Instant::now();
    while upstream.calls() == 0 {
        check!(began.elapsed() < Duration::from_secs(10), "the slow call never arrived");
        std::thread::sleep(Duration::from_millis(10));
    }
    let began = Instant::now();
    let (status, body) = gateway.curl(&tls, "/next", &["-i"])?;
    check!(status == 429 && body.contains("portcullis-shed: queue_deadline"), "{status} {body}");
    check!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    check!(upstream.calls() == 1, "the full endpoint was asked");
    check!(metric(&gateway, "portcullis_shed_total{reason=\"queue_deadline\"}")? == Some(1.0), "not counted");
    // Its caller gives up, and there is room again.
    slow.kill()?;
    slow.wait()?;
    upstream.answer_all(0);
    let began = Instant::now();
    while gateway.curl(&tls, "/next", &[])?.0 != 200 {
        check!(began.elapsed() < Duration::from_secs(10), "there is no room again\n{}", gateway.log());
    }
    Ok(())
}
