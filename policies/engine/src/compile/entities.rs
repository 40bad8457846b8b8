//! Turns the entity values into Cedar entities and checks them against the schema (VA3).
//! Refuses one uid from two sources (PC2012) and one RPC interface offered by two services unscoped (PC2004).

use super::letters::unfit_id;
use crate::{
    Diagnostic, EntitySet, MethodEntity, RouteEntity, ServiceEntity, WorkloadEntity, principal::spiffe_parts,
    uid::cedar_uid,
};
use cedar_policy::{Entities, Entity, EntityUid, RestrictedExpression, Schema};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    hash::{Hash, Hasher},
    io::{self, Write},
    sync::Arc,
};

pub(super) const CAP: usize = 200_000;
const CAP_BYTES: usize = 64 << 20;

/// All entities with the actions of the schema, or `None` with the findings.
pub(crate) fn build(set: &EntitySet, schema: &Schema, found: &mut Vec<Diagnostic>) -> Option<Entities> {
    let mut builder = Builder::new(set);
    builder.services();
    builder.methods();
    set.routes.iter().for_each(|route| builder.route(route));
    set.workloads.iter().for_each(|workload| builder.workload(workload));
    builder.extra(schema);
    let is_whole = builder.found.is_empty();
    found.append(&mut builder.found);
    if builder.all.len() > CAP {
        found.push(about("PC2010", format!("{} entities; at most {CAP}", builder.all.len())));
        return None;
    }
    let all = builder.all.into_values().map(|(entity, _)| entity);
    match Entities::from_entities(all, Some(schema)) {
        Ok(entities) => is_whole.then_some(entities),
        Err(cause) => {
            found.push(about("PC2003", chain(&cause)));
            None
        }
    }
}

pub(super) struct Builder<'a> {
    set: &'a EntitySet,
    all: HashMap<EntityUid, (Entity, &'static str)>,
    found: Vec<Diagnostic>,
}

type Attributes = Vec<(String, RestrictedExpression)>;

