//! The agent's connection to its authority: HTTP/2 over TLS that shows the own SVID, made when it is needed and kept.
//!
//! Only the authority itself is taken as the server, by its reserved SPIFFE ID under the bundle that is known; names of
//! hosts prove nothing. Called by `follow` and `upstream`; it tries nothing twice.

use std::sync::Arc;
use std::time::Duration;

use base_ports::{Net, Stream, SystemNet, Tasks};
use bytes::Bytes;
use ca_authority::AUTHORITY_PATH;
use ca_identity::tls::{Expected, Trust, alert_in, client_config, refusal_in};
use ca_identity::{SpiffeId, TrustDomain};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::config::Join;

const CONNECT: Duration = Duration::from_secs(5);
/// For the whole of an answer that is no stream.
const ANSWER: Duration = Duration::from_secs(30);
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// A quiet connection is probed this often, and given up without an answer.
const PROBE: Duration = Duration::from_secs(20);
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const TRIED: usize = 4;

/// The alert for a certificate that is denied, and the word for that.
pub(super) const REVOKED: &str = "certificate_revoked";

/// Why the authority did not do what it was asked.
#[derive(Debug, Clone)]
pub(super) enum LineError {
    /// It was not reached, or cannot now.
    Unavailable(String),
    /// It answered no.
    Refused {
        /// Its word for that.
        code: String,
        /// In full.
        detail: String,
    },
}

impl LineError {
    pub(super) fn unavailable(cause: impl ToString) -> Self {
        Self::Unavailable(cause.to_string())
    }

    /// Its word, when it refused.
    pub(super) fn code(&self) -> &str {
        match self {
            Self::Unavailable(_) => "",
            Self::Refused { code, .. } => code,
        }
    }
}

impl std::fmt::Display for LineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unavailable(cause) => f.write_str(cause),
            Self::Refused { detail, .. } => f.write_str(detail),
        }
    }
}

/// A way to one authority.
#[derive(Debug)]
pub(super) struct Line {
    join: Join,
    config: Arc<ClientConfig>,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    sender: SendRequest<Full<Bytes>>,
    /// Drives the connection; it ends with this.
    _tasks: Tasks,
}

impl Line {
    /// One that shows and believes what `trust` holds.
    pub(super) fn new(join: &Join, domain: &TrustDomain, trust: &Arc<Trust>) -> Result<Self, String> {
        Ok(Self { join: join.clone(), config: only_the_authority(domain, trust)?, open: Mutex::default() })
    }

    /// Where it leads.
    pub(super) fn place(&self) -> String {
        self.join.place()
    }

    /// The next request makes a new connection, such as after a new SVID.
    pub(super) async fn reset(&self) {
        *self.open.lock().await = None;
    }

    /// Posts, and gives the whole answer.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, LineError> {
        let whole = async {
            let answer = self.begin(path, body).await?;
            let bytes = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
            let bytes = bytes.map_err(LineError::unavailable)?.to_bytes();
            if bytes.is_empty() {
                return Ok(Value::Null);
            }
            serde_json::from_slice(&bytes).map_err(LineError::unavailable)
        };
        match timeout(ANSWER, whole).await {
            Ok(answer) => answer,
            Err(_late) => Err(LineError::unavailable("it did not answer in time")),
        }
    }

    /// Posts, and gives the answer as it begins.
    pub(super) async fn begin(&self, path: &str, body: &Value) -> Result<Response<Incoming>, LineError> {
        let mut sender = self.sender().await?;
        let request = Request::post(format!("https://{}{path}", self.place()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(LineError::unavailable)?;
        let answer = match timeout(ANSWER, sender.send_request(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                self.reset().await;
                return Err(broken(&error));
            }
            Err(_late) => {
                self.reset().await;
                return Err(LineError::unavailable("it did not answer in time"));
            }
        };
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(refused(answer).await)
    }

    async fn sender(&self) -> Result<SendRequest<Full<Bytes>>, LineError> {
        let mut open = self.open.lock().await;
        if let Some(Open { sender, .. }) = open.as_ref().filter(|open| !open.sender.is_closed()) {
            return Ok(sender.clone());
        }
        *open = None;
        let stream = connect(&self.join, &self.config).await?;
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PROBE)
            .keep_alive_timeout(PROBE_TIMEOUT)
            .keep_alive_while_idle(true);
        let made = timeout(CONNECT, builder.handshake(TokioIo::new(stream))).await;
        let (sender, connection) = match made {
            Ok(made) => made.map_err(|error| broken(&error))?,
            Err(_late) => return Err(LineError::unavailable("it did not answer in time")),
        };
        let tasks = Tasks::new("authority line");
        tasks.spawn("connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(event = "authority_line", error = cause_of(&error), "the connection ended");
            }
        });
        *open = Some(Open { sender: sender.clone(), _tasks: tasks });
        Ok(sender)
    }
}

