//! Spreads the checking of many policies over the cores. Results come in the order of the items, so nothing depends on
//! how many cores there are.

use super::bounded::STACK_BYTES;
use std::{panic::resume_unwind, sync::OnceLock, thread};

/// Below this a thread costs more than it saves.
const LEAST: usize = 64;
const MOST_THREADS: usize = 8;

/// Cores that this process may use. Asked once, because the answer is in files of the control group.
pub(crate) fn count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

/// `work` over consecutive parts of `items`, each on a thread with a large stack.
pub(crate) fn spread<T: Sync, R: Send>(items: &[T], work: impl Fn(&[T]) -> Vec<R> + Sync) -> Vec<R> {
    if items.len() <= LEAST {
        return if items.is_empty() { Vec::new() } else { work(items) };
    }
    let cores = count().min(MOST_THREADS);
    let size = items.len().div_ceil(cores).max(LEAST);
    let mut parts = items.chunks(size);
    let Some(own) = parts.next() else { return Vec::new() };
    let work = &work;
    thread::scope(|scope| {
        let started: Vec<_> = parts
            .map(|part| {
                let builder = thread::Builder::new().name("policy-check".to_owned()).stack_size(STACK_BYTES);
                (part, builder.spawn_scoped(scope, move || work(part)))
            })
            .collect();
        let mut all = work(own);
        for (part, thread) in started {
            match thread.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(results)) => all.extend(results),
                Ok(Err(panic)) => resume_unwind(panic),
                // No thread to be had: here, then.
                Err(_cause) => all.extend(work(part)),
            }
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_whatever_the_number_of_threads() {
        for count in [0_usize, 1, LEAST, LEAST + 1, 1000] {
            let items: Vec<usize> = (0..count).collect();
            let doubled = spread(&items, |part| part.iter().map(|item| item * 2).collect());
            assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        }
    }
}
