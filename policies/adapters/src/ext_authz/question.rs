//! From a `CheckRequest` to a question that policies can answer, or to the reason why none can.

use super::Options;
use crate::{
    Judge, Question, Target,
    generated::messages::{
        AttributeContext,
        attribute_context::{HttpRequest, Peer},
    },
};
use ca_identity::{Refusal, RefusalClass, SpiffeId, Usage, VerifiedPeer, pem, verify_svid};
use enforcer_codec::{BodyLength, Call, CallProtocol, Scheme, Transport};
use http::{HeaderName, HeaderValue};
use policies_engine::{
    Action, ConnectionFacts, Credential, CredentialKind, OwnedFacts, OwnedRequest, Phase, Principal,
    Protocol, Reason, RequestView, Resource,
};
use std::net::{IpAddr, Ipv4Addr};

/// A question, read.
pub(super) struct Read {
    pub(super) question: Question,
    /// Why no policy can be asked.
    pub(super) refusal: Option<Reason>,
    /// Headers that only we may set; Envoy drops them.
    pub(super) remove: Vec<String>,
}

/// Why no policy can be asked, and what is said about it on record.
type Refused = (Reason, String);

/// Reads everything there is to say, even of a request that is refused.
pub(super) fn read(attributes: AttributeContext, asker: &str, judge: &dyn Judge, options: Options) -> Read {
    let extension = |name: &str| attributes.context_extensions.get(name).map(String::as_str);
    let listener = extension("listener").unwrap_or("ext_authz");
    let source = attributes.source.unwrap_or_default();
    let http = attributes.request.and_then(|request| request.http).unwrap_or_default();
    let sni = attributes.tls_session.map(|tls| tls.sni).filter(|sni| !sni.is_empty());
    let (principal, credential, mut refused) = match caller(&source, judge, options) {
        Ok((principal, credential)) => (principal, credential, None),
        Err(refused) => (Principal::anonymous(), None, Some(refused)),
    };
    let connection = ConnectionFacts {
        mtls: credential.is_some(),
        // The one thing known of the version: a peer that showed a certificate spoke TLS.
        tls: if credential.is_some() || sni.is_some() { 12 } else { 0 },
        source_ip: address(&source),
        sni: sni.map(Into::into),
        listener: listener.into(),
        protocol: if http.protocol.starts_with("HTTP/2") { Protocol::H2 } else { Protocol::H1 },
    };
    let remove = ours(&http);
    let mut facts = OwnedFacts::new(connection.clone());
    let (mut action, mut resource) = (Action::HttpOther, Resource::unknown());
    match canonical(&http) {
        Err(flaw) => refused = refused.or(Some(flaw)),
        Ok(call) => {
            let is_grpc = call.protocol() == CallProtocol::Grpc;
            action = if is_grpc { Action::Grpc } else { Action::from_http_method(call.method()) };
            facts = facts_of(&call, connection, judge);
            let unknown = match judge.target(&call, listener, extension("route")) {
                Target::Resource(found) => {
                    resource = found;
                    None
                }
                Target::UnknownRoute => Some(Reason::UnknownRoute),
                Target::UnknownMethod => Some(Reason::UnknownMethod),
            };
            refused = refused.or(unknown.map(|reason| (reason, call.path().to_owned())));
        }
    }
    let (refusal, why) = match refused {
        None => (None, String::new()),
        Some((reason, why)) => (Some(reason), format!("{why}; ")),
    };
    let question = Question {
        phase: Phase::ExtAuthz,
        principal,
        credential,
        action,
        resource,
        facts,
        detail: format!("{why}asked by {asker}"),
    };
    Read { question, refusal, remove }
}

/// Who calls: the certificate, verified by our rules; the claim of Envoy only where the operator said so.
fn caller(
    source: &Peer,
    judge: &dyn Judge,
    options: Options,
) -> Result<(Principal, Option<Credential>), Refused> {
    if source.certificate.is_empty() {
        return match (source.principal.as_str(), options.trust_principal) {
            ("", _) => Ok((Principal::anonymous(), None)),
            (claimed, true) => match claimed.parse::<SpiffeId>() {
                Ok(id) => Ok((Principal::workload(id.as_str()), None)),
                Err(cause) => Err((Reason::IdentityUntrusted, format!("source.principal: {cause}"))),
            },
            (_, false) => Err((
                Reason::IdentityUntrusted,
                "a principal without its certificate; set include_peer_certificate: true".to_owned(),
            )),
        };
    }
    let untrusted = |cause: String| (Reason::IdentityUntrusted, format!("source.certificate: {cause}"));
    let text = unescaped(&source.certificate).ok_or_else(|| untrusted("not URL-encoded".to_owned()))?;
    let mut chain = pem::read_certificates(&text).map_err(|cause| untrusted(cause.to_string()))?;
    let trust = judge.trust();
    if chain.len() == 1 {
        // Envoy shows the leaf alone; the CA between it and the root is the one that signed our own SVID.
        chain.extend(trust.own.iter().flat_map(|own| own.chain.iter().skip(1).cloned()));
    }
    let now = judge.now().wall;
    let peer = verify_svid(&chain, &trust, Usage::Client, now)
        .map_err(|refusal| (reason_of(&refusal), format!("source.certificate: {}", refusal.code())))?;
    Ok((principal(&peer), Some(credential(&peer))))
}