/// Shows and believes what `trust` holds, and takes no other server than the authority.
pub(super) fn only_the_authority(
    domain: &TrustDomain,
    trust: &Arc<Trust>,
) -> Result<Arc<ClientConfig>, String> {
    let authority = SpiffeId::new(domain, AUTHORITY_PATH).map_err(|error| error.to_string())?;
    Ok(client_config(trust, Expected::Ids(vec![authority]), &[b"h2"]))
}

/// The first address that answers, with TLS on it.
pub(super) async fn connect(join: &Join, config: &Arc<ClientConfig>) -> Result<TlsStream<Stream>, LineError> {
    let secured = async {
        let stream = dial(&join.host, join.port).await?;
        let name = ServerName::try_from(join.host.clone()).map_err(LineError::unavailable)?;
        let secured = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
        secured.map_err(|error| {
            LineError::Unavailable(match refusal_in(&error) {
                Some(refusal) => format!("who answers there is not the authority: {refusal}"),
                None => format!("TLS: {error}"),
            })
        })
    };
    match timeout(CONNECT, secured).await {
        Ok(secured) => secured,
        Err(_late) => Err(LineError::unavailable(format!("no answer within {} s", CONNECT.as_secs()))),
    }
}

async fn dial(host: &str, port: u16) -> Result<Stream, LineError> {
    let found = tokio::net::lookup_host((host, port)).await.map_err(LineError::unavailable)?;
    let mut last = LineError::unavailable("the name has no address");
    for address in found.take(TRIED) {
        match SystemNet.dial(&address.into()).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = LineError::unavailable(error),
        }
    }
    Err(last)
}

/// What the authority said of a refusal.
async fn refused(answer: Response<Incoming>) -> LineError {
    let status = answer.status();
    let read = timeout(ANSWER, Limited::new(answer.into_body(), ANSWER_BYTES).collect()).await;
    let bytes = read.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let word = |name: &str| problem.get(name).and_then(Value::as_str).map(str::to_owned);
    let detail = word("detail").or_else(|| word("title")).unwrap_or_else(|| status.to_string());
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return LineError::Unavailable(detail);
    }
    LineError::Refused { code: word("code").unwrap_or_default(), detail }
}

/// Why a connection failed: an alert of the authority says more than that something did.
fn broken(error: &(dyn std::error::Error + 'static)) -> LineError {
    match alert_of(error) {
        Some(alert) if alert == REVOKED => {
            let detail = "the certificate of this agent was revoked".to_owned();
            LineError::Refused { code: alert, detail }
        }
        Some(alert) => LineError::Unavailable(format!("it ended the connection with the alert `{alert}`")),
        None => LineError::Unavailable(cause_of(error)),
    }
}

fn alert_of(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(one) = cause {
        let io = one.downcast_ref::<std::io::Error>();
        let io = io.or_else(|| one.downcast_ref::<h2::Error>().and_then(h2::Error::get_io));
        if let Some(alert) = io.and_then(alert_in) {
            return Some(alert);
        }
        cause = one.source();
    }
    None
}

/// The cause at the bottom of an error.
pub(super) fn cause_of(error: &(dyn std::error::Error + 'static)) -> String {
    let last = std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error);
    match last.downcast_ref::<std::io::Error>() {
        Some(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
        _ => last.to_string(),
    }
}
