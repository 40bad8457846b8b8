//! What is called. Resources are enumerable and come from configuration, never from request bytes (MO1).
//! A resource is a cheap handle with a precomputed hash, made once per route target.

use crate::uid::{format_uid, hash_of, parse_uid};
use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// The target of one request.
#[derive(Clone)]
pub struct Resource(Arc<Inner>);

struct Inner {
    kind: ResourceKind,
    id: Box<str>,
    service: Option<Box<str>>,
    namespace: Option<Box<str>>,
    hash: u64,
}

/// What kind of target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    /// An HTTP route by name.
    Route,
    /// A method of an RPC interface: `shop.Orders/Get`.
    Method,
    /// A service by name (TCP).
    Service,
    /// This installation.
    System,
    /// A workload, as the subject of issuance.
    Workload,
    /// A subtree of the policy store.
    PolicyScope,
    /// A namespace.
    Namespace,
    /// A trust domain.
    TrustDomain,
    /// An enforcer.
    Enforcer,
    /// Nothing registered; never reaches a policy.
    Unknown,
}

impl ResourceKind {
    /// Cedar entity type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ResourceKind::Route => "Route",
            ResourceKind::Method => "Method",
            ResourceKind::Service => "Service",
            ResourceKind::System => "Portcullis::System",
            ResourceKind::Workload => "Workload",
            ResourceKind::PolicyScope => "Portcullis::PolicyScope",
            ResourceKind::Namespace => "Namespace",
            ResourceKind::TrustDomain => "TrustDomain",
            ResourceKind::Enforcer => "Portcullis::Enforcer",
            ResourceKind::Unknown => "Unknown",
        }
    }
}

impl Resource {
    /// An HTTP route by its configured name.
    #[must_use]
    pub fn route(name: &str) -> Resource {
        Resource::new(ResourceKind::Route, name, None, None)
    }

    /// A method by its registered name, `shop.Orders/Get` or `scope:shop.Orders/Get`.
    #[must_use]
    pub fn method(name: &str) -> Resource {
        Resource::new(ResourceKind::Method, name, None, None)
    }

    /// A service by name.
    #[must_use]
    pub fn service_named(name: &str) -> Resource {
        Resource::new(ResourceKind::Service, name, Some(name), None)
    }

    /// This installation.
    #[must_use]
    pub fn system() -> Resource {
        Resource::new(ResourceKind::System, "system", None, None)
    }

    /// A workload, as the subject of issuance.
    #[must_use]
    pub fn workload(spiffe_id: &str) -> Resource {
        Resource::new(ResourceKind::Workload, spiffe_id, None, None)
    }

    /// A subtree of the policy store; `/` is the root.
    #[must_use]
    pub fn policy_scope(scope: &str) -> Resource {
        Resource::new(ResourceKind::PolicyScope, scope, None, None)
    }

    /// A namespace.
    #[must_use]
    pub fn namespace_named(name: &str) -> Resource {
        Resource::new(ResourceKind::Namespace, name, None, Some(name))
    }

    /// A trust domain.
    #[must_use]
    pub fn trust_domain(name: &str) -> Resource {
        Resource::new(ResourceKind::TrustDomain, name, None, None)
    }

    /// An enforcer by its SPIFFE id.
    #[must_use]
    pub fn enforcer(id: &str) -> Resource {
        Resource::new(ResourceKind::Enforcer, id, None, None)
    }

    /// What nothing is registered for.
    #[must_use]
    pub fn unknown() -> Resource {
        Resource::new(ResourceKind::Unknown, "unknown", None, None)
    }

    /// From the `type` and `id` of a record; a type that cannot be called is `None`.
    #[must_use]
    pub fn from_parts(entity_type: &str, id: &str) -> Option<Resource> {
        let kind = match entity_type {
            "Route" => ResourceKind::Route,
            "Method" => ResourceKind::Method,
            "Service" => ResourceKind::Service,
            "Portcullis::System" => ResourceKind::System,
            "Workload" => ResourceKind::Workload,
            "Portcullis::PolicyScope" => ResourceKind::PolicyScope,
            "Namespace" => ResourceKind::Namespace,
            "TrustDomain" => ResourceKind::TrustDomain,
            "Portcullis::Enforcer" => ResourceKind::Enforcer,
            "Unknown" => ResourceKind::Unknown,
            _ => return None,
        };
        Some(Resource::new(kind, id, None, None))
    }

    /// From an entity uid as people write it: `Method::"shop.Orders/Get"`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Resource> {
        let (entity_type, id) = parse_uid(text)?;
        Resource::from_parts(&entity_type, &id)
    }

    /// The same target with the service and namespace it belongs to (shown in records, not judged).
    #[must_use]
    pub fn within(&self, service: &str, namespace: Option<&str>) -> Resource {
        Resource::new(self.0.kind, &self.0.id, Some(service), namespace)
    }

    fn new(kind: ResourceKind, id: &str, service: Option<&str>, namespace: Option<&str>) -> Resource {
        let hash = hash_of(&(kind, id));
        let (service, namespace) = (service.map(Into::into), namespace.map(Into::into));
        Resource(Arc::new(Inner { kind, id: id.into(), service, namespace, hash }))
    }

    /// What kind of target.
    #[must_use]
    pub fn kind(&self) -> ResourceKind {
        self.0.kind
    }

    /// Cedar entity type: `Method`, `Route`, `Portcullis::System`, ...
    #[must_use]
    pub fn entity_type(&self) -> &'static str {
        self.0.kind.as_str()
    }

    /// Entity id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The called service, where known.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.0.service.as_deref()
    }

    /// The namespace of the called service, where known.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.0.namespace.as_deref()
    }

    /// Hash of kind and id, computed once.
    #[must_use]
    pub fn hash64(&self) -> u64 {
        self.0.hash
    }
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash && self.0.kind == other.0.kind && self.0.id == other.0.id)
    }
}

impl Eq for Resource {}

impl Hash for Resource {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_uid(self.entity_type(), self.id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_kind_and_id_alone() {
        let plain = Resource::method("shop.Orders/Get");
        let placed = plain.within("orders", Some("shop"));
        assert_eq!(plain, placed);
        assert_eq!(plain.hash64(), placed.hash64());
        assert_eq!((placed.service(), placed.namespace()), (Some("orders"), Some("shop")));
        assert_ne!(Resource::route("x"), Resource::service_named("x"));
    }

    #[test]
    fn a_uid_reads_back() {
        for resource in [Resource::method("shop.Orders/Get"), Resource::policy_scope("/"), Resource::system()]
        {
            assert_eq!(Resource::parse(&resource.to_string()), Some(resource));
        }
        assert_eq!(Resource::parse("Nonsense::\"x\""), None);
    }
}
