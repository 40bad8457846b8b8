//! The end of a process whose place another has taken: its calls end in their time, or at once when the other says that
//! policies or trust have changed, which this one cannot know any more.

use std::time::Duration;

use super::super::aside::Aside;
use super::super::process::DataPlane;
use super::super::running::Released;
use super::successor::Successor;
use super::word::{Peer, Word};

/// What calls get that were permitted by what is not in force any more (CT-03).
const HURRY: Duration = Duration::from_millis(800);
/// Between two looks whether this process is to end.
const LOOK: Duration = Duration::from_millis(250);

/// What is left of this process.
pub(crate) struct Relieved {
    plane: Option<DataPlane>,
    aside: Aside,
    /// The process that serves; none when there is none.
    peer: Option<Peer>,
    grace: Duration,
}

impl Relieved {
    /// Leaves everything to the new process, which is told that it may begin.
    pub(super) async fn begin(released: Released, successor: Successor, grace: Duration) -> Self {
        let Released { process, plane, aside, .. } = released;
        let (pid, peer) = successor.part();
        base_net::notify::main_process(pid);
        if let Some(plane) = &plane {
            plane.proxy.relieve(grace).await;
        }
        process.sockets.hand_over();
        process.upgrades.follow(Vec::new());
        let told = peer.clone();
        let told = tokio::task::spawn_blocking(move || told.say(&Word::Go, &[])).await;
        match told {
            Ok(Ok(())) => tracing::info!(event = "relieved", pid, "another process serves"),
            // Its listening sockets are open elsewhere, or nowhere: nothing more can be done here.
            _ => tracing::error!(event = "relieved", pid, "the process that was to serve has gone"),
        }
        Self { plane, aside, peer: Some(peer), grace }
    }

    /// Nobody has taken over, and this process cannot go on.
    pub(super) fn alone(released: Released, grace: Duration) -> Self {
        Self { plane: released.plane, aside: released.aside, peer: None, grace }
    }

    /// Ends its calls in their time.
    pub(crate) async fn end(self) {
        let Self { plane, aside, peer, grace } = self;
        if let Some(plane) = plane {
            match peer {
                None => plane.drain(grace).await,
                Some(peer) => {
                    let changed = tokio::select! {
                        () = plane.proxy.end(grace) => None,
                        why = told(&peer) => Some(why),
                    };
                    if let Some(why) = changed {
                        let open = plane.proxy.open();
                        tracing::info!(event = "drain_hurried", open, "{why}: connections end at once");
                        plane.proxy.hurry(HURRY).await;
                    }
                    plane.told().await;
                }
            }
        }
        aside.close().await;
    }
}

/// Returns when this process must not go on judging by what it knows.
async fn told(peer: &Peer) -> &'static str {
    loop {
        let heard = peer.clone();
        match tokio::task::spawn_blocking(move || heard.hear(LOOK)).await {
            Ok(Ok(Some((Word::Changed, _)))) => return "policies or trust changed",
            Ok(Ok(None)) => return "the process that serves has gone",
            // It is quiet.
            Ok(Ok(Some(_)) | Err(_)) => {}
            Err(_cancelled) => return "this process ends",
        }
    }
}
