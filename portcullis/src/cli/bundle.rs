//! `portcullis bundle`: the keys that verify SVIDs of the trust domain, as the running process publishes them, and those of
//! other trust domains that it holds.

use std::path::PathBuf;

use ca_identity::TrustDomain;
use clap::{Subcommand, ValueEnum};
use serde_json::Value;

use super::{Global, federation};
use crate::output::{Answer, Exit, data};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Roots and JWT keys of the trust domain
    #[command(
        after_help = "Examples:\n  portcullis bundle show\n  portcullis bundle show --format pem > roots.pem\n  portcullis bundle show --format spiffe > bundle.json"
    )]
    Show {
        /// Only the bundle, as a file that others read
        #[arg(long, value_enum, value_name = "FORMAT")]
        format: Option<Form>,
    },
    /// Bundles of other trust domains, with how they stand
    #[command(alias = "ls", after_help = "Example:\n  portcullis bundle list")]
    List,
    /// The bundle of another trust domain, as it published it
    #[command(after_help = "Example:\n  portcullis bundle get partner.org > partner.json")]
    Get { domain: TrustDomain },
    /// Take a bundle of another trust domain by your word; it stands until the next fetch
    #[command(after_help = "Example:\n  portcullis bundle set partner.org partner.json")]
    Set {
        /// A trust domain that is federated
        domain: TrustDomain,
        /// A JWK Set or PEM, from a source that you trust
        file: PathBuf,
    },
}

/// A bundle as a file.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Form {
    /// The roots as PEM certificates
    Pem,
    /// A SPIFFE bundle: a JWK Set with all keys
    Spiffe,
}

pub(crate) fn run(command: Command, global: &Global) -> Exit {
    let format = match command {
        Command::Show { format } => format,
        Command::List => return federation::list(global),
        Command::Set { domain, file } => return federation::set_bundle(domain, &file, global),
        Command::Get { domain } => {
            return global.ask(|client| async move {
                let document = federation::document(&client, &domain).await?;
                let text = serde_json::to_string_pretty(&document).unwrap_or_default();
                Ok((Answer { json: document, text }, Exit::Done))
            });
        }
    };
    let Some(form) = format else {
        return global.ask(|client| async move {
            let bundle = client.get("/v1/bundle").await?;
            let text = text(&bundle);
            Ok((Answer::object("Bundle", bundle, text), Exit::Done))
        });
    };
    let client = match global.client() {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    match super::block_on(client.get("/v1/bundle")) {
        Ok(bundle) => {
            match form {
                Form::Pem => data(bundle.get("pem").and_then(Value::as_str).unwrap_or_default().trim_end()),
                Form::Spiffe => {
                    let keys = bundle.get("spiffe_bundle").cloned().unwrap_or_default();
                    data(&serde_json::to_string_pretty(&keys).unwrap_or_default());
                }
            }
            Exit::Done
        }
        Err(fault) => global.fail(&fault),
    }
}

fn text(bundle: &Value) -> String {
    let word = |name: &str| match bundle.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let rows = bundle.get("keys").and_then(Value::as_array).into_iter().flatten();
    let cell = |key: &Value, name: &str| key.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    let rows = rows.map(|key| ["use", "key_id", "not_after"].map(|name| cell(key, name)).to_vec());
    let table = crate::output::table(&["USE", "KEY", "EXPIRES"], rows);
    format!("trust domain  {}\nsequence      {}\n\n{table}", word("trust_domain"), word("sequence"))
}