impl<'a> Builder<'a> {
    pub(super) fn new(set: &'a EntitySet) -> Builder<'a> {
        Builder { set, all: HashMap::new(), found: Vec::new() }
    }

    /// What was added, without namespaces that were only mentioned; none where something is wrong.
    pub(super) fn described(self) -> Option<Vec<Entity>> {
        let described = self.all.into_values().filter(|(_, source)| *source != NAMESPACE);
        self.found.is_empty().then(|| described.map(|(entity, _)| entity).collect())
    }

    fn services(&mut self) {
        for service in &self.set.services {
            let ServiceEntity { name, namespace, owner, sensitivity, groups, labels } = service;
            let mut attributes = vec![text("name", name)];
            attributes.extend(namespace.as_deref().map(|namespace| text("namespace", namespace)));
            attributes.extend(owner.as_deref().map(|owner| text("owner", owner)));
            attributes.extend(sensitivity.map(|level| number("sensitivity", level)));
            let mut parents = self.home(namespace.as_deref());
            parents.extend(groups.iter().map(|group| cedar_uid("Group", group)));
            self.add("a service", cedar_uid("Service", name), attributes, parents, tags(labels));
        }
    }

    fn methods(&mut self) {
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for method in &self.set.methods {
            let MethodEntity { id, service, read_only, sensitivity } = method;
            let Some((rpc_id, name)) =
                id.rsplit_once('/').filter(|(rpc, name)| !rpc.is_empty() && !name.is_empty())
            else {
                self.found
                    .push(about("PC2003", format!("`{id}` is not a method; write `package.Service/Method`")));
                continue;
            };
            let rpc_name = rpc_id.rsplit(':').next().unwrap_or(rpc_id);
            let rpc_uid = cedar_uid("RpcService", rpc_id);
            match owners.insert(rpc_id, service) {
                None => {
                    let parents = vec![cedar_uid("Service", service)];
                    self.add("a method", rpc_uid.clone(), vec![text("name", rpc_name)], parents, Vec::new());
                }
                Some(other) if other != service => {
                    let message = format!("services `{other}` and `{service}` both offer `{rpc_id}`");
                    let help = "set `rpc_scope` on both, so that a permit on one does not reach the other";
                    self.found.push(about("PC2004", message).help(help));
                    continue;
                }
                Some(_) => {}
            }
            let mut attributes =
                vec![text("service", service), text("rpc_service", rpc_name), text("name", name)];
            attributes
                .extend(read_only.map(|flag| ("read_only".to_owned(), RestrictedExpression::new_bool(flag))));
            attributes.extend(sensitivity.map(|level| number("sensitivity", level)));
            self.add("a method", cedar_uid("Method", id), attributes, vec![rpc_uid], Vec::new());
        }
    }

    pub(super) fn route(&mut self, route: &RouteEntity) {
        let RouteEntity { name, service, sensitivity } = route;
        let mut attributes = vec![text("service", service), text("name", name)];
        attributes.extend(sensitivity.map(|level| number("sensitivity", level)));
        let parents = vec![cedar_uid("Service", service)];
        self.add("a route", cedar_uid("Route", name), attributes, parents, Vec::new());
    }

    pub(super) fn workload(&mut self, workload: &WorkloadEntity) {
        let WorkloadEntity { id, namespace, groups, attested_by, labels, roles } = workload;
        let Some((domain, path)) = spiffe_parts(id) else {
            self.found.push(about("PC2003", format!("workload `{id}` is not a SPIFFE id")));
            return;
        };
        let mut attributes = vec![text("trust_domain", domain), text("path", path)];
        if !attested_by.is_empty() {
            let words = attested_by.iter().map(|word| RestrictedExpression::new_string(word.clone()));
            attributes.push(("attested_by".to_owned(), RestrictedExpression::new_set(words)));
        }
        let mut parents = vec![cedar_uid("TrustDomain", domain)];
        if let Some(namespace) = namespace {
            parents.push(self.namespace(namespace));
        }
        parents.extend(groups.iter().map(|group| cedar_uid("Group", group)));
        parents.extend(roles.iter().map(|role| cedar_uid("Portcullis::Role", role.as_str())));
        self.add("a workload", cedar_uid("Workload", id), attributes, parents, tags(labels));
    }

    fn extra(&mut self, schema: &Schema) {
        let Some(extra) = &self.set.extra else { return };
        let Some(items) = extra.as_array() else {
            self.found.push(about("PC2003", "entities.json is not a list of entities"));
            return;
        };
        let mut bytes = Length(0);
        if serde_json::to_writer(&mut bytes, extra).is_err() || bytes.0 > CAP_BYTES {
            let message = format!("entities.json has {} bytes; at most {CAP_BYTES}", bytes.0);
            self.found.push(about("PC2010", message));
            return;
        }
        if items.len() > CAP {
            self.found.push(about("PC2010", format!("{} entities; at most {CAP}", items.len())));
            return;
        }
        for item in items {
            match Entity::from_json_value(item.clone(), Some(schema)) {
                Ok(entity) => self.insert("entities.json", entity),
                Err(cause) => {
                    let uid = item.get("uid").map(Value::to_string).unwrap_or_default();
                    self.found
                        .push(about("PC2003", format!("entity {uid} of entities.json: {}", chain(&cause))));
                }
            }
        }
    }

    /// Namespace, or trust domain where there is none.
    fn home(&mut self, namespace: Option<&str>) -> Vec<EntityUid> {
        match (namespace, &self.set.trust_domain) {
            (Some(namespace), _) => vec![self.namespace(namespace)],
            (None, Some(domain)) => vec![cedar_uid("TrustDomain", domain)],
            (None, None) => Vec::new(),
        }
    }

    fn namespace(&mut self, name: &str) -> EntityUid {
        let uid = cedar_uid("Namespace", name);
        let parents = self.set.trust_domain.iter().map(|domain| cedar_uid("TrustDomain", domain)).collect();
        let entity = Entity::new_no_attrs(uid.clone(), parents);
        self.all.entry(uid.clone()).or_insert((entity, NAMESPACE));
        uid
    }

    fn add(
        &mut self,
        source: &'static str,
        uid: EntityUid,
        attributes: Attributes,
        parents: Vec<EntityUid>,
        tags: Attributes,
    ) {
        match Entity::new_with_tags(uid, attributes, parents, tags) {
            Ok(entity) => self.insert(source, entity),
            Err(cause) => self.found.push(about("PC2003", chain(&cause))),
        }
    }

    fn insert(&mut self, source: &'static str, entity: Entity) {
        if let Some((message, help)) = unfit_id(entity.uid().id().as_ref()) {
            self.found.push(about("PC2121", format!("{source}: {message}")).help(help));
            return;
        }
        match self.all.entry(entity.uid()) {
            Entry::Vacant(free) => {
                free.insert((entity, source));
            }
            // A namespace that was only mentioned gives way to one that is described.
            Entry::Occupied(mut taken) if taken.get().1 == NAMESPACE => {
                taken.insert((entity, source));
            }
            Entry::Occupied(taken) => {
                let message =
                    format!("`{}` comes from two sources: {} and {source}", entity.uid(), taken.get().1);
                self.found.push(about("PC2012", message).help("give one of them another name, or drop one"));
            }
        }
    }
}

/// SHA-256 over all values, the same for equal ones.
pub(super) fn digest(set: &EntitySet) -> [u8; 32] {
    let EntitySet { trust_domain, services, methods, routes, workloads, extra } = set;
    let mut bytes = Bytes(Vec::with_capacity(1 << 16));
    (trust_domain, services, methods, routes, workloads).hash(&mut bytes);
    extra.as_ref().map(Value::to_string).hash(&mut bytes);
    super::digest_of(&bytes.0)
}

/// Takes what a value hashes, with numbers in one order of bytes on every machine.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    fn write_usize(&mut self, number: usize) {
        self.0.extend(u64::try_from(number).unwrap_or(u64::MAX).to_be_bytes());
    }

    fn write_isize(&mut self, number: isize) {
        self.0.extend(i64::try_from(number).unwrap_or(i64::MAX).to_be_bytes());
    }

    fn write_i64(&mut self, number: i64) {
        self.0.extend(number.to_be_bytes());
    }

    /// Nobody asks.
    fn finish(&self) -> u64 {
        0
    }
}

/// Counts what is written and keeps none of it.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const NAMESPACE: &str = "a namespace";

fn about(code: &'static str, message: impl Into<String>) -> Diagnostic {
    Diagnostic::about(code, &Arc::from("entities"), message)
}

fn text(name: &str, value: &str) -> (String, RestrictedExpression) {
    (name.to_owned(), RestrictedExpression::new_string(value.to_owned()))
}

fn number(name: &str, value: i64) -> (String, RestrictedExpression) {
    (name.to_owned(), RestrictedExpression::new_long(value))
}

fn tags(labels: &[(String, String)]) -> Attributes {
    labels.iter().map(|(name, value)| text(name, value)).collect()
}

/// The error with its causes, joined by colons.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
