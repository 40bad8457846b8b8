//! The Workload API over a real Unix socket, as a workload sees it.

mod conformance;
mod host;
mod sds;
mod tokens;

use std::{sync::Arc, time::Duration};

use ca_identity::{
    Bundle, Selector,
    testing::{TestCa, TokenForge},
};
use prost::Message as _;
use tonic::{Code, Status, Streaming, metadata::MetadataMap};

use super::*;
use crate::{
    client::{X509Context, der},
    state::View,
    testing::{FakeAuthority, entry, noon, own_caller, own_selector},
    upstream::AgentEntry,
};
use host::{Host, with_header};

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), what).await.expect("it did not happen in time")
}

async fn next<M>(stream: &mut Streaming<M>) -> Result<M, Status> {
    soon(stream.message()).await.map(|message| message.expect("the stream ended without status"))
}

fn ids(context: &X509Context) -> Vec<String> {
    context.svids.iter().map(|svid| svid.id.path().to_owned()).collect()
}

#[tokio::test]
async fn we_02_the_security_header_must_be_there_once_and_exactly() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let with = |values: &[&'static str]| {
        let mut request = Request::new(X509svidRequest {});
        for value in values {
            let value = http::HeaderValue::from_static(value);
            let mut headers = std::mem::take(request.metadata_mut()).into_headers();
            headers.append("workload.spiffe.io", value);
            *request.metadata_mut() = MetadataMap::from_headers(headers);
        }
        request
    };
    for values in
        [&[][..], &["True"], &[" true"], &["true "], &["false"], &[""], &["true", "true"], &["true", "x"]]
    {
        let answer = host.raw().await.fetch_x509svid(with(values)).await;
        assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument, "{values:?}");
    }
    assert!(host.raw().await.fetch_x509svid(with(&["true"])).await.is_ok());
}

#[tokio::test]
async fn threat_wa1_no_call_of_the_service_works_without_the_header() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let mut raw = host.raw().await;
    let codes = [
        raw.fetch_x509_bundles(X509BundlesRequest {}).await.unwrap_err().code(),
        raw.fetch_jwtsvid(JwtsvidRequest::default()).await.unwrap_err().code(),
        raw.fetch_jwt_bundles(JwtBundlesRequest {}).await.unwrap_err().code(),
        raw.validate_jwtsvid(ValidateJwtsvidRequest::default()).await.unwrap_err().code(),
    ];
    assert_eq!(codes, [Code::InvalidArgument; 4]);
}

#[tokio::test]
async fn we_05_an_unknown_call_is_unimplemented() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    for path in ["/SpiffeWorkloadAPI/Nonsense", "/SpiffeWorkloadAPI/", "/Other/Call"] {
        assert_eq!(call(&host, path).await.unwrap_err().code(), Code::Unimplemented);
    }
}

/// A call of that path, whatever it may be.
async fn call(host: &Host, path: &'static str) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(host.channel().await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<X509svidRequest, X509svidResponse>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    grpc.unary(with_header(X509svidRequest {}), path, codec).await.map(drop)
}

#[tokio::test]
async fn threat_wa6_df_12_a_caller_without_entry_is_denied_and_told_nothing() {
    let nobody = AgentEntry {
        selectors: vec![Selector::parse("unix:path:/no/such").unwrap()],
        ..entry("a", "/secret", 1)
    };
    let both =
        AgentEntry { selectors: vec![own_selector(), nobody.selectors[0].clone()], ..entry("b", "/b", 1) };
    let open = AgentEntry { selectors: Vec::new(), ..entry("c", "/c", 1) };
    let host = Host::start(vec![nobody, both, open]).await;

    let svids = next(&mut host.x509().await).await.unwrap_err();
    let bundles = next(&mut host.bundles().await).await.unwrap_err();

    for status in [svids, bundles] {
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "no identity issued"));
        assert!(status.details().is_empty());
    }
}

#[tokio::test]
async fn wa_06_two_identities_come_complete_in_a_stable_order() {
    let host = Host::start(vec![entry("b", "/young", 1), entry("a", "/old", 9)]).await;

    let context = soon(host.client().await.fetch_x509()).await.unwrap();

    assert_eq!(ids(&context), ["/old", "/young"]);
    assert_ne!(context.svids[0].key.pkcs8(), context.svids[1].key.pkcs8());
    let bundle = context.bundles.get(&ca_identity::TrustDomain::parse("example.org").unwrap()).unwrap();
    assert_eq!(bundle.anchors().len(), 1);
}

#[tokio::test]
async fn wa_07_the_oldest_entry_keeps_a_hint_that_two_have() {
    let hinted = |id: &str, path: &str, age| AgentEntry { hint: "db".to_owned(), ..entry(id, path, age) };
    let long = AgentEntry { hint: "x".repeat(1_025), ..entry("l", "/long", 1) };
    let host = Host::start(vec![hinted("a", "/young", 2), hinted("b", "/old", 3), long]).await;

    let message = next(&mut host.x509().await).await.unwrap();

    let hints: Vec<&str> = message.svids.iter().map(|svid| svid.hint.as_str()).collect();
    assert_eq!(hints, ["db", "", ""]);
}

