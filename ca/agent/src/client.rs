//! A client of any SPIFFE Workload API over a Unix socket: for `svid fetch`, `validate`, `write` and `watch`.
//!
//! It refuses addresses that are not `unix:///absolute/path`, answers that are not complete, and material that does not
//! parse; a message replaces everything that came before it (WA-03, WA-04).

mod address;
pub(crate) mod der;
mod tokens;

use std::{collections::HashSet, io, path::PathBuf, sync::Arc, time::Duration};

use ca_identity::{Bundle, BundleMap, CertificateDer, PrivateKey, SpiffeId, TrustDomain, X509Svid};
use hyper_util::rt::TokioIo;
use prost::bytes::Bytes;
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status, Streaming,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use crate::generated::{
    client::spiffe_workload_api_client::SpiffeWorkloadApiClient,
    messages::{X509svid, X509svidRequest, X509svidResponse},
};

pub use address::AddressError;
pub use der::DerError;
pub use tokens::{FetchedToken, ValidatedToken};

/// The longest wait before a watch connects again.
const RECONNECT_LONGEST: Duration = Duration::from_secs(30);
const RECONNECT_FIRST: Duration = Duration::from_millis(500);

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A connection to a Workload API.
#[derive(Debug, Clone)]
pub struct WorkloadClient {
    api: SpiffeWorkloadApiClient<Channel>,
}

/// The complete X.509 state of a workload.
#[derive(Debug, Clone)]
pub struct X509Context {
    /// The identities, the default one first; never empty.
    pub svids: Vec<X509Svid>,
    /// Whom to trust, per trust domain.
    pub bundles: BundleMap,
}

/// Why there is nothing from the Workload API.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket's address is not one that we take.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nobody listens there, or the connection broke.
    #[error("cannot connect to `{}`", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: tonic::transport::Error,
    },
    /// The API answered with an error.
    #[error("the Workload API answered {code}: {message}", code = name_of(*code), message = message)]
    Answer {
        /// The gRPC code.
        code: Code,
        /// Its words.
        message: String,
    },
    /// The stream ended without an answer.
    #[error("the Workload API closed the stream")]
    Closed,
    /// The answer names no identity.
    #[error("the Workload API answered without any SVID")]
    Empty,
    /// An identity in the answer cannot be used.
    #[error("SVID `{id}` of the answer cannot be used: {reason}")]
    Svid {
        /// As written in the answer.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// A bundle in the answer cannot be used.
    #[error("bundle of `{id}` in the answer cannot be used: {reason}")]
    Bundle {
        /// As written in the answer.
        id: String,
        /// What is wrong.
        reason: String,
    },
}

impl ClientError {
    /// The request, or the token in it, was refused as it is: asking again changes nothing.
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Answer { code: Code::InvalidArgument, .. })
    }

    /// The caller has no identity (any more): material that it holds must not be used on.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Answer { code: Code::PermissionDenied, .. })
    }
}

impl WorkloadClient {
    /// Connects to `unix:///absolute/path`.
    pub async fn connect(socket: &str) -> Result<Self, ClientError> {
        let path = address::parse(socket)?;
        let connector = {
            let path = path.clone();
            tower::service_fn(move |_| connect(path.clone()))
        };
        // The authority of a Unix socket has no meaning; clients send this one.
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(CONNECT_LIMIT);
        let channel = endpoint.connect_with_connector(connector).await;
        let channel = channel.map_err(|source| ClientError::Connect { path, source })?;
        Ok(Self { api: SpiffeWorkloadApiClient::new(channel) })
    }

    /// The X.509 state of now.
    pub async fn fetch_x509(&self) -> Result<X509Context, ClientError> {
        let mut stream = self.open().await?;
        next(&mut stream).await
    }

    /// Follows the X.509 state; connects again when the stream ends.
    pub fn watch_x509(&self) -> X509Updates {
        X509Updates { client: self.clone(), stream: None, wait: Duration::ZERO }
    }

    async fn open(&self) -> Result<Streaming<X509svidResponse>, ClientError> {
        Ok(self.api.clone().fetch_x509svid(with_header(X509svidRequest {})).await?.into_inner())
    }
}

