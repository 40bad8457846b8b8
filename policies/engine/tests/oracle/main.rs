//! Our engine against stock Cedar, over random sites, entities, policies and requests (OR2, IN12): same effect, same
//! reason, same determining policies, same errors, same would-be verdict of shadow policies; from a cold plan, from a
//! warm plan and without an engine. `PORTCULLIS_TEST_SCALE` multiplies the 20,000 cases; `just oracle` runs a million.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "INVARIANT: all of it is a test, free functions included"
)]

mod damage;
mod expression;
mod leaf;
mod policy;
mod question;
mod scope;
#[path = "../support/mod.rs"]
mod support;
mod vectors;
mod words;
mod world;

use policies_engine::{Engine, EntitySet, Evaluated, Numbers, PolicySource, Snapshot, SnapshotInput};
use policy::Draft;
use question::Question;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use support::{
    dice::Dice,
    judge::{Judge, Verdict},
};
use world::Site;

/// Cases of a run in CI.
const CASES: usize = 20_000;
const POLICIES: usize = 14;
/// In some installations: more than a plan remembers the outcomes of.
const MANY: usize = 70;
const QUESTIONS: usize = 250;

/// One installation with everything that is asked of it.
struct Setting {
    site: Site,
    entities: EntitySet,
    drafts: Vec<Draft>,
}

impl Setting {
    /// Compiles, without the policies that strict validation refuses.
    fn compiled(&mut self, previous: Option<&Arc<Snapshot>>) -> Arc<Snapshot> {
        loop {
            match compile(&self.site, &self.entities, self.drafts.iter().flat_map(Draft::files), previous) {
                Ok(snapshot) => return snapshot,
                Err(bad) => {
                    // What validates as a policy need not validate as a template of every slot.
                    let is_bad =
                        |draft: &Draft| bad.iter().any(|file| file.split('.').next() == Some(&draft.id));
                    assert!(self.drafts.iter().any(is_bad), "no policy is to blame: {bad:?}");
                    self.drafts.retain(|draft| draft.is_linked || !is_bad(draft));
                    self.drafts
                        .iter_mut()
                        .filter(|draft| is_bad(draft))
                        .for_each(|draft| draft.is_linked = false);
                }
            }
        }
    }

    fn judge(&self) -> Judge {
        let texts: Vec<String> = self.drafts.iter().map(Draft::text).collect();
        Judge::new(&self.site.schema, texts.iter().map(String::as_str), &self.entities)
    }
}

/// The snapshot, or the files that are refused.
fn compile(
    site: &Site,
    entities: &EntitySet,
    policies: impl Iterator<Item = PolicySource>,
    previous: Option<&Arc<Snapshot>>,
) -> Result<Arc<Snapshot>, BTreeSet<String>> {
    let input = SnapshotInput {
        numbers: Numbers::default(),
        schema: site.schema.clone(),
        policies: policies.collect(),
        entities: entities.clone().into(),
        routes_digest: [0; 32],
    };
    let blamed = |found: Vec<policies_engine::Diagnostic>| {
        found
            .iter()
            .filter(|f| f.severity == policies_engine::Severity::Error)
            .map(|f| f.file.to_string())
            .collect()
    };
    Snapshot::compile_after(previous, input).map(Arc::new).map_err(blamed)
}

/// How many cases went which way.
#[derive(Default)]
struct Tally {
    cases: AtomicUsize,
    constant: AtomicUsize,
    compiled: AtomicUsize,
    fallback: AtomicUsize,
    allowed: AtomicUsize,
    with_errors: AtomicUsize,
    with_would: AtomicUsize,
    drafted: AtomicUsize,
    kept: AtomicUsize,
}

impl Tally {
    fn count(&self, decision: &policies_engine::Decision) {
        let one = |counter: &AtomicUsize, is: bool| counter.fetch_add(usize::from(is), Ordering::Relaxed);
        one(&self.cases, true);
        one(&self.constant, decision.evaluated == Evaluated::Constant);
        one(&self.compiled, decision.evaluated == Evaluated::Compiled);
        one(&self.fallback, decision.evaluated == Evaluated::Fallback);
        one(&self.allowed, decision.is_allowed());
        one(&self.with_errors, !decision.errors.is_empty());
        one(&self.with_would, decision.would.is_some());
    }

