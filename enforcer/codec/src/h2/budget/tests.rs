//! Budgets by hand.

use super::*;

fn frame(kind: u8, flags: u8, length: u32) -> Head {
    Head { length, kind, flags, stream: 1 }
}

fn budget(is_proved: bool) -> Budget {
    Budget::new(is_proved, Duration::ZERO)
}

/// How many of these in a row are taken.
fn taken(budget: &mut Budget, one: Head, now: Duration) -> u32 {
    (0..200_000).find(|_| !budget.take(one, now)).unwrap_or(200_000)
}

#[test]
fn h2_01_each_kind_of_frame_without_progress_has_its_budget() {
    for (kind, flags, length, most) in [
        (kind::PING, 0, 8, 100),
        (kind::PING, flag::ACK, 8, 100),
        (kind::SETTINGS, 0, 0, 50),
        (kind::SETTINGS, flag::ACK, 0, 50),
        (kind::PRIORITY, 0, 5, 100),
        (kind::PRIORITY_UPDATE, 0, 5, 100),
        (0x7f, 0, 0, 100),
        (kind::GOAWAY, 0, 8, 100),
        (kind::DATA, 0, 0, 100),
        (kind::RST_STREAM, 0, 4, 100),
        (kind::WINDOW_UPDATE, 0, 4, 100),
        (kind::CONTINUATION, 0, 100, 20),
    ] {
        let given = taken(&mut budget(false), frame(kind, flags, length), Duration::ZERO);
        assert_eq!(given, most, "frame type {kind}");
    }
    assert_eq!(
        taken(&mut budget(true), frame(kind::PING, 0, 8), Duration::ZERO),
        1_000,
        "of a proved caller"
    );
}

#[test]
fn h2_01_a_new_window_brings_a_new_budget() {
    let (mut budget, mut now) = (budget(false), Duration::ZERO);
    for _ in 0..5 {
        assert!((0..100).all(|_| budget.take(frame(kind::PING, 0, 8), now)));
        assert!(budget.take(frame(kind::HEADERS, 5, 30), now), "a call between");
        now += WINDOW;
    }
    assert_eq!(taken(&mut budget, frame(kind::PING, 0, 8), now), 100);
}

#[test]
fn h2_02_resets_are_bounded_over_the_life_of_a_connection() {
    let (mut budget, mut now, mut resets) = (budget(true), Duration::ZERO, 0);
    while budget.take(frame(kind::HEADERS, 5, 30), now) && budget.take(frame(kind::RST_STREAM, 0, 4), now) {
        resets += 1;
        if resets % 500 == 0 {
            now += WINDOW;
        }
    }
    assert_eq!(resets, 10_000);
}

#[test]
fn h2_02_calls_that_are_given_up_unanswered_are_bounded_by_fifty_or_a_tenth() {
    for (is_proved, most) in [(false, 50), (true, 500)] {
        let mut one = budget(is_proved);
        assert_eq!((0..10_000).find(|_| !one.gives_up()), Some(most), "{is_proved}");
    }
    let mut busy = budget(false);
    assert!((0..2_000).all(|_| busy.take(frame(kind::HEADERS, 5, 30), Duration::ZERO)));
    assert_eq!((0..10_000).find(|_| !busy.gives_up()), Some(200), "of a caller that makes many calls");
}

#[test]
fn h2_03_bytes_that_move_no_call_are_bounded() {
    assert_eq!(taken(&mut budget(false), frame(0x7f, 0, 16_000), Duration::ZERO), 4);
}

#[test]
fn callers_that_work_are_left_alone() {
    let mut budget = budget(false);
    for second in 0..100 {
        let now = Duration::from_secs(second);
        for _ in 0..200 {
            // A call and its answer in ten pieces, each acknowledged twice, with a measurement of the path.
            assert!(
                budget.take(frame(kind::HEADERS, 4, 40), now) && budget.take(frame(kind::DATA, 1, 100), now)
            );
            (0..10).for_each(|_| budget.sent());
            assert!((0..20).all(|_| budget.take(frame(kind::WINDOW_UPDATE, 0, 4), now)), "second {second}");
            assert!(budget.take(frame(kind::PING, 0, 8), now), "second {second}");
        }
        // One call in twelve is given up.
        assert!((0..16).all(|_| budget.take(frame(kind::RST_STREAM, 0, 4), now)), "second {second}");
    }
}
