//! The ids of RPC services and methods, and who offers what (policy MO3, MO4).

use std::collections::HashMap;

use crate::{RouteError, ServiceSpec};

/// The entity id of `pkg.Service/Method` or `pkg.Service` in a service: scoped when the service says so, and
/// always for the interfaces that every server offers.
pub fn method_id(service: &ServiceSpec, method: &str) -> String {
    let common = ["grpc.health.v1.", "grpc.reflection.", "grpc.channelz."];
    match &service.rpc_scope {
        Some(scope) => format!("{scope}:{method}"),
        None if common.iter().any(|prefix| method.starts_with(prefix)) => {
            format!("{}:{method}", service.name)
        }
        None => method.to_owned(),
    }
}

/// The entity id of the RPC service that a method `pkg.Service/Method` belongs to.
pub fn rpc_service_id(service: &ServiceSpec, method: &str) -> String {
    let rpc = method.split_once('/').map_or(method, |(rpc, _)| rpc);
    method_id(service, rpc)
}

/// Checks method names, and that every RPC service has exactly one parent.
pub(super) fn check(services: &[ServiceSpec]) -> Result<(), RouteError> {
    let mut parents: HashMap<String, &str> = HashMap::new();
    for service in services {
        let scope = service.rpc_scope.as_deref().unwrap_or(&service.name);
        if scope.contains([':', '/']) || scope.is_empty() {
            return Err(RouteError::Method { service: service.name.clone(), method: format!("{scope}:") });
        }
        for method in &service.methods {
            if enforcer_codec::grpc::service_and_method(&format!("/{method}")).is_none() {
                return Err(RouteError::Method { service: service.name.clone(), method: method.clone() });
            }
            let rpc = rpc_service_id(service, method);
            let first = *parents.entry(rpc.clone()).or_insert(&service.name);
            if first != service.name {
                let second = service.name.clone();
                return Err(RouteError::AmbiguousRpc { rpc, first: first.to_owned(), second });
            }
        }
    }
    Ok(())
}
