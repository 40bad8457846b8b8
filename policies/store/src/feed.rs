//! `PolicyFeed`: signed snapshots for enforcers in other processes, and what they report (ST8).
//!
//! `portcullis` serves [`Feed::routes`] beside its API, after Cedar allowed the caller, whose [`Principal`] each request
//! carries as an extension. The feed hands out what the store has committed and signed, byte for byte; it never makes
//! anything. Refused: calls without a caller, and hashes that are none.

mod announce;
mod enforcers;
mod published;
mod watcher;

use crate::{
    PolicyStoreError,
    archive::Archive,
    content::Hash,
    follow::SnapshotFile,
    generated::{
        messages::{
            self, FetchRequest, FetchResponse, ReportRequest, ReportResponse, WatchRequest, WatchResponse,
        },
        server::policy_feed_server::{PolicyFeed, PolicyFeedServer},
    },
    position::Position,
};
use base_ports::Clock;
use enforcers::{Enforcers, TooMany};
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use policies_engine::Principal;
use prost::bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};
use tonic::{Request, Response, Status, service::Routes};
use watcher::Watcher;

pub use announce::Announcement;
pub use enforcers::EnforcerStatus;
pub(crate) use published::{Published, bytes_of};

/// A request is small; the longest names this many objects.
const REQUEST_BYTES: usize = 512 << 10;
const HASHES: usize = 10_000;
/// Objects are fetched in pieces of this size.
const PIECE: usize = 256 << 10;
/// Frames that are kept for the next follower: most ask for the same step.
const FRAMES: usize = 8;

/// What a store publishes, for any number of followers.
#[derive(Debug)]
pub struct Feed {
    published: watch::Receiver<Option<Arc<Published>>>,
    archive: Archive,
    clock: Arc<dyn Clock>,
    enforcers: Enforcers,
    frames: Mutex<Vec<Framed>>,
}

/// The step from one position to another.
#[derive(Debug)]
struct Framed {
    from: Option<Position>,
    to: Position,
    frame: Arc<messages::Snapshot>,
}

impl Feed {
    /// Descriptors of the service, for server reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!("generated/feed.binpb");

    pub(crate) fn new(
        published: watch::Receiver<Option<Arc<Published>>>,
        archive: Archive,
        clock: Arc<dyn Clock>,
    ) -> Arc<Feed> {
        let (enforcers, frames) = (Enforcers::default(), Mutex::default());
        Arc::new(Feed { published, archive, clock, enforcers, frames })
    }

    /// The gRPC service.
    pub fn routes(self: &Arc<Feed>) -> Routes {
        let service = PolicyFeedServer::new(Service(Arc::clone(self)));
        Routes::new(service.max_decoding_message_size(REQUEST_BYTES))
    }

    /// Every enforcer that ever asked or reported, with its last report.
    #[must_use]
    pub fn enforcers(&self) -> Vec<EnforcerStatus> {
        self.enforcers.list()
    }

    /// What enforcers should have in force: now, and whenever it changes.
    #[must_use]
    pub fn newest(&self) -> Option<Position> {
        self.published.borrow().as_ref().map(|published| published.position)
    }

    /// The snapshot file of what is published (ST9), for an enforcer to begin with; none when nothing is. Blocks.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn snapshot_file(&self) -> Result<Option<Vec<u8>>, PolicyStoreError> {
        let Some(published) = self.published.borrow().clone() else { return Ok(None) };
        let objects = published.objects.iter().map(|reference| reference.sha256);
        let read = |hash: Hash| Ok::<_, PolicyStoreError>((hash, Bytes::from(self.archive.bytes(&hash)?)));
        let (manifest, note) = (published.manifest.clone(), published.note.clone());
        Ok(Some(
            SnapshotFile { manifest, note, objects: objects.map(read).collect::<Result<_, _>>()? }.encode(),
        ))
    }

    /// What is published, and where its objects lie.
    #[cfg(test)]
    pub(crate) fn parts(&self) -> (watch::Receiver<Option<Arc<Published>>>, Archive) {
        (self.published.clone(), self.archive.clone())
    }

    /// What comes into force, from now on and unless the reader has it: for people and programs that only look.
    pub fn announcements(&self, from: Option<(u64, u64)>) -> BoxStream<'static, Announcement> {
        announce::stream(self.published.clone(), from)
    }

    /// The frame of a step; made once for all who take it at the same time.
    async fn frame(
        &self,
        from: Option<Position>,
        to: &Arc<Published>,
    ) -> Result<Arc<messages::Snapshot>, Status> {
        let mut frames = self.frames.lock().await;
        let is_it = |framed: &&Framed| framed.from == from && framed.to == to.position;
        if let Some(framed) = frames.iter().find(is_it) {
            return Ok(Arc::clone(&framed.frame));
        }
        let (archive, next) = (self.archive.clone(), Arc::clone(to));
        let frame = Arc::new(blocking(move || next.frame(from.as_ref(), &archive)).await?);
        frames.retain(|framed| framed.to == to.position);
        frames.truncate(FRAMES.saturating_sub(1));
        frames.insert(0, Framed { from, to: to.position, frame: Arc::clone(&frame) });
        Ok(frame)
    }
}

