//! From a held snapshot to one that judges: merge with the entities of this process, compile, run the shipped cases.
//! Pure; called off the runtime.

use super::{held::Held, merge::merge, refused::Refused};
use crate::{
    content::{Hash, Kind},
    rules::Rules,
};
use policies_engine::{Diagnostic, EntitySet, Snapshot, SnapshotInput, baseline_cases, run_cases};
use std::sync::Arc;

/// What this process adds.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    pub(crate) entities: Arc<EntitySet>,
    pub(crate) routes: Hash,
}

impl Default for Own {
    fn default() -> Own {
        Own { entities: Arc::default(), routes: Hash([0; 32]) }
    }
}

/// What the last snapshot already proved: shipped policies and schema with these hashes pass the shipped cases, and
/// these entities are the merger of those two sides.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checked {
    baseline: Option<Hash>,
    merged: Option<Merged>,
}

#[derive(Debug, Clone)]
struct Merged {
    published: Vec<Hash>,
    own: Arc<EntitySet>,
    both: Arc<EntitySet>,
}

/// A snapshot to be put into force.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) checked: Checked,
}

/// Compiles `held` together with `own`.
pub(crate) fn compile(
    held: &Held,
    own: &Own,
    previous: Option<&Arc<Snapshot>>,
    checked: Checked,
) -> Result<Applied, Refused> {
    let known = checked.merged.filter(|known| known.is_of(held, own));
    let mut content = held.content(known.is_none()).map_err(|cause| Refused::new("PC2022", cause))?;
    let merged = match known {
        Some(known) => known,
        None => Merged {
            published: hashes(held, Kind::Entities),
            own: Arc::clone(&own.entities),
            both: Arc::new(
                merge(&content.entities, &own.entities).map_err(|found| Refused::found("PC2025", found))?,
            ),
        },
    };
    content.entities = Arc::clone(&merged.both);
    content.routes = own.routes;
    let numbers = held.offer.numbers;
    let baseline = shipped(held);
    let input = content.input(numbers);
    if checked.baseline != Some(baseline) {
        run_baseline(&input, &content.rules)?;
    }
    let compiled = Snapshot::compile_after(previous, input);
    let snapshot = compiled.map_err(|found| Refused::found("PC2025", found))?;
    let checked = Checked { baseline: Some(baseline), merged: Some(merged) };
    Ok(Applied { snapshot: Arc::new(snapshot), checked })
}

impl Merged {
    fn is_of(&self, held: &Held, own: &Own) -> bool {
        Arc::ptr_eq(&self.own, &own.entities) && self.published == hashes(held, Kind::Entities)
    }
}

/// The cases of the policies that this build ships, on the shipped policies and the schema as they were published: a
/// publisher whose system policies mean something else here is not followed. Policies of the site may override them.
fn run_baseline(input: &SnapshotInput, rules: &Rules) -> Result<(), Refused> {
    let input = SnapshotInput {
        policies: input.policies.iter().filter(|source| source.is_baseline).cloned().collect(),
        schema: input.schema.clone(),
        entities: Arc::default(),
        ..*input
    };
    let snapshot = Snapshot::compile(input).map_err(|found| Refused::found("PC2025", found))?;
    for (file, text) in baseline_cases() {
        // Who replaces a shipped file on purpose, with the approval that needs, replaces what its cases say.
        if rules.files.get(&file.replace("_test.json", ".cedar")).is_some() {
            continue;
        }
        let outside = |name: &str| Err(format!("`{name}` is not shipped"));
        let outcomes = run_cases(&snapshot, text, &outside)
            .map_err(|cause| Refused::new("PC2026", format!("{file}: {cause}")))?;
        let failed = outcomes.iter().find_map(|outcome| Some((&outcome.name, outcome.failure.as_ref()?)));
        if let Some((name, failure)) = failed {
            let what = format!("case `{name}` of {file} fails: {failure}");
            let finding = Diagnostic::about("PC2026", &Arc::from(file), what.clone());
            return Err(Refused { findings: vec![finding], ..Refused::new("PC2026", what) });
        }
    }
    Ok(())
}

/// One hash over shipped policies and schema.
fn shipped(held: &Held) -> Hash {
    let objects = held.offer.manifest.objects.iter();
    let shipped = objects.filter(|object| object.baseline || object.kind == Kind::Schema);
    let all: Vec<u8> = shipped.flat_map(|object| object.sha256.0).collect();
    Hash::of(&all)
}

fn hashes(held: &Held, kind: Kind) -> Vec<Hash> {
    let objects = held.offer.manifest.objects.iter();
    objects.filter(|object| object.kind == kind).map(|object| object.sha256).collect()
}
