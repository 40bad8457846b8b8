//! Records before effects, one view per call, and observe mode.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use policies_engine::{Audit, Effect, Mode, Patience, Phase, Reason};

use super::harness::{POLICY, Setup, snapshot};
use super::origin::Origin;
use crate::View;

fn strict() -> String {
    POLICY.replace("@id(\"web-site\")", "@id(\"web-site\") @audit(\"required\")")
}

#[tokio::test]
async fn pa_07_a_record_that_is_required_and_refused_stops_the_call() {
    let origin = Origin::h1().await;
    let gateway = Setup { policy: Some(strict()), ..Setup::with_h1(origin.address) }.start();
    gateway.records.fails.store(true, Ordering::Relaxed);
    let (mut old, mut new) = (gateway.h1("/web").await, gateway.h2("/web").await);
    let answer = old.get("/hello").await;
    assert_eq!((answer.status, answer.json()["reason"].as_str()), (503, Some("unavailable")));
    assert_eq!(new.get("site.test", "/hello").await.status, 503);
    assert_eq!((origin.connections(), origin.requests()), (0, 0), "nothing reached the upstream");
    let records = gateway.records.all();
    let reasons: Vec<_> = records.iter().map(|(_, record)| (record.reason, record.audit)).collect();
    let (permit, refused) =
        ((Reason::Permit, Audit::Required), (Reason::AuditUnavailable, Audit::BestEffort));
    assert_eq!(reasons, [permit, refused, permit, refused]);
    let (id, _) = &records[1];
    assert_eq!(
        answer.field("portcullis-decision-id"),
        Some(id.to_string().as_str()),
        "the record that holds"
    );
    gateway.records.fails.store(false, Ordering::Relaxed);
    assert_eq!(old.get("/hello").await.status, 200, "once there is room again");
}

#[tokio::test]
async fn re3_pa_07_a_record_is_fixed_and_kept_before_the_upstream_hears_of_the_call() {
    let origin = Origin::h1().await;
    let gateway = Setup { policy: Some(strict()), ..Setup::with_h1(origin.address) }.start();
    let (mut old, mut new) = (gateway.h1("/web").await, gateway.h2("/web").await);
    for (calls, is_new) in [(1, false), (2, true)] {
        gateway.records.waits.store(true, Ordering::Relaxed);
        let looking = async {
            gateway.records.wait(calls).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            // Nobody has kept it yet, so the call has not left.
            assert_eq!(origin.requests(), calls - 1);
            let fixed = gateway.records.last();
            gateway.records.waits.store(false, Ordering::Relaxed);
            fixed
        };
        let asking = async {
            if is_new { new.get("site.test", "/hello").await.status } else { old.get("/hello").await.status }
        };
        let (status, (id, fixed)) = tokio::join!(asking, looking);
        assert_eq!((status, origin.requests(), fixed.audit), (200, calls, Audit::Required));
        // What the call came to is no part of it.
        let (last, kept) = gateway.records.last();
        assert_eq!(
            (last, kept.effect, kept.time.wall, gateway.records.all().len()),
            (id, fixed.effect, fixed.time.wall, calls)
        );
    }
}

#[tokio::test]
async fn sh4_observe_lets_pass_and_records_what_it_would_have_denied() {
    let origin = Origin::h1().await;
    let gateway = Setup { mode: Mode::Observe, ..Setup::with_h1(origin.address) }.start();
    let mut other = gateway.h1("/other").await;
    assert_eq!(other.get("/hello").await.status, 200);
    let (_, record) = gateway.records.last();
    assert_eq!((record.effect, record.reason, record.mode), (Effect::Allow, Reason::NoPermit, Mode::Observe));
    let would = record.would.unwrap();
    assert_eq!((would.effect, would.reason), (Effect::Deny, Reason::NoPermit));
    let series = "portcullis_decisions_total{effect=\"allow\",would=\"deny\",reason=\"no_permit\",mode=\"observe\",service=\"shop\"}";
    gateway.metric(series, 1).await;
    let answer = other.ask("GET / HTTP/1.1\r\nhost: nowhere.test\r\n\r\n").await;
    assert_eq!(answer.status, 404, "an unknown route is never softened");
}

