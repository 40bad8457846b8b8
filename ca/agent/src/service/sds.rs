//! Envoy's secret discovery service (SDS) on the socket of the Workload API, for the same callers under the same
//! attestation. Envoy does not send the header of the Workload API, and no browser reaches a Unix socket (SD-01).
//!
//! Served by `service::workload_api`. Two pure sessions say what is sent: `whole` for StreamSecrets and FetchSecrets,
//! `delta` for DeltaSecrets; `stream` drives either. Refused: names that the caller has no right to, other types than
//! secrets, more streams or questions than the limits.

mod delta;
mod session;
mod stream;
mod whole;

use std::sync::Arc;

use base_ports::Rate;
use futures_util::stream::{BoxStream, StreamExt as _, pending};
use tonic::{Request, Response, Status, Streaming};

use super::{REQUEST_BYTES, known, limits::Streams};
use crate::{
    agent::Agent,
    attest::Caller,
    generated::sds::envoy::service::{
        discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse},
        secret::v3::secret_discovery_service_server::{SecretDiscoveryService, SecretDiscoveryServiceServer},
    },
    secret::SdsNames,
};
use delta::Delta;
use session::Session;
use stream::{Follower, Inbound, Questions};
use whole::Whole;

/// The service; `streams` are counted with those of the Workload API.
pub(super) fn service(
    agent: Arc<Agent>,
    streams: Streams,
    names: SdsNames,
) -> SecretDiscoveryServiceServer<Sds> {
    let sds = Sds { agent, streams, names: Arc::new(names), questions: Arc::new(Rate::default()) };
    SecretDiscoveryServiceServer::new(sds).max_decoding_message_size(REQUEST_BYTES)
}

#[derive(Debug)]
pub(super) struct Sds {
    agent: Arc<Agent>,
    streams: Streams,
    names: Arc<SdsNames>,
    questions: Questions,
}

type Answers<M> = BoxStream<'static, Result<M, Status>>;

impl Sds {
    fn follow<S: Session + Default>(
        &self,
        caller: Option<&Caller>,
        inbound: Inbound<S::Request>,
    ) -> Result<Follower<S>, Status> {
        let caller = known(caller)?.clone();
        let permit = self.streams.admit(caller.uid())?;
        let (names, questions) = (Arc::clone(&self.names), Arc::clone(&self.questions));
        Ok(Follower::new(Arc::clone(&self.agent), caller, names, questions, inbound, permit))
    }

    fn stream<S: Session + Default>(
        &self,
        request: Request<Streaming<S::Request>>,
    ) -> Result<Response<Answers<S::Response>>, Status> {
        let caller = request.extensions().get().cloned();
        let follower = self.follow::<S>(caller.as_ref(), request.into_inner().boxed())?;
        Ok(Response::new(follower.into_stream()))
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for Sds {
    type StreamSecretsStream = Answers<DiscoveryResponse>;
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        self.stream::<Whole>(request)
    }

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        self.stream::<Delta>(request)
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let caller = request.extensions().get().cloned();
        let follower = self.follow::<Whole>(caller.as_ref(), pending().boxed())?;
        follower.once(request.into_inner()).await.map(Response::new)
    }
}

#[cfg(test)]
mod tests;
