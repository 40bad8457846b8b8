//! Whether a try that failed is followed by another one (RY-01 to RY-06).
//!
//! Every try has the permit of the call and its clocks; a permit that is lost meanwhile ends the call as ever. Nothing is
//! tried again once a byte of an answer is out, or once more of the body went by than is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use enforcer_codec::{Answer, Call, CallProtocol};
use enforcer_traffic::{RetryBudget, RetrySettings, Trigger, pause};
use http::Method;

use crate::clocks::Clocks;
use crate::fault::{Broken, Fault};
use crate::inbound::Connection;
use crate::shed::Shed;

/// What is left to try.
#[derive(Debug)]
pub(crate) struct Chance<'a> {
    settings: &'a RetrySettings,
    budget: &'a RetryBudget,
    /// What endpoints are told.
    pub(super) call: &'a Call,
    pub(super) conn: &'a Connection,
    pub(super) clocks: &'a Clocks<'a>,
    is_idempotent: bool,
    /// The body that went by cannot be sent again.
    is_spent: Option<Arc<AtomicBool>>,
    retries: AtomicU32,
}

impl<'a> Chance<'a> {
    pub(super) fn new(
        (settings, budget): (&'a RetrySettings, &'a RetryBudget),
        call: &'a Call,
        conn: &'a Connection,
        clocks: &'a Clocks<'a>,
    ) -> Self {
        let is_idempotent = match call.protocol() {
            CallProtocol::Grpc => settings.grpc_is_idempotent,
            CallProtocol::H1 | CallProtocol::H2 | CallProtocol::H3 => is_idempotent(call),
            // What was dialled in vain carried nothing yet.
            CallProtocol::Tcp => false,
        };
        if settings.attempts > 0 {
            budget.earn(clocks.started());
        }
        Self {
            settings,
            budget,
            call,
            conn,
            clocks,
            is_idempotent,
            is_spent: None,
            retries: AtomicU32::new(0),
        }
    }

    /// There may be another try after the first.
    pub(super) fn is_open(&self) -> bool {
        self.settings.attempts > 0
    }

    /// The call may be executed twice, so that its status decides about another try.
    pub(super) fn may_repeat(&self) -> bool {
        self.is_open() && self.is_idempotent
    }

    /// `is_spent` turns true when the body cannot be sent again.
    pub(super) fn watch_body(&mut self, is_spent: Arc<AtomicBool>) {
        self.is_spent = Some(is_spent);
    }

    /// An answer is passed on: nothing is tried again, and nothing of the body need be kept.
    pub(super) fn settle(&self) {
        if let Some(is_spent) = &self.is_spent {
            is_spent.store(true, Ordering::Relaxed);
        }
    }

    /// How long a try may take to its head.
    pub(super) fn try_timeout(&self) -> Option<Duration> {
        self.settings.try_timeout
    }

    /// Takes another try after that one, and answers how long to wait for it.
    pub(super) fn take(&self, trigger: Trigger, wish: Wish) -> Option<Duration> {
        let retries = self.retries.load(Ordering::Relaxed);
        let is_spent = self.is_spent.as_ref().is_some_and(|spent| spent.load(Ordering::Relaxed));
        let may = retries < self.settings.attempts && !is_spent && wish != Wish::Never;
        if !may || !trigger.allows(self.is_idempotent) {
            return None;
        }
        let worker = &self.conn.worker;
        let now = self.clocks.now();
        let pause = pause(retries + 1, worker.rng.share()).max(wish.pause().unwrap_or_default());
        match self.clocks.left(now) {
            Err(_) => return None,
            Ok(Some(left)) if left <= pause => return None,
            Ok(_) => {}
        }
        if !self.budget.spend(self.settings, self.conn.secured.principal.hash64(), now) {
            worker.meters.retry("budget");
            worker.meters.shed(Shed::RetryBudget);
            return None;
        }
        worker.meters.retry("sent");
        self.retries.store(retries + 1, Ordering::Relaxed);
        Some(pause)
    }

    /// The same after a fault of a try.
    pub(super) fn after(&self, fault: &Fault) -> Option<(Trigger, Duration)> {
        let trigger = match fault {
            Fault::Again { trigger, pause } => return Some((*trigger, *pause)),
            Fault::Connect { .. } => Trigger::Connect,
            Fault::TlsRejected { .. } => Trigger::Unprocessed,
            Fault::Upstream { source, .. } if source.is_unprocessed() => Trigger::Unprocessed,
            Fault::Upstream { source: Broken::Io(error), .. }
                if error.kind() == std::io::ErrorKind::BrokenPipe =>
            {
                Trigger::Unprocessed
            }
            Fault::Upstream { source, .. } if source.is_lost() => Trigger::Lost,
            Fault::NotGrpc { status } => Trigger::Status(*status),
            Fault::Deadline => Trigger::Lost,
            _ => return None,
        };
        Some((trigger, self.take(trigger, Wish::None)?))
    }
}

/// Where a call has been tried.
#[derive(Debug, Default)]
pub(super) struct Tried {
    places: Vec<usize>,
    /// Of those, the ones that do not take us: another try there fails like the first (TL-10).
    closed: Vec<usize>,
}

impl Tried {
    pub(super) fn add(&mut self, place: usize, fault: &Fault) {
        self.places.push(place);
        if matches!(fault, Fault::TlsRejected { .. }) {
            self.closed.push(place);
        }
    }

    pub(super) fn has(&self, place: usize) -> bool {
        self.places.contains(&place)
    }

    pub(super) fn is_closed(&self, place: usize) -> bool {
        self.closed.contains(&place)
    }
}

/// What an endpoint says about another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing.
    None,
    /// Not before that time has passed.
    After(Duration),
    /// Not at all.
    Never,
}

impl Wish {
    /// `grpc-retry-pushback-ms`, where a negative number means never, or `retry-after` in seconds.
    pub(super) fn of(answer: &Answer) -> Self {
        let text = |name| answer.header(name).next().and_then(|value| str::from_utf8(value).ok());
        if let Some(written) = text("grpc-retry-pushback-ms") {
            return written.parse().map_or(Self::Never, |millis| Self::After(Duration::from_millis(millis)));
        }
        let seconds = text("retry-after").and_then(|written| written.parse().ok());
        seconds.map_or(Self::None, |seconds| Self::After(Duration::from_secs(seconds)))
    }

    pub(super) fn pause(self) -> Option<Duration> {
        match self {
            Self::After(pause) => Some(pause),
            Self::None | Self::Never => None,
        }
    }
}

/// Telling the call twice does no more than telling it once (RFC 9110 9.2.2).
pub(super) fn is_idempotent(call: &Call) -> bool {
    let method = call.http_method();
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE].contains(method)
}
