//! `portcullis federation`, and `bundle list` and `bundle set`: relationships with other trust domains, and their bundles.

use std::path::{Path, PathBuf};

use ca_identity::{SpiffeId, TrustDomain};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Global;
use super::authority::{items, word};
use crate::client::{Client, Fault};
use crate::messages::Message;
use crate::output::{self, Answer, Exit, quoted};

const PATH: &str = "/v1/federations";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Trust a trust domain: its bundle is fetched from now on, and its identities are verified with that
    #[command(
        after_help = "Examples:\n  portcullis federation create partner.org --url https://bundle.partner.org/ --profile https_web\n  portcullis federation create partner.org --url https://bundle.partner.org:8445/ --profile https_spiffe --endpoint-id spiffe://partner.org/gateway --bundle partner.json"
    )]
    Create(CreateOptions),
    /// All relationships, with how their bundles stand
    #[command(alias = "ls", after_help = "Example:\n  portcullis federation list -o json")]
    List,
    /// One relationship, with its bundle and its last fetch
    #[command(after_help = "Example:\n  portcullis federation get partner.org")]
    Get { domain: TrustDomain },
    /// Change where and from whom the bundle is fetched; the one that is held stays
    #[command(
        after_help = "Example:\n  portcullis federation update partner.org --url https://new.partner.org/"
    )]
    Update(UpdateOptions),
    /// Fetch the bundle now; exit 75 when that fails
    #[command(after_help = "Example:\n  portcullis federation refresh partner.org")]
    Refresh { domain: TrustDomain },
    /// End a relationship: its identities are refused at once, and its open connections end
    #[command(alias = "rm", after_help = "Example:\n  portcullis federation delete partner.org --yes")]
    Delete {
        domain: TrustDomain,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateOptions {
    /// The other trust domain
    domain: TrustDomain,
    /// Where its bundle is; https
    #[arg(long)]
    url: String,
    /// How the server there proves itself
    #[arg(long, value_parser = ["https_spiffe", "https_web"])]
    profile: String,
    /// https_spiffe: the SPIFFE ID of the server
    #[arg(long, value_name = "SPIFFE_ID", value_parser = SpiffeId::parse)]
    endpoint_id: Option<SpiffeId>,
    /// File with the first bundle: a JWK Set or PEM, from a source that you trust
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateOptions {
    /// The other trust domain
    domain: TrustDomain,
    /// Where its bundle is; https
    #[arg(long)]
    url: Option<String>,
    /// How the server there proves itself
    #[arg(long, value_parser = ["https_spiffe", "https_web"])]
    profile: Option<String>,
    /// https_spiffe: the SPIFFE ID of the server
    #[arg(long, value_name = "SPIFFE_ID", value_parser = SpiffeId::parse)]
    endpoint_id: Option<SpiffeId>,
}

pub(crate) fn run(command: Command, global: &Global) -> Exit {
    match command {
        Command::List => list(global),
        Command::Get { domain } => global.ask(|client| async move {
            let found = get(&client, &domain).await?;
            let text = text(&found);
            Ok((Answer::object("Federation", found, text), Exit::Done))
        }),
        Command::Create(options) => global.ask(|client| create(client, options)),
        Command::Update(options) => global.ask(|client| update(client, options)),
        Command::Refresh { domain } => global.ask(|client| refresh(client, domain)),
        Command::Delete { domain, yes } => global.ask(|client| delete(client, domain, yes)),
    }
}

/// Every relationship; `bundle list` shows the same.
pub(super) fn list(global: &Global) -> Exit {
    let columns = &[
        ("TRUST DOMAIN", "/trust_domain"),
        ("STATE", "/state"),
        ("SEQUENCE", "/bundle/sequence"),
        ("ROOTS", "/bundle/roots"),
        ("SEEN", "/bundle/at"),
        ("REFUSED AFTER", "/bundle/stale_after"),
        ("PROFILE", "/profile"),
        ("LAST FETCH", "/last_fetch/result"),
        ("FAULT", "/last_fetch/code"),
    ];
    global.ask(|client| async move {
        Ok((Answer::list("Federation", items(client.get(PATH).await?), columns), Exit::Done))
    })
}

/// `bundle set`: a bundle by a person's word.
pub(super) fn set_bundle(domain: TrustDomain, file: &Path, global: &Global) -> Exit {
    let text = match read(file) {
        Ok(text) => text,
        Err(fault) => return global.fail(&fault),
    };
    global.ask(|client| async move {
        get(&client, &domain).await?;
        let set = client.replace(&format!("{PATH}/{domain}/bundle"), &json!({ "bundle": text })).await?;
        let roots = set.pointer("/bundle/roots").and_then(Value::as_u64).unwrap_or_default();
        let text = format!(
            "the bundle of {domain} is this one, with {roots} roots, until the next fetch\nundo: portcullis federation refresh {domain}"
        );
        Ok((Answer::object("Federation", set, text), Exit::Done))
    })
}

/// The bundle that is held, as it was published.
pub(super) async fn document(client: &Client, domain: &TrustDomain) -> Result<Value, Fault> {
    client
        .get(&format!("{PATH}/{domain}/bundle"))
        .await
        .map_err(|fault| fault.or_next("portcullis federation list"))
}

async fn create(client: Client, options: CreateOptions) -> Result<(Answer, Exit), Fault> {
    let CreateOptions { domain, url, profile, endpoint_id, bundle } = options;
    let bundle = bundle.as_deref().map(read).transpose()?;
    let given = [
        ("trust_domain", Some(domain.to_string())),
        ("url", Some(url)),
        ("profile", Some(profile)),
        ("endpoint_id", endpoint_id.map(|id| id.to_string())),
        ("bundle", bundle),
    ];
    let created = client.post(PATH, &object(given)).await?;
    let text = format!(
        "{domain} is federated; its bundle is fetched now: portcullis federation get {domain}\nundo: portcullis federation delete {domain} --yes"
    );
    Ok((Answer::object("Federation", created, text), Exit::Done))
}

async fn update(client: Client, options: UpdateOptions) -> Result<(Answer, Exit), Fault> {
    let UpdateOptions { domain, url, profile, endpoint_id } = options;
    let before = get(&client, &domain).await?;
    let profile = profile.unwrap_or_else(|| word(&before, "profile").to_owned());
    let known = Some(word(&before, "endpoint_id").to_owned()).filter(|id| !id.is_empty());
    let id = endpoint_id.map(|id| id.to_string()).or(known.filter(|_| profile == "https_spiffe"));
    let given = [
        ("url", Some(url.unwrap_or_else(|| word(&before, "url").to_owned()))),
        ("profile", Some(profile)),
        ("endpoint_id", id),
    ];
    let updated = client.replace(&place(&domain), &object(given)).await?;
    let mut text = format!("updated {domain}");
    if word(&before, "origin") == "configuration" {
        text.push_str("\nit was written in the configuration, which does not change it from now on");
    }
    text.push_str(&format!("\nundo: portcullis federation update {domain}{}", flags(&before)));
    Ok((Answer::object("Federation", updated, text), Exit::Done))
}

async fn refresh(client: Client, domain: TrustDomain) -> Result<(Answer, Exit), Fault> {
    let refreshed = client.post(&format!("{}:refresh", place(&domain)), &json!({})).await;
    let refreshed = refreshed.map_err(|fault| fault.or_next("portcullis federation list"))?;
    let is_done = refreshed.pointer("/last_fetch/result").is_some_and(|result| result == "fetched");
    let text = text(&refreshed);
    let exit = if is_done { Exit::Done } else { Exit::Temporary };
    Ok((Answer::object("Federation", refreshed, text), exit))
}

async fn delete(client: Client, domain: TrustDomain, yes: bool) -> Result<(Answer, Exit), Fault> {
    let before = get(&client, &domain).await?;
    if !yes {
        let streams = client.get("/v1/proxy/streams").await.map(items).unwrap_or_default();
        let of_domain = format!("spiffe://{domain}/");
        let open = streams.iter().filter(|stream| word(stream, "principal").contains(&of_domain)).count();
        let effect = format!(
            "ending the federation with {domain} has its identities refused and ends {open} open connections"
        );
        let exit = output::unconfirmed(&effect);
        return Ok((Answer::object("Federation", before, String::new()), exit));
    }
    let bundle = document(&client, &domain).await.ok();
    client.remove(&place(&domain)).await?;
    let mut text = format!("{domain} is not trusted any more");
    if word(&before, "origin") == "configuration" {
        text.push_str("\nit stands in the configuration, and comes back with the next start unless it is taken out there");
    }
    let first = if bundle.is_some() { " --bundle FILE" } else { "" };
    text.push_str(&format!("\nundo: portcullis federation create {domain}{}{first}", flags(&before)));
    let gone = json!({ "trust_domain": domain.as_str(), "federation": before, "spiffe_bundle": bundle });
    Ok((Answer::object("Deleted", gone, text), Exit::Done))
}

async fn get(client: &Client, domain: &TrustDomain) -> Result<Value, Fault> {
    client.get(&place(domain)).await.map_err(|fault| fault.or_next("portcullis federation list"))
}

fn place(domain: &TrustDomain) -> String {
    format!("{PATH}/{domain}")
}

/// What a relationship says, as flags.
fn flags(relation: &Value) -> String {
    let mut line = String::new();
    for (flag, name) in [("url", "url"), ("profile", "profile"), ("endpoint-id", "endpoint_id")] {
        let value = word(relation, name);
        if !value.is_empty() {
            line.push_str(&format!(" --{flag} {}", quoted(value)));
        }
    }
    line
}

fn object<const N: usize>(given: [(&str, Option<String>); N]) -> Value {
    let given = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    Value::Object(given.collect::<Map<_, _>>())
}

fn read(file: &Path) -> Result<String, Fault> {
    std::fs::read_to_string(file).map_err(|error| {
        Fault::new(Exit::Invalid, Message::error("PC0107", format!("`{}`: {error}", file.display())))
    })
}

/// A relationship as people read it.
fn text(relation: &Value) -> String {
    let at = |pointer: &str| match relation.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    let mut lines = vec![
        format!("trust domain   {}", at("/trust_domain")),
        format!("state          {}", at("/state")),
        format!("url            {}", at("/url")),
        format!("profile        {} {}", at("/profile"), word(relation, "endpoint_id")).trim_end().to_owned(),
    ];
    if relation.get("bundle").is_some() {
        lines.push(format!(
            "bundle         sequence {}, {} roots, {} keys for tokens, from {}",
            at("/bundle/sequence"),
            at("/bundle/roots"),
            at("/bundle/jwt_keys"),
            at("/bundle/from")
        ));
        lines.push(format!(
            "seen           {}, refused after {}",
            at("/bundle/at"),
            at("/bundle/stale_after")
        ));
    }
    if relation.get("last_fetch").is_some() {
        let fault = match relation.pointer("/last_fetch/detail") {
            Some(_) => format!(": {} [{}]", at("/last_fetch/detail"), at("/last_fetch/code")),
            None => String::new(),
        };
        lines.push(format!("last fetch     {} at {}{fault}", at("/last_fetch/result"), at("/last_fetch/at")));
    }
    lines.join("\n")
}
