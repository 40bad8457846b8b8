//! Frames that come late, twice, out of order, or with the objects of another one: what judges is always exactly one
//! published snapshot, never the entities of one with the policies of another (PS5).

use super::*;
use crate::testing::shop_with_group;
use proptest::prelude::*;
use std::sync::LazyLock;

/// Snapshots as the publisher judged by them: digests of policies and of entities by number, and whole frames.
struct Story {
    keys: Vec<Verifier>,
    frames: Vec<messages::Snapshot>,
    digests: HashMap<u64, ([u8; 32], [u8; 32])>,
}

static STORY: LazyLock<Story> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let publisher = Publisher::start(&[("a.cedar", READ), ("b.cedar", "")]).await;
        let mut story =
            Story { keys: publisher.signer.verifiers(), frames: Vec::new(), digests: HashMap::new() };
        for step in 0..6 {
            match step % 2 {
                0 => publisher.store.set_entities(shop_with_group(&format!("g-{step}")), [1; 32]).await,
                _ => {
                    let text = STOP.replace("\"stop\"", &format!("\"stop-{step}\""));
                    publisher.publish("b.cedar", &text).await;
                }
            }
            let published = publisher.sign();
            let judged = Arc::clone(in_force(&publisher.store).versions());
            story.digests.insert(judged.numbers.snapshot, (judged.manifest, judged.entities));
            story.frames.push(publisher.whole(&published));
        }
        story
    })
});

/// What happens on the way.
#[derive(Debug, Clone)]
enum Step {
    Deliver(usize),
    /// The manifest of one with the objects of another.
    Mix(usize, usize),
    /// This process learns its entities again.
    Own,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..6_usize).prop_map(Step::Deliver),
        2 => (0..6_usize, 0..6_usize).prop_map(|(manifest, objects)| Step::Mix(manifest, objects)),
        1 => Just(Step::Own),
    ];
    proptest::collection::vec(step, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ps5_what_judges_is_always_one_published_snapshot(steps in steps()) {
        let Story { keys, frames, digests } = &*STORY;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let config = FollowConfig {
                way: Arc::new(AdminSocket("/nowhere".into())),
                name: "gw".to_owned(),
                signers: keys.clone(),
                dir: "/follow".into(),
                bootstrap: None,
                patience: Patience::default(),
                disk: Arc::new(MemoryDisk::new()),
                clock: Arc::new(ManualClock::new(UnixTime::from_secs(1_764_000_000))),
                rng: Arc::new(SeededRng::new(1)),
                mismatches: Arc::default(),
            };
            let follower = Follower::open(config).await.unwrap();
            let mut highest = 0;
            for step in &steps {
                match step {
                    Step::Deliver(at) => drop(take(&follower, frames[*at].clone()).await),
                    Step::Mix(manifest, objects) => {
                        let objects = frames[*objects].objects.clone();
                        drop(take(&follower, messages::Snapshot { objects, ..frames[*manifest].clone() }).await);
                    }
                    Step::Own => follower.set_entities(EntitySet::default(), [1; 32]).await,
                }
                if let Some(snapshot) = follower.subscribe().borrow().as_ref() {
                    let versions = snapshot.versions();
                    let number = versions.numbers.snapshot;
                    prop_assert_eq!(digests.get(&number), Some(&(versions.manifest, versions.entities)));
                    prop_assert!(number >= highest, "{} after {}", number, highest);
                    highest = number;
                }
            }
            Ok(())
        })?;
    }
}