#[tokio::test]
async fn wa_02_a_renewal_pushes_the_new_svid() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let mut updates = host.client().await.watch_x509();
    let first = soon(updates.next()).await.unwrap();

    host.authority.advance(2_000);

    let second = soon(updates.next()).await.unwrap();
    assert_ne!(first.svids[0].serial, second.svids[0].serial);
    assert_ne!(first.svids[0].key.pkcs8(), second.svids[0].key.pkcs8());
    assert!(second.svids[0].not_after > first.svids[0].not_after);
}

#[tokio::test]
async fn ag_02_a_new_entry_is_pushed_and_nothing_else_is() {
    let host = Host::start(vec![entry("a", "/a", 2)]).await;
    let mut updates = host.client().await.watch_x509();
    assert_eq!(ids(&soon(updates.next()).await.unwrap()), ["/a"]);

    let foreign =
        AgentEntry { selectors: vec![Selector::parse("unix:path:/no").unwrap()], ..entry("f", "/f", 1) };
    host.authority.set_entries(vec![entry("a", "/a", 2), foreign]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    host.authority.set_entries(vec![entry("a", "/a", 2), entry("b", "/b", 1)]);

    assert_eq!(ids(&soon(updates.next()).await.unwrap()), ["/a", "/b"]);
}

#[tokio::test]
async fn wa_08_a_deleted_entry_closes_the_streams_as_denied() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let (mut svids, mut bundles) = (host.x509().await, host.bundles().await);
    next(&mut svids).await.unwrap();
    next(&mut bundles).await.unwrap();

    host.authority.set_entries(Vec::new());

    assert_eq!(next(&mut svids).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(next(&mut bundles).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn wa_09_df_07_a_new_root_is_pushed_to_both_streams() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let (mut svids, mut bundles) = (host.x509().await, host.bundles().await);
    let before = next(&mut svids).await.unwrap().svids[0].bundle.clone();
    assert_eq!(next(&mut bundles).await.unwrap().bundles["spiffe://example.org"], before);

    host.authority.add_root();

    let after = next(&mut svids).await.unwrap().svids[0].bundle.clone();
    assert!(after.len() > before.len() && after.starts_with(&before));
    assert_eq!(next(&mut bundles).await.unwrap().bundles["spiffe://example.org"], after);
}

#[tokio::test]
async fn ag_04_an_expired_svid_ends_the_stream_as_unavailable_and_comes_back() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let mut stream = host.x509().await;
    next(&mut stream).await.unwrap();

    host.authority.fail(Some("it is down"));
    host.authority.advance(3_601);

    let status = next(&mut stream).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let status = next(&mut host.x509().await).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);

    host.authority.fail(None);
    host.authority.advance(200);
    let mut updates = host.client().await.watch_x509();
    let back = async {
        loop {
            if let Ok(context) = updates.next().await {
                return context;
            }
        }
    };
    assert_eq!(ids(&soon(back).await), ["/a"]);
}

#[tokio::test]
async fn rg_25_a_caller_that_comes_before_its_svid_waits_for_it() {
    let authority = FakeAuthority::start(vec![entry("a", "/a", 1)]);
    authority.fail(Some("starting"));
    let host = Host::over(authority).await;
    let mut status = next(&mut host.x509().await).await.unwrap_err();
    for _ in 0..50 {
        status = next(&mut host.x509().await).await.unwrap_err();
        if status.message().contains("starting") {
            break;
        }
    }
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("starting"), "{}", status.message());

    host.authority.fail(None);
    host.authority.advance(1);
    let context = async {
        loop {
            if let Ok(context) = host.client().await.fetch_x509().await {
                return context;
            }
        }
    };
    assert_eq!(ids(&soon(context).await), ["/a"]);
}

#[tokio::test]
async fn wa_03_a_watching_client_connects_again_and_takes_the_new_state_for_all() {
    let mut host = Host::start(vec![entry("a", "/a", 2), entry("b", "/b", 1)]).await;
    let mut updates = host.client().await.watch_x509();
    assert_eq!(ids(&soon(updates.next()).await.unwrap()), ["/a", "/b"]);

    host.restart();
    host.authority.set_entries(vec![entry("b", "/b", 1)]);

    assert!(!soon(updates.next()).await.unwrap_err().is_denied());
    assert_eq!(ids(&soon(updates.next()).await.unwrap()), ["/b"]);
}

