//! Every member survives, equal records give equal bytes, and no bytes make the reader panic.

mod capped;
mod dropped;
mod generated;

use std::{collections::BTreeMap, sync::Arc};

use crate::proof::LogView;
use base_ports::{Mono, Now};
use policies_engine::{
    Action, ActivationRecord, AdministrationRecord, Audit, AuthorityRecord, Credential, CredentialKind,
    DecisionRecord, Declared, Effect, ErrorClass, Evaluated, Mode, OwnedRequest, Phase, PolicyError,
    Principal, Protocol, ReadRecord, Reason, Record, Resource, Versions,
};
use proptest::prelude::*;

use super::{encode::Head, *};
use generated::*;

use crate::{
    cbor::Writer,
    redact::Redaction,
    testing::{allow, example, placed, versions},
};

fn stream() -> Stream {
    Stream {
        enforcer: "spiffe://example.org/gateway".to_owned(),
        instance: "gw-1".to_owned(),
        boot: [0x9f, 0x1c, 0x22, 0xab, 0x04, 0xd7, 0xe6, 0x11],
        lane: 1,
        seq: 48_211,
    }
}

fn encoded_with(record: &Record, lost: u64) -> Vec<u8> {
    encoded_by(record, lost, &Redaction::default())
}

fn encoded_by(record: &Record, lost: u64, redaction: &Redaction) -> Vec<u8> {
    let stream = stream();
    let id = DecisionId::new(1_795_330_800_123, 0x1234, 48_211);
    let mut out = Vec::new();
    encode::record(&mut out, Head { id, stream: &stream, seq: stream.seq, lost, redaction }, record);
    out
}

fn encoded(record: DecisionRecord) -> Vec<u8> {
    encoded_with(&Record::Decision(Box::new(record)), 0)
}

fn decoded(leaf: Vec<u8>) -> StoredRecord {
    StoredRecord::decode(864_201, leaf.into()).unwrap()
}

/// Compares with a file of `testdata/`; `BLESS=1` rewrites it.
#[track_caller]
fn assert_golden(name: &str, actual: &[u8]) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read(&path).unwrap();
    assert!(expected == actual, "{name} changed:\n{}", String::from_utf8_lossy(actual));
}

fn proved_by(credential: &Credential) -> StoredCredential {
    StoredCredential {
        kind: credential.kind.as_str().to_owned(),
        serial: credential.serial.clone(),
        fingerprint: credential.fingerprint,
        issuer: credential.issuer.clone(),
        not_after: credential.not_after,
    }
}

#[test]
fn re9_the_golden_leaf_of_version_1_is_still_written_and_read() {
    let leaf = encoded(example());
    assert_golden("leaf-v1-decision.cbor", &leaf);
    let shown =
        serde_json::to_string_pretty(&decoded(leaf).to_json(&LogView::named("example.org/decisions/main")))
            .unwrap();
    assert_golden("leaf-v1-decision.json", format!("{shown}\n").as_bytes());
}

/// Names and values with everything that is awkward somewhere.
fn plain(errors: &[PolicyError]) -> Vec<(String, String)> {
    errors.iter().map(|error| (error.policy.to_string(), error.class.as_str().to_owned())).collect()
}

