//! One identity of the very process that the agent runs in: what the Workload API would give it, without a socket between.
//!
//! `portcullis` follows it for a gateway beside its agent. The process is attested like any other, at each look (WL-03), so
//! it gets nothing that no entry grants it.

use std::sync::Arc;

use base_ports::UnixTime;
use ca_identity::{Selector, SpiffeId, X509Svid};
use tokio::sync::watch;

use crate::{
    agent::Agent,
    attest::{AttestError, Caller},
    state::State,
};

/// What there is of an identity at a moment.
#[derive(Debug)]
pub enum Entitled {
    /// An SVID that holds.
    Svid(Arc<X509Svid>),
    /// It is granted, and there is none yet, or no other one any more: why.
    Waiting(String),
    /// No entry grants it to this process.
    Nothing,
    /// The authority was not heard since the start, so nobody knows.
    Unheard,
}

/// One identity, followed.
#[derive(Debug)]
pub struct OwnIdentity {
    agent: Arc<Agent>,
    states: watch::Receiver<Arc<State>>,
    id: SpiffeId,
    caller: Caller,
}

impl Agent {
    /// Follows what this process may have of the identity `id`.
    ///
    /// # Errors
    /// The kernel does not tell who this process is.
    pub fn own_identity(self: &Arc<Self>, id: SpiffeId) -> Result<OwnIdentity, AttestError> {
        let caller = Caller::named(std::process::id().cast_signed())?;
        Ok(OwnIdentity { agent: Arc::clone(self), states: self.states(), id, caller })
    }
}

impl OwnIdentity {
    /// What there is now.
    pub async fn look(&mut self) -> Entitled {
        let state = Arc::clone(&self.states.borrow_and_update());
        let caller = self.caller.clone();
        let attested = tokio::task::spawn_blocking(move || caller.selectors()).await;
        match attested {
            Ok(Ok(selectors)) => state.identity(&self.id, &selectors, self.agent.clock().now().wall),
            Ok(Err(error)) => Entitled::Waiting(error.to_string()),
            Err(error) => Entitled::Waiting(error.to_string()),
        }
    }

    /// Returns when that may be something else; false when nothing comes any more. Safe to cancel.
    pub async fn changed(&mut self) -> bool {
        self.states.changed().await.is_ok()
    }
}

impl State {
    fn identity(&self, id: &SpiffeId, selectors: &[Selector], now: UnixTime) -> Entitled {
        let granted = self.matching(selectors).into_iter().filter(|served| served.entry.spiffe_id == *id);
        let granted: Vec<_> = granted.collect();
        if granted.is_empty() {
            return if self.is_known() { Entitled::Nothing } else { Entitled::Unheard };
        }
        let held = granted.iter().filter_map(|served| served.resource.as_ref()?.held(now));
        match held.max_by_key(|svid| svid.not_after) {
            Some(svid) => Entitled::Svid(svid),
            None => {
                let problem = granted.iter().find_map(|served| served.problem.as_deref());
                Entitled::Waiting(problem.unwrap_or("the authority has not signed yet").to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base_ports::task::Tasks;

    use super::*;
    use crate::testing::{FakeAuthority, entry};

    async fn until(own: &mut OwnIdentity, is_so: impl Fn(&Entitled) -> bool) {
        let reached = async {
            loop {
                if is_so(&own.look().await) {
                    return;
                }
                own.changed().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), reached).await.expect("in time");
    }

    #[tokio::test]
    async fn a_process_gets_the_svid_of_its_own_entry_and_of_no_other() {
        let stranger = crate::AgentEntry {
            selectors: vec![Selector::parse("unix:uid:4294967000").unwrap()],
            ..entry("b", "/b", 2)
        };
        let authority = FakeAuthority::start(vec![entry("a", "/a", 1), stranger]);
        let tasks = Tasks::new("test");
        let agent = authority.agent(&tasks);
        let id = |path: &str| SpiffeId::parse(&format!("spiffe://example.org{path}")).unwrap();
        let mut own = agent.own_identity(id("/a")).unwrap();
        until(&mut own, |held| matches!(held, Entitled::Svid(svid) if svid.id == id("/a"))).await;
        for path in ["/b", "/c"] {
            let mut other = agent.own_identity(id(path)).unwrap();
            assert!(matches!(other.look().await, Entitled::Nothing), "{path}");
        }
        // An entry that goes takes the identity with it.
        authority.set_entries(Vec::new());
        until(&mut own, |held| matches!(held, Entitled::Nothing)).await;
    }
}