#[tokio::test]
async fn st8_stale_policies_are_said_on_record_and_expired_ones_deny_also_in_observe_mode() {
    let origin = Origin::h1().await;
    let gateway = Setup { mode: Mode::Observe, ..Setup::with_h1(origin.address) }.start();
    let mut web = gateway.h1("/web").await;
    let mut seen = Vec::new();
    for minutes in [0, 5, 24 * 60, 0] {
        let view = gateway.view.current();
        let silence = Duration::from_secs(minutes * 60);
        gateway.view.publish(View::clone(&view).after_silence(silence, Patience::default()));
        let status = web.get("/hello").await.status;
        let (_, record) = gateway.records.last();
        seen.push((status, record.effect, record.reason, record.stale));
    }
    let passes = |stale| (200, Effect::Allow, Reason::Permit, stale);
    let denied = (503, Effect::Deny, Reason::PolicyStale, true);
    assert_eq!(seen, [passes(false), passes(true), denied, passes(false)]);
    assert_eq!(origin.requests(), 3);
}

#[tokio::test]
async fn st8_a_route_has_its_own_patience_with_a_silent_publisher() {
    let (origin, other) = (Origin::h1().await, Origin::h2().await);
    let (minute, never) = (Duration::from_secs(60), Some(Duration::ZERO));
    let mut seen = Vec::new();
    for patience in [(never, never), (Some(minute), Some(2 * minute)), (Some(minute), None)] {
        let setup = Setup { h2: vec![other.address], patience, ..Setup::with_h1(origin.address) };
        let gateway = setup.start();
        let (mut own, mut general) = (gateway.h1("/web").await, gateway.h2("/web").await);
        for minutes in [1, 2, 24 * 60] {
            let view = View::clone(&gateway.view.current());
            gateway.view.publish(view.after_silence(minutes * minute, Patience::default()));
            let status = own.get("/hello").await.status;
            let stale = gateway.records.last().1.stale;
            seen.push((status, stale, general.get("h2.test", "/hello").await.status));
        }
    }
    let expected = [
        [(200, false, 200), (200, false, 200), (200, false, 503)],
        [(200, true, 200), (503, true, 200), (503, true, 503)],
        [(200, true, 200), (200, true, 200), (503, true, 503)],
    ];
    assert_eq!(seen, expected.concat());
}

#[tokio::test]
async fn pa_02_no_call_is_judged_by_a_mixture() {
    let origin = Origin::h1().await;
    let gateway = Setup { workers: 2, ..Setup::with_h1(origin.address) }.start();
    // Odd snapshots let `web` pass, even ones do not.
    let closed = POLICY.replace("/web\"", "/nobody\"");
    let compiled: Vec<_> =
        (2..8).map(|number| snapshot(if number % 2 == 0 { &closed } else { POLICY }, number)).collect();
    let publishing = async {
        for next in compiled.iter().cycle().take(60) {
            gateway.view.publish(View::new(Some(Arc::clone(next)), Arc::clone(&gateway.routes)));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let asking = async {
        let mut statuses = [0; 2];
        let (mut old, mut new) = (gateway.h1("/web").await, gateway.h2("/web").await);
        while gateway.view.generation() < 60 {
            for answer in [old.get("/hello").await, new.get("site.test", "/hello").await] {
                match answer.status {
                    200 => statuses[0] += 1,
                    403 => statuses[1] += 1,
                    other => panic!("a call was lost: {other}"),
                }
            }
        }
        statuses
    };
    let ((), statuses) = tokio::join!(publishing, asking);
    assert!(statuses.iter().all(|count| *count > 0), "{statuses:?}");
    let records = gateway.records.all();
    // A call that was under way when it lost its permit has a second record (CT-05).
    let first = records.iter().filter(|(_, record)| record.phase == Phase::Request).count();
    assert_eq!(first, statuses[0] + statuses[1], "none lost, none twice");
    for (_, record) in records {
        let number = record.versions.unwrap().numbers.snapshot;
        assert_eq!(record.effect == Effect::Allow, number % 2 == 1, "snapshot {number}");
    }
}

#[test]
fn pa_01_only_the_authorizer_makes_a_permitted_call() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut makers = Vec::new();
    let mut open = vec![root];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let needle = ["Permitted", " {"].concat();
            let made = text
                .lines()
                .filter(|line| line.contains(&needle) && !line.contains("struct") && !line.contains("impl"));
            makers.extend(made.map(|_| path.file_name().unwrap().to_owned()));
        }
    }
    assert_eq!(makers, ["authorize.rs"], "one constructor, in the authorizer");
}
