//! The two services of the demo, each a process of its own: `web` calls, `orders` answers. They are ordinary SPIFFE
//! workloads: they fetch their identity from the Workload API and know nothing of each other's certificates.
//! Both end when their standard input closes, so a killed demo leaves no process.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base_ports::{SystemClock, Tasks};
use bytes::{BufMut, Bytes, BytesMut};
use ca_agent::client::WorkloadClient;
use ca_identity::tls::{Expected, Trust, client_config};
use ca_identity::{IdentitySnapshot, SpiffeId};
use clap::{Args, ValueEnum};
use http::{HeaderMap, HeaderValue, Request, Response};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::cli::block_on;
use crate::output::{self, Exit};

/// Pause between two calls of `web`: 20 a second.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    Web,
    Orders,
}

#[derive(Debug, Args)]
pub(crate) struct SampleOptions {
    role: Role,
    /// Workload API
    #[arg(long)]
    socket: String,
    /// Address to call (web) or to serve (orders)
    #[arg(long)]
    address: SocketAddr,
    /// Identity that the called side must prove
    #[arg(long)]
    expect: Option<String>,
}

type Error = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn sample(options: &SampleOptions) -> Exit {
    std::thread::spawn(|| {
        // Ends with the process that holds the other end of the pipe.
        while std::io::stdin().read(&mut [0u8; 64]).is_ok_and(|read| read > 0) {}
        std::process::exit(0);
    });
    let worked = block_on(async {
        match options.role {
            Role::Web => web(options).await,
            Role::Orders => orders(options).await,
        }
    });
    match worked {
        Ok(()) => Exit::Done,
        Err(error) => {
            tell(&json!({ "event": "failed", "error": error.to_string() }));
            Exit::Failed
        }
    }
}

fn tell(event: &serde_json::Value) {
    output::data(&event.to_string());
}

/// Fetches the identity, retrying while the agent starts, and tells of it.
async fn identity(socket: &str) -> Result<Arc<Trust>, Error> {
    let mut tries = 0u32;
    let context = loop {
        let fetched = async { WorkloadClient::connect(socket).await?.fetch_x509().await };
        match fetched.await {
            Ok(context) => break context,
            Err(error) if tries >= 100 => return Err(error.into()),
            Err(_not_yet) => tries = tries.saturating_add(1),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let svid = Arc::new(context.svids.into_iter().next().ok_or("no SVID")?);
    tell(
        &json!({ "event": "identity", "id": svid.id.as_str(), "serial": svid.serial.to_string(), "not_after": svid.not_after.to_string() }),
    );
    let trust = Trust::new(Arc::new(SystemClock));
    trust.publish(IdentitySnapshot {
        own: Some(svid),
        bundles: context.bundles,
        ..IdentitySnapshot::default()
    })?;
    Ok(trust)
}

async fn web(options: &SampleOptions) -> Result<(), Error> {
    let trust = identity(&options.socket).await?;
    let gateway = SpiffeId::parse(options.expect.as_deref().ok_or("--expect is missing")?)?;
    let connector = TlsConnector::from(client_config(&trust, Expected::Ids(vec![gateway]), &[b"h2"]));
    let tasks = Tasks::new("web");
    let (mut allowed, mut denied, mut failed, mut calls) = (0u64, 0u64, 0u64, 0u64);
    loop {
        let stream = TcpStream::connect(options.address).await?;
        stream.set_nodelay(true)?;
        let stream = connector.connect("localhost".try_into()?, stream).await?;
        let (mut client, connection) = h2::client::handshake(stream).await?;
        tasks.spawn("connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "connection to the gateway ended");
            }
        });
        while let Ok(ready) = client.clone().ready().await {
            client = ready;
            calls = calls.wrapping_add(1);
            let method = match calls % 4 {
                0 => "Refund",
                1 | 3 => "Get",
                _ => "List",
            };
            match call(&mut client, method).await {
                Ok(0) => allowed = allowed.wrapping_add(1),
                Ok(7) => denied = denied.wrapping_add(1),
                Ok(_) | Err(_) => failed = failed.wrapping_add(1),
            }
            tell(
                &json!({ "event": "called", "method": method, "allowed": allowed, "denied": denied, "failed": failed }),
            );
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// One unary call with an empty message; gives the gRPC status.
async fn call(client: &mut h2::client::SendRequest<Bytes>, method: &str) -> Result<u32, Error> {
    let request = Request::builder()
        .method("POST")
        .uri(format!("https://orders/shop.Orders/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (answer, mut body) = client.send_request(request, false)?;
    body.send_data(message(b""), true)?;
    let answer = answer.await?;
    let status = |headers: &HeaderMap| {
        headers.get("grpc-status").and_then(|status| status.to_str().ok()?.parse().ok())
    };
    if let Some(status) = status(answer.headers()) {
        return Ok(status);
    }
    let mut body = answer.into_body();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
    }
    let trailers = body.trailers().await?.ok_or("no trailers")?;
    status(&trailers).ok_or_else(|| "no grpc-status".into())
}

async fn orders(options: &SampleOptions) -> Result<(), Error> {
    let _trust = identity(&options.socket).await?;
    let listener = TcpListener::bind(options.address).await?;
    tell(&json!({ "event": "listening", "address": listener.local_addr()?.to_string() }));
    let tasks = Tasks::new("orders");
    loop {
        let (stream, _) = listener.accept().await?;
        tasks.spawn("connection", async move {
            if let Err(error) = serve(stream).await {
                tracing::debug!(error = %error, "connection of the gateway ended");
            }
        });
    }
}

async fn serve(stream: TcpStream) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, mut respond) = accepted?;
        let peer = request
            .headers()
            .get("portcullis-peer")
            .cloned()
            .unwrap_or_else(|| HeaderValue::from_static("nobody"));
        let head = Response::builder().status(200).header("content-type", "application/grpc").body(())?;
        let mut body = respond.send_response(head, false)?;
        // One protobuf field: who the gateway says is calling.
        let mut text = BytesMut::new();
        text.put_u8(0x0a);
        text.put_u8(u8::try_from(peer.len()).unwrap_or(0));
        text.extend_from_slice(peer.as_bytes());
        body.send_data(message(&text), false)?;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        body.send_trailers(trailers)?;
    }
    Ok(())
}

/// A gRPC message frame: not compressed, length, bytes.
fn message(bytes: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(bytes.len().saturating_add(5));
    frame.put_u8(0);
    frame.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(bytes);
    frame.freeze()
}
