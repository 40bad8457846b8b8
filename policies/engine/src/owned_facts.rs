//! Facts that own themselves: copies for the ledger, decoded records, the questions of `can`, tests.
//! Their JSON form is the `connection`, `request` and `rpc` members of a decision (`decisions.md` 2).

mod json;

use crate::{Action, ConnectionFacts, Facts, Protocol, RequestView, Resource, Token, schema::Declared};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

pub use json::FactsJsonError;

/// Facts of one call, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedFacts {
    connection: ConnectionFacts,
    request: Option<OwnedRequest>,
    /// The query of the request spelled out again.
    raw_query: Option<String>,
    rpc: Option<(String, String)>,
    token: Option<Arc<Token>>,
}

/// The request part of [`OwnedFacts`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnedRequest {
    /// Exact method token.
    pub method: String,
    /// Canonical authority.
    pub host: String,
    /// Canonical path without query.
    pub path: String,
    /// Values of declared query names.
    pub query: BTreeMap<String, Vec<String>>,
    /// Every query name present.
    pub query_names: BTreeSet<String>,
    /// Lines of declared headers, lower-case names.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Captures of the matched route.
    pub params: BTreeMap<String, String>,
    /// `content-type` without parameters.
    pub media_type: Option<String>,
    /// Declared length of the body.
    pub length: Option<u64>,
}

impl OwnedFacts {
    /// Facts of a connection, without a request.
    #[must_use]
    pub fn new(connection: ConnectionFacts) -> OwnedFacts {
        OwnedFacts { connection, request: None, raw_query: None, rpc: None, token: None }
    }

    /// Facts of a peer on the local socket or of this process itself.
    #[must_use]
    pub fn local(listener: &str) -> OwnedFacts {
        OwnedFacts::new(ConnectionFacts {
            mtls: false,
            tls: 0,
            source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            sni: None,
            listener: listener.into(),
            protocol: Protocol::H1,
        })
    }

    /// What `can` assumes when it is told nothing: mTLS 1.3 from loopback on listener `public`, the method and path
    /// that action and resource imply.
    #[must_use]
    pub fn assumed(action: Action, resource: &Resource) -> OwnedFacts {
        let protocol = match action {
            Action::Grpc => Protocol::Grpc,
            Action::TcpConnect => Protocol::Tcp,
            _ => Protocol::H2,
        };
        let connection =
            ConnectionFacts { mtls: true, tls: 13, protocol, ..OwnedFacts::local("public").connection };
        let facts = OwnedFacts::new(connection);
        let host = resource.service().unwrap_or("localhost").to_owned();
        match action {
            Action::Grpc => {
                let name = resource.id().rsplit(':').next().unwrap_or_default();
                let (service, method) = name.rsplit_once('/').unwrap_or((name, ""));
                let media_type = Some("application/grpc".to_owned());
                let (method_token, path) = ("POST".to_owned(), format!("/{name}"));
                let request =
                    OwnedRequest { method: method_token, host, path, media_type, ..OwnedRequest::default() };
                facts.with_request(request).with_rpc(service, method)
            }
            action if action.is_http() => {
                let method = action.as_str().rsplit(':').next().unwrap_or_default().to_owned();
                facts.with_request(OwnedRequest {
                    method,
                    host,
                    path: "/".to_owned(),
                    ..OwnedRequest::default()
                })
            }
            _ => facts,
        }
    }

    /// A copy of `facts` that keeps the declared header, query and capture names only.
    #[must_use]
    pub fn copy(facts: &dyn Facts, declared: &Declared) -> OwnedFacts {
        let request = facts.request().map(|view| copy_request(facts, view, declared));
        let rpc = facts.rpc().map(|(service, method)| (service.to_owned(), method.to_owned()));
        let token = facts.token().cloned();
        let copied = OwnedFacts { rpc, token, ..OwnedFacts::new(facts.connection().clone()) };
        match request {
            Some(request) => copied.with_request(request),
            None => copied,
        }
    }

    /// With an HTTP request.
    #[must_use]
    pub fn with_request(mut self, mut request: OwnedRequest) -> OwnedFacts {
        request.query_names.extend(request.query.keys().cloned());
        self.raw_query = request.raw_query();
        self.request = Some(request);
        self
    }

    /// With gRPC names.
    #[must_use]
    pub fn with_rpc(mut self, service: &str, method: &str) -> OwnedFacts {
        self.rpc = Some((service.to_owned(), method.to_owned()));
        self
    }

    /// With the verified token of a person.
    #[must_use]
    pub fn with_token(mut self, token: Arc<Token>) -> OwnedFacts {
        self.token = Some(token);
        self
    }

    /// With other connection facts.
    #[must_use]
    pub fn with_connection(mut self, connection: ConnectionFacts) -> OwnedFacts {
        self.connection = connection;
        self
    }

    /// The request part.
    #[must_use]
    pub fn owned_request(&self) -> Option<&OwnedRequest> {
        self.request.as_ref()
    }
}

impl Facts for OwnedFacts {
    fn connection(&self) -> &ConnectionFacts {
        &self.connection
    }

    fn request(&self) -> Option<RequestView<'_>> {
        self.request.as_ref().map(|request| RequestView {
            method: &request.method,
            host: &request.host,
            path: &request.path,
            query: self.raw_query.as_deref(),
            media_type: request.media_type.as_deref(),
            length: request.length,
        })
    }

    fn rpc(&self) -> Option<(&str, &str)> {
        self.rpc.as_ref().map(|(service, method)| (service.as_str(), method.as_str()))
    }

    fn header(&self, name: &str, each: &mut dyn FnMut(&str)) {
        let lines = self.request.as_ref().and_then(|request| request.headers.get(name));
        lines.into_iter().flatten().for_each(|line| each(line));
    }

    fn param(&self, name: &str) -> Option<&str> {
        self.request.as_ref()?.params.get(name).map(String::as_str)
    }

    fn token(&self) -> Option<&Arc<Token>> {
        self.token.as_ref()
    }
}

fn copy_request(facts: &dyn Facts, view: RequestView<'_>, declared: &Declared) -> OwnedRequest {
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
    for name in &declared.headers {
        let mut lines = Vec::new();
        facts.header(name, &mut |line| lines.push(line.to_owned()));
        if !lines.is_empty() {
            request.headers.insert(name.to_string(), lines);
        }
    }
    for name in &declared.params {
        if let Some(value) = facts.param(name) {
            request.params.insert(name.to_string(), value.to_owned());
        }
    }
    request
}

impl OwnedRequest {
    /// A query that [`RequestView::query_pairs`] reads back to the same sets.
    #[must_use]
    pub fn raw_query(&self) -> Option<String> {
        spell_query(self)
    }
}

fn spell_query(request: &OwnedRequest) -> Option<String> {
    let mut raw = String::new();
    let mut pair = |name: &str, value: Option<&str>| {
        if !raw.is_empty() {
            raw.push('&');
        }
        encode(&mut raw, name);
        if let Some(value) = value {
            raw.push('=');
            encode(&mut raw, value);
        }
    };
    for (name, values) in &request.query {
        values.iter().for_each(|value| pair(name, Some(value)));
    }
    request
        .query_names
        .iter()
        .filter(|name| !request.query.contains_key(*name))
        .for_each(|name| pair(name, None));
    (!raw.is_empty()).then_some(raw)
}

fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else if write!(out, "%{byte:02X}").is_err() {
            return; // INVARIANT: writing to a String does not fail.
        }
    }
}

impl From<OwnedFacts> for Arc<dyn Facts> {
    fn from(facts: OwnedFacts) -> Self {
        Arc::new(facts)
    }
}
