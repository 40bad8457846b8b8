//! Decides, for one worker. Owns the worker's plan cache and shares nothing but the snapshot; a changed snapshot means
//! a new engine, so nothing is ever invalidated (EN1).

use crate::{
    AccessRequest, Action, Decision, Principal, PrincipalKind, Reason, Resource, Sample, Samples, Snapshot,
    carried::Carried,
    cost::Cost,
    plan::{Plan, Pool, contained},
    sampler::{APART, EVERY},
};
use base_ports::{Clock, UnixTime};
use hashbrown::HashTable;
use std::{
    borrow::Cow,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// Plans a worker keeps, and about how many bytes of them; beyond that requests are planned each time (EN7).
const PLANS: usize = 65_536;
const BYTES: usize = 64 << 20;
/// Callers that share a plan with all of their kind, remembered so that nothing is looked up again.
const STRANGERS: usize = 1_024;

/// One worker's way to decide.
#[derive(Debug)]
pub struct Engine {
    snapshot: Arc<Snapshot>,
    plans: HashTable<Known>,
    pool: Pool,
    /// By hash; a newer one takes the place of an older one.
    strangers: Box<[Option<Principal>]>,
    bytes: usize,
    /// Of the snapshot's distrust when the plans were made.
    generation: u64,
    candidate: Option<Box<Engine>>,
    doubt: Option<Doubt>,
}

/// Which decisions are offered to a second judge.
#[derive(Debug)]
struct Doubt {
    samples: Arc<dyn Samples>,
    left: u32,
    last: UnixTime,
    /// Of the candidate.
    cost: Cost,
}

/// A plan with its key.
#[derive(Debug)]
struct Known {
    /// Hash of the key.
    place: u64,
    who: Who,
    action: Action,
    resource: Resource,
    plan: Plan,
}

impl Known {
    /// About how many bytes it holds.
    fn weight(&self) -> usize {
        size_of::<Known>() + self.plan.weight()
    }
}

/// Whose plan it is (EN5).
#[derive(Debug)]
enum Who {
    One(Principal),
    /// Everybody of that kind and trust domain whom neither entities nor policies name.
    All(Box<(PrincipalKind, Box<str>)>),
}

impl Engine {
    /// An engine over that snapshot, with no plans yet.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>) -> Engine {
        let candidate = snapshot.parts().candidate.as_ref();
        Engine {
            candidate: candidate.map(|(candidate, _)| Box::new(Engine::new(Arc::clone(candidate)))),
            generation: snapshot.parts().distrust.generation(),
            snapshot,
            plans: HashTable::new(),
            pool: Pool::default(),
            strangers: vec![None; STRANGERS].into(),
            bytes: 0,
            doubt: None,
        }
    }

    /// The same, offering one of 1,024 decisions, at most 50 per second, to `samples` (OR3), which is also told when
    /// a candidate takes too long by `clock`.
    #[must_use]
    pub fn sampled(snapshot: Arc<Snapshot>, samples: Arc<dyn Samples>, clock: Arc<dyn Clock>) -> Engine {
        let last = UnixTime::from_nanos(i64::MIN);
        let doubt = Doubt { samples, left: EVERY, last, cost: Cost::new(clock) };
        Engine { doubt: Some(doubt), ..Engine::new(snapshot) }
    }

    /// The engine of the snapshot after this one: plans that a change of entities leaves valid are kept (EN8).
    #[must_use]
    pub fn succeed(self, snapshot: Arc<Snapshot>) -> Engine {
        let fresh = Engine::new(Arc::clone(&snapshot));
        let is_same = version_beside(&self.snapshot) == version_beside(&snapshot);
        let candidate = match (self.candidate, fresh.candidate) {
            (Some(old), Some(new)) if is_same => Some(Box::new(old.succeed(new.snapshot))),
            (_, new) => new,
        };
        let anew = |doubt: Doubt| Doubt { cost: doubt.cost.anew(), ..doubt };
        let doubt = if is_same { self.doubt } else { self.doubt.map(anew) };
        let fresh = Engine { doubt, candidate, ..fresh };
        let Some(carried) = Carried::over(&self.snapshot, &snapshot) else { return fresh };
        let Engine { mut plans, generation, .. } = self;
        plans.retain(|known| {
            let principal = match &known.who {
                Who::One(principal) => Some(principal),
                Who::All(..) => None,
            };
            carried.keeps(principal, &known.resource)
        });
        let bytes = plans.iter().map(Known::weight).sum();
        Engine { plans, generation, bytes, ..fresh }
    }

    /// The verdict of the snapshot. Never panics on any input; allocates nothing when the plan is known and came out so
    /// before.
    pub fn decide(&mut self, request: &AccessRequest<'_>) -> Decision {
        let mut decision = self.decide_live(request);
        if let Some(candidate) = &mut self.candidate {
            let version = version_beside(&self.snapshot);
            let began = self.doubt.as_mut().and_then(|doubt| doubt.cost.begin());
            if let Some(would) = candidate.decide_live(request).unlike(&decision, version) {
                decision.would = Some(would);
            }
            if let (Some(began), Some(doubt), Some(version)) = (began, &mut self.doubt, version)
                && let Some(costly) = doubt.cost.end(began, version)
            {
                doubt.samples.costly(costly);
            }
        }
        if let Some(doubt) = &mut self.doubt {
            doubt.left = doubt.left.saturating_sub(1);
            if doubt.left == 0 && request.now.saturating_since(doubt.last) >= APART {
                (doubt.left, doubt.last) = (EVERY, request.now);
                doubt.samples.offer(Sample::new(&self.snapshot, request, &decision));
            }
        }
        decision
    }

    fn decide_live(&mut self, request: &AccessRequest<'_>) -> Decision {
        self.forget_distrusted();
        if request.is_named_apart() {
            return crate::plan::decide(&self.snapshot, request);
        }
        let place = place(request, request.principal.hash64());
        let is_own = |who: &Who| matches!(who, Who::One(one) if one == request.principal);
        match find(&mut self.plans, place, request, is_own) {
            Some(Plan::Constant(decision)) => Decision::clone(decision),
            Some(plan) => contained(|| plan.judge(&self.snapshot, request, &mut self.pool)),
            None => contained(|| self.decide_anew(request, place)),
        }
    }

    /// What judges.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Number of plans held.
    #[must_use]
    pub fn plan_count(&self) -> usize {
        self.plans.len()
    }

    /// Whether only its kind and trust domain tell that caller from others.
    fn is_stranger(&mut self, principal: &Principal) -> bool {
        let at = usize::try_from(principal.hash64() % STRANGERS as u64).unwrap_or_default();
        let slot = self.strangers.get_mut(at);
        if slot.as_ref().is_some_and(|slot| slot.as_ref() == Some(principal)) {
            return true;
        }
        let is_stranger = !self.snapshot.is_distinct(principal);
        if let (true, Some(slot)) = (is_stranger, slot) {
            *slot = Some(principal.clone());
        }
        is_stranger
    }

    fn forget_distrusted(&mut self) {
        let generation = self.snapshot.parts().distrust.generation();
        if generation != self.generation {
            self.plans.clear();
            self.pool = Pool::default();
            (self.bytes, self.generation) = (0, generation);
        }
    }

    /// For principals without a plan of their own: the plan of their kind, or a new one.
    fn decide_anew(&mut self, request: &AccessRequest<'_>, place: u64) -> Result<Decision, Reason> {
        let snapshot = Arc::clone(&self.snapshot);
        let is_distinct = !self.is_stranger(request.principal);
        let kind = request.principal.kind();
        // What tells strangers of a kind apart: the trust domain, or the groups that a token tells of.
        let class = match request.principal.groups() {
            Some(groups) => Cow::Owned(groups.join("\0")),
            None => Cow::Borrowed(request.principal.trust_domain().unwrap_or_default()),
        };
        let domain = &*class;
        let (who, place) = if is_distinct {
            (Who::One(request.principal.clone()), place)
        } else {
            let shared = |who: &Who| matches!(who, Who::All(all) if all.0 == kind && *all.1 == *domain);
            let place = self::place(request, crate::uid::hash_of(&(kind, domain)));
            if let Some(plan) = find(&mut self.plans, place, request, shared) {
                return plan.judge(&snapshot, request, &mut self.pool);
            }
            (Who::All((kind, domain.into()).into()), place)
        };
        let cast = snapshot.cast(request)?;
        // A token tells more of a user than the key of a plan holds.
        let is_own = is_distinct && request.principal.groups().is_none();
        let mut plan = Plan::build(&snapshot, request, &cast, is_own, &mut self.pool)?;
        let decision = plan.judge(&snapshot, request, &mut self.pool);
        let known = Known { place, who, action: request.action, resource: request.resource.clone(), plan };
        let weight = known.weight();
        if self.plans.len() < PLANS && self.bytes + weight <= BYTES {
            self.plans.insert_unique(place, known, |known| known.place);
            self.bytes += weight;
        }
        decision
    }
}

