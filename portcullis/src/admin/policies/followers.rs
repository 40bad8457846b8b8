//! `PolicyFeed` for agents of other hosts: who is one now may follow, and follows no longer than that (S15, SV-03).
//!
//! Each call of an agent is judged by its row, whatever its connection showed once; a stream ends when the agent is banned or
//! evicted, or its SVID has ended, as that of `agents:sync` does. Everybody else needs the right to read policies, which is
//! asked of Cedar before a call comes here.

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use ca_authority::service::{Caller, PolicyKeys};
use ca_authority::{AgentSvid, AuthorityError};
use futures_util::stream;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use policies_store::Feed;
use tonic::Status;

use super::FEED;
use crate::admin::Api;

/// The service, for whom Cedar lets follow.
pub(in crate::admin) fn router(api: &Arc<Api>, feed: &Arc<Feed>) -> Router {
    Router::new()
        .route_service(FEED, feed.routes())
        .layer(middleware::from_fn_with_state(Arc::clone(api), while_admitted))
}

/// The keys that agents are told to believe: of the store here, none where policies are not written here.
pub(in crate::admin) fn keys(api: &Api) -> PolicyKeys {
    let store = api.store.clone();
    PolicyKeys(Arc::new(move || {
        let keys = store.as_ref().map(|store| store.verifiers()).unwrap_or_default();
        keys.iter().map(ToString::to_string).collect()
    }))
}

/// Whether that is an agent of this authority. Of another trust domain nobody is one here, whatever its path says.
pub(in crate::admin) fn is_agent(api: &Api, caller: &Caller) -> bool {
    matches!(caller, Caller::Svid(id) if ca_agent::own::is_agent(id, &api.trust_domain))
}

async fn while_admitted(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
    let Caller::Svid(id) = &caller else { return next.run(request).await };
    if !is_agent(&api, &caller) {
        return next.run(request).await;
    }
    let shown = request.extensions().get::<AgentSvid>().cloned();
    let (Some(authority), Some(shown)) = (&api.authority, shown) else {
        return Status::permission_denied("no authority of agents runs here").into_http::<Body>();
    };
    // Before the first look, so that no ban falls between.
    let dismissal = authority.dismissal(id.clone(), shown.not_after);
    if let Err(refusal) = authority.admit(id, &shown).await {
        return status(&refusal).into_http::<Body>();
    }
    next.run(request).await.map(|body| until(body, dismissal)).into_response()
}

/// The same body, which ends early with a status when `dismissal` comes.
fn until(body: Body, dismissal: impl Future<Output = AuthorityError> + Send + 'static) -> Body {
    let dismissal: Pin<Box<dyn Future<Output = AuthorityError> + Send>> = Box::pin(dismissal);
    let frames = stream::unfold(Some((body, dismissal)), |left| async move {
        let (mut body, mut dismissal) = left?;
        tokio::select! {
            biased;
            why = &mut dismissal => {
                tracing::info!(event = "policy_follower_dismissed", %why, "its stream of policies ends");
                let mut trailers = HeaderMap::new();
                // A status that cannot be written as headers ends the stream without one.
                let written = status(&why).add_header(&mut trailers);
                Some((written.map(|()| Frame::trailers(trailers)).map_err(axum::Error::new), None))
            }
            frame = body.frame() => Some((frame?, Some((body, dismissal)))),
        }
    });
    Body::new(StreamBody::new(frames))
}

fn status(why: &AuthorityError) -> Status {
    match why.fault() {
        ca_authority::Fault::Internal | ca_authority::Fault::Unavailable => {
            Status::unavailable(why.to_string())
        }
        _ => Status::permission_denied(why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use ca_identity::SpiffeId;
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn sv_03_a_stream_of_who_is_dismissed_ends_with_the_reason_and_another_as_it_would() {
        let agent = SpiffeId::parse("spiffe://example.org/portcullis/agent/join_token/1").unwrap();
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let endless = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let mut body = until(endless, async move {
            told.await.unwrap();
            AuthorityError::AgentBanned(agent)
        });
        let first = tokio::time::timeout(std::time::Duration::from_millis(50), body.frame()).await;
        assert!(first.is_err(), "it is an agent");
        tell.send(()).unwrap();
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        let status = Status::from_header_map(&trailers).unwrap();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains("is banned"), "{status}");
        assert!(body.frame().await.is_none());

        let whole = until(Body::from("all of it"), std::future::pending());
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "all of it");
    }
}
