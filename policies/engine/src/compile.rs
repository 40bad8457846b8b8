//! From texts and values to a [`Snapshot`], or to every finding at once. Called by the policy store on a control
//! thread; runs in a thread of its own with a large stack, so that deep input cannot take the process down (VA4).
//!
//! A snapshot after another one takes over what did not change (EN12): the schema while its text is the same, each
//! policy while its text and the schema are, the entities that did not change while the schema is. What a snapshot says
//! never depends on the one before it.

mod batch;
pub(crate) mod bounded;
mod cores;
mod delta;
mod draft;
mod entities;
mod finding;
pub(crate) mod letters;
mod links;
mod named;
mod notes;
mod overlap;
pub(crate) mod phrase;
pub(crate) mod policies;
pub(crate) mod schema;
mod shape;
mod shared;
pub(crate) mod text;
pub(crate) mod validate;

pub(crate) use named::Named;
pub(crate) use shared::{Conditions, Shared};

use crate::{
    Action, AdminAction, Diagnostic, EntitySet, PrincipalKind, ResourceKind, Snapshot, SnapshotInput,
    Versions,
    rule::Rule,
    schema::{Declared, SchemaText},
    scope::ScopeIndex,
    snapshot::{Homes, Parts},
    uid::cedar_uid,
    world::World,
};
use aws_lc_rs::digest::{Context, SHA256};
use bounded::Unfinished;
use cedar_policy::Schema;
use policies::{CheckedFile, is_blocked};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use validate::Judge;

/// Who may ask for what on what, by type.
pub(crate) type Environments = HashSet<(PrincipalKind, Action, ResourceKind)>;

/// Time for a set of ordinary size; every further [`LIMIT_BYTES`] of text get the same again. Builds without
/// optimization are given more.
const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 5 });
const LIMIT_BYTES: usize = 1 << 20;

/// What a snapshot keeps for the next one.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    vocabulary: Arc<Vocabulary>,
    files: Vec<Arc<CheckedFile>>,
    pub(crate) entities: Arc<EntitySet>,
    /// The values that the base of the entities was built from.
    settled: Arc<EntitySet>,
}

impl Kept {
    /// The policy files, in their order.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &crate::PolicySource> {
        self.files.iter().map(|file| &file.source)
    }
}

/// The schema and all that follows from it.
pub(crate) struct Vocabulary {
    text: SchemaText,
    schema: Arc<Schema>,
    judge: Judge,
    declared: Arc<Declared>,
    environments: Arc<Environments>,
    digest: [u8; 32],
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary").field("declared", &self.declared).finish_non_exhaustive()
    }
}

/// Runs [`checked`] with a large stack and a time limit.
pub(crate) fn compile(
    before: Option<Arc<Snapshot>>,
    input: SnapshotInput,
) -> Result<Snapshot, Vec<Diagnostic>> {
    let bytes: usize = input.policies.iter().map(|source| source.text.len()).sum();
    let times = u32::try_from(bytes / LIMIT_BYTES).unwrap_or(u32::MAX).saturating_add(1);
    let limit = LIMIT.saturating_mul(times);
    let result = bounded::COMPILERS.run(limit, move || checked(before.as_deref(), input));
    result.unwrap_or_else(|cause| Err(vec![unfinished(&cause, limit)]))
}

fn unfinished(cause: &Unfinished, limit: Duration) -> Diagnostic {
    let about = |code, message: String| Diagnostic::about(code, &Arc::from("policies"), message);
    match cause {
        Unfinished::Late => {
            let message = format!("the policies are not compiled after {} s", limit.as_secs());
            about("PC2010", message)
                .help("leave out what was added last; some policy costs too much to look at")
        }
        Unfinished::Crowded(left) => {
            let message = format!("{left} compilations that took too long still run; no more is started");
            about("PC2010", message).help("restart the process after the policies that take so long are gone")
        }
        Unfinished::Panicked => about("PC2011", "the policy compiler failed on this input".to_owned()),
        Unfinished::NoThread(cause) => about("PC2011", format!("no thread for the policy compiler: {cause}")),
    }
}

fn checked(before: Option<&Snapshot>, input: SnapshotInput) -> Result<Snapshot, Vec<Diagnostic>> {
    let before = before.map(Snapshot::parts).filter(|parts| parts.kept.vocabulary.text == input.schema);
    match before {
        Some(parts) => complete(Arc::clone(&parts.kept.vocabulary), Some(parts), input),
        None => {
            let (schema, declared) = schema::build(&input.schema).map_err(|found| vec![*found])?;
            with_schema(schema, declared, input)
        }
    }
}

