//! What the shipped gateway does at its limits: rates of callers. What is refused says why, and nothing else suffers.

use std::fs;

use libtest_mimic::Trial;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("rl_02_a_caller_above_its_rate_is_told_when_to_come_again", missing("curl"), rates)]
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
