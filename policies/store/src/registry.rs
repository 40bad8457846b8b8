//! Entities that configuration and registration tell us, in their stored form (`registry/1`).
//!
//! Private rows of this crate: the values of the engine know no serde, and old rows are read by newer code. Workloads
//! come and go all day, so they lie in parts by the hash of their id: one that changes rewrites its part alone.

use crate::content::Hash;
use policies_engine::{EntitySet, MethodEntity, Role, RouteEntity, ServiceEntity, WorkloadEntity};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// In one order, so that the same facts told in another order are no change.
pub(crate) fn sort(set: &mut EntitySet) {
    set.services.sort_by(|a, b| a.name.cmp(&b.name));
    set.methods.sort_by(|a, b| (&a.id, &a.service).cmp(&(&b.id, &b.service)));
    set.routes.sort_by(|a, b| a.name.cmp(&b.name));
    set.workloads.sort_by(|a, b| a.id.cmp(&b.id));
}

/// What is stored: `registry` with all that configuration tells, `registry/<n>.<parts>` with workloads.
pub(crate) fn parts(set: &EntitySet) -> Result<Vec<(String, Vec<u8>)>, serde_json::Error> {
    let rest = Rows { workloads: Vec::new(), ..Rows::from(set) };
    let mut parts = vec![(HEAD.to_owned(), serde_json::to_vec(&rest)?)];
    // Powers of two: the number of parts rarely changes, and only then do workloads move.
    let count = set.workloads.len().div_ceil(PART).next_power_of_two().min(MOST_PARTS);
    let mut buckets: BTreeMap<usize, Vec<WorkloadRow>> = BTreeMap::new();
    for workload in &set.workloads {
        buckets.entry(bucket(&workload.id, count)).or_default().push(WorkloadRow::from(workload));
    }
    for (at, workloads) in buckets {
        parts.push((
            format!("{HEAD}/{at}.{count}"),
            serde_json::to_vec(&Part { format: FORMAT.into(), workloads })?,
        ));
    }
    Ok(parts)
}

/// Whether an object of that id is one of [`parts`].
pub(crate) fn is_part(id: &str) -> bool {
    id.strip_prefix(HEAD).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn bucket(id: &str, count: usize) -> usize {
    let first = Hash::of(id.as_bytes()).0.first_chunk().copied().unwrap_or_default();
    usize::from(u16::from_be_bytes(first)) % count
}

/// Puts what was stored together again.
#[derive(Default)]
pub(crate) struct Parts(EntitySet);

impl Parts {
    /// Reads one part.
    pub(crate) fn read(&mut self, id: &str, bytes: &[u8]) -> Result<(), String> {
        if !is_part(id) {
            return Err(format!("unknown entities `{id}`"));
        }
        let workloads = if id == HEAD {
            let rows: Rows = serde_json::from_slice(bytes).map_err(|cause| cause.to_string())?;
            known(&rows.format)?;
            self.0 = EntitySet {
                trust_domain: rows.trust_domain,
                services: rows.services.into_iter().map(ServiceRow::into_entity).collect(),
                methods: rows.methods.into_iter().map(MethodRow::into_entity).collect(),
                routes: rows.routes.into_iter().map(RouteRow::into_entity).collect(),
                workloads: std::mem::take(&mut self.0.workloads),
                extra: None,
            };
            // Until parts there were, workloads lay here.
            rows.workloads
        } else {
            let part: Part = serde_json::from_slice(bytes).map_err(|cause| cause.to_string())?;
            known(&part.format)?;
            part.workloads
        };
        for workload in workloads {
            self.0.workloads.push(workload.into_entity()?);
        }
        Ok(())
    }

    /// All of it, in the order of [`sort`].
    pub(crate) fn into_set(mut self) -> EntitySet {
        sort(&mut self.0);
        self.0
    }
}

fn known(format: &str) -> Result<(), String> {
    if format == FORMAT { Ok(()) } else { Err(format!("unknown format `{format}`")) }
}

const HEAD: &str = "registry";
/// Workloads of a part, about.
const PART: usize = 64;
const MOST_PARTS: usize = 1 << 10;
const FORMAT: &str = "registry/1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    format: String,
    workloads: Vec<WorkloadRow>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    format: String,
    trust_domain: Option<String>,
    services: Vec<ServiceRow>,
    methods: Vec<MethodRow>,
    routes: Vec<RouteRow>,
    workloads: Vec<WorkloadRow>,
}

