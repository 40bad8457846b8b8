//! What is counted (MT-02). Handles are resolved once per route and status and kept (MT-01).
//!
//! Every worker has its own handles, and they outlive the views, so a reload neither resets nor multiplies a series.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base_telemetry::{Counter, Family, Gauge, Histogram, Metrics};
use enforcer_codec::CallProtocol;
use parking_lot::Mutex;
use policies_engine::{Decision, Mode};

use crate::quic::Steered;
use crate::shed::Shed;

/// The families, and one worker's handles per route.
#[derive(Debug)]
pub(crate) struct Meters {
    requests: Family<Counter>,
    durations: Family<Histogram>,
    decisions: Family<Counter>,
    connections: Family<Gauge>,
    handshakes: Family<Counter>,
    detected: Family<Counter>,
    stalls: Histogram,
    gate: Family<Counter>,
    pub(crate) injected: Family<Counter>,
    pub(crate) mirrored: Family<Counter>,
    rejudged: Family<Counter>,
    upstream_requests: Family<Counter>,
    upstream_connections: Family<Gauge>,
    upstream_in_flight: Family<Gauge>,
    upstream_queue: Family<Gauge>,
    dials: Family<Counter>,
    retries: Family<Counter>,
    steered: Family<Counter>,
    circuits: Family<Gauge>,
    panics: Family<Gauge>,
    shed: Family<Counter>,
    routes: Mutex<HashMap<Arc<str>, Arc<RouteMeter>>>,
    dial_results: Mutex<HashMap<&'static str, Counter>>,
    handshake_results: Mutex<HashMap<&'static str, Counter>>,
    tries: Mutex<HashMap<&'static str, Counter>>,
    refusals: Mutex<HashMap<Shed, Counter>>,
}

/// Counters of one route on one worker.
#[derive(Debug)]
pub(crate) struct RouteMeter {
    route: Arc<str>,
    service: Arc<str>,
    requests: Family<Counter>,
    decisions: Family<Counter>,
    protocols: [ProtocolMeter; 5],
    verdicts: Mutex<Vec<(Verdict, Counter)>>,
}

#[derive(Debug)]
struct ProtocolMeter {
    word: &'static str,
    duration: Histogram,
    codes: Mutex<Vec<(u16, Counter)>>,
}

/// The labels of a decision that are not fixed by its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    effect: &'static str,
    would: &'static str,
    reason: &'static str,
    mode: &'static str,
}

/// Counters of one endpoint on one worker.
#[derive(Debug)]
pub(crate) struct EndpointMeter {
    pub(crate) answered: Counter,
    pub(crate) failed: Counter,
    pub(crate) connections: Gauge,
}