#[tokio::test]
async fn a_domain_without_roots_serves_no_svid() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let mut stream = host.x509().await;
    next(&mut stream).await.unwrap();
    host.authority.lose_roots();
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn df_06_a_stopping_agent_ends_streams_as_unavailable() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let mut stream = host.x509().await;
    next(&mut stream).await.unwrap();

    host.agent.stop();

    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(next(&mut host.x509().await).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn ag_05_a_slow_reader_gets_the_newest_state_and_no_backlog() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let mut watcher = {
        let caller = own_caller();
        let permit = Streams::default().admit(caller.uid()).unwrap();
        Watcher::new(Arc::clone(&host.agent), caller, State::x509, permit).into_stream()
    };
    let mut read = async || soon(futures_util::StreamExt::next(&mut watcher)).await.unwrap().unwrap();
    read().await;

    for n in 0..20 {
        host.authority.add_root();
        let roots = n + 2;
        let seen = async {
            let mut states = host.agent.states();
            while roots_of(&states.borrow_and_update()) < roots {
                states.changed().await.unwrap();
            }
        };
        soon(seen).await;
    }

    let newest = der::split(&read().await.svids[0].bundle).unwrap();
    assert_eq!(newest.len(), 21, "the states between were skipped");
}

fn roots_of(state: &State) -> usize {
    match state.bundles(&[own_selector()], noon()) {
        View::Complete(answer) => der::split(&answer.bundles["spiffe://example.org"]).unwrap().len(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn threat_wa5_streams_of_one_user_are_limited() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let raw = host.raw().await;
    let mut open = Vec::new();
    let refused = loop {
        match raw.clone().fetch_x509_bundles(with_header(X509BundlesRequest {})).await {
            Ok(stream) => open.push(stream),
            Err(status) => break status,
        }
    };
    assert_eq!((open.len(), refused.code()), (100, Code::ResourceExhausted));

    drop(open);
    let again = async {
        while raw.clone().fetch_x509_bundles(with_header(X509BundlesRequest {})).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(again).await;
}

#[tokio::test]
async fn more_identities_than_a_client_takes_are_refused_with_a_reason() {
    let host = Host::start((0..65).map(|n| entry(&format!("e{n}"), &format!("/e{n}"), 1)).collect()).await;
    assert_eq!(next(&mut host.x509().await).await.unwrap_err().code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn we_06_reflection_names_the_service() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let host = Host::start(Vec::new()).await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(host.channel().await);
    let asked = reflection.server_reflection_info(tokio_stream_of(request)).await.unwrap();
    let answer = next(&mut asked.into_inner()).await.unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["SpiffeWorkloadAPI", "envoy.service.secret.v3.SecretDiscoveryService"] {
        assert!(names.contains(&name), "{names:?}");
    }
}

fn tokio_stream_of<T: Send + 'static>(message: T) -> impl futures_util::Stream<Item = T> + Send + 'static {
    futures_util::stream::iter([message])
}

#[tokio::test]
async fn a_request_that_is_too_long_is_refused() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let long = JwtsvidRequest { audience: vec!["x".repeat(REQUEST_BYTES)], spiffe_id: String::new() };
    assert!(long.encoded_len() > REQUEST_BYTES);
    let status = host.raw().await.fetch_jwtsvid(with_header(long)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
}

#[tokio::test]
async fn wa_09_federated_bundles_come_to_those_whose_entries_ask_for_them_and_go_when_they_end() {
    let now = ca_identity::testing::now();
    let [partner, stranger] = ["partner.org", "stranger.org"].map(|name| TestCa::new(name, now));
    let federating =
        AgentEntry { federates_with: vec![partner.trust_domain().clone()], ..entry("a", "/a", 1) };
    let host = Host::start(vec![federating]).await;
    let forge = TokenForge::new(now);
    let keys = forge.bundle().jwt_keys().to_vec();
    let with_tokens = Bundle::clone(&partner.bundle()).with_jwt_keys(keys).unwrap();
    host.authority.federate(vec![Arc::new(with_tokens), stranger.bundle()]);

    let (own, other) = ("spiffe://example.org".to_owned(), "spiffe://partner.org".to_owned());
    let mut svids = host.x509().await;
    let first = soon(async {
        loop {
            let answer = next(&mut svids).await.unwrap();
            if !answer.federated_bundles.is_empty() {
                return answer;
            }
        }
    })
    .await;
    assert_eq!(first.federated_bundles.keys().collect::<Vec<_>>(), [&other]);
    assert_eq!(first.federated_bundles[&other], partner.bundle().to_der());
    let roots = next(&mut host.bundles().await).await.unwrap();
    assert_eq!(roots.bundles.keys().collect::<Vec<_>>(), [&own, &other]);
    let request = with_header(JwtBundlesRequest {});
    let mut tokens = host.raw().await.fetch_jwt_bundles(request).await.unwrap().into_inner();
    let sets = next(&mut tokens).await.unwrap();
    assert_eq!(sets.bundles.keys().collect::<Vec<_>>(), [&own, &other]);

    host.authority.federate(Vec::new());
    assert!(soon(next(&mut svids)).await.unwrap().federated_bundles.is_empty(), "absent is withdrawn");
    assert_eq!(soon(next(&mut tokens)).await.unwrap().bundles.len(), 1);
}
