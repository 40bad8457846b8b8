//! A publisher that is newer or older than this enforcer: what is not fully understood is refused as a whole (PS8).

use super::*;

#[tokio::test]
async fn ps8_what_a_newer_publisher_says_is_refused_as_a_whole_and_stays_refused() {
    let publisher = Publisher::start(&[("a.cedar", READ), ("b.cedar", "")]).await;
    let follower = publisher.follower().await;
    publisher.publish("b.cedar", STOP).await;
    let newer: &[(&str, &[(&str, &str)])] = &[
        ("an unknown field", &[("{\"format\"", "{\"quorum\":2,\"format\"")]),
        ("an unknown field of an object", &[("{\"kind\"", "{\"weight\":1,\"kind\"")]),
        ("another format", &[("portcullis-manifest/1", "portcullis-manifest/2")]),
        ("an unknown kind", &[("\"kind\":\"schema\"", "\"kind\":\"wasm\"")]),
        ("a newer language", &[("\"language\":\"4.", "\"language\":\"5.")]),
        ("a newer engine", &[("\"min_engine\":1", "\"min_engine\":2")]),
    ];
    for (what, replace) in newer {
        let offered = publisher.resigned(replace);
        let frame = messages::Snapshot { objects: Vec::new(), ..publisher.whole(&offered) };
        let taken = take(&follower, frame.clone()).await;
        let Taken::Refused(refused) = taken else { panic!("{what}: {taken:?}") };
        assert_eq!(refused.code, "PC2022", "{what}: {}", refused.detail);
        assert_eq!(refused.offered, Some(offered.position), "{what}: the publisher signed it");
        assert_eq!(verdict(&follower), (1, Effect::Allow), "{what}");
        assert_eq!(take(&follower, frame).await, Taken::Known, "{what}: not tried twice");
    }
    assert_eq!(take(&follower, publisher.whole(&publisher.newest())).await, Taken::InForce);
}

#[tokio::test]
async fn ps8_system_policies_that_mean_something_else_here_are_refused() {
    let publisher = Publisher::start(&[("a.cedar", READ)]).await;
    let follower = begun(publisher.config(&Arc::new(MemoryDisk::new()))).await;
    // A publisher whose shipped policies are no longer marked as shipped has none.
    let text = String::from_utf8(publisher.newest().manifest.to_vec()).unwrap();
    let offered = publisher.signed(text.replace(",\"baseline\":true", "").into());
    let taken = take(&follower, publisher.whole(&offered)).await;
    let Taken::Refused(refused) = taken else { panic!("{taken:?}") };
    assert_eq!((refused.code, refused.offered), ("PC2026", Some(offered.position)), "{}", refused.detail);
    assert!(refused.detail.contains("baseline/system_test.json"), "{}", refused.detail);
    assert!(follower.subscribe().borrow().is_none());
}

#[tokio::test]
async fn a_site_that_overrides_a_system_policy_is_followed() {
    let over = "@id(\"no-metrics\")\n@owner(\"ops\")\nforbid (principal, action == Portcullis::Action::\"probe\", resource);\n";
    let publisher = Publisher::start(&[("a.cedar", READ), ("over.cedar", over)]).await;
    assert_eq!(verdict(&*publisher.follower().await), (1, Effect::Allow));
}
