//! The demo: ten seconds to an explained denial, scriptable, and nothing left behind.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::{Result, Script, binary, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("qs2_the_demo_is_one_process_with_all_roles_that_listens_on_loopback_only", None, alone),
        trial("qs3_the_samples_are_attested_by_the_program_that_they_are", None, attested),
        trial("qs6_without_calls_the_demo_once_ends_with_1", None, silent),
        trial("qs_t_demo_once_tells_the_story_and_leaves_nothing", None, once),
        trial("qs5_a_killed_demo_leaves_no_process", None, killed),
        trial("qs4_keys_at_a_terminal_edit_suggest_tail_and_quit", None, keys),
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

/// A demo that tells its events, with the usual ports taken.
struct Demo {
    script: Script,
    pid: u32,
    dir: tempfile::TempDir,
    _taken: Vec<TcpListener>,
}

impl Demo {
    fn start(arguments: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        // Whoever else has one of them does as well.
        let taken = [9443, 8080].map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
        let mut command = Command::new(binary::portcullis());
        command.args(["demo", "-o", "ndjson", "--dir"]).arg(dir.path()).args(arguments);
        command.env_clear().current_dir("/proc");
        let script = Script::of("demo", command)?;
        let pid = script.pid();
        Ok(Self { script, pid, dir, _taken: taken.into_iter().flatten().collect() })
    }

    /// The events of the story, to the last one before the counters.
    fn story(&mut self) -> Result<Vec<Value>> {
        let mut told = Vec::new();
        while told.last().is_none_or(|event: &Value| event["event"] != "go_on") {
            told.push(self.script.next(Duration::from_secs(60))?);
        }
        Ok(told)
    }

    /// Programs of the processes that it started, by name.
    fn samples(&self) -> Vec<std::path::PathBuf> {
        let found = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut programs: Vec<_> = found
            .filter_map(|entry| std::fs::read_link(entry.path().join("exe")).ok())
            .filter(|program| program.starts_with(self.dir.path()))
            .collect();
        programs.sort();
        programs
    }
}

/// Addresses on which a process listens, over TCP.
fn listening(pid: u32) -> Result<Vec<SocketAddr>> {
    let mut own = std::collections::BTreeSet::new();
    for descriptor in std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let Ok(link) = std::fs::read_link(descriptor.path()) else { continue };
        own.extend(link.to_string_lossy().strip_prefix("socket:[").map(|inode| inode.replace(']', "")));
    }
    let mut found = Vec::new();
    for line in std::fs::read_to_string(format!("/proc/{pid}/net/tcp"))?.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, local, _, "0A", .., _] = fields.as_slice() else { continue };
        if fields.get(9).is_some_and(|inode| own.contains(*inode)) {
            let (address, port) = local.split_once(':').ok_or("no port")?;
            let address = Ipv4Addr::from(u32::from_str_radix(address, 16)?.swap_bytes());
            found.push((address, u16::from_str_radix(port, 16)?).into());
        }
    }
    let of_version_6 = std::fs::read_to_string(format!("/proc/{pid}/net/tcp6")).unwrap_or_default();
    check!(!own.iter().any(|inode| of_version_6.contains(&format!(" {inode} "))), "it listens over IPv6");
    Ok(found)
}

fn alone() -> Result {
    let _alone = ONE_AT_A_TIME.lock();
    let mut demo = Demo::start(&[])?;
    let told = demo.story()?;
    let events: Vec<_> = told.iter().filter_map(|event| event["event"].as_str()).collect();
    let wanted = [
        "trust_domain",
        "identity_orders",
        "identity_web",
        "gateway",
        "traffic",
        "denied",
        "explained",
        "go_on",
    ];
    check!(events == wanted, "{events:?}");
    let times: Vec<_> = told.iter().filter_map(|event| event["elapsed_ms"].as_u64()).collect();
    check!(times.len() == wanted.len() && times.is_sorted(), "{times:?}");
    // Everything is in this process; the two samples are those of another.
    check!(demo.samples().len() == 2, "{:?}", demo.samples());
    let listens = listening(demo.pid)?;
    check!(listens.len() >= 2 && listens.iter().all(|address| address.ip().is_loopback()), "{listens:?}");
    let [gateway, api] = ["gateway", "api"].map(|key| {
        let address = told.iter().find_map(|event| event[key].as_str()?.split("//").nth(1));
        address.and_then(|address| address.parse::<SocketAddr>().ok())
    });
    for (address, usual) in [(gateway, 9443), (api, 8080)] {
        let address = address.ok_or_else(|| format!("no address: {told:?}"))?;
        check!(listens.contains(&address) && address.port() != usual, "{address} of {listens:?}");
    }
    for role in ["data/admin.sock", "workload.sock", "data/ledger", "policies/orders.cedar"] {
        let place = told.last().and_then(|event| event["dir"].as_str()).ok_or("no directory")?;
        check!(Path::new(place).join(role).exists(), "there is no {role}");
    }
    Ok(())
}

