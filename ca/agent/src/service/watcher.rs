//! One stream: the complete state at once, then again whenever it changes for this caller.
//!
//! Pulled by the connection, so a slow reader holds one message and gets the newest state next, never a backlog
//! (AG-05). The caller is attested for every state (WL-03); losing the entitlement ends the stream as PermissionDenied,
//! having nothing valid ends it as Unavailable (WA-08, DF-06).

use std::{pin::Pin, sync::Arc, time::Duration};

use base_ports::UnixTime;
use ca_identity::Selector;
use futures_util::stream::{BoxStream, StreamExt as _, try_unfold};
use tokio::{sync::watch, time::Sleep};
use tonic::Status;

use super::caller::{attested, denied, stopping, too_large};
use super::limits::StreamPermit;
use crate::{
    agent::Agent,
    attest::Caller,
    state::{State, View},
};

/// What a caller with these selectors sees of a state.
pub(crate) type Render<M> = fn(&State, &[Selector], UnixTime) -> View<M>;

/// How long a caller waits for the first answer of the authority about an entry.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// One open stream.
#[derive(Debug)]
pub(crate) struct Watcher<M> {
    agent: Arc<Agent>,
    states: watch::Receiver<Arc<State>>,
    caller: Caller,
    render: Render<M>,
    last: Option<M>,
    patience: Duration,
    _permit: StreamPermit,
}

impl<M: Clone + PartialEq + Send + Sync + 'static> Watcher<M> {
    pub(crate) fn new(agent: Arc<Agent>, caller: Caller, render: Render<M>, permit: StreamPermit) -> Self {
        Self {
            states: agent.states(),
            agent,
            caller,
            render,
            last: None,
            patience: PATIENCE,
            _permit: permit,
        }
    }

    pub(crate) fn into_stream(self) -> BoxStream<'static, Result<M, Status>> {
        try_unfold(self, |mut watcher| async move {
            let message = watcher.next().await?;
            Ok(Some((message, watcher)))
        })
        .boxed()
    }

    /// The next message that differs from the last one.
    async fn next(&mut self) -> Result<M, Status> {
        let mut patience: Option<Pin<Box<Sleep>>> = None;
        loop {
            let message = match self.view().await? {
                View::Complete(message) => Some(message),
                View::Pending(Some(message)) if self.last.is_some() => Some(message),
                View::Pending(message) => {
                    let wait = patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience)));
                    if wait.is_elapsed() { Some(message.ok_or_else(no_answer)?) } else { None }
                }
                View::Denied => return Err(denied(&self.caller)),
                View::Unavailable(reason) => return Err(Status::unavailable(reason)),
                View::TooLarge { entries } => return Err(too_large(&self.caller, entries)),
            };
            if message.is_some() {
                patience = None;
            }
            if let Some(message) = message.filter(|message| self.last.as_ref() != Some(message)) {
                self.last = Some(message.clone());
                return Ok(message);
            }
            self.changed(patience.as_mut()).await?;
        }
    }

    /// The newest state, as the caller that is there now may see it.
    async fn view(&mut self) -> Result<View<M>, Status> {
        if self.states.has_changed().is_err() {
            return Err(stopping());
        }
        let state = Arc::clone(&self.states.borrow_and_update());
        let selectors = attested(&self.caller).await?;
        Ok((self.render)(&state, &selectors, self.agent.clock().now().wall))
    }

    /// Waits for the next state, or for the end of the patience.
    async fn changed(&mut self, patience: Option<&mut Pin<Box<Sleep>>>) -> Result<(), Status> {
        let changed = self.states.changed();
        let answer = match patience {
            None => changed.await,
            Some(wait) => tokio::select! {
                answer = changed => answer,
                () = wait => Ok(()),
            },
        };
        answer.map_err(|_closed| stopping())
    }
}

pub(super) fn no_answer() -> Status {
    Status::unavailable("the authority has not answered yet")
}

#[cfg(test)]
mod tests {
    use base_ports::task::Tasks;

    use super::*;
    use crate::{
        service::limits::Streams,
        testing::{FakeAuthority, entry, own_caller},
    };

    #[tokio::test]
    async fn an_authority_that_never_answers_is_told_as_unavailable_after_a_while() {
        let authority = FakeAuthority::start(vec![entry("a", "/a", 1)]);
        authority.keep_silent();
        let tasks = Tasks::new("test");
        let permit = Streams::default().admit(0).unwrap();
        let mut watcher = Watcher::new(authority.agent(&tasks), own_caller(), State::x509, permit);
        watcher.patience = Duration::from_millis(50);

        let status = watcher.next().await.unwrap_err();

        assert_eq!(
            (status.code(), status.message()),
            (tonic::Code::Unavailable, "the authority has not answered yet")
        );
    }
}