/// One more while it lives.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Meters {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            requests: metrics.counter(
                "portcullis_requests",
                "Calls by route and status of the answer.",
                &["protocol", "route", "code"],
            ),
            durations: metrics.histogram(
                "portcullis_request_duration_seconds",
                "Time from the head of a call to the end of its answer.",
                &["protocol", "route"],
            ),
            decisions: metrics.counter(
                "portcullis_decisions",
                "Decisions on calls.",
                &["effect", "would", "reason", "mode", "service"],
            ),
            detected: metrics.counter(
                "portcullis_detect",
                "What the first bytes of a connection told.",
                &["result"],
            ),
            stalls: metrics
                .histogram("portcullis_detect_stall_seconds", "Time until they told it.", &[])
                .with(&[]),
            connections: metrics.gauge(
                "portcullis_connections",
                "Open connections of callers.",
                &["listener", "state"],
            ),
            injected: metrics.counter(
                "portcullis_faults_injected",
                "Calls that an operator had wait or fail, by route.",
                &["route", "kind"],
            ),
            mirrored: metrics.counter(
                "portcullis_mirrored",
                "Copies of calls that were to go to the mirror of their route, by what became of them.",
                &["route", "result"],
            ),
            gate: metrics.counter(
                "portcullis_gate_refused",
                "Requests and connections of callers that were refused, by the rule they broke.",
                &["class"],
            ),
            rejudged: metrics.counter(
                "portcullis_rejudged",
                "Running calls that were judged again, by cause and by what became of them.",
                &["cause", "result"],
            ),
            handshakes: metrics.counter("portcullis_handshakes", "TLS handshakes by result.", &["result"]),
            upstream_requests: metrics.counter(
                "portcullis_upstream_requests",
                "Requests sent to endpoints, by what became of them.",
                &["endpoint", "result"],
            ),
            upstream_connections: metrics.gauge(
                "portcullis_upstream_connections",
                "Open connections to endpoints.",
                &["endpoint"],
            ),
            upstream_in_flight: metrics.gauge(
                "portcullis_upstream_in_flight",
                "Calls at the endpoints of a cluster, of all workers, looked at every few seconds.",
                &["cluster"],
            ),
            upstream_queue: metrics.gauge(
                "portcullis_upstream_queue_length",
                "Calls that wait for a place at an endpoint.",
                &["cluster"],
            ),
            dials: metrics.counter(
                "portcullis_pool_dials",
                "New connections to endpoints, TLS handshake included, by result.",
                &["result"],
            ),
            steered: metrics.counter(
                "portcullis_quic_steered",
                "Datagrams that came to another worker than that of their connection: passed on to it, or dropped.",
                &["result"],
            ),
            retries: metrics.counter(
                "portcullis_retries",
                "Tries that were to be followed by another one: sent, or refused by the budget of the route.",
                &["result"],
            ),
            circuits: metrics.gauge(
                "portcullis_circuit_state",
                "Whether an endpoint is shut out (1) or takes calls (0).",
                &["cluster", "endpoint"],
            ),
            panics: metrics.gauge(
                "portcullis_panic_mode",
                "Whether so few endpoints of a cluster are healthy that their health is ignored (1).",
                &["cluster"],
            ),
            shed: shed_family(metrics),
            routes: Mutex::default(),
            dial_results: Mutex::default(),
            handshake_results: Mutex::default(),
            tries: Mutex::default(),
            refusals: Mutex::default(),
        }
    }

    /// A request or a connection was refused by a rule of that class.
    pub(crate) fn gate_refused(&self, class: &'static str) {
        self.gate.with(&[class]).inc();
    }

    /// A running call was judged again, because of a change or because its policies read the clock.
    pub(crate) fn rejudged(&self, is_timed: bool, is_kept: bool) {
        let cause = if is_timed { "time" } else { "change" };
        self.rejudged.with(&[cause, if is_kept { "kept" } else { "ended" }]).inc();
    }

    /// The handles of a route; the empty name stands for calls without one.
    pub(crate) fn route(&self, route: &Arc<str>, service: &Arc<str>) -> Arc<RouteMeter> {
        let mut routes = self.routes.lock();
        if let Some(meter) = routes.get(route).filter(|meter| meter.service == *service) {
            return Arc::clone(meter);
        }
        let protocol = |word| ProtocolMeter {
            word,
            duration: self.durations.with(&[word, route]),
            codes: Mutex::default(),
        };
        let meter = Arc::new(RouteMeter {
            route: Arc::clone(route),
            service: Arc::clone(service),
            requests: self.requests.clone(),
            decisions: self.decisions.clone(),
            protocols: ["h1", "h2", "h3", "grpc", "tcp"].map(protocol),
            verdicts: Mutex::default(),
        });
        routes.insert(Arc::clone(route), Arc::clone(&meter));
        meter
    }

    pub(crate) fn endpoint(&self, name: &str) -> EndpointMeter {
        EndpointMeter {
            answered: self.upstream_requests.with(&[name, "answered"]),
            failed: self.upstream_requests.with(&[name, "failed"]),
            connections: self.upstream_connections.with(&[name]),
        }
    }

    /// A try was to be followed by another one.
    pub(crate) fn retry(&self, result: &'static str) {
        self.tries.lock().entry(result).or_insert_with(|| self.retries.with(&[result])).inc();
    }

    /// Something was refused for that reason.
    pub(crate) fn shed(&self, reason: Shed) {
        self.refusals.lock().entry(reason).or_insert_with(|| self.shed.with(&[reason.as_str()])).inc();
    }

    /// An endpoint was shut out or let in again.
    pub(crate) fn circuit(&self, cluster: &str, endpoint: &str, is_shut: bool) {
        self.circuits.with(&[cluster, endpoint]).set(i64::from(is_shut));
    }

    /// The gauge of calls that wait for a cluster.
    pub(crate) fn queue(&self, cluster: &str) -> Gauge {
        self.upstream_queue.with(&[cluster])
    }

    /// How a cluster stands.
    pub(crate) fn cluster(&self, name: &str, in_flight: u64, panics: bool) {
        self.upstream_in_flight.with(&[name]).set(i64::try_from(in_flight).unwrap_or(i64::MAX));
        self.panics.with(&[name]).set(i64::from(panics));
    }

    /// The gauge of open connections of a listener.
    pub(crate) fn listener(&self, name: &str) -> Gauge {
        self.connections.with(&[name, "open"])
    }

    /// Counts a dial by its result: `ok`, `timeout`, `refused`, `failed`, `tls_rejected`, or the word of a refused
    /// certificate.
    pub(crate) fn dial(&self, result: &'static str) {
        let mut results = self.dial_results.lock();
        results.entry(result).or_insert_with(|| self.dials.with(&[result])).inc();
    }

    /// Counters of datagrams at the wrong worker.
    pub(crate) fn steered(&self) -> Steered {
        Steered { passed: self.steered.with(&["passed"]), dropped: self.steered.with(&["dropped"]) }
    }

    /// Counts a handshake by its result: `ok`, `timeout`, `tls`, or the word of a refused certificate.
    pub(crate) fn handshake(&self, result: &'static str) {
        let mut results = self.handshake_results.lock();
        results.entry(result).or_insert_with(|| self.handshakes.with(&[result])).inc();
    }
}

