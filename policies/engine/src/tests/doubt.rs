//! The second judge of production decisions (OR3), and candidate sets beside the live one (SH3).

use super::*;
use crate::{Costly, Sample, Samples};
use base_ports::{Clock, Mono, Now, SystemClock};
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

#[derive(Debug, Default)]
struct Kept(Mutex<Vec<Sample>>, Mutex<Vec<Costly>>);

impl Samples for Kept {
    fn offer(&self, sample: Sample) {
        self.0.lock().push(sample);
    }

    fn costly(&self, costly: Costly) {
        self.1.lock().push(costly);
    }
}

/// Every look at it takes as long as it is told.
#[derive(Debug, Default)]
struct Slow {
    step: AtomicU64,
    now: AtomicU64,
}

impl Clock for Slow {
    fn now(&self) -> Now {
        let step = self.step.load(Ordering::Relaxed);
        let nanos = self.now.fetch_add(step, Ordering::Relaxed);
        Now { wall: noon(), mono: Mono::from_nanos(nanos) }
    }
}

const POLICIES: &str = r#"
@id("inside") permit (principal, action == Action::"grpc", resource) when { context.connection.tls >= 12 };
"#;

fn asked<'a>(
    principal: &'a Principal,
    resource: &'a Resource,
    facts: &'a OwnedFacts,
    now: UnixTime,
) -> AccessRequest<'a> {
    AccessRequest { principal, action: Action::Grpc, resource, facts, now, extra: None }
}

#[test]
fn or3_one_of_1024_decisions_is_offered_and_at_most_fifty_a_second() {
    let kept = Arc::new(Kept::default());
    let mut engine =
        Engine::sampled(shop_with(POLICIES), Arc::clone(&kept) as Arc<dyn Samples>, Arc::new(SystemClock));
    let (principal, resource) = (web(), Resource::method("shop.Orders/Get"));
    let facts = OwnedFacts::assumed(Action::Grpc, &resource);
    let ask = |engine: &mut Engine, now| engine.decide(&asked(&principal, &resource, &facts, now));
    (0..1_023).for_each(|_| drop(ask(&mut engine, noon())));
    assert_eq!(kept.0.lock().len(), 0);
    (0..2_048).for_each(|_| drop(ask(&mut engine, noon())));
    assert_eq!(kept.0.lock().len(), 1, "the clock did not move");
    ask(&mut engine, noon() + Duration::from_millis(20));
    assert_eq!(kept.0.lock().len(), 2);
    assert!(kept.0.lock().drain(..).all(|sample| sample.recheck().is_none()));
}

#[test]
fn or3_a_mismatch_is_told_and_moves_the_conditions_to_stock_cedar() {
    let snapshot = shop_with(POLICIES);
    let mut engine = Engine::new(Arc::clone(&snapshot));
    let (principal, resource) = (web(), Resource::method("shop.Orders/Get"));
    let facts = OwnedFacts::assumed(Action::Grpc, &resource);
    let request = asked(&principal, &resource, &facts, noon());
    let right = engine.decide(&request);
    assert_eq!((right.effect, right.evaluated), (Effect::Allow, Evaluated::Compiled));
    assert!(Sample::new(&snapshot, &request, &right).recheck().is_none());
    let wrong = Decision::refusal(Reason::NoPermit);
    let mismatch = Sample::new(&snapshot, &request, &wrong).recheck().unwrap();
    assert_eq!((mismatch.ours.effect, mismatch.stock.effect), (Effect::Deny, Effect::Allow));
    assert_eq!(mismatch.moved.iter().map(|id| &**id).collect::<Vec<_>>(), ["inside"]);
    let after = engine.decide(&request);
    assert_eq!(
        (after.effect, after.evaluated),
        (Effect::Allow, Evaluated::Fallback),
        "engines that run notice"
    );
    assert_eq!(snapshot.decide(&request).evaluated, Evaluated::Fallback);
}

#[test]
fn sh3_a_candidate_set_says_what_it_would_and_changes_nothing() {
    let live = shop_with(POLICIES);
    let stricter = shop_with(
        r#"@id("inside") permit (principal, action == Action::"grpc", resource) when { context.connection.tls >= 14 };"#,
    );
    let (principal, resource) = (web(), Resource::method("shop.Orders/Get"));
    let facts = OwnedFacts::assumed(Action::Grpc, &resource);
    let request = asked(&principal, &resource, &facts, noon());
    let plain = Engine::new(Arc::clone(&live)).decide(&request);
    let mut engine = Engine::new(Arc::new(live.beside(stricter, 42)));
    for _ in 0..2 {
        let beside = engine.decide(&request);
        let would = beside.would.clone().unwrap();
        assert_eq!((would.effect, would.reason, would.version), (Effect::Deny, Reason::NoPermit, Some(42)));
        assert_eq!(Decision { would: None, ..beside }, plain);
    }
    let same = Arc::new(live.beside(Arc::clone(&live), 43));
    assert_eq!(Engine::new(same).decide(&request), plain);
}

#[test]
fn sh3_a_candidate_that_takes_longer_than_a_microsecond_is_told_whatever_entities_do() {
    let (kept, clock) = (Arc::new(Kept::default()), Arc::new(Slow::default()));
    let beside = |version| {
        let (live, candidate) = (shop_with(POLICIES), shop_with(POLICIES));
        Arc::new(live.beside(candidate, version))
    };
    let (samples, time) = (Arc::clone(&kept) as Arc<dyn Samples>, Arc::clone(&clock) as Arc<dyn Clock>);
    let mut engine = Engine::sampled(beside(7), samples, time);
    let (principal, resource) = (web(), Resource::method("shop.Orders/Get"));
    let facts = OwnedFacts::assumed(Action::Grpc, &resource);
    let window = |engine: &mut Engine, nanos| {
        clock.step.store(nanos, Ordering::Relaxed);
        (0..8 * 4_096).for_each(|_| drop(engine.decide(&asked(&principal, &resource, &facts, noon()))));
        std::mem::take(&mut *kept.1.lock())
    };
    assert_eq!([window(&mut engine, 900), window(&mut engine, 900)], [vec![], vec![]]);
    assert_eq!(window(&mut engine, 1_100), []);
    let mut engine = engine.succeed(beside(7));
    let told = Costly { policies: 7, over: 4_096, of: 4_096 };
    assert_eq!(window(&mut engine, 1_100), [told], "the second time, in a snapshot after that");
    let mut engine = engine.succeed(beside(8));
    assert_eq!(window(&mut engine, 1_100), [], "another candidate");
    let mut engine = engine.succeed(shop_with(POLICIES));
    assert_eq!([window(&mut engine, 1_100), window(&mut engine, 1_100)], [vec![], vec![]], "none");
}
