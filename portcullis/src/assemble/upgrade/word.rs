//! What the two processes of an upgrade say to each other, in this order; each message is one JSON document.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use base_net::handover::Channel;
use serde::{Deserialize, Serialize};

/// Version of the conversation; processes of different versions do not understand each other.
pub(super) const FORMAT: u32 = 1;

/// Bytes of the nonce.
pub(super) const NONCE: usize = 32;

/// One message.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "snake_case")]
pub(super) enum Word {
    /// The new process: who it is. The nonce came to it by a pipe.
    Hello { format: u32, nonce: [u8; NONCE], version: String },
    /// The old process: sockets come with it, these are their names.
    Sockets { names: Vec<String> },
    /// The old process: connections to the processes before it that have not ended come with it.
    Before,
    /// The new process: its configuration is good, and it could begin.
    Prepared,
    /// The old process: the state is free. Its calls are judged by that configuration and that version of the policies.
    Released { config: String, policies: Option<u64> },
    /// The new process: it serves as soon as it may.
    Ready,
    /// The old process: it accepts nothing more.
    Go,
    /// The new process: policies or trust changed, and the old one does not know them.
    Changed,
    /// The new process: why it cannot take over.
    Failed { why: String },
}

/// The other process.
#[derive(Debug, Clone)]
pub(super) struct Peer(Arc<Channel>);

impl Word {
    /// Why the other process does not go on, when it says something else than what must come.
    pub(super) fn refusal(self) -> String {
        match self {
            Self::Failed { why } => why,
            other => format!("the other process said {other:?} out of turn"),
        }
    }
}

impl Peer {
    pub(super) fn new(channel: Channel) -> Self {
        Self(Arc::new(channel))
    }

    /// The way to it, for another process.
    pub(super) fn channel(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Says it, with descriptors.
    ///
    /// # Errors
    /// The other process is gone.
    pub(super) fn say(&self, word: &Word, descriptors: &[BorrowedFd<'_>]) -> Result<(), String> {
        let text = serde_json::to_vec(word).map_err(|error| error.to_string())?;
        self.0.send(&text, descriptors).map_err(|error| format!("the other process hears nothing: {error}"))
    }

    /// Whether it has ended, or says what nobody waits for.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.hear(Duration::ZERO), Ok(None))
    }

    /// What it says next; none when it has gone.
    ///
    /// # Errors
    /// It says nothing in time, or nothing that is understood.
    pub(super) fn hear(&self, within: Duration) -> Result<Option<(Word, Vec<OwnedFd>)>, String> {
        let heard = self.0.receive(Some(within)).map_err(|error| match error.kind() {
            std::io::ErrorKind::TimedOut => {
                format!("the other process said nothing for {} s", within.as_secs())
            }
            _ => format!("the other process cannot be heard: {error}"),
        })?;
        let Some((text, descriptors)) = heard else { return Ok(None) };
        let word = serde_json::from_slice(&text).map_err(|error| format!("it is not understood: {error}"))?;
        Ok(Some((word, descriptors)))
    }

    /// The same without blocking the runtime.
    pub(super) async fn listen(&self, within: Duration) -> Result<Word, String> {
        let peer = self.clone();
        let heard = tokio::task::spawn_blocking(move || peer.hear(within)).await;
        let heard = heard.map_err(|error| error.to_string())??;
        heard.map(|(word, _)| word).ok_or_else(|| "the other process ended".to_owned())
    }
}
