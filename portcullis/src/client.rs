//! How commands reach a running portcullis: HTTP over its admin socket, where the kernel says who is asking.

use std::path::PathBuf;
use std::time::Duration;

use base_ports::Tasks;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::messages::Message;
use crate::output::Exit;

/// How long one answer may take, except a stream.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What went wrong, and the exit code it means.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) exit: Exit,
    pub(crate) message: Message,
    /// Findings about what was sent, which stand before the message.
    pub(crate) findings: Vec<Message>,
}

impl Fault {
    pub(crate) fn new(exit: Exit, message: Message) -> Self {
        Self { exit, message, findings: Vec::new() }
    }

    /// With the command that helps, unless the answer named one.
    pub(crate) fn or_next(mut self, next: impl Into<String>) -> Self {
        self.message.next.get_or_insert_with(|| next.into());
        self
    }
}

/// One call of the admin API.
struct Call<'a> {
    method: Method,
    path: &'a str,
    body: Option<&'a Value>,
    /// What is changed must be as it was then.
    revision: Option<&'a str>,
    headers: &'a [(&'static str, String)],
    /// The whole answer comes within this time.
    limit: Duration,
}

impl<'a> Call<'a> {
    fn new(method: Method, path: &'a str) -> Self {
        Self { method, path, body: None, revision: None, headers: &[], limit: TIMEOUT }
    }

    fn posts(path: &'a str, body: &'a Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, path) }
    }
}

