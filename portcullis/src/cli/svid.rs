//! `portcullis svid`: fetch, validate, watch, write, exec, inspect, against any SPIFFE Workload API, ours or another's; list and
//! revoke, at the authority of the running process.

mod exec;
mod files;
mod follow;
mod mint;
mod revocations;
mod signal;
mod tokens;
mod verify;
mod watch;
mod write;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base_ports::{Clock, SystemClock};
use ca_agent::client::{ClientError, WorkloadClient, X509Context};
use ca_identity::{CertificateDer, X509Svid, pem};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Global, block_on};
use crate::client::Fault;
use crate::messages::Message;
use crate::output::{Answer, Exit};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask the Workload API which identities this process has
    #[command(
        after_help = "Examples:\n  portcullis svid fetch --socket unix:///run/portcullis/workload.sock\n  portcullis svid fetch --audience orders -o json"
    )]
    Fetch(tokens::FetchOptions),
    /// Have the Workload API judge a JWT-SVID that was sent to an audience
    #[command(after_help = "Example:\n  portcullis svid validate --audience orders token.jwt")]
    Validate(tokens::ValidateOptions),
    /// Print which identities this process has, and again at every change
    #[command(after_help = "Example:\n  portcullis svid watch -o ndjson")]
    Watch(watch::Options),
    /// Write certificate, key and bundle as files, and again at every renewal
    #[command(
        after_help = "With --once it ends with 75 when trying again later can help, and with 1 when it cannot.\n\nExamples:\n  portcullis svid write --dir /run/web/tls --signal HUP --pid-file /run/web.pid\n  portcullis svid write --dir /run/web/tls --once --if-due"
    )]
    Write(write::Options),
    /// Run a command that finds its identity in files, and renew them while it runs
    #[command(
        after_help = "The command has SVID_CERT_FILE, SVID_KEY_FILE, SVID_BUNDLE_FILE and SVID_ID in its environment.\n\nExample:\n  portcullis svid exec --signal HUP -- nginx -g 'daemon off;'"
    )]
    Exec(exec::Options),
    /// Show what is in a certificate file, or in a file with a JWT-SVID
    #[command(after_help = "Example:\n  portcullis svid inspect svid.pem")]
    Inspect { file: PathBuf },
    /// Whether an SVID verifies, and if not why: that of a file, of a TLS server, or of a Workload API
    #[command(
        after_help = "Whether it was revoked is not asked: see svid revocations.\n\nExamples:\n  portcullis svid verify svid.pem --bundle bundle.pem\n  portcullis svid verify https://localhost:9443 --id spiffe://example.org/gateway\n  portcullis svid verify token.jwt --audience orders"
    )]
    Verify(verify::Options),
    /// Have a certificate signed for an identity without a registration entry; the key is made here
    #[command(
        after_help = "Example:\n  portcullis svid mint spiffe://example.org/laptop --dir ./laptop --ttl 8h"
    )]
    Mint(mint::Options),
    /// Certificates that were issued and have not ended
    #[command(alias = "ls", after_help = "Example:\n  portcullis svid list")]
    List,
    /// Deny a certificate, an identity, a token, or all tokens of a key: from now on, and on open connections
    #[command(
        after_help = "Examples:\n  portcullis svid revoke svid.pem --reason \"laptop stolen\" --yes\n  portcullis svid revoke --id spiffe://example.org/web --reason \"retired\" --yes\n  portcullis svid revoke --jti 4fb1a2 --reason \"leaked\" --yes"
    )]
    Revoke(revocations::RevokeOptions),
    /// Take a revocation back
    #[command(after_help = "Example:\n  portcullis svid unrevoke spiffe://example.org/web")]
    Unrevoke {
        /// As `svid revocations` lists it
        id: String,
    },
    /// What is denied
    #[command(after_help = "Example:\n  portcullis svid revocations")]
    Revocations,
}

#[derive(Debug, Args)]
pub(crate) struct Socket {
    /// Workload API address [default: SPIFFE_ENDPOINT_SOCKET, then the configuration]
    #[arg(long, env = "SPIFFE_ENDPOINT_SOCKET", value_name = "URL")]
    socket: Option<String>,
    /// Give up after this long
    #[arg(long, default_value = "10s", value_parser = super::run::parse_duration)]
    timeout: Duration,
}

impl Socket {
    /// The same with that address.
    fn at(&self, address: &str) -> Self {
        Self { socket: Some(address.to_owned()), timeout: self.timeout }
    }
}

pub(crate) fn run(command: Command, global: &Global) -> Exit {
    let outcome = match command {
        Command::List => return revocations::issued(global),
        Command::Mint(options) => return mint::run(options, global),
        Command::Revoke(options) => return revocations::revoke(options, global),
        Command::Unrevoke { id } => return revocations::lift(id, global),
        Command::Revocations => return revocations::list(global),
        Command::Fetch(options) if options.wants_tokens() => tokens::fetch(&options, global),
        Command::Fetch(options) => fetch(&options.socket, global),
        Command::Validate(options) => tokens::validate(&options, global),
        Command::Watch(options) => watch::run(&options, global),
        Command::Write(options) => write::run(&options, global),
        Command::Exec(options) => return exec::run(&options, global),
        Command::Inspect { file } => inspect(&file),
        Command::Verify(options) => verify::run(&options, global),
    };
    match outcome {
        Ok(answer) => {
            answer.print(global.format());
            Exit::Done
        }
        Err(fault) => global.fail(&fault),
    }
}

