//! The demo: ten seconds to an explained denial, scriptable, and nothing left behind.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::{Result, binary, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("qs_t_demo_once_tells_the_story_and_leaves_nothing", None, once),
        trial("qs5_a_killed_demo_leaves_no_process", None, killed),
    ]
}

/// Demos take the usual ports when they are free, so two must not look for them at the same moment.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn left_in(dir: &std::path::Path) -> Result<Vec<String>> {
    Ok(std::fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}

/// Processes whose program lies in a demo directory below `dir`.
fn processes_of(dir: &std::path::Path) -> usize {
    let found = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    found
        .filter(|entry| std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe.starts_with(dir)))
        .count()
}

fn once() -> Result {
    let _alone = ONE_AT_A_TIME.lock();
    let dir = tempfile::tempdir()?;
    let started = Instant::now();
    let output = Command::new(binary::portcullis())
        .args(["demo", "--once", "-o", "json", "--dir"])
        .arg(dir.path())
        .env_clear()
        .current_dir("/proc")
        .stdin(Stdio::null())
        .output()?;
    let took = started.elapsed();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    check!(
        output.status.success(),
        "demo ended with {}: {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let story: Value = serde_json::from_str(&said)?;
    let ids: Vec<_> = story["identities"]
        .as_array()
        .ok_or("no identities")?
        .iter()
        .filter_map(|identity| identity["id"].as_str())
        .collect();
    check!(ids == ["spiffe://example.org/orders", "spiffe://example.org/web"], "identities: {ids:?}");
    check!(
        story["counts"]["allowed"].as_u64() > Some(0) && story["counts"]["denied"].as_u64() > Some(0),
        "counts: {}",
        story["counts"]
    );
    check!(story["counts"]["failed"].as_u64() == Some(0), "failed calls: {}", story["counts"]);
    let explained = &story["explained"];
    check!(explained["reason"] == "no_permit", "reason: {explained}");
    check!(explained["nearest"][0]["policy"] == "orders-read", "nearest: {}", explained["nearest"]);
    let text = explained["text"].as_str().unwrap_or_default();
    for part in [
        "DENY  web -> orders",
        "POST /shop.Orders/Refund",
        "no permit matched; nearest: orders-read",
        "failed: policy names shop.Orders/Get, /List",
        "portcullis policy suggest",
    ] {
        check!(text.contains(part), "`{part}` is not in the explanation:\n{text}");
    }
    check!(took < Duration::from_secs(30), "took {took:?}");
    check!(left_in(dir.path())?.is_empty(), "left behind: {:?}", left_in(dir.path())?);
    check!(processes_of(dir.path()) == 0, "processes left behind");
    Ok(())
}

fn killed() -> Result {
    let _alone = ONE_AT_A_TIME.lock();
    let dir = tempfile::tempdir()?;
    let mut demo = Command::new(binary::portcullis())
        .args(["demo", "-o", "ndjson", "--dir"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.path().join("stderr"))?)
        .spawn()?;
    let end = Instant::now() + Duration::from_secs(60);
    while processes_of(dir.path()) < 2 && Instant::now() < end && demo.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let said = std::fs::read_to_string(dir.path().join("stderr"))?;
    std::fs::remove_file(dir.path().join("stderr"))?;
    check!(processes_of(dir.path()) == 2, "the two samples did not start: {:?} {said}", demo.try_wait()?);
    demo.kill()?;
    demo.wait()?;
    let end = Instant::now() + Duration::from_secs(10);
    while processes_of(dir.path()) > 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    check!(processes_of(dir.path()) == 0, "samples outlive a killed demo");
    check!(left_in(dir.path())?.len() == 1, "one directory is left by the kill");
    let next = Command::new(binary::portcullis())
        .args(["demo", "--once", "-o", "json", "--dir"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .output()?;
    check!(next.status.success(), "the next demo failed: {}", String::from_utf8_lossy(&next.stderr));
    check!(left_in(dir.path())?.is_empty(), "the next demo did not sweep: {:?}", left_in(dir.path())?);
    Ok(())
}
