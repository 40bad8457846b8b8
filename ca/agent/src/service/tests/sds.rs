//! SDS over a real Unix socket: the same callers, the same states as the Workload API, the same ends of streams.

use std::collections::BTreeMap;

use ca_identity::{
    Bundle, BundleMap, CertificateDer, IdentitySnapshot, TrustDomain, Usage, pem, verify_svid,
};
use futures_util::stream::unfold;
use http::uri::PathAndQuery;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::*;
use crate::generated::{
    SharedAny,
    sds::{
        envoy::{
            config::core::v3::{DataSource, data_source::Specifier},
            extensions::transport_sockets::tls::v3::{Secret, SpiffeCertValidatorConfig, secret::Type},
            service::discovery::v3::{
                DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            },
        },
        google::rpc,
    },
};

const A: &str = "spiffe://example.org/a";
const STREAM: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
const DELTA: &str = "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets";
const FETCH: &str = "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets";

/// Opens a stream without the header of the Workload API, as Envoy does.
async fn open<Q, R>(
    host: &Host,
    path: &'static str,
    first: Q,
) -> Result<(UnboundedSender<Q>, Streaming<R>), Status>
where
    Q: prost::Message + Default + Send + 'static,
    R: prost::Message + Default + Send + 'static,
{
    let (say, said) = unbounded_channel();
    say.send(first).unwrap();
    let mut grpc = tonic::client::Grpc::new(host.channel().await);
    grpc.ready().await.unwrap();
    let requests = unfold(said, async |mut said| said.recv().await.map(|next| (next, said)));
    let codec = tonic_prost::ProstCodec::<Q, R>::default();
    let answer = grpc.streaming(Request::new(requests), PathAndQuery::from_static(path), codec).await?;
    Ok((say, answer.into_inner()))
}

async fn stream(
    host: &Host,
    names: &[&str],
) -> (UnboundedSender<DiscoveryRequest>, Streaming<DiscoveryResponse>) {
    open(host, STREAM, ask(names, "")).await.unwrap()
}

async fn fetch(host: &Host, names: &[&str]) -> Result<DiscoveryResponse, Status> {
    let mut grpc = tonic::client::Grpc::new(host.channel().await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<DiscoveryRequest, DiscoveryResponse>::default();
    let answer = grpc.unary(Request::new(ask(names, "")), PathAndQuery::from_static(FETCH), codec);
    soon(answer).await.map(|answer| answer.into_inner())
}

fn ask(names: &[&str], nonce: &str) -> DiscoveryRequest {
    let resource_names = names.iter().map(|name| (*name).to_owned()).collect();
    DiscoveryRequest { resource_names, response_nonce: nonce.to_owned(), ..Default::default() }
}

fn text(source: Option<DataSource>) -> Vec<u8> {
    let Some(Specifier::InlineBytes(bytes)) = source.unwrap().specifier else { panic!("not inline") };
    bytes.to_vec()
}

/// The certificates of each secret, by name, in the order they came.
fn read(resources: &[SharedAny]) -> Vec<(String, Vec<CertificateDer<'static>>)> {
    let certificates = |source| pem::read_certificates(&text(source)).unwrap();
    let read = |resource: &SharedAny| {
        let secret = Secret::decode(resource.value.clone()).unwrap();
        let found = match secret.r#type.unwrap() {
            Type::TlsCertificate(own) => certificates(own.certificate_chain),
            Type::ValidationContext(context) => {
                let config = context.custom_validator_config.unwrap().typed_config.unwrap();
                let config = SpiffeCertValidatorConfig::decode(config.value).unwrap();
                certificates(config.trust_domains[0].trust_bundle.clone())
            }
        };
        (secret.name, found)
    };
    resources.iter().map(read).collect()
}

