//! One immutable value of policies, schema, entities and numbers that judge together (MO9, SE5).
//! Built by the policy store, shared by all workers; everything derived from it dies with it (EN1).

use crate::{
    AccessRequest, Decision, Diagnostic, Effect, EntitySet, Resource,
    carried::Moved,
    compile::{Environments, Kept, Named},
    logic::Logic,
    rule::Rule,
    sampler::Distrust,
    schema::Declared,
    schema::SchemaText,
    scope::ScopeIndex,
    world::World,
};
use cedar_policy::Schema;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::Arc,
};

/// The numbers of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Numbers {
    /// Raised when a store is restored.
    pub epoch: u64,
    /// Grows with every change of policies, schema, entities or routes.
    pub snapshot: u64,
    /// The number people published.
    pub policies: u64,
}

/// Everything that names the versions behind a decision (key 20 of a record).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// The numbers.
    pub numbers: Numbers,
    /// SHA-256 over the policy texts.
    pub manifest: [u8; 32],
    /// SHA-256 over the schema texts.
    pub schema: [u8; 32],
    /// SHA-256 over the entities.
    pub entities: [u8; 32],
    /// Digest of the routes, as given.
    pub routes: [u8; 32],
    /// Build of the engine.
    pub engine: Arc<str>,
    /// Names that records may carry besides the fixed facts.
    pub declared: Arc<Declared>,
    /// The namespaces of callers, which records carry too.
    pub homes: Arc<Homes>,
    /// `@ticket` by policy id, of the policies that have one: a record notes those of its determining policies.
    pub tickets: Arc<BTreeMap<Arc<str>, Arc<str>>>,
}

/// Namespace by SPIFFE id, of the workloads that have one. Records tell it, as rights to read them hang on it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Homes(HashMap<Box<str>, Arc<str>>);

/// In order, so that equal ones show the same.
impl fmt::Debug for Homes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().collect::<BTreeMap<_, _>>()).finish()
    }
}

impl Homes {
    pub(crate) fn of(set: &EntitySet) -> Homes {
        let mut names: HashSet<Arc<str>> = HashSet::new();
        let mut homes = HashMap::new();
        for workload in &set.workloads {
            let Some(namespace) = workload.namespace.as_deref() else { continue };
            let name = names.get(namespace).cloned().unwrap_or_else(|| namespace.into());
            names.insert(Arc::clone(&name));
            homes.insert(workload.id.as_str().into(), name);
        }
        Homes(homes)
    }

    /// The namespace of the workload with that id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(|name| &**name)
    }
}

impl<I: Into<Box<str>>, N: Into<Arc<str>>> FromIterator<(I, N)> for Homes {
    fn from_iter<T: IntoIterator<Item = (I, N)>>(pairs: T) -> Self {
        Homes(pairs.into_iter().map(|(id, name)| (id.into(), name.into())).collect())
    }
}

/// One policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySource {
    /// Its name, for findings and explanations.
    pub file: Arc<str>,
    /// Its text.
    pub text: Arc<str>,
    /// Shipped with the product: its forbids are never softened.
    pub is_baseline: bool,
}

const LINKS: &str = ".links.json";

/// What a policy file holds; its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// Policies and templates.
    Policies,
    /// Links of templates: `*.links.json`.
    Links,
}

impl PolicySource {
    /// Whether a file of that name holds policies, templates or links.
    #[must_use]
    pub fn is_named(name: &str) -> bool {
        name.ends_with(".cedar") || name.ends_with(LINKS)
    }

    /// What it holds.
    #[must_use]
    pub fn kind(&self) -> SourceKind {
        if self.file.ends_with(LINKS) { SourceKind::Links } else { SourceKind::Policies }
    }

    /// A file of the site.
    #[must_use]
    pub fn new(file: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> PolicySource {
        PolicySource { file: file.into(), text: text.into(), is_baseline: false }
    }
}

/// Everything a snapshot is made of.
#[derive(Debug, Clone)]
pub struct SnapshotInput {
    /// Its numbers.
    pub numbers: Numbers,
    /// The schema.
    pub schema: SchemaText,
    /// All policy files, the baseline among them.
    pub policies: Vec<PolicySource>,
    /// The entities; shared, so that a snapshot after this one sees at once that they are the same.
    pub entities: Arc<EntitySet>,
    /// Digest of the routes this snapshot goes with.
    pub routes_digest: [u8; 32],
}

/// A checked, numbered set of rules.
pub struct Snapshot(Parts);

/// What a snapshot is made of, inside this crate.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) versions: Arc<Versions>,
    pub(crate) rules: Arc<[Arc<Rule>]>,
    pub(crate) by_id: Arc<HashMap<Arc<str>, usize>>,
    pub(crate) index: Arc<ScopeIndex>,
    pub(crate) schema: Arc<Schema>,
    /// All entities, the actions of the schema among them.
    pub(crate) entities: Arc<World>,
    pub(crate) environments: Arc<Environments>,
    /// Entities that policies name.
    pub(crate) named: Arc<Named>,
    /// Ids of methods that change nothing.
    pub(crate) read_only: Arc<HashSet<String>>,
    pub(crate) warnings: Vec<Diagnostic>,
    /// Compiled conditions that stock Cedar contradicted (OR3).
    pub(crate) distrust: Arc<Distrust>,
    pub(crate) moved: Arc<Moved>,
    /// A set of rules that is evaluated beside this one and never decides (SH3), with its policies number.
    pub(crate) candidate: Option<(Arc<Snapshot>, u64)>,
    /// What the next snapshot starts from.
    pub(crate) kept: Kept,
}

