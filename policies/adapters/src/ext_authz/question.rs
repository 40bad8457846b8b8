//! From a `CheckRequest` to a question that policies can answer, or to the reason why none can.

use super::Options;
use crate::{
    Held, Judge, Question, Target,
    generated::messages::{
        AttributeContext, HeaderValue,
        attribute_context::{HttpRequest, Peer},
    },
};
use ca_identity::{Refusal, RefusalClass, SpiffeId, Usage, VerifiedPeer, pem, verify_svid};
use policies_engine::{
    Action, ConnectionFacts, Credential, CredentialKind, OwnedFacts, OwnedRequest, Phase, Principal,
    Protocol, Reason, Resource,
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
    match held(&http).and_then(|held| {
        judge.canonical(&held, listener, extension("route")).map_err(|flaw| (Reason::NotCanonical, flaw))
    }) {
        Err(flaw) => refused = refused.or(Some(flaw)),
        Ok(canonical) => {
            action = canonical.action;
            let unknown = match canonical.target {
                Target::Resource(found) => {
                    resource = found;
                    None
                }
                Target::UnknownRoute => Some(Reason::UnknownRoute),
                Target::UnknownMethod => Some(Reason::UnknownMethod),
            };
            refused = refused.or_else(|| unknown.map(|reason| (reason, canonical.request.path.clone())));
            facts = facts_of(connection, canonical.request, canonical.rpc);
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

/// What Envoy says of the request.
fn held(http: &HttpRequest) -> Result<Held, Refused> {
    let Some(lines) = &http.header_map else {
        return Err((Reason::ContextIncomplete, "no header_map; set encode_raw_headers: true".to_owned()));
    };
    let line = |line: &HeaderValue| {
        let value =
            if line.raw_value.is_empty() { line.value.clone().into_bytes() } else { line.raw_value.clone() };
        (line.key.clone(), value)
    };
    Ok(Held {
        method: http.method.clone(),
        scheme: http.scheme.clone(),
        host: http.host.clone(),
        path: http.path.clone(),
        headers: lines.headers.iter().filter(|line| !line.key.starts_with(':')).map(line).collect(),
        has_body: http.size > 0,
    })
}

fn facts_of(
    mut connection: ConnectionFacts,
    request: OwnedRequest,
    rpc: Option<(String, String)>,
) -> OwnedFacts {
    let Some((service, method)) = rpc else { return OwnedFacts::new(connection).with_request(request) };
    connection.protocol = Protocol::Grpc;
    OwnedFacts::new(connection).with_request(request).with_rpc(&service, &method)
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
