//! Parses and validates all policies: each on its own with its id, then strictly and to level 1 against the whole
//! schema (VA1). Cedar's own spans are moved to the place of the policy in its file (ER3).

use super::{
    letters,
    notes::Subject,
    phrase,
    text::{Chunk, chunks},
};
use crate::{
    Diagnostic, Effect, PolicySource, Severity,
    logic::Logic,
    rule::{Place, Rule},
    scope::Scope,
    walk::{Reads, wildcards},
};
use cedar_policy::{Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

const FILE_BYTES: usize = 256 << 10;
const POLICY_BYTES: usize = 10 << 10;
const SET_BYTES: usize = 64 << 20;
const SET_POLICIES: usize = 100_000;
const DEPTH: usize = 64;
const WILDCARDS: usize = 16;
const DEREFERENCES: u32 = 1;

/// A rule with the text it came from, while it is being checked.
struct Draft<'a> {
    rule: Rule,
    source: &'a PolicySource,
    chunk: Chunk,
}

/// All rules that parse; `found` holds what is wrong with them and with the others.
pub(crate) fn rules(sources: &[PolicySource], schema: &Schema, found: &mut Vec<Diagnostic>) -> Vec<Rule> {
    if let Some(excess) = excess_of_set(sources) {
        found.push(excess);
        return Vec::new();
    }
    let mut drafts: Vec<Draft<'_>> = Vec::new();
    let mut places: HashMap<Arc<str>, usize> = HashMap::new();
    for source in sources {
        if source.text.len() > FILE_BYTES {
            let message = format!("file has {} bytes; at most {FILE_BYTES}", source.text.len());
            found.push(Diagnostic::about("PC2010", &source.file, message));
            continue;
        }
        for chunk in chunks(&source.text) {
            let Some(draft) = draft(source, chunk, found) else { continue };
            match places.entry(Arc::clone(&draft.rule.id)) {
                Entry::Vacant(place) => {
                    place.insert(drafts.len());
                    drafts.push(draft);
                }
                Entry::Occupied(first) => {
                    found.extend(drafts.get(*first.get()).map(|first| duplicate(first, &draft)));
                }
            }
        }
    }
    if drafts.len() > SET_POLICIES {
        let message = format!("{} policies; at most {SET_POLICIES}", drafts.len());
        found.push(Diagnostic::about("PC2010", &Arc::from("policies"), message));
        return Vec::new();
    }
    validate(&drafts, &places, schema, found);
    drafts.into_iter().map(|draft| draft.rule).collect()
}

fn excess_of_set(sources: &[PolicySource]) -> Option<Diagnostic> {
    let bytes: usize = sources.iter().map(|source| source.text.len()).sum();
    let message = format!("{bytes} bytes of policies; at most {SET_BYTES}");
    (bytes > SET_BYTES).then(|| Diagnostic::about("PC2010", &Arc::from("policies"), message))
}

fn draft<'a>(source: &'a PolicySource, chunk: Chunk, found: &mut Vec<Diagnostic>) -> Option<Draft<'a>> {
    let text = source.text.get(chunk.range.clone()).unwrap_or_default();
    let at = |code, message| {
        Diagnostic::at(code, &source.file, &source.text, chunk.effect_at, "permit".len(), message)
    };
    if text.len() > POLICY_BYTES {
        found.push(at("PC2010", format!("policy has {} bytes; at most {POLICY_BYTES}", text.len())));
        return None;
    }
    if chunk.depth > DEPTH {
        found.push(at("PC2010", format!("brackets are nested {} deep; at most {DEPTH}", chunk.depth)));
        return None;
    }
    let policy = match Policy::parse(None, text) {
        Ok(policy) => policy,
        Err(errors) => {
            let code = if errors.to_string().contains("template") { "PC2011" } else { "PC2001" };
            found.extend(errors.iter().map(|error| moved(code, source, &chunk, error)));
            return None;
        }
    };
    let json = match policy.to_json() {
        Ok(json) => json,
        Err(cause) => {
            found.push(at("PC2001", format!("this policy cannot be written as JSON: {cause}")));
            return None;
        }
    };
    let most = wildcards(&json);
    if most > WILDCARDS {
        found.push(at("PC2010", format!("a pattern has {most} wildcards; at most {WILDCARDS}")));
        return None;
    }
    let effect = match policy.effect() {
        cedar_policy::Effect::Permit => Effect::Allow,
        cedar_policy::Effect::Forbid => Effect::Deny,
    };
    let subject = Subject { file: &source.file, text: &source.text, chunk: &chunk, policy: &policy, effect };
    let (id, notes) = subject.read(found)?;
    let literals = policy.entity_literals();
    if let Some(unfit) = letters::unfit(source, &chunk, &literals) {
        found.push(unfit);
        return None;
    }
    let line = Diagnostic::at("", &source.file, &source.text, chunk.effect_at, 1, "").line;
    let rule = Rule {
        effect,
        scope: Scope::of(&policy),
        logic: Logic::of(&policy),
        reads: policy.has_non_scope_constraint().then(|| Reads::of(&json)),
        literals,
        policy: policy.new_id(PolicyId::new(&id)),
        id,
        notes,
        place: Place { file: Arc::clone(&source.file), line },
        is_baseline: source.is_baseline,
    };
    Some(Draft { rule, source, chunk })
}

