//! A finished trail, and the line that tells it (TA-01): JSON for machines, one short line for people.
//!
//! Neither has a header, a query or a body: nothing that may be a secret.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base_ports::UnixTime;
use ca_identity::SpiffeId;
use enforcer_codec::{Call, CallProtocol};
use policies_engine::{ConnectionFacts, DecisionId, Principal, Reason, Resource};
use serde::Serialize;
use serde_json::Value;

use super::notes::SentTo;
use super::span::{SpanIds, trace_of, trace_text};

/// A call that has ended.
#[derive(Debug)]
pub struct CallTrail {
    /// Of a call that is sampled.
    pub(super) span: Option<SpanIds>,
    pub(super) began: UnixTime,
    pub(super) took: Duration,
    /// Until the connection of the call was secured.
    pub(super) handshake: Duration,
    pub(super) authorized: Option<Duration>,
    /// Spent on waiting for an endpoint.
    pub(super) queue: Duration,
    /// Spent on connections to endpoints.
    pub(super) connect: Duration,
    pub(super) first_byte: Option<Duration>,
    pub(super) protocol: CallProtocol,
    pub(super) principal: Principal,
    pub(super) connection: Arc<ConnectionFacts>,
    pub(super) source: SocketAddr,
    pub(super) via: Option<SocketAddr>,
    /// None where the head made no call.
    pub(super) call: Option<Call>,
    pub(super) decision: Option<DecisionId>,
    /// Of the policies that judged; 0 = none.
    pub(super) version: u64,
    pub(super) verdict: Option<Reason>,
    pub(super) resource: Option<Resource>,
    pub(super) route: Arc<str>,
    pub(super) service: Arc<str>,
    pub(super) sent_to: Option<SentTo>,
    pub(super) tries: u64,
    /// On the wire.
    pub(super) status: u16,
    pub(super) grpc_status: Option<u8>,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) end: End,
    pub(super) cause: String,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Its answer is complete.
    Complete,
    /// It was judged and not permitted.
    Denied,
    /// It was permitted, and refused for load or lack of endpoints.
    Shed(&'static str),
    /// It was permitted, and got no proper answer.
    Upstream,
    /// It was permitted, and an operator had it fail (RT-06).
    Injected,
    /// Its caller broke a rule or went away.
    Caller,
}

impl End {
    fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Denied => "denied",
            Self::Shed(_) => "shed",
            Self::Upstream => "upstream_failed",
            Self::Injected => "injected",
            Self::Caller => "caller_failed",
        }
    }
}

/// How a trail is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrailFormat {
    /// One JSON object a line.
    Json,
    /// One short line.
    Human,
}

#[derive(Serialize)]
struct Line<'a> {
    ts: String,
    event: &'static str,
    decision_id: Option<String>,
    policy_version: Option<u64>,
    principal: &'a str,
    source: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<SocketAddr>,
    listener: &'a str,
    protocol: &'static str,
    mtls: bool,
    sni: Option<&'a str>,
    method: Option<&'a str>,
    authority: Option<&'a str>,
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_path: Option<&'a str>,
    effect: &'static str,
    reason: Option<&'static str>,
    resource: Option<String>,
    route: Option<&'a str>,
    service: Option<&'a str>,
    cluster: Option<&'a str>,
    endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_identity: Option<&'a str>,
    tries: u64,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<u8>,
    received_bytes: u64,
    sent_bytes: u64,
    handshake_us: u64,
    authorize_us: Option<u64>,
    queue_us: u64,
    connect_us: u64,
    first_byte_us: Option<u64>,
    total_us: u64,
    end: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    shed: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
}

impl CallTrail {
    /// Appends its line.
    pub fn print(&self, format: TrailFormat, out: &mut Vec<u8>) {
        match format {
            TrailFormat::Json => {
                // INVARIANT: numbers and texts always have a JSON form, and a vector takes every byte.
                serde_json::to_writer(&mut *out, &self.line()).unwrap_or_default();
            }
            TrailFormat::Human => out.extend_from_slice(self.human().as_bytes()),
        }
        out.push(b'\n');
    }

