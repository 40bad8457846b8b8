//! Runs the compiler in a thread of its own with a large stack and a time limit (VA4), so that deep or slow input
//! takes neither the process down nor its caller along. A thread that does not come back is left behind and counted;
//! with too many of those, nothing more is started.

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

/// The compilers of this process.
pub(crate) static COMPILERS: Bench = Bench::new();

/// Counts those that were given up and still run.
#[derive(Debug)]
pub(crate) struct Bench {
    left: AtomicUsize,
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
        Bench { left: AtomicUsize::new(0) }
    }

    fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Runs `work` for at most `limit`.
    pub(crate) fn run<T: Send + 'static>(
        &'static self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unfinished> {
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
        let builder = thread::Builder::new().name("policy-compile".to_owned()).stack_size(STACK_BYTES);
        let handle = builder.spawn(body).map_err(Unfinished::NoThread)?;
        match answers.recv_timeout(limit) {
            Ok(result) => Ok(result),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                drop(handle.join());
                Err(Unfinished::Panicked)
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.left.fetch_add(1, Ordering::Relaxed);
                run.end();
                Err(Unfinished::Late)
            }
        }
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
}
