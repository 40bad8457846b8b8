//! Over a real socket: convergence, a publisher that goes and comes back, a relay that edits, slow readers, reports.

use super::*;
use base_ports::{SystemClock, SystemRng};
use futures_util::StreamExt as _;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use policies_engine::Principal;
use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    time::timeout,
};

/// Serves the feed as `portcullis` does, with the caller of each connection.
pub(super) async fn serve(listener: UnixListener, feed: Arc<Feed>) {
    let tasks = Tasks::new("connections");
    while let Ok((stream, _)) = listener.accept().await {
        let routes = feed.routes();
        let service = tower::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Principal::local_user(1000, None, &[]));
            tower::ServiceExt::oneshot(routes.clone(), request)
        });
        tasks.spawn("connection", async move {
            let server = auto::Builder::new(TokioExecutor::new()).http2_only();
            drop(server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await);
        });
    }
}

pub(super) fn config(publisher: &Publisher, socket: &Path, name: &str) -> FollowConfig {
    FollowConfig {
        way: Arc::new(AdminSocket(socket.to_owned())),
        name: name.to_owned(),
        clock: Arc::new(SystemClock),
        rng: Arc::new(SystemRng),
        ..publisher.config(&Arc::new(MemoryDisk::new()))
    }
}

async fn reaches(follower: &Follower, snapshot: u64) {
    let mut snapshots = follower.subscribe();
    let reached =
        snapshots.wait_for(|now| now.as_ref().is_some_and(|now| now.versions().numbers.snapshot >= snapshot));
    drop(timeout(Duration::from_secs(20), reached).await.expect("in time").unwrap());
}

#[tokio::test]
async fn st8_followers_converge_report_and_resume_after_the_publisher_was_away() {
    let (home, tasks) = (tempfile::tempdir().unwrap(), Tasks::new("test"));
    let socket = home.path().join("admin.sock");
    let publisher = Publisher::start(&[("a.cedar", READ), ("b.cedar", "")]).await;
    let serving =
        tasks.spawn("serve", serve(UnixListener::bind(&socket).unwrap(), Arc::clone(&publisher.feed)));
    let (one, two) =
        (begun(config(&publisher, &socket, "gw-1")).await, begun(config(&publisher, &socket, "gw-2")).await);
    for follower in [&one, &two] {
        follower.start(&tasks);
    }
    for follower in [&one, &two] {
        reaches(follower, 1).await;
    }
    let second = publisher.publish("b.cedar", STOP).await;
    for follower in [&one, &two] {
        reaches(follower, 2).await;
        assert_eq!(verdict(follower), (2, Effect::Deny));
    }
    let reported = async {
        while !publisher.feed.enforcers().iter().all(|enforcer| enforcer.running == Some(second.position)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), reported).await.expect("both report what they run");
    let names: Vec<_> = publisher
        .feed
        .enforcers()
        .into_iter()
        .map(|enforcer| (enforcer.principal, enforcer.name, enforcer.is_connected, enforcer.refusal))
        .collect();
    let who = "Portcullis::LocalUser::\"1000\"".to_owned();
    assert_eq!(names, [(who.clone(), "gw-1".to_owned(), true, None), (who, "gw-2".to_owned(), true, None)]);

    serving.abort();
    std::fs::remove_file(&socket).unwrap();
    let third = publisher.publish("b.cedar", "").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(verdict(&one), (2, Effect::Deny), "the last good one stays in force");
    tasks.spawn("serve", serve(UnixListener::bind(&socket).unwrap(), Arc::clone(&publisher.feed)));
    for follower in [&one, &two] {
        reaches(follower, 3).await;
        let told = async {
            while follower.follow_status().wanted != Some(third.position) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), told).await.expect("it knows what is wanted");
        assert!(follower.follow_status().is_connected);
    }
}

#[tokio::test]
async fn ps4_a_relay_that_edits_bytes_changes_nothing_but_the_time_it_takes() {
    let (home, tasks) = (tempfile::tempdir().unwrap(), Tasks::new("test"));
    let (socket, relayed) = (home.path().join("admin.sock"), home.path().join("relay.sock"));
    let publisher = Publisher::start(&[("a.cedar", READ), ("b.cedar", "")]).await;
    let follower = begun(config(&publisher, &relayed, "gw-1")).await;
    assert_eq!(take(&follower, publisher.whole(&publisher.newest())).await, Taken::InForce);
    let second = publisher.publish("b.cedar", STOP).await;
    tasks.spawn("serve", serve(UnixListener::bind(&socket).unwrap(), Arc::clone(&publisher.feed)));
    let connections = Arc::new(AtomicUsize::new(0));
    tasks.spawn("relay", relay(UnixListener::bind(&relayed).unwrap(), socket, Arc::clone(&connections)));
    follower.start(&tasks);
    reaches(&follower, 2).await;
    assert!(connections.load(Ordering::Relaxed) > EDITS, "every edit ended its connection");
    assert_eq!(follower.running(), Some(second.position));
    assert_eq!(verdict(&follower), (2, Effect::Deny));
}

/// So many connections have a byte edited, each at another place.
const EDITS: usize = 4;

