//! Damaged policies and entities (IN12): whatever is dropped or garbled, either nothing compiles and the last good set
//! stays, or what compiles allows no more than stock Cedar does over the same damaged input.

use crate::{
    Draft, Setting, compile,
    question::Question,
    run, scaled, scope,
    support::dice::Dice,
    support::judge::{Judge, Verdict},
    world,
    world::Site,
};
use policies_engine::{Effect, Engine, EntitySet, PolicySource};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// One policy with a few characters gone, doubled or replaced.
fn garbled(dice: &mut Dice, text: &str) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for _ in 0..=dice.below(2) {
        let at = dice.below(letters.len());
        match dice.below(5) {
            0 => drop(letters.remove(at)),
            1 => letters.insert(at, letters[at]),
            2 => letters.truncate(at.max(1)),
            // A word or number changes into another one.
            3 => {
                let digits: Vec<usize> =
                    (0..letters.len()).filter(|at| letters[*at].is_ascii_digit()).collect();
                if let Some(at) = digits.get(dice.below(digits.len())) {
                    letters[*at] = ['0', '1', '7', '9'][dice.below(4)];
                }
            }
            _ => {
                letters[at] = *['(', ')', '"', '!', '<', '=', '&', '|', '.', ';', '@', 'a', ' ']
                    .get(dice.below(13))
                    .expect("one")
            }
        }
    }
    letters.into_iter().collect()
}

/// The entities with attributes, parents or whole entities gone.
fn thinned(dice: &mut Dice, entities: &EntitySet) -> EntitySet {
    let mut thin = entities.clone();
    for _ in 0..=dice.below(3) {
        let (service, method, route) = (dice.below(3), dice.below(3), dice.below(3));
        let workload = dice.below(thin.workloads.len());
        match dice.below(14) {
            0 => thin.trust_domain = None,
            1 => thin.services.iter_mut().skip(service).take(1).for_each(|service| service.namespace = None),
            2 => {
                thin.services.iter_mut().skip(service).take(1).for_each(|service| service.sensitivity = None)
            }
            3 => thin.services.iter_mut().skip(service).take(1).for_each(|service| service.labels.clear()),
            4 => thin.methods.iter_mut().skip(method).take(1).for_each(|method| method.read_only = None),
            5 => thin.routes.iter_mut().skip(route).take(1).for_each(|route| route.sensitivity = None),
            6 => {
                thin.workloads.iter_mut().skip(workload).take(1).for_each(|workload| workload.groups.clear())
            }
            7 => thin
                .workloads
                .iter_mut()
                .skip(workload)
                .take(1)
                .for_each(|workload| workload.attested_by.clear()),
            8 => thin
                .workloads
                .iter_mut()
                .skip(workload)
                .take(1)
                .for_each(|workload| workload.namespace = None),
            9 if !thin.workloads.is_empty() => drop(thin.workloads.remove(workload)),
            10 if thin.services.len() > service => drop(thin.services.remove(service)),
            11 if thin.routes.len() > route => drop(thin.routes.remove(route)),
            _ => {
                let extra = thin.extra.as_mut().and_then(|extra| extra.as_array_mut());
                let Some(extra) = extra.filter(|extra| !extra.is_empty()) else { continue };
                let at = dice.below(extra.len());
                match dice.below(4) {
                    0 => drop(extra.remove(at)),
                    1 => extra[at]["parents"] = serde_json::json!([]),
                    2 => extra[at]["tags"] = serde_json::json!({}),
                    _ => {
                        let attributes = extra[at]["attrs"].as_object_mut().expect("attributes");
                        let name = attributes.keys().nth(dice.below(attributes.len())).cloned();
                        name.map(|name| attributes.remove(&name));
                    }
                }
            }
        }
    }
    thin
}

#[test]
fn in12_damaged_policies_and_entities_allow_nothing_that_stock_cedar_does_not() {
    let tally = crate::Tally::default();
    let [refused, survived, damaged_allows] = [(); 3].map(|()| AtomicUsize::new(0));
    run(scaled(3_000), &tally, |seed, tally, previous| {
        let mut dice = Dice(seed.wrapping_mul(0x8CB9_2BA7_2F3D_8DD7) ^ 12);
        let site = Site::shipped();
        let (entities, focus) = (world::entities(&mut dice), scope::focus(&mut dice));
        let drafts = (0..8).map(|at| Draft::random(&mut dice, &site, &focus, at)).collect();
        let mut setting = Setting { site, entities, drafts };
        let good = setting.compiled(previous.as_ref());
        for _ in 0..8 {
            let entities = match dice.below(2) {
                0 => thinned(&mut dice, &setting.entities),
                _ => setting.entities.clone(),
            };
            let source = |draft: &Draft| PolicySource::new(format!("{}.cedar", draft.id), draft.text());
            let mut sources: Vec<PolicySource> = setting.drafts.iter().map(source).collect();
            let victim = dice.below(sources.len());
            if dice.below(2) == 0 && victim < sources.len() {
                let text = garbled(&mut dice, &sources[victim].text);
                sources[victim] = PolicySource::new(&*sources[victim].file, text);
            }
            let texts: Vec<Arc<str>> = sources.iter().map(|source| Arc::clone(&source.text)).collect();
            let Ok(snapshot) = compile(&setting.site, &entities, sources.into_iter(), Some(&good)) else {
                refused.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            survived.fetch_add(1, Ordering::Relaxed);
            // A file of which nothing is left has no policy.
            let left = texts.iter().map(|text| &**text).filter(|text| !text.trim().is_empty());
            let mut judge = Judge::new(&setting.site.schema, left, &entities);
            let mut engine = Engine::new(Arc::clone(&snapshot));
            for _ in 0..40 {
                let question = Question::random(&mut dice, &setting.site, &focus);
                let request = question.request();
                let ours = engine.decide(&request);
                let theirs = judge.verdict(&request, &snapshot.versions().declared);
                tally.count(&ours);
                damaged_allows.fetch_add(usize::from(ours.is_allowed()), Ordering::Relaxed);
                let is_widened = ours.effect == Effect::Allow && theirs.effect == Effect::Deny;
                assert!(
                    !is_widened,
                    "seed {seed}: {question:#?}\n{}\nours  {ours:?}\nstock {theirs:?}",
                    texts.concat()
                );
                assert_eq!(Verdict::of(&ours), theirs, "seed {seed}: {question:#?}\n{}", texts.concat());
            }
        }
        *previous = Some(good);
    });
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let (refused, survived, allows) = (count(&refused), count(&survived), count(&damaged_allows));
    println!(
        "damage: {refused} refused, {survived} compiled; {allows} allows, all of them stock Cedar's; {tally}"
    );
    assert!(refused > survived / 10 && survived > refused / 10 && allows > 0, "nothing was damaged");
}
