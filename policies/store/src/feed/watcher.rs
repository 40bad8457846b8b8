//! One open stream: the newest snapshot at once unless the follower has it, then each that follows, and heartbeats.
//! Pulled by the connection, so a slow reader holds one frame and gets the newest state next, never a backlog.

use super::{Feed, enforcers::Permit, published::Published};
use crate::{
    generated::messages::{Heartbeat, WatchResponse, watch_response::Frame},
    position::Position,
};
use futures_util::stream::{BoxStream, StreamExt as _, try_unfold};
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior, Sleep, interval, sleep},
};
use tonic::Status;

/// How often a follower hears that all is well (ST8).
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A stream lives no longer, so that a follower is judged again; it asks again at once and loses nothing.
const AGE: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
pub(super) struct Watcher {
    feed: Arc<Feed>,
    published: watch::Receiver<Option<Arc<Published>>>,
    /// What the follower has, as far as we know.
    sent: Option<Position>,
    heartbeat: Interval,
    end: Pin<Box<Sleep>>,
    _permit: Permit,
}

impl Watcher {
    pub(super) fn new(feed: Arc<Feed>, from: Option<Position>, permit: Permit) -> Watcher {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Watcher {
            published: feed.published.clone(),
            feed,
            sent: from,
            heartbeat,
            end: Box::pin(sleep(AGE)),
            _permit: permit,
        }
    }

    pub(super) fn into_stream(self) -> BoxStream<'static, Result<WatchResponse, Status>> {
        try_unfold(self, |mut watcher| async move {
            let frame = watcher.next().await?;
            Ok(frame.map(|frame| (WatchResponse { frame: Some(frame) }, watcher)))
        })
        .boxed()
    }

    /// The next frame; none at the end of the stream.
    async fn next(&mut self) -> Result<Option<Frame>, Status> {
        loop {
            let newest = self.published.borrow_and_update().clone();
            if let Some(newest) = &newest
                && self.sent != Some(newest.position)
            {
                let frame = self.feed.frame(self.sent, newest).await?;
                self.sent = Some(newest.position);
                return Ok(Some(Frame::Snapshot((*frame).clone())));
            }
            tokio::select! {
                changed = self.published.changed() => {
                    changed.map_err(|_closed| Status::unavailable("the publisher is stopping"))?;
                }
                _ = self.heartbeat.tick() => {
                    let newest = newest.map(|newest| newest.position.to_message());
                    return Ok(Some(Frame::Heartbeat(Heartbeat { newest })));
                }
                () = self.end.as_mut() => return Ok(None),
            }
        }
    }
}
