//! The one place where a denial or a fault becomes a status (PA-08, RPC-02, GC4).
//!
//! Callers learn status, class and decision id; never a policy name, a reason word or an upstream's address (RW2).

use std::time::Duration;

use enforcer_codec::grpc::{self, Code, ErrorInfo};
use enforcer_codec::h2::Reason as Reset;
use enforcer_codec::headers::Extra;
use enforcer_codec::{Call, CallProtocol, NotCanonical};
use enforcer_traffic::Exceeded;
use policies_engine::{DecisionId, Reason, ReasonClass};
use tokio::io::AsyncWrite;

use crate::Reveal;
use crate::body::Outlet;
use crate::fault::{Broken, Fault};
use crate::forward::{DECISION_HEADER, DecisionText};
use crate::shed::Shed;

/// Load that refuses a call now may be gone then.
const SOON: Duration = Duration::from_secs(1);

/// The header that says what was refused because of load (OV-03).
const SHED_HEADER: &str = "portcullis-shed";

/// By an SVID in the handshake.
const CHALLENGE: &str = "SPIFFE";
/// By another token (RFC 6750 3.1).
const BAD_TOKEN: &str = "Bearer error=\"invalid_token\"";

/// What a caller is told instead of an answer of the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The HTTP status, also for the metrics of a gRPC call.
    pub(crate) status: u16,
    code: Code,
    class: &'static str,
    title: &'static str,
    /// How a caller could prove who it is, where that is asked for (RFC 9110 11.6.1).
    challenge: &'static str,
    decision: Option<DecisionId>,
    /// Why it was refused, when that is for load.
    shed: Option<Shed>,
    /// What the caller may do instead, and when.
    advice: Advice,
    /// No further byte of the connection may be read (HTTP/1).
    close: bool,
}

/// When it is of use to come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Advice {
    None,
    /// After a moment: whatever the load is then.
    Soon,
    /// When the rate has room.
    Rate(Exceeded),
}

/// How the caller of a refused call wants to hear of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    protocol: CallProtocol,
    head_only: bool,
}

impl Asker {
    /// The caller of a call.
    pub(crate) fn of(call: &Call) -> Self {
        Self { protocol: call.protocol(), head_only: call.method() == "HEAD" }
    }

    /// Somebody whose bytes made no call.
    pub(crate) fn unknown(protocol: CallProtocol) -> Self {
        Self { protocol, head_only: false }
    }

    pub(crate) fn protocol(self) -> CallProtocol {
        self.protocol
    }
}

impl Refusal {
    /// For a call that must not pass. A flaw of its bytes names its own status.
    pub(crate) fn of_denied(
        reason: Reason,
        flaw: Option<NotCanonical>,
        decision: Option<DecisionId>,
    ) -> Self {
        let (status, code, close) = match flaw {
            Some(flaw) => (flaw.status, Code::from_own_http(flaw.status), flaw.close),
            None => {
                let code = u8::try_from(reason.grpc_code()).ok().and_then(Code::from_number);
                (reason.http_status(), code.unwrap_or(Code::Unavailable), false)
            }
        };
        Self {
            status,
            code,
            class: reason.class().as_str(),
            title: title(reason),
            challenge: if reason.is_about_a_token() { BAD_TOKEN } else { CHALLENGE },
            decision,
            shed: None,
            advice: Advice::None,
            // An identity that lapsed takes its connection with it.
            close: close || (reason.class() == ReasonClass::Unauthenticated && !reason.is_about_a_token()),
        }
    }

