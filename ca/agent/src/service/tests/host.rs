//! A served agent: a real Unix socket, HTTP/2, and the caller of each connection, as `portcullis` does it.

use std::{path::PathBuf, sync::Arc};

use base_ports::task::{TaskHandle, Tasks};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::{UnixListener, UnixStream};
use tonic::{
    Request, Streaming,
    service::Routes,
    transport::{Channel, Endpoint},
};

use crate::{
    Agent, AgentEntry, Caller, SdsNames, Settings, WorkloadClient,
    generated::{
        client::spiffe_workload_api_client::SpiffeWorkloadApiClient,
        messages::{X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse},
    },
    testing::FakeAuthority,
    workload_api,
};

/// A served agent in a directory of its own.
pub(super) struct Host {
    pub(super) authority: Arc<FakeAuthority>,
    pub(super) agent: Arc<Agent>,
    path: PathBuf,
    serving: TaskHandle,
    tasks: Tasks,
    /// Whether it serves tokens from its next start on.
    pub(super) tokens: bool,
    _directory: tempfile::TempDir,
}

impl Host {
    pub(super) async fn start(entries: Vec<AgentEntry>) -> Self {
        Self::over(FakeAuthority::start(entries)).await
    }

    pub(super) async fn over(authority: Arc<FakeAuthority>) -> Self {
        let tasks = Tasks::new("test");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("workload.sock");
        let agent = authority.agent(&tasks);
        let listener = UnixListener::bind(&path).unwrap();
        let serving = tasks.spawn("serve", serve(listener, workload_api(Arc::clone(&agent), settings(true))));
        Self { authority, agent, path, serving, tasks, tokens: true, _directory: directory }
    }

    /// Breaks every connection and listens anew, as a restarted agent does.
    pub(super) fn restart(&mut self) {
        self.serving.abort();
        std::fs::remove_file(&self.path).unwrap();
        let listener = UnixListener::bind(&self.path).unwrap();
        self.serving = self
            .tasks
            .spawn("serve", serve(listener, workload_api(Arc::clone(&self.agent), settings(self.tokens))));
    }

    fn address(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    pub(super) async fn client(&self) -> WorkloadClient {
        WorkloadClient::connect(&self.address()).await.unwrap()
    }

    /// Without anything that our client adds.
    pub(super) async fn raw(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::new(self.channel().await)
    }

    pub(super) async fn channel(&self) -> Channel {
        let path = self.path.clone();
        let connect = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://localhost").connect_with_connector(connect).await.unwrap()
    }

    pub(super) async fn x509(&self) -> Streaming<X509svidResponse> {
        self.raw().await.fetch_x509svid(with_header(X509svidRequest {})).await.unwrap().into_inner()
    }

    pub(super) async fn bundles(&self) -> Streaming<X509BundlesResponse> {
        self.raw().await.fetch_x509_bundles(with_header(X509BundlesRequest {})).await.unwrap().into_inner()
    }
}

fn settings(tokens: bool) -> Settings {
    Settings { tokens, sds: SdsNames::default() }
}

async fn serve(listener: UnixListener, routes: Routes) {
    let tasks = Tasks::new("connections");
    while let Ok((stream, _)) = listener.accept().await {
        let peer = stream.peer_cred().unwrap();
        let caller = Caller::pin(peer.uid(), peer.gid(), peer.pid());
        let routes = routes.clone();
        let service = tower::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(caller.clone());
            tower::ServiceExt::oneshot(routes.clone(), request)
        });
        tasks.spawn("connection", async move {
            let server = auto::Builder::new(TokioExecutor::new()).http2_only();
            let served =
                server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await;
            drop(served);
        });
    }
}

pub(super) fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    request
}
