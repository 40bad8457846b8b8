//! The table of REST verbs against that of gRPC: every verb has its twin, and each twin makes the call it says.

use std::collections::BTreeSet;

use axum::http::Uri;
use axum::response::IntoResponse;
use http_body_util::BodyExt;

use super::*;
use crate::admin::policies::rights;
use crate::admin::problem::Problem;

const PROTO: &str = include_str!("../../../../../policies/store/proto/portcullis/policies/v1/verbs.proto");

/// Verbs of REST that have no method here, and why.
const ALONE: &[(&str, &str)] = &[
    // The signed snapshot as a file; `PolicyFeed.Watch` sends the same bytes.
    ("GET", "/v1/policies/snapshot"),
    // Texts by the hash that a record names, for an export that is verified offline; `decisions export` is REST too.
    ("GET", "/v1/policies/snapshots/{snapshot}/sources"),
];

/// `Service/Method` and the REST call that the comment above it names.
fn named() -> Vec<(String, (String, String))> {
    let (mut service, mut comment, mut named) = ("", "", Vec::new());
    for line in PROTO.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("service ") {
            service = rest.split(' ').next().unwrap();
        } else if let Some(rest) = line.strip_prefix("// ") {
            comment = rest;
        } else if let Some(rest) = line.strip_prefix("rpc ") {
            let (verb, path) = comment.split_once(' ').unwrap();
            let method = rest.split('(').next().unwrap();
            named.push((format!("{service}/{method}"), (verb.to_owned(), path.to_owned())));
        }
    }
    named
}

/// Every call below `/v1/policies` of the REST API, verb by verb.
fn rest() -> BTreeSet<(String, String)> {
    let document = serde_json::to_value(crate::admin::docs::document()).unwrap();
    let mut calls = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        if !path.starts_with("/v1/policies") {
            continue;
        }
        let verbs = match path.as_str() {
            "/v1/policies/changes/{change}:{verb}" => rights::CHANGES,
            "/v1/policies/versions/{version}:{verb}" => rights::VERSIONS,
            other => {
                assert!(!other.contains("{verb}"), "whose verbs are those of `{other}`?");
                &[]
            }
        };
        for method in methods.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let call = |path: String| (method.to_uppercase(), path);
            match verbs {
                [] => drop(calls.insert(call(path.clone()))),
                verbs => calls.extend(verbs.iter().map(|(verb, _)| call(path.replace("{verb}", verb)))),
            }
        }
    }
    calls
}

#[test]
fn ra1_every_verb_of_rest_has_a_method_or_a_reason() {
    let grpc: BTreeSet<_> = named().into_iter().map(|(_, call)| call).collect();
    let alone: BTreeSet<_> =
        ALONE.iter().map(|(verb, path)| ((*verb).to_owned(), (*path).to_owned())).collect();
    let rest = rest();
    assert!(rest.len() > 30, "{rest:?}");
    let both: BTreeSet<_> = grpc.union(&alone).cloned().collect();
    assert_eq!(
        rest.difference(&both).collect::<Vec<_>>(),
        Vec::<&(String, String)>::new(),
        "only REST has it"
    );
    assert_eq!(
        both.difference(&rest).collect::<Vec<_>>(),
        Vec::<&(String, String)>::new(),
        "REST has it not"
    );
    assert!(grpc.is_disjoint(&alone), "it has a method by now");
}

#[tokio::test]
async fn ra1_each_method_makes_the_call_that_it_names() {
    let told = |method: Method, uri: Uri| async move {
        let path = uri.path().to_owned();
        Problem::new(http::StatusCode::CONFLICT, "told").detail(format!("{method} {path}")).into_response()
    };
    let verbs = router(&Router::new().fallback(told));
    for (method, (verb, path)) in named() {
        // A message without members: ids are empty, and numbers are 0.
        let path = path.replace("{version}", "0").replace("{change}", "").replace("{id}", "");
        let call = Request::post(format!("/portcullis.policies.v1.{method}"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(Body::from(vec![0_u8; 5]))
            .unwrap();
        let answer = verbs.clone().oneshot(call).await.unwrap();
        let (head, body) = answer.into_parts();
        let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
        let message = head.headers.get("grpc-message").or_else(|| trailers.get("grpc-message"));
        let message = message.map(|message| message.to_str().unwrap().replace("%20", " "));
        assert_eq!(message.as_deref(), Some(&*format!("told: {verb} {path}")), "{method}");
    }
}
