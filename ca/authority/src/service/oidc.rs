//! OpenID Connect discovery for JWT-SVIDs: the document and the keys, for verifiers that know no SPIFFE (OI-01, OI-02).
//!
//! Anybody may read both: they are public by nature. Refused: every `Host` that is not one of ours, as if there were nothing.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ca_identity::JwksReader;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::problem;
use crate::Authority;

const DOCUMENT: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/keys";

/// What is published, and under which names.
#[derive(Debug, Clone)]
pub struct Oidc {
    /// The issuer, byte for byte as it stands in tokens.
    pub issuer: String,
    /// Path of the issuer, without slash at its end.
    pub path: String,
    /// Hosts that requests may name, lower-case and without port.
    pub hosts: Vec<String>,
    /// Whether keys say `use`: `sig`, which some clients ask for and others do not take.
    pub names_use: bool,
}

struct Published {
    authority: Arc<Authority>,
    oidc: Oidc,
}

/// The discovery document and the keys of that authority.
pub fn oidc(authority: Arc<Authority>, oidc: Oidc) -> Router {
    let (document, keys) = (format!("{}{DOCUMENT}", oidc.path), format!("{}{KEYS}", oidc.path));
    let published = Arc::new(Published { authority, oidc });
    Router::new()
        .route(&document, get(self::document))
        .route(&keys, get(self::keys))
        .fallback(nothing)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&published), expected_host))
        .with_state(published)
}

/// OpenID Connect Discovery 1.0, 3. RS256 is listed because it must be; no key of ours is one.
async fn document(State(published): State<Arc<Published>>) -> Response {
    let issuer = &published.oidc.issuer;
    let document = json!({
        "issuer": issuer,
        "jwks_uri": format!("{}{KEYS}", issuer.trim_end_matches('/')),
        "authorization_endpoint": "",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256", "ES384"],
    });
    answer(document.to_string())
}

/// Every key for tokens that is in the bundle: the one that signs, the one that will, and those whose tokens live.
async fn keys(State(published): State<Arc<Published>>) -> Response {
    let names_use = published.oidc.names_use;
    answer(published.authority.bundle().to_jwt_jwks(JwksReader::Oidc { names_use }))
}

fn answer(body: String) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn nothing() -> StatusCode {
    StatusCode::NOT_FOUND
}

async fn expected_host(State(published): State<Arc<Published>>, request: Request, next: Next) -> Response {
    let named = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let named = named.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    let host = named.map(|named| without_port(named).to_ascii_lowercase());
    match host {
        Some(host) if published.oidc.hosts.contains(&host) => next.run(request).await,
        _ => nothing().await.into_response(),
    }
}

/// `[::1]:443` and `host:443` without their ports.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::{Method, Request};
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;
    use crate::testing::{Bench, web};
    use crate::{KeyKind, Requester};

    async fn ask(router: &Router, method: Method, uri: &str, host: &str) -> (Response<()>, Value) {
        let request = Request::builder().method(method).uri(uri).header(HOST, host);
        let answer = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (Response::from_parts(parts, ()), serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    fn published(path: &str) -> Oidc {
        Oidc {
            issuer: format!("https://oidc.example.org:8443{path}"),
            path: path.trim_end_matches('/').to_owned(),
            hosts: vec!["oidc.example.org".to_owned(), "[::1]".to_owned()],
            names_use: true,
        }
    }

    #[tokio::test]
    async fn oi_01_the_document_says_what_clients_look_for_and_names_the_issuer_byte_for_byte() {
        let authority = Bench::new().open().await;
        for (path, at) in [("", ""), ("/", ""), ("/tenant/a", "/tenant/a"), ("/tenant/", "/tenant")] {
            let router = oidc(Arc::clone(&authority), published(path));
            let uri = format!("{at}/.well-known/openid-configuration");
            let (head, document) = ask(&router, Method::GET, &uri, "oidc.example.org:8443").await;
            assert_eq!(head.status(), StatusCode::OK, "{uri}");
            assert_eq!(head.headers()[CONTENT_TYPE], "application/json");
            assert_eq!(head.headers()[CACHE_CONTROL], "no-store");
            let expected = json!({
                "issuer": format!("https://oidc.example.org:8443{path}"),
                "jwks_uri": format!("https://oidc.example.org:8443{at}/keys"),
                "authorization_endpoint": "",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256", "ES256", "ES384"],
            });
            assert_eq!(document, expected);
            let (head, keys) = ask(&router, Method::GET, &format!("{at}/keys"), "[::1]:443").await;
            assert_eq!((head.status(), keys["keys"].as_array().unwrap().len()), (StatusCode::OK, 1));
        }
    }

    #[tokio::test]
    async fn oi_02_every_key_of_the_bundle_is_there_named_and_of_use_and_nothing_else() {
        let bench = Bench::new();
        let authority = bench.open().await;
        let entry = web(&authority).await;
        bench.clock.advance(crate::testing::DAY * 4);
        authority.sweep_rotation().await.unwrap();
        let router = oidc(Arc::clone(&authority), published(""));
        let (_, document) = ask(&router, Method::GET, "/keys", "OIDC.example.org").await;
        let of = |name: &str| -> Vec<String> {
            let keys = document["keys"].as_array().unwrap().iter();
            keys.map(|key| key[name].as_str().unwrap_or_default().to_owned()).collect()
        };
        let known = authority.keys().into_iter().filter(|key| key.kind == KeyKind::Jwt);
        let known: Vec<String> = known.map(|key| key.key_id.to_string()).collect();
        assert_eq!((of("kid"), known.len()), (known, 2));
        assert_eq!(
            (of("use"), of("alg"), of("kty")),
            (vec!["sig".into(); 2], vec!["ES256".into(); 2], vec!["EC".into(); 2])
        );
        let token = authority.sign_token(Requester::Local, &entry.id, vec!["a".to_owned()]).await.unwrap();
        let kid = ca_identity::inspect::token(&token.token).unwrap().key.unwrap();
        assert!(of("kid").contains(&kid));
        let without = Oidc { names_use: false, ..published("") };
        let (_, plain) = ask(&oidc(authority, without), Method::GET, "/keys", "oidc.example.org").await;
        assert!(plain["keys"][0].get("use").is_none() && plain["keys"][0]["alg"] == "ES256", "{plain}");
    }

    #[tokio::test]
    async fn oi_02_a_host_that_is_not_ours_finds_nothing() {
        let router = oidc(Bench::new().open().await, published(""));
        for host in
            ["evil.test", "oidc.example.org.evil.test", "127.0.0.1", "", "[::1]x", "oidc.example.org:a"]
        {
            for uri in ["/keys", "/.well-known/openid-configuration"] {
                assert_eq!(
                    ask(&router, Method::GET, uri, host).await.0.status(),
                    StatusCode::NOT_FOUND,
                    "{host}"
                );
            }
        }
        let other = ask(&router, Method::GET, "/v1/entries", "oidc.example.org").await.0;
        assert_eq!(other.status(), StatusCode::NOT_FOUND);
        let post = ask(&router, Method::POST, "/keys", "oidc.example.org").await.0;
        assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
        let bare = Request::builder().uri("/keys").body(Body::empty()).unwrap();
        assert_eq!(router.clone().oneshot(bare).await.unwrap().status(), StatusCode::NOT_FOUND);
    }
}