    /// For a call that was permitted and still came to nothing. A decision id is given where there was one.
    pub(crate) fn of_fault(fault: &Fault, decision: Option<DecisionId>) -> Self {
        let (status, code, title) = match fault {
            Fault::Rate(_) => (429, Code::ResourceExhausted, "Too many calls"),
            Fault::Overload(_) => (503, Code::ResourceExhausted, "The gateway takes no more calls now"),
            Fault::NoEndpoint
            | Fault::NoHealthy
            | Fault::NoGrpc
            | Fault::NoUpgrade
            | Fault::Again { .. }
            | Fault::TlsRejected { .. }
            | Fault::Connect { .. } => (503, Code::Unavailable, "The service cannot be reached"),
            Fault::NoAddress { .. } => (503, Code::Unavailable, "The target has no address"),
            Fault::Barred { .. } => (403, Code::PermissionDenied, "The target is not open to callers"),
            Fault::QueueFull | Fault::QueueDeadline => {
                (429, Code::ResourceExhausted, "The service takes no more calls now")
            }
            Fault::WrongPeer { .. } => (502, Code::Unavailable, "The service is not who is expected"),
            Fault::Full | Fault::Busy | Fault::Unadmitted => {
                (503, Code::Unavailable, "The service takes no more calls now")
            }
            Fault::Upstream { .. } => (502, Code::Unavailable, "The service gave no proper answer"),
            Fault::NotGrpc { status } => {
                (502, Code::from_upstream_http(*status), "The service did not answer in gRPC")
            }
            Fault::Untold(_) => (502, Code::Internal, "The call cannot be told to the service"),
            Fault::Deadline => (504, Code::DeadlineExceeded, "The call took too long"),
            Fault::Unread => (408, Code::DeadlineExceeded, "The answer was not taken in time"),
            Fault::Injected { status } => {
                (*status, Code::from_own_http(*status), "An operator has this call fail")
            }
            Fault::Loop => (508, Code::FailedPrecondition, "The call comes back to where it has been"),
            Fault::NotReady => (503, Code::Unavailable, "The gateway is not ready"),
            Fault::Lapsed => (503, Code::Unavailable, "The connection has come to its end"),
            Fault::Body(flaw) if flaw.status == 413 => {
                (413, Code::ResourceExhausted, "The body is larger than is taken here")
            }
            Fault::Body(flaw) => (flaw.status, Code::from_own_http(flaw.status), "The body is malformed"),
            Fault::Caller(_) => (499, Code::Cancelled, "The caller is gone"),
        };
        let class = match fault {
            Fault::Body(_) => "malformed",
            Fault::Barred { .. } => "denied",
            _ => "unavailable",
        };
        let close = matches!(fault, Fault::Body(_) | Fault::Caller(_) | Fault::Lapsed);
        let shed = fault.shed();
        let advice = match fault {
            Fault::Rate(exceeded) => Advice::Rate(**exceeded),
            _ if shed.is_some() => Advice::Soon,
            _ => Advice::None,
        };
        Self { status, code, class, title, challenge: CHALLENGE, decision, shed, advice, close }
    }

    /// The same, without the reason of load (OV-03).
    pub(crate) fn silent(self) -> Self {
        Self { shed: None, ..self }
    }

    /// For plain HTTP on a listener with TLS (DT-03).
    pub(crate) fn tls_required() -> Self {
        Self {
            status: 400,
            code: Code::InvalidArgument,
            class: "tls_required",
            title: "TLS is required here",
            ..Self::slow_head()
        }
    }

    /// For a head that did not arrive in time (H1-32).
    pub(crate) fn slow_head() -> Self {
        Self {
            status: 408,
            code: Code::Unavailable,
            class: "malformed",
            title: "The request took too long to arrive",
            challenge: CHALLENGE,
            decision: None,
            shed: None,
            advice: Advice::None,
            close: true,
        }
    }

    /// gRPC code and text, and HTTP/2 error, for an answer that must be broken off after its head.
    pub(crate) fn cut(&self) -> (u8, &'static str, Reset) {
        // A call that is no longer permitted is no error of ours (CT-05).
        let is_denied = matches!(self.code, Code::PermissionDenied | Code::Unauthenticated);
        let reset = if is_denied { Reset::CANCEL } else { Reset::INTERNAL_ERROR };
        (self.code.number(), self.title, reset)
    }