    /// An oracle over plans that are constant, or that stock Cedar evaluates anyway, would prove nothing.
    fn assert_lively(&self) {
        let [constant, compiled, fallback] =
            [&self.constant, &self.compiled, &self.fallback].map(|c| self.part(c));
        assert!(compiled > 4.0 * fallback && constant < 0.7, "too little is compiled: {self}");
        assert!(self.part(&self.allowed) > 0.08 && self.part(&self.with_errors) > 0.01, "too tame: {self}");
    }

    fn part(&self, counter: &AtomicUsize) -> f64 {
        counter.load(Ordering::Relaxed) as f64 / self.cases.load(Ordering::Relaxed).max(1) as f64
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |counter| self.part(counter) * 100.0;
        write!(
            f,
            "{} cases, 0 differences: {:.1} % constant, {:.1} % compiled, {:.1} % fallback; {:.1} % allowed, \
             {:.1} % with errors, {:.1} % with a would-be verdict; {} of {} policies validated",
            self.cases.load(Ordering::Relaxed),
            percent(&self.constant),
            percent(&self.compiled),
            percent(&self.fallback),
            percent(&self.allowed),
            percent(&self.with_errors),
            percent(&self.with_would),
            self.kept.load(Ordering::Relaxed),
            self.drafted.load(Ordering::Relaxed),
        )
    }
}

fn scaled(cases: usize) -> usize {
    let scale = std::env::var("PORTCULLIS_TEST_SCALE").ok().and_then(|scale| scale.parse().ok());
    (cases as f64 * scale.unwrap_or(1.0)) as usize
}

/// Runs `each` with a seed of its own until there are that many cases, on all cores.
fn run(cases: usize, tally: &Tally, each: impl Fn(u64, &Tally, &mut Option<Arc<Snapshot>>) + Sync) {
    let seed = AtomicUsize::new(0);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let mut previous = None;
                while tally.cases.load(Ordering::Relaxed) < cases {
                    each(seed.fetch_add(1, Ordering::Relaxed) as u64, tally, &mut previous);
                }
            });
        }
    });
}

/// One installation, asked many questions.
fn ask(seed: u64, site: Site, tally: &Tally, previous: &mut Option<Arc<Snapshot>>) {
    let mut dice = Dice(seed.wrapping_mul(0xD134_2543_DE82_EF95));
    let entities = world::entities(&mut dice);
    let focus = scope::focus(&mut dice);
    let count = if dice.below(24) == 0 { MANY } else { POLICIES };
    let drafts = (0..count).map(|at| Draft::random(&mut dice, &site, &focus, at)).collect();
    let mut setting = Setting { site, entities, drafts };
    let snapshot = setting.compiled(previous.as_ref());
    tally.drafted.fetch_add(count, Ordering::Relaxed);
    tally.kept.fetch_add(setting.drafts.len(), Ordering::Relaxed);
    let mut judge = setting.judge();
    // A third of them beside a candidate: the same without its first policy, and with what was shadow.
    let mut beside = seed.is_multiple_of(3).then(|| Candidate::new(&setting, &snapshot));
    let judged = beside.as_ref().map_or(&snapshot, |beside| &beside.snapshot);
    let mut engine = Engine::new(Arc::clone(judged));
    for at in 0..QUESTIONS {
        let question = Question::random(&mut dice, &setting.site, &focus);
        let request = question.request();
        let declared = &snapshot.versions().declared;
        let mut expected = judge.verdict(&request, declared);
        let alone = expected.clone();
        if let Some(candidate) = &mut beside {
            let mut would = candidate.judge.verdict(&request, declared);
            would.would = None;
            if !would.is_same(&expected) {
                expected.would = Some(Box::new(would));
            }
        }
        let cold = engine.decide(&request);
        let warm = engine.decide(&request);
        tally.count(&warm);
        if at % 16 == 0 {
            assert_eq!(judge.fault(&request, declared), None, "{question:#?}");
        }
        let anew = if at % 4 == 0 { snapshot.decide(&request) } else { warm.clone() };
        let is_same =
            Verdict::of(&cold) == expected && cold == warm && (at % 4 > 0 || Verdict::of(&anew) == alone);
        if !is_same {
            eprintln!(
                "seed {seed}, question {at}: {question:#?}\ncold  {cold:?}\nwarm  {warm:?}\nanew  {anew:?}\nstock {expected:?}"
            );
            panic!("seed {seed}, question {at}, made smaller:\n{}", small(&setting, &snapshot, &question));
        }
    }
    *previous = Some(snapshot);
}

