//! What is refused before any policy is asked. A real Envoy asks in `tests/e2e/ext_authz.rs`.

use super::{Options, question::read};
use crate::{
    Canonical, Held, Judge, Question, Target, Unrecorded, Verdict,
    generated::messages::{AttributeContext, HeaderMap, HeaderValue, attribute_context as part},
};
use base_ports::{Clock, ManualClock, Now, UnixTime};
use ca_identity::IdentitySnapshot;
use futures_util::future::BoxFuture;
use policies_engine::{Action, Facts, OwnedRequest, Protocol, Reason, Resource};
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

    fn canonical(&self, held: &Held, _listener: &str, route: Option<&str>) -> Result<Canonical, String> {
        if held.path.contains("..") || held.host.is_empty() {
            return Err("CC-03: dot segments".to_owned());
        }
        let rpc =
            held.path.strip_prefix("/shop.Orders/").map(|name| ("shop.Orders".to_owned(), name.to_owned()));
        Ok(Canonical {
            action: if rpc.is_some() { Action::Grpc } else { Action::from_http_method(&held.method) },
            target: match (route, rpc.as_ref().map(|(_, method)| method.as_str())) {
                (_, Some("Get")) => Target::Resource(Resource::method("shop.Orders/Get")),
                (_, Some(_)) => Target::UnknownMethod,
                (Some("site"), None) => Target::Resource(Resource::route("site")),
                (_, None) => Target::UnknownRoute,
            },
            request: OwnedRequest {
                path: held.path.clone(),
                host: held.host.clone(),
                ..OwnedRequest::default()
            },
            rpc,
        })
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
fn a_request_is_read_with_what_it_goes_to() {
    let headers = [(":path", "/orders"), ("x-tenant", "a"), ("Portcullis-Principal", "me")];
    let got = read(asked("GET", "/orders", &headers), "an envoy", &Nobody, Options::default());
    assert_eq!((got.refusal, got.question.action), (None, Action::HttpGet));
    assert_eq!((got.question.resource.id(), got.question.detail.as_str()), ("site", "asked by an envoy"));
    assert_eq!(got.remove, ["portcullis-principal"]);
    assert_eq!(got.question.facts.owned_request().unwrap().host, "shop.example");
    let got = read(asked("POST", "/shop.Orders/Get", &[]), "an envoy", &Nobody, Options::default());
    assert_eq!((got.refusal, got.question.action), (None, Action::Grpc));
    assert_eq!(got.question.facts.rpc(), Some(("shop.Orders", "Get")));
    assert_eq!(got.question.facts.connection().protocol, Protocol::Grpc);
}

#[test]
fn what_has_no_canonical_form_or_no_lines_is_refused() {
    let (reason, detail) = refusal(asked("GET", "/a/../b", &[]), Options::default());
    assert_eq!(
        (reason, detail.as_str()),
        (Some(Reason::NotCanonical), "CC-03: dot segments; asked by an envoy")
    );
    let mut joined = asked("GET", "/", &[]);
    joined.request.as_mut().unwrap().http.as_mut().unwrap().header_map = None;
    let (reason, detail) = refusal(joined, Options::default());
    assert_eq!(reason, Some(Reason::ContextIncomplete));
    assert!(detail.contains("encode_raw_headers"), "{detail}");
    let (reason, _) = refusal(AttributeContext::default(), Options::default());
    assert_eq!(reason, Some(Reason::ContextIncomplete), "an empty question");
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