fn reason_of(refusal: &Refusal) -> Reason {
    match refusal.class() {
        RefusalClass::Untrusted => Reason::IdentityUntrusted,
        RefusalClass::Expired => Reason::IdentityExpired,
        RefusalClass::Revoked => Reason::IdentityRevoked,
    }
}

fn principal(peer: &VerifiedPeer) -> Principal {
    if peer.id.path().starts_with("/portcullis/agent/") {
        Principal::agent(peer.id.as_str())
    } else {
        Principal::workload(peer.id.as_str())
    }
}

fn credential(peer: &VerifiedPeer) -> Credential {
    Credential {
        kind: CredentialKind::X509,
        serial: Some(peer.serial.to_string()),
        fingerprint: Some(peer.fingerprint),
        issuer: Some(peer.issuer_key_id.to_string()),
        not_after: Some(peer.expires),
    }
}

/// The call as our own listeners would have read it.
fn canonical(http: &HttpRequest) -> Result<Call, Refused> {
    let not_canonical = |cause: String| (Reason::NotCanonical, cause);
    let scheme = if http.scheme == "http" { Scheme::Http } else { Scheme::Https };
    let uri = http::Uri::builder()
        .scheme(if scheme == Scheme::Http { "http" } else { "https" })
        .authority(http.host.as_str())
        .path_and_query(http.path.as_str())
        .build()
        .map_err(|cause| not_canonical(format!("target: {cause}")))?;
    let mut request =
        http::Request::builder().method(http.method.as_str()).uri(uri).version(http::Version::HTTP_2);
    let Some(lines) = &http.header_map else {
        return Err((Reason::ContextIncomplete, "no header_map; set encode_raw_headers: true".to_owned()));
    };
    for line in &lines.headers {
        let value: &[u8] = if line.raw_value.is_empty() { line.value.as_bytes() } else { &line.raw_value };
        if line.key.starts_with(':') || is_hop_by_hop(&line.key) {
            continue;
        }
        let name = HeaderName::from_bytes(line.key.as_bytes())
            .map_err(|cause| not_canonical(format!("header `{}`: {cause}", line.key)))?;
        let value = HeaderValue::from_bytes(value)
            .map_err(|cause| not_canonical(format!("value of header `{}`: {cause}", line.key)))?;
        request = request.header(name, value);
    }
    let (parts, ()) = request.body(()).map_err(|cause| not_canonical(cause.to_string()))?.into_parts();
    let call = Call::from_h2(parts, http.size <= 0, &Transport::new(scheme))
        .map_err(|flaw| not_canonical(format!("{}: {}", flaw.rule, flaw.detail)))?;
    let ours = match call.query() {
        Some(query) => format!("{}?{query}", call.path()),
        None => call.path().to_owned(),
    };
    if ours != http.path {
        return Err(not_canonical(format!("path `{}` is not canonical, `{ours}` would be", http.path)));
    }
    Ok(call)
}

fn facts_of(call: &Call, mut connection: ConnectionFacts, judge: &dyn Judge) -> OwnedFacts {
    let declared = judge.declared();
    let view = RequestView {
        method: call.method(),
        host: call.authority(),
        path: call.path(),
        query: call.query(),
        media_type: call.media_type(),
        length: match call.body() {
            BodyLength::None => Some(0),
            BodyLength::Known(length) => Some(length),
            BodyLength::Streamed => None,
        },
    };
    let mut request = OwnedRequest {
        method: view.method.to_owned(),
        host: view.host.to_owned(),
        path: view.path.to_owned(),
        media_type: view.media_type.map(str::to_owned),
        length: view.length,
        ..OwnedRequest::default()
    };
    for (name, value) in view.query_pairs() {
        if declared.query.contains(&*name) {
            request.query.entry(name.to_string()).or_default().push(value.into_owned());
        }
        request.query_names.insert(name.into_owned());
    }
    for (name, value) in call.headers() {
        let Ok(value) = std::str::from_utf8(value) else { continue };
        if declared.headers.contains(name) {
            request
                .headers
                .entry(name.to_owned())
                .or_default()
                .push(value.trim_matches([' ', '\t']).to_owned());
        }
    }
    let rpc = call.grpc().map(|(service, method)| (service.to_owned(), method.to_owned()));
    if rpc.is_some() {
        connection.protocol = Protocol::Grpc;
    }
    let facts = OwnedFacts::new(connection).with_request(request);
    match rpc {
        Some((service, method)) => facts.with_rpc(&service, &method),
        None => facts,
    }
}

/// Headers that a caller sent and only we may send. Those of Envoy's own making stay.
fn ours(http: &HttpRequest) -> Vec<String> {
    let lines = http.header_map.iter().flat_map(|map| &map.headers);
    let mut names: Vec<String> = lines
        .map(|line| line.key.to_ascii_lowercase())
        .filter(|name| name.starts_with("portcullis-"))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn is_hop_by_hop(name: &str) -> bool {
    enforcer_codec::headers::is_hop_by_hop(name.as_bytes())
}

fn address(source: &Peer) -> IpAddr {
    let socket = source.address.as_ref().and_then(|address| address.socket_address.as_ref());
    socket.and_then(|socket| socket.address.parse().ok()).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// Undoes URL encoding; `None` when an escape is none.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
        out.push(high << 4 | low);
    }
    Some(out)
}
