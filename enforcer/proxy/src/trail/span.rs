//! Calls as spans of a trace (TA-02, OB4): which calls are sampled, the ids that they have, and what a finished one tells.
//!
//! A caller that belongs to a trace has said whether it is sampled; of calls without a trace a configured share is. The
//! ids stand in the trail, in the record and in what the endpoint hears. No header, no query and no body is told.

use std::fmt;
use std::time::Duration;

use base_ports::{Rng, UnixTime};
use enforcer_codec::{Call, CallProtocol, FieldEdit, FieldEdits, Rewriting};
use policies_engine::{Reason, Trace};

use super::CallTrail;
use super::line::End;

/// The ids of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanIds {
    /// Of the trace.
    pub trace: [u8; 16],
    /// Of the span.
    pub span: [u8; 8],
    /// Of the span that it is a part of; none = it begins the trace.
    pub parent: Option<[u8; 8]>,
}

/// What a `traceparent` says (W3C Trace Context 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parent {
    trace: [u8; 16],
    span: [u8; 8],
    is_sampled: bool,
}

/// A finished span.
#[derive(Debug)]
pub struct Span<'a> {
    /// Its ids.
    pub ids: SpanIds,
    /// Low in number: the method and the route.
    pub name: String,
    /// When it began.
    pub began: UnixTime,
    /// How long it took.
    pub took: Duration,
    /// In the names of OpenTelemetry, where it has some.
    pub attributes: Vec<(&'static str, Attribute<'a>)>,
    /// What failed, where the gateway or an endpoint is to blame.
    pub failed: Option<&'a str>,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute<'a> {
    /// A text.
    Text(std::borrow::Cow<'a, str>),
    /// A number.
    Number(i64),
}

impl SpanIds {
    /// The span of a call; none when it is not sampled. Of calls without a trace so many in 10,000 are.
    pub(super) fn of(call: &Call, share: u32, rng: &dyn Rng) -> Option<Self> {
        if call.protocol() == CallProtocol::Tcp {
            return None;
        }
        let (trace, parent) = match Parent::of(call) {
            Some(parent) if parent.is_sampled => (parent.trace, Some(parent.span)),
            Some(_) => return None,
            None if rng.share() * 10_000.0 < f64::from(share) => {
                let mut trace = [0; 16];
                rng.fill(&mut trace);
                (trace, None)
            }
            None => return None,
        };
        // All zeros is no id; the odds are even that a bit is set, and here one always is.
        Some(Self { trace, span: (rng.u64() | 1).to_be_bytes(), parent })
    }

    /// The call as a part of this span: its `traceparent` names it, nothing else of it changes.
    #[cold]
    pub(super) fn around(&self, call: &Call) -> Call {
        let mut edits = FieldEdits::default();
        // INVARIANT: the name is no field of the proxy's own, the ids are hex, and path and authority stay.
        edits.push("traceparent", &FieldEdit::Set(self.header())).unwrap_or_default();
        let rewriting = Rewriting { fields: Some(&edits), ..Rewriting::default() };
        call.rewritten(&rewriting).unwrap_or_else(|_flaw| call.clone())
    }

    fn header(&self) -> String {
        format!("00-{}-{}-01", Hex(&self.trace), Hex(&self.span))
    }
}

/// A trace, in hex.
pub(super) fn trace_text(trace: &Trace) -> String {
    Hex(&trace.trace_id).to_string()
}

/// The trace that a call belongs to as its caller says, for its record.
pub(crate) fn trace_of(call: &Call) -> Option<Trace> {
    Parent::of(call).map(|parent| Trace { trace_id: parent.trace, span_id: parent.span })
}

impl Parent {
    fn of(call: &Call) -> Option<Self> {
        let mut values = call.header("traceparent");
        let value = values.next()?;
        // Two of them are none.
        if values.next().is_some() { None } else { Self::parse(value) }
    }

    /// `version-trace-parent-flags`, lower-case hex; a later version may say more behind it.
    fn parse(value: &[u8]) -> Option<Self> {
        let text = str::from_utf8(value).ok()?;
        let mut parts = text.splitn(5, '-');
        let mut part = || parts.next();
        let (version, trace, span, flags) = (part()?, part()?, part()?, part()?);
        let [version] = hex::<1>(version)?;
        let has_more = part().is_some();
        if version == 0xff || (version == 0 && has_more) {
            return None;
        }
        let (trace, span, [flags]) = (hex::<16>(trace)?, hex::<8>(span)?, hex::<1>(flags)?);
        (trace != [0; 16] && span != [0; 8]).then_some(Self { trace, span, is_sampled: flags & 1 == 1 })
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let mut bytes = [0; N];
    if digits.len() != N.saturating_mul(2) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let digit = match digit {
                b'0'..=b'9' => digit.wrapping_sub(b'0'),
                b'a'..=b'f' => digit.wrapping_sub(b'a').wrapping_add(10),
                _ => return None,
            };
            *byte = *byte << 4 | digit;
        }
    }
    Some(bytes)
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl CallTrail {
    /// The call as a span, where it is sampled.
    #[must_use]
    pub fn span(&self) -> Option<Span<'_>> {
        let (ids, call) = (self.span?, self.call.as_ref()?);
        let text = |text: &'_ str| Attribute::Text(text.to_owned().into());
        let mut attributes = vec![
            ("http.request.method", Attribute::Text(call.method().into())),
            ("url.scheme", Attribute::Text(call.scheme().as_str().into())),
            ("url.path", Attribute::Text(call.path().into())),
            ("server.address", Attribute::Text(call.authority().into())),
            ("client.address", text(&self.source.ip().to_string())),
            ("http.response.status_code", Attribute::Number(self.status.into())),
            ("network.protocol.version", Attribute::Text(self.version_word().into())),
            ("portcullis.listener", Attribute::Text((&*self.connection.listener).into())),
            ("portcullis.principal", Attribute::Text(self.principal.id().into())),
            ("portcullis.effect", Attribute::Text(self.effect().into())),
            ("portcullis.tries", Attribute::Number(i64::try_from(self.tries).unwrap_or(i64::MAX))),
        ];
        if let Some((service, method)) = call.grpc() {
            attributes.push(("rpc.system", Attribute::Text("grpc".into())));
            attributes.push(("rpc.service", Attribute::Text(service.into())));
            attributes.push(("rpc.method", Attribute::Text(method.into())));
        }
        let known = [
            ("portcullis.decision_id", self.decision.map(|id| id.to_string().into())),
            ("portcullis.reason", self.verdict.map(|reason| Reason::as_str(reason).into())),
            ("portcullis.route", Some((&*self.route).into())),
            ("portcullis.service", Some((&*self.service).into())),
            ("portcullis.cluster", self.sent_to.as_ref().map(|to| (&*to.cluster).into())),
            ("portcullis.endpoint", self.sent_to.as_ref().map(|to| to.endpoint.to_string().into())),
            (
                "portcullis.upstream_identity",
                self.sent_to.as_ref().and_then(|to| to.identity.as_ref()).map(|id| id.as_str().into()),
            ),
        ];
        let known = known.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let known = known.filter(|(_, value): &(_, std::borrow::Cow<'_, str>)| !value.is_empty());
        attributes.extend(known.map(|(name, value)| (name, Attribute::Text(value))));
        if let Some(status) = self.grpc_status {
            attributes.push(("rpc.grpc.status_code", Attribute::Number(status.into())));
        }
        let failed = match self.end {
            End::Upstream | End::Injected => Some(&*self.cause),
            End::Shed(reason) => Some(reason),
            End::Complete | End::Denied | End::Caller if self.status >= 500 => Some(""),
            End::Complete | End::Denied | End::Caller => None,
        };
        let name = if self.route.is_empty() {
            call.method().to_owned()
        } else {
            format!("{} {}", call.method(), self.route)
        };
        Some(Span { ids, name, began: self.began, took: self.took, attributes, failed })
    }

    fn version_word(&self) -> &'static str {
        match self.protocol {
            CallProtocol::H1 => "1.1",
            CallProtocol::H3 => "3",
            CallProtocol::H2 | CallProtocol::Grpc | CallProtocol::Tcp => "2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn parsed(value: &str) -> Option<(String, bool)> {
        let parent = Parent::parse(value.as_bytes())?;
        Some((Hex(&parent.trace).to_string(), parent.is_sampled))
    }

    #[test]
    fn ta_02_a_traceparent_is_read_strictly() {
        let of = |flags: &str| format!("00-{TRACE}-b7ad6b7169203331-{flags}");
        assert_eq!(parsed(&of("01")), Some((TRACE.into(), true)));
        assert_eq!(parsed(&of("00")), Some((TRACE.into(), false)));
        assert_eq!(parsed(&of("03")), Some((TRACE.into(), true)));
        assert_eq!(parsed(&of("02")), Some((TRACE.into(), false)));
        assert_eq!(
            parsed(&format!("cc-{TRACE}-b7ad6b7169203331-01-what")),
            Some((TRACE.into(), true)),
            "later"
        );
        for odd in [
            String::new(),
            of("1"),
            of("0g"),
            of("01-more"),
            of("01 "),
            of("01").to_uppercase(),
            format!("ff-{TRACE}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-b7ad6b7169203331-01", TRACE.trim_start_matches('0')),
            format!("0-{TRACE}-b7ad6b7169203331-01"),
        ] {
            assert_eq!(parsed(&odd), None, "{odd}");
        }
    }

    #[test]
    fn ta_02_what_is_told_on_is_a_traceparent_of_the_same_trace() {
        let ids = SpanIds { trace: hex(TRACE).unwrap(), span: [0, 1, 2, 3, 4, 5, 6, 255], parent: None };
        assert_eq!(ids.header(), format!("00-{TRACE}-00010203040506ff-01"));
        assert_eq!(parsed(&ids.header()), Some((TRACE.into(), true)));
    }
}
