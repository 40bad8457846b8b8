//! Entity values as Cedar's entities, those of the snapshot and those that a caller or target brings along.

use super::values::{entity, strings, tagged, text, uid};
use cedar_policy::{Entities, Entity, EntityUid, RestrictedExpression as Value, Schema};
use policies_engine::{AccessRequest, EntitySet, Principal, PrincipalKind, Resource, ResourceKind, Token};
use std::collections::{BTreeSet, HashMap, HashSet};

/// The entity values as Cedar's.
pub(super) fn all(set: &EntitySet, schema: &Schema) -> Entities {
    let level = |level: Option<i64>| level.map(|level| ("sensitivity".to_owned(), Value::new_long(level)));
    let groups = |names: &[String]| names.iter().map(|name| uid("Group", name)).collect::<Vec<_>>();
    let domain = set.trust_domain.as_deref().map(|name| uid("TrustDomain", name));
    let extra = set.extra.clone().unwrap_or_else(|| serde_json::json!([]));
    let extra = Entities::from_json_value(extra, Some(schema)).expect("entities that compiled");
    let mut all: HashMap<EntityUid, Entity> = HashMap::new();
    let spaces = set.services.iter().map(|service| &service.namespace);
    for name in spaces.chain(set.workloads.iter().map(|workload| &workload.namespace)).flatten() {
        if extra.get(&uid("Namespace", name)).is_none() {
            let space = entity("Namespace", name, vec![], domain.iter().cloned().collect());
            all.insert(space.uid(), space);
        }
    }
    let mut add = |entity: Entity| assert!(all.insert(entity.uid(), entity).is_none(), "one source each");
    for service in &set.services {
        let mut attributes = vec![text("name", &service.name)];
        attributes.extend(service.namespace.as_deref().map(|name| text("namespace", name)));
        attributes.extend(service.owner.as_deref().map(|name| text("owner", name)));
        attributes.extend(level(service.sensitivity));
        let mut parents = groups(&service.groups);
        match &service.namespace {
            Some(name) => parents.push(uid("Namespace", name)),
            None => parents.extend(domain.clone()),
        }
        add(tagged("Service", &service.name, attributes, parents, &service.labels));
    }
    let mut interfaces = BTreeSet::new();
    for method in &set.methods {
        let (interface, name) = method.id.rsplit_once('/').expect("a method id");
        let shown = interface.rsplit(':').next().unwrap_or(interface);
        if interfaces.insert(interface) {
            add(entity(
                "RpcService",
                interface,
                vec![text("name", shown)],
                vec![uid("Service", &method.service)],
            ));
        }
        let mut attributes =
            vec![text("service", &method.service), text("rpc_service", shown), text("name", name)];
        attributes.extend(method.read_only.map(|flag| ("read_only".to_owned(), Value::new_bool(flag))));
        attributes.extend(level(method.sensitivity));
        add(entity("Method", &method.id, attributes, vec![uid("RpcService", interface)]));
    }
    for route in &set.routes {
        let mut attributes = vec![text("service", &route.service), text("name", &route.name)];
        attributes.extend(level(route.sensitivity));
        add(entity("Route", &route.name, attributes, vec![uid("Service", &route.service)]));
    }
    for workload in &set.workloads {
        let (domain, path) = spiffe(&workload.id);
        let mut attributes = vec![text("trust_domain", domain), text("path", path)];
        if !workload.attested_by.is_empty() {
            attributes.push(("attested_by".to_owned(), strings(&workload.attested_by)));
        }
        let mut parents = groups(&workload.groups);
        parents.push(uid("TrustDomain", domain));
        parents.extend(workload.namespace.iter().map(|name| uid("Namespace", name)));
        parents.extend(workload.roles.iter().map(|role| uid("Portcullis::Role", role.as_str())));
        add(tagged("Workload", &workload.id, attributes, parents, &workload.labels));
    }
    extra.add_entities(all.into_values(), Some(schema)).expect("entities that compiled")
}

