//! Keys that are new, repeated, taken by another call, interrupted, old and too many; the store is in memory.

use super::*;
use base_ports::ManualClock;
use base_store::Memory;

struct Desk {
    store: Arc<Memory>,
    clock: Arc<ManualClock>,
}

impl Desk {
    fn new() -> Self {
        Self {
            store: Memory::new(),
            clock: Arc::new(ManualClock::new(UnixTime::from_nanos(1_000_000_000_000_000_000))),
        }
    }

    /// As a process that starts.
    fn open(&self) -> Arc<Repeats> {
        Repeats::open(Arc::clone(&self.store) as _, Arc::clone(&self.clock) as _).unwrap()
    }

    fn rows(&self) -> usize {
        self.store.range(PREFIX, None, 20_000).unwrap().len()
    }
}

fn call(text: &str) -> Digest {
    Digest::of(&[text.as_bytes()])
}

fn answer(text: &str) -> Answer {
    Answer::new(StatusCode::CREATED, vec![("etag".to_owned(), "\"1\"".to_owned())], text.as_bytes())
}

async fn fresh(repeats: &Arc<Repeats>, key: &str) -> Running {
    match repeats.begin("ann", key, call("a")).await.unwrap() {
        Begun::Fresh(running) => running,
        other => panic!("{key}: {other:?}"),
    }
}

#[tokio::test]
async fn ra5_a_call_is_made_once_and_its_answer_is_given_again_also_after_a_restart() {
    let desk = Desk::new();
    let repeats = desk.open();
    let running = fresh(&repeats, "k").await;
    assert!(matches!(repeats.begin("ann", "k", call("a")).await.unwrap(), Begun::Running));
    running.end(Some(answer("done"))).await;
    for repeats in [repeats, desk.open()] {
        let again = repeats.begin("ann", "k", call("a")).await.unwrap();
        assert!(matches!(&again, Begun::Done(kept) if *kept == answer("done")), "{again:?}");
        assert!(matches!(repeats.begin("ann", "k", call("b")).await.unwrap(), Begun::Other));
        assert!(
            matches!(repeats.begin("bob", "k", call("b")).await.unwrap(), Begun::Fresh(_)),
            "another caller"
        );
    }
}

#[tokio::test]
async fn ra5_a_refused_call_frees_its_key_and_an_interrupted_one_does_not() {
    let desk = Desk::new();
    let repeats = desk.open();
    fresh(&repeats, "refused").await.end(None).await;
    fresh(&repeats, "refused").await.end(Some(answer("x"))).await;
    drop(fresh(&repeats, "died").await);
    for repeats in [repeats, desk.open()] {
        assert!(matches!(repeats.begin("ann", "died", call("a")).await.unwrap(), Begun::Interrupted));
        assert!(matches!(repeats.begin("ann", "died", call("b")).await.unwrap(), Begun::Other));
    }
}

#[tokio::test]
async fn ra5_keys_are_forgotten_after_a_day_and_not_before() {
    let desk = Desk::new();
    let repeats = desk.open();
    fresh(&repeats, "k").await.end(Some(answer("x"))).await;
    desk.clock.advance(KEPT_FOR - Duration::from_secs(1));
    assert!(matches!(repeats.begin("ann", "k", call("a")).await.unwrap(), Begun::Done(_)));
    desk.clock.advance(Duration::from_secs(1));
    let repeats = desk.open();
    fresh(&repeats, "other").await.end(Some(answer("y"))).await;
    assert_eq!(desk.rows(), 1, "the old row is still stored");
    fresh(&repeats, "k").await.end(None).await;
}

#[tokio::test]
async fn ra5_keys_and_answers_are_bounded() {
    let desk = Desk::new();
    let repeats = desk.open();
    for number in 0..PER_CALLER {
        fresh(&repeats, &number.to_string()).await.end(Some(answer("x"))).await;
    }
    assert!(matches!(repeats.begin("ann", "one more", call("a")).await.unwrap(), Begun::Full));
    assert!(
        matches!(repeats.begin("ann", "7", call("a")).await.unwrap(), Begun::Done(_)),
        "a known key is answered"
    );
    let large = "x".repeat(ANSWER_BYTES);
    assert_eq!(answer(&format!("{large}x")).body, None);
    let repeats = Desk::new().open();
    let many = ALL_BYTES / ANSWER_BYTES;
    for number in 0..=many {
        fresh(&repeats, &number.to_string()).await.end(Some(answer(&large))).await;
    }
    let last = repeats.begin("ann", &many.to_string(), call("a")).await.unwrap();
    assert!(matches!(&last, Begun::Done(Answer { body: None, .. })), "more bytes than may be kept");
    let first = repeats.begin("ann", "0", call("a")).await.unwrap();
    assert!(matches!(&first, Begun::Done(Answer { body: Some(_), .. })));
}

#[tokio::test]
async fn ra5_a_key_that_cannot_be_stored_begins_nothing_and_is_free_again() {
    let desk = Desk::new();
    let repeats = desk.open();
    let large = "k".repeat(10);
    drop(fresh(&repeats, &large).await);
    desk.store.commit(Transaction::new().put(PREFIX.to_vec(), b"of another build".to_vec())).await.unwrap();
    let repeats = desk.open();
    fresh(&repeats, "next").await.end(None).await;
    assert_eq!(desk.rows(), 1, "a row that cannot be read is forgotten");
}
