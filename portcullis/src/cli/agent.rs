//! `portcullis agent`: agents of other hosts, at the authority that they belong to.

use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};

use super::Global;
use super::authority::{every, word};
use crate::client::{Client, Fault};
use crate::output::{self, Answer, Exit};

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// A join token, good for one agent, once; and the configuration of the host that uses it
    #[command(
        after_help = "Examples:\n  portcullis agent token --ttl 10m\n  portcullis agent token --authority https://ca.example.org:8443 -o json"
    )]
    Token {
        /// How long it can be used
        #[arg(long, default_value = "10m", value_parser = super::run::parse_duration)]
        ttl: Duration,
        /// How the other host reaches this authority [default: ca.listen]
        #[arg(long, value_name = "URL")]
        authority: Option<String>,
    },
    /// Agents of other hosts
    #[command(alias = "ls", after_help = "Example:\n  portcullis agent list -o json")]
    List,
    /// One agent with everything that is known of it
    #[command(after_help = "Example:\n  portcullis agent get join_token/0123456789abcdef -o json")]
    Get {
        /// Its name, as `agent list` prints it, or its SPIFFE ID
        agent: String,
    },
    /// Refuse an agent: its streams end, and what was issued through it is denied
    #[command(
        after_help = "Example:\n  portcullis agent ban join_token/0123456789abcdef --reason 'laptop lost' --yes"
    )]
    Ban {
        /// Its name, as `agent list` prints it, or its SPIFFE ID
        agent: String,
        /// Why; goes on record
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Let what was issued through it hold until it ends
        #[arg(long)]
        keep_svids: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// End an agent, also a banned one; its host attests anew with a new token
    #[command(after_help = "Example:\n  portcullis agent evict join_token/0123456789abcdef --yes")]
    Evict {
        /// Its name, as `agent list` prints it, or its SPIFFE ID
        agent: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) fn run(command: AgentCommand, global: &Global) -> Exit {
    match command {
        AgentCommand::Token { ttl, authority } => global.ask(|client| token(client, ttl, authority)),
        AgentCommand::List => {
            let columns = &[
                ("AGENT", "/name"),
                ("ATTESTED", "/attested_at"),
                ("SVID UNTIL", "/not_after"),
                ("CONNECTED", "/connected"),
                ("BANNED", "/ban/reason"),
            ];
            global.ask(|client| async move {
                Ok((Answer::list("Agent", every(&client, "/v1/agents", &[]).await?, columns), Exit::Done))
            })
        }
        AgentCommand::Get { agent } => global.ask(|client| async move {
            let found = client.get(&path_of(&agent)).await?;
            let text = serde_json::to_string_pretty(&found).unwrap_or_default();
            Ok((Answer::object("Agent", found, text), Exit::Done))
        }),
        AgentCommand::Ban { agent, reason, keep_svids, yes } => global.ask(|client| async move {
            let body = json!({ "agent": agent, "reason": reason, "keep_svids": keep_svids, "dry_run": !yes });
            let banned = client.post("/v1/agents:ban", &body).await?;
            let name = word(&banned, "name").to_owned();
            let live = banned.get("live_svids").and_then(Value::as_u64).unwrap_or_default();
            let fate = if keep_svids { "which hold until they end" } else { "which are denied" };
            let effect = format!("{name} with {live} live certificates, {fate}");
            if !yes {
                let exit = output::unconfirmed(&format!("banning ends {effect}"));
                return Ok((Answer::object("Agent", banned, String::new()), exit));
            }
            let undo = format!("portcullis agent evict {name} --yes    (then a new token)");
            Ok((Answer::object("Agent", banned, format!("banned {effect}\nundo: {undo}")), Exit::Done))
        }),
        AgentCommand::Evict { agent, yes } => global.ask(|client| async move {
            if !yes {
                let found = client.get(&path_of(&agent)).await?;
                let text =
                    format!("evicting {} cuts its streams until it attests anew", word(&found, "name"));
                let exit = output::unconfirmed(&text);
                return Ok((Answer::object("Agent", found, String::new()), exit));
            }
            let evicted = client.post("/v1/agents:evict", &json!({ "agent": agent })).await?;
            let text = format!(
                "evicted {}\nundo: portcullis agent token    (its host attests anew with it)",
                word(&evicted, "name")
            );
            Ok((Answer::object("Agent", evicted, text), Exit::Done))
        }),
    }
}

/// The path of one agent; names hold slashes.
fn path_of(agent: &str) -> String {
    let name = agent.split_once("/portcullis/agent/").map_or(agent, |(_, name)| name);
    format!("/v1/agents/{name}")
}

async fn token(client: Client, ttl: Duration, authority: Option<String>) -> Result<(Answer, Exit), Fault> {
    let body = json!({ "ttl": format!("{}s", ttl.as_secs()), "authority": authority });
    let token = client.post("/v1/agents:token", &body).await?;
    let (secret, expires, join) = (word(&token, "token"), word(&token, "expires"), word(&token, "join"));
    let how = if join.is_empty() {
        "no other host reaches this authority: set ca.listen, and start it anew".to_owned()
    } else {
        format!(
            "on the other host, lay the token into `join.token` (mode 0600) beside this portcullis.toml:\n\n{join}"
        )
    };
    let text = format!("token    {secret}\nexpires  {expires}\n{how}");
    Ok((Answer::object("JoinToken", token, text), Exit::Done))
}
