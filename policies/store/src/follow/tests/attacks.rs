//! Somebody between publisher and follower: edits, replays, forks, other keys (PS4).

use super::*;
use prost::Message;

#[tokio::test]
async fn ps4_no_edited_byte_of_a_frame_is_taken() {
    let publisher = Publisher::start(&[("a.cedar", READ), ("b.cedar", "")]).await;
    let follower = publisher.follower().await;
    let first = publisher.newest();
    let second = publisher.publish("b.cedar", STOP).await;
    let honest = second.frame(Some(&first.position), &publisher.archive).unwrap();
    let bytes = honest.encode_to_vec();
    assert!(bytes.len() > 500, "{}", bytes.len());
    let mut refused = 0;
    for at in 0..bytes.len() {
        let mut edited = bytes.clone();
        edited[at] ^= 1 << (at % 8);
        // What is no message any more ends the connection.
        let Ok(frame) = messages::Snapshot::decode(&*edited) else { continue };
        let taken = take(&follower, frame).await;
        assert!(matches!(taken, Taken::Refused(_)), "byte {at}: {taken:?}");
        assert_eq!(verdict(&follower), (1, Effect::Allow), "byte {at}");
        refused += 1;
    }
    assert!(refused > bytes.len() / 2, "{refused}");
    assert_eq!(take(&follower, honest).await, Taken::InForce, "the honest frame is taken after all of them");
    assert_eq!(verdict(&follower), (2, Effect::Deny));
}

#[tokio::test]
async fn ps4_old_frames_and_forks_are_refused_also_when_they_are_signed() {
    let publisher = Publisher::start(&[("a.cedar", READ), ("b.cedar", "")]).await;
    let follower = publisher.follower().await;
    let first = publisher.newest();
    let second = publisher.publish("b.cedar", STOP).await;
    assert_eq!(take(&follower, publisher.whole(&second)).await, Taken::InForce);
    assert_eq!(code(&take(&follower, publisher.whole(&first)).await), "PC2024", "a replay");

    let twin = publisher.resigned(&[("\"created\":\"2", "\"created\":\"3")]);
    assert_eq!(twin.position.number(), second.position.number());
    let taken = take(&follower, publisher.whole(&twin)).await;
    let Taken::Refused(refused) = taken else { panic!("{taken:?}") };
    assert_eq!((refused.code, refused.offered), ("PC2024", Some(twin.position)));
    assert!(refused.detail.contains("under the same number"), "{}", refused.detail);

    let fork =
        publisher.resigned(&[("\"created\":\"2", "\"created\":\"3"), ("\"snapshot\":2", "\"snapshot\":3")]);
    let taken = take(&follower, publisher.whole(&fork)).await;
    assert_eq!(code(&taken), "PC2024", "its parent is the first, not the second: {taken:?}");
    assert_eq!(verdict(&follower), (2, Effect::Deny));
}

#[tokio::test]
async fn st5_a_rollback_has_a_higher_number_and_a_restored_store_a_higher_epoch() {
    let publisher = Publisher::start(&[("a.cedar", READ), ("b.cedar", "")]).await;
    let follower = publisher.follower().await;
    let second = publisher.publish("b.cedar", STOP).await;
    assert_eq!(take(&follower, publisher.whole(&second)).await, Taken::InForce);
    let third = publisher.publish("b.cedar", "").await;
    assert_eq!(take(&follower, publisher.whole(&third)).await, Taken::InForce, "old content, new number");
    assert_eq!(verdict(&follower), (3, Effect::Allow));

    let restored =
        publisher.resigned(&[("\"epoch\":1", "\"epoch\":2"), ("\"snapshot\":3", "\"snapshot\":1")]);
    assert_eq!(take(&follower, publisher.whole(&restored)).await, Taken::InForce);
    assert_eq!(follower.running().unwrap().number(), (2, 1));
    let later = publisher.publish("b.cedar", STOP).await;
    assert_eq!(code(&take(&follower, publisher.whole(&later)).await), "PC2024", "the old epoch is over");
}

#[tokio::test]
async fn st4_only_pinned_keys_are_believed_and_an_old_key_still_signs_after_a_rotation() {
    let publisher = Publisher::start(&[("a.cedar", READ)]).await;
    let stranger = Signer::ephemeral("example.org", Arc::new(SeededRng::new(8))).unwrap();
    let elsewhere = Signer::ephemeral("other.test", Arc::new(SeededRng::new(7))).unwrap();
    for signer in [&stranger, &elsewhere] {
        let config =
            FollowConfig { signers: signer.verifiers(), ..publisher.config(&Arc::new(MemoryDisk::new())) };
        let follower = begun(config).await;
        let taken = take(&follower, publisher.whole(&publisher.newest())).await;
        assert_eq!(code(&taken), "PC2021");
        assert!(follower.subscribe().borrow().is_none(), "nothing is in force");
    }
    let follower = publisher.follower().await;
    publisher.signer.rotate().unwrap();
    let second = publisher.publish("b.cedar", STOP).await;
    assert_eq!(take(&follower, publisher.whole(&second)).await, Taken::InForce, "old and new key sign");
    publisher.signer.rotate().unwrap();
    let third = publisher.publish("b.cedar", "").await;
    assert_eq!(code(&take(&follower, publisher.whole(&third)).await), "PC2021", "the pinned key is gone");
}

#[tokio::test]
async fn ps4_objects_that_lie_or_do_not_belong_are_refused_and_the_snapshot_is_taken_later() {
    let publisher = Publisher::start(&[("a.cedar", READ)]).await;
    let follower = begun(publisher.config(&Arc::new(MemoryDisk::new()))).await;
    let honest = publisher.whole(&publisher.newest());
    type Damage = fn(&mut messages::Snapshot);
    let damaged: [(&str, Damage); 5] = [
        ("other bytes", |frame| {
            frame.objects[0].content = Bytes::from_static(b"permit (principal, action, resource);")
        }),
        ("a stranger", |frame| {
            let (sha256, content) = (Bytes::copy_from_slice(&[1; 32]), Bytes::new());
            frame.objects.push(messages::Object { sha256, content });
        }),
        ("twice", |frame| frame.objects.push(frame.objects[0].clone())),
        ("no hash", |frame| frame.objects[0].sha256 = Bytes::new()),
        ("missing", |frame| frame.objects.truncate(1)),
    ];
    for (what, damage) in damaged {
        let mut frame = honest.clone();
        damage(&mut frame);
        let taken = take(&follower, frame).await;
        let Taken::Refused(refused) = taken else { panic!("{what}: {taken:?}") };
        assert_eq!((refused.code, refused.offered), ("PC2023", None), "{what}");
        assert!(follower.subscribe().borrow().is_none(), "{what}");
    }
    let lies = async |missing: Vec<Hash>| Ok(missing.into_iter().map(|hash| (hash, Bytes::new())).collect());
    let empty = messages::Snapshot { objects: Vec::new(), ..honest.clone() };
    assert_eq!(code(&follower.take(empty, lies, async || {}).await), "PC2023");
    assert_eq!(take(&follower, honest).await, Taken::InForce);
}