/// The number of the policies beside those in force.
fn version_beside(snapshot: &Snapshot) -> Option<u64> {
    snapshot.parts().candidate.as_ref().map(|(_, version)| *version)
}

fn find<'p>(
    plans: &'p mut HashTable<Known>,
    place: u64,
    request: &AccessRequest<'_>,
    is_who: impl Fn(&Who) -> bool,
) -> Option<&'p mut Plan> {
    let known = plans.find_mut(place, |known| {
        known.place == place
            && known.action == request.action
            && known.resource == *request.resource
            && is_who(&known.who)
    });
    known.map(|known| &mut known.plan)
}

fn place(request: &AccessRequest<'_>, who: u64) -> u64 {
    let mut mix = Mix(who);
    request.resource.hash(&mut mix);
    request.action.hash(&mut mix);
    mix.finish()
}

/// Mixes numbers that are hashes already; the seed is in them.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value.unsigned_abs() as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Effect, OwnedFacts, tests};

    const POLICIES: &str = r#"
        @id("home") permit (principal in TrustDomain::"example.org", action in Action::"http:read", resource == Route::"home");
    "#;

    /// All plans in one place, as if every hash collided.
    fn collide(engine: &mut Engine, request: &AccessRequest<'_>, is_shared: bool) {
        let shared = crate::uid::hash_of(&(
            request.principal.kind(),
            request.principal.trust_domain().unwrap_or_default(),
        ));
        let here = place(request, if is_shared { shared } else { request.principal.hash64() });
        let all: Vec<Known> = engine.plans.drain().collect();
        for known in all {
            engine.plans.insert_unique(here, Known { place: here, ..known }, |known| known.place);
        }
    }

    #[test]
    fn plans_whose_hashes_collide_are_told_apart() {
        let workload = |id: &str| Principal::workload(&format!("spiffe://{id}"));
        let callers = [
            workload("example.org/web"),
            workload("example.org/new"),
            workload("other.org/new"),
            Principal::anonymous(),
        ];
        let targets = [Resource::route("home"), Resource::route("admin")];
        let actions = [Action::HttpGet, Action::HttpPost, Action::HttpHead];
        let facts = OwnedFacts::local("public");
        let snapshot = tests::shop_with(POLICIES);
        for is_shared in [false, true] {
            let mut engine = Engine::new(Arc::clone(&snapshot));
            for principal in &callers {
                for resource in &targets {
                    for action in actions {
                        let now = tests::noon();
                        let request =
                            AccessRequest { principal, action, resource, facts: &facts, now, extra: None };
                        collide(&mut engine, &request, is_shared);
                        assert_eq!(
                            engine.decide(&request),
                            snapshot.decide(&request),
                            "{principal} {action} {resource}"
                        );
                        let is_allowed = principal.trust_domain() == Some("example.org")
                            && action.is_read()
                            && resource.id() == "home";
                        assert_eq!(engine.decide(&request).effect == Effect::Allow, is_allowed);
                    }
                }
            }
        }
    }
}