/// The admin socket of a running process.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(crate) fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Fault> {
        self.value(Call::new(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Fault> {
        self.value(Call::posts(path, body)).await
    }

    /// Posts a question whose answer may take `patience` beyond what any answer may.
    pub(crate) async fn ask(&self, path: &str, body: &Value, patience: Duration) -> Result<Value, Fault> {
        self.value(Call { limit: TIMEOUT + patience, ..Call::posts(path, body) }).await
    }

    /// Posts to `path` as it was at `revision`.
    pub(crate) async fn post_if(&self, path: &str, body: &Value, revision: &str) -> Result<Value, Fault> {
        self.value(Call { revision: Some(revision), ..Call::posts(path, body) }).await
    }

    /// Changes `path` as it was at `revision`.
    pub(crate) async fn patch(&self, path: &str, body: &Value, revision: &str) -> Result<Value, Fault> {
        let change = Call { method: Method::PATCH, ..Call::posts(path, body) };
        self.value(Call { revision: Some(revision), ..change }).await
    }

    /// Replaces `path` as it was at `revision`.
    pub(crate) async fn put(&self, path: &str, body: &Value, revision: &str) -> Result<Value, Fault> {
        let change = Call { method: Method::PUT, ..Call::posts(path, body) };
        self.value(Call { revision: Some(revision), ..change }).await
    }

    /// Replaces `path`, whatever it is now.
    pub(crate) async fn replace(&self, path: &str, body: &Value) -> Result<Value, Fault> {
        self.value(Call { method: Method::PUT, ..Call::posts(path, body) }).await
    }

    /// Deletes what `path` names, whatever it is now.
    pub(crate) async fn remove(&self, path: &str) -> Result<Value, Fault> {
        self.value(Call::new(Method::DELETE, path)).await
    }

    /// Deletes `path` as it was at `revision`.
    pub(crate) async fn delete(&self, path: &str, revision: &str) -> Result<Value, Fault> {
        self.value(Call { revision: Some(revision), ..Call::new(Method::DELETE, path) }).await
    }

    /// What `path` holds, byte for byte.
    pub(crate) async fn bytes(&self, path: &str) -> Result<Bytes, Fault> {
        self.whole(Call::new(Method::GET, path)).await.map(|(_, bytes)| bytes)
    }

    /// Reads a stream of server-sent events to its end, from behind the event `last`, which is kept up to date. `each`
    /// gets the kind of an event, empty for most, and its data.
    pub(crate) async fn events(
        &self,
        path: &str,
        headers: &[(&'static str, String)],
        last: &mut Option<String>,
        mut each: impl FnMut(&str, &str),
    ) -> Result<(), Fault> {
        let mut headers = headers.to_vec();
        headers.extend(last.clone().map(|last| ("last-event-id", last)));
        let (parts, mut body, _connection) =
            self.exchange(Call { headers: &headers, ..Call::new(Method::GET, path) }).await?;
        drop(parts);
        let (mut buffer, mut event) = (Vec::new(), Event::default());
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { break };
            let Ok(chunk) = frame.into_data() else { continue };
            buffer.extend_from_slice(&chunk);
            while let Some(end) = memchr_line(&buffer) {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                if !event.line(String::from_utf8_lossy(&line).trim_end()) {
                    continue;
                }
                let event = std::mem::take(&mut event);
                if let Some(data) = event.data {
                    each(&event.kind, &data);
                }
                // An event counts as seen only when it was taken.
                *last = event.id.or(last.take());
            }
        }
        Ok(())
    }

    /// Gets `path` with further headers.
    pub(crate) async fn get_with(
        &self,
        path: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Value, Fault> {
        self.value(Call { headers, ..Call::new(Method::GET, path) }).await
    }

    /// Posts `body` with further headers; the answer's own headers and its text.
    pub(crate) async fn post_with(
        &self,
        path: &str,
        body: &Value,
        headers: &[(&'static str, String)],
    ) -> Result<(HeaderMap, Bytes), Fault> {
        self.whole(Call { headers, ..Call::posts(path, body) }).await
    }

    async fn value(&self, call: Call<'_>) -> Result<Value, Fault> {
        self.whole(call).await.map(|(_, bytes)| value_of(&bytes))
    }

    /// Headers and body of an answer that has to come in time.
    async fn whole(&self, call: Call<'_>) -> Result<(HeaderMap, Bytes), Fault> {
        let limit = call.limit;
        let whole = async {
            let (parts, answer, _connection) = self.exchange(call).await?;
            let bytes = answer.collect().await.map_err(|error| self.unavailable(&error))?.to_bytes();
            Ok((parts, bytes))
        };
        match tokio::time::timeout(limit, whole).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(Fault::new(
                Exit::Temporary,
                Message::error(
                    "PC0142",
                    format!("no answer from `{}` within {} s", self.socket.display(), limit.as_secs()),
                ),
            )),
        }
    }

    /// Headers and body of a good answer, and the task that must live as long as somebody reads it.
    async fn exchange(&self, call: Call<'_>) -> Result<(HeaderMap, Incoming, Tasks), Fault> {
        let Call { method, path, body, revision, headers, .. } = call;
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unavailable(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unavailable(&error))?;
        let tasks = Tasks::new("admin client");
        tasks.spawn("connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "admin connection ended");
            }
        });
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(revision) = revision {
            request = request.header(header::IF_MATCH, format!("\"{revision}\""));
        }
        let request = request.body(Full::new(bytes)).map_err(|error| self.unavailable(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| self.unavailable(&error))?;
        if answer.status().is_success() {
            let (parts, body) = answer.into_parts();
            return Ok((parts.headers, body, tasks));
        }
        let status = answer.status();
        let bytes = answer.into_body().collect().await.map_err(|error| self.unavailable(&error))?.to_bytes();
        Err(refused(status, &bytes))
    }

    fn unavailable(&self, error: &dyn std::error::Error) -> Fault {
        let text = format!("no running portcullis at `{}`: {error}", self.socket.display());
        let message = Message::error("PC0140", text)
            .help("start one, or name its configuration or socket with -c FILE or --server unix:///PATH")
            .next("portcullis run");
        Fault::new(Exit::Unavailable, message)
    }
}

/// Turns problem JSON into a message.
fn refused(status: StatusCode, body: &[u8]) -> Fault {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| problem.get(name).and_then(Value::as_str).map(str::to_owned);
    let title = text("title").unwrap_or_else(|| status.to_string());
    let detail = text("detail").map(|detail| format!("{title}: {detail}")).unwrap_or(title);
    let code = text("code").and_then(|code| Some(crate::messages::find(&code)?.code)).unwrap_or("PC0141");
    let mut message = Message::error(code, detail);
    message.help = text("hint").or_else(|| text("help"));
    message.next = text("next");
    let exit = match status.as_u16() {
        // An abbreviation that fits several: the list is in the text (EX5).
        409 if problem.get("candidates").is_some() => Exit::Usage,
        400 | 404 | 405 | 409 | 410 | 412 | 413 | 415 | 422 | 428 => Exit::Invalid,
        401 | 403 => Exit::NotPermitted,
        429 | 503 | 504 => Exit::Temporary,
        _ => Exit::Failed,
    };
    let findings = problem.get("errors").and_then(Value::as_array).into_iter().flatten();
    Fault { exit, message, findings: findings.filter_map(Message::from_json).collect() }
}

/// One server-sent event while its lines come.
#[derive(Default)]
struct Event {
    id: Option<String>,
    kind: String,
    data: Option<String>,
}

impl Event {
    /// Takes a line; whether it ends the event.
    fn line(&mut self, line: &str) -> bool {
        let of = |name: &str| line.strip_prefix(name).map(str::trim_start);
        if let Some(data) = of("data:") {
            self.data = Some(data.to_owned());
        } else if let Some(id) = of("id:") {
            self.id = Some(id.to_owned());
        } else if let Some(kind) = of("event:") {
            self.kind = kind.to_owned();
        }
        line.is_empty()
    }
}

fn value_of(bytes: &Bytes) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

fn memchr_line(buffer: &[u8]) -> Option<usize> {
    buffer.iter().position(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_becomes_a_message_and_an_exit_code() {
        let fault = refused(StatusCode::FORBIDDEN, br#"{"title":"not permitted","detail":"needs operator"}"#);
        assert_eq!(fault.exit, Exit::NotPermitted);
        assert_eq!(fault.message.text, "not permitted: needs operator");
        assert_eq!((fault.message.code, fault.findings.len()), ("PC0141", 0));
        let body = br#"{"title":"not valid","code":"PC2001","next":"portcullis check","errors":[{"code":"PC2001","message":"no","file":"a.cedar","line":2,"column":3}]}"#;
        let fault = refused(StatusCode::UNPROCESSABLE_ENTITY, body);
        assert_eq!((fault.exit, fault.message.code), (Exit::Invalid, "PC2001"));
        assert_eq!(fault.message.next.as_deref(), Some("portcullis check"));
        assert_eq!(fault.findings[0].in_one_line(), "a.cedar:2:3: no [PC2001]");
        assert_eq!(fault.or_next("portcullis status").message.next.as_deref(), Some("portcullis check"));
        assert_eq!(refused(StatusCode::BAD_GATEWAY, b"oops").exit, Exit::Failed);
        let several = br#"{"title":"several decisions fit","candidates":["a","b"]}"#;
        assert_eq!(refused(StatusCode::CONFLICT, several).exit, Exit::Usage);
        assert_eq!(refused(StatusCode::CONFLICT, b"{}").exit, Exit::Invalid);
    }
}
