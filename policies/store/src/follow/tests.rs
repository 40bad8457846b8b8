//! A publisher and followers of it: what is taken, what is refused, what survives.

mod attacks;
mod files;
mod live;
mod measure;
mod mixed;
mod newer;

use super::{
    held::{Held, Offer, received},
    take::Taken,
    *,
};
use crate::{
    PolicyStore, Position, Signer,
    archive::Archive,
    feed::{Feed, Published},
    generated::messages,
    testing::{READ, STOP, Site, in_force, shop, web_gets},
};
use base_ports::{ManualClock, MemoryDisk, SeededRng, UnixTime};
use policies_engine::{Effect, RouteEntity};
use prost::bytes::Bytes;
use std::collections::HashMap;
use tokio::sync::watch;

/// A store whose snapshots are signed and fed.
struct Publisher {
    site: Site,
    store: Arc<PolicyStore>,
    signer: Signer,
    published: watch::Sender<Option<Arc<Published>>>,
    archive: Archive,
    feed: Arc<Feed>,
}

impl Publisher {
    async fn start(files: &[(&str, &str)]) -> Publisher {
        let site = Site::new(files);
        let store = site.start().await;
        let signer = Signer::ephemeral("example.org", Arc::new(SeededRng::new(7))).unwrap();
        let (_, archive) = store.feed().parts();
        let published = watch::Sender::new(None);
        let clock = Arc::new(ManualClock::new(UnixTime::from_secs(1_764_000_000)));
        let feed = Feed::new(published.subscribe(), archive.clone(), clock);
        let publisher = Publisher { site, store, signer, published, archive, feed };
        publisher.sign();
        publisher
    }

    /// Saves a file, and waits until it is published.
    async fn publish(&self, file: &str, text: &str) -> Arc<Published> {
        self.site.write(file, text);
        self.store.reload().await;
        self.sign()
    }

    fn sign(&self) -> Arc<Published> {
        let newest = self.store.feed().parts().0.borrow().clone().unwrap();
        let signed = Arc::new(self.signed(newest.manifest.clone()));
        self.published.send_replace(Some(Arc::clone(&signed)));
        signed
    }

    /// Any manifest under our key.
    fn signed(&self, manifest: Bytes) -> Published {
        let told: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let number = |name: &str| told[name].as_u64().unwrap();
        let numbers = policies_engine::Numbers {
            epoch: number("epoch"),
            snapshot: number("snapshot"),
            policies: number("policies"),
        };
        let note = self.signer.sign(numbers, &manifest);
        let objects = crate::manifest::Manifest::from_json(&manifest).map(|manifest| manifest.objects);
        Published {
            position: Position::new(numbers, Hash::of(&manifest)),
            note: note.into(),
            objects: objects.unwrap_or_default(),
            manifest,
        }
    }

    /// The newest manifest with a text replaced, signed.
    fn resigned(&self, replace: &[(&str, &str)]) -> Published {
        let mut text = String::from_utf8(self.newest().manifest.to_vec()).unwrap();
        for (from, to) in replace {
            assert!(text.contains(from), "`{from}` is not in {text}");
            text = text.replacen(from, to, 1);
        }
        self.signed(text.into())
    }

    fn newest(&self) -> Arc<Published> {
        self.published.borrow().clone().unwrap()
    }

    fn whole(&self, published: &Published) -> messages::Snapshot {
        published.frame(None, &self.archive).unwrap()
    }

    fn objects(&self, hashes: Vec<Hash>) -> HashMap<Hash, Bytes> {
        hashes.into_iter().map(|hash| (hash, self.archive.bytes(&hash).unwrap().into())).collect()
    }

    fn config(&self, disk: &Arc<MemoryDisk>) -> FollowConfig {
        FollowConfig {
            way: Arc::new(AdminSocket("/nowhere".into())),
            name: "gw-1".to_owned(),
            signers: self.signer.verifiers(),
            dir: "/follow".into(),
            bootstrap: None,
            patience: Patience::default(),
            disk: Arc::clone(disk) as Arc<dyn Disk>,
            clock: Arc::new(ManualClock::new(UnixTime::from_secs(1_764_000_000))),
            rng: Arc::new(SeededRng::new(1)),
            mismatches: Arc::default(),
        }
    }

    /// A follower with the newest snapshot in force.
    async fn follower(&self) -> Arc<Follower> {
        let follower = begun(self.config(&Arc::new(MemoryDisk::new()))).await;
        assert_eq!(take(&follower, self.whole(&self.newest())).await, Taken::InForce);
        follower
    }
}

/// A follower that serves a route of its own.
async fn begun(config: FollowConfig) -> Arc<Follower> {
    let follower = Follower::open(config).await.unwrap();
    follower.set_entities(own("own"), [9; 32]).await;
    follower
}

fn own(route: &str) -> EntitySet {
    let route = RouteEntity { name: route.to_owned(), service: "orders".to_owned(), sensitivity: None };
    EntitySet { routes: vec![route], ..shop() }
}

/// What clashes with [`own`] of `clash`.
fn elsewhere() -> EntitySet {
    let mut theirs = own("clash");
    theirs.routes[0].service = "elsewhere".to_owned();
    theirs.services[0].name = "elsewhere".to_owned();
    theirs.methods.clear();
    theirs
}

