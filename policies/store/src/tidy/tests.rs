//! What stays and what goes, in a store that runs.

use super::*;
use crate::{
    Pinned, StoreConfig,
    testing::{READ, Site, in_force, numbers, shop, shop_with_group},
};
use base_store::Store;
use parking_lot::Mutex;

/// Records that name these, and what was asked.
#[derive(Debug, Default)]
struct Records {
    named: BTreeSet<u64>,
    asked: Mutex<Vec<u64>>,
}

impl Pinned for Records {
    fn named(&self, old: &[Old]) -> BTreeSet<u64> {
        assert!(old.iter().all(|old| old.since.as_secs() == 1_764_000_000), "{old:?}");
        self.asked.lock().extend(old.iter().map(|old| old.snapshot));
        self.named.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn st3_old_snapshots_go_unless_a_record_names_them_and_records_are_asked_once_an_hour() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let records = Arc::new(Records { named: [3].into(), ..Records::default() });
    let config = StoreConfig { pinned: Arc::clone(&records) as Arc<dyn Pinned>, ..site.config() };
    let store = PolicyStore::open(config).await.unwrap();
    store.set_entities(shop(), [1; 32]).await;
    for n in 2..=105 {
        store.set_entities(shop_with_group(&n.to_string()), [1; 32]).await;
    }
    assert_eq!(numbers(&store), (105, 1));
    let (third, objects) =
        (store.version(3).unwrap(), || site.disk.range(b"policies/o/", None, 1_000).unwrap().len());
    let before = objects();
    store.tidy().await.unwrap();
    assert_eq!(*records.asked.lock(), [1, 2, 3, 4, 5]);
    for snapshot in [1, 2, 4, 5] {
        assert!(matches!(store.version(snapshot), Err(PolicyStoreError::Unknown(_))), "{snapshot}");
    }
    assert_eq!(before - objects(), 3, "their entities; the first had none");
    store.held.lock().clear();
    assert_eq!(store.version(3).unwrap().versions(), third.versions());
    store.tidy().await.unwrap();
    site.clock.advance(HOLDS);
    store.tidy().await.unwrap();
    assert_eq!(*records.asked.lock(), [1, 2, 3, 4, 5, 3], "asked again when an hour is over");
    assert!(store.version(in_force(&store).versions().numbers.snapshot).is_ok());
}
