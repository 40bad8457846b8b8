//! `POST /v1/agents:sync` and `/v1/agents:acknowledge`: what an agent of another host has to know, as a stream that goes
//! on while it lasts (AG-01). One JSON document a line.
//!
//! Each change is told within moments of it, and once a minute the versions of what the agent should have. The stream
//! ends when the agent is evicted, banned, or its SVID has ended (RV-02).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use ca_identity::SpiffeId;
use futures_util::stream::{self, Stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

use super::asker::Asker;
use super::body::Json;
use super::problem::Problem;
use crate::authority::{Changes, Following};
use crate::sync::{Frame, Resume, Sent};
use crate::{Authority, Requester};

/// How often an agent is told what it should have (identity.md 3).
const COMPARED: Duration = Duration::from_secs(60);
/// Changes that come close together are told together.
const TOGETHER: Duration = Duration::from_millis(10);

/// Follows what the agent that asks has to know: entries of its own and of every agent, bundles, the deny set. The body
/// says what it has already.
#[utoipa::path(
    post, path = "/v1/agents:sync", request_body = Resume,
    responses((status = 200, description = "frames, one JSON document a line", content_type = "application/x-ndjson"), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn sync(
    State(authority): State<Arc<Authority>>,
    Asker(requester): Asker,
    Json(resume): Json<Resume>,
) -> Result<Response, Problem> {
    let Requester::Agent(id) = requester else { return Err(of_an_agent()) };
    // Before the first look, so that no change, and no ban, falls between.
    let changes = authority.changes();
    if let Some(why) = authority.dismissed(&id) {
        return Err(why.into());
    }
    let now = authority.standing(&id);
    let mut sent = authority.resumed(&resume, &now);
    let ready = sent.parts(&now).into_iter().chain([now.state()]).collect();
    let following = authority.follow(&id);
    let line = Line { authority, id, _following: following, changes, sent, ready };
    let kind = HeaderValue::from_static("application/x-ndjson");
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, Body::from_stream(line.into_stream())).into_response())
}

/// What an agent has put in force.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcknowledgeBody {
    /// `spiffe_sequence` of the bundle that its workloads are served.
    bundle_sequence: u64,
}

/// Says that workloads of the agent that asks are served a bundle. A root or a key for tokens signs once all know it.
#[utoipa::path(
    post, path = "/v1/agents:acknowledge", request_body = AcknowledgeBody,
    responses((status = 204, description = "noted"), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn acknowledge(
    State(authority): State<Arc<Authority>>,
    Asker(requester): Asker,
    Json(body): Json<AcknowledgeBody>,
) -> Result<StatusCode, Problem> {
    let Requester::Agent(id) = requester else { return Err(of_an_agent()) };
    // Only who follows is waited for.
    if authority.is_followed_by(&id) {
        authority.acknowledge(id.as_str(), body.bundle_sequence);
    }
    Ok(StatusCode::NO_CONTENT)
}

fn of_an_agent() -> Problem {
    let detail = "this is for agents of other hosts; a local process has no such SVID";
    Problem::new(StatusCode::FORBIDDEN, "not_an_agent", detail)
}

/// The stream of one agent.
struct Line {
    authority: Arc<Authority>,
    id: SpiffeId,
    /// Its end tells the authority that nobody follows any more.
    _following: Following,
    changes: Changes,
    sent: Sent,
    ready: VecDeque<Frame>,
}

impl Line {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, serde_json::Error>> + Send {
        stream::unfold(self, |mut line| async move {
            let frame = line.next().await?;
            let written = serde_json::to_vec(&frame).map(|mut text| {
                text.push(b'\n');
                Bytes::from(text)
            });
            Some((written, line))
        })
    }

    /// The next frame; none at the end. A slow reader is sent the newest state next, never a backlog of states.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            let moved = tokio::time::timeout(COMPARED, self.changes.next()).await;
            if moved == Ok(false) || !self.is_admitted() {
                return None;
            }
            if moved.is_ok() {
                tokio::time::sleep(TOGETHER).await;
            }
            let now = self.authority.standing(&self.id);
            let parts = self.sent.parts(&now);
            // A change that is none for this agent is not told.
            if !parts.is_empty() || moved.is_err() {
                self.ready.extend(parts);
                self.ready.push_back(now.state());
            }
        }
    }

    fn is_admitted(&self) -> bool {
        let dismissed = self.authority.dismissed(&self.id);
        if let Some(reason) = &dismissed {
            tracing::info!(event = "agent_stream_ends", agent = %self.id, %reason, "not an agent now");
        }
        dismissed.is_none()
    }
}
