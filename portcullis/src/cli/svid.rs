//! `portcullis svid`: fetch, validate, write, inspect. Works against any SPIFFE Workload API, ours or another's.

mod tokens;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
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
use crate::output::{self, Answer, Exit};

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
    /// Write certificate, key and bundle as files, and again at every renewal
    #[command(after_help = "Example:\n  portcullis svid write --dir /run/web/tls --once")]
    Write(WriteOptions),
    /// Show what is in a certificate file, or in a file with a JWT-SVID
    #[command(after_help = "Example:\n  portcullis svid inspect svid.pem")]
    Inspect { file: PathBuf },
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

#[derive(Debug, Args)]
pub(crate) struct WriteOptions {
    #[command(flatten)]
    socket: Socket,
    /// Directory for svid.pem, svid.key and bundle.pem
    #[arg(long)]
    dir: PathBuf,
    /// Write once and end; otherwise stay and follow renewals
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(command: Command, global: &Global) -> Exit {
    let outcome = match command {
        Command::Fetch(options) if options.wants_tokens() => tokens::fetch(&options, global),
        Command::Fetch(options) => fetch(&options.socket, global),
        Command::Validate(options) => tokens::validate(&options, global),
        Command::Write(options) => write(&options, global),
        Command::Inspect { file } => inspect(&file),
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

fn write(options: &WriteOptions, global: &Global) -> Result<Answer, Fault> {
    block_on(async {
        let context = obtain(&options.socket, global).await?;
        let mut written = store(&options.dir, &context)?;
        if options.once {
            return Ok(written);
        }
        written.print(global.format());
        let address = address(&options.socket, global)?;
        let mut updates =
            WorkloadClient::connect(&address).await.map_err(|error| unavailable(&error))?.watch_x509();
        let mut current = first(&context).map(|svid| svid.serial.to_string());
        loop {
            let update = tokio::select! {
                _interrupt = tokio::signal::ctrl_c() => return Ok(written),
                update = updates.next() => update,
            };
            match update {
                Ok(context) => {
                    let serial = first(&context).map(|svid| svid.serial.to_string());
                    if serial != current {
                        written = store(&options.dir, &context)?;
                        written.print(global.format());
                        current = serial;
                    }
                }
                // The identity was withdrawn: what was written must not be used on.
                Err(error) if error.is_denied() => return Err(unavailable(&error)),
                // The agent restarts or is short of its authority; the next call of `next` connects again.
                Err(error) => output::talk(&format!("waiting for the Workload API: {error}")),
            }
        }
    })
}

fn first(context: &X509Context) -> Option<&X509Svid> {
    context.svids.first()
}

async fn obtain(socket: &Socket, global: &Global) -> Result<X509Context, Fault> {
    let answer = asked(socket, global, async |client: WorkloadClient| client.fetch_x509().await).await?;
    answer.map_err(|error| unavailable(&error))
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

/// Writes one generation: each file to a temporary name, synced, then renamed; the key first, so that a reader who
/// sees the new certificate finds its key.
fn store(dir: &Path, context: &X509Context) -> Result<Answer, Fault> {
    let Some(svid) = first(context) else {
        return Err(Fault::new(Exit::Failed, Message::error("PC1001", "the Workload API gave no SVID")));
    };
    let chain = pem::write_certificates(&svid.chain);
    let bundle = context.bundles.get(svid.id.trust_domain());
    let bundle = pem::write_certificates(bundle.into_iter().flat_map(|bundle| bundle.certificates()));
    let key = pem::write_private_key(&svid.key);
    let files =
        [("svid.key", key.as_str(), 0o600), ("bundle.pem", &bundle, 0o644), ("svid.pem", &chain, 0o644)];
    let write = || -> io::Result<()> {
        fs::create_dir_all(dir)?;
        for (name, text, mode) in &files {
            let temporary = dir.join(format!(".{name}.new"));
            if temporary.exists() {
                fs::remove_file(&temporary)?;
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(*mode).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
        }
        for (name, _, _) in &files {
            fs::rename(dir.join(format!(".{name}.new")), dir.join(name))?;
        }
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| {
        Fault::new(
            Exit::Failed,
            Message::error("PC0107", format!("`{}` cannot be written: {error}", dir.display())),
        )
    })?;
    let mut about = about(svid);
    if let Some(members) = about.as_object_mut() {
        members.insert("dir".to_owned(), json!(dir.display().to_string()));
    }
    let text = format!(
        "wrote svid.pem, svid.key, bundle.pem to {}: {} until {}",
        dir.display(),
        svid.id,
        svid.not_after
    );
    Ok(Answer::object("SvidFiles", about, text))
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
fn certificates(bytes: &[u8]) -> Vec<CertificateDer<'static>> {
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
