//! A caller with nothing wrong about it, who calls all the time while others attack.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tests::Result;
use tests::wire::{Caller, Heard, PATIENCE, Wire};

/// It calls until it is asked how it went.
pub(super) struct Good {
    stops: Arc<AtomicBool>,
    calls: JoinHandle<(Vec<Duration>, usize)>,
}

/// How it went.
pub(super) struct Went {
    pub(super) lost: usize,
    calls: usize,
    p99: Duration,
}

impl Good {
    pub(super) fn start(caller: &Caller) -> Self {
        let (stops, caller) = (Arc::<AtomicBool>::default(), caller.clone());
        let told = Arc::clone(&stops);
        let calls = std::thread::spawn(move || {
            let (mut took, mut lost) = (Vec::new(), 0);
            let mut wire: Option<Wire> = None;
            while !told.load(Ordering::Relaxed) {
                let began = Instant::now();
                match call(&caller, &mut wire) {
                    Ok(()) => took.push(began.elapsed()),
                    Err(_) => (lost, wire) = (lost + 1, None),
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            (took, lost)
        });
        Self { stops, calls }
    }

    pub(super) fn went(self) -> Result<Went> {
        self.stops.store(true, Ordering::Relaxed);
        let (mut took, lost) = self.calls.join().map_err(|_panic| "the good caller panicked")?;
        took.sort_unstable();
        let p99 = took.get(took.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default();
        Ok(Went { lost, calls: took.len(), p99 })
    }

    /// How it goes for that long when nobody attacks.
    pub(super) fn alone(caller: &Caller, time: Duration) -> Result<Went> {
        let good = Self::start(caller);
        std::thread::sleep(time);
        good.went()
    }
}

impl Went {
    pub(super) fn text(&self) -> String {
        format!("{} calls, {} lost, p99 {} us", self.calls, self.lost, self.p99.as_micros())
    }
}

fn call(caller: &Caller, wire: &mut Option<Wire>) -> Result {
    if wire.is_none() {
        *wire = Some(caller.dial()?);
    }
    let Some(open) = wire else { return Err("no connection".into()) };
    open.send(b"GET /good HTTP/1.1\r\nhost: localhost\r\n\r\n");
    match open.hear(false, PATIENCE)? {
        Heard::Reply(reply) if reply.status == 200 => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

/// How often a flood is made longer than what CI has time for.
pub(super) fn scale() -> usize {
    std::env::var("PORTCULLIS_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}