fn fetch(socket: &Socket, global: &Global) -> Result<Answer, Fault> {
    let context = block_on(obtain(socket, global))?;
    let items: Vec<Value> = context.svids.iter().map(about).collect();
    let columns =
        [("SPIFFE ID", "/spiffe_id"), ("SERIAL", "/serial"), ("NOT AFTER", "/not_after"), ("HINT", "/hint")];
    Ok(Answer::list("Svid", items, &columns))
}

/// The identity that a workload with one uses.
fn first(context: &X509Context) -> Option<&X509Svid> {
    context.svids.first()
}

async fn obtain(socket: &Socket, global: &Global) -> Result<X509Context, Fault> {
    told(socket, global).await?.map_err(|error| unavailable(&error))
}

/// What the Workload API says, which may be no.
async fn told(socket: &Socket, global: &Global) -> Result<Result<X509Context, ClientError>, Fault> {
    asked(socket, global, async |client: WorkloadClient| client.fetch_x509().await).await
}

/// What the Workload API answers, unless it takes too long.
async fn asked<T>(
    socket: &Socket,
    global: &Global,
    ask: impl AsyncFnOnce(WorkloadClient) -> Result<T, ClientError>,
) -> Result<Result<T, ClientError>, Fault> {
    let address = address(socket, global)?;
    let answer = async { ask(WorkloadClient::connect(&address).await?).await };
    tokio::time::timeout(socket.timeout, answer).await.map_err(|_elapsed| {
        let limit = crate::config::print_duration(socket.timeout);
        let text = format!("no answer from `{address}` within {limit}");
        Fault::new(Exit::Temporary, Message::error("PC0142", text))
    })
}

fn address(socket: &Socket, global: &Global) -> Result<String, Fault> {
    if let Some(address) = &socket.socket {
        return Ok(address.clone());
    }
    let path = global.config_path();
    let agent = crate::config::load(&path).ok().and_then(|loaded| loaded.config.agent);
    match agent {
        Some(agent) => {
            let path = fs::canonicalize(&agent.socket).unwrap_or(agent.socket);
            Ok(format!("unix://{}", path.display()))
        }
        None => Err(Fault::new(
            Exit::Usage,
            Message::error("PC1001", "no Workload API address").help(
                "set SPIFFE_ENDPOINT_SOCKET or --socket unix:///PATH, or name a configuration with [agent]",
            ),
        )),
    }
}

fn inspect(file: &Path) -> Result<Answer, Fault> {
    let fault = |text: String| Fault::new(Exit::Invalid, Message::error("PC1002", text));
    let bytes =
        fs::read(file).map_err(|error| fault(format!("`{}` cannot be read: {error}", file.display())))?;
    if let Some(token) = tokens::inspect(&bytes) {
        return token;
    }
    let certificates = certificates(&bytes);
    if certificates.is_empty() {
        return Err(fault(format!(
            "`{}` holds no certificate, neither PEM nor DER, and no JWT-SVID",
            file.display()
        )));
    }
    let now = SystemClock.now().wall;
    let mut items = Vec::new();
    for der in &certificates {
        let facts = ca_identity::inspect::certificate(der)
            .map_err(|error| fault(format!("`{}`: {error}", file.display())))?;
        items.push(json!({
            "spiffe_id": facts.id.map(|id| id.to_string()), "serial": facts.serial.to_string(), "not_before": facts.not_before.to_string(), "not_after": facts.not_after.to_string(),
            "expired": facts.not_after < now, "dns_names": facts.dns_names, "issuer": facts.issuer, "key_id": facts.key_id.to_string(), "ca": facts.is_ca,
        }));
    }
    let columns = [
        ("SPIFFE ID", "/spiffe_id"),
        ("CA", "/ca"),
        ("NOT AFTER", "/not_after"),
        ("EXPIRED", "/expired"),
        ("SERIAL", "/serial"),
        ("DNS NAMES", "/dns_names"),
    ];
    Ok(Answer::list("Certificate", items, &columns))
}

/// The certificates of a PEM file, or the one DER certificate that the file is.
pub(super) fn certificates(bytes: &[u8]) -> Vec<CertificateDer<'static>> {
    match pem::read_certificates(bytes) {
        Ok(found) if !found.is_empty() => found,
        _ if bytes.first() == Some(&0x30) => vec![CertificateDer::from(bytes.to_vec())],
        _ => Vec::new(),
    }
}

fn about(svid: &X509Svid) -> Value {
    json!({
        "spiffe_id": svid.id.as_str(),
        "serial": svid.serial.to_string(),
        "not_before": svid.not_before.to_string(),
        "not_after": svid.not_after.to_string(),
        "hint": svid.hint,
        "chain": svid.chain.len(),
    })
}

/// Whether trying again later can help.
fn is_temporary(error: &ClientError) -> bool {
    !(error.is_denied() || error.is_invalid() || matches!(error, ClientError::Address(_)))
}

fn unavailable(error: &dyn std::error::Error) -> Fault {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    Fault::new(
        Exit::Unavailable,
        Message::error("PC1001", text)
            .help("is the agent running, and does an entry match this process?")
            .next("portcullis entry list"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_reads_back() {
        let der = CertificateDer::from(vec![0x30u8; 100]);
        assert_eq!(certificates(pem::write_certificates([&der]).as_bytes()), vec![der.clone()]);
        assert_eq!(certificates(&der), vec![der]);
        assert!(certificates(b"hello").is_empty());
    }
}
