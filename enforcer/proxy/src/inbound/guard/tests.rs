//! Budgets by hand, and headers found however the bytes are cut.

use super::*;
use base_ports::{ManualClock, UnixTime};
use proptest::prelude::*;

const GOAWAY: u8 = 7;

fn frame(kind: u8, flags: u8, length: u32) -> Frame {
    Frame { length, kind, flags }
}

fn budget(times: u32) -> (Arc<ManualClock>, Budget) {
    let clock = Arc::new(ManualClock::new(UnixTime::from_secs(0)));
    let since = clock.mono();
    let held: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    (clock, Budget { clock: held, times, since, window: Counts::default(), life: Life::default() })
}

/// How many of these in a row are taken.
fn taken(budget: &mut Budget, one: Frame) -> u32 {
    (0..200_000).find(|_| !budget.take(one)).unwrap_or(200_000)
}

#[test]
fn h2_01_each_kind_of_frame_without_progress_has_its_budget() {
    for (kind, flags, length, most) in [
        (kind::PING, 0, 8, 100),
        (kind::PING, ACK, 8, 100),
        (kind::SETTINGS, 0, 0, 50),
        (kind::PRIORITY, 0, 5, 100),
        (kind::PRIORITY_UPDATE, 0, 5, 100),
        (0x7f, 0, 0, 100),
        (GOAWAY, 0, 8, 100),
        (kind::DATA, 0, 0, 100),
        (kind::RST_STREAM, 0, 4, 100),
        (kind::WINDOW_UPDATE, 0, 4, 100),
        (kind::CONTINUATION, 0, 100, 20),
    ] {
        assert_eq!(taken(&mut budget(1).1, frame(kind, flags, length)), most, "frame type {kind}");
    }
    assert_eq!(taken(&mut budget(PROVED).1, frame(kind::PING, 0, 8)), 1_000, "of a proved caller");
}

#[test]
fn h2_01_a_new_window_brings_a_new_budget() {
    let (clock, mut budget) = budget(1);
    for _ in 0..5 {
        assert!((0..100).all(|_| budget.take(frame(kind::PING, 0, 8))));
        assert!(budget.take(frame(kind::HEADERS, 5, 30)), "a call between");
        clock.advance(WINDOW);
    }
    assert_eq!(taken(&mut budget, frame(kind::PING, 0, 8)), 100);
}

#[test]
fn h2_02_resets_are_bounded_over_the_life_of_a_connection() {
    let (clock, mut budget) = budget(PROVED);
    let mut resets = 0;
    while budget.take(frame(kind::HEADERS, 5, 30)) && budget.take(frame(kind::RST_STREAM, 0, 4)) {
        resets += 1;
        if resets % 500 == 0 {
            clock.advance(WINDOW);
        }
    }
    assert_eq!(resets, 10_000);
}

#[test]
fn h2_03_bytes_that_move_no_call_are_bounded() {
    let mut budget = budget(1).1;
    let large = frame(0x7f, 0, 16_000);
    assert_eq!(taken(&mut budget, large), 4);
}

#[test]
fn callers_that_work_are_left_alone() {
    let (clock, mut budget) = budget(1);
    for second in 0..100 {
        for _ in 0..200 {
            // A call and its answer in ten pieces, each acknowledged twice, with a measurement of the path.
            assert!(budget.take(frame(kind::HEADERS, 4, 40)) && budget.take(frame(kind::DATA, 1, 100)));
            (0..10).for_each(|_| budget.sent(frame(kind::DATA, 0, 16_384)));
            assert!((0..20).all(|_| budget.take(frame(kind::WINDOW_UPDATE, 0, 4))), "second {second}");
            assert!(budget.take(frame(kind::PING, 0, 8)) && budget.take(frame(kind::SETTINGS, ACK, 0)));
        }
        // One call in twelve is given up.
        assert!((0..16).all(|_| budget.take(frame(kind::RST_STREAM, 0, 4))), "second {second}");
        clock.advance(Duration::from_secs(1));
    }
}

proptest! {
    #[test]
    fn headers_are_found_however_the_bytes_are_cut(
        frames in prop::collection::vec((0_u8..12, any::<u8>(), 0_usize..300), 0..20),
        cuts in prop::collection::vec(1_usize..40, 1..50),
    ) {
        let mut bytes = vec![b'P'; 24];
        for (kind, flags, length) in &frames {
            bytes.extend([0, (length / 256) as u8, (length % 256) as u8, *kind, *flags, 0, 0, 0, 1]);
            bytes.extend(std::iter::repeat_n(0xff, *length));
        }
        let mut walk = Walk { skip: PREFACE, ..Walk::default() };
        let mut found = Vec::new();
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, after) = rest.split_at((*cut).min(rest.len()));
            walk.over(now, |frame| found.push((frame.kind, frame.flags, frame.length as usize)));
            rest = after;
        }
        prop_assert_eq!(found, frames);
    }
}