    /// Tells the caller. `close` adds a reason of the connection's own to end it.
    pub(crate) async fn tell<W: AsyncWrite + Unpin>(
        &self,
        asker: Asker,
        reveal: Reveal,
        close: bool,
        out: &mut Outlet<'_, W>,
    ) -> Result<(), Broken> {
        let decision = self.decision.filter(|_| reveal != Reveal::Never).map(DecisionText::of);
        let id = decision.as_ref().map(DecisionText::as_str);
        if asker.protocol == CallProtocol::Grpc && !matches!(out, Outlet::H1(_)) {
            return out.send_trailers_only(self.trailers(id, reveal));
        }
        let body = self.problem(id);
        let mut fields: Vec<Extra<'_>> = vec![("content-type", b"application/problem+json")];
        if let Some(id) = id {
            fields.push((DECISION_HEADER, id.as_bytes()));
        }
        if let Some(shed) = self.shed.filter(|_| reveal != Reveal::Never) {
            fields.push((SHED_HEADER, shed.as_str().as_bytes()));
        }
        let advised = self.advice.fields();
        fields.extend(advised.iter().map(|(name, value)| (*name, value.as_bytes())));
        if self.status == 401 {
            fields.push(("www-authenticate", self.challenge.as_bytes()));
        }
        let body = if asker.head_only { &[][..] } else { body.as_bytes() };
        out.send(self.status, &fields, body, close || self.close).await
    }

    fn trailers(&self, id: Option<&str>, reveal: Reveal) -> http::Response<()> {
        let reason = self.class.to_ascii_uppercase();
        let shed = self.shed.filter(|_| reveal != Reveal::Never).map(Shed::as_str);
        let known = [id.map(|id| ("decision_id", id)), shed.map(|shed| ("shed", shed))];
        let metadata: Vec<(&str, &str)> = known.into_iter().flatten().collect();
        let retry = self.advice.wait();
        let info = ErrorInfo { reason: &reason, domain: "portcullis", metadata: &metadata, retry };
        let mut head = grpc::trailers_only(self.code, self.title, Some(&info));
        if let Some(shed) = shed {
            let name = http::HeaderName::from_static(SHED_HEADER);
            head.headers_mut().insert(name, http::HeaderValue::from_static(shed));
        }
        if let Some(value) = id.and_then(|id| http::HeaderValue::from_str(id).ok()) {
            head.headers_mut().insert(http::HeaderName::from_static(DECISION_HEADER), value);
        }
        head
    }

