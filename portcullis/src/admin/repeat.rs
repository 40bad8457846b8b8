//! `Idempotency-Key` (experience.md RA5): a caller who does not know whether a call arrived makes it again with the same
//! key, and it is done once. The first good answer is kept for 24 hours, also across a restart, and given again.
//!
//! A layer around the verbs that write policies; it stands inside `authorize`, so nobody is answered who may not ask. A
//! refusal changes nothing and is not kept: the same key may try again. A keyed call goes on when its caller hangs up,
//! because that is when a key is needed. What was begun and never ended, since the process died, is not begun again.

mod kept;

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use policies_engine::{ChangeContext, Principal};

use super::Api;
use super::grant::Deferred;
use super::policies::{BODY_BYTES, rights};
use super::problem::Problem;
pub(crate) use kept::Repeats;
use kept::{Answer, Begun, Digest};

/// Names the call among those of its caller.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Stands in an answer that is given again.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Longest key, bytes.
const LONGEST: usize = 255;
/// Headers of an answer that are kept with it.
const KEPT: [HeaderName; 3] = [header::CONTENT_TYPE, header::ETAG, header::LOCATION];

/// Makes a keyed call once.
pub(super) async fn once(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let writes = *request.method() == Method::POST
        && rights::asked(request.method(), request.uri().path()).is_some_and(|(action, _)| !action.is_read());
    let key = match key(request.headers()) {
        Ok(Some(key)) if writes => key,
        Ok(_) => return next.run(request).await,
        Err(problem) => return problem.into_response(),
    };
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES).await else {
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too large").code("PC2010").into_response();
    };
    let caller = head.extensions.get::<Principal>().map(ToString::to_string).unwrap_or_default();
    let revision = head.headers.get(header::IF_MATCH).map(HeaderValue::as_bytes).unwrap_or_default();
    let call = Digest::of(&[head.uri.to_string().as_bytes(), revision, &body]);
    let running = match api.repeats.begin(&caller, &key, call).await {
        Ok(Begun::Fresh(running)) => running,
        Ok(Begun::Done(answer)) => return again(head.extensions.get::<Deferred>(), answer).await,
        Ok(other) => return refused(&other),
        Err(error) => {
            return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "it cannot be stored")
                .code("PC2020")
                .detail(error.to_string())
                .into_response();
        }
    };
    let request = Request::from_parts(head, Body::from(body));
    let (tell, told) = tokio::sync::oneshot::channel();
    api.repeats.tasks().spawn("keyed call", async move {
        let (head, body) = next.run(request).await.into_parts();
        // INVARIANT: our own answers to verbs that write are documents, never streams.
        let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
        let answer = head.status.is_success().then(|| Answer::new(head.status, kept(&head.headers), &body));
        running.end(answer).await;
        // Whoever asked may be gone.
        drop(tell.send(Response::from_parts(head, Body::from(body))));
    });
    told.await.unwrap_or_else(|_died| {
        let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the call ended without an answer");
        problem.code("PC9001").into_response()
    })
}

/// The key of the call, if it has one.
fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let text = std::str::from_utf8(key.as_bytes()).unwrap_or_default();
    let is_key = (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_key && keys.next().is_none() {
        return Ok(Some(text.to_owned()));
    }
    Err(Problem::new(StatusCode::BAD_REQUEST, "malformed Idempotency-Key")
        .code("PC0104")
        .detail(format!("one key of 1 to {LONGEST} visible ASCII characters is expected")))
}

fn kept(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |name: &HeaderName| Some(headers.get(name)?.to_str().ok()?.to_owned());
    KEPT.iter().filter_map(|name| Some((name.as_str().to_owned(), text(name)?))).collect()
}

/// The first answer again, for one who still may: the facts of the change were judged when it was given.
async fn again(deferred: Option<&Deferred>, answer: Answer) -> Response {
    if let Some(deferred) = deferred {
        let right = ChangeContext { scope: "/".to_owned(), tests_passed: true, ..ChangeContext::default() };
        if let Err(refusal) = deferred.decide(right).await {
            return refusal;
        }
    }
    let Some(body) = answer.body else {
        let place = answer.headers.iter().find(|(name, _)| name == header::LOCATION.as_str());
        let place = place.map(|(_, place)| format!("; see {place}")).unwrap_or_default();
        return Problem::new(StatusCode::CONFLICT, "it was done")
            .code("PC2048")
            .detail(format!("its answer was too large to be kept{place}"))
            .into_response();
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = (status, Bytes::from(body)).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    let pairs =
        answer.headers.iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)));
    headers.extend(pairs.collect::<Vec<(HeaderName, HeaderValue)>>());
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

fn refused(begun: &Begun) -> Response {
    let problem = match begun {
        Begun::Other => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the key belongs to another call")
            .code("PC2047")
            .detail("the first call with this Idempotency-Key had another path, revision or body")
            .hint("use a new key for a new call"),
        Begun::Running => Problem::new(StatusCode::CONFLICT, "the call is still running")
            .code("PC2048")
            .hint("make it again with the same key in a moment"),
        Begun::Interrupted => Problem::new(StatusCode::CONFLICT, "the call was interrupted")
            .code("PC2048")
            .detail("the process ended while it ran, so it is not known whether it was done")
            .hint("look, then use a new key")
            .next("portcullis policy changes"),
        Begun::Full | Begun::Fresh(_) | Begun::Done(_) => {
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many keys")
                .code("PC2049")
                .detail(format!(
                    "{} keys of one caller, {} of all, are kept for 24 hours",
                    kept::PER_CALLER,
                    kept::ALL
                ))
                .hint("call without a key, or wait until older ones are forgotten");
            return ([(header::RETRY_AFTER, "3600")], problem).into_response();
        }
    };
    problem.into_response()
}