fn names(ids: &[Arc<str>]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// What must come back, written down from the record member by member.
fn expected(record: &DecisionRecord) -> DecisionBody {
    DecisionBody {
        effect: record.effect,
        reason: record.reason.to_string(),
        detail: record.detail.clone(),
        mode: record.mode,
        phase: record.phase.as_str().to_owned(),
        would: record.would.as_ref().map(|would| Would {
            effect: would.effect,
            reason: would.reason.to_string(),
            determining: names(&would.determining),
            errors: plain(&would.errors),
            version: would.version,
        }),
        credential: record.credential.as_deref().map(proved_by),
        behalf: None,
        action: record.action.to_string(),
        resource: Entity {
            kind: record.resource.entity_type().to_owned(),
            id: record.resource.id().to_owned(),
        },
        service: record.resource.service().map(str::to_owned),
        namespace: record.resource.namespace().map(str::to_owned),
        caller_namespace: record
            .versions
            .as_ref()
            .and_then(|versions| versions.homes.get(record.principal.id()))
            .map(str::to_owned),
        tickets: Vec::new(),
        determining: names(&record.determining),
        errors: plain(&record.errors),
        evaluated: record.evaluated.as_str().to_owned(),
        stale: record.stale,
        decide_ns: record.decide_ns,
        facts: record
            .facts
            .as_ref()
            .map(|facts| OwnedFacts::copy(facts.as_ref(), &record.versions.as_ref().unwrap().declared)),
        trace: record.trace,
        audit: record.audit,
    }
}

proptest! {
    #[test]
    fn every_member_of_a_decision_round_trips(record in records(), lost in prop_oneof![Just(0_u64), any::<u64>()]) {
        let leaf = encoded_with(&Record::Decision(Box::new(record.clone())), lost);
        prop_assert_eq!(&leaf, &encoded_with(&Record::Decision(Box::new(record.clone())), lost));
        let stored = decoded(leaf.clone());
        prop_assert_eq!(stored.decision().unwrap(), &expected(&record));
        prop_assert_eq!(&stored.leaf[..], &leaf[..]);
        prop_assert_eq!(stored.kind, Kind::DECISION);
        prop_assert_eq!(&stored.stream, &stream());
        prop_assert_eq!(stored.id, DecisionId::new(1_795_330_800_123, 0x1234, 48_211));
        prop_assert_eq!((stored.time, stored.mono), (record.time.wall, record.time.mono.as_nanos()));
        prop_assert_eq!((stored.principal.kind.as_str(), stored.principal.id.as_str()),
            (record.principal.entity_type(), record.principal.id()));
        prop_assert_eq!(stored.lost, lost);
        prop_assert_eq!(stored.versions.map(|v| (v.numbers, v.manifest, v.schema, v.entities, v.routes, v.engine)), {
            let v = versions();
            Some((v.numbers, v.manifest, v.schema, v.entities, v.routes, v.engine.to_string()))
        });
        prop_assert!(stored.truncated.is_empty() && stored.extra.is_empty());
    }

    #[test]
    fn one_pass_sees_what_decoding_sees(record in records(), flip in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut leaf = encoded(record.clone());
        let stored = decoded(leaf.clone());
        let decision = stored.decision().unwrap();
        let decided = Decided::of(&leaf, &mut Shared::default()).unwrap().unwrap();
        prop_assert_eq!((decided.id, decided.time), (stored.id, stored.time));
        prop_assert_eq!((decided.reason, decided.phase), (decision.reason.as_str(), decision.phase.as_str()));
        prop_assert_eq!(decided.principal, (stored.principal.kind.as_str(), stored.principal.id.as_str()));
        prop_assert_eq!(decided.resource, (decision.resource.kind.as_str(), decision.resource.id.as_str()));
        prop_assert_eq!(decided.action, decision.action.as_str());
        prop_assert_eq!((decided.service, decided.namespace), (decision.service.as_deref(), decision.namespace.as_deref()));
        prop_assert_eq!(&decided.determining, &decision.determining);
        prop_assert_eq!(decided.snapshot, stored.versions.as_ref().map(|versions| versions.numbers.snapshot));
        prop_assert_eq!(decided.schema, stored.versions.as_ref().map(|versions| versions.schema));
        let declared = &record.versions.as_ref().unwrap().declared;
        let facts = decided.facts.as_ref().map(|facts| OwnedFacts::copy(facts, declared));
        prop_assert_eq!(facts.as_ref(), decision.facts.as_ref());
        prop_assert!(decided.cut.is_empty());

        // What is damaged is refused or read, never a panic; what is read whole is read in one pass too.
        let at = flip.index(leaf.len());
        leaf[at] ^= 1 << bit;
        let whole = StoredRecord::decode(0, leaf.clone().into());
        let one = Decided::of(&leaf, &mut Shared::default());
        prop_assert!(whole.is_err() || one.is_ok(), "{:?}", one.err());
    }

    #[test]
    fn a_view_sees_what_decoding_sees(record in records()) {
        let leaf = encoded(record.clone());
        let view = View::of(&leaf).unwrap();
        prop_assert_eq!(View::peek_id(&leaf), Some(decoded(leaf.clone()).id));
        prop_assert_eq!(view.place().unwrap().seq, stream().seq);
        prop_assert_eq!(view.principal(), Some(record.principal.id()));
        prop_assert_eq!(view.resource(), Some(record.resource.id()));
        prop_assert_eq!(view.service, record.resource.service());
        prop_assert_eq!(view.time, record.time.wall.as_nanos());
        prop_assert_eq!(view.policies_version(), Some(41));
        prop_assert_eq!(view.would_effect().is_some(), record.would.is_some());
        prop_assert_eq!(view.enforcer(), Some("spiffe://example.org/gateway"));
        for policy in record.determining.iter() {
            prop_assert!(view.is_determined_by(policy));
        }
        prop_assert!(!view.is_determined_by("no such policy"));
    }

    #[test]
    fn random_bytes_never_panic_a_reader(bytes: Vec<u8>) {
        prop_assert_eq!(View::of(&bytes).is_err() , true);
        prop_assert!(View::peek_id(&bytes).is_none() || bytes.len() > 16);
        prop_assert!(StoredRecord::decode(0, bytes.clone().into()).is_err());
        prop_assert!(decode::gap(&bytes).is_err());
    }

    #[test]
    fn a_damaged_leaf_never_panics_a_reader(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let mut leaf = encoded(example());
        let at = at.index(leaf.len());
        leaf[at] = byte;
        let view = View::of(&leaf).is_ok();
        if let Ok(record) = StoredRecord::decode(0, leaf.clone().into()) {
            prop_assert!(view);
            prop_assert!(!json_text(&record.to_json(&LogView::named("o"))).is_empty());
        }
        leaf.truncate(cut.index(leaf.len()));
        prop_assert!(StoredRecord::decode(0, leaf.into()).is_err());
    }

    #[test]
    fn dl4_hostile_text_is_escaped_on_the_way_out_and_reads_back(text in "\\PC{0,8}", mark in prop::sample::select(vec!['\u{1b}', '\n', '\u{7f}', '\u{85}', '\u{202e}', '\u{2066}', '\u{feff}', '\u{200b}'])) {
        let path = format!("/{text}{mark}\"<b>&\\'=1+1");
        let mut record = example();
        let request = OwnedRequest { path: path.clone(), ..OwnedRequest::default() };
        record.facts = Some(OwnedFacts::local("l").with_request(request).into());
        let shown = json_text(&decoded(encoded(record)).to_json(&LogView::named("o")));
        prop_assert!(!shown.chars().any(|c| c.is_control() || c == mark), "{shown}");
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
        prop_assert_eq!(read.pointer("/request/path").unwrap(), &path);
    }
}

#[test]
fn other_kinds_round_trip() {
    let time = example().time;
    let details = vec![("serial".to_owned(), "5b".to_owned()), ("entry".to_owned(), "a\nb".to_owned())];
    let who = Principal::local_user(1000, None, &[]);
    let records = [
        Record::Activation(ActivationRecord {
            versions: Arc::new(versions()),
            outcome: "refused".to_owned(),
            principal: None,
            detail: Some("PC2001".to_owned()),
            time,
        }),
        Record::Authority(AuthorityRecord {
            event: "issued".to_owned(),
            principal: Some(who.clone()),
            subject: Some("spiffe://example.org/web".to_owned()),
            details: details.clone(),
            time,
        }),
        Record::Read(ReadRecord {
            count: 7,
            bytes: 900,
            is_partial: true,
            failed: Some("ledger-unreadable".to_owned()),
            purpose: Some("case 12".to_owned()),
            credential: example().credential,
            ..ReadRecord::new(who.clone(), "list", "effect=deny".to_owned(), time)
        }),
        Record::Administration(AdministrationRecord {
            operation: "retention".to_owned(),
            principal: None,
            details: details.clone(),
            time,
        }),
    ];
    let bodies = records.iter().map(|record| decoded(encoded_with(record, 0))).collect::<Vec<_>>();
    let itself = Entity { kind: "Workload".to_owned(), id: "spiffe://example.org/gateway".to_owned() };
    let user = Entity { kind: "Portcullis::LocalUser".to_owned(), id: "1000".to_owned() };
    let principals: Vec<_> = bodies.iter().map(|record| &record.principal).collect();
    assert_eq!(principals, [&itself, &user, &user, &itself]);
    assert_eq!(bodies[0].versions.as_ref().unwrap().numbers, versions().numbers);
    let expected = [
        Body::Activation { outcome: "refused".to_owned(), detail: Some("PC2001".to_owned()) },
        Body::Authority {
            event: "issued".to_owned(),
            subject: Some("spiffe://example.org/web".to_owned()),
            details: details.clone(),
        },
        Body::Read(Reading {
            call: Some("list".to_owned()),
            query: "effect=deny".to_owned(),
            count: 7,
            bytes: 900,
            is_partial: true,
            failed: Some("ledger-unreadable".to_owned()),
            purpose: Some("case 12".to_owned()),
            credential: example().credential.as_deref().map(proved_by),
        }),
        Body::Administration { operation: "retention".to_owned(), details },
    ];
    assert_eq!(bodies.into_iter().map(|record| record.body).collect::<Vec<_>>(), expected);
}

#[test]
fn records_of_the_ledger_itself_round_trip() {
    let gap = |range, exact| Gap {
        boot: [7; 8],
        lane: 3,
        range,
        exact,
        count: 5,
        cause: GapCause::QueueFull,
        from: range.map(|_| UnixTime::from_secs(1)),
        to: range.map(|_| UnixTime::from_secs(2)),
        effects: [("allow".to_owned(), 4), ("deny".to_owned(), 1)].into(),
        reasons: [("permit".to_owned(), 4), ("identity_untrusted".to_owned(), 1)].into(),
    };
    let bodies = [
        Body::Gap(gap(Some((771, 775)), true)),
        Body::Gap(gap(None, false)),
        Body::Heartbeat(Heartbeat {
            lanes: [(0, 9), (65_535, u64::MAX)].into(),
            lost: 4,
            ..Heartbeat::default()
        }),
        Body::Heartbeat(Heartbeat {
            is_last: true,
            signature: Some(vec![7; 71].into()),
            ..Heartbeat::default()
        }),
        Body::StreamOpen { build: "portcullis 0.1.0".to_owned(), chain: Vec::new() },
        Body::StreamOpen {
            build: "portcullis 0.1.0".to_owned(),
            chain: vec![vec![48; 700].into(), vec![49; 3].into()],
        },
        Body::StreamClose { lanes: [(1, 2)].into() },
        Body::Recovery { boot: [1; 8], lanes: vec![(0, 17, 4_096), (65_534, 0, 4_096)] },
    ];
    for body in bodies {
        let stream = stream();
        let head = Head {
            id: DecisionId::new(1, 2, 3),
            stream: &stream,
            seq: 3,
            lost: 0,
            redaction: &Redaction::default(),
        };
        let mut leaf = Vec::new();
        encode::own(&mut leaf, head, example().time, &body);
        let record = decoded(leaf);
        assert_eq!(record.body, body);
        assert!(record.extra.is_empty());
        assert!(record.to_json(&LogView::named("o")).get("body").is_some_and(serde_json::Value::is_object));
    }
}

#[test]
fn rr2_a_record_tells_both_namespaces_and_the_tickets_of_its_policies() {
    let mut record = placed();
    record.determining = ["a".into(), "carts-write".into()].into();
    let leaf = encoded(record.clone());
    let stored = decoded(leaf.clone());
    let decision = stored.decision().unwrap();
    assert_eq!(decision, &DecisionBody { tickets: vec!["SEC-12".to_owned()], ..expected(&record) });
    assert_eq!(
        (decision.namespace.as_deref(), decision.caller_namespace.as_deref()),
        (Some("shop"), Some("front"))
    );
    let view = View::of(&leaf).unwrap();
    assert_eq!((view.callee(), view.caller()), (Some("shop"), Some("front")));
    assert!(view.has_ticket("SEC-12") && !view.has_ticket("SEC"));
    // Only a workload is in a namespace, whatever else bears its name.
    record.principal = Principal::agent("spiffe://example.org/web");
    assert_eq!(decoded(encoded(record)).decision().unwrap().caller_namespace, None);
}

#[test]
fn re9_unknown_members_are_kept_and_shown() {
    let mut leaf = Vec::new();
    Writer::new(&mut leaf).int_map(|map| {
        // The golden members, with one more in the map itself and one in `stream`.
        let known = encoded(allow());
        let mut members = Vec::new();
        crate::cbor::Reader::new(&known)
            .int_map(|at, value| {
                members.push((at, value.skip()?.to_vec()));
                Ok(())
            })
            .unwrap();
        for (at, value) in members {
            if at == key::STREAM {
                map.key(at).text_map(|map| {
                    map.key("seq").uint(1);
                    map.key("boot").bytes(&[0; 8]);
                    map.key("lane").uint(2);
                    map.key("shard").uint(9);
                });
            } else {
                map.key(at).raw(&value);
            }
        }
        map.key(99).text_map(|map| map.key("new").bytes(&[0xab]));
    });
    let record = decoded(leaf.clone());
    assert_eq!(record.leaf, leaf);
    let shown = record.to_json(&LogView::named("o"));
    assert_eq!(shown["extra"], serde_json::json!({"stream.shard": 9, "99": {"new": "ab"}}));
}

#[test]
fn a_leaf_of_another_version_is_refused_not_guessed() {
    let mut leaf = encoded(allow());
    assert_eq!(leaf[1..3], [0, 1], "v comes first");
    leaf[2] = 2;
    assert_eq!(StoredRecord::decode(0, leaf.clone().into()), Err(LeafError::Version(2)));
    assert_eq!(View::of(&leaf).map(|view| view.time), Err(LeafError::Version(2)));
    assert_eq!(View::peek_id(&leaf), None);
    assert_eq!(StoredRecord::decode(0, vec![0xa0].into()), Err(LeafError::Missing("v")));
    assert_eq!(StoredRecord::decode(0, vec![0xa1, 0, 1].into()), Err(LeafError::Missing("kind")));
}
