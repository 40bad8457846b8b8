//! How long a change of 10 policies takes from its commit to 100 enforcers (policy.md 17). Prints; asserts no time:
//! `cargo test --release -p policies-store publish_to_100_followers -- --ignored --nocapture`.
//!
//! Three figures, because 100 enforcers share the cores of one machine here and would not elsewhere: the way of the
//! frame to 100 watchers that check it; what one enforcer then does, alone; and 100 whole enforcers in this process.

use super::live::{config, serve};
use super::*;
use crate::generated::{
    client::policy_feed_client::PolicyFeedClient,
    messages::{WatchRequest, watch_response::Frame},
};
use base_ports::{Clock, SystemClock};
use std::fmt::Write as _;
use tokio::net::UnixListener;

/// As in the shipped binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ENFORCERS: usize = 100;
const CHANGED: usize = 10;
const PER_FILE: usize = 50;
const ROUNDS: usize = 10;

fn file(number: usize, round: usize) -> String {
    let mut text = String::new();
    for policy in number * PER_FILE..(number + 1) * PER_FILE {
        // The first policy of each file is the one that changes.
        let round = if policy.is_multiple_of(PER_FILE) { round } else { 0 };
        writeln!(
            text,
            "@id(\"p-{policy}\")\npermit (principal == Workload::\"spiffe://example.org/w-{policy}-{round}\", action == Action::\"grpc\", resource in Service::\"orders\")\nwhen {{ context.connection.mtls && context.request.method == \"POST\" }};"
        )
        .unwrap();
    }
    text
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    println!("  {what:<58} p50 {:>9.2?}  p99 {:>9.2?}  max {:>9.2?}", at(50), at(99), times[times.len() - 1]);
}

#[tokio::test]
#[ignore = "a measurement"]
async fn publish_to_100_followers() {
    for policies in [1_000, 10_000] {
        measure(policies, if policies > 1_000 { 25 } else { ENFORCERS }).await;
    }
}

async fn measure(policies: usize, whole: usize) {
    let files = policies / PER_FILE;
    let publisher = Publisher::start(&[]).await;
    for number in 0..files {
        publisher.site.write(&format!("f-{number:04}.cedar"), file(number, 0));
    }
    publisher.store.reload().await;
    let first = publisher.sign();
    assert_eq!(publisher.store.status().diagnostics, []);
    println!(
        "{policies} policies in {files} files, {CHANGED} of them changed in {CHANGED} files, {ROUNDS} rounds:"
    );

    let (home, tasks) = (tempfile::tempdir().unwrap(), Tasks::new("measure"));
    let socket = home.path().join("admin.sock");
    tasks.spawn("serve", serve(UnixListener::bind(&socket).unwrap(), Arc::clone(&publisher.feed)));

    // One enforcer alone.
    let alone = begun(config(&publisher, &socket, "alone")).await;
    alone.start(&tasks);
    reached(&alone, first.position.snapshot).await;
    let (mut took, mut commit) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let (published, stored, at) = change(&publisher, round).await;
        commit.push(stored);
        took.push(reached(&alone, published.position.snapshot).await - at);
    }
    print("publisher: read, compile, store (before the commit)", commit);
    print("1 enforcer: commit -> enforced", took);

    // The frame to 100 watchers, each on a connection of its own.
    let clock = SystemClock;
    let (say, mut heard) = tokio::sync::mpsc::unbounded_channel();
    for at in 0..ENFORCERS {
        let (socket, say, keys) = (socket.clone(), say.clone(), publisher.signer.verifiers());
        let from = publisher.newest().position;
        tasks.spawn("watcher", async move {
            let channel = link::connect(&AdminSocket(socket)).await.unwrap();
            let mut feed = PolicyFeedClient::new(channel).max_decoding_message_size(64 << 20);
            let request = WatchRequest { from: Some(from.to_message()), enforcer: format!("watcher-{at}") };
            let mut frames = feed.watch(request).await.unwrap().into_inner();
            while let Some(frame) = frames.message().await.unwrap() {
                let Some(Frame::Snapshot(frame)) = frame.frame else { continue };
                Offer::verified(frame.manifest, frame.note, &keys).unwrap();
                assert_eq!(frame.objects.len(), CHANGED);
                say.send(SystemClock.mono()).unwrap();
            }
        });
    }
    while publisher.feed.enforcers().iter().filter(|enforcer| enforcer.is_connected).count() <= ENFORCERS {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut took = Vec::new();
    for round in ROUNDS + 1..=2 * ROUNDS {
        let (published, _, at) = change(&publisher, round).await;
        for _ in 0..ENFORCERS {
            took.push(heard.recv().await.unwrap().saturating_since(at_mono(at, &clock)));
        }
        reached(&alone, published.position.snapshot).await;
    }
    print("100 connections: commit -> frame there and its note checked", took);
    drop(tasks);

    // Whole enforcers, each of which checks and compiles everything for itself on the cores of this machine.
    let tasks = Tasks::new("whole");
    std::fs::remove_file(&socket).unwrap();
    tasks.spawn("serve", serve(UnixListener::bind(&socket).unwrap(), Arc::clone(&publisher.feed)));
    let mut followers = Vec::new();
    for at in 0..whole {
        let follower = begun(config(&publisher, &socket, &format!("gw-{at}"))).await;
        follower.start(&tasks);
        reached(&follower, publisher.newest().position.snapshot).await;
        followers.push(follower);
    }
    let mut took = Vec::new();
    for round in 2 * ROUNDS + 1..=3 * ROUNDS {
        let (published, _, at) = change(&publisher, round).await;
        let snapshot = published.position.snapshot;
        let all = followers.iter().map(|follower| reached(follower, snapshot));
        took.extend(futures_util::future::join_all(all).await.into_iter().map(|reached| reached - at));
        // Their files are written when a change has settled; the next round does not begin before that.
        for follower in &followers {
            follower.write_down().await;
        }
    }
    print(&format!("{whole} enforcers in this process: commit -> enforced"), took);
}

/// Saves a change of 10 policies; how long the publisher took, and when it was committed.
async fn change(publisher: &Publisher, round: usize) -> (Arc<Published>, Duration, tokio::time::Instant) {
    for number in 0..CHANGED {
        publisher.site.write(&format!("f-{number:04}.cedar"), file(number, round));
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    let before = tokio::time::Instant::now();
    publisher.store.reload().await;
    let stored = before.elapsed();
    let at = tokio::time::Instant::now();
    (publisher.sign(), stored, at)
}

fn at_mono(at: tokio::time::Instant, clock: &SystemClock) -> base_ports::Mono {
    let (now, since) = (clock.mono(), at.elapsed());
    base_ports::Mono::from_nanos(now.as_nanos() - u64::try_from(since.as_nanos()).unwrap())
}

/// When that snapshot was in force.
async fn reached(follower: &Follower, snapshot: u64) -> tokio::time::Instant {
    let mut snapshots = follower.subscribe();
    let is_there = |now: &Option<Arc<Snapshot>>| {
        now.as_ref().is_some_and(|now| now.versions().numbers.snapshot >= snapshot)
    };
    drop(snapshots.wait_for(is_there).await.unwrap());
    tokio::time::Instant::now()
}
