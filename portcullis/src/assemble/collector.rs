//! What goes to a collector by OTLP over HTTP (OB5): the task that sends it, and the way there, one request on one connection,
//! over TLS where it is at https. Spans, metrics and decisions use it.

pub(super) mod wire;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base_ports::Tasks;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, version};

use super::once;
use crate::config;
use crate::messages::Message;

/// At the end there is so long for what is left.
const LAST: Duration = Duration::from_secs(2);
const ANSWER_BYTES: usize = 64 * 1024;

/// A running exporter. Dropping it ends it at once.
#[derive(Debug)]
pub(super) struct Exporter {
    what: &'static str,
    ended: oneshot::Receiver<()>,
    _tasks: Tasks,
}

impl Exporter {
    /// Starts one of that name.
    pub(super) fn start(what: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Exporter {
        let ((end, ended), tasks) = (oneshot::channel(), Tasks::new("export"));
        tasks.spawn(what, async move {
            work.await;
            // Whoever does not wait for it needs no word.
            end.send(()).unwrap_or_default();
        });
        Exporter { what, ended, _tasks: tasks }
    }

    /// Waits a moment until what is under way is sent.
    pub(super) async fn finish(self) {
        if timeout(LAST, self.ended).await.is_err() {
            let what = self.what;
            tracing::warn!(
                event = "export_lost",
                what,
                "the collector did not take the last of them in time"
            );
        }
    }
}

/// Why a collector did not take something.
#[derive(Debug)]
pub(super) enum Refused {
    /// It can be tried again.
    Now,
    /// It never takes this.
    Ever,
}

/// A collector that is not connected to yet.
pub(super) struct Collector {
    place: config::Collector,
    tls: Option<Arc<ClientConfig>>,
    what: &'static str,
    resource: wire::Resource,
    is_failing: bool,
}

impl Collector {
    /// Reads the roots that verify it; `what` is sent. They are read once: who changes the file starts the process anew.
    pub(super) fn new(place: &config::Collector, what: &'static str) -> Result<Self, Message> {
        let tls = place.roots.as_deref().map(|file| trusting(file).map_err(|text| refusal(file, &text)));
        let (tls, resource) = (tls.transpose()?, wire::resource(&place.resource));
        Ok(Self { place: place.clone(), tls, what, resource, is_failing: false })
    }

    /// The process as it is told.
    pub(super) fn resource(&self) -> &wire::Resource {
        &self.resource
    }

    /// Posts. A failure is said once until it works again.
    ///
    /// # Errors
    /// When it was not taken.
    pub(super) async fn send(&mut self, body: Vec<u8>) -> Result<(), Refused> {
        let failed = match timeout(self.place.limit, self.post(body)).await {
            Ok(Ok(status)) if status.is_success() => None,
            Ok(Ok(status)) => Some((refused(status), format!("it answered {status}"))),
            Ok(Err(error)) => Some((Refused::Now, error.to_string())),
            Err(_late) => Some((Refused::Now, "it did not answer in time".to_owned())),
        };
        let (collector, what) = (self.place.url(), self.what);
        match &failed {
            Some((_, cause)) if !self.is_failing => {
                tracing::error!(event = "export_failed", what, collector, cause, "a collector takes nothing");
            }
            None if self.is_failing => {
                tracing::info!(event = "export_works", what, collector, "the collector takes them again");
            }
            _ => {}
        }
        self.is_failing = failed.is_some();
        failed.map_or(Ok(()), |(refused, _)| Err(refused))
    }

    async fn post(&self, body: Vec<u8>) -> io::Result<StatusCode> {
        let host = self.place.host.as_str();
        let stream = TcpStream::connect((unbracketed(host), self.place.port)).await?;
        let Some(tls) = &self.tls else { return self.exchange(stream, body).await };
        let name = ServerName::try_from(unbracketed(host).to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
        self.exchange(stream, body).await
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        body: Vec<u8>,
    ) -> io::Result<StatusCode> {
        let mut request = Request::post(self.place.path.as_str())
            .header(header::HOST, format!("{}:{}", self.place.host, self.place.port))
            .header(header::CONTENT_TYPE, "application/x-protobuf");
        for (name, value) in &self.place.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(io::Error::other)?;
        let answer = once::ask(stream, request).await.map_err(io::Error::other)?;
        let status = answer.status;
        // Its answer says nothing that we could act on.
        drop(answer.body(ANSWER_BYTES).await);
        Ok(status)
    }
}

/// OTLP 1.x, "Failures": these may be sent again, nothing else.
fn refused(status: StatusCode) -> Refused {
    match status.as_u16() {
        429 | 502 | 503 | 504 => Refused::Now,
        _ => Refused::Ever,
    }
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Verifies by the roots of that file, and by no others; TLS 1.3.
fn trusting(file: &std::path::Path) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())? {
        let root = root.map_err(|error| error.to_string())?;
        roots.add(root).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("it holds no certificate".to_owned());
    }
    let builder = ClientConfig::builder_with_protocol_versions(&[&version::TLS13]);
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn refusal(file: &std::path::Path, text: &str) -> Message {
    Message::error("PC0107", format!("the roots of the collector, `{}`: {text}", file.display()))
        .help("a PEM file with the certificates that verify the collector")
}
