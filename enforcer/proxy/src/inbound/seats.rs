//! The calls of a connection, side by side in its task: each takes a seat, a future that serves one call after the other.
//!
//! A seat that is free again keeps its memory, and the one that was left last is taken first. So a call on a busy
//! connection makes no future, moves none, and finds its memory in the caches. Only seats that were rung are polled.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

/// Seats for guests of type `T`; `make` makes the future of a new seat.
pub(super) struct Seats<T, F, M> {
    make: M,
    seats: Vec<Seat<T, F>>,
    free: Vec<usize>,
    /// Seats to be polled, taken from the rung ones; kept for its memory.
    turn: Vec<usize>,
    rung: Arc<Rung>,
}

struct Seat<T, F> {
    serving: Pin<Box<F>>,
    place: Arc<Place<T>>,
    waker: Waker,
}

/// The seats that want to be polled.
#[derive(Debug, Default)]
struct Rung {
    numbers: Mutex<Vec<usize>>,
    /// The task that polls them.
    task: AtomicWaker,
}

/// Where the guests of one seat come in, and the bell that wakes it.
#[derive(Debug)]
pub(super) struct Place<T> {
    number: usize,
    is_rung: AtomicBool,
    is_free: AtomicBool,
    guest: Mutex<Option<T>>,
    rung: Arc<Rung>,
}

impl<T> Place<T> {
    /// The next guest. Whoever asks is done with the one before.
    pub(super) async fn next(&self) -> T {
        poll_fn(|_| match self.guest.lock().take() {
            Some(guest) => Poll::Ready(guest),
            None => {
                self.is_free.store(true, Ordering::Relaxed);
                Poll::Pending
            }
        })
        .await
    }

    /// Puts the seat in line, once. Returns whether it was not there yet.
    fn ring(&self) -> bool {
        let is_news = !self.is_rung.swap(true, Ordering::AcqRel);
        if is_news {
            self.rung.numbers.lock().push(self.number);
        }
        is_news
    }
}

impl<T: Send> Wake for Place<T> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.ring() {
            self.rung.task.wake();
        }
    }
}

impl<T, F, M> Seats<T, F, M>
where
    T: Send + 'static,
    F: Future<Output = Infallible>,
    M: Fn(Arc<Place<T>>) -> F,
{
    /// No seats yet.
    pub(super) fn new(make: M) -> Self {
        Self { make, seats: Vec::new(), free: Vec::new(), turn: Vec::new(), rung: Arc::default() }
    }

    /// Whether nobody is being served.
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.seats.len()
    }

    /// Gives `guest` a seat; the next [`poll`](Self::poll) begins to serve it.
    pub(super) fn push(&mut self, guest: T) {
        let number = self.free.pop().unwrap_or(self.seats.len());
        if number == self.seats.len() {
            let place = Arc::new(Place {
                number,
                is_rung: AtomicBool::new(false),
                is_free: AtomicBool::new(false),
                guest: Mutex::new(None),
                rung: Arc::clone(&self.rung),
            });
            let serving = Box::pin((self.make)(Arc::clone(&place)));
            let waker = Waker::from(Arc::clone(&place));
            self.seats.push(Seat { serving, place, waker });
        }
        if let Some(Seat { place, .. }) = self.seats.get(number) {
            *place.guest.lock() = Some(guest);
            place.is_free.store(false, Ordering::Relaxed);
            place.ring();
        }
    }

    /// Polls every seat that was rung, once. The task of `context` is woken when one is rung later, also by itself.
    pub(super) fn poll(&mut self, context: &Context<'_>) {
        self.rung.task.register(context.waker());
        std::mem::swap(&mut self.turn, &mut *self.rung.numbers.lock());
        for number in self.turn.drain(..) {
            // A late ring may come for a seat that was taken away.
            let Some(seat) = self.seats.get_mut(number) else { continue };
            // Whoever rings from here on is heard in the next turn; what was done before a ring is seen in this one.
            seat.place.is_rung.swap(false, Ordering::AcqRel);
            let was_free = seat.place.is_free.load(Ordering::Relaxed);
            match seat.serving.as_mut().poll(&mut Context::from_waker(&seat.waker)) {
                Poll::Pending => {}
                Poll::Ready(never) => match never {},
            }
            if !was_free && seat.place.is_free.load(Ordering::Relaxed) {
                self.free.push(number);
            }
        }
    }

    /// Gives the memory of the seats back when nobody is being served.
    pub(super) fn trim(&mut self) {
        if self.is_empty() {
            (self.seats, self.free, self.turn) = Default::default();
        }
    }
}

#[cfg(test)]
mod tests;