async fn relay(listener: UnixListener, publisher: PathBuf, connections: Arc<AtomicUsize>) {
    let tasks = Tasks::new("relayed");
    while let Ok((mut near, _)) = listener.accept().await {
        let number = connections.fetch_add(1, Ordering::Relaxed);
        let publisher = publisher.clone();
        tasks.spawn("connection", async move {
            let Ok(mut far) = UnixStream::connect(publisher).await else { return };
            let (mut near_in, mut near_out) = near.split();
            let (mut far_in, mut far_out) = far.split();
            let back = async {
                let (mut buffer, mut seen) = ([0; 4096], 0);
                // Behind the settings of HTTP/2 and the head of the answer, in the first frame.
                let edited = if number < EDITS { 300 + number * 251 } else { usize::MAX };
                while let Ok(count @ 1..) = far_in.read(&mut buffer).await {
                    if let Some(byte) = edited.checked_sub(seen).and_then(|at| buffer[..count].get_mut(at)) {
                        *byte ^= 0x10;
                    }
                    seen += count;
                    if near_out.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            };
            let there = tokio::io::copy(&mut near_in, &mut far_out);
            tokio::select! { () = back => {} _ = there => {} }
        });
    }
}

#[tokio::test]
async fn st8_a_slow_reader_gets_the_newest_state_next_and_no_backlog() {
    let publisher = Publisher::start(&[("a.cedar", READ), ("b.cedar", "")]).await;
    let mut told = publisher.feed.announcements(None);
    let mut numbers = Vec::new();
    for round in 0..3 {
        for edit in 0..3 {
            publisher
                .publish("b.cedar", &STOP.replace("\"stop\"", &format!("\"stop-{round}-{edit}\"")))
                .await;
        }
        if let Some(crate::Announcement::Snapshot { position, manifest, note, .. }) = told.next().await {
            assert_eq!(Hash::of(&manifest).0, position.digest);
            assert!(
                crate::verify(std::str::from_utf8(&note).unwrap(), &manifest, &publisher.signer.verifiers())
                    .is_ok()
            );
            numbers.push(position.snapshot);
        }
    }
    assert_eq!(numbers, [4, 7, 10]);
    let known = publisher.newest().position.number();
    let quiet = timeout(Duration::from_millis(200), publisher.feed.announcements(Some(known)).next()).await;
    assert!(quiet.is_err(), "who has the newest is told nothing");
}

async fn is_told(follower: &Follower, words: &str) {
    let told = async {
        while !follower.follow_status().problem.is_some_and(|problem| problem.contains(words)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let seen = timeout(Duration::from_secs(10), told).await;
    seen.unwrap_or_else(|_late| panic!("{:?}", follower.follow_status()));
}

#[tokio::test]
async fn st4_a_follower_takes_nothing_until_it_believes_a_key_and_then_what_that_key_signed() {
    let (home, tasks) = (tempfile::tempdir().unwrap(), Tasks::new("test"));
    let socket = home.path().join("admin.sock");
    let publisher = Publisher::start(&[("a.cedar", READ), ("b.cedar", "")]).await;
    tasks.spawn("serve", serve(UnixListener::bind(&socket).unwrap(), Arc::clone(&publisher.feed)));
    let keyless = FollowConfig { signers: Vec::new(), ..config(&publisher, &socket, "gw-1") };
    let follower = begun(keyless).await;
    follower.start(&tasks);
    is_told(&follower, "no key is known yet").await;
    assert!(publisher.feed.enforcers().is_empty(), "it asks nobody");

    let stranger = Signer::ephemeral("example.org", Arc::new(SeededRng::new(8))).unwrap();
    follower.believe(stranger.verifiers()).await;
    let refused = async {
        while follower.follow_status().refusal.is_none_or(|(code, _)| code != "PC2021") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), refused).await.expect("another key signed it");
    assert!(follower.subscribe().borrow().is_none());

    follower.believe(publisher.signer.verifiers()).await;
    reaches(&follower, 1).await;
    let status = follower.follow_status();
    assert!(status.refusal.is_none(), "{status:?}");
    // Over a new connection nothing is taken twice, and nothing lost.
    follower.reconnect();
    publisher.publish("b.cedar", STOP).await;
    reaches(&follower, 2).await;
    assert_eq!(follower.follow_status().problem, None);
}

#[tokio::test]
async fn ps8_a_publisher_that_knows_no_such_right_is_named_and_the_last_good_policies_stay() {
    let (home, tasks) = (tempfile::tempdir().unwrap(), Tasks::new("test"));
    let socket = home.path().join("admin.sock");
    let publisher = Publisher::start(&[("a.cedar", READ), ("b.cedar", "")]).await;
    let listener = UnixListener::bind(&socket).unwrap();
    // As a release answers that lets no agent read policies.
    tasks.spawn("refuse", async move {
        let tasks = Tasks::new("connections");
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|_: http::Request<hyper::body::Incoming>| async {
                let answer = http::Response::builder().status(403).body(String::from("{\"title\":\"no\"}"));
                Ok::<_, std::convert::Infallible>(answer.unwrap())
            });
            tasks.spawn("connection", async move {
                let server = auto::Builder::new(TokioExecutor::new()).http2_only();
                drop(server.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    let follower = begun(config(&publisher, &socket, "gw-1")).await;
    assert_eq!(take(&follower, publisher.whole(&publisher.newest())).await, Taken::InForce);
    follower.start(&tasks);
    is_told(&follower, "it is of an older release").await;
    assert_eq!(verdict(&follower).0, 1, "the last good one stays in force");
}
