//! One coarse timer wheel per worker for every deadline of its connections and calls (WK-03).
//!
//! Setting a deadline is a few instructions under a lock that only this worker takes; no timer of the runtime is made
//! per call. A deadline that moves later, which is the common case, stays where it is and is looked at again when its
//! old slot comes round. Deadlines are late by at most two ticks, never early.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base_ports::{Clock, Mono};
use parking_lot::Mutex;
use tokio::sync::Notify;

const TICK_NANOS: u64 = 10_000_000;
const SLOTS: u64 = 1024;
const NEVER: u64 = u64::MAX;

/// The wheel of one worker.
#[derive(Debug)]
pub(crate) struct Wheel {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Rung when a deadline is set before the turn that is planned.
    bell: Notify,
}

#[derive(Debug)]
struct State {
    /// The tick that was turned last.
    turned: u64,
    /// The tick at which the wheel turns next, unless the bell rings.
    planned: u64,
    slots: Vec<Vec<usize>>,
    entries: Vec<Entry>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Entry {
    /// The deadline.
    due: u64,
    /// The tick in whose slot it lies; `NEVER` when in none.
    armed: u64,
    /// Its place in that slot.
    place: usize,
    waker: Option<Waker>,
}

impl Wheel {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let turned = tick(clock.mono());
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        let state = State { turned, planned: NEVER, slots, entries: Vec::new(), free: Vec::new() };
        Self { clock, state: Mutex::new(state), bell: Notify::new() }
    }

    /// A timer that is not set.
    pub(crate) fn timer(&self) -> Timer<'_> {
        let key = self.state.lock().insert();
        Timer { wheel: self, key }
    }

    /// Wakes everyone who waits at a timer, to look at the state of the worker (a drain began).
    pub(crate) fn stir(&self) {
        let wakers: Vec<Waker> =
            self.state.lock().entries.iter_mut().filter_map(|entry| entry.waker.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Turns the wheel for ever.
    pub(crate) async fn run(&self) {
        loop {
            let now = tick(self.clock.mono());
            let mut wakers = Vec::new();
            let next = self.state.lock().turn(now, &mut wakers);
            wakers.into_iter().for_each(Waker::wake);
            match next {
                None => self.bell.notified().await,
                Some(next) => {
                    let left = Duration::from_nanos(next.saturating_sub(now).saturating_mul(TICK_NANOS));
                    tokio::select! {
                        () = tokio::time::sleep(left) => {}
                        () = self.bell.notified() => {}
                    }
                }
            }
        }
    }
}

/// One deadline, given back to the wheel when dropped.
#[derive(Debug)]
pub(crate) struct Timer<'w> {
    wheel: &'w Wheel,
    key: usize,
}

impl Timer<'_> {
    /// Sets or moves the deadline.
    pub(crate) fn set(&self, deadline: Mono) {
        let rings = self.wheel.state.lock().set(self.key, tick(deadline).saturating_add(1));
        if rings {
            self.wheel.bell.notify_one();
        }
    }

    /// Ready once the deadline has passed; until then the task is woken when it does.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.wheel.state.lock();
        let turned = state.turned;
        let Some(entry) = state.entries.get_mut(self.key) else {
            return Poll::Ready(());
        };
        if entry.due <= turned {
            return Poll::Ready(());
        }
        match &mut entry.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Runs until done or until the deadline has passed.
    pub(crate) async fn within<F: Future>(&self, mut work: Pin<&mut F>) -> Option<F::Output> {
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => self.poll(context).map(|()| None),
        })
        .await
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.wheel.state.lock().remove(self.key);
    }
}

impl State {
    fn insert(&mut self) -> usize {
        let entry = Entry { due: NEVER, armed: NEVER, place: 0, waker: None };
        match self.free.pop() {
            Some(key) => {
                if let Some(slot) = self.entries.get_mut(key) {
                    *slot = entry;
                }
                key
            }
            None => {
                self.entries.push(entry);
                self.entries.len().saturating_sub(1)
            }
        }
    }

    /// True when the wheel must turn earlier than planned.
    fn set(&mut self, key: usize, due: u64) -> bool {
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        entry.due = due;
        if entry.armed <= due {
            return false;
        }
        self.unlink(key);
        let armed = self.link(key, due);
        let rings = armed < self.planned;
        if rings {
            self.planned = armed;
        }
        rings
    }

    /// Puts an entry into the slot of its deadline, or as far ahead as the wheel reaches.
    fn link(&mut self, key: usize, due: u64) -> u64 {
        let ahead = self.turned.saturating_add(1);
        let armed = due.clamp(ahead, self.turned.saturating_add(SLOTS.saturating_sub(1)));
        if let Some(slot) = self.slots.get_mut(slot_of(armed)) {
            slot.push(key);
            let place = slot.len().saturating_sub(1);
            if let Some(entry) = self.entries.get_mut(key) {
                entry.armed = armed;
                entry.place = place;
            }
        }
        armed
    }