/// The rest of compilation, over a schema that is built already.
pub(crate) fn with_schema(
    schema: Schema,
    declared: Declared,
    input: SnapshotInput,
) -> Result<Snapshot, Vec<Diagnostic>> {
    let vocabulary = Vocabulary {
        environments: environments(&schema).into(),
        judge: Judge::new(&schema, &input.schema),
        schema: schema.into(),
        declared: declared.into(),
        digest: digest(input.schema.texts()),
        text: input.schema.clone(),
    };
    complete(vocabulary.into(), None, input)
}

/// Compiles `input` over `vocabulary`. `before` has the same vocabulary.
fn complete(
    vocabulary: Arc<Vocabulary>,
    before: Option<&Parts>,
    input: SnapshotInput,
) -> Result<Snapshot, Vec<Diagnostic>> {
    let mut found = Vec::new();
    let files_before = before.map(|parts| &*parts.kept.files).unwrap_or_default();
    let files = policies::check(&input.policies, files_before, &vocabulary.judge, &mut found);
    let told = before.and_then(|parts| Told::after(parts, &input.entities, &vocabulary.schema));
    let told = told.or_else(|| Told::new(&input.entities, &vocabulary.schema, &mut found));
    found.sort_by(|a, b| place(a).cmp(&place(b)));
    let Some(told) = told.filter(|_| !is_blocked(&found)) else { return Err(found) };
    let (ruled, distrust, tickets) = match before {
        Some(parts) if is_same(&files, &parts.kept.files) => {
            (Ruled::of(parts), Arc::clone(&parts.distrust), Arc::clone(&parts.versions.tickets))
        }
        before => {
            let ruled = Ruled::new(&files, before);
            let tickets = Arc::new(tickets(&ruled.rules));
            (ruled, Arc::default(), tickets)
        }
    };
    let versions = Arc::new(Versions {
        numbers: input.numbers,
        manifest: policies::manifest(&files),
        schema: vocabulary.digest,
        entities: told.digest,
        routes: input.routes_digest,
        engine: engine_build(),
        declared: Arc::clone(&vocabulary.declared),
        homes: told.homes,
        tickets,
    });
    Ok(Snapshot::assemble(Parts {
        versions,
        rules: ruled.rules,
        by_id: ruled.by_id,
        index: ruled.index,
        named: ruled.named,
        schema: Arc::clone(&vocabulary.schema),
        environments: Arc::clone(&vocabulary.environments),
        entities: told.entities,
        read_only: told.read_only,
        warnings: found,
        distrust,
        moved: Arc::default(),
        candidate: None,
        kept: Kept { vocabulary, files, entities: input.entities, settled: told.settled },
    }))
}

/// Where a finding stands, and what it says there.
fn place(found: &Diagnostic) -> (&str, usize, usize, usize, &str, &str) {
    (&found.file, found.line, found.column, found.length, found.code, &found.message)
}

fn is_same(files: &[Arc<CheckedFile>], before: &[Arc<CheckedFile>]) -> bool {
    files.len() == before.len() && files.iter().zip(before).all(|(file, before)| Arc::ptr_eq(file, before))
}

/// All that follows from the policies of a set.
struct Ruled {
    rules: Arc<[Arc<Rule>]>,
    by_id: Arc<HashMap<Arc<str>, usize>>,
    index: Arc<ScopeIndex>,
    named: Arc<Named>,
}

impl Ruled {
    fn of(parts: &Parts) -> Ruled {
        Ruled {
            rules: Arc::clone(&parts.rules),
            by_id: Arc::clone(&parts.by_id),
            index: Arc::clone(&parts.index),
            named: Arc::clone(&parts.named),
        }
    }

    fn new(files: &[Arc<CheckedFile>], before: Option<&Parts>) -> Ruled {
        let rules: Arc<[Arc<Rule>]> = files.iter().flat_map(|file| file.rules()).cloned().collect();
        let (by_id, index) = match before.filter(|parts| has_places_of(&rules, &parts.rules)) {
            Some(parts) => (Arc::clone(&parts.by_id), parts.index.after(&rules)),
            None => {
                let mut by_id = HashMap::with_capacity(rules.len());
                by_id.extend(rules.iter().enumerate().map(|(at, rule)| (Arc::clone(&rule.id), at)));
                (by_id.into(), ScopeIndex::of(&rules))
            }
        };
        let named = match before {
            Some(parts) => parts.named.after(&parts.kept.files, files),
            None => Named::of(files).into(),
        };
        Ruled { rules, by_id, index: index.into(), named }
    }
}

