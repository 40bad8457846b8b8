//! Runs the compiler in a thread of its own with a large stack and a time limit (VA4), so that deep or slow input
//! takes neither the process down nor its caller along. A thread that does not come back is left behind and counted;
//! with too many of those, nothing more is started.
//!
//! No more compile at a time than there are cores: more would only share them, each with a heap and lexer tables of its
//! own to fill. A thread that is done waits a while for the next work, with those still filled.

use super::cores;
use parking_lot::{Condvar, Mutex};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

pub(crate) const STACK_BYTES: usize = 16 << 20;
/// Compilers that may be left behind at one time.
const MOST_LEFT: usize = 4;
/// So long a thread without work stays.
const IDLE: Duration = Duration::from_secs(5);

/// The compilers of this process.
pub(crate) static COMPILERS: Bench = Bench::new();

type Work = Box<dyn FnOnce() + Send>;

/// Seats for as many compilers as there are cores, and the count of those that were given up and still run.
#[derive(Debug)]
pub(crate) struct Bench {
    seats: Mutex<Seats>,
    risen: Condvar,
    left: AtomicUsize,
}

#[derive(Debug)]
struct Seats {
    taken: usize,
    /// Threads without work; one that waited too long has gone and takes none.
    idle: Vec<mpsc::SyncSender<Work>>,
}

/// Why there is no result.
#[derive(Debug)]
pub(crate) enum Unfinished {
    /// It took longer than the limit.
    Late,
    /// So many earlier ones took longer and still run.
    Crowded(usize),
    Panicked,
    NoThread(io::Error),
}

/// Compilers that were given up after their time limit and still run. Anything above 0 for long is worth an alarm.
#[must_use]
pub fn compilers_left_behind() -> usize {
    COMPILERS.left()
}

impl Bench {
    pub(crate) const fn new() -> Bench {
        let seats = Seats { taken: 0, idle: Vec::new() };
        Bench { seats: Mutex::new(seats), risen: Condvar::new(), left: AtomicUsize::new(0) }
    }

    fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Runs `work` for at most `limit`, which begins when there is a seat. Must not be called within `work`.
    pub(crate) fn run<T: Send + 'static>(
        &'static self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unfinished> {
        let _seat = self.sit();
        let left = self.left();
        if left >= MOST_LEFT {
            return Err(Unfinished::Crowded(left));
        }
        let (answer, answers) = mpsc::sync_channel(1);
        let run = Arc::new(Run { bench: self, is_over: AtomicBool::new(false) });
        let end = End(Arc::clone(&run));
        let body = move || {
            let _end = end;
            // Nobody listens to one that was given up.
            drop(answer.send(work()));
        };
        let thread = self.begin(Box::new(body)).map_err(Unfinished::NoThread)?;
        match answers.recv_timeout(limit) {
            Ok(result) => {
                self.seats.lock().idle.push(thread);
                Ok(result)
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(Unfinished::Panicked),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.left.fetch_add(1, Ordering::Relaxed);
                run.end();
                Err(Unfinished::Late)
            }
        }
    }

    fn sit(&'static self) -> Seat {
        let mut seats = self.seats.lock();
        while seats.taken >= cores::count() {
            self.risen.wait(&mut seats);
        }
        seats.taken = seats.taken.saturating_add(1);
        Seat(self)
    }

    /// Gives the work to a thread that has none, or to a new one.
    fn begin(&self, mut work: Work) -> io::Result<mpsc::SyncSender<Work>> {
        let idle = || self.seats.lock().idle.pop();
        while let Some(thread) = idle() {
            match thread.try_send(work) {
                Ok(()) => return Ok(thread),
                Err(mpsc::TrySendError::Full(back) | mpsc::TrySendError::Disconnected(back)) => work = back,
            }
        }
        let (thread, given) = mpsc::sync_channel::<Work>(1);
        let body = move || {
            work();
            while let Ok(work) = given.recv_timeout(IDLE) {
                work();
            }
        };
        thread::Builder::new().name("policy-compile".to_owned()).stack_size(STACK_BYTES).spawn(body)?;
        Ok(thread)
    }
}

/// Taken by who compiles, or waits for who does.
struct Seat(&'static Bench);

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.0.seats.lock();
        seats.taken = seats.taken.saturating_sub(1);
        drop(seats);
        self.0.risen.notify_one();
    }
}

/// Who comes second, the thread that ends or the caller that gives up, takes it off the count.
struct Run {
    bench: &'static Bench,
    is_over: AtomicBool,
}

impl Run {
    fn end(&self) {
        if self.is_over.swap(true, Ordering::AcqRel) {
            self.bench.left.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

struct End(Arc<Run>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn va4_what_takes_too_long_is_given_up_and_counted_until_it_ends() {
        static BENCH: Bench = Bench::new();
        const MINUTE: Duration = Duration::from_secs(60);
        assert_eq!(BENCH.run(MINUTE, || 7).unwrap(), 7);
        assert!(matches!(BENCH.run(MINUTE, || panic!("on purpose")), Err::<(), _>(Unfinished::Panicked)));
        let gates: Vec<mpsc::Sender<()>> = (0..MOST_LEFT)
            .map(|_| {
                let (gate, wait) = mpsc::channel::<()>();
                let late = BENCH.run(Duration::from_millis(1), move || wait.recv().is_ok());
                assert!(matches!(late, Err(Unfinished::Late)));
                gate
            })
            .collect();
        assert_eq!(BENCH.left(), MOST_LEFT);
        assert!(matches!(BENCH.run(MINUTE, || 7), Err(Unfinished::Crowded(MOST_LEFT))));
        drop(gates);
        while BENCH.left() > 0 {
            thread::yield_now();
        }
        assert_eq!(BENCH.run(MINUTE, || 7).unwrap(), 7);
    }

    #[test]
    fn a_thread_takes_the_next_work_and_no_more_run_than_there_are_cores() {
        static BENCH: Bench = Bench::new();
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        let name = || thread::current().id();
        let first = BENCH.run(IDLE, name).unwrap();
        assert_eq!(BENCH.run(IDLE, name).unwrap(), first);
        let cores = thread::available_parallelism().unwrap().get();
        let most = thread::scope(|scope| {
            let one = || {
                BENCH.run(IDLE, || {
                    let now = RUNNING.fetch_add(1, Ordering::Relaxed) + 1;
                    thread::sleep(Duration::from_millis(5));
                    RUNNING.fetch_sub(1, Ordering::Relaxed);
                    now
                })
            };
            let all: Vec<_> = (0..4 * cores).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|one| one.join().unwrap().unwrap()).max()
        });
        assert!(most <= Some(cores), "{most:?} of {cores}");
        assert!(BENCH.seats.lock().idle.len() <= cores);
    }
}
