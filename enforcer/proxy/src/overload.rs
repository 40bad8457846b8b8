//! Looks ten times a second at how near the process and each worker are to their limits, and tells the workers what to give
//! up. Runs on the runtime of the owner, so that it looks while workers are busy; health, administration and the
//! authority have nothing to do with it and are never refused here (OV-02).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base_net::Refusals;
use base_ports::Clock;
use base_telemetry::{Counter, Gauge, Metrics};
use enforcer_traffic::{Delay, Ladder, Step};

use crate::fleets::Fleets;
use crate::listeners::Listeners;
use crate::load::{BEAT, Load};
use crate::meter::shed_family;
use crate::shed::Shed;

/// How near the process is to its limits, where 1 is the limit; none where there is no limit, or none that can be told.
pub trait Gauges: fmt::Debug + Send + Sync {
    /// Memory of the process, and of all that share its limit.
    fn memory(&self) -> Option<f64>;
    /// Open file descriptors, of those that are not kept for administration.
    fn descriptors(&self) -> Option<f64>;
}

/// Looks for ever.
pub(crate) struct Sampler {
    gauges: Arc<dyn Gauges>,
    fleets: Arc<Fleets>,
    clock: Arc<dyn Clock>,
    listeners: Arc<Listeners>,
    /// What each had refused.
    refusals: HashMap<Arc<str>, Refusals>,
    /// Of memory alone.
    memory: Ladder,
    workers: Vec<(Arc<Load>, Ladder, Delay, Gauge)>,
    pressure: [(Shed, Gauge); 3],
    refused: HashMap<Shed, Counter>,
}

impl Sampler {
    pub(crate) fn new(
        gauges: &Arc<dyn Gauges>,
        fleets: &Arc<Fleets>,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
        listeners: &Arc<Listeners>,
        longest_delay: Duration,
    ) -> Self {
        let steps = metrics.gauge(
            "portcullis_overload_step",
            "What a worker gives up under load: 0 nothing, 1 half of the time for heads and idleness, 2 idle connections, 3 new connections, the largest calls where memory is short, callers without identity and routes of low priority, 4 calls.",
            &["worker"],
        );
        let pressure = metrics.gauge(
            "portcullis_overload_pressure",
            "How near a limit is, in percent; of cpu, the worker that is nearest.",
            &["of"],
        );
        let shed = shed_family(metrics);
        let workers = fleets.loads().into_iter().enumerate();
        let workers = workers.map(|(number, load)| {
            (
                load,
                Ladder::default(),
                Delay::new(longest_delay),
                steps.with(&[itoa::Buffer::new().format(number)]),
            )
        });
        Self {
            gauges: Arc::clone(gauges),
            fleets: Arc::clone(fleets),
            clock: Arc::clone(clock),
            listeners: Arc::clone(listeners),
            refusals: HashMap::new(),
            memory: Ladder::default(),
            workers: workers.collect(),
            pressure: [Shed::Memory, Shed::Cpu, Shed::Fds]
                .map(|strain| (strain, pressure.with(&[strain.as_str()]))),
            refused: [Shed::ConnLimit, Shed::IpShare, Shed::HandshakeBudget]
                .map(|reason| (reason, shed.with(&[reason.as_str()])))
                .into(),
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            self.look();
            self.count();
            tokio::time::sleep(BEAT).await;
        }
    }

    fn look(&mut self) {
        let now = self.clock.mono();
        let memory = self.gauges.memory().unwrap_or_default();
        let descriptors = self.gauges.descriptors().unwrap_or_default();
        let is_short = self.memory.observe(memory) >= Step::New;
        let mut busiest = 0.0_f64;
        for (number, (load, ladder, delay, gauge)) in self.workers.iter_mut().enumerate() {
            load.set_short(is_short);
            let cpu = delay.observe(load.delay(now));
            busiest = busiest.max(cpu);
            let all = [(Shed::Memory, memory), (Shed::Cpu, cpu), (Shed::Fds, descriptors)];
            let most = all.into_iter().max_by(|(_, one), (_, other)| one.total_cmp(other));
            let Some((strain, pressure)) = most else { continue };
            let before = load.step();
            let step = ladder.observe(pressure);
            if load.set(step, strain) {
                gauge.set(step as i64);
                let (of, percent) = (strain.as_str(), percent(pressure));
                match step > before {
                    true => {
                        tracing::warn!(
                            event = "overload",
                            worker = number,
                            ?step,
                            of,
                            percent,
                            "more is given up under load"
                        )
                    }
                    false => {
                        tracing::info!(
                            event = "overload",
                            worker = number,
                            ?step,
                            of,
                            percent,
                            "less is given up under load"
                        )
                    }
                }
            }
        }
        let values = [memory, busiest, descriptors];
        self.pressure.iter().zip(values).for_each(|((_, gauge), value)| gauge.set(percent(value)));
    }

    /// What was refused at accept, where nobody has counters.
    fn count(&mut self) {
        let (mut connections, mut sources) = (0, 0);
        for (name, gate) in self.listeners.gates() {
            let (now, before) = (gate.refusals(), self.refusals.entry(name).or_default());
            connections += now.listener.saturating_sub(before.listener);
            sources += now.source.saturating_sub(before.source);
            *before = now;
        }
        let handshakes = self.fleets.shaken.refused();
        for (reason, count) in
            [(Shed::ConnLimit, connections), (Shed::IpShare, sources), (Shed::HandshakeBudget, handshakes)]
        {
            if let Some(counter) = self.refused.get(&reason).filter(|_| count > 0) {
                counter.add(count);
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "INVARIANT: a float cast to an integer saturates")]
fn percent(pressure: f64) -> i64 {
    (pressure * 100.0).round() as i64
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampler").field("gauges", &self.gauges).finish_non_exhaustive()
    }
}