    fn unlink(&mut self, key: usize) {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.armed != NEVER) else {
            return;
        };
        let (armed, place) = (std::mem::replace(&mut entry.armed, NEVER), entry.place);
        let Some(slot) = self.slots.get_mut(slot_of(armed)) else {
            return;
        };
        if place < slot.len() {
            slot.swap_remove(place);
        }
        let moved = slot.get(place).copied();
        if let Some(moved) = moved.and_then(|moved| self.entries.get_mut(moved)) {
            moved.place = place;
        }
    }

    fn remove(&mut self, key: usize) {
        self.unlink(key);
        if let Some(entry) = self.entries.get_mut(key) {
            entry.waker = None;
            entry.due = NEVER;
        }
        self.free.push(key);
    }

    /// Collects who is due at `now`, and answers when to turn next.
    fn turn(&mut self, now: u64, wakers: &mut Vec<Waker>) -> Option<u64> {
        let from = self.turned.saturating_add(1);
        self.turned = self.turned.max(now);
        // A pause longer than the wheel visits every slot once.
        let last = now.min(self.turned).min(from.saturating_add(SLOTS.saturating_sub(1)));
        for visited in from..=last {
            let keys = self.slots.get_mut(slot_of(visited)).map(std::mem::take).unwrap_or_default();
            for key in keys {
                let Some(entry) = self.entries.get_mut(key) else { continue };
                entry.armed = NEVER;
                let due = entry.due;
                if due <= now {
                    wakers.extend(entry.waker.take());
                } else if due != NEVER {
                    self.link(key, due);
                }
            }
        }
        let reach = self.turned.saturating_add(1)..=self.turned.saturating_add(SLOTS);
        let next =
            reach.into_iter().find(|at| self.slots.get(slot_of(*at)).is_some_and(|slot| !slot.is_empty()));
        self.planned = next.unwrap_or(NEVER);
        next
    }
}

fn tick(at: Mono) -> u64 {
    at.as_nanos() / TICK_NANOS
}

fn slot_of(tick: u64) -> usize {
    usize::try_from(tick % SLOTS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base_ports::{ManualClock, UnixTime};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn at(millis: u64) -> Mono {
        Mono::from_nanos(millis * 1_000_000)
    }

    fn turn(wheel: &Wheel, millis: u64) -> Option<u64> {
        let mut wakers = Vec::new();
        let next = wheel.state.lock().turn(tick(at(millis)), &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
        next
    }

    #[test]
    fn wk_03_a_deadline_fires_once_it_has_passed_and_not_before() {
        let wheel = Wheel::new(Arc::new(ManualClock::new(UnixTime::from_secs(0))));
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        let timer = wheel.timer();
        assert!(timer.poll(&mut context).is_pending(), "not set");
        timer.set(at(25));
        assert!(timer.poll(&mut context).is_pending());
        assert_eq!(turn(&wheel, 20), Some(3));
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        turn(&wheel, 30);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(timer.poll(&mut context).is_ready());
        timer.set(at(100));
        assert!(timer.poll(&mut context).is_pending(), "set again");
    }

    #[test]
    fn a_deadline_moves_later_without_work_and_earlier_at_once() {
        let wheel = Wheel::new(Arc::new(ManualClock::new(UnixTime::from_secs(0))));
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        let timer = wheel.timer();
        timer.set(at(50));
        timer.set(at(20_000));
        assert!(timer.poll(&mut context).is_pending());
        assert_eq!(
            turn(&wheel, 60),
            Some(6 + SLOTS - 1),
            "looked at again, as far ahead as the wheel reaches"
        );
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        timer.set(at(80));
        assert!(timer.poll(&mut context).is_pending());
        turn(&wheel, 90);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn many_timers_come_and_go_without_leaving_anything_behind() {
        let wheel = Wheel::new(Arc::new(ManualClock::new(UnixTime::from_secs(0))));
        for round in 0..50_u64 {
            let timers: Vec<_> = (0..20_u64)
                .map(|nth| {
                    let timer = wheel.timer();
                    timer.set(at(round * 10 + nth * 7));
                    timer
                })
                .collect();
            turn(&wheel, round * 10 + 40);
            drop(timers);
        }
        let state = wheel.state.lock();
        assert!(state.slots.iter().all(Vec::is_empty));
        assert_eq!(state.free.len(), state.entries.len());
        assert_eq!(state.entries.len(), 20);
    }

    #[test]
    fn a_long_pause_still_finds_every_deadline() {
        let wheel = Wheel::new(Arc::new(ManualClock::new(UnixTime::from_secs(0))));
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        let timers: Vec<_> = [5, 500, 5_000, 9_000].map(|due| (wheel.timer(), due)).into();
        for (timer, due) in &timers {
            timer.set(at(*due));
            assert!(timer.poll(&mut context).is_pending());
        }
        turn(&wheel, 60_000);
        assert_eq!(count.0.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn the_running_wheel_wakes_a_task() {
        let wheel = Wheel::new(Arc::new(base_ports::SystemClock));
        let timer = wheel.timer();
        timer.set(wheel.clock.mono() + Duration::from_millis(30));
        let before = wheel.clock.mono();
        tokio::select! {
            () = wheel.run() => {}
            () = poll_fn(|context| timer.poll(context)) => {}
        }
        assert!(wheel.clock.mono().saturating_since(before) >= Duration::from_millis(30));
    }
}