#[tokio::test]
async fn sd_02_secrets_are_those_of_the_workload_api() {
    let host = Host::start(vec![entry("a", "/a", 2), entry("b", "/b", 1)]).await;
    let svids = next(&mut host.x509().await).await.unwrap().svids;
    let (say, mut secrets) = stream(&host, &[]).await;
    let first = next(&mut secrets).await.unwrap();
    let found: BTreeMap<_, _> = read(&first.resources).into_iter().collect();
    let der = |of: &[CertificateDer<'_>]| of.iter().flat_map(|der| der.to_vec()).collect::<Vec<u8>>();
    assert_eq!(found.len(), 3);
    assert_eq!(der(&found["spiffe://example.org"]), svids[0].bundle);
    for svid in &svids {
        assert_eq!(der(&found[&svid.spiffe_id]), svid.x509_svid);
    }
    let fetched = fetch(&host, &[A, "default", "ROOTCA"]).await.unwrap();
    let fetched: BTreeMap<_, _> = read(&fetched.resources).into_iter().collect();
    assert_eq!((&fetched[A], &fetched["default"]), (&found[A], &found[A]));

    say.send(ask(&[], &first.nonce)).unwrap();
    host.authority.set_entries(vec![entry("b", "/b", 1)]);
    let second = read(&next(&mut secrets).await.unwrap().resources);
    assert_eq!(
        second.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["spiffe://example.org", "spiffe://example.org/b"]
    );
}

#[tokio::test]
async fn sd_01_names_of_others_and_unknown_ones_are_invalid() {
    let nobody =
        AgentEntry { selectors: vec![Selector::parse("unix:path:/no/such").unwrap()], ..entry("b", "/b", 1) };
    let host = Host::start(vec![entry("a", "/a", 1), nobody.clone()]).await;
    for name in ["spiffe://example.org/b", "spiffe://example.org/c", "spiffe://other.org", "rootca", ""] {
        let status = next(&mut stream(&host, &[A, name]).await.1).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{name}");
        assert_eq!(status.message(), format!("no secret of this caller: {name:?}"));
        assert_eq!(fetch(&host, &[name]).await.unwrap_err().code(), Code::InvalidArgument, "{name}");
    }
    let host = Host::start(vec![nobody]).await;
    for names in [&[][..], &["default"], &["ROOTCA"], &["spiffe://example.org/b"]] {
        let status = next(&mut stream(&host, names).await.1).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "no identity issued"));
    }
}

#[tokio::test]
async fn sd_02_a_refusal_is_counted_and_waits_for_the_next_change() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let (say, mut secrets) = stream(&host, &["ROOTCA"]).await;
    let first = next(&mut secrets).await.unwrap();
    let error_detail = Some(rpc::Status { code: 13, message: "bad".to_owned() });
    say.send(DiscoveryRequest { error_detail, ..ask(&["ROOTCA"], &first.nonce) }).unwrap();
    let counted = async {
        while host.agent.status().rejected == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(counted).await;
    assert!(tokio::time::timeout(Duration::from_millis(200), secrets.message()).await.is_err());

    host.authority.add_root();
    let second = next(&mut secrets).await.unwrap();
    assert_eq!(read(&second.resources)[0].1.len(), 2);
    say.send(ask(&["ROOTCA", "default"], &first.nonce)).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), secrets.message()).await.is_err(), "stale");
    say.send(ask(&["ROOTCA", "default"], &second.nonce)).unwrap();
    assert_eq!(next(&mut secrets).await.unwrap().resources.len(), 2);
    assert_eq!(host.agent.status().rejected, 1);
}

#[tokio::test]
async fn sd_02_a_delta_client_is_told_what_is_gone() {
    let host = Host::start(vec![entry("a", "/a", 2), entry("b", "/b", 1)]).await;
    let first = DeltaDiscoveryRequest {
        resource_names_subscribe: vec![A.to_owned(), "ROOTCA".to_owned()],
        ..Default::default()
    };
    let (say, mut secrets): (_, Streaming<DeltaDiscoveryResponse>) = open(&host, DELTA, first).await.unwrap();
    let told = next(&mut secrets).await.unwrap();
    let names: Vec<_> = told.resources.iter().map(|told| told.name.as_str()).collect();
    assert_eq!(names, ["ROOTCA", A], "what to verify with comes first");
    say.send(DeltaDiscoveryRequest { response_nonce: told.nonce, ..Default::default() }).unwrap();

    host.authority.set_entries(vec![entry("b", "/b", 1)]);
    let told = next(&mut secrets).await.unwrap();
    assert_eq!((told.resources.len(), told.removed_resources), (0, vec![A.to_owned()]));

    host.authority.set_entries(Vec::new());
    assert_eq!(next(&mut secrets).await.unwrap().removed_resources, ["ROOTCA"]);
    assert_eq!(next(&mut secrets).await.unwrap_err().code(), Code::PermissionDenied);
}