impl From<&EntitySet> for Rows {
    fn from(set: &EntitySet) -> Rows {
        Rows {
            format: FORMAT.to_owned(),
            trust_domain: set.trust_domain.clone(),
            services: set.services.iter().map(ServiceRow::from).collect(),
            methods: set.methods.iter().map(MethodRow::from).collect(),
            routes: set.routes.iter().map(RouteRow::from).collect(),
            workloads: set.workloads.iter().map(WorkloadRow::from).collect(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceRow {
    name: String,
    namespace: Option<String>,
    owner: Option<String>,
    sensitivity: Option<i64>,
    groups: Vec<String>,
    labels: Vec<(String, String)>,
}

impl From<&ServiceEntity> for ServiceRow {
    fn from(entity: &ServiceEntity) -> ServiceRow {
        let ServiceEntity { name, namespace, owner, sensitivity, groups, labels } = entity.clone();
        ServiceRow { name, namespace, owner, sensitivity, groups, labels }
    }
}

impl ServiceRow {
    fn into_entity(self) -> ServiceEntity {
        let ServiceRow { name, namespace, owner, sensitivity, groups, labels } = self;
        ServiceEntity { name, namespace, owner, sensitivity, groups, labels }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MethodRow {
    id: String,
    service: String,
    read_only: Option<bool>,
    sensitivity: Option<i64>,
}

impl From<&MethodEntity> for MethodRow {
    fn from(entity: &MethodEntity) -> MethodRow {
        let MethodEntity { id, service, read_only, sensitivity } = entity.clone();
        MethodRow { id, service, read_only, sensitivity }
    }
}

impl MethodRow {
    fn into_entity(self) -> MethodEntity {
        let MethodRow { id, service, read_only, sensitivity } = self;
        MethodEntity { id, service, read_only, sensitivity }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteRow {
    name: String,
    service: String,
    sensitivity: Option<i64>,
}

impl From<&RouteEntity> for RouteRow {
    fn from(entity: &RouteEntity) -> RouteRow {
        let RouteEntity { name, service, sensitivity } = entity.clone();
        RouteRow { name, service, sensitivity }
    }
}

impl RouteRow {
    fn into_entity(self) -> RouteEntity {
        let RouteRow { name, service, sensitivity } = self;
        RouteEntity { name, service, sensitivity }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkloadRow {
    id: String,
    namespace: Option<String>,
    groups: Vec<String>,
    attested_by: Vec<String>,
    labels: Vec<(String, String)>,
    roles: Vec<String>,
}

impl From<&WorkloadEntity> for WorkloadRow {
    fn from(entity: &WorkloadEntity) -> WorkloadRow {
        let WorkloadEntity { id, namespace, groups, attested_by, labels, roles } = entity.clone();
        let roles = roles.iter().map(|role| role.as_str().to_owned()).collect();
        WorkloadRow { id, namespace, groups, attested_by, labels, roles }
    }
}

impl WorkloadRow {
    fn into_entity(self) -> Result<WorkloadEntity, String> {
        let WorkloadRow { id, namespace, groups, attested_by, labels, roles } = self;
        let known =
            roles.iter().map(|word| Role::from_word(word).ok_or_else(|| format!("unknown role `{word}`")));
        let roles = known.collect::<Result<_, _>>()?;
        Ok(WorkloadEntity { id, namespace, groups, attested_by, labels, roles })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> EntitySet {
        let text = |word: &str| word.to_owned();
        EntitySet {
            trust_domain: Some(text("example.org")),
            services: vec![ServiceEntity {
                name: text("orders"),
                namespace: Some(text("shop")),
                owner: Some(text("team-a")),
                sensitivity: Some(2),
                groups: vec![text("core")],
                labels: vec![(text("tier"), text("1"))],
            }],
            methods: vec![MethodEntity {
                id: text("shop.Orders/Get"),
                service: text("orders"),
                read_only: Some(true),
                sensitivity: None,
            }],
            routes: vec![RouteEntity { name: text("r"), service: text("orders"), sensitivity: Some(0) }],
            workloads: vec![WorkloadEntity {
                id: text("spiffe://example.org/web"),
                namespace: None,
                groups: vec![text("front")],
                attested_by: vec![text("unix")],
                labels: vec![(text("a"), text("b"))],
                roles: Role::ALL.to_vec(),
            }],
            extra: None,
        }
    }

    #[test]
    fn entities_read_back_as_they_were() {
        for set in [EntitySet::default(), full(), many(500)] {
            assert_eq!(back(&parts(&set).unwrap()).unwrap(), set);
        }
    }

    #[test]
    fn a_workload_that_changes_rewrites_a_small_part() {
        let (before, mut set) = (parts(&many(2_000)).unwrap(), many(2_000));
        set.workloads[7].groups.push("new".to_owned());
        let after = parts(&set).unwrap();
        let changed: Vec<_> = after.iter().filter(|part| !before.contains(part)).collect();
        let all: usize = after.iter().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!((changed.len(), before.len()), (1, after.len()));
        assert!(changed[0].1.len() * 10 < all, "{} of {all}", changed[0].1.len());
    }

    fn many(count: u32) -> EntitySet {
        let workload =
            |n: u32| WorkloadEntity { id: format!("spiffe://a.b/{n:05}"), ..WorkloadEntity::default() };
        EntitySet { workloads: (0..count).map(workload).collect(), ..EntitySet::default() }
    }

    fn back(parts: &[(String, Vec<u8>)]) -> Result<EntitySet, String> {
        let mut read = Parts::default();
        for (id, bytes) in parts {
            read.read(id, bytes)?;
        }
        Ok(read.into_set())
    }

    fn from_json(bytes: &[u8]) -> Result<EntitySet, String> {
        back(&[(HEAD.to_owned(), bytes.to_vec())])
    }

    #[test]
    fn the_first_format_stays_readable() {
        let golden = r#"{"format":"registry/1","trust_domain":"example.org",
            "services":[{"name":"orders","namespace":"shop","owner":"team-a","sensitivity":2,"groups":["core"],"labels":[["tier","1"]]}],
            "methods":[{"id":"shop.Orders/Get","service":"orders","read_only":true,"sensitivity":null}],
            "routes":[{"name":"r","service":"orders","sensitivity":0}],
            "workloads":[{"id":"spiffe://example.org/web","namespace":null,"groups":["front"],"attested_by":["unix"],"labels":[["a","b"]],
              "roles":["viewer","auditor","author","approver","operator"]}]}"#;
        assert_eq!(from_json(golden.as_bytes()).unwrap(), full());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let empty = r#"{"format":"registry/1","trust_domain":null,"services":[],"methods":[],"routes":[],"workloads":[]}"#;
        assert!(from_json(empty.as_bytes()).is_ok());
        for bad in [
            empty.replace("registry/1", "registry/2"),
            empty.replace("{\"format", "{\"new\":1,\"format"),
            empty.replace(
                "\"workloads\":[]",
                r#""workloads":[{"id":"x","namespace":null,"groups":[],"attested_by":[],"labels":[],"roles":["king"]}]"#,
            ),
            String::new(),
        ] {
            assert!(from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_order_of_telling_does_not_matter() {
        let service = |name: &str| ServiceEntity { name: name.to_owned(), ..ServiceEntity::default() };
        let mut one = EntitySet { services: vec![service("b"), service("a")], ..EntitySet::default() };
        let mut two = EntitySet { services: vec![service("a"), service("b")], ..EntitySet::default() };
        sort(&mut one);
        sort(&mut two);
        assert_eq!(one, two);
    }
}