fn tickets(rules: &[Arc<Rule>]) -> BTreeMap<Arc<str>, Arc<str>> {
    let of = |rule: &Arc<Rule>| Some((Arc::clone(&rule.id), rule.notes.ticket.as_deref()?.into()));
    rules.iter().filter_map(of).collect()
}

/// Whether each id is at the same place in both.
fn has_places_of(rules: &[Arc<Rule>], before: &[Arc<Rule>]) -> bool {
    let is_same = |(rule, other): (&Arc<Rule>, &Arc<Rule>)| Arc::ptr_eq(rule, other) || rule.id == other.id;
    rules.len() == before.len() && rules.iter().zip(before).all(is_same)
}

/// All that follows from the entities. What an engine wants precomputed of them belongs here: built when the values or
/// the schema change, shared by every snapshot until then.
struct Told {
    entities: Arc<World>,
    settled: Arc<EntitySet>,
    read_only: Arc<HashSet<String>>,
    homes: Arc<Homes>,
    digest: [u8; 32],
}

impl Told {
    fn new(set: &Arc<EntitySet>, schema: &Schema, found: &mut Vec<Diagnostic>) -> Option<Told> {
        let entities = entities::build(set, schema, found)?;
        let read_only = set.methods.iter().filter(|method| method.read_only == Some(true));
        Some(Told {
            entities: Arc::new(World::new(entities)),
            settled: Arc::clone(set),
            read_only: Arc::new(read_only.map(|method| method.id.clone()).collect()),
            homes: Arc::new(Homes::of(set)),
            digest: entities::digest(set),
        })
    }

    /// From those of a snapshot with the same schema, where they are the same or a few differ.
    fn after(parts: &Parts, set: &Arc<EntitySet>, schema: &Schema) -> Option<Told> {
        let Kept { entities: before, settled, .. } = &parts.kept;
        let is_same = Arc::ptr_eq(before, set) || before == set;
        let (entities, homes, digest) = if is_same {
            let versions = &parts.versions;
            (Arc::clone(&parts.entities), Arc::clone(&versions.homes), versions.entities)
        } else {
            let after = delta::after(&parts.entities.base(), settled, set, schema)?;
            (after.into(), Arc::new(Homes::of(set)), entities::digest(set))
        };
        // Methods are the same: a delta is of workloads and routes alone.
        let read_only = Arc::clone(&parts.read_only);
        Some(Told { entities, settled: Arc::clone(settled), read_only, homes, digest })
    }
}

/// Length before each text, so that no two lists of texts digest alike.
pub(crate) fn digest<'a>(texts: impl IntoIterator<Item = &'a str>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for text in texts {
        context.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(text.as_bytes());
    }
    context.finish().as_ref().try_into().unwrap_or_default()
}

/// Of bytes that no other value has.
fn digest_of(bytes: &[u8]) -> [u8; 32] {
    aws_lc_rs::digest::digest(&SHA256, bytes).as_ref().try_into().unwrap_or_default()
}

fn engine_build() -> Arc<str> {
    format!("portcullis {} cedar {}", env!("CARGO_PKG_VERSION"), cedar_policy::get_sdk_version()).into()
}

fn environments(schema: &Schema) -> Environments {
    const PRINCIPALS: [PrincipalKind; 5] = [
        PrincipalKind::Workload,
        PrincipalKind::User,
        PrincipalKind::Anonymous,
        PrincipalKind::Agent,
        PrincipalKind::LocalUser,
    ];
    const RESOURCES: [ResourceKind; 9] = [
        ResourceKind::Route,
        ResourceKind::Method,
        ResourceKind::Service,
        ResourceKind::System,
        ResourceKind::Workload,
        ResourceKind::PolicyScope,
        ResourceKind::Namespace,
        ResourceKind::TrustDomain,
        ResourceKind::Enforcer,
    ];
    let mut environments = Environments::new();
    for action in Action::CALLS.iter().copied().chain(AdminAction::ALL.iter().copied().map(Action::Admin)) {
        let uid = cedar_uid(action.entity_type(), action.as_str());
        let names = |kinds: Option<Vec<String>>| kinds.unwrap_or_default();
        let principals =
            names(schema.principals_for_action(&uid).map(|kinds| kinds.map(ToString::to_string).collect()));
        let resources =
            names(schema.resources_for_action(&uid).map(|kinds| kinds.map(ToString::to_string).collect()));
        for principal in
            PRINCIPALS.into_iter().filter(|kind| principals.iter().any(|name| name == kind.as_str()))
        {
            for resource in
                RESOURCES.into_iter().filter(|kind| resources.iter().any(|name| name == kind.as_str()))
            {
                environments.insert((principal, action, resource));
            }
        }
    }
    environments
}
