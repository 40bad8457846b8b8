//! One snapshot asked about records again, and which of them it cannot be asked about.

use super::{
    Recorded,
    carried::{Carried, absent},
    needs::{Need, Needs},
};
use crate::{
    AccessRequest, Action, Decision, Declared, Engine, OwnedFacts, Principal, PrincipalKind, Reason,
    Resource, ResourceKind, Snapshot,
};
use std::{collections::HashMap, sync::Arc};

/// Answers that are kept to the question what a triple lacks.
const KNOWN: usize = 65_536;
/// Sets of declared names that are told apart; a site has a few.
const SITES: usize = 64;

#[derive(Debug)]
pub(crate) struct Again {
    engine: Engine,
    needs: Needs,
    sites: Vec<Site>,
    /// What records of a triple lack at a site.
    known: HashMap<(usize, Principal, Action, Resource), Option<Arc<str>>>,
    /// Stands in where a record has no facts.
    nothing: OwnedFacts,
}

/// The names a site declared, and the rules that read others.
#[derive(Debug)]
struct Site {
    declared: Option<Arc<Declared>>,
    gaps: Vec<(usize, Arc<str>)>,
}

impl Again {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Again {
        Again {
            needs: Needs::of(&snapshot),
            engine: Engine::new(snapshot),
            sites: Vec::new(),
            known: HashMap::new(),
            nothing: OwnedFacts::local("unknown"),
        }
    }

    pub(crate) fn snapshot(&self) -> &Arc<Snapshot> {
        self.engine.snapshot()
    }

    /// The verdict on one record, or the fact that it lacks.
    pub(crate) fn judge(&mut self, recorded: &Recorded<'_>) -> Result<Decision, Arc<str>> {
        if let Some(fact) = self.lacks(recorded) {
            return Err(fact);
        }
        let decision = self.engine.decide(&AccessRequest {
            principal: recorded.principal,
            action: recorded.action,
            resource: recorded.resource,
            facts: recorded.facts.unwrap_or(&self.nothing),
            now: recorded.now,
            extra: None,
        });
        if decision.reason == Reason::EntityMissing && recorded.reason != Reason::EntityMissing {
            return Err("resource".into());
        }
        Ok(decision)
    }

    /// A fact that the record lacks and that a policy in question reads.
    fn lacks(&mut self, recorded: &Recorded<'_>) -> Option<Arc<str>> {
        if let Some(name) = recorded.carried.nameless() {
            return Some(name.into());
        }
        // Groups and claims of a person come from a token, which is not on record.
        if recorded.principal.kind() == PrincipalKind::User {
            return Some("principal".into());
        }
        if recorded.resource.kind() == ResourceKind::Unknown {
            return Some("resource".into());
        }
        let action = recorded.action;
        let absent = absent(recorded.facts, action != Action::TcpConnect, action == Action::Grpc);
        let site = self.site(recorded.carried.declared);
        let is_whole = absent.is_empty() && recorded.carried.cut.is_empty();
        let Some(at) = site else {
            let gaps = self.gaps(recorded.carried.declared);
            return self.first(recorded, absent, &gaps);
        };
        if is_whole && self.sites.get(at).is_none_or(|site| site.gaps.is_empty()) {
            return None;
        }
        let gaps = |again: &Again| again.sites.get(at).map(|site| site.gaps.clone()).unwrap_or_default();
        if !is_whole {
            return self.first(recorded, absent, &gaps(self));
        }
        let key = (at, recorded.principal.clone(), action, recorded.resource.clone());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let fact = self.first(recorded, absent, &gaps(self));
        if self.known.len() < KNOWN {
            self.known.insert(key, fact.clone());
        }
        fact
    }

    /// The first missing fact of a rule whose scope matches.
    fn first(
        &self,
        recorded: &Recorded<'_>,
        absent: &[&str],
        gaps: &[(usize, Arc<str>)],
    ) -> Option<Arc<str>> {
        let snapshot = self.engine.snapshot();
        let absent = Carried { declared: None, cut: absent };
        let cut = |need: &Need| {
            let missing = |fact: &&Arc<str>| recorded.carried.is_cut(fact) || absent.is_cut(fact);
            need.facts.iter().find(missing).map(|fact| (need.rule, Arc::clone(fact)))
        };
        let is_whole = recorded.carried.cut.is_empty() && absent.cut.is_empty();
        let needs = if is_whole { None } else { Some(self.needs.iter().filter_map(cut)) };
        let missing: Vec<(usize, Arc<str>)> =
            needs.into_iter().flatten().chain(gaps.iter().cloned()).collect();
        if missing.is_empty() {
            return None;
        }
        let cast = snapshot
            .cast(&AccessRequest {
                principal: recorded.principal,
                action: recorded.action,
                resource: recorded.resource,
                facts: recorded.facts.unwrap_or(&self.nothing),
                now: recorded.now,
                extra: None,
            })
            .ok()?;
        let is_in_question = |at: usize| {
            let rule = snapshot.parts().rules.get(at);
            rule.is_some_and(|rule| !rule.is_expired(recorded.now) && cast.triple.matches(&rule.scope))
        };
        missing.into_iter().find(|(rule, _)| is_in_question(*rule)).map(|(_, fact)| fact)
    }

    /// The place of those names among the sites; `None` when there are too many.
    fn site(&mut self, declared: Option<&Arc<Declared>>) -> Option<usize> {
        let found = self.sites.iter().position(|site| site.declared.as_ref() == declared);
        if found.is_some() || self.sites.len() >= SITES {
            return found;
        }
        let gaps = self.gaps(declared);
        self.sites.push(Site { declared: declared.cloned(), gaps });
        Some(self.sites.len() - 1)
    }

    fn gaps(&self, declared: Option<&Arc<Declared>>) -> Vec<(usize, Arc<str>)> {
        let undeclared = |need: &Need| {
            let fact = need
                .facts
                .iter()
                .find(|fact| !Carried::is_declared(declared.map(|declared| &**declared), fact));
            fact.map(|fact| (need.rule, Arc::clone(fact)))
        };
        self.needs.iter().filter_map(undeclared).collect()
    }
}
