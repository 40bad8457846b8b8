//! `portcullis decisions` and `explain`: what was decided, and why.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::authority::items;
use super::{Global, block_on};
use crate::client::Fault;
use crate::messages::Message;
use crate::output::{self, Answer, Exit, Format};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Search the ledger, newest first
    #[command(
        after_help = "Example:\n  portcullis decisions query --effect deny --principal spiffe://example.org/web"
    )]
    Query {
        #[command(flatten)]
        filters: Filters,
        /// At most this many
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Go on where the answer before ended
        #[arg(long)]
        cursor: Option<String>,
        /// Also what is no decision: reads, issuance, activations
        #[arg(long)]
        all: bool,
    },
    /// Follow the ledger
    #[command(after_help = "Example:\n  portcullis decisions tail --effect deny")]
    Tail {
        #[command(flatten)]
        filters: Filters,
    },
    /// One decision with everything it was based on
    #[command(after_help = "Example:\n  portcullis decisions get 01JD8Z6N4T0B7K3Q5XW2M9E47Q -o json")]
    Get { id: String },
}

/// Filters of the ledger; all given ones must hold.
#[derive(Debug, Args)]
pub(crate) struct Filters {
    /// From this time on: RFC 3339, or an age such as 24h
    #[arg(long)]
    since: Option<String>,
    /// Until this time
    #[arg(long)]
    until: Option<String>,
    /// allow or deny
    #[arg(long)]
    effect: Option<String>,
    /// Would-be effect: allow or deny
    #[arg(long)]
    would: Option<String>,
    /// Who called: a SPIFFE ID, or prefix:..
    #[arg(long)]
    principal: Option<String>,
    /// What was done: grpc, http:GET, ..
    #[arg(long)]
    action: Option<String>,
    /// What it was done to, by prefix
    #[arg(long)]
    resource: Option<String>,
    /// Called service
    #[arg(long)]
    service: Option<String>,
    /// A determining policy
    #[arg(long)]
    policy: Option<String>,
    /// Reason word
    #[arg(long)]
    reason: Option<String>,
    /// Denials only
    #[arg(long)]
    deny: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainOptions {
    /// Decision id, or PREFIX…SUFFIX
    #[arg(required_unless_present = "last_deny")]
    id: Option<String>,
    /// The newest denial
    #[arg(long, conflicts_with = "id")]
    last_deny: bool,
    /// Three nearest policies instead of one
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(command: Command, global: &Global) -> Exit {
    match command {
        Command::Query { filters, limit, cursor, all } => global.ask(|client| async move {
            let mut query = filters.query();
            query.extend((!all).then(|| ("kind", "decision".to_owned())));
            query.push(("limit", limit.to_string()));
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let mut list = client.get(&path("/v1/decisions", &query)).await?;
            let partial = list.get("partial").and_then(Value::as_bool).unwrap_or(false);
            let next = list.get("next_cursor").cloned();
            let mut answer = Answer::list("Decision", items(list.take()), COLUMNS);
            if let (Some(members), Some(next)) = (answer.json.as_object_mut(), next) {
                members.insert("next_cursor".to_owned(), next);
            }
            Ok((answer, if partial { Exit::Partial } else { Exit::Done }))
        }),
        Command::Get { id } => global.ask(|client| async move {
            let decision = client.get(&format!("/v1/decisions/{}", encode(&id))).await?;
            let text = serde_json::to_string_pretty(&decision).unwrap_or_default();
            Ok((Answer::object("Decision", decision, text), Exit::Done))
        }),
        Command::Tail { filters } => tail(&filters, global),
    }
}

pub(crate) fn explain(options: &ExplainOptions, global: &Global) -> Exit {
    let id = options.id.clone();
    global.ask(|client| async move {
        let id = match id {
            Some(id) => id,
            None => {
                let path = path(
                    "/v1/decisions",
                    &[
                        ("effect", "deny".to_owned()),
                        ("kind", "decision".to_owned()),
                        ("since", "24h".to_owned()),
                        ("limit", "1000".to_owned()),
                    ],
                );
                let denials = items(client.get(&path).await?);
                // Calls and handshakes of callers, not of our own API.
                let of_a_call = |denial: &&Value| {
                    let phase = denial.get("phase").and_then(Value::as_str);
                    matches!(phase, Some("request" | "connect" | "rejudge"))
                };
                match denials
                    .iter()
                    .find(of_a_call)
                    .and_then(|denial| denial.get("id"))
                    .and_then(Value::as_str)
                {
                    Some(id) => id.to_owned(),
                    None => {
                        let message = Message::error("PC5001", "no denial of the last 24 h is on record")
                            .next("portcullis decisions query");
                        return Err(Fault::new(Exit::Failed, message));
                    }
                }
            }
        };
        let explained =
            client.get(&format!("/v1/decisions/{}/explain?all={}", encode(&id), options.all)).await?;
        let text = explained.get("text").and_then(Value::as_str).unwrap_or_default();
        let full = explained.get("decision").and_then(Value::as_str).unwrap_or_default();
        let text = if output::is_terminal() { text.replace(full, &shortened(full)) } else { text.to_owned() };
        let differs = explained.get("recomputed").and_then(Value::as_str) == Some("different");
        let exit = if differs { Exit::Failed } else { Exit::Done };
        Ok((Answer::object("Explanation", explained, text), exit))
    })
}

fn tail(filters: &Filters, global: &Global) -> Exit {
    let client = match global.client() {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let mut query = filters.query();
    query.push(("watch", "true".to_owned()));
    let format = global.format();
    let path = path("/v1/decisions", &query);
    let followed = block_on(async {
        tokio::select! {
            followed = client.events(&path, |data| { line(data, format); true }) => followed,
            _interrupt = tokio::signal::ctrl_c() => Ok(()),
        }
    });
    match followed {
        Ok(()) => Exit::Done,
        Err(fault) => global.fail(&fault),
    }
}

const COLUMNS: &[(&str, &str)] = &[
    ("TIME", "/time"),
    ("EFFECT", "/effect"),
    ("WOULD", "/would/effect"),
    ("REASON", "/reason"),
    ("PRINCIPAL", "/principal/id"),
    ("ACTION", "/action"),
    ("RESOURCE", "/resource/id"),
    ("ID", "/id"),
];

fn line(data: &str, format: Format) {
    if format != Format::Table {
        return output::data(data);
    }
    let Ok(decision) = serde_json::from_str::<Value>(data) else { return };
    let cells: Vec<_> = COLUMNS
        .iter()
        .map(|(_, pointer)| decision.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned())
        .collect();
    output::data(&base_telemetry::redact::escape(&cells.join("  ")));
}

impl Filters {
    fn query(&self) -> Vec<(&'static str, String)> {
        let deny = self.deny.then(|| "deny".to_owned());
        [
            ("since", self.since.clone()),
            ("until", self.until.clone()),
            ("effect", self.effect.clone().or(deny)),
            ("would", self.would.clone()),
            ("principal", self.principal.clone()),
            ("action", self.action.clone()),
            ("resource", self.resource.clone()),
            ("service", self.service.clone()),
            ("policy", self.policy.clone()),
            ("reason", self.reason.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// `01JD…7Q`, which every command takes (EX5).
fn shortened(id: &str) -> String {
    match (id.get(..4), id.len().checked_sub(2).and_then(|at| id.get(at..))) {
        (Some(first), Some(last)) if id.len() > 8 => format!("{first}…{last}"),
        _ => id.to_owned(),
    }
}

/// A path with its query, encoded.
pub(crate) fn path(base: &str, query: &[(&str, String)]) -> String {
    let pairs: Vec<_> = query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    format!("{base}?{}", pairs.join("&"))
}

/// Percent-encodes everything but unreserved characters (RFC 3986 2.3).
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The path of a policy. An id that begins as a path of ours does is written in escapes: `/v1/policies/changes` are the
/// changes, `/v1/policies/%63%68..` is the policy.
pub(crate) fn policy_path(id: &str) -> String {
    if !NOUNS.contains(&id) {
        return format!("/v1/policies/{}", encode(id));
    }
    let escaped: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("/v1/policies/{escaped}")
}

/// What `/v1/policies/` has beside policies.
const NOUNS: [&str; 6] = ["changes", "versions", "diff", "shadow", "snapshot", "signing"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ex5_ids_are_shortened_to_what_commands_take_back() {
        let id = "01JD8Z6N4T0B7K3Q5XW2M9E47Q";
        assert_eq!(shortened(id), "01JD…7Q");
        let pattern: policies_decisions::IdPattern = shortened(id).parse().unwrap();
        assert!(pattern.matches(id.parse().unwrap()));
        assert_eq!(shortened("short"), "short");
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(
            path("/v1/decisions", &[("principal", "prefix:spiffe://a/b c".to_owned())]),
            "/v1/decisions?principal=prefix%3Aspiffe%3A%2F%2Fa%2Fb%20c"
        );
        assert_eq!(encode("01JD…7Q"), "01JD%E2%80%A67Q");
    }
}
