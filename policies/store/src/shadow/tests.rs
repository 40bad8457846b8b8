//! A version beside the one in force, and the three ways in which that ends.

use super::*;
use crate::{
    changes::tests::{committed, edit},
    testing::{READ, STOP, Site, in_force, numbers, shop_with_group, web_gets, web_would},
};
use base_ports::Clock;
use policies_engine::Effect::{Allow, Deny};

#[tokio::test]
async fn sh3_a_version_in_shadow_is_told_and_decides_nothing_until_it_is_activated() {
    let site = Site::new(&[]);
    let store = site.start_without_dir().await;
    committed(&store, vec![edit("orders.cedar", READ)]).await;
    assert_eq!(web_would(&in_force(&store)), (Deny, None));
    store.shadow(Some(2)).await.unwrap();
    assert_eq!((numbers(&store), web_would(&in_force(&store))), ((1, 1), (Deny, Some((Allow, Some(2))))));
    let shadow = store.status().shadow.unwrap();
    assert_eq!((shadow.policies, shadow.until), (2, UnixTime::from_secs(1_764_000_000 + 86_400)));

    store.set_entities(shop_with_group("front"), [1; 32]).await;
    assert_eq!(web_would(&in_force(&store)), (Deny, Some((Allow, Some(2)))), "it follows the entities");
    drop(store);
    let store = site.start_without_dir().await;
    assert_eq!(web_would(&in_force(&store)), (Deny, Some((Allow, Some(2)))), "it survives a restart");
    assert_eq!(store.status().shadow, Some(shadow));

    store.activate(2, "bob").await.unwrap();
    assert_eq!((web_would(&in_force(&store)), store.status().shadow), ((Allow, None), None));
    drop(store);
    assert_eq!(site.start_without_dir().await.status().shadow, None);
}

#[tokio::test]
async fn sh3_a_shadow_ends_when_it_is_taken_back_and_after_a_day() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    committed(&store, vec![edit("stop.cedar", STOP)]).await;
    store.shadow(Some(2)).await.unwrap();
    assert_eq!(web_would(&in_force(&store)), (Allow, Some((Deny, Some(2)))));
    store.shadow(None).await.unwrap();
    assert_eq!((web_would(&in_force(&store)), store.status().shadow), ((Allow, None), None));

    store.shadow(Some(2)).await.unwrap();
    site.clock.advance(Duration::from_secs(86_399));
    store.end_shadow_if_over().await;
    assert!(store.status().shadow.is_some());
    site.clock.advance(Duration::from_secs(1));
    store.end_shadow_if_over().await;
    assert_eq!((web_would(&in_force(&store)), store.status().shadow), ((Allow, None), None));
    let ended = store.status().shadow_ended.unwrap();
    assert_eq!((ended.policies, ended.why.as_str()), (2, "its 24 hours are over"));
    assert_eq!(site.activations.ended(), std::slice::from_ref(&ended), "it is on record");
    drop(store);
    assert_eq!(site.start().await.status().shadow_ended, Some(ended), "it is still told after a restart");
}

#[tokio::test]
async fn sh3_a_shadow_that_costs_too_much_is_ended_and_why_is_told_until_the_next() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    committed(&store, vec![edit("stop.cedar", STOP)]).await;
    store.shadow(Some(2)).await.unwrap();
    let costly = |policies| Costly { policies, over: 61, of: 4_096 };
    store.end_costly_shadow(costly(1)).await;
    assert!(store.status().shadow.is_some(), "another one was measured");
    store.end_costly_shadow(costly(2)).await;
    assert_eq!((web_would(&in_force(&store)), store.status().shadow), ((Allow, None), None));
    let ended = store.status().shadow_ended.unwrap();
    assert_eq!(ended.why, "61 of 4096 timed evaluations took longer than 1 us");
    assert_eq!(ended.at, site.clock.now().wall);
    store.end_costly_shadow(costly(2)).await;
    assert_eq!(site.activations.ended(), [ended], "two workers found out, and it ended once");
    store.shadow(Some(2)).await.unwrap();
    assert_eq!(store.status().shadow_ended, None);
}

#[tokio::test]
async fn a_version_that_is_not_there_or_in_force_is_not_put_into_shadow() {
    let site = Site::new(&[("orders.cedar", READ)]);
    let store = site.start().await;
    assert!(matches!(store.shadow(Some(9)).await, Err(PolicyStoreError::UnknownVersion(9))));
    assert!(matches!(store.shadow(Some(1)).await, Err(PolicyStoreError::Input(_))));
    store.shadow(None).await.unwrap();
    assert_eq!((web_gets(&in_force(&store)), store.status().shadow), (Allow, None));
}
