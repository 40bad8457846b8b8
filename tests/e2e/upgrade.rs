//! A new process takes the place of the one that runs (UP-01 to UP-04, LT-17, HO1, XA9): under load nobody notices, and
//! one that cannot leaves the old one where it is.

mod activation;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use crate::chaos::load::{Load, Seen};
use crate::policies::load::all_decisions;
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("up_01_upgrades_in_a_row_under_load_over_three_protocols_lose_no_call", None, under_load),
        trial(
            "up_01_a_binary_that_ends_or_says_nothing_leaves_the_old_process_serving",
            missing("curl"),
            bad_binary,
        ),
        trial(
            "up_01_a_bad_configuration_leaves_the_old_process_serving_with_its_state",
            missing("curl"),
            bad_configuration,
        ),
        trial("up_01_a_new_process_that_fails_with_the_state_gives_it_back", missing("curl"), fails_late),
        trial(
            "up_02_a_call_that_runs_ends_on_the_old_process_and_is_on_record_in_the_new",
            missing("curl"),
            running_call,
        ),
        trial(
            "ct_03_what_changes_after_an_upgrade_ends_the_calls_of_the_old_process",
            missing("curl"),
            changed,
        ),
    ];
    trials.extend(activation::trials());
    trials
}

fn scale() -> usize {
    std::env::var("PORTCULLIS_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

fn site(upstream: &Upstream) -> tests::gateway::Builder {
    Gateway::build().service("site", &[]).route(
        "site",
        "site",
        "{ path = \"/\" }",
        &format!("http://{}", upstream.address),
    )
}

fn under_load() -> Result {
    let upstream = Upstream::echo();
    let gateway = site(&upstream).quic().run(&["--drain-grace", "4s"]).start()?;
    let tls = gateway.identity()?;
    let load = Load::start(gateway.address, &tls)?;
    let mut pids = BTreeSet::from([gateway.serving()?]);
    for _ in 0..4 * scale() {
        std::thread::sleep(Duration::from_millis(700));
        gateway.upgrade()?;
        check!(pids.insert(gateway.serving()?), "the same process twice: {pids:?}");
    }
    std::thread::sleep(Duration::from_millis(1500));
    let seen = load.stop()?;
    accounted(&gateway, &upstream, &seen)
}

fn accounted(gateway: &Gateway, upstream: &Upstream, seen: &BTreeMap<&'static str, Seen>) -> Result {
    for (protocol, seen) in seen {
        check!(seen.lost.is_empty(), "{protocol}: {seen:?}\n{}", gateway.log());
        check!(seen.answered > 50, "{protocol}: too little was seen: {seen:?}");
        check!(seen.connections > 1, "{protocol}: nobody was asked to go: {seen:?}");
    }
    // Everything is on record once, whichever process answered, and no number is missing.
    let answered: usize = seen.values().map(|seen| seen.answered).sum();
    let end = Instant::now() + Duration::from_secs(60);
    let mut records = all_decisions(gateway)?;
    while records.len() < answered && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(500));
        records = all_decisions(gateway)?;
    }
    check!(records.len() == answered, "{answered} answers, {} records\n{}", records.len(), gateway.log());
    let ids: BTreeSet<_> = records.iter().map(|record| record["id"].to_string()).collect();
    check!(ids.len() == answered, "{} of {answered} ids are different", ids.len());
    let gaps = gateway.records("kind=gap")?;
    check!(gaps.is_empty(), "{gaps:?}");
    check!(upstream.calls() >= answered, "{} calls arrived", upstream.calls());
    Ok(())
}

/// The old process answers, with everything it had.
fn serves(gateway: &Gateway, pid: u32) -> Result {
    let tls = gateway.identity()?;
    let (status, body) = gateway.curl(&tls, "/hello", &[])?;
    check!(status == 200, "{status} {body}");
    check!(gateway.serving()? == pid, "another process serves");
    let ready = gateway.http("/readyz")?;
    check!(ready.0 == 200, "not ready: {ready:?}");
    let (_, metrics) = gateway.http("/metrics")?;
    check!(metrics.contains("portcullis_upgrades_total{result=\"failed\"} "), "{metrics}");
    Ok(())
}

fn replace(gateway: &Gateway, script: &str) -> Result {
    let path = gateway.dir().join("next");
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(fs::rename(path, gateway.program())?)
}

fn bad_binary() -> Result {
    let upstream = Upstream::echo();
    let gateway = site(&upstream).own_program().run(&["--upgrade-timeout", "2s"]).start()?;
    let pid = gateway.serving()?;
    replace(&gateway, "#!/bin/sh\nexit 7\n")?;
    let why = gateway.upgrade_in_vain()?;
    check!(why.contains("ended with exit status: 7"), "{why}");
    serves(&gateway, pid)?;
    replace(&gateway, "#!/bin/sh\nexec sleep 60\n")?;
    gateway.signal("USR2")?;
    let status = gateway.until(|status| status["upgrade"]["why"].to_string().contains("did not report"))?;
    check!(status["upgrade"]["why"] == "the new process did not report within 2 s", "{status}");
    serves(&gateway, pid)?;
    check!(gateway.log().contains("PC0122"), "{}", gateway.log());
    fs::remove_file(gateway.program())?;
    gateway.signal("USR2")?;
    gateway.until(|status| status["upgrade"]["why"].to_string().contains("does not start"))?;
    serves(&gateway, pid)
}

