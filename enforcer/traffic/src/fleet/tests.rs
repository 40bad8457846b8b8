//! Who is shut out, for how long, and how it comes back (OD-01 to OD-04); limits that hold exactly (EL-01).

use std::net::SocketAddr;

use proptest::prelude::*;

use super::outlier::stand_out;
use super::*;
use crate::window::Counts;

fn at(millis: u64) -> Mono {
    Mono::from_nanos(millis * 1_000_000 + 1)
}

fn fleet(n: u8) -> Fleet {
    fleet_with(n, FleetSettings { outlier: Some(OutlierSettings::default()), ..FleetSettings::default() })
}

fn fleet_with(n: u8, settings: FleetSettings) -> Fleet {
    Fleet::new(settings, &specs(0..n), None, 1, at(0))
}

fn specs(places: std::ops::Range<u8>) -> Vec<EndpointSpec> {
    let spec = |place| EndpointSpec::new(UpstreamProtocol::Http1, SocketAddr::from(([10, 0, 0, place], 80)));
    places.map(spec).collect()
}

/// One call from its beginning to its end.
fn call(fleet: &Fleet, place: usize, outcome: Outcome, now: Mono) -> Result<Option<Turn>, Busy> {
    let endpoint = &fleet.endpoints()[place];
    let entry = fleet.enter(place, false, now)?;
    let turn = fleet.tell(place, entry, outcome, now);
    endpoint.leave(entry);
    Ok(turn)
}

fn fail(fleet: &Fleet, place: usize, times: usize, now: Mono) -> Option<Turn> {
    (0..times).filter_map(|_| call(fleet, place, Outcome::Failed, now).ok().flatten()).last()
}

#[test]
fn od_01_five_failures_in_a_row_shut_an_endpoint() {
    let fleet = fleet(4);
    assert_eq!(fail(&fleet, 1, 4, at(0)), None);
    call(&fleet, 1, Outcome::Answered, at(0)).unwrap();
    assert_eq!(fail(&fleet, 1, 4, at(0)), None, "an answer starts the row again");
    let before = fleet.generation();
    let turn = fail(&fleet, 1, 1, at(0));
    assert!(matches!(turn, Some(Turn::Shut { place: 1, cause: Cause::InARow, .. })), "{turn:?}");
    assert_ne!(fleet.generation(), before);
    assert!(!fleet.endpoints()[1].is_usable(at(100)) && !fleet.endpoints()[1].is_healthy());
    assert_eq!(call(&fleet, 1, Outcome::Answered, at(100)), Err(Busy::Shut));
    assert_eq!(fleet.endpoints()[1].in_flight(), 0, "who was turned away counts no more");
}

#[test]
fn od_01_a_low_part_of_success_shuts_an_endpoint_from_twenty_calls() {
    let fleet = fleet(4);
    let outcome = |nth: u64| if nth.is_multiple_of(5) { Outcome::Answered } else { Outcome::Failed };
    let settings = OutlierSettings { failures_in_a_row: 100, ..OutlierSettings::default() };
    let patient = fleet_with(4, FleetSettings { outlier: Some(settings), ..FleetSettings::default() });
    for nth in 0..19 {
        assert_eq!(call(&patient, 0, outcome(nth), at(nth * 10)), Ok(None), "{nth}");
    }
    let turn = call(&patient, 0, Outcome::Failed, at(200)).unwrap();
    assert!(matches!(turn, Some(Turn::Shut { cause: Cause::Ratio, .. })), "{turn:?}");
    // The same calls spread over more than ten seconds are too few at any time.
    for nth in 0..40 {
        assert_eq!(call(&fleet, 0, outcome(nth * 5 + nth % 2), at(nth * 1_000)), Ok(None), "{nth}");
    }
}

#[test]
fn od_01_exactly_one_call_tries_whether_an_endpoint_is_back() {
    let fleet = fleet(4);
    fail(&fleet, 2, 5, at(0));
    let endpoint = &fleet.endpoints()[2];
    // At most one and a half seconds the first time.
    assert!(!endpoint.is_usable(at(400)) && endpoint.is_usable(at(1_501)));
    let trial = fleet.enter(2, false, at(1_600)).unwrap();
    assert!(trial.is_trial());
    for _ in 0..5 {
        assert_eq!(fleet.enter(2, false, at(1_600)), Err(Busy::Shut));
    }
    assert!(!endpoint.is_usable(at(9_999)));
    // It is given up by its caller: the next call tries.
    endpoint.leave(trial);
    let trial = fleet.enter(2, false, at(1_700)).unwrap();
    assert_eq!(fleet.tell(2, trial, Outcome::Answered, at(1_700)), Some(Turn::Opened { place: 2 }));
    endpoint.leave(trial);
    assert!(endpoint.is_open() && endpoint.warm_since() == Some(at(1_700)));
    assert_eq!(fail(&fleet, 2, 4, at(1_700)), None, "its past is forgotten");
}