    /// RFC 9457. Every part is of our own fixed words, so nothing needs escaping.
    fn problem(&self, id: Option<&str>) -> String {
        let Self { status, class, title, .. } = self;
        let decision = id.map(|id| format!(r#","decision_id":"{id}""#)).unwrap_or_default();
        format!(
            r#"{{"type":"urn:portcullis:problem:{class}","title":"{title}","status":{status},"reason":"{class}"{decision}}}"#
        )
    }
}

impl Advice {
    /// How long to wait.
    fn wait(self) -> Option<Duration> {
        match self {
            Self::None => None,
            Self::Soon => Some(SOON),
            Self::Rate(exceeded) => Some(exceeded.wait),
        }
    }

    /// `Retry-After` (RFC 9110 10.2.3), and the fields of draft-ietf-httpapi-ratelimit-headers-10.
    fn fields(self) -> Vec<(&'static str, String)> {
        let Some(wait) = self.wait() else { return Vec::new() };
        let seconds = whole_seconds(wait);
        let mut fields = vec![("retry-after", seconds.to_string())];
        if let Self::Rate(Exceeded { of, rate, .. }) = self {
            let (policy, window) = (of.as_str(), whole_seconds(rate.window()));
            fields.push(("ratelimit-policy", format!(r#""{policy}";q={};w={window}"#, rate.burst())));
            fields.push(("ratelimit", format!(r#""{policy}";r=0;t={seconds}"#)));
        }
        fields
    }
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).max(1)
}

/// What people read; by class, never by reason, except where the caller could know anyway.
fn title(reason: Reason) -> &'static str {
    match reason.class() {
        ReasonClass::Unauthenticated => "No valid identity was presented",
        ReasonClass::Unavailable => "The call cannot be decided now",
        ReasonClass::Malformed if reason == Reason::AuthorityMismatch => "This host is not served here",
        ReasonClass::Malformed => "The request is malformed",
        ReasonClass::NotFound => "Nothing is registered under this name",
        _ => "The call is not permitted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn denied(reason: Reason) -> Refusal {
        Refusal::of_denied(reason, None, None)
    }

    #[test]
    fn pa_08_every_denial_has_its_status_and_code() {
        let table = [
            (Reason::NoPermit, 403, 7),
            (Reason::Forbid, 403, 7),
            (Reason::ForbidError, 403, 7),
            (Reason::NoIdentity, 401, 16),
            (Reason::IdentityExpired, 401, 16),
            (Reason::NoPolicy, 503, 14),
            (Reason::AuditUnavailable, 503, 14),
            (Reason::AuthorityMismatch, 421, 14),
            (Reason::UnknownRoute, 404, 12),
            (Reason::UnknownMethod, 404, 12),
        ];
        for (reason, status, code) in table {
            let refusal = denied(reason);
            assert_eq!((refusal.status, refusal.code.number()), (status, code), "{reason}");
        }
    }

    #[test]
    fn to_02_a_deadline_is_504_and_never_unavailable() {
        let refusal = Refusal::of_fault(&Fault::Deadline, None);
        assert_eq!((refusal.status, refusal.code), (504, Code::DeadlineExceeded));
    }

    #[test]
    fn pa_08_faults_of_the_upstream_are_502_and_503() {
        let address = base_ports::NetAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        let connect =
            Fault::Connect { address: address.clone(), source: io::ErrorKind::ConnectionRefused.into() };
        let broke = Fault::Upstream { address, source: Broken::Ended };
        for (fault, status) in [(connect, 503), (Fault::NoEndpoint, 503), (broke, 502)] {
            let refusal = Refusal::of_fault(&fault, None);
            assert_eq!((refusal.status, refusal.code), (status, Code::Unavailable));
        }
    }

    #[test]
    fn ov_03_what_is_refused_for_load_has_one_word_and_says_when_to_come_again() {
        let rate = enforcer_traffic::Rate::new(1, SOON, 1);
        let exceeded = Exceeded { of: enforcer_traffic::Limited::Total, rate, wait: SOON };
        let table = [
            (Fault::Rate(Box::new(exceeded)), "rate", 429),
            (Fault::QueueFull, "queue_full", 429),
            (Fault::QueueDeadline, "queue_deadline", 429),
            (Fault::Full, "breaker", 503),
            (Fault::Busy, "breaker", 503),
            (Fault::NoEndpoint, "no_endpoint", 503),
            (Fault::NoHealthy, "no_endpoint", 503),
            (Fault::Overload(Shed::Memory), "memory", 503),
            (Fault::Overload(Shed::Cpu), "cpu", 503),
            (Fault::Overload(Shed::Fds), "fds", 503),
        ];
        for (fault, word, status) in table {
            let refusal = Refusal::of_fault(&fault, None);
            assert_eq!((refusal.shed.map(Shed::as_str), refusal.status), (Some(word), status), "{fault}");
            assert_eq!(refusal.advice.fields().first(), Some(&("retry-after", "1".to_owned())), "{fault}");
            let trailers = refusal.trailers(None, Reveal::Denied);
            assert_eq!(trailers.headers()[SHED_HEADER], word);
            for hidden in
                [refusal.silent().trailers(None, Reveal::Denied), refusal.trailers(None, Reveal::Never)]
            {
                assert_eq!(hidden.headers().get(SHED_HEADER), None, "{fault}");
            }
        }
        assert_eq!(Refusal::of_fault(&Fault::Deadline, None).shed, None);
    }

    #[test]
    fn rw2_callers_learn_the_class_and_never_the_word() {
        for reason in Reason::ALL {
            let refusal = denied(*reason);
            let text = refusal.problem(Some("01JD8Z6N4T0B7K3Q5XW2M9E47Q"));
            let words = format!("{text}{:?}", refusal.trailers(None, Reveal::Denied));
            let is_class = refusal.class == reason.as_str();
            assert!(is_class || !words.contains(&format!("\"{}\"", reason.as_str())), "{words}");
            assert!(text.contains("\"decision_id\":\"01JD8Z6N4T0B7K3Q5XW2M9E47Q\""));
        }
    }
}