fn is_under(chain: &[CertificateDer<'static>], root: &CertificateDer<'static>) -> bool {
    let domain = TrustDomain::parse("example.org").unwrap();
    let bundle = Arc::new(Bundle::new(domain, vec![root.clone()], 1).unwrap());
    let trust = IdentitySnapshot { bundles: BundleMap::of(bundle), ..IdentitySnapshot::default() };
    let times = [noon(), noon() + Duration::from_secs(2_500)];
    times.iter().any(|now| verify_svid(chain, &trust, Usage::Server, *now).is_ok())
}

#[tokio::test]
async fn sd_04_both_roots_are_known_before_the_first_certificate_under_the_new_one() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let (say, mut secrets) = stream(&host, &[A, "ROOTCA"]).await;
    let mut nonces = 0;
    let mut steps: Vec<(usize, usize)> = Vec::new();
    let old = read(&next(&mut secrets).await.unwrap().resources);
    let old_root = old[0].1[0].clone();
    host.authority.add_root();
    loop {
        nonces += 1;
        say.send(ask(&[A, "ROOTCA"], &nonces.to_string())).unwrap();
        let found = read(&next(&mut secrets).await.unwrap().resources);
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["ROOTCA", A], "what to verify with comes first");
        let (roots, chain) = (&found[0].1, &found[1].1);
        let at = roots.iter().position(|root| is_under(chain, root)).expect("a root that is known");
        steps.push((roots.len(), usize::from(roots[at] != old_root)));
        if steps.len() == 1 {
            host.authority.sign_under_the_new_root();
            host.authority.advance(2_000);
        } else if steps.last() == Some(&(2, 1)) {
            break;
        }
    }
    assert_eq!(steps.first(), Some(&(2, 0)), "{steps:?}");
}

#[tokio::test]
async fn ag_04_expired_certificates_end_the_stream_as_unavailable() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let (_say, mut secrets) = stream(&host, &["default"]).await;
    next(&mut secrets).await.unwrap();
    host.authority.fail(Some("it is down"));
    host.authority.advance(3_601);
    assert_eq!(next(&mut secrets).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(fetch(&host, &["default"]).await.unwrap_err().code(), Code::Unavailable);
    assert!(fetch(&host, &["ROOTCA"]).await.is_ok());
}

#[tokio::test]
async fn df_06_a_stopping_agent_ends_streams_of_secrets_as_unavailable() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let (_say, mut secrets) = stream(&host, &["default"]).await;
    next(&mut secrets).await.unwrap();
    host.agent.stop();
    assert_eq!(next(&mut secrets).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn threat_wa5_streams_of_secrets_count_with_those_of_the_workload_api() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let raw = host.raw().await;
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(raw.clone().fetch_x509_bundles(with_header(X509BundlesRequest {})).await.unwrap());
    }
    let opened = open::<_, DiscoveryResponse>(&host, STREAM, ask(&[], "")).await;
    assert_eq!(opened.map(|_| ()).unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(fetch(&host, &[]).await.unwrap_err().code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn threat_wa5_questions_for_secrets_are_limited() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    for _ in 0..50 {
        assert!(fetch(&host, &["ROOTCA"]).await.is_ok());
    }
    assert_eq!(fetch(&host, &["ROOTCA"]).await.unwrap_err().code(), Code::ResourceExhausted);
    let (say, mut secrets) = stream(&host, &["ROOTCA"]).await;
    let first = next(&mut secrets).await.unwrap();
    say.send(ask(&["ROOTCA"], &first.nonce)).unwrap();
    say.send(ask(&["default"], &first.nonce)).unwrap();
    assert_eq!(next(&mut secrets).await.unwrap_err().code(), Code::ResourceExhausted);
    host.authority.advance(1);
    assert!(fetch(&host, &["ROOTCA"]).await.is_ok());
}
