//! What a follower says of itself: to people, to checks, and to its publisher.

use super::{Follower, refused::Refused};
use crate::{Position, Status, generated::messages};
use base_ports::UnixTime;
use policies_engine::Freshness;
use std::{sync::atomic::Ordering, time::Duration};

/// What a follower says of itself beside [`Status`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowStatus {
    /// The publisher, as people name it.
    pub publisher: String,
    /// Whether a stream is open.
    pub is_connected: bool,
    /// Why none is, or why the last one ended too soon; none when the publisher was heard since.
    pub problem: Option<String>,
    /// When the publisher was heard last, in this process or the one before it.
    pub heard: Option<UnixTime>,
    /// What follows from that.
    pub freshness: Freshness,
    /// What the publisher has in force, as far as is known.
    pub wanted: Option<Position>,
    /// What is in force here.
    pub running: Option<Position>,
    /// Code and words of what was refused last, unless something newer is in force.
    pub refusal: Option<(String, String)>,
    /// What is wrong with the snapshot files.
    pub alarm: Option<String>,
}

/// What is known at any moment, without waiting for what is being done.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) status: Status,
    pub(super) running: Option<Position>,
    pub(super) wanted: Option<Position>,
    pub(super) is_connected: bool,
    pub(super) problem: Option<String>,
    pub(super) compile: Duration,
    /// Ids of policies that the stock evaluator runs.
    pub(super) slow: Vec<String>,
    pub(super) refused: Option<Refused>,
    pub(super) alarm: Option<String>,
}

impl Follower {
    /// What is in force and what was refused, as a [`crate::PolicyStore`] says it.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = self.state.lock();
        let diagnostics = state.refused.as_ref().map(Refused::diagnostics).unwrap_or_default();
        Status { diagnostics, ..state.status.clone() }
    }

    /// How it stands with the publisher.
    #[must_use]
    pub fn follow_status(&self) -> FollowStatus {
        let state = self.state.lock();
        FollowStatus {
            publisher: self.config.way.place(),
            is_connected: state.is_connected,
            problem: state.problem.clone(),
            heard: self.contact.heard(),
            freshness: self.contact.freshness(),
            wanted: state.wanted,
            running: state.running,
            refusal: state.refused.as_ref().map(|refused| (refused.code.to_owned(), refused.detail.clone())),
            alarm: state.alarm.clone(),
        }
    }

    /// Publishes how long the publisher has been silent, and what that means when it is something else than before.
    pub(super) fn look(&self) {
        self.silence.send_replace(self.contact.silence());
        let now = self.contact.freshness();
        let is_new = self.freshness.send_if_modified(|told| std::mem::replace(told, now) != now);
        if is_new {
            tracing::warn!(
                event = "policy_freshness",
                freshness = now.as_str(),
                "how current the policies are"
            );
        }
    }

    /// The publisher says what it has in force.
    pub(super) async fn hear(&self, newest: Option<Position>) {
        let write = self.contact.hear();
        self.look();
        {
            let mut state = self.state.lock();
            state.problem = None;
            state.wanted = newest.or(state.wanted);
        }
        if let Some(write) = write {
            drop(tokio::task::spawn_blocking(write).await);
        }
    }

    pub(super) fn running(&self) -> Option<Position> {
        self.state.lock().running
    }

    /// What the publisher is told.
    pub(super) fn report(&self) -> messages::ReportRequest {
        let state = self.state.lock();
        let refusal = state.refused.as_ref().map(|refused| messages::Refusal {
            offered: refused.offered.map(Position::to_message),
            code: refused.code.to_owned(),
            detail: refused.detail.clone(),
        });
        messages::ReportRequest {
            active: state.running.map(Position::to_message),
            policies: u64::try_from(state.status.policies).unwrap_or(u64::MAX),
            compile_micros: u64::try_from(state.compile.as_micros()).unwrap_or(u64::MAX),
            slow_policies: state.slow.clone(),
            mismatches: self.config.mismatches.load(Ordering::Relaxed),
            refusal,
            enforcer: self.config.name.clone(),
        }
    }
}
