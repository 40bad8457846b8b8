//! Random input for every parser that reads what others send (hardening.md 10): the kept corpus first, then mutations of it
//! for so many seconds. A target fails by a panic, by a broken property, or when it takes long for few bytes.
//!
//! `just fuzz SECONDS` runs it at length; `PORTCULLIS_SEED` starts it elsewhere. What fails is written to `fuzz-NAME` in the
//! directory of temporary files: moved to `tests/fuzz/corpus/NAME`, it is replayed for ever.

mod mutate;
mod targets;

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use mutate::Mutator;

/// A parser under attack.
#[derive(Clone, Copy)]
struct Target {
    /// Of its corpus.
    name: &'static str,
    /// Parses; what comes out tells apart what it did, so that inputs that do something new are kept.
    run: fn(&[u8]) -> String,
    /// What is right, or nearly.
    seeds: fn() -> Vec<Vec<u8>>,
    /// Words of its language.
    words: &'static [&'static str],
}

/// Longer input is cut.
const LONGEST: usize = 40_000;
/// Kept while it runs.
const KEPT: usize = 3000;
/// So long may one input take. Debug builds on a busy machine are slow; time that grows with the square is not hidden by it.
const SLOW: Duration = Duration::from_secs(2);

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    // What is caught is told by the trial.
    std::panic::set_hook(Box::new(|_| ()));
    let trials = targets::ALL
        .iter()
        .map(|target| Trial::test(format!("fuzz_{}", target.name), move || fuzz(target).map_err(Into::into)));
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

fn fuzz(target: &Target) -> Result<(), String> {
    let mut kept = (target.seeds)();
    for file in corpus(target.name)? {
        kept.push(fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?);
    }
    let mut seen = HashSet::new();
    for input in &kept {
        seen.insert(attempt(target, input)?);
    }
    let seed = number("PORTCULLIS_SEED", 1);
    let end = Instant::now() + Duration::from_secs(number("PORTCULLIS_FUZZ_SECONDS", 1));
    let mut mutator = Mutator::new(seed, target.words);
    let mut runs = 0_u64;
    while Instant::now() < end {
        for _ in 0..50 {
            let mut input = mutator.next(&kept);
            input.truncate(LONGEST);
            let outcome = attempt(target, &input)?;
            if kept.len() < KEPT && seen.insert(outcome) {
                kept.push(input);
            }
            runs += 1;
        }
    }
    println!("{}: {runs} inputs, {} outcomes", target.name, seen.len());
    Ok(())
}

/// Files of a corpus, sorted; a target without any has none.
fn corpus(name: &str) -> Result<Vec<PathBuf>, String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let Ok(entries) = fs::read_dir(&dir) else { return Ok(Vec::new()) };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    if files.is_empty() { Err(format!("{} is empty", dir.display())) } else { Ok(files) }
}

fn attempt(target: &Target, input: &[u8]) -> Result<String, String> {
    let began = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = began.elapsed();
    let fault = match outcome {
        Ok(outcome) if took < SLOW => return Ok(outcome),
        Ok(_) => format!("it took {took:?}"),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
        }
    };
    let file = std::env::temp_dir().join(format!("fuzz-{}", target.name));
    drop(fs::write(&file, input));
    Err(format!(
        "{fault}\n{} bytes in {}: {:?}",
        input.len(),
        file.display(),
        String::from_utf8_lossy(&input[..input.len().min(600)])
    ))
}
