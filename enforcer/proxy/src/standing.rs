//! The open connections of a worker, for whoever asks who is there (AE-01). Written when one opens and when it ends, never by
//! a call.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base_net::Activity;
use base_ports::Mono;
use parking_lot::Mutex;
use policies_engine::{Principal, Protocol};

use crate::holdings::Holdings;
use crate::secured::Secured;

/// An open connection.
#[derive(Debug, Clone)]
pub struct ConnectionReport {
    /// Who calls: the id of a workload, empty for callers without identity.
    pub principal: String,
    /// Over which listener.
    pub listener: Arc<str>,
    /// What the connection carries.
    pub protocol: Protocol,
    /// From where.
    pub source: SocketAddr,
    /// Since when it is open.
    pub age: Duration,
    /// When it ends at the latest.
    pub ends_in: Duration,
    /// Calls, or streams, that run now.
    pub calls: u32,
    /// It was idle from there on; none while calls run.
    pub idle: Option<Duration>,
    /// What its calls hold in memory, bytes; those that wait with no more than the usual buffers do not count.
    pub held: u64,
}

/// By number.
#[derive(Debug, Default)]
pub(crate) struct Standing(Mutex<(u64, HashMap<u64, Known>)>);

#[derive(Debug)]
struct Known {
    principal: Principal,
    listener: Arc<str>,
    protocol: Protocol,
    source: SocketAddr,
    since: Mono,
    ends: Mono,
    activity: Activity,
}

impl Standing {
    /// Its number.
    pub(crate) fn join(&self, listener: &Arc<str>, secured: &Secured, activity: Activity, now: Mono) -> u64 {
        let known = Known {
            principal: secured.principal.clone(),
            listener: Arc::clone(listener),
            protocol: secured.protocol(),
            source: secured.source(),
            since: now,
            ends: secured.ends,
            activity,
        };
        let mut all = self.0.lock();
        let number = all.0;
        all.0 = number.wrapping_add(1);
        all.1.insert(number, known);
        number
    }

    pub(crate) fn leave(&self, number: u64) {
        self.0.lock().1.remove(&number);
    }

    /// Those of that principal, or all.
    pub(crate) fn report(
        &self,
        principal: Option<&str>,
        holdings: &Holdings,
        now: Mono,
    ) -> Vec<ConnectionReport> {
        let held = holdings.of_connections();
        let all = self.0.lock();
        let wanted = all.1.iter().filter(|(_, known)| principal.is_none_or(|id| known.principal.id() == id));
        let reports = wanted.map(|(number, known)| ConnectionReport {
            principal: known.principal.id().to_owned(),
            listener: Arc::clone(&known.listener),
            protocol: known.protocol,
            source: known.source,
            age: now.saturating_since(known.since),
            ends_in: known.ends.saturating_since(now),
            calls: known.activity.calls(),
            idle: known.activity.idle_since().map(|since| now.saturating_since(since)),
            held: held.get(number).copied().unwrap_or_default(),
        });
        reports.collect()
    }
}