fn attested() -> Result {
    let _alone = ONE_AT_A_TIME.lock();
    let mut demo = Demo::start(&[])?;
    let told = demo.story()?;
    let dir = told.last().and_then(|event| event["dir"].as_str()).ok_or("no directory")?.to_owned();
    let programs = demo.samples();
    let names: Vec<_> = programs.iter().filter_map(|program| program.file_name()?.to_str()).collect();
    check!(names == ["orders", "web"], "{programs:?}");
    let entries = Command::new(binary::portcullis())
        .args(["entry", "list", "-o", "json"])
        .current_dir(&dir)
        .output()?;
    let entries: Value = serde_json::from_slice(&entries.stdout)?;
    for (name, program) in names.iter().zip(&programs) {
        let id = format!("spiffe://example.org/{name}");
        let entry = entries["items"].as_array().into_iter().flatten().find(|entry| entry["spiffe_id"] == id);
        let entry = entry.ok_or_else(|| format!("no entry {id}: {entries}"))?;
        let selectors = entry["selectors"].as_array().ok_or("no selectors")?;
        for wanted in [format!("unix:path:{}", program.display()), format!("unix:uid:{}", tests::own_uid())] {
            check!(selectors.iter().any(|selector| *selector == wanted), "{wanted} is not in {entry}");
        }
    }
    // This process is of the same user and runs the same program by another name: it gets nothing.
    let fetched = Command::new(binary::portcullis()).args(["svid", "fetch"]).current_dir(&dir).output()?;
    check!(!fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stdout));
    Ok(())
}

fn silent() -> Result {
    let _alone = ONE_AT_A_TIME.lock();
    let mut demo = Demo::start(&["--once"])?;
    // Before that, it tries whether it can run programs there.
    demo.script.until(Duration::from_secs(60), |event| event["event"] == "trust_domain")?;
    let until = Instant::now() + Duration::from_secs(3);
    // Samples that stand still call nobody.
    while Instant::now() < until {
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let program = std::fs::read_link(entry.path().join("exe"));
            if program.is_ok_and(|program| program.starts_with(demo.dir.path())) {
                Command::new("kill").arg("-STOP").arg(entry.file_name()).stderr(Stdio::null()).status()?;
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let Demo { script, dir, .. } = demo;
    let refused = script.rest(Duration::from_secs(60)).err().map(|error| error.to_string());
    let refused = refused.ok_or("it ended well")?;
    check!(refused.contains("exit status: 1"), "{refused}");
    check!(left_in(dir.path())?.is_empty(), "left behind: {:?}", left_in(dir.path())?);
    check!(processes_of(dir.path()) == 0, "processes left behind");
    Ok(())
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

/// What a person at a terminal gets by each of these keys; then the end.
fn pressed(keys: &[&str]) -> Result<Vec<Value>> {
    let dir = tempfile::tempdir()?;
    let (program, place) = (binary::portcullis().display().to_string(), dir.path().display().to_string());
    let words: Vec<&str> = [&*program, &*place].into_iter().chain(keys.iter().copied()).collect();
    let said = Script::start("demo_keys", &words)?.rest(Duration::from_secs(240))?;
    let left = left_in(dir.path())?;
    check!(left == ["editor"], "left behind: {left:?}");
    check!(processes_of(dir.path()) == 0, "processes left behind");
    Ok(said)
}

fn keys() -> Result {
    let _alone = ONE_AT_A_TIME.lock();
    for keys in [&["?", "e", "t", "q"][..], &["s", "q"]] {
        let said = pressed(keys)?;
        check!(said.len() == keys.len() + 1, "{said:?}");
        for told in said.iter().filter(|told| ["e", "s"].iter().any(|key| told["key"] == *key)) {
            let counts = told["counts"].as_array().ok_or("no counts")?;
            check!(counts.len() == 2 && counts[0][1] == counts[1][1], "still refused: {told}");
            check!(counts[0][0].as_u64() < counts[1][0].as_u64(), "nothing flows: {told}");
        }
        let end = said.last().ok_or("nothing was said")?;
        check!(*end == json!({"ended": 0, "raw": true, "restored": true}), "{end}");
    }
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
