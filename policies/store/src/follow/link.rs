//! The connection to the publisher: watch, fetch what is missing, report; connect again after growing, jittered waits.

use super::{Follower, Way, held::damaged, refused::Refused, take::Taken};
use crate::{
    content::Hash,
    feed::bytes_of,
    generated::{
        client::policy_feed_client::PolicyFeedClient,
        messages::{FetchRequest, WatchRequest, watch_response::Frame},
    },
    position::Position,
};
use base_ports::Rng;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prost::bytes::{Bytes, BytesMut};
use std::{collections::HashMap, fmt, io, sync::Arc, time::Duration};
use tokio::time::timeout;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

/// Waits between connections: half of it is certain, half is chance.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
/// Three heartbeats.
const QUIET: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(30);
/// What is in force is told this often, also when it is the same.
const REPORT: Duration = Duration::from_secs(60);
/// A manifest of 100,000 objects, and small objects with it.
const FRAME_BYTES: usize = 64 << 20;
/// Objects asked for in one call.
const HASHES: usize = 1_000;
/// How tonic tells of a refusal of HTTP alone, without a body and with one.
const NO_SERVICE: [&str; 2] = ["grpc-status header missing", "while receiving response with status: 4"];
/// No object is larger.
const OBJECT_BYTES: usize = 64 << 20;

/// Follows until it is dropped.
pub(super) async fn run(follower: Arc<Follower>) {
    let mut wait = FIRST;
    loop {
        let mut has_heard = false;
        let ended = session(&follower, &mut has_heard).await;
        follower.parted(&ended);
        wait = if has_heard { FIRST } else { wait.saturating_mul(2).min(LONGEST) };
        tokio::select! {
            () = tokio::time::sleep(jittered(wait, follower.config.rng.as_ref())) => {}
            () = follower.again.notified() => {}
        }
    }
}

fn jittered(wait: Duration, rng: &dyn Rng) -> Duration {
    let half = wait / 2;
    let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
    half.saturating_add(Duration::from_nanos(rng.u64() % nanos))
}

/// Why a connection ended.
pub(super) enum Ended {
    /// As it should: it is asked again over a new one.
    Well(&'static str),
    /// It is asked again as well, and somebody may have to do something.
    Ill(String),
}

impl Ended {
    fn ill(cause: impl fmt::Display) -> Ended {
        Ended::Ill(cause.to_string())
    }
}

impl From<tonic::Status> for Ended {
    fn from(status: tonic::Status) -> Ended {
        let message = status.message();
        // No service answered: the call was turned away before.
        if NO_SERVICE.iter().any(|words| message.contains(words)) {
            return Ended::ill(
                "the publisher does not let this process follow: it is of an older release, publishes no policies, or its \
                 policies forbid it",
            );
        }
        if matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented) {
            return Ended::Ill(format!("the publisher does not let this process follow: {message}"));
        }
        Ended::Ill(format!("{}: {}", status.code(), message))
    }
}

impl Follower {
    /// A connection ended. What is wrong is told once, until the publisher was heard again.
    fn parted(&self, ended: &Ended) {
        let mut state = self.state.lock();
        state.is_connected = false;
        match ended {
            Ended::Well(why) => {
                tracing::debug!(event = "policy_feed_ended", why, "the publisher is asked again")
            }
            Ended::Ill(cause) if state.problem.as_ref() == Some(cause) => {}
            Ended::Ill(cause) => {
                tracing::warn!(event = "policy_feed_ended", publisher = %self.config.way.place(), cause, "the last good policies stay in force");
                state.problem = Some(cause.clone());
            }
        }
    }
}

/// One connection, from its first frame to its end.
async fn session(follower: &Follower, has_heard: &mut bool) -> Ended {
    match follow(follower, has_heard).await {
        Ok(()) => Ended::Well("the publisher closed the stream"),
        Err(ended) => ended,
    }
}