/// A policy as listings show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyInfo {
    /// Its id.
    pub id: Arc<str>,
    /// Permit or forbid.
    pub effect: Effect,
    /// Its file.
    pub file: Arc<str>,
    /// Line of the effect keyword.
    pub line: usize,
    /// `@owner`.
    pub owner: Option<String>,
    /// `@advice`.
    pub advice: Option<String>,
    /// `@mode("shadow")`.
    pub is_shadow: bool,
    /// Shipped with the product.
    pub is_baseline: bool,
    /// The template it is a link of; file and line are those of the template.
    pub template: Option<Arc<str>>,
}

impl Snapshot {
    /// Checks and compiles everything, or reports every finding at once.
    ///
    /// # Errors
    /// All findings, when at least one blocks.
    pub fn compile(input: SnapshotInput) -> Result<Snapshot, Vec<Diagnostic>> {
        crate::compile::compile(None, input)
    }

    /// The same result as [`Snapshot::compile`], sooner: what `previous` has checked already is not checked again.
    ///
    /// # Errors
    /// As [`Snapshot::compile`].
    pub fn compile_after(
        previous: Option<&Arc<Snapshot>>,
        input: SnapshotInput,
    ) -> Result<Snapshot, Vec<Diagnostic>> {
        crate::compile::compile(previous.cloned(), input)
    }

    pub(crate) fn assemble(parts: Parts) -> Snapshot {
        Snapshot(parts)
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0
    }

    /// Names of the namespaces that entities of this snapshot are in.
    pub fn namespaces(&self) -> impl Iterator<Item = String> {
        let uids = self.0.entities.iter().map(cedar_policy::Entity::uid);
        uids.filter(|uid| uid.type_name().to_string() == "Namespace")
            .map(|uid| uid.id().unescaped().to_owned())
    }

    /// The verdict on one request, without any cache. Workers use [`crate::Engine::decide`], which answers the same.
    #[must_use]
    pub fn decide(&self, request: &AccessRequest<'_>) -> Decision {
        crate::plan::decide(self, request)
    }

    /// The same snapshot with `candidate`, policies number `version`, evaluated beside it: where the candidate would say
    /// something else, [`Decision::would`] says what (SH3).
    #[must_use]
    pub fn beside(&self, candidate: Arc<Snapshot>, version: u64) -> Snapshot {
        Snapshot(Parts { candidate: Some((candidate, version)), ..self.0.clone() })
    }

    /// Policies that stock Cedar judges because their conditions are not compiled, and why (EN10).
    pub fn slow_policies(&self) -> impl Iterator<Item = (PolicyInfo, &'static str)> + '_ {
        self.0.rules.iter().filter_map(|rule| match &rule.logic {
            Logic::Slow(why) => Some((PolicyInfo::of(rule), *why)),
            Logic::Always | Logic::When(_) => None,
        })
    }

    pub(crate) fn is_distrusted(&self, rule: usize) -> bool {
        self.0.distrust.has(rule)
    }

    /// Findings that did not block.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.0.warnings
    }

    /// What judged, for the record.
    #[must_use]
    pub fn versions(&self) -> &Arc<Versions> {
        &self.0.versions
    }

    /// The policy files it was made of, shipped ones among them, in the order in which [`Versions::manifest`] is taken over
    /// them.
    pub fn sources(&self) -> impl Iterator<Item = &PolicySource> {
        self.0.kept.sources()
    }

    /// What [`Versions::manifest`] is for policy files of these names and texts: how somebody who holds the texts shows that
    /// they judged a recorded decision.
    #[must_use]
    pub fn manifest_of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> [u8; 32] {
        crate::compile::policies::manifest_of(files)
    }

    /// Whether that policy is shipped with the product.
    #[must_use]
    pub fn is_baseline(&self, id: &str) -> bool {
        self.rule(id).is_some_and(|rule| rule.is_baseline)
    }

    /// Number of policies, the baseline included.
    #[must_use]
    pub fn policy_count(&self) -> usize {
        self.0.rules.len()
    }

    /// The policy of that id.
    #[must_use]
    pub fn policy(&self, id: &str) -> Option<PolicyInfo> {
        self.rule(id).map(PolicyInfo::of)
    }

    /// Every policy, file by file.
    pub fn policies(&self) -> impl Iterator<Item = PolicyInfo> + '_ {
        self.0.rules.iter().map(|rule| PolicyInfo::of(rule))
    }

    /// Whether the entities have that resource, or it needs none.
    #[must_use]
    pub fn knows(&self, resource: &Resource) -> bool {
        self.resource(resource).is_ok()
    }

    pub(crate) fn rule(&self, id: &str) -> Option<&Rule> {
        self.0.rules.get(*self.0.by_id.get(id)?).map(|rule| &**rule)
    }
}

impl PolicyInfo {
    fn of(rule: &Rule) -> PolicyInfo {
        PolicyInfo {
            id: Arc::clone(&rule.id),
            effect: rule.effect,
            file: Arc::clone(&rule.place.file),
            line: rule.place.line,
            owner: rule.notes.owner.clone(),
            advice: rule.notes.advice.clone(),
            is_shadow: rule.notes.is_shadow,
            is_baseline: rule.is_baseline,
            template: rule.template.clone(),
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("numbers", &self.0.versions.numbers)
            .field("policies", &self.0.rules.len())
            .field("entities", &self.0.entities.iter().count())
            .finish()
    }
}
