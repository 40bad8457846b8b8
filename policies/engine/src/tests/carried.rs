//! Plans over changes of entities (EN8, IN13).

use super::*;
use crate::{EntitySet, WorkloadEntity};
use proptest::prelude::*;
use std::sync::Arc;

const POLICIES: &str = r#"
@id("front") permit (principal in Group::"frontends", action == Action::"grpc", resource in Service::"orders") when { context.connection.mtls };
@id("team") permit (principal, action == Action::"grpc", resource) when { principal is Workload && principal.hasTag("team") && principal.getTag("team") == "a" };
@id("any") permit (principal in TrustDomain::"example.org", action == Action::"http:GET", resource == Route::"home");
"#;

fn after(previous: Option<&Arc<Snapshot>>, entities: EntitySet) -> Arc<Snapshot> {
    let policies = [PolicySource::new("a.cedar", POLICIES)].to_vec();
    let input = SnapshotInput { policies, ..input(&[], entities) };
    Arc::new(Snapshot::compile_after(previous, input).unwrap_or_else(|found| panic!("{found:?}")))
}

fn with(mut set: EntitySet, id: &str, groups: &[&str], team: Option<&str>) -> EntitySet {
    set.workloads.retain(|workload| workload.id != id);
    set.workloads.push(WorkloadEntity {
        id: id.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        labels: team.iter().map(|team| ("team".to_owned(), (*team).to_owned())).collect(),
        ..WorkloadEntity::default()
    });
    set
}

fn ask(engine: &mut Engine, id: &str, (action, resource): &(Action, Resource)) -> Decision {
    let facts = OwnedFacts::assumed(*action, resource);
    let principal = Principal::workload(id);
    let (principal, facts) = (&principal, &facts);
    engine.decide(&AccessRequest { principal, action: *action, resource, facts, now: noon(), extra: None })
}

#[test]
fn en8_a_change_of_one_entity_keeps_the_plans_of_the_others() {
    let (a, b) = ("spiffe://example.org/a", "spiffe://example.org/b");
    let set = with(with(shop(), a, &["frontends"], None), b, &["frontends"], None);
    let old = after(None, set.clone());
    let mut engine = Engine::new(Arc::clone(&old));
    let target = (Action::Grpc, Resource::method("shop.Orders/Get"));
    let both = |engine: &mut Engine| (ask(engine, a, &target).effect, ask(engine, b, &target).effect);
    assert_eq!((both(&mut engine), engine.plan_count()), ((Effect::Allow, Effect::Allow), 2));
    let new = after(Some(&old), with(set.clone(), b, &[], None));
    let mut engine = engine.succeed(Arc::clone(&new));
    assert_eq!(engine.plan_count(), 1, "the plan of a");
    assert_eq!(both(&mut engine), (Effect::Allow, Effect::Deny));
    let mut engine = engine.succeed(Arc::clone(&old));
    assert_eq!(engine.plan_count(), 1, "back again");
    assert_eq!(both(&mut engine), (Effect::Allow, Effect::Allow));
    assert_eq!(engine.succeed(shop_with(POLICIES)).plan_count(), 0, "other policies");
}

/// One step: which workload, in which group, with which label; or gone.
type Step = (usize, Option<(bool, Option<bool>)>);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn in13_an_engine_that_succeeds_decides_as_a_new_one(
        steps in prop::collection::vec((0_usize..3, prop::option::of((any::<bool>(), prop::option::of(any::<bool>())))), 1..5),
        asked in prop::collection::vec((0_usize..4, 0_usize..2), 4..8),
    ) {
        let ids = ["spiffe://example.org/a", "spiffe://example.org/b", "spiffe://other.org/c", "spiffe://example.org/d"];
        let targets = [(Action::Grpc, Resource::method("shop.Orders/Get")), (Action::HttpGet, Resource::route("home"))];
        let mut set = shop();
        let mut snapshot = after(None, set.clone());
        let mut engine = Engine::new(Arc::clone(&snapshot));
        let steps: Vec<Step> = steps;
        for (which, change) in steps {
            for (who, what) in &asked {
                let fresh = ask(&mut Engine::new(Arc::clone(&snapshot)), ids[*who], &targets[*what]);
                prop_assert_eq!(ask(&mut engine, ids[*who], &targets[*what]), fresh);
            }
            set = match change {
                None => {
                    set.workloads.retain(|workload| workload.id != ids[which]);
                    set
                }
                Some((is_front, team)) => {
                    let groups: &[&str] = if is_front { &["frontends"] } else { &[] };
                    with(set, ids[which], groups, team.map(|is_a| if is_a { "a" } else { "b" }))
                }
            };
            snapshot = after(Some(&snapshot), set.clone());
            engine = engine.succeed(Arc::clone(&snapshot));
        }
    }
}
