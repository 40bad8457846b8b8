//! From texts and values to a [`Snapshot`], or to every finding at once. Called by the policy store on a control
//! thread; runs in a thread of its own with a large stack, so that deep input cannot take the process down (VA4).

mod entities;
pub(crate) mod letters;
mod notes;
pub(crate) mod phrase;
pub(crate) mod policies;
pub(crate) mod schema;
pub(crate) mod text;

use crate::{
    Action, AdminAction, Diagnostic, PrincipalKind, ResourceKind, Severity, Snapshot, SnapshotInput,
    Versions, schema::Declared, scope::ScopeIndex, snapshot::Parts, uid::cedar_uid,
};
use aws_lc_rs::digest::{Context, SHA256};
use cedar_policy::Schema;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    thread,
};

/// Who may ask for what on what, by type.
pub(crate) type Environments = HashSet<(PrincipalKind, Action, ResourceKind)>;

const STACK_BYTES: usize = 16 << 20;

/// Runs [`checked`] with a large stack.
pub(crate) fn compile(
    _previous: Option<Arc<Snapshot>>,
    input: SnapshotInput,
) -> Result<Snapshot, Vec<Diagnostic>> {
    let broken = |cause: String| vec![Diagnostic::about("PC2011", &Arc::from("policies"), cause)];
    let thread = thread::Builder::new().name("policy-compile".to_owned()).stack_size(STACK_BYTES);
    let handle = thread.spawn(move || checked(input));
    match handle.map(thread::JoinHandle::join) {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(broken("the policy compiler failed on this input".to_owned())),
        Err(cause) => Err(broken(format!("no thread for the policy compiler: {cause}"))),
    }
}

fn checked(input: SnapshotInput) -> Result<Snapshot, Vec<Diagnostic>> {
    let (schema, declared) = schema::build(&input.schema).map_err(|found| vec![*found])?;
    with_schema(schema, declared, input)
}

/// The rest of compilation, over a schema that is built already.
pub(crate) fn with_schema(
    schema: Schema,
    declared: Declared,
    input: SnapshotInput,
) -> Result<Snapshot, Vec<Diagnostic>> {
    let mut found = Vec::new();
    let rules = policies::rules(&input.policies, &schema, &mut found);
    let entities = entities::build(&input.entities, &schema, &mut found);
    let (Some(entities), false) = (entities, found.iter().any(|finding| finding.severity == Severity::Error))
    else {
        found.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        return Err(found);
    };
    let mut index = ScopeIndex::default();
    for (at, rule) in rules.iter().enumerate() {
        index.insert(&rule.scope, at);
    }
    let versions = Arc::new(Versions {
        numbers: input.numbers,
        manifest: digest(input.policies.iter().flat_map(|source| [&*source.file, &*source.text])),
        schema: digest([&*input.schema.core, &*input.schema.site]),
        entities: digest([&*format!("{:?}", input.entities)]),
        routes: input.routes_digest,
        engine: engine_build(),
        declared: Arc::new(declared),
    });
    Ok(Snapshot::assemble(Parts {
        by_id: rules
            .iter()
            .enumerate()
            .map(|(at, rule)| (Arc::clone(&rule.id), at))
            .collect::<HashMap<_, _>>()
            .into(),
        named: rules.iter().flat_map(|rule| rule.literals.iter().cloned()).collect::<HashSet<_>>().into(),
        read_only: input
            .entities
            .methods
            .iter()
            .filter(|m| m.read_only == Some(true))
            .map(|m| m.id.clone())
            .collect::<HashSet<_>>()
            .into(),
        environments: environments(&schema).into(),
        versions,
        rules: rules.into_iter().map(Arc::new).collect(),
        index: index.into(),
        schema: schema.into(),
        entities: entities.into(),
        warnings: found,
        distrust: Arc::default(),
        candidate: None,
    }))
}

/// Length before each text, so that no two lists of texts digest alike.
fn digest<'a>(texts: impl IntoIterator<Item = &'a str>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for text in texts {
        context.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(text.as_bytes());
    }
    context.finish().as_ref().try_into().unwrap_or_default()
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