#[test]
fn od_01_a_trial_that_fails_or_is_declined_doubles_the_back_off_up_to_a_minute() {
    for outcome in [Outcome::Failed, Outcome::Declined] {
        let fleet = fleet(4);
        let Some(Turn::Shut { for_, .. }) = fail(&fleet, 0, 5, at(0)) else { panic!("not shut") };
        let (mut now, mut expected) = (at(0) + for_, 1);
        for _ in 0..10 {
            expected = (expected * 2).min(60);
            let Ok(Some(Turn::Shut { cause: Cause::Trial, for_, .. })) = call(&fleet, 0, outcome, now) else {
                panic!("still shut");
            };
            let (least, most) = (expected * 500, (expected * 1_500).min(60_000));
            assert!(
                (least..=most).contains(&u64::try_from(for_.as_millis()).unwrap()),
                "{for_:?} {expected}"
            );
            now = now + for_;
        }
    }
}

#[test]
fn od_01_what_the_caller_gave_up_or_was_declined_shuts_nobody() {
    let fleet = fleet(4);
    for _ in 0..100 {
        for outcome in [Outcome::Nothing, Outcome::Declined] {
            assert_eq!(call(&fleet, 0, outcome, at(1)), Ok(None));
        }
    }
}

#[test]
fn od_03_at_most_half_are_shut_and_one_alone_never_is() {
    for n in 1..=9 {
        let fleet = fleet(n);
        for place in 0..usize::from(n) {
            fail(&fleet, place, 20, at(0));
        }
        let shut = fleet.endpoints().iter().filter(|endpoint| !endpoint.is_open()).count();
        assert_eq!(shut, usize::from(n / 2), "{n}");
    }
}

#[test]
fn od_03_no_more_than_a_tenth_is_out_by_comparison_however_often_they_are_compared() {
    let mut settings = OutlierSettings { failures_in_a_row: 1_000, ..OutlierSettings::default() };
    settings.least_success_percent = 0;
    let fleet = fleet_with(20, FleetSettings { outlier: Some(settings), ..FleetSettings::default() });
    let mut most = 0;
    for turn in 0..3_u64 {
        let now = at(10_000 * (turn + 1));
        for place in 0..20 {
            for nth in 0..100 {
                // Another one each time.
                let is_bad = nth < if place == turn as usize { 40 } else { 1 };
                let outcome = if is_bad { Outcome::Failed } else { Outcome::Answered };
                // Those that are shut take none.
                call(&fleet, place, outcome, now).ok();
            }
        }
        fleet.review(now);
        most = most.max(fleet.endpoints().iter().filter(|endpoint| !endpoint.is_open()).count());
    }
    assert_eq!(most, 2, "three of twenty stood out, and the sentence of the first is not over");
}

fn counts(rates: &[(u64, u64)]) -> Vec<Option<Counts>> {
    rates.iter().map(|&(good, bad)| Some(Counts { good, bad })).collect()
}

#[test]
fn od_02_who_succeeds_much_less_than_the_others_stands_out() {
    let settings = OutlierSettings::default();
    let mut fleet = vec![(980, 20); 9];
    fleet.push((930, 70));
    assert_eq!(stand_out(&counts(&fleet), &settings), [(9, Cause::Success)]);
    fleet[9] = (980, 20);
    assert_eq!(stand_out(&counts(&fleet), &settings), []);
    assert_eq!(stand_out(&counts(&[(98, 2), (98, 2), (98, 2), (93, 7)]), &settings), [], "too few endpoints");
    let few: Vec<_> = (0..9).map(|_| (99, 0)).chain([(90, 0)]).collect();
    assert_eq!(stand_out(&counts(&few), &settings), [], "too few calls");
}

#[test]
fn od_02_who_fails_five_times_as_often_as_the_mean_stands_out() {
    let mut fleet = vec![(20, 0); 9];
    fleet.push((10, 10));
    assert_eq!(stand_out(&counts(&fleet), &OutlierSettings::default()), [(9, Cause::Failure)]);
    fleet[9] = (4, 5);
    assert_eq!(stand_out(&counts(&fleet), &OutlierSettings::default()), [], "nine calls are too few");
}

#[test]
fn od_02_a_review_shuts_the_worst_tenth_for_thirty_seconds_and_longer_each_time() {
    let mut settings = OutlierSettings { failures_in_a_row: 1_000, ..OutlierSettings::default() };
    settings.least_success_percent = 0;
    let fleet = fleet_with(10, FleetSettings { outlier: Some(settings), ..FleetSettings::default() });
    let mut now = at(10_000);
    for times in 1..=3 {
        for place in 0..10 {
            for nth in 0..100 {
                let is_bad = nth < if place == 3 { 30 } else { 1 };
                let outcome = if is_bad { Outcome::Failed } else { Outcome::Answered };
                call(&fleet, place, outcome, now).unwrap();
            }
        }
        let turns = fleet.review(now);
        let for_ = Duration::from_secs(30 * times);
        let cause = Cause::Success;
        assert_eq!(turns, [Turn::Shut { place: 3, cause, for_ }]);
        assert_eq!(fleet.review(now), [], "once in ten seconds");
        now = now + for_;
        let turn = call(&fleet, 3, Outcome::Answered, now);
        assert_eq!(turn, Ok(Some(Turn::Opened { place: 3 })));
        now = now + Duration::from_secs(11);
    }
}

