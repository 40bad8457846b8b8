//! The completeness view: who runs, who ended how, who fell silent, what was lost (SQ4).

use std::time::Duration;

use super::*;
use crate::{Alarm, Standing, testing::Held};

fn items(ledger: &Ledger, uri: &str) -> Vec<Value> {
    let (status, _, body) = get(ledger, uri);
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body.get("partial").is_none(), "{body}");
    body["items"].as_array().unwrap().clone()
}

#[test]
fn sq4_a_boot_that_was_killed_is_recovered_with_its_gaps_and_alarms_nobody() {
    let (disk, clock) = (MemoryDisk::new(), clock());
    let killed = open_with(config(), Arc::new(disk.clone()), Arc::<_>::clone(&clock) as _).unwrap();
    drop(killed.lane(0).record(example()));
    eventually("written", || killed.stats().next_index == 2);
    let left = disk.copy();
    let ledger = open_with(config(), Arc::new(left), Arc::<_>::clone(&clock) as _).unwrap();
    clock.advance(Duration::from_secs(3_600));
    let streams = items(&ledger, "/v1/decisions/streams");
    let of = |boot: [u8; 8]| {
        let boot: String = boot.iter().map(|byte| format!("{byte:02x}")).collect();
        streams.iter().find(|stream| stream["boot"] == boot.as_str()).unwrap()
    };
    assert_eq!(of(killed.boot())["state"], "recovered");
    eventually("its heartbeat is heard", || ledger.alarms().is_empty());
    assert_eq!(ledger.stats().lost, 0);
    let gaps = items(&ledger, "/v1/decisions/gaps");
    assert!(gaps.len() >= 2 && gaps.iter().all(|gap| gap["cause"] == "crash" && gap["exact"] == false));
    let worker = gaps.iter().find(|gap| gap["lane"] == 0).unwrap();
    assert_eq!((worker["first"].as_str(), worker["instance"].as_str()), (Some("2"), Some("gw-1")));
    // Once more, and the first two have both ended.
    ledger.close();
    let standings: Vec<_> =
        items(&ledger, "/v1/decisions/streams").iter().map(|stream| stream["state"].clone()).collect();
    assert_eq!(standings.len(), 2);
    assert!(standings.contains(&"closed".into()) && standings.contains(&"recovered".into()), "{standings:?}");
    killed.close();
}

#[test]
fn sq4_an_enforcer_whose_heartbeats_do_not_come_is_an_alarm_until_one_does() {
    let (held, clock) = (Held::default(), clock());
    let ledger = open_with(config(), Arc::new(held.clone()), Arc::<_>::clone(&clock) as _).unwrap();
    assert_eq!(ledger.roll()[0].standing, Standing::Running);
    held.hold();
    clock.advance(Duration::from_secs(31));
    let alarms = ledger.alarms();
    assert!(
        matches!(alarms.as_slice(), [Alarm::Silent { boot, .. }] if boot.boot == ledger.boot()),
        "{alarms:?}"
    );
    assert_eq!(items(&ledger, "/v1/decisions/streams")[0]["state"], "silent");
    held.release();
    eventually("it is heard again", || ledger.alarms().is_empty());
    ledger.close();
}

#[test]
fn lg6_records_of_a_ledger_beside_this_one_bring_their_boot_with_its_end() {
    let (disk, clock) = (MemoryDisk::new(), clock());
    let aside = crate::LedgerConfig { dir: "/aside".into(), ..config() };
    let other = open_with(aside, Arc::new(disk.clone()), Arc::<_>::clone(&clock) as _).unwrap();
    drop(other.lane(0).record(example()));
    other.close();
    let ledger = open_with(config(), Arc::new(disk), Arc::<_>::clone(&clock) as _).unwrap();
    ledger.adopt(std::path::Path::new("/aside")).unwrap();
    let standing = |boot| ledger.roll().iter().find(|heard| heard.boot.boot == boot).unwrap().standing;
    assert_eq!((standing(other.boot()), standing(ledger.boot())), (Standing::Closed, Standing::Running));
    ledger.close();
}

#[test]
fn rr1_streams_and_gaps_are_seen_through_the_trust_domain() {
    let (ledger, _) = filled();
    for uri in ["/v1/decisions/streams", "/v1/decisions/gaps"] {
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let body = wait(async {
            let request = asked_by(request, reader(1001, &["shop"]));
            let answer = router(ledger.clone(), Options::default()).oneshot(request).await.unwrap();
            to_bytes(answer.into_body(), 1 << 20).await.unwrap()
        });
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["items"], json!([]), "{uri}");
    }
    assert_eq!(items(&ledger, "/v1/decisions/streams?enforcer=spiffe://example.org/gateway").len(), 1);
    assert_eq!(items(&ledger, "/v1/decisions/streams?enforcer=spiffe://example.org/other").len(), 0);
    let (status, _, body) = get(&ledger, "/v1/decisions/gaps?kind=read");
    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("unknown-filter")));
}
