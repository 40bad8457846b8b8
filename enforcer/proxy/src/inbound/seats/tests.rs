//! Seats with guests that wait for a word, and with one that never does.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::sync::oneshot;

use super::*;

type Guest = (u32, Option<oneshot::Receiver<()>>);

#[derive(Default)]
struct Told {
    served: Mutex<Vec<u32>>,
    polls: AtomicU32,
}

async fn serve(place: Arc<Place<Guest>>, told: Arc<Told>) -> Infallible {
    loop {
        let (name, word) = place.next().await;
        if let Some(mut word) = word {
            poll_fn(|context| {
                told.polls.fetch_add(1, Ordering::Relaxed);
                Pin::new(&mut word).poll(context).map(drop)
            })
            .await;
        }
        told.served.lock().push(name);
    }
}

fn seats(told: &Arc<Told>) -> Seats<Guest, SeatOf, impl Fn(Arc<Place<Guest>>) -> SeatOf> {
    let told = Arc::clone(told);
    Seats::new(move |place| Box::pin(serve(place, Arc::clone(&told))) as SeatOf)
}

type SeatOf = Pin<Box<dyn Future<Output = Infallible> + Send>>;

/// Polls once.
async fn polled<T, F, M>(seats: &mut Seats<T, F, M>)
where
    T: Send + 'static,
    F: Future<Output = Infallible>,
    M: Fn(Arc<Place<T>>) -> F,
{
    poll_fn(|context| {
        seats.poll(context);
        Poll::Ready(())
    })
    .await;
}

/// Polls until nobody is served.
async fn emptied<M: Fn(Arc<Place<Guest>>) -> SeatOf>(seats: &mut Seats<Guest, SeatOf, M>) {
    let empty = poll_fn(|context| {
        seats.poll(context);
        if seats.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    });
    tokio::time::timeout(Duration::from_secs(5), empty).await.expect("everybody is served");
}

#[tokio::test]
async fn one_after_the_other_takes_the_same_seat() {
    let told = Arc::<Told>::default();
    let mut seats = seats(&told);
    for name in 0..5 {
        seats.push((name, None));
        assert!(!seats.is_empty());
        emptied(&mut seats).await;
    }
    assert_eq!(*told.served.lock(), [0, 1, 2, 3, 4]);
    assert_eq!(seats.seats.len(), 1);
}

#[tokio::test]
async fn the_seat_that_was_left_last_is_taken_first() {
    let told = Arc::<Told>::default();
    let mut seats = seats(&told);
    let (sends, words): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
    for (name, word) in (0..).zip(words) {
        seats.push((name, Some(word)));
    }
    polled(&mut seats).await;
    for (at, send) in sends.into_iter().enumerate() {
        send.send(()).unwrap();
        polled(&mut seats).await;
        assert_eq!(seats.free.last(), Some(&at));
    }
    seats.push((3, None));
    assert_eq!(seats.free, [0, 1]);
    emptied(&mut seats).await;
    assert_eq!(*told.served.lock(), [0, 1, 2, 3]);
}

#[tokio::test]
async fn only_a_seat_that_was_rung_is_polled_and_a_ring_from_another_thread_wakes_the_task() {
    let told = Arc::<Told>::default();
    let mut seats = seats(&told);
    let (first, word) = oneshot::channel();
    seats.push((0, Some(word)));
    let (second, word) = oneshot::channel();
    seats.push((1, Some(word)));
    polled(&mut seats).await;
    assert_eq!(told.polls.load(Ordering::Relaxed), 2);
    for _ in 0..10 {
        polled(&mut seats).await;
    }
    assert_eq!(told.polls.load(Ordering::Relaxed), 2, "nobody rang");
    let ringer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        second.send(()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        first.send(()).unwrap();
    });
    emptied(&mut seats).await;
    assert_eq!(*told.served.lock(), [1, 0]);
    assert_eq!(told.polls.load(Ordering::Relaxed), 4);
    ringer.join().unwrap();
}

#[tokio::test]
async fn a_late_ring_disturbs_nobody() {
    let told = Arc::<Told>::default();
    let mut seats = seats(&told);
    seats.push((0, None));
    emptied(&mut seats).await;
    let late = seats.seats[0].waker.clone();
    late.wake_by_ref();
    polled(&mut seats).await;
    assert_eq!(seats.free, [0], "a free seat that is rung is free once");
    seats.trim();
    assert!(seats.seats.is_empty());
    late.wake_by_ref();
    polled(&mut seats).await;
    seats.push((1, None));
    late.wake();
    emptied(&mut seats).await;
    assert_eq!(*told.served.lock(), [0, 1]);
}

#[tokio::test]
async fn what_is_served_keeps_its_seat_when_memory_is_given_back() {
    let told = Arc::<Told>::default();
    let mut seats = seats(&told);
    let (send, word) = oneshot::channel();
    seats.push((0, Some(word)));
    polled(&mut seats).await;
    seats.trim();
    assert!(!seats.is_empty());
    send.send(()).unwrap();
    emptied(&mut seats).await;
    assert_eq!(*told.served.lock(), [0]);
}

#[tokio::test]
async fn a_seat_that_rings_itself_leaves_the_turn_to_the_others() {
    let mut seats = Seats::new(|place: Arc<Place<u32>>| async move {
        loop {
            place.next().await;
            tokio::task::yield_now().await;
            poll_fn(|context| {
                context.waker().wake_by_ref();
                Poll::<()>::Pending
            })
            .await;
        }
    });
    seats.push(0);
    for _ in 0..100 {
        polled(&mut seats).await;
    }
    assert!(!seats.is_empty());
}
