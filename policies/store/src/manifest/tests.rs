//! Manifests as written, as written by the first build that kept any, and as nobody should write them.

use super::*;
use crate::rules::Rules;

fn content() -> Content {
    Content { rules: Rules::shipped(), entities: Arc::default(), routes: Hash([0; 32]) }
}

fn after(newest: Option<&Manifest>, content: &Content) -> Manifest {
    let signed = newest.map(|manifest| {
        let bytes: Arc<[u8]> = manifest.to_json().unwrap().into();
        Signed { manifest: manifest.clone(), hash: Hash::of(&bytes), bytes, note: None }
    });
    let meta = Meta { author: "ann".to_owned(), ticket: Some("T-1".to_owned()), ..Meta::default() };
    let (objects, now) = (content.objects().unwrap(), UnixTime::from_secs(0));
    let snapshot = newest.map_or(1, |newest| newest.snapshot + 1);
    let numbers = Numbers { epoch: 1, snapshot, policies: 1 };
    let next = Next { trust_domain: "example.org", numbers, meta, content, objects: &objects, now };
    Manifest::after(signed.as_ref(), next)
}

#[test]
fn ps4_each_manifest_names_the_one_before_it() {
    let first = after(None, &content());
    let second = after(Some(&first), &content());
    assert_eq!(second.parent(), Some(Hash::of(&first.to_json().unwrap())));
    assert_eq!((second.epoch, second.snapshot), (1, 2));
}

#[test]
fn st3_a_manifest_tells_author_approvers_message_ticket_checks_and_what_it_needs() {
    let text = String::from_utf8(after(None, &content()).to_json().unwrap()).unwrap();
    for member in [
        r#""format":"portcullis-manifest/1""#,
        r#""trust_domain":"example.org""#,
        r#""author":"ann""#,
        r#""approvers":[]"#,
        r#""ticket":"T-1""#,
        r#""rollback_of":null"#,
        r#""checks":{"#,
        r#""language":"4.6""#,
        r#""min_engine":1"#,
        r#""analysis":"not proved: no solver""#,
        r#""kind":"policy","id":"baseline/system.cedar""#,
    ] {
        assert!(text.contains(member), "{member} in {text}");
    }
}

/// As the build of 2026-11-25 wrote it, with the members of ST3.
const SECOND_FORMAT: &str = r#"{"format":"portcullis-manifest/1","trust_domain":"example.org","epoch":1,"snapshot":8,"policies":4,"parent":null,"language":"4.6","min_engine":1,"created":"2026-11-25T08:00:00Z","committed":"2026-11-25T07:00:00Z","origin":"rollback","author":"User::\"corp/ann\"","committer":"User::\"corp/bob\"","approvers":["User::\"corp/carol\""],"message":"too strict","ticket":"SEC-12","rollback_of":2,"change":17,"checks":{"passed":true,"errors":0,"warnings":1,"tests":112,"failed":0,"coverage":93,"widens":false,"touches_baseline":false,"slow_policies":0},"analysis":"not proved: no solver","routes":"0000000000000000000000000000000000000000000000000000000000000000","objects":[{"kind":"tests","id":"policies/a_test.json","sha256":"3b310a598edf2acfb1a31fbb1d10ec4c78f860bf24308c881735ebdbbb4e3beb"}]}"#;

#[test]
fn ps8_manifests_of_this_format_are_written_and_read_byte_for_byte() {
    let manifest = Manifest::from_json(SECOND_FORMAT.as_bytes()).unwrap();
    assert_eq!(
        (manifest.origin, manifest.rollback_of, manifest.change),
        (Origin::Rollback, Some(2), Some(ChangeId(17)))
    );
    assert_eq!((manifest.committed(), manifest.created()), ("2026-11-25T07:00:00Z", "2026-11-25T08:00:00Z"));
    assert_eq!(String::from_utf8(manifest.to_json().unwrap()).unwrap(), SECOND_FORMAT);
}

/// As the build of 2026-11-24 wrote it.
const FIRST_FORMAT: &str = r#"{"format":"portcullis-manifest/1","epoch":1,"snapshot":7,"policies":3,"parent":"3b310a598edf2acfb1a31fbb1d10ec4c78f860bf24308c881735ebdbbb4e3beb","created":"2026-11-24T07:00:00Z","routes":"0000000000000000000000000000000000000000000000000000000000000000","objects":[{"kind":"policy","id":"baseline/system.cedar","sha256":"3b310a598edf2acfb1a31fbb1d10ec4c78f860bf24308c881735ebdbbb4e3beb","baseline":true},{"kind":"entities","id":"registry","sha256":"3b310a598edf2acfb1a31fbb1d10ec4c78f860bf24308c881735ebdbbb4e3beb"}]}"#;

#[test]
fn ps8_manifests_of_the_first_build_stay_readable() {
    let old = Manifest::from_json(FIRST_FORMAT.as_bytes()).unwrap();
    assert_eq!(old.numbers(), Numbers { epoch: 1, snapshot: 7, policies: 3 });
    assert_eq!((old.committed(), old.author.as_str()), ("2026-11-24T07:00:00Z", ""));
    assert_eq!(old.objects.len(), 2);
}

#[test]
fn ps8_a_manifest_is_read_as_written_or_refused_as_a_whole() {
    let first = after(None, &content());
    let text = String::from_utf8(first.to_json().unwrap()).unwrap();
    assert_eq!(Manifest::from_json(text.as_bytes()).unwrap(), first);
    for bad in [
        text.replace("portcullis-manifest/1", "portcullis-manifest/2"),
        text.replace("{\"format\"", "{\"signed_by\":\"x\",\"format\""),
        text.replace("\"kind\":\"schema\"", "\"kind\":\"picture\""),
        text.replace("\"snapshot\":1", "\"snapshot\":-1"),
        text.replace("\"min_engine\":1", "\"min_engine\":2"),
        text.replace("\"language\":\"4.6\"", "\"language\":\"4.7\""),
        text.replace("\"language\":\"4.6\"", "\"language\":\"5.0\""),
        text.replace("\"language\":\"4.6\"", "\"language\":\"new\""),
        text.split_at(text.len() / 2).0.to_owned(),
    ] {
        assert!(Manifest::from_json(bad.as_bytes()).is_err(), "{bad}");
    }
    let older = text.replace("\"language\":\"4.6\"", "\"language\":\"4.5\"");
    assert!(Manifest::from_json(older.as_bytes()).is_ok());
}