/// Entities that a caller or target brings along because the snapshot has none: MO5, MO6, S37.
pub(super) fn brought(entities: &Entities, asked: &AccessRequest<'_>) -> Vec<Entity> {
    let principal = uid(asked.principal.entity_type(), asked.principal.id());
    let resource = uid(asked.resource.entity_type(), asked.resource.id());
    let mut all = Vec::new();
    // Roles of a local user are facts of its connection, whatever is registered.
    let names = |id: &str| asked.facts.token().filter(|token| token.user() == id);
    let is_named = asked.principal.kind() == PrincipalKind::User && names(asked.principal.id()).is_some();
    if !is_named && (entities.get(&principal).is_none() || !asked.principal.roles().is_empty()) {
        all.extend(caller(asked.principal));
    }
    all.extend(asked.facts.token().map(|token| person(entities, token)));
    if entities.get(&resource).is_none() && resource != principal {
        all.extend(target(asked.resource));
    }
    all
}

/// MO2: people are as their token says, but for roles.
fn person(entities: &Entities, token: &Token) -> Entity {
    let id = uid("User", token.user());
    let above = entities.ancestors(&id).into_iter().flatten().cloned();
    let mut parents: HashSet<EntityUid> =
        above.filter(|above| above.type_name().to_string() == "Portcullis::Role").collect();
    parents.extend(token.groups().iter().map(|group| uid("UserGroup", group)));
    let mut attributes = vec![text("issuer", &token.issuer), text("subject", &token.subject)];
    attributes.extend(token.email.iter().map(|email| text("email", email)));
    let tags = token.claims.iter().map(|(name, words)| (name.clone(), strings(words)));
    Entity::new_with_tags(id, attributes, parents, tags).expect("values, not expressions")
}

fn caller(principal: &Principal) -> Option<Entity> {
    let id = principal.id();
    match principal.kind() {
        PrincipalKind::Workload => Some(derived_workload(id)),
        PrincipalKind::Anonymous => None,
        PrincipalKind::Agent => {
            let (_, path) = spiffe(id);
            Some(entity("Portcullis::Agent", id, vec![text("path", path)], vec![]))
        }
        PrincipalKind::LocalUser => {
            let number = Value::new_long(id.parse().expect("a uid"));
            let mut attributes = vec![("uid".to_owned(), number)];
            attributes.extend(principal.name().map(|name| text("name", name)));
            let roles = principal.roles().iter().map(|role| uid("Portcullis::Role", role.as_str()));
            Some(entity("Portcullis::LocalUser", id, attributes, roles.collect()))
        }
        PrincipalKind::User => {
            let (issuer, subject) = id.split_once('/').expect("an alias");
            Some(entity("User", id, vec![text("issuer", issuer), text("subject", subject)], vec![]))
        }
    }
}

fn target(resource: &Resource) -> Option<Entity> {
    match resource.kind() {
        ResourceKind::Workload => Some(derived_workload(resource.id())),
        ResourceKind::PolicyScope => {
            let mut above = Vec::new();
            let mut rest = resource.id();
            while let Some((up, last)) = rest.rsplit_once('/').filter(|_| rest != "/") {
                assert!(!last.is_empty(), "a scope has no empty part");
                rest = if up.is_empty() { "/" } else { up };
                above.push(uid("Portcullis::PolicyScope", rest));
            }
            Some(entity("Portcullis::PolicyScope", resource.id(), vec![], above))
        }
        _ => None,
    }
}

fn derived_workload(id: &str) -> Entity {
    let (domain, path) = spiffe(id);
    let attributes = vec![text("trust_domain", domain), text("path", path)];
    entity("Workload", id, attributes, vec![uid("TrustDomain", domain)])
}

fn spiffe(id: &str) -> (&str, &str) {
    let rest = id.strip_prefix("spiffe://").expect("a SPIFFE id");
    rest.split_at(rest.find('/').unwrap_or(rest.len()))
}