#[test]
fn od_04_limits_hold_exactly_under_threads() {
    let limits = Limits { endpoint_in_flight: 3, in_flight: 5, connections: 4, queued: 0 };
    let fleet = fleet_with(2, FleetSettings { limits, ..FleetSettings::default() });
    let (most, most_together) = (AtomicU64::new(0), AtomicU64::new(0));
    let together = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (fleet, most, together, most_together) = (&fleet, &most, &together, &most_together);
            scope.spawn(move || {
                for turn in 0..20_000 {
                    let place = (thread + turn) % 2;
                    let endpoint = &fleet.endpoints()[place];
                    if let Ok(entry) = fleet.enter(place, false, at(0)) {
                        most_together
                            .fetch_max(together.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        most.fetch_max(endpoint.in_flight().into(), Ordering::SeqCst);
                        together.fetch_sub(1, Ordering::SeqCst);
                        endpoint.leave(entry);
                    }
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 3 && most_together.load(Ordering::SeqCst) <= 5);
    let one = &fleet.endpoints()[0];
    let entries: Vec<_> = (0..3).map(|_| fleet.enter(0, false, at(0)).unwrap()).collect();
    assert_eq!(fleet.enter(0, false, at(0)), Err(Busy::Endpoint));
    let other = &fleet.endpoints()[1];
    let more: Vec<_> = (0..2).map(|_| fleet.enter(1, false, at(0)).unwrap()).collect();
    assert_eq!(fleet.enter(1, false, at(0)), Err(Busy::Cluster));
    assert_eq!(other.in_flight(), 2);
    entries.into_iter().for_each(|entry| one.leave(entry));
    more.into_iter().for_each(|entry| other.leave(entry));
    assert!((0..4).all(|_| one.connect(fleet.limits())) && !other.connect(fleet.limits()));
    one.disconnect();
    assert!(other.connect(fleet.limits()));
}

#[test]
fn a_reload_keeps_what_is_known_of_endpoints_that_stay() {
    let old = fleet(3);
    fail(&old, 2, 5, at(0));
    let entry = old.enter(1, false, at(0)).unwrap();
    let settings = FleetSettings { outlier: Some(OutlierSettings::default()), ..FleetSettings::default() };
    let new = Fleet::new(settings, &specs(1..5), Some(&old), 2, at(9_000));
    assert_eq!(new.endpoints().iter().map(|one| one.in_flight()).collect::<Vec<_>>(), [1, 0, 0, 0]);
    assert!(!new.endpoints()[1].is_open() && new.generation() > old.generation());
    let warm: Vec<_> = new.endpoints().iter().map(|one| one.warm_since().is_some()).collect();
    assert_eq!(warm, [false, false, true, true]);
    old.endpoints()[1].leave(entry);
    assert_eq!(new.endpoints()[0].in_flight(), 0);
}

proptest! {
    /// Whatever happens, the gate moves only along its states, nobody is lost, and no more than half are shut.
    #[test]
    fn od_01_the_state_machine_takes_no_invalid_move(
        steps in proptest::collection::vec((0_usize..6, 0_u8..4, 0_u64..5_000), 1..400),
    ) {
        let fleet = fleet(6);
        let mut now = 0;
        for (place, outcome, passed) in steps {
            now += passed;
            let outcome = [Outcome::Answered, Outcome::Failed, Outcome::Declined, Outcome::Nothing][usize::from(outcome)];
            let endpoint = &fleet.endpoints()[place];
            let (was_open, was_usable) = (endpoint.is_open(), endpoint.is_usable(at(now)));
            match call(&fleet, place, outcome, at(now)) {
                Err(busy) => prop_assert!(busy == Busy::Shut && !was_usable),
                Ok(Some(Turn::Opened { .. })) => prop_assert!(!was_open && endpoint.is_open()),
                Ok(Some(Turn::Shut { cause, .. })) => prop_assert!(was_open != (cause == Cause::Trial) && !endpoint.is_open()),
                Ok(None) => prop_assert_eq!(was_open, endpoint.is_open()),
            }
            prop_assert!(fleet.endpoints().iter().all(|one| one.in_flight() == 0));
            prop_assert!(fleet.endpoints().iter().filter(|one| !one.is_open()).count() <= 3);
        }
    }
}