    fn line(&self) -> Line<'_> {
        let call = self.call.as_ref();
        let full = |text: &'_ str| !text.is_empty();
        let shed = if let End::Shed(reason) = self.end { Some(reason) } else { None };
        Line {
            ts: UnixTime::from_millis(self.began.as_millis()).to_string(),
            event: "call",
            decision_id: self.decision.map(|id| id.to_string()),
            policy_version: Some(self.version).filter(|version| *version > 0),
            principal: self.principal.id(),
            source: self.source,
            via: self.via,
            listener: &self.connection.listener,
            protocol: self.protocol_word(),
            mtls: self.connection.mtls,
            sni: self.connection.sni.as_deref(),
            method: call.filter(|_| self.protocol != CallProtocol::Tcp).map(Call::method),
            authority: call.map(Call::authority).filter(|text| full(text)),
            path: call.map(Call::path).filter(|text| full(text)),
            sent_path: call.and_then(Call::sent_path),
            effect: self.effect(),
            reason: self.verdict.map(Reason::as_str),
            resource: self.resource.as_ref().map(ToString::to_string),
            route: Some(&*self.route).filter(|text| full(text)),
            service: Some(&*self.service).filter(|text| full(text)),
            cluster: self.sent_to.as_ref().map(|to| &*to.cluster),
            endpoint: self.sent_to.as_ref().map(|to| to.endpoint.to_string()),
            upstream_identity: self
                .sent_to
                .as_ref()
                .and_then(|to| to.identity.as_ref())
                .map(SpiffeId::as_str),
            tries: self.tries,
            status: self.status,
            grpc_status: self.grpc_status,
            received_bytes: self.received,
            sent_bytes: self.sent,
            handshake_us: micros(self.handshake),
            queue_us: micros(self.queue),
            connect_us: micros(self.connect),
            authorize_us: self.authorized.map(micros),
            first_byte_us: self.first_byte.map(micros),
            total_us: micros(self.took),
            end: self.end.as_str(),
            shed,
            cause: Some(&*self.cause).filter(|text| full(text)),
            trace_id: self.trace_id(),
        }
    }

    fn human(&self) -> String {
        let (call, effect) = (self.call.as_ref(), self.effect());
        let target = match call {
            Some(call) if self.protocol != CallProtocol::Tcp => {
                format!("{} {}{}", call.method(), call.authority(), call.path())
            }
            Some(_) => "TCP".to_owned(),
            None => "-".to_owned(),
        };
        let endpoint = self.sent_to.as_ref().map(|to| format!(" -> {}", to.endpoint)).unwrap_or_default();
        let why = match (self.end, self.verdict) {
            (End::Complete, _) => String::new(),
            (End::Denied, Some(reason)) => format!(" ({})", reason.as_str()),
            (End::Shed(reason), _) => format!(" (shed: {reason})"),
            (end, _) => format!(" ({}: {})", end.as_str(), self.cause),
        };
        let decision = self.decision.map(|id| format!(" {id}")).unwrap_or_default();
        let grpc = self.grpc_status.map(|status| format!("/{status}")).unwrap_or_default();
        let line = format!(
            "{} {effect} {}{grpc} {} {} {target}{endpoint} {} ms{why}{decision}",
            UnixTime::from_millis(self.began.as_millis()),
            self.status,
            self.protocol_word(),
            self.principal.id(),
            micros(self.took) / 1_000,
        );
        // What a caller chose is told like a string of JSON, so that it cannot become another line.
        if line.chars().any(char::is_control) { Value::from(line).to_string() } else { line }
    }

    /// It is a span of a trace.
    pub(super) fn is_sampled(&self) -> bool {
        self.span.is_some()
    }

    /// The trace that the call belongs to.
    fn trace_id(&self) -> Option<String> {
        trace_of(self.call.as_ref()?).map(|trace| trace_text(&trace))
    }

    pub(super) fn effect(&self) -> &'static str {
        if self.verdict.is_some() { "deny" } else { "allow" }
    }

    fn protocol_word(&self) -> &'static str {
        match self.protocol {
            CallProtocol::H1 => "h1",
            CallProtocol::H2 => "h2",
            CallProtocol::H3 => "h3",
            CallProtocol::Grpc => "grpc",
            CallProtocol::Tcp => "tcp",
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use enforcer_codec::h1::{Parse, parse_request_head};
    use enforcer_codec::{Limits, Scheme, Transport};
    use policies_engine::Protocol;
    use proptest::prelude::*;

    use super::*;

    fn call(target: &str, fields: &str) -> Option<Call> {
        let head = format!("GET {target} HTTP/1.1\r\nhost: shop.test\r\n{fields}\r\n");
        let mut buffer = BytesMut::from(head.as_bytes());
        let Parse::Done(head) = parse_request_head(&mut buffer, &Limits::default()) else { return None };
        Call::from_h1(head, &Transport::new(Scheme::Https)).ok()
    }

    fn trail(call: Option<Call>, end: End, cause: &str) -> CallTrail {
        CallTrail {
            span: None,
            began: UnixTime::from_secs(1),
            took: Duration::from_micros(2_500),
            handshake: Duration::from_micros(900),
            authorized: Some(Duration::from_micros(40)),
            queue: Duration::ZERO,
            connect: Duration::from_micros(7),
            first_byte: None,
            protocol: CallProtocol::H1,
            principal: Principal::workload("spiffe://example.org/web"),
            connection: Arc::new(ConnectionFacts {
                mtls: true,
                tls: 13,
                source_ip: [127, 0, 0, 1].into(),
                sni: None,
                listener: "public".into(),
                protocol: Protocol::H1,
            }),
            source: ([127, 0, 0, 1], 1).into(),
            via: None,
            call,
            decision: None,
            version: 3,
            verdict: (end == End::Denied).then_some(Reason::NoPermit),
            resource: Some(Resource::route("site")),
            route: "site".into(),
            service: "site".into(),
            sent_to: None,
            tries: 0,
            status: 200,
            grpc_status: None,
            received: 1,
            sent: 2,
            end,
            cause: cause.to_owned(),
        }
    }

    fn printed(trail: &CallTrail, format: TrailFormat) -> String {
        let mut out = Vec::new();
        trail.print(format, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ta_01_a_line_tells_who_asked_what_and_what_became_of_it() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let fields =
            format!("traceparent: 00-{trace}-b7ad6b7169203331-01\r\nauthorization: Bearer secret\r\n");
        let trail = trail(call("/a?token=secret", &fields), End::Shed("rate"), "too many calls");
        let line: Value = serde_json::from_str(&printed(&trail, TrailFormat::Json)).unwrap();
        for (key, wanted) in [
            ("principal", "spiffe://example.org/web"),
            ("method", "GET"),
            ("authority", "shop.test"),
            ("path", "/a"),
            ("effect", "allow"),
            ("end", "shed"),
            ("shed", "rate"),
            ("trace_id", trace),
            ("resource", "Route::\"site\""),
            ("ts", "1970-01-01T00:00:01Z"),
        ] {
            assert_eq!(line[key], wanted, "{key}: {line}");
        }
        assert_eq!((&line["handshake_us"], &line["connect_us"]), (&900.into(), &7.into()));
        assert_eq!((&line["total_us"], &line["policy_version"]), (&2_500.into(), &3.into()));
        assert!(!line.to_string().contains("secret"), "neither query nor header: {line}");
        let human = printed(&trail, TrailFormat::Human);
        assert_eq!(
            human,
            "1970-01-01T00:00:01Z allow 200 h1 spiffe://example.org/web GET shop.test/a 2 ms (shed: rate)\n"
        );
    }

    #[test]
    fn ta_02_what_is_no_trace_context_is_no_trace() {
        for value in [
            "",
            "00-0-1-01",
            "00-00000000000000000000000000000000-1-01",
            "00-0AF7651916CD43DD8448EB211C80319C-1-01",
        ] {
            let call = call("/", &format!("traceparent: {value}\r\n"));
            assert_eq!(call.as_ref().and_then(trace_of), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn ta_01_a_trail_is_one_line_whatever_the_caller_and_the_cause_say(target in "/[!-~]{0,40}", cause: String) {
            for end in [End::Complete, End::Denied, End::Upstream, End::Injected, End::Caller] {
                let trail = trail(call(&target, ""), end, &cause);
                for format in [TrailFormat::Json, TrailFormat::Human] {
                    let text = printed(&trail, format);
                    prop_assert_eq!(text.chars().filter(|c| c.is_control()).count(), 1, "{}", text);
                }
                let line: Value = serde_json::from_str(&printed(&trail, TrailFormat::Json)).unwrap();
                prop_assert_eq!(line["cause"].as_str().unwrap_or_default(), cause.as_str());
            }
        }
    }
}
