//! Recorded decisions judged again by a candidate: the ledger walks, the engine judges, and they meet here (IM2).
//!
//! Called by the API for a directory, a change or a version, and by mining. Blocks: it belongs on a thread that may.
//! It stops when its time is over or its caller has gone, and says how far it came.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base_ports::Clock;
use policies_decisions::{Decided, Ledger, LedgerDir, LedgerError, Query, Walked};
use policies_engine::impact::{Carried, Impact, Recorded, Replay};
use policies_engine::{Action, Declared, Facts, Principal, Resource, Snapshot};
use policies_store::PolicyStore;
use serde_json::{Value, json};

/// Callers and targets that are kept by name; with more of them the rest is made anew each time.
const NAMES: usize = 65_536;
/// Decisions between two looks at the clock.
const PACE: u64 = 1_024;

/// What a replay works on.
pub(crate) struct Source<'a> {
    pub(crate) records: Records<'a>,
    /// Knows the schemas of versions that are no longer in force.
    pub(crate) store: Option<&'a PolicyStore>,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) query: &'a Query,
    /// How long it may take.
    pub(crate) limit: Duration,
    /// Set when nobody waits for the answer any more.
    pub(crate) is_cancelled: &'a AtomicBool,
}

/// Where the decisions come from.
#[derive(Clone, Copy)]
pub(crate) enum Records<'a> {
    /// The ledger of this process.
    Ledger(&'a Ledger),
    /// Files that nobody here has open.
    Dir(&'a LedgerDir),
}

impl Records<'_> {
    fn walk(
        self,
        query: &Query,
        each: impl FnMut(&Decided<'_>) -> ControlFlow<()>,
    ) -> Result<Walked, LedgerError> {
        match self {
            Records::Ledger(ledger) => ledger.walk(query, each),
            Records::Dir(dir) => dir.walk(query, each),
        }
    }
}

/// A candidate's impact on a range, and what of the range was looked at.
pub(crate) struct Replayed {
    pub(crate) impact: Impact,
    pub(crate) walked: Walked,
}

/// Judges every decision of the range again.
///
/// # Errors
/// When a file of the ledger cannot be read at all.
pub(crate) fn replay(source: &Source<'_>, candidate: &Arc<Snapshot>) -> Result<Replayed, LedgerError> {
    let mut replay = Replay::new(Arc::clone(candidate));
    let walked = source.each(candidate, |recorded| {
        replay.see(recorded);
    })?;
    Ok(Replayed { impact: replay.finish(), walked })
}

impl Replayed {
    /// The impact with what of the range was looked at.
    pub(crate) fn to_json(&self, candidate: &Snapshot) -> Value {
        let mut json = self.impact.to_json();
        if let Some(members) = json.as_object_mut() {
            members.extend(reach(&self.walked).into_iter().map(|(name, value)| (name.to_owned(), value)));
            members.insert("policies".to_owned(), json!(candidate.policy_count()));
            members.insert("text".to_owned(), json!(self.impact.to_text(candidate)));
        }
        json
    }
}

/// How far a walk came, and what it could not read.
pub(crate) fn reach(walked: &Walked) -> Vec<(&'static str, Value)> {
    let mut told = vec![("partial", json!(walked.is_stopped || !walked.damaged.is_empty()))];
    if walked.is_stopped {
        told.push(("considered_until", json!(walked.latest.map(|latest| latest.to_string()))));
    }
    if !walked.damaged.is_empty() {
        let lost: u64 = walked.damaged.iter().map(|damage| damage.last + 1 - damage.first).sum();
        told.push(("unreadable", json!(lost)));
    }
    told
}

impl Source<'_> {
    /// Gives every decision of the range in the engine's terms. Those that name what this version does not know are
    /// passed over.
    pub(crate) fn each(
        &self,
        in_force: &Arc<Snapshot>,
        mut each: impl FnMut(&Recorded<'_>),
    ) -> Result<Walked, LedgerError> {
        let mut names = Names::default();
        let mut sites = Sites { store: self.store, in_force, known: HashMap::new() };
        let start = self.clock.mono();
        let mut count = 0_u64;
        self.records.walk(self.query, |decided| {
            count += 1;
            if count.is_multiple_of(PACE) && self.is_over(start) {
                return ControlFlow::Break(());
            }
            let (Some(principal), Some(resource)) = (names.principal(decided), names.resource(decided))
            else {
                return ControlFlow::Continue(());
            };
            let (Ok(action), Ok(reason)) = (decided.action.parse::<Action>(), decided.reason.parse()) else {
                return ControlFlow::Continue(());
            };
            let declared = sites.declared(decided);
            each(&Recorded {
                id: decided.id,
                principal: &principal,
                action,
                resource: &resource,
                facts: decided.facts.as_ref().map(|facts| facts as &dyn Facts),
                now: decided.time,
                reason,
                determining: &decided.determining,
                carried: Carried { declared: declared.as_ref(), cut: &decided.cut },
            });
            ControlFlow::Continue(())
        })
    }

    fn is_over(&self, start: base_ports::Mono) -> bool {
        self.is_cancelled.load(Ordering::Relaxed) || self.clock.mono().saturating_since(start) > self.limit
    }
}

/// Callers and targets, made once per name.
#[derive(Default)]
struct Names {
    principals: HashMap<String, HashMap<String, Principal>>,
    resources: HashMap<String, HashMap<String, Resource>>,
    count: usize,
}

impl Names {
    fn principal(&mut self, decided: &Decided<'_>) -> Option<Principal> {
        let (kind, id) = decided.principal;
        if let Some(known) = self.principals.get(kind).and_then(|known| known.get(id)) {
            return Some(known.clone());
        }
        let made = Principal::from_parts(kind, id)?;
        if self.count < NAMES {
            self.count += 1;
            self.principals.entry(kind.to_owned()).or_default().insert(id.to_owned(), made.clone());
        }
        Some(made)
    }

    fn resource(&mut self, decided: &Decided<'_>) -> Option<Resource> {
        let (kind, id) = decided.resource;
        let is_same = |known: &&Resource| known.service() == decided.service;
        if let Some(known) = self.resources.get(kind).and_then(|known| known.get(id)).filter(is_same) {
            return Some(known.clone());
        }
        let made = Resource::from_parts(kind, id)?;
        let made = match decided.service {
            Some(service) => made.within(service, decided.namespace),
            None => made,
        };
        if self.count < NAMES {
            self.count += 1;
            self.resources.entry(kind.to_owned()).or_default().insert(id.to_owned(), made.clone());
        }
        Some(made)
    }
}

/// What each schema declared.
struct Sites<'a> {
    store: Option<&'a PolicyStore>,
    in_force: &'a Arc<Snapshot>,
    known: HashMap<[u8; 32], Option<Arc<Declared>>>,
}

impl Sites<'_> {
    /// The names that the schema behind a decision declared; `None` when it is no longer stored.
    fn declared(&mut self, decided: &Decided<'_>) -> Option<Arc<Declared>> {
        let (schema, snapshot) = decided.schema.zip(decided.snapshot)?;
        let versions = self.in_force.versions();
        if versions.schema == schema {
            return Some(Arc::clone(&versions.declared));
        }
        let store = self.store;
        let known = self.known.entry(schema).or_insert_with(|| {
            let retired = store?.version(snapshot).ok()?;
            Some(Arc::clone(&retired.versions().declared))
        });
        known.clone()
    }
}
