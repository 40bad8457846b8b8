//! What policies can speak about besides the call: services, methods, routes, workloads, as values from
//! registration entries and configuration. Turned into Cedar entities, checked against the schema, by `compile`.

use serde_json::Value;

/// All entities of one snapshot, as values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EntitySet {
    /// Trust domain that namespaces, services and workloads without their own belong to.
    pub trust_domain: Option<String>,
    /// Services of the configuration.
    pub services: Vec<ServiceEntity>,
    /// Methods of those services.
    pub methods: Vec<MethodEntity>,
    /// Routes to those services.
    pub routes: Vec<RouteEntity>,
    /// Workloads with a group, a namespace or labels; all others are judged from their id (S37).
    pub workloads: Vec<WorkloadEntity>,
    /// Further entities in Cedar's JSON form (`entities.json`): an array.
    pub extra: Option<Value>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ServiceEntity {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Who owns it.
    pub owner: Option<String>,
    /// 0 public .. 3 secret.
    pub sensitivity: Option<i64>,
    /// Groups it is in.
    pub groups: Vec<String>,
    /// Labels.
    pub labels: Vec<(String, String)>,
}

/// A method of an RPC interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct MethodEntity {
    /// `shop.Orders/Get`, or `scope:shop.Orders/Get` where the service sets `rpc_scope`.
    pub id: String,
    /// Name of the service that offers it.
    pub service: String,
    /// It changes nothing.
    pub read_only: Option<bool>,
    /// 0 public .. 3 secret.
    pub sensitivity: Option<i64>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct RouteEntity {
    /// Its name.
    pub name: String,
    /// Name of the service it leads to.
    pub service: String,
    /// 0 public .. 3 secret.
    pub sensitivity: Option<i64>,
}

/// A workload that something is known about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct WorkloadEntity {
    /// Its SPIFFE id.
    pub id: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Groups it is in.
    pub groups: Vec<String>,
    /// How it was attested.
    pub attested_by: Vec<String>,
    /// Labels of its registration entry.
    pub labels: Vec<(String, String)>,
    /// Roles over our own APIs.
    pub roles: Vec<crate::Role>,
}
