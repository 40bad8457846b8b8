//! The bundle endpoint: what verifies SVIDs of the own trust domain, for whoever asks (FB-01, SPIFFE Federation 5).
//!
//! Public by nature: nobody is asked who he is. Refused: more than 20 requests in a second from one address.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use base_ports::{Clock, Rate};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::problem;
use crate::Authority;

/// Requests of one address in a second (FB-01).
const PER_SECOND: u32 = 20;

/// Where a request comes from; the listener puts it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source(pub IpAddr);

struct Published {
    authority: Arc<Authority>,
    hint: Duration,
    rate: Rate<IpAddr>,
    clock: Arc<dyn Clock>,
}

/// `GET /`: the bundle of that authority as a JWK Set. `hint` says how often others are to ask again.
pub fn bundle(authority: Arc<Authority>, hint: Duration, clock: Arc<dyn Clock>) -> Router {
    let published = Arc::new(Published { authority, hint, rate: Rate::default(), clock });
    Router::new()
        .route("/", get(document))
        .fallback(nothing)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&published), limited))
        .with_state(published)
}

async fn document(State(published): State<Arc<Published>>, headers: HeaderMap) -> Response {
    let bundle = published.authority.bundle();
    let tag = format!("\"{}-{}\"", bundle.sequence, published.hint.as_secs());
    let is_known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => bundle.as_ref().clone().with_refresh_hint(published.hint).to_jwks().into_response(),
    };
    let headers = response.headers_mut();
    if !is_known {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    response
}

async fn nothing() -> StatusCode {
    StatusCode::NOT_FOUND
}

async fn limited(
    State(published): State<Arc<Published>>,
    source: Option<Extension<Source>>,
    request: Request,
    next: Next,
) -> Response {
    let now = published.clock.mono();
    let is_within = source.is_none_or(|Extension(Source(ip))| published.rate.admit(ip, PER_SECOND, now));
    if is_within {
        return next.run(request).await;
    }
    let later = [(RETRY_AFTER, HeaderValue::from_static("1"))];
    (StatusCode::TOO_MANY_REQUESTS, later).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use ca_identity::Bundle;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::testing::Bench;

    async fn ask(
        router: &Router,
        uri: &str,
        known: Option<&str>,
        from: u8,
    ) -> (http::response::Parts, Vec<u8>) {
        let mut request = Request::builder().uri(uri).body(Body::empty()).unwrap();
        request.extensions_mut().insert(Source([192, 0, 2, from].into()));
        if let Some(known) = known {
            request.headers_mut().insert(IF_NONE_MATCH, known.parse().unwrap());
        }
        let (head, body) = router.clone().oneshot(request).await.unwrap().into_parts();
        (head, body.collect().await.unwrap().to_bytes().to_vec())
    }

    #[tokio::test]
    async fn fb_01_the_bundle_is_published_with_sequence_hint_and_tag_to_whoever_asks() {
        let bench = Bench::new();
        let authority = bench.open().await;
        let clock: Arc<dyn Clock> = Arc::<base_ports::ManualClock>::clone(&bench.clock);
        let router = bundle(Arc::clone(&authority), Duration::from_secs(300), clock);
        let (head, body) = ask(&router, "/", None, 1).await;
        assert_eq!(
            (head.status, &head.headers[CONTENT_TYPE]),
            (StatusCode::OK, &HeaderValue::from_static("application/json"))
        );
        let domain = authority.config().trust_domain.clone();
        let read = Bundle::from_jwks(domain, &body).unwrap();
        assert!(read.is_sequenced && read.sequence == authority.bundle().sequence);
        assert_eq!(read.refresh_hint, Duration::from_secs(300));
        assert!(read.certificates().eq(authority.bundle().certificates()));
        assert_eq!(read.jwt_keys(), authority.bundle().jwt_keys());

        let tag = head.headers[ETAG].to_str().unwrap().to_owned();
        let (head, body) = ask(&router, "/", Some(&tag), 1).await;
        assert_eq!((head.status, body.len()), (StatusCode::NOT_MODIFIED, 0));
        authority.prepare_key(crate::KeyKind::Root, false, "test").await.unwrap();
        assert_eq!(ask(&router, "/", Some(&tag), 1).await.0.status, StatusCode::OK, "it has changed");
        assert_eq!(ask(&router, "/v1/entries", None, 1).await.0.status, StatusCode::NOT_FOUND);
        let post = http::Request::post("/").body(Body::empty()).unwrap();
        assert_eq!(router.clone().oneshot(post).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);

        let mut through = 0;
        for _ in 0..40 {
            through += u32::from(ask(&router, "/", None, 2).await.0.status == StatusCode::OK);
        }
        assert_eq!(through, PER_SECOND);
        assert_eq!(ask(&router, "/", None, 3).await.0.status, StatusCode::OK, "others are not held up");
        bench.clock.advance(Duration::from_secs(1));
        assert_eq!(ask(&router, "/", None, 2).await.0.status, StatusCode::OK);
    }
}
