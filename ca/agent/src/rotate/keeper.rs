//! Keeps one own SVID fresh, such as that of a gateway.
//!
//! Started by `portcullis` with the way to have a CSR signed. Publishes each new SVID, and withdraws one that expired:
//! an expired SVID is never presented (AG-04).

use std::{fmt, sync::Arc, time::Duration};

use base_ports::{
    Clock, Rng,
    task::{TaskHandle, Tasks},
};
use ca_identity::{SpiffeId, X509Svid};
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};

use crate::{
    issue::issue,
    rotate::{late_at, renew_at, retry_after},
    upstream::{SignedChain, UpstreamError},
};

/// How an own CSR gets signed.
pub type SignOwn =
    Arc<dyn Fn(Vec<u8>) -> BoxFuture<'static, Result<SignedChain, UpstreamError>> + Send + Sync>;

/// The longest sleep, so that a jump of the wall clock is seen.
const TICK: Duration = Duration::from_secs(1);

/// One own SVID and the task that renews it. The task ends with the [`Tasks`] it was started on.
#[derive(Debug)]
pub struct Keeper {
    current: watch::Receiver<Option<Arc<X509Svid>>>,
    renew: Arc<Notify>,
    task: TaskHandle,
}

impl Keeper {
    /// Starts to obtain and renew an SVID for `id`. `on_new` is called with each new one before it is published by
    /// [`Keeper::watch`].
    pub fn start(
        id: SpiffeId,
        dns_names: Vec<String>,
        sign: SignOwn,
        on_new: impl FnMut(Arc<X509Svid>) + Send + 'static,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        tasks: &Tasks,
    ) -> Self {
        let (publish, current) = watch::channel(None);
        let renew = Arc::new(Notify::new());
        let asked = Arc::clone(&renew);
        let work = Work { id, dns_names, sign, on_new: Box::new(on_new), clock, rng, publish, asked };
        Self { current, renew, task: tasks.spawn("own-svid", work.run()) }
    }

    /// The SVID of now; none before the first one and after an expiry.
    pub fn current(&self) -> Option<Arc<X509Svid>> {
        self.current.borrow().clone()
    }

    /// Follows [`Keeper::current`].
    pub fn watch(&self) -> watch::Receiver<Option<Arc<X509Svid>>> {
        self.current.clone()
    }

    /// Has a new SVID made now, such as when the one in use was revoked.
    pub fn renew(&self) {
        self.renew.notify_one();
    }

    /// Stops renewing.
    pub fn stop(&self) {
        self.task.abort();
    }
}

struct Work {
    id: SpiffeId,
    dns_names: Vec<String>,
    sign: SignOwn,
    on_new: Box<dyn FnMut(Arc<X509Svid>) + Send>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    publish: watch::Sender<Option<Arc<X509Svid>>>,
    asked: Arc<Notify>,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Work {
    async fn run(mut self) {
        let mut failures = 0_u32;
        loop {
            let wait = match issue(
                &self.id,
                &self.dns_names,
                |csr| (self.sign)(csr),
                || self.clock.now().wall,
            )
            .await
            {
                Ok(svid) => {
                    failures = 0;
                    self.accept(Arc::new(svid))
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.tell(&error.to_string());
                    Wait::For(retry_after(failures, self.rng.u64()))
                }
            };
            self.wait(wait).await;
        }
    }

    fn accept(&mut self, svid: Arc<X509Svid>) -> Wait {
        let now = self.clock.now().wall;
        let due = renew_at(svid.not_before.max(now), svid.not_after, self.rng.u64());
        (self.on_new)(Arc::clone(&svid));
        self.publish.send_replace(Some(svid));
        Wait::Until(due.max(now + super::RETRY_FIRST))
    }

    fn tell(&self, error: &str) {
        let late = match self.publish.borrow().as_ref() {
            Some(held) => late_at(held.not_before, held.not_after) <= self.clock.now().wall,
            None => true,
        };
        if late {
            tracing::error!(id = %self.id, error, "no fresh SVID for this process");
        } else {
            tracing::warn!(id = %self.id, error, "renewal failed, the SVID in use is still valid");
        }
    }

    /// Sleeps in short steps unless a new one is asked for, withdrawing the SVID in the step in which it expires.
    async fn wait(&mut self, wait: Wait) {
        let begun = self.clock.now();
        loop {
            let now = self.clock.now();
            self.publish.send_if_modified(|held| held.take_if(|svid| svid.not_after <= now.wall).is_some());
            let left = match wait {
                Wait::Until(due) => due.saturating_since(now.wall),
                Wait::For(time) => time.saturating_sub(now.mono.saturating_since(begun.mono)),
            };
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = self.asked.notified() => return,
                () = tokio::time::sleep(left.min(TICK)) => {}
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Wait {
    Until(base_ports::UnixTime),
    For(Duration),
}
