//! What one reader may ask at a time and per minute (QY3). Pure: the time is an argument.
//!
//! Going on by cursor is the same question. Readers who ask nothing any more are forgotten.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use base_ports::Mono;
use parking_lot::Mutex;

const MINUTE: Duration = Duration::from_secs(60);

/// Readers above which those who ask nothing are looked for.
const MANY: usize = 256;

/// The questions of every reader.
#[derive(Debug)]
pub(super) struct Limits {
    running: usize,
    per_minute: usize,
    readers: Mutex<HashMap<Box<str>, Questions>>,
}

#[derive(Debug, Default)]
struct Questions {
    running: usize,
    begun: VecDeque<Mono>,
}

/// A question that runs. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Running {
    limits: Arc<Limits>,
    reader: Box<str>,
}

/// Why a question is not taken, and when another try makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Busy {
    /// That many run already.
    Running(usize),
    /// That many were asked within a minute.
    Asked(usize, Duration),
}

impl Limits {
    pub(super) fn new(running: usize, per_minute: usize) -> Arc<Self> {
        Arc::new(Self { running, per_minute, readers: Mutex::default() })
    }

    /// Takes a question of that reader, unless it is one too many. One that goes on by cursor is not counted anew.
    pub(super) fn admit(self: &Arc<Self>, reader: &str, goes_on: bool, now: Mono) -> Result<Running, Busy> {
        let mut readers = self.readers.lock();
        if readers.len() > MANY {
            readers.retain(|_, questions| questions.running > 0 || !questions.is_quiet(now));
        }
        let questions = readers.entry(reader.into()).or_default();
        if questions.running >= self.running {
            return Err(Busy::Running(self.running));
        }
        while questions.begun.front().is_some_and(|begun| now.saturating_since(*begun) >= MINUTE) {
            questions.begun.pop_front();
        }
        if !goes_on {
            if questions.begun.len() >= self.per_minute {
                let oldest = questions.begun.front().copied().unwrap_or(now);
                return Err(Busy::Asked(
                    self.per_minute,
                    MINUTE.saturating_sub(now.saturating_since(oldest)),
                ));
            }
            questions.begun.push_back(now);
        }
        questions.running += 1;
        Ok(Running { limits: Arc::clone(self), reader: reader.into() })
    }
}

impl Questions {
    fn is_quiet(&self, now: Mono) -> bool {
        self.begun.back().is_none_or(|begun| now.saturating_since(*begun) >= MINUTE)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(questions) = self.limits.readers.lock().get_mut(&self.reader) {
            questions.running = questions.running.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn qy3_a_reader_runs_few_questions_and_asks_few_a_minute() {
        let limits = Limits::new(2, 3);
        let first = limits.admit("a", false, at(0)).unwrap();
        let second = limits.admit("a", false, at(1)).unwrap();
        assert_eq!(limits.admit("a", false, at(2)).unwrap_err(), Busy::Running(2));
        assert!(limits.admit("b", false, at(2)).is_ok(), "another reader is not held up");
        drop(first);
        drop(limits.admit("a", false, at(3)).unwrap());
        assert_eq!(limits.admit("a", false, at(20)).unwrap_err(), Busy::Asked(3, Duration::from_secs(40)));
        assert!(limits.admit("a", true, at(20)).is_ok(), "going on is the same question");
        assert!(limits.admit("a", false, at(60)).is_ok());
        drop(second);
    }

    #[test]
    fn qy3_quiet_readers_are_forgotten() {
        let limits = Limits::new(1, 1);
        for n in 0..10_000_u64 {
            drop(limits.admit(&n.to_string(), false, at(n)).unwrap());
        }
        assert!(limits.readers.lock().len() <= MANY + 1);
    }
}
