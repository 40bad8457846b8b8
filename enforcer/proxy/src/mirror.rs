//! Mirrored calls (RT-05): a route has a share of its calls sent to another cluster as well, and nobody waits for that.
//!
//! The copy is a call of its own, for the same caller: judged anew, on record, with its own clocks, and ended when its permit
//! ends. What becomes of it is counted and told to nobody. It never holds the call back: a copy whose body is not taken as
//! fast is cut, and when as many copies are under way as may be, no other begins.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use enforcer_codec::h1::Version;
use enforcer_codec::{Call, Downstream};
use tokio::io::{AsyncRead, Empty, sink};

use crate::authorize::{Permitted, authorize};
use crate::body::{Copied, H1Outlet, Inlet, Outlet};
use crate::clocks::Clocks;
use crate::fault::Fault;
use crate::forward::{Way, mirrored};
use crate::inbound::{Changes, Connection, Stop, Vigil};
use crate::trail::chain;
use crate::upstream::Upstream;
use crate::worker::Worker;

/// So many copies are under way at a time, per worker.
const MOST: usize = 64;

/// Copies of a worker that are under way.
#[derive(Debug, Default)]
pub(crate) struct Mirrors(AtomicUsize);

/// The place of a copy among them, until it is dropped.
struct Place(Arc<Worker>);

impl Place {
    /// None when there are as many as may be. Only the worker's own thread takes places.
    fn take(worker: &Arc<Worker>) -> Option<Self> {
        let under_way = &worker.mirrors.0;
        if under_way.load(Ordering::Relaxed) >= MOST {
            return None;
        }
        under_way.fetch_add(1, Ordering::Relaxed);
        Some(Self(Arc::clone(worker)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.mirrors.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sends a copy of that call there as well. A call that becomes a tunnel has none.
#[cold]
pub(crate) fn begin<R: AsyncRead + Unpin>(
    permitted: &Permitted<Call>,
    to: &Arc<Upstream>,
    conn: &Connection,
    body: &mut Inlet<'_, R>,
) {
    let call = permitted.call();
    let Some(upstreams) = permitted.upstreams().filter(|_| call.upgrade().is_none()) else { return };
    let route = Arc::clone(&upstreams.route.name);
    let Some(place) = Place::take(&conn.worker) else {
        return conn.worker.meters.mirrored.with(&[&route, "full"]).inc();
    };
    let (conn, call, to) = (conn.mirror(permitted.decision()), call.clone(), Arc::clone(to));
    let copied = body.copy();
    let tasks = conn.worker.tasks.clone();
    tasks.spawn("mirror", async move {
        let result = serve(&conn, call, copied, &to).await;
        conn.worker.meters.mirrored.with(&[&route, result]).inc();
        drop(place);
    });
}

/// The copy from its own judgement to the end of its answer; what became of it.
async fn serve(conn: &Connection, call: Call, copied: Option<Copied>, to: &Upstream) -> &'static str {
    let (mut gathered, mut status) = (BytesMut::new(), 0);
    let mut body: Inlet<'_, Empty> = copied.map_or(Inlet::Empty, Inlet::Copied);
    let down = Downstream { version: Version::Http11, keep_alive: true };
    let mut out = Outlet::H1(H1Outlet::answer(sink(), &mut gathered, down, false));
    let now = conn.worker.clock.now();
    let changes = Changes::of(conn);
    let permitted = match authorize(conn, call, now).await {
        Ok(permitted) => permitted,
        Err(_) => return "denied",
    };
    let timeouts = permitted.upstreams().map(|upstreams| upstreams.route.timeouts).unwrap_or_default();
    let timer = conn.worker.wheel.timer();
    let budget = timeouts.budget(permitted.call());
    let clocks = Clocks::start(&timer, &*conn.worker.clock, now.mono, timeouts, budget, conn.secured.ends);
    let clocks = if permitted.reads_time() { clocks.looking(now.mono) } else { clocks };
    let ended = {
        let mut way = Way { conn, clocks: &clocks, body: &mut body, out: &mut out, status: &mut status };
        let carrying = pin!(mirrored(&permitted, to, &mut way));
        Vigil::over(&permitted, conn, changes).within(&clocks, carrying).await
    };
    let fault = match ended {
        Ok(()) => return "answered",
        Err(Stop::Denied(_)) => return "denied",
        Err(Stop::Fault(fault)) => fault,
        Err(Stop::Reply(_)) => return "failed", // INVARIANT: nothing here replies
    };
    refused(conn, &permitted, &fault);
    let (decision, cause) = (permitted.decision(), chain(&fault));
    tracing::debug!(event = "mirror_failed", %decision, cause, "the copy of a call came to no answer");
    if matches!(&body, Inlet::Copied(copy) if copy.is_cut()) { "cut" } else { "failed" }
}

/// A place that must not be reached is a denial, on record as any (OUT1).
fn refused(conn: &Connection, permitted: &Permitted<Call>, fault: &Fault) {
    if let Some(reason) = fault.refused_place() {
        conn.worker.judge.withdraw(conn, permitted, (reason, chain(fault)), conn.worker.clock.now());
    }
}
