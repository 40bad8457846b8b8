//! The connection to the publisher: watch, fetch what is missing, report; connect again after growing, jittered waits.

use super::{Follower, held::damaged, refused::Refused, take::Taken};
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
use prost::bytes::{Bytes, BytesMut};
use std::{collections::HashMap, fmt, path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::UnixStream, time::timeout};
use tonic::transport::{Channel, Endpoint};

/// Waits between connections: half of it is certain, half is chance.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
/// Three heartbeats.
const QUIET: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(30);
/// A manifest of 100,000 objects, and small objects with it.
const FRAME_BYTES: usize = 64 << 20;
/// Objects asked for in one call.
const HASHES: usize = 1_000;
/// No object is larger.
const OBJECT_BYTES: usize = 64 << 20;

/// Follows until it is dropped.
pub(super) async fn run(follower: Arc<Follower>) {
    let mut wait = FIRST;
    loop {
        let mut has_heard = false;
        let ended = session(&follower, &mut has_heard).await;
        follower.state.lock().is_connected = false;
        tracing::debug!(event = "policy_feed_ended", cause = %ended, "the publisher is asked again");
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
struct Ended(String);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<tonic::Status> for Ended {
    fn from(status: tonic::Status) -> Ended {
        Ended(format!("{}: {}", status.code(), status.message()))
    }
}

/// One connection, from its first frame to its end.
async fn session(follower: &Follower, has_heard: &mut bool) -> Ended {
    match follow(follower, has_heard).await {
        Ok(()) => Ended("the publisher closed the stream".to_owned()),
        Err(ended) => ended,
    }
}

async fn follow(follower: &Follower, has_heard: &mut bool) -> Result<(), Ended> {
    let channel = connect(follower.config.socket.clone()).await.map_err(|cause| Ended(cause.to_string()))?;
    let mut feed = PolicyFeedClient::new(channel).max_decoding_message_size(FRAME_BYTES);
    let held = follower.writer.lock().await.held.as_ref().map(|held| held.offer.position);
    let asked = WatchRequest { from: held.map(Position::to_message), enforcer: follower.config.name.clone() };
    let watching = timeout(ANSWER, feed.watch(asked)).await.map_err(|_late| Ended("no answer".to_owned()))?;
    let mut frames = watching?.into_inner();
    follower.state.lock().is_connected = true;
    report(follower, &mut feed).await;
    loop {
        let frame = tokio::select! {
            frame = timeout(QUIET, frames.message()) => frame,
            () = follower.again.notified() => return Err(Ended("what was refused is asked for again".to_owned())),
        };
        let frame = frame.map_err(|_late| Ended("no heartbeat".to_owned()))??;
        let Some(frame) = frame else { return Ok(()) };
        *has_heard = true;
        match frame.frame {
            Some(Frame::Heartbeat(heartbeat)) => {
                follower.hear(heartbeat.newest.as_ref().and_then(Position::from_message)).await;
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
                        return Err(Ended(refused.detail));
                    }
                }
            }
            None => return Err(Ended("a frame of an unknown kind".to_owned())),
        }
    }
}

pub(super) async fn connect(path: PathBuf) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The authority of a Unix socket has no meaning; clients send this one.
    Endpoint::from_static("http://localhost").connect_timeout(CONNECT).connect_with_connector(connector).await
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
