//! SIGKILL at random moments, with a real process and a real disk.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base_ports::{Rng, SystemRng};

use super::*;
use crate::Compare;

const CHILD: &str = "BASE_STORE_KILL_CHILD";

/// The child of the test below: commits for ever, some at once, and says each revision when it is acknowledged.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let journal = (Arc::new(SystemDisk), Arc::new(SystemClock));
        let dir = Path::new(&dir);
        let lock = Lock::take(dir).unwrap();
        let disk: Arc<dyn Disk> = journal.0;
        let (index, opened) = open::on_disk(&disk, dir, 20_000).unwrap();
        let store = Embedded::run(index, opened, journal.1, Some(lock)).unwrap();
        loop {
            let next = store.revision().next().get();
            let together: Vec<_> = (next..next + 3)
                .map(|n| {
                    let (key, value) = (format!("k{n}"), format!("{n}-").repeat(40));
                    store.commit(Transaction::new().require(key.clone(), Compare::Absent).put(key, value))
                })
                .collect();
            for commit in together {
                println!("ack {} end", commit.await.unwrap());
            }
        }
    });
}

/// Promise 7: what was acknowledged survives kill -9.
#[test]
fn ps7_nothing_acknowledged_is_lost_to_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let mut newest = 0;
    for round in 0..10 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["embedded::tests::kill::child", "--exact", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let acknowledged = acknowledged(child.stdout.take().unwrap());
        for _ in 0..1 + SystemRng.u64() % 60 {
            newest = acknowledged.recv_timeout(Duration::from_secs(30)).unwrap().max(newest);
        }
        std::thread::sleep(Duration::from_micros(SystemRng.u64() % 5_000));
        child.kill().unwrap();
        child.wait().unwrap();
        newest = acknowledged.into_iter().max().unwrap_or(newest).max(newest);
        let store = real(dir.path()).unwrap();
        let held = store.revision().get();
        assert!(held >= newest, "round {round}: {newest} was acknowledged, {held} is there");
        for n in 1..=held {
            let value = store.get(format!("k{n}").as_bytes()).unwrap().map(|entry| entry.value);
            assert_eq!(value, Some(format!("{n}-").repeat(40).into()), "round {round}: k{n}");
        }
    }
}

/// The revisions that the child says, until it is gone.
fn acknowledged(out: impl Read + Send + 'static) -> Receiver<u64> {
    let (say, heard) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            // A line that the kill cut short is no acknowledgement that anybody read.
            let said = line.split_once("ack ").and_then(|(_, rest)| rest.strip_suffix(" end")?.parse().ok());
            if said.is_some_and(|revision: u64| say.send(revision).is_err()) {
                return;
            }
        }
    });
    heard
}