#[derive(Debug)]
struct Service(Arc<Feed>);

#[tonic::async_trait]
impl PolicyFeed for Service {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;
    type FetchStream = BoxStream<'static, Result<FetchResponse, Status>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = caller(&request)?;
        let WatchRequest { from, enforcer } = request.into_inner();
        let from = match from {
            None => None,
            Some(from) => Some(Position::from_message(&from).ok_or_else(no_hash)?),
        };
        let permit = self.0.enforcers.admit(&caller, &enforcer)?;
        Ok(Response::new(Watcher::new(Arc::clone(&self.0), from, permit).into_stream()))
    }

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        caller(&request)?;
        let asked = request.into_inner().sha256;
        if asked.len() > HASHES {
            return Err(Status::invalid_argument(format!("more than {HASHES} objects in one call")));
        }
        let asked: Vec<Hash> = asked.iter().map(hash).collect::<Result<_, _>>()?;
        let archive = self.0.archive.clone();
        let objects = stream::iter(asked).then(move |hash| {
            let archive = archive.clone();
            async move {
                let content = blocking(move || archive.bytes(&hash)).await?;
                Ok::<_, Status>(stream::iter(pieces(hash, content).into_iter().map(Ok)))
            }
        });
        Ok(Response::new(objects.try_flatten().boxed()))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let caller = caller(&request)?;
        let report = request.into_inner();
        if let Some(refusal) = &report.refusal {
            tracing::warn!(
                event = "snapshot_refused_by_enforcer",
                enforcer = %caller,
                code = %refusal.code,
                detail = %refusal.detail,
                "an enforcer keeps its last good policies"
            );
        }
        self.0.enforcers.report(&caller, report, self.0.clock.now().wall)?;
        Ok(Response::new(ReportResponse {}))
    }
}

fn caller<T>(request: &Request<T>) -> Result<Principal, Status> {
    let caller = request.extensions().get::<Principal>().cloned();
    caller.ok_or_else(|| Status::internal("the connection carries no caller"))
}

fn hash(bytes: &Bytes) -> Result<Hash, Status> {
    // The slice says nothing that the refusal does not.
    <[u8; 32]>::try_from(&**bytes).map(Hash).map_err(|_length| no_hash())
}

fn no_hash() -> Status {
    Status::invalid_argument("a SHA-256 has 32 bytes")
}

/// An object in pieces, the last one marked; an empty object is one empty piece.
fn pieces(hash: Hash, content: Vec<u8>) -> Vec<FetchResponse> {
    let content = Bytes::from(content);
    let count = content.len().div_ceil(PIECE).max(1);
    let piece = |at: usize| {
        let (start, end) = (at.saturating_mul(PIECE), at.saturating_add(1).saturating_mul(PIECE));
        let piece = content.slice(start.min(content.len())..end.min(content.len()));
        FetchResponse { sha256: bytes_of(&hash), piece, last: at.saturating_add(1) == count }
    };
    (0..count).map(piece).collect()
}

/// Reading the archive blocks; the runtime must not.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PolicyStoreError> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(cause)) => {
            tracing::error!(event = "feed_unreadable", %cause, "the policy feed cannot read what it should send");
            Err(Status::unavailable("what is stored cannot be read"))
        }
        Err(cause) => {
            tracing::error!(event = "feed_unreadable", %cause, "the policy feed failed");
            Err(Status::unavailable("what is stored cannot be read"))
        }
    }
}

impl From<TooMany> for Status {
    fn from(cause: TooMany) -> Status {
        Status::resource_exhausted(cause.0)
    }
}