impl Meters {
    /// Counts what the first bytes of a connection told: `http1`, `h2`, `tcp`, `silence` or `none` (DT-05).
    pub(crate) fn detected(&self, result: &'static str, took: Duration) {
        self.detected.with(&[result]).inc();
        self.stalls.observe(took);
    }
}

/// What was refused for load, by reason (OV-03).
pub(crate) fn shed_family(metrics: &Metrics) -> Family<Counter> {
    let help = "What was refused because of load, limits or lack of endpoints.";
    metrics.counter("portcullis_shed", help, &["reason"])
}

impl RouteMeter {
    /// Names of the route and its service; empty for calls without one.
    pub(crate) fn names(&self) -> (&Arc<str>, &Arc<str>) {
        (&self.route, &self.service)
    }

    /// Counts a finished call.
    pub(crate) fn call(&self, protocol: CallProtocol, status: u16, took: Duration) {
        let [h1, h2, h3, grpc, tcp] = &self.protocols;
        let meter = match protocol {
            CallProtocol::H1 => h1,
            CallProtocol::H2 => h2,
            CallProtocol::H3 => h3,
            CallProtocol::Grpc => grpc,
            CallProtocol::Tcp => tcp,
        };
        meter.duration.observe(took);
        let mut codes = meter.codes.lock();
        if let Some((_, counter)) = codes.iter().find(|(code, _)| *code == status) {
            return counter.inc();
        }
        let counter = self.requests.with(&[meter.word, &self.route, itoa::Buffer::new().format(status)]);
        counter.inc();
        codes.push((status, counter));
    }

    /// Counts a decision.
    pub(crate) fn decision(&self, decision: &Decision, mode: Mode) {
        let verdict = Verdict {
            effect: decision.effect.as_str(),
            would: decision.would.as_ref().map_or("", |would| would.effect.as_str()),
            reason: decision.reason.as_str(),
            mode: mode.as_str(),
        };
        let mut verdicts = self.verdicts.lock();
        if let Some((_, counter)) = verdicts.iter().find(|(known, _)| *known == verdict) {
            return counter.inc();
        }
        let Verdict { effect, would, reason, mode } = verdict;
        let counter = self.decisions.with(&[effect, would, reason, mode, &self.service]);
        counter.inc();
        verdicts.push((verdict, counter));
    }
}

impl Counted {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.add(1);
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}
