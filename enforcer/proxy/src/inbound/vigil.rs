//! Trust is continuous (CT-01 to CT-05): a call that runs is judged again when policies, entities or identities change,
//! and every ten seconds where its policies read the clock, and when its caller goes on from another address, before
//! more of an answer is told there (QU-03). A call that loses ends at once, on record.
//!
//! It ends as well when memory is short and it holds much of it (OV-01).
//!
//! Nothing is registered per call. Each call already waits at a timer of its worker; after a change the worker stirs
//! those timers, and every running call looks, in its own task, whether the change concerns it. A call reads the
//! worker's count of changes before its own verdict, so a change that comes in between is seen (CT-01).

use std::future::poll_fn;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use enforcer_codec::Call;
use enforcer_traffic::Priority;

use super::{Connection, Stop};
use crate::authorize::{Denied, Permitted};
use crate::clocks::{Clocks, Ring};
use crate::fault::Fault;
use crate::holdings::LARGE;
use crate::judge::InForce;
use crate::shed::Shed;

/// How much has changed that a verdict may depend on: the worker's count, and in the last octet that of the caller's moves.
/// Each call holds one, so it is small; only whether it is another is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Changes(u32);

impl Changes {
    const MOVES: u32 = 0xff;

    pub(crate) fn of(conn: &Connection) -> Self {
        Self(conn.worker.changes() << 8 | conn.secured.moves() & Self::MOVES)
    }

    fn has_moved(self, since: Self) -> bool {
        (self.0 ^ since.0) & Self::MOVES != 0
    }
}

/// Watches over one permitted call.
pub(crate) struct Vigil<'a> {
    conn: &'a Connection,
    permitted: &'a Permitted<Call>,
    /// When the call was judged last.
    seen: Changes,
    /// What judged it last, once that is not what permitted it.
    judged: Option<Arc<InForce>>,
    /// The account of what the call holds in memory, once that is much.
    holding: Option<NonZeroU32>,
}

impl<'a> Vigil<'a> {
    /// `seen` was read before the call was judged.
    pub(crate) fn over(permitted: &'a Permitted<Call>, conn: &'a Connection, seen: Changes) -> Self {
        Self { conn, permitted, seen, judged: None, holding: None }
    }

    /// Runs the work until it is done, a clock of the call runs out, or the call is no longer permitted. The last comes
    /// first where several come together.
    pub(crate) async fn within<F>(mut self, clocks: &Clocks<'_>, mut work: Pin<&mut F>) -> Result<(), Stop>
    where
        F: Future<Output = Result<(), Fault>>,
    {
        poll_fn(|context| {
            let changes = Changes::of(self.conn);
            if changes != self.seen {
                let has_moved = changes.has_moved(self.seen);
                self.seen = changes;
                self.look(has_moved)?;
            }
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(done.map_err(Stop::from));
            }
            let held = clocks.held();
            if held >= LARGE || self.holding.is_some() {
                self.weigh(held)?;
            }
            loop {
                match clocks.poll(context) {
                    Poll::Ready(Ring::Look) => self.look(true)?,
                    Poll::Ready(Ring::Over(fault)) => return Poll::Ready(Err(fault.into())),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// A call that holds much may have to end (OV-01).
    #[cold]
    fn weigh(&mut self, bytes: u32) -> Result<(), Fault> {
        let conn = self.conn;
        let holding = *self.holding.get_or_insert_with(|| {
            let route = self.permitted.upstreams().map(|upstreams| &upstreams.route);
            conn.holding(route.map_or_else(Priority::default, |route| route.priority))
        });
        let stays = conn.worker.holdings.may_stay(holding, bytes, conn.listening.max_held);
        if stays { Ok(()) } else { Err(Fault::Overload(Shed::Memory)) }
    }

    /// `is_timed`: nothing need have changed in policies, entities or identities.
    #[cold]
    fn look(&mut self, is_timed: bool) -> Result<(), Denied> {
        let now = self.conn.worker.clock.now();
        let since = self.judged.as_ref().unwrap_or(self.permitted.in_force());
        let judged = self.conn.worker.judge.again(self.conn, self.permitted, since, is_timed, now);
        self.conn.worker.meters.rejudged(is_timed, judged.is_ok());
        self.judged = Some(judged?);
        Ok(())
    }
}

impl Drop for Vigil<'_> {
    fn drop(&mut self) {
        self.holding.into_iter().for_each(|holding| self.conn.worker.holdings.close(holding));
    }
}