fn duplicate(first: &Draft<'_>, second: &Draft<'_>) -> Diagnostic {
    let id_at = |chunk: &Chunk| chunk.annotations.iter().find(|(name, _)| name == "id").map(|(_, at)| *at);
    let at = |draft: &Draft<'_>, message: String| {
        let start = id_at(&draft.chunk).unwrap_or(draft.chunk.effect_at);
        Diagnostic::at("PC2102", &draft.source.file, &draft.source.text, start, "@id".len(), message)
    };
    let id = &first.rule.id;
    let earlier = at(first, String::new());
    at(second, format!("`{id}` is already the id of another policy"))
        .label(format!("first used at {}:{}:{}", earlier.file, earlier.line, earlier.column))
        .help("records name policies by id, so each id is used once; choose another")
}

fn validate(
    drafts: &[Draft<'_>],
    places: &HashMap<Arc<str>, usize>,
    schema: &Schema,
    found: &mut Vec<Diagnostic>,
) {
    let set = match PolicySet::from_policies(drafts.iter().map(|draft| draft.rule.policy.clone())) {
        Ok(set) => set,
        Err(cause) => {
            found.push(Diagnostic::about("PC2011", &Arc::from("policies"), cause.to_string()));
            return;
        }
    };
    let result =
        Validator::new(schema.clone()).validate_with_level(&set, ValidationMode::Strict, DEREFERENCES);
    let draft_of = |id: &PolicyId| drafts.get(*places.get(AsRef::<str>::as_ref(id))?);
    let mut said = phrase::Said::default();
    for error in result.validation_errors() {
        let Some(draft) = draft_of(error.policy_id()) else { continue };
        said.error(error, draft.rule.effect, moved("PC2002", draft.source, &draft.chunk, error), schema);
    }
    // What is wrong already needs no second word.
    let wrong: HashSet<&PolicyId> = result.validation_errors().map(|error| error.policy_id()).collect();
    for warning in result.validation_warnings().filter(|warning| !wrong.contains(warning.policy_id())) {
        let Some(draft) = draft_of(warning.policy_id()) else { continue };
        said.warning(warning, moved("PC2003", draft.source, &draft.chunk, warning));
    }
    found.extend(said.finish());
}

/// Cedar's finding, moved to where the policy stands in its file.
fn moved(
    code: &'static str,
    source: &PolicySource,
    chunk: &Chunk,
    error: &(impl miette::Diagnostic + ?Sized),
) -> Diagnostic {
    let label = error.labels().and_then(|mut labels| labels.next());
    // A mark on the whole policy is shown at its effect.
    let (start, length) = match &label {
        Some(label) if label.offset() > 0 || label.len() < chunk.range.len().saturating_sub(1) => {
            (chunk.range.start + label.offset(), label.len())
        }
        _ => (chunk.effect_at, "permit".len()),
    };
    let text = error.to_string();
    let mut found =
        Diagnostic::at(code, &source.file, &source.text, start, length, phrase::without_policy(&text));
    found.severity = Severity::Error;
    found.label = label.and_then(|label| label.label().map(str::to_owned)).unwrap_or_default();
    found.help = error.help().map(|help| help.to_string());
    found
}
