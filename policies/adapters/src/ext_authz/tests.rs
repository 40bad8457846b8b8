//! What is refused before any policy is asked. A real Envoy asks in `tests/e2e/ext_authz.rs`.

use super::{Options, question::read};
use crate::{
    Judge, Question, Target, Unrecorded, Verdict,
    generated::messages::{AttributeContext, HeaderMap, HeaderValue, attribute_context as part},
};
use base_ports::{Clock, ManualClock, Now, UnixTime};
use ca_identity::IdentitySnapshot;
use enforcer_codec::Call;
use futures_util::future::BoxFuture;
use policies_engine::{Action, Declared, Facts, Reason, Resource};
use std::sync::Arc;

#[derive(Debug)]
struct Nobody;

impl Judge for Nobody {
    fn judge(&self, _question: Question) -> BoxFuture<'static, Result<Verdict, Unrecorded>> {
        Box::pin(async { Err(Unrecorded("not asked here".to_owned())) })
    }

    fn refuse(&self, question: Question, _reason: Reason) -> BoxFuture<'static, Result<Verdict, Unrecorded>> {
        self.judge(question)
    }

    fn target(&self, call: &Call, _listener: &str, route: Option<&str>) -> Target {
        match (route, call.grpc()) {
            (Some("site"), None) => Target::Resource(Resource::route("site")),
            (_, Some(("shop.Orders", "Get"))) => Target::Resource(Resource::method("shop.Orders/Get")),
            (_, Some(_)) => Target::UnknownMethod,
            _ => Target::UnknownRoute,
        }
    }

    fn declared(&self) -> Arc<Declared> {
        Arc::new(Declared { headers: ["x-tenant".into()].into(), ..Declared::default() })
    }

    fn trust(&self) -> Arc<IdentitySnapshot> {
        Arc::default()
    }

    fn now(&self) -> Now {
        ManualClock::new(UnixTime::from_secs(1_763_800_000)).now()
    }
}

fn asked(method: &str, path: &str, headers: &[(&str, &str)]) -> AttributeContext {
    let line = |(key, value): &(&str, &str)| HeaderValue {
        key: (*key).to_owned(),
        value: String::new(),
        raw_value: value.as_bytes().to_vec(),
    };
    let http = part::HttpRequest {
        method: method.to_owned(),
        path: path.to_owned(),
        host: "shop.example".to_owned(),
        scheme: "https".to_owned(),
        protocol: "HTTP/2".to_owned(),
        header_map: Some(HeaderMap { headers: headers.iter().map(line).collect() }),
        ..part::HttpRequest::default()
    };
    AttributeContext {
        request: Some(part::Request { http: Some(http) }),
        context_extensions: [("route".to_owned(), "site".to_owned())].into(),
        ..AttributeContext::default()
    }
}

fn refusal(attributes: AttributeContext, options: Options) -> (Option<Reason>, String) {
    let read = read(attributes, "an envoy", &Nobody, options);
    (read.refusal, read.question.detail)
}

#[test]
fn a_request_is_read_as_our_own_listeners_would_read_it() {
    let headers =
        [("x-tenant", "a"), ("x-tenant", "b"), ("cookie", "secret"), ("Portcullis-Principal", "me")];
    let got = read(asked("GET", "/orders?page=2", &headers), "an envoy", &Nobody, Options::default());
    assert_eq!((got.refusal, got.question.action), (None, Action::HttpGet));
    assert_eq!((got.question.resource.id(), got.question.detail.as_str()), ("site", "asked by an envoy"));
    assert_eq!(got.remove, ["portcullis-principal"]);
    let request = got.question.facts.owned_request().unwrap();
    assert_eq!((request.path.as_str(), request.host.as_str()), ("/orders", "shop.example"));
    assert_eq!(request.headers.keys().collect::<Vec<_>>(), ["x-tenant"], "credentials are no facts");
    assert_eq!(request.headers["x-tenant"], ["a", "b"], "lines are not joined");
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    let got = read(asked("POST", "/shop.Orders/Get", &grpc), "an envoy", &Nobody, Options::default());
    assert_eq!((got.refusal, got.question.action), (None, Action::Grpc));
    assert_eq!(got.question.facts.rpc(), Some(("shop.Orders", "Get")));
}

#[test]
fn what_envoy_would_forward_in_another_form_is_not_canonical() {
    for path in ["/a/../b", "/a//b", "/a%2fb", "/%61", "/a#b", "a", "/a\u{7f}"] {
        let (reason, detail) = refusal(asked("GET", path, &[]), Options::default());
        assert_eq!(reason, Some(Reason::NotCanonical), "{path}: {detail}");
    }
    let mut joined = asked("GET", "/", &[]);
    joined.request.as_mut().unwrap().http.as_mut().unwrap().header_map = None;
    let (reason, detail) = refusal(joined, Options::default());
    assert_eq!(reason, Some(Reason::ContextIncomplete));
    assert!(detail.contains("encode_raw_headers"), "{detail}");
    let (reason, _) = refusal(AttributeContext::default(), Options::default());
    assert_eq!(reason, Some(Reason::NotCanonical), "an empty question");
}

#[test]
fn unknown_targets_are_named() {
    let mut elsewhere = asked("GET", "/", &[]);
    elsewhere.context_extensions.clear();
    assert_eq!(refusal(elsewhere, Options::default()).0, Some(Reason::UnknownRoute));
    let grpc = [("content-type", "application/grpc")];
    assert_eq!(
        refusal(asked("POST", "/shop.Orders/Drop", &grpc), Options::default()).0,
        Some(Reason::UnknownMethod)
    );
}

#[test]
fn nobody_is_who_an_envoy_merely_says() {
    let claimed = |principal: &str, certificate: &str| AttributeContext {
        source: Some(part::Peer {
            principal: principal.to_owned(),
            certificate: certificate.to_owned(),
            ..part::Peer::default()
        }),
        ..asked("GET", "/", &[])
    };
    let web = "spiffe://example.org/web";
    let trusting = Options { trust_principal: true };
    let (reason, detail) = refusal(claimed(web, ""), Options::default());
    assert_eq!(reason, Some(Reason::IdentityUntrusted));
    assert!(detail.contains("include_peer_certificate"), "{detail}");
    let trusted = read(claimed(web, ""), "an envoy", &Nobody, trusting);
    assert_eq!((trusted.refusal, trusted.question.principal.id()), (None, web));
    assert!(!trusted.question.facts.connection().mtls, "no certificate was seen");
    assert_eq!(refusal(claimed("CN=web", ""), trusting).0, Some(Reason::IdentityUntrusted));
    for certificate in
        ["%", "%zz", "garbage", "-----BEGIN%20CERTIFICATE-----%0AAAAA%0A-----END%20CERTIFICATE-----"]
    {
        let (reason, detail) = refusal(claimed(web, certificate), trusting);
        assert_eq!(reason, Some(Reason::IdentityUntrusted), "{certificate}: {detail}");
    }
}