fn bad_configuration() -> Result {
    let upstream = Upstream::echo();
    let gateway = site(&upstream).start()?;
    let (pid, path) = (gateway.serving()?, gateway.dir().join("portcullis.toml"));
    let text = fs::read_to_string(&path)?;
    fs::write(&path, text.replace("workers = 2", "wrokers = 2"))?;
    let why = gateway.upgrade_in_vain()?;
    check!(why.contains("wrokers"), "{why}");
    fs::write(&path, &text)?;
    serves(&gateway, pid)?;
    gateway.upgrade()?;
    check!(gateway.serving()? != pid, "it takes over once the file is good");
    Ok(())
}

/// The new process finds a port taken only after it has the state.
fn fails_late() -> Result {
    let upstream = Upstream::echo();
    let gateway = site(&upstream).start()?;
    let (pid, path) = (gateway.serving()?, gateway.dir().join("portcullis.toml"));
    let text = fs::read_to_string(&path)?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let listener = format!(
        "[[enforcer.listener]]\nname = \"more\"\nbind = [\"tcp://{}\"]\n\n[decisions]",
        taken.local_addr()?
    );
    fs::write(&path, text.replace("[decisions]", &listener))?;
    let tls = gateway.identity()?;
    for round in 1..=3 {
        let why = gateway.upgrade_in_vain()?;
        check!(why.contains("cannot listen on"), "{why}");
        gateway.until(|status| status["ready"] == true)?;
        check!(gateway.curl(&tls, "/hello", &[])?.0 == 200, "round {round}");
    }
    fs::write(&path, &text)?;
    serves(&gateway, pid)?;
    // State and policies are its own again: a change is taken, and recorded.
    gateway.publish("web.cedar", "@id(\"nobody\")\npermit (principal == Workload::\"spiffe://example.org/nobody\", action, resource);\n")?;
    check!(gateway.curl(&tls, "/hello", &[])?.0 == 403, "the new policy is not in force");
    gateway.upgrade()?;
    check!(gateway.curl(&tls, "/hello", &[])?.0 == 403, "nor in the next process");
    let gaps = gateway.records("kind=gap")?;
    check!(gaps.is_empty(), "{gaps:?}");
    let records = all_decisions(&gateway)?;
    check!(records.len() == 6, "{} calls on record", records.len());
    Ok(())
}

/// A slow upload, at 20 KB/s; its answer comes from the process that took it in.
fn upload(gateway: &Gateway, bytes: usize) -> Result<std::process::Child> {
    let (tls, body) = (gateway.identity()?, gateway.dir().join("body"));
    fs::write(&body, vec![b'x'; bytes])?;
    let upload = format!("@{}", body.display());
    let own = ["--limit-rate", "20k", "-w", "\n%{http_code}", "-X", "POST", "--data-binary", &upload];
    let mut curl = gateway.curl_command(&tls, "/slow");
    Ok(curl.args(own).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn()?)
}

fn running_call() -> Result {
    let upstream = Upstream::echo();
    let gateway = site(&upstream).start()?;
    let running = upload(&gateway, 60_000)?;
    std::thread::sleep(Duration::from_millis(500));
    let old = gateway.upgrade()?;
    let answer = running.wait_with_output()?;
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    check!(text.ends_with("\n200"), "{text} {}", gateway.log());
    let end = Instant::now() + Duration::from_secs(20);
    while is_alive(old) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    check!(!is_alive(old), "the old process has nothing left to do\n{}", gateway.log());
    while !gateway.log().contains("records_adopted") && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    let records = gateway.decisions(&["--action", "http:POST"])?;
    check!(gateway.log().contains("records_adopted"), "{}", gateway.log());
    check!(records.len() == 1 && records[0]["effect"] == "allow", "{records:?}");
    // Also what the old process said of itself, in its own ledger and beside the new one, is signed by its SVID.
    let bundle = gateway.identity()?.join("bundle.pem");
    // A checkpoint covers it within two seconds on a quiet machine.
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let told = gateway.cli(&["decisions", "verify", "--bundle", &bundle.display().to_string()])?;
        let heartbeats = told.stdout.lines().find(|line| line.starts_with("heartbeats")).unwrap_or_default();
        if told.code == 0 && heartbeats.starts_with("heartbeats  2 signed by") {
            return Ok(());
        }
        check!(Instant::now() < end, "{told:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Whether a process runs; one that waits to be waited for does not.
fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn changed() -> Result {
    let upstream = Upstream::echo();
    let gateway = site(&upstream).start()?;
    let running = upload(&gateway, 600_000)?;
    std::thread::sleep(Duration::from_millis(300));
    let old = gateway.upgrade()?;
    check!(is_alive(old), "it has a call");
    gateway.publish("web.cedar", "@id(\"nobody\")\npermit (principal == Workload::\"spiffe://example.org/nobody\", action, resource);\n")?;
    let began = Instant::now();
    let answer = running.wait_with_output()?;
    let (text, took) = (String::from_utf8_lossy(&answer.stdout).into_owned(), began.elapsed());
    check!(!text.ends_with("\n200"), "a call outlived its permit: {text}");
    // A second on a machine of its own (CT-03); here other stories run beside it, and the whole call would take thirty.
    check!(took < Duration::from_secs(4), "it ended after {took:?}\n{}", gateway.log());
    check!(gateway.log().contains("drain_hurried"), "{}", gateway.log());
    Ok(())
}
