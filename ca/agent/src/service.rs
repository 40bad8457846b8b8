//! The SPIFFE Workload API and SDS as gRPC services: who may ask, what each stream carries, when it ends.
//!
//! `portcullis` serves [`workload_api`] on a Unix socket and inserts the [`Caller`] of the connection as a request
//! extension. Refused: calls of the Workload API without the security header
//! (WE-02), callers that cannot be attested, callers without a
//! matching entry, more streams than the limits.

mod authority;
mod caller;
mod limits;
mod sds;
mod tokens;
mod watcher;

use std::sync::Arc;

use base_ports::Rate;
use futures_util::stream::BoxStream;
use tonic::{
    Request, Response, Status,
    service::{Routes, interceptor::InterceptedService},
};

use crate::{
    agent::Agent,
    attest::Caller,
    generated::{
        DESCRIPTORS, SDS_DESCRIPTORS,
        messages::{
            JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
            ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest,
            X509svidResponse,
        },
        server::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer},
    },
    secret::SdsNames,
    state::State,
};

pub use authority::LocalStream;
use limits::Streams;
use watcher::Watcher;

/// The header that a browser or a confused proxy cannot send by accident (WE-02), and its one value.
const HEADER: &str = "workload.spiffe.io";
const HEADER_VALUE: &[u8] = b"true";

/// Requests of this API are small.
const REQUEST_BYTES: usize = 64 * 1024;

/// What of the services is on, and how their secrets are called.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Without, the JWT profile is Unimplemented (WA-01).
    pub tokens: bool,
    /// The fixed names of SDS.
    pub sds: SdsNames,
}

/// The Workload API, SDS beside it for the same callers (SD-01), and server reflection (WE-06). Each request must carry a
/// [`Caller`] as extension.
pub fn workload_api(agent: Arc<Agent>, settings: Settings) -> Routes {
    let streams = Streams::default();
    let sds = sds::service(Arc::clone(&agent), streams.clone(), settings.sds);
    let service = SpiffeWorkloadApiServer::new(WorkloadApi::new(agent, streams, settings.tokens))
        .max_decoding_message_size(REQUEST_BYTES);
    let routes = Routes::new(InterceptedService::new(service, require_header)).add_service(sds);
    with_reflection(routes)
}

fn require_header(request: Request<()>) -> Result<Request<()>, Status> {
    let mut values = request.metadata().get_all(HEADER).into_iter();
    match (values.next(), values.next()) {
        (Some(value), None) if value.as_bytes() == HEADER_VALUE => Ok(request),
        _ => {
            Err(Status::invalid_argument("security header missing from request: `workload.spiffe.io: true`"))
        }
    }
}

fn with_reflection(routes: Routes) -> Routes {
    let configure = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(SDS_DESCRIPTORS)
    };
    match (configure().build_v1(), configure().build_v1alpha()) {
        (Ok(newer), Ok(older)) => routes.add_service(newer).add_service(older),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "server reflection is off: the shipped descriptors cannot be read");
            routes
        }
    }
}

#[derive(Debug)]
struct WorkloadApi {
    agent: Arc<Agent>,
    streams: Streams,
    /// Calls about tokens, by user and process.
    calls: Rate<(u32, Option<i32>)>,
    /// Whether there are any.
    tokens: bool,
}

impl WorkloadApi {
    fn new(agent: Arc<Agent>, streams: Streams, tokens: bool) -> Self {
        Self { agent, streams, calls: Rate::default(), tokens }
    }

    /// The caller of a call about tokens.
    fn asks_for_tokens(&self, caller: Option<&Caller>) -> Result<Caller, Status> {
        if self.tokens {
            known(caller).cloned()
        } else {
            Err(Status::unimplemented("the JWT profile is off"))
        }
    }

    fn watch<M: Clone + PartialEq + Send + Sync + 'static>(
        &self,
        caller: Option<&Caller>,
        render: watcher::Render<M>,
    ) -> Result<Response<BoxStream<'static, Result<M, Status>>>, Status> {
        let caller = known(caller)?;
        let permit = self.streams.admit(caller.uid())?;
        let watcher = Watcher::new(Arc::clone(&self.agent), caller.clone(), render, permit);
        Ok(Response::new(watcher.into_stream()))
    }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = BoxStream<'static, Result<X509svidResponse, Status>>;
    type FetchX509BundlesStream = BoxStream<'static, Result<X509BundlesResponse, Status>>;
    type FetchJWTBundlesStream = BoxStream<'static, Result<JwtBundlesResponse, Status>>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        self.watch(request.extensions().get(), State::x509)
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        self.watch(request.extensions().get(), State::bundles)
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        let caller = self.asks_for_tokens(request.extensions().get())?;
        self.fetch_tokens(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        let caller = self.asks_for_tokens(request.extensions().get())?;
        self.watch(Some(&caller), State::jwt_bundles)
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        let caller = self.asks_for_tokens(request.extensions().get())?;
        self.validate_token(&caller, request.into_inner()).await.map(Response::new)
    }
}

fn known(caller: Option<&Caller>) -> Result<&Caller, Status> {
    caller.ok_or_else(|| Status::internal("the connection carries no caller"))
}

#[cfg(test)]
mod tests;
