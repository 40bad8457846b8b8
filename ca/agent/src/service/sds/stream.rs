//! One open stream of SDS: waits for requests, for the next state and for nothing else, and sends what its session says.
//!
//! Made by `service::sds`. Pulled by the connection, so a slow reader gets the newest state, never a backlog (AG-05). The
//! caller is attested for every state that it is shown (WL-03). It ends as the streams of the Workload API do: without
//! entitlement PermissionDenied, without anything valid Unavailable.

use std::{pin::Pin, sync::Arc};

use base_ports::Rate;
use futures_util::stream::{BoxStream, StreamExt as _, try_unfold};
use tokio::{sync::watch, time::Sleep};
use tonic::Status;

use super::session::{Heard, Session};
use crate::{
    agent::Agent,
    attest::Caller,
    secret::SdsNames,
    service::{
        caller::{attested, denied, stopping, too_large},
        limits::StreamPermit,
        watcher::{PATIENCE, no_answer},
    },
    state::{Picked, State, View},
};

/// What a client sends.
pub(super) type Inbound<R> = BoxStream<'static, Result<R, Status>>;

/// How often processes ask, by user and process.
pub(super) type Questions = Arc<Rate<(u32, Option<i32>)>>;

/// Changes of what is asked for, and single questions, of one process in one second.
const PER_SECOND: u32 = 50;

/// One open stream.
pub(super) struct Follower<S: Session> {
    agent: Arc<Agent>,
    states: watch::Receiver<Arc<State>>,
    caller: Caller,
    names: Arc<SdsNames>,
    questions: Questions,
    inbound: Inbound<S::Request>,
    session: S,
    /// The state or what is asked for has changed since the last look.
    due: bool,
    has_answered: bool,
    /// How the stream ends once what was said is out.
    end: Option<Status>,
    _permit: StreamPermit,
}

impl<S: Session + Default> Follower<S> {
    pub(super) fn new(
        agent: Arc<Agent>,
        caller: Caller,
        names: Arc<SdsNames>,
        questions: Questions,
        inbound: Inbound<S::Request>,
        permit: StreamPermit,
    ) -> Self {
        Self {
            states: agent.states(),
            agent,
            caller,
            names,
            questions,
            inbound,
            session: S::default(),
            due: false,
            has_answered: false,
            end: None,
            _permit: permit,
        }
    }

    pub(super) fn into_stream(self) -> BoxStream<'static, Result<S::Response, Status>> {
        try_unfold(self, |mut follower| async move {
            let response = follower.next().await?;
            Ok(response.map(|response| (response, follower)))
        })
        .boxed()
    }

    /// The answer to one question.
    pub(super) async fn once(mut self, request: S::Request) -> Result<S::Response, Status> {
        self.count()?;
        self.hear(request)?;
        self.next().await?.ok_or_else(no_answer)
    }

    /// The next response; none once the client has ended its side.
    async fn next(&mut self) -> Result<Option<S::Response>, Status> {
        let mut patience: Option<Pin<Box<Sleep>>> = None;
        loop {
            if let Some(status) = self.end.take() {
                return Err(status);
            }
            if std::mem::take(&mut self.due) {
                let is_late = patience.as_ref().is_some_and(|wait| wait.is_elapsed());
                match self.look(is_late).await? {
                    Look::Say(response) => {
                        self.has_answered = true;
                        return Ok(Some(response));
                    }
                    Look::Nothing => patience = None,
                    Look::Wait => {
                        patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
                    }
                }
                continue;
            }
            let wait = async {
                match patience.as_mut().filter(|wait| !wait.is_elapsed()) {
                    Some(wait) => wait.await,
                    None => std::future::pending().await,
                }
            };
            // Both streams keep what they hold when the other arm is taken.
            tokio::select! {
                request = self.inbound.next() => match request {
                    Some(request) => self.hear(request?)?,
                    None => return Ok(None),
                },
                changed = self.states.changed() => {
                    changed.map_err(|_closed| stopping())?;
                    self.due = self.session.asked().is_some();
                }
                () = wait => self.due = true,
            }
        }
    }

    fn hear(&mut self, request: S::Request) -> Result<(), Status> {
        let is_first = self.session.asked().is_none();
        let heard = self.session.take(request)?;
        match &heard {
            Heard::Stale | Heard::Acknowledged => return Ok(()),
            Heard::Asked => {}
            Heard::Rejected { version, reason } => {
                self.agent.count_rejected();
                let (uid, pid) = (self.caller.uid(), self.caller.pid());
                tracing::warn!(uid, pid, version, ?reason, "a client of SDS refused what it was sent");
            }
        }
        // The first one is bounded by how many streams there may be.
        if !is_first {
            self.count()?;
        }
        self.due = true;
        Ok(())
    }

    fn count(&self) -> Result<(), Status> {
        let now = self.agent.clock().now().mono;
        if self.questions.admit((self.caller.uid(), self.caller.pid()), PER_SECOND, now) {
            return Ok(());
        }
        Err(Status::resource_exhausted("too many questions for secrets in one second"))
    }

    /// What the caller that is there now is told of the newest state.
    async fn look(&mut self, is_late: bool) -> Result<Look<S::Response>, Status> {
        let picked = match self.view().await? {
            View::Complete(picked) => picked,
            View::Pending(Some(picked)) if self.has_answered || is_late => picked,
            View::Pending(None) if is_late => return Err(no_answer()),
            View::Pending(_) => return Ok(Look::Wait),
            View::Denied => {
                let end = denied(&self.caller);
                let Some(last) = self.session.farewell() else { return Err(end) };
                self.end = Some(end);
                return Ok(Look::Say(last));
            }
            View::Unavailable(reason) => return Err(Status::unavailable(reason)),
            View::TooLarge { entries } => return Err(too_large(&self.caller, entries)),
        };
        match self.session.answer(&picked) {
            Ok(Some(response)) => Ok(Look::Say(response)),
            Ok(None) => Ok(Look::Nothing),
            Err(refused) => {
                tracing::info!(uid = self.caller.uid(), pid = self.caller.pid(), ?refused, "secrets refused");
                Err(refused.status())
            }
        }
    }

    async fn view(&mut self) -> Result<View<Picked>, Status> {
        if self.states.has_changed().is_err() {
            return Err(stopping());
        }
        let state = Arc::clone(&self.states.borrow_and_update());
        let selectors = attested(&self.caller).await?;
        let Some((wanted, form)) = self.session.asked() else { return Ok(View::Pending(None)) };
        let now = self.agent.clock().now().wall;
        Ok(state.offer(&selectors, now, &self.names, form).then(|offer| offer.pick(wanted)))
    }
}

enum Look<R> {
    Say(R),
    Nothing,
    /// The authority owes an answer.
    Wait,
}