/// A set of policies that is judged beside another.
struct Candidate {
    snapshot: Arc<Snapshot>,
    judge: Judge,
}

impl Candidate {
    fn new(setting: &Setting, live: &Arc<Snapshot>) -> Candidate {
        let drafts = setting.drafts.iter().skip(1).map(Draft::live).collect();
        let setting = Setting { site: setting.site.clone(), entities: setting.entities.clone(), drafts };
        let sources = setting.drafts.iter().flat_map(Draft::files);
        let candidate =
            compile(&setting.site, &setting.entities, sources, Some(live)).expect("all of it compiled");
        Candidate { snapshot: Arc::new(live.beside(candidate, 7)), judge: setting.judge() }
    }
}

/// The smallest set of policies found that a new engine judges differently, with both verdicts.
fn small(setting: &Setting, compiled: &Arc<Snapshot>, question: &Question) -> String {
    let judged = |drafts: &[Draft]| {
        let Setting { site, entities, .. } = setting;
        let snapshot = compile(site, entities, drafts.iter().flat_map(Draft::files), Some(compiled)).ok()?;
        let mine = Setting { site: site.clone(), entities: entities.clone(), drafts: drafts.to_vec() };
        let theirs = mine.judge().verdict(&question.request(), &snapshot.versions().declared);
        let ours = Verdict::of(&Engine::new(snapshot).decide(&question.request()));
        (ours != theirs).then(|| format!("ours  {ours:?}\nstock {theirs:?}"))
    };
    let text = |drafts: &[Draft]| drafts.iter().map(Draft::text).collect::<String>();
    let mut drafts = setting.drafts.clone();
    let Some(mut verdicts) = judged(&drafts) else {
        return text(&drafts) + "only after what was asked before";
    };
    // Half, a quarter, ... of the policies at once, then single ones, then parts of them.
    let mut step = drafts.len() / 2;
    while step > 0 {
        let mut at = 0;
        while at < drafts.len() {
            let end = (at + step).min(drafts.len());
            let fewer = [&drafts[..at], &drafts[end..]].concat();
            match judged(&fewer) {
                Some(verdict) => (drafts, verdicts) = (fewer, verdict),
                None => at = end,
            }
        }
        step /= 2;
    }
    let simpler = |drafts: &[Draft]| {
        let all = drafts.iter().enumerate().flat_map(|(at, draft)| {
            draft
                .simpler()
                .into_iter()
                .map(move |draft| [&drafts[..at], &[draft], &drafts[at + 1..]].concat())
        });
        all.into_iter().find_map(|candidate| Some((judged(&candidate)?, candidate)))
    };
    while let Some((verdict, candidate)) = simpler(&drafts) {
        (verdicts, drafts) = (verdict, candidate);
    }
    text(&drafts) + &verdicts
}

#[test]
fn or2_the_engine_decides_as_stock_cedar_does_under_the_shipped_schema() {
    let tally = Tally::default();
    if let Some(seed) = std::env::var("ORACLE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return ask(seed, Site::shipped(), &tally, &mut None);
    }
    run(scaled(CASES * 3 / 5), &tally, |seed, tally, previous| ask(seed, Site::shipped(), tally, previous));
    println!("shipped schema: {tally}");
    tally.assert_lively();
}

#[test]
fn or2_the_engine_decides_as_stock_cedar_does_under_random_site_schemas() {
    let tally = Tally::default();
    run(scaled(CASES * 2 / 5), &tally, |seed, tally, _| {
        let site = Site::random(&mut Dice(!seed));
        ask(seed, site, tally, &mut None);
    });
    println!("random schemas: {tally}");
    tally.assert_lively();
}