/// Takes a frame that must be whole.
async fn take(follower: &Follower, frame: messages::Snapshot) -> Taken {
    let nothing =
        async |missing: Vec<Hash>| Err(held::damaged(format!("{} objects are missing", missing.len())));
    let taken = follower.take(frame, nothing, async || {}).await;
    follower.write_down().await;
    taken
}

fn code(taken: &Taken) -> &'static str {
    match taken {
        Taken::InForce => "in force",
        Taken::Known => "known",
        Taken::Refused(refused) => refused.code,
    }
}

/// Snapshot number in force, and whether `web` may call `Get`.
fn verdict(follower: &Follower) -> (u64, Effect) {
    let snapshot = follower.subscribe().borrow().clone().expect("a snapshot is in force");
    (snapshot.versions().numbers.snapshot, web_gets(&snapshot))
}

#[tokio::test]
async fn st8_a_snapshot_is_taken_whole_and_the_next_one_as_a_change() {
    let publisher = Publisher::start(&[("a.cedar", READ), ("b.cedar", "")]).await;
    let follower = publisher.follower().await;
    assert_eq!(verdict(&follower), (1, Effect::Allow));
    let versions = Arc::clone(follower.subscribe().borrow().as_ref().unwrap().versions());
    let theirs = in_force(&publisher.store);
    assert_eq!(versions.numbers, theirs.versions().numbers);
    assert_eq!((versions.manifest, versions.routes), (theirs.versions().manifest, [9; 32]));

    let first = publisher.newest().position;
    let second = publisher.publish("b.cedar", STOP).await;
    let frame = second.frame(Some(&first), &publisher.archive).unwrap();
    assert_eq!(frame.objects.len(), 1, "only the file that changed");
    assert_eq!(take(&follower, frame.clone()).await, Taken::InForce);
    assert_eq!(verdict(&follower), (2, Effect::Deny));
    assert_eq!(take(&follower, frame).await, Taken::Known, "the same again is nothing new");

    let unknown = Position { digest: [0; 32], ..first };
    let all = second.frame(Some(&unknown), &publisher.archive).unwrap().objects.len();
    assert_eq!(all, publisher.whole(&second).objects.len(), "everything for who has something unknown");
    let report = follower.report();
    assert_eq!(report.active, Some(second.position.to_message()));
    assert_eq!(report.refusal, None);
}

#[tokio::test]
async fn st8_objects_that_the_frame_lacks_are_fetched_by_hash() {
    let publisher = Publisher::start(&[("a.cedar", READ)]).await;
    let follower = begun(publisher.config(&Arc::new(MemoryDisk::new()))).await;
    let mut frame = publisher.whole(&publisher.newest());
    let all = frame.objects.len();
    frame.objects.truncate(1);
    let fetch = async |missing: Vec<Hash>| {
        assert_eq!(missing.len(), all - 1);
        Ok(publisher.objects(missing))
    };
    assert_eq!(follower.take(frame, fetch, async || {}).await, Taken::InForce);
    assert_eq!(verdict(&follower).1, Effect::Allow);
}

#[tokio::test]
async fn rd_01_entities_that_clash_with_the_publisher_leave_those_before_them() {
    let publisher = Publisher::start(&[("a.cedar", READ)]).await;
    let follower = publisher.follower().await;
    publisher.store.set_entities(elsewhere(), [2; 32]).await;
    assert_eq!(take(&follower, publisher.whole(&publisher.sign())).await, Taken::InForce);
    let routes = || follower.subscribe().borrow().as_ref().map(|snapshot| snapshot.versions().routes);
    let before = routes();
    let found = follower.change_entities(own("clash"), [8; 32]).await.unwrap_err();
    assert!(found.iter().any(|found| found.code == "PC2012"), "{found:?}");
    assert_eq!(
        (routes(), follower.status().diagnostics),
        (before, Vec::new()),
        "the publisher did nothing wrong"
    );
    follower.change_entities(own("other"), [7; 32]).await.unwrap();
    assert_eq!(routes(), Some([7; 32]));
}

#[tokio::test]
async fn st7_what_does_not_fit_this_process_is_refused_and_taken_once_it_does() {
    let publisher = Publisher::start(&[("a.cedar", READ)]).await;
    let follower = publisher.follower().await;
    publisher.store.set_entities(elsewhere(), [2; 32]).await;
    let clashing = publisher.sign();
    follower.set_entities(own("clash"), [9; 32]).await;
    let before = verdict(&follower);

    let taken = take(&follower, publisher.whole(&clashing)).await;
    let Taken::Refused(refused) = taken else { panic!("{taken:?}") };
    assert_eq!((refused.code, refused.offered), ("PC2025", Some(clashing.position)));
    assert_eq!(refused.findings[0].code, "PC2012");
    assert!(refused.findings[0].message.contains("`Route::\"clash\"` comes from two sources"), "{refused:?}");
    assert_eq!(verdict(&follower), before, "the last good one stays");
    let shown: Vec<_> = follower.status().diagnostics.iter().map(|found| found.code).collect();
    assert_eq!(shown, ["PC2025", "PC2012"]);
    assert_eq!(follower.report().refusal.unwrap().code, "PC2025");
    assert_eq!(take(&follower, publisher.whole(&clashing)).await, Taken::Known, "not tried twice");

    follower.set_entities(own("own"), [9; 32]).await;
    assert_eq!(take(&follower, publisher.whole(&clashing)).await, Taken::InForce);
    assert_eq!(follower.status().diagnostics, []);
}