/// A request with the header that every call must have (WE-02).
fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
    request
}

/// The X.509 state as it changes.
#[derive(Debug)]
pub struct X509Updates {
    client: WorkloadClient,
    stream: Option<Streaming<X509svidResponse>>,
    wait: Duration,
}

impl X509Updates {
    /// The next complete state. An error is not the end: the next call connects again, after a growing wait. After
    /// [`ClientError::is_denied`] what was held before must not be used on; after other errors it may be, until it
    /// expires (DF-06). Cancelling the call loses nothing but the wait.
    pub async fn next(&mut self) -> Result<X509Context, ClientError> {
        match self.advance().await {
            Ok(context) => {
                self.wait = Duration::ZERO;
                Ok(context)
            }
            Err(error) => {
                self.stream = None;
                self.wait = self.wait.saturating_mul(2).clamp(RECONNECT_FIRST, RECONNECT_LONGEST);
                Err(error)
            }
        }
    }

    async fn advance(&mut self) -> Result<X509Context, ClientError> {
        if self.stream.is_none() {
            tokio::time::sleep(self.wait).await;
            self.stream = Some(self.client.open().await?);
        }
        match &mut self.stream {
            Some(stream) => next(stream).await,
            None => Err(ClientError::Closed),
        }
    }
}

async fn connect(path: PathBuf) -> io::Result<TokioIo<UnixStream>> {
    UnixStream::connect(path).await.map(TokioIo::new)
}

async fn next(stream: &mut Streaming<X509svidResponse>) -> Result<X509Context, ClientError> {
    stream.message().await?.ok_or(ClientError::Closed)?.try_into()
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Answer { code: status.code(), message: status.message().to_owned() }
    }
}

impl TryFrom<X509svidResponse> for X509Context {
    type Error = ClientError;

    fn try_from(answer: X509svidResponse) -> Result<Self, ClientError> {
        if answer.svids.is_empty() {
            return Err(ClientError::Empty);
        }
        let mut bundles = BundleMap::default();
        let mut svids = Vec::with_capacity(answer.svids.len());
        let mut hints = HashSet::new();
        for message in answer.svids {
            add_bundle(&mut bundles, &message.spiffe_id, &message.bundle)?;
            // The first of equal hints counts, the others have none (WA-07).
            let hint = (!message.hint.is_empty() && hints.insert(message.hint.clone()))
                .then(|| message.hint.clone());
            svids.push(svid_of(&message)?.with_hint(hint));
        }
        for (id, bundle) in &answer.federated_bundles {
            add_bundle(&mut bundles, id, bundle)?;
        }
        Ok(Self { svids, bundles })
    }
}

fn svid_of(message: &X509svid) -> Result<X509Svid, ClientError> {
    let fault = |reason: String| ClientError::Svid { id: message.spiffe_id.clone(), reason };
    let chain = der::split(&message.x509_svid).map_err(|error| fault(error.to_string()))?;
    let key = PrivateKey::from_pkcs8(&message.x509_svid_key).map_err(|error| fault(error.to_string()))?;
    let svid = X509Svid::new(chain, key).map_err(|error| fault(error.to_string()))?;
    if svid.id.as_str() != message.spiffe_id {
        return Err(fault(format!("its certificate names `{}`", svid.id)));
    }
    Ok(svid)
}

fn add_bundle(bundles: &mut BundleMap, id: &str, der: &Bytes) -> Result<(), ClientError> {
    let fault = |reason: String| ClientError::Bundle { id: id.to_owned(), reason };
    let domain = domain_of(id).map_err(fault)?;
    if bundles.get(&domain).is_some() {
        return Ok(());
    }
    let anchors: Vec<CertificateDer<'static>> = der::split(der).map_err(|error| fault(error.to_string()))?;
    let bundle = Bundle::new(domain, anchors, 0).map_err(|error| fault(error.to_string()))?;
    bundles.insert_allowing_shared_roots(Arc::new(bundle));
    Ok(())
}

fn domain_of(id: &str) -> Result<TrustDomain, String> {
    SpiffeId::parse(id).map(|id| id.trust_domain().clone()).map_err(|error| error.to_string())
}

/// The name of a code as gRPC writes it.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests;