async fn follow(follower: &Follower, has_heard: &mut bool) -> Result<(), Ended> {
    if follower.keys().is_empty() {
        return Err(Ended::ill("no key is known yet whose signature on policies would be believed"));
    }
    let channel = connect(follower.config.way.as_ref()).await.map_err(Ended::ill)?;
    let mut feed = PolicyFeedClient::new(channel).max_decoding_message_size(FRAME_BYTES);
    let held = follower.writer.lock().await.held.as_ref().map(|held| held.offer.position);
    let asked = WatchRequest { from: held.map(Position::to_message), enforcer: follower.config.name.clone() };
    let watching = timeout(ANSWER, feed.watch(asked)).await.map_err(|_late| Ended::ill("no answer"))?;
    let mut frames = watching?.into_inner();
    follower.state.lock().is_connected = true;
    report(follower, &mut feed).await;
    let mut reported = follower.config.clock.mono();
    loop {
        let frame = tokio::select! {
            frame = timeout(QUIET, frames.message()) => frame,
            () = follower.again.notified() => return Err(Ended::Well("it is asked again from the start")),
        };
        let frame = frame.map_err(|_late| Ended::ill("no heartbeat"))??;
        let Some(frame) = frame else { return Ok(()) };
        *has_heard = true;
        match frame.frame {
            Some(Frame::Heartbeat(heartbeat)) => {
                follower.hear(heartbeat.newest.as_ref().and_then(Position::from_message)).await;
                let now = follower.config.clock.mono();
                if now.saturating_since(reported) >= REPORT {
                    report(follower, &mut feed).await;
                    reported = now;
                }
            }
            Some(Frame::Snapshot(snapshot)) => {
                let fetching = feed.clone();
                let fetch = async move |missing| fetch(fetching, missing).await;
                let tell = async || report(follower, &mut feed).await;
                match follower.take(snapshot, fetch, tell).await {
                    Taken::InForce => follower.hear(follower.running()).await,
                    Taken::Known => follower.hear(None).await,
                    Taken::Refused(refused) if refused.offered.is_some() => {
                        follower.hear(refused.offered).await
                    }
                    // Somebody on the way changes what is sent; it is no sign of life either.
                    Taken::Refused(refused) => {
                        *has_heard = false;
                        return Err(Ended::Ill(refused.detail));
                    }
                }
            }
            None => return Err(Ended::ill("a frame of an unknown kind")),
        }
    }
}

/// A channel over one connection: when that ends, so does the channel.
pub(super) async fn connect(way: &dyn Way) -> io::Result<Channel> {
    let dialled = timeout(CONNECT, way.dial()).await;
    let stream = dialled.unwrap_or_else(|_late| Err(io::Error::from(io::ErrorKind::TimedOut)))?;
    let stream = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let connector = tower::service_fn(move |_| {
        let first = stream.lock().take();
        async move { first.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    // Who answers is for the way to know, so the name in the requests has no meaning; clients of sockets send this one.
    let endpoint = Endpoint::from_static("http://localhost").connect_timeout(CONNECT);
    endpoint.connect_with_connector(connector).await.map_err(io::Error::other)
}

/// Tells the publisher what is in force. It is for people to see, so a failure changes nothing.
async fn report(follower: &Follower, feed: &mut PolicyFeedClient<Channel>) {
    match timeout(ANSWER, feed.report(follower.report())).await {
        Ok(Ok(_)) => {}
        Ok(Err(status)) => {
            tracing::debug!(event = "policy_report_refused", %status, "the report was not taken")
        }
        Err(_late) => tracing::debug!(event = "policy_report_late", "the report was not taken in time"),
    }
}

/// The objects of these hashes, as the publisher sends them.
async fn fetch(
    mut feed: PolicyFeedClient<Channel>,
    missing: Vec<Hash>,
) -> Result<HashMap<Hash, Bytes>, Refused> {
    let fault = |status: tonic::Status| damaged(format!("objects cannot be fetched: {}", status.message()));
    let mut all = HashMap::with_capacity(missing.len());
    for part in missing.chunks(HASHES) {
        let asked = FetchRequest { sha256: part.iter().map(bytes_of).collect() };
        let mut pieces = feed.fetch(asked).await.map_err(fault)?.into_inner();
        for hash in part {
            let mut content = BytesMut::new();
            loop {
                let next = timeout(ANSWER, pieces.message()).await;
                let next = next.map_err(|_late| damaged("objects come too slowly".to_owned()))?;
                let piece = next.map_err(fault)?.filter(|piece| *piece.sha256 == hash.0);
                let piece = piece.ok_or_else(|| damaged(format!("object {hash} is missing")))?;
                if content.len().saturating_add(piece.piece.len()) > OBJECT_BYTES {
                    return Err(damaged(format!("object {hash} is larger than any can be")));
                }
                content.extend_from_slice(&piece.piece);
                if piece.last {
                    break;
                }
            }
            all.insert(*hash, content.freeze());
        }
    }
    Ok(all)
}
