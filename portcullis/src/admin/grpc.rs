//! What every gRPC server has (GC1): `grpc.health.v1.Health`, for the process and for each service, and server reflection.
//!
//! There is one readiness, that of `/readyz`: a service serves when the process is ready. Reflection tells the interfaces
//! that are served here, which are public; it tells nothing of what is behind them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use base_telemetry::Health;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use policies_adapters::ext_authz;
use policies_store::Feed;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{self, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::{Api, policies};

/// Below which both are, for the table of rights.
pub(super) const PATHS: [&str; 2] = ["/grpc.health.v1.Health/", "/grpc.reflection."];

/// How often a watch looks.
const LOOK: Duration = Duration::from_millis(500);
/// Watches at a time; they cost a timer each.
const WATCHES: usize = 256;

/// The services over the health of the process.
pub(super) fn router(api: &Api) -> Router {
    let mut descriptors = vec![tonic_health::pb::FILE_DESCRIPTOR_SET, policies::grpc::DESCRIPTORS];
    if api.store.is_some() {
        descriptors.push(Feed::DESCRIPTORS);
    }
    if api.outside.is_some() && api.ext_authz.is_some() {
        descriptors.push(ext_authz::DESCRIPTORS);
    }
    let services = descriptors.iter().flat_map(|set| services(set)).collect();
    let serving =
        Serving { health: api.health.clone(), services, watches: Arc::new(Semaphore::new(WATCHES)) };
    let router = Router::new().route_service("/grpc.health.v1.Health/{method}", HealthServer::new(serving));
    with_reflection(router, &descriptors)
}

fn with_reflection(router: Router, descriptors: &[&'static [u8]]) -> Router {
    let configure = || {
        let empty = tonic_reflection::server::Builder::configure();
        descriptors.iter().fold(empty, |builder, set| builder.register_encoded_file_descriptor_set(set))
    };
    match (configure().build_v1(), configure().build_v1alpha()) {
        (Ok(newer), Ok(older)) => router
            .route_service("/grpc.reflection.v1.ServerReflection/{method}", newer)
            .route_service("/grpc.reflection.v1alpha.ServerReflection/{method}", older),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "server reflection is off: the shipped descriptors cannot be read");
            router
        }
    }
}

/// Full names of the services of a descriptor set.
fn services(set: &[u8]) -> Vec<String> {
    let set = <prost_types::FileDescriptorSet as prost::Message>::decode(set).unwrap_or_default();
    let of = |file: &prost_types::FileDescriptorProto| {
        let name =
            |service: &prost_types::ServiceDescriptorProto| format!("{}.{}", file.package(), service.name());
        file.service.iter().map(name).collect::<Vec<_>>()
    };
    set.file.iter().flat_map(of).collect()
}

/// Whether the process is ready, in the words of `grpc.health.v1`.
#[derive(Debug, Clone)]
struct Serving {
    health: Health,
    services: Arc<[String]>,
    watches: Arc<Semaphore>,
}

impl Serving {
    /// None for a service that is not here; the empty name is the process.
    fn status(&self, service: &str) -> Option<ServingStatus> {
        let is_here = service.is_empty() || self.services.iter().any(|known| known == service);
        let status = if self.health.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
        is_here.then_some(status)
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl health_server::Health for Serving {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        let status = self.status(&service);
        let status =
            status.ok_or_else(|| Status::not_found(format!("`{service}` is no service of this server")))?;
        Ok(Response::new(answer(status)))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let permit = Arc::clone(&self.watches).try_acquire_owned();
        let permit = permit.map_err(|_full| {
            Status::resource_exhausted(format!("there are {WATCHES} watches already; ask again later"))
        })?;
        let (serving, service) = (self.clone(), request.into_inner().service);
        let changes = stream::unfold((None, permit), move |(told, permit)| {
            let (serving, service) = (serving.clone(), service.clone());
            async move {
                loop {
                    let status = serving.status(&service).unwrap_or(ServingStatus::ServiceUnknown);
                    if told != Some(status) {
                        return Some((Ok(answer(status)), (Some(status), permit)));
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
        });
        Ok(Response::new(changes.boxed()))
    }
}

#[cfg(test)]
mod tests {
    use super::health_server::Health as _;
    use super::*;
    use tonic::Code;

    fn serving(health: &Health) -> Serving {
        let services = services(policies::grpc::DESCRIPTORS).into();
        Serving { health: health.clone(), services, watches: Arc::new(Semaphore::new(1)) }
    }

    fn of(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.to_owned() })
    }

    #[tokio::test]
    async fn gc1_a_service_serves_when_the_process_is_ready_and_others_are_unknown() {
        let health = Health::new();
        let (serving, policy) = (serving(&health), health.condition("policy"));
        for service in ["", "portcullis.policies.v1.Changes"] {
            for (ready, expected) in [(false, ServingStatus::NotServing), (true, ServingStatus::Serving)] {
                policy.set(ready, "");
                let told = serving.check(of(service)).await.unwrap().into_inner();
                assert_eq!(told.status(), expected, "{service}");
            }
        }
        assert_eq!(serving.check(of("shop.Orders")).await.unwrap_err().code(), Code::NotFound);
    }

    #[tokio::test]
    async fn gc1_a_watch_tells_each_change_once_and_there_are_not_too_many() {
        let health = Health::new();
        let (serving, policy) = (serving(&health), health.condition("policy"));
        let mut watch = serving.watch(of("")).await.unwrap().into_inner();
        let mut seen = Vec::new();
        for ready in [false, true, false] {
            policy.set(ready, "");
            seen.push(watch.next().await.unwrap().unwrap().status());
        }
        let (serves, not) = (ServingStatus::Serving, ServingStatus::NotServing);
        assert_eq!(seen, [not, serves, not]);
        assert!(tokio::time::timeout(LOOK * 2, watch.next()).await.is_err(), "nothing changed");
        let more = serving.watch(of("")).await.map(drop).unwrap_err();
        assert_eq!(more.code(), Code::ResourceExhausted);
        drop(watch);
        let mut unknown = serving.watch(of("shop.Orders")).await.unwrap().into_inner();
        assert_eq!(unknown.next().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    }
}
