//! `portcullis decisions` and `explain`: what was decided, and why.

mod bundle;
mod days;
mod export;
mod filters;
mod hold;
mod identities;
mod log;
mod online;
mod people;
mod recompute;
mod report;
mod stats;
mod streams;
mod tail;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Global;
use super::authority::items;
use crate::client::{Client, Fault};
use crate::messages::Message;
use crate::output::{self, Answer, Exit};
use filters::{Filters, Purpose, Range};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Search the ledger, newest first
    #[command(
        after_help = "Example:\n  portcullis decisions query --deny --principal spiffe://example.org/web"
    )]
    Query {
        #[command(flatten)]
        range: Range,
        #[command(flatten)]
        filters: Filters,
        /// At most this many
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// desc or asc
        #[arg(long)]
        order: Option<String>,
        /// Go on where the answer before ended
        #[arg(long)]
        cursor: Option<String>,
        /// Also what is no decision: reads, issuance, activations
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        purpose: Purpose,
    },
    /// Follow the ledger
    #[command(after_help = "Example:\n  portcullis decisions tail --deny")]
    Tail {
        #[command(flatten)]
        filters: Filters,
        /// First index to follow from [default: what comes from now on]
        #[arg(long, value_name = "INDEX")]
        from: Option<u64>,
        #[command(flatten)]
        purpose: Purpose,
    },
    /// One decision with everything it was based on
    #[command(after_help = "Example:\n  portcullis decisions get 01JD8Z6N4T0B7K3Q5XW2M9E47Q -o json")]
    Get {
        id: String,
        #[command(flatten)]
        purpose: Purpose,
    },
    /// Count decisions: what is denied most, by policy, over time
    #[command(
        after_help = "Examples:\n  portcullis decisions stats --deny --by principal,resource\n  portcullis decisions stats --by policy\n  portcullis decisions stats --by effect --every 1h\n  portcullis decisions stats --unused 30d"
    )]
    Stats(stats::Options),
    /// What whole days came to, up to 400 of them, whether or not their records are still kept
    #[command(
        after_help = "Examples:\n  portcullis decisions report --since 90d\n  portcullis decisions report --by principal --order deny\n  portcullis decisions report --by hour --since 1d\n  portcullis decisions report --unused 90d"
    )]
    Report(days::Options),
    /// Whole records to stdout, as NDJSON or CSV, or with proofs
    #[command(
        after_help = "Examples:\n  portcullis decisions export --since 7d --deny --format csv > denials.csv\n  portcullis decisions export --since 7d --deny --with-proofs > denials.bundle"
    )]
    Export(export::Options),
    /// Keep records whatever the limits of the ledger say
    Hold {
        #[command(subcommand)]
        command: hold::Command,
    },
    /// Who the caller of a record is, where his id is committed; needs decisions:reveal
    #[command(
        after_help = "Example:\n  portcullis decisions reveal 01JD8Z…7Q --purpose \"inquiry 7\" -o json > opening.json"
    )]
    Reveal(people::RevealOptions),
    /// Make it impossible to tell which records were about a person; records and proofs stay
    #[command(
        after_help = "Example:\n  portcullis decisions erase alice@corp.example --purpose \"request 12\""
    )]
    Erase(people::EraseOptions),
    /// Prove that a record stands in the signed log; the file verifies offline
    #[command(after_help = "Example:\n  portcullis decisions prove 01JD8Z…7Q --out refund.tlog-proof")]
    Prove(log::ProveOptions),
    /// Verify the log of a running process, a copied ledger directory, a proof, or an export with proofs
    #[command(
        after_help = "Examples:\n  portcullis decisions verify --key main.vkey --since-checkpoint march.cp\n  portcullis decisions verify --dir /backup/ledger --key main.vkey\n  portcullis decisions verify refund.tlog-proof --key main.vkey --opening opening.json\n  portcullis decisions verify denials.bundle --key main.vkey"
    )]
    Verify(log::VerifyOptions),
    /// Starts of enforcers: how each stands, how far it came, what it lost
    #[command(after_help = "Example:\n  portcullis decisions streams --since 7d")]
    Streams(streams::Options),
    /// What is missing: which numbers of which lane, why, and how many
    #[command(after_help = "Example:\n  portcullis decisions gaps --since 7d")]
    Gaps {
        #[command(flatten)]
        options: streams::Options,
        /// At most this many
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Go on where the answer before ended
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Verifier keys of the log, for auditors to keep
    #[command(
        after_help = "Examples:\n  portcullis decisions keys > main.vkey\n  portcullis decisions keys rotate"
    )]
    Keys {
        #[command(subcommand)]
        command: Option<log::KeysCommand>,
    },
    /// The last signed checkpoint, for auditors to keep
    #[command(after_help = "Example:\n  portcullis decisions checkpoint > march.cp")]
    Checkpoint,
    /// Give up what is lost of a ledger that does not open any more (PC6020), and begin another log
    #[command(
        name = "accept-loss",
        after_help = "Example:\n  portcullis decisions accept-loss -c portcullis.toml"
    )]
    AcceptLoss,
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
        Command::Query { range, filters, limit, order, cursor, all, purpose } => {
            global.ask(|client| async move {
                let mut query = range.query();
                query.extend(filters.of_decisions(all));
                query.push(("limit", limit.to_string()));
                query.extend(order.map(|order| ("order", order)));
                query.extend(cursor.map(|cursor| ("cursor", cursor)));
                let list = client.get_with(&path("/v1/decisions", &query), &purpose.headers()).await?;
                Ok(paged("Decision", list, COLUMNS))
            })
        }
        Command::Get { id, purpose } => global.ask(|client| async move {
            let path = format!("/v1/decisions/{}", encode(&id));
            let decision = client.get_with(&path, &purpose.headers()).await?;
            let text = serde_json::to_string_pretty(&decision).unwrap_or_default();
            Ok((Answer::object("Decision", decision, text), Exit::Done))
        }),
        Command::Tail { filters, from, purpose } => tail::run(&filters, from, &purpose, global),
        Command::Stats(options) => stats::run(options, global),
        Command::Report(options) => days::run(options, global),
        Command::Export(options) => export::run(&options, global),
        Command::Hold { command } => hold::run(command, global),
        Command::Reveal(options) => people::reveal(options, global),
        Command::Erase(options) => people::erase(options, global),
        Command::Prove(options) => log::prove(options, global),
        Command::Verify(options) => log::verified(options, global),
        Command::Streams(options) => streams::streams(options, global),
        Command::Gaps { options, limit, cursor } => streams::gaps(options, limit, cursor, global),
        Command::Keys { command: None } => log::keys(global),
        Command::Keys { command: Some(log::KeysCommand::Rotate) } => log::rotate(global),
        Command::Checkpoint => log::checkpoint(global),
        Command::AcceptLoss => log::accept_loss(global),
    }
}

/// Whether the ledger gave less than what was asked for.
fn is_partial(answer: &Value) -> bool {
    answer.get("partial").is_some() || answer.get("damaged").is_some()
}

/// Exit 4 when the ledger gave less.
fn exit_of(answer: &Value) -> Exit {
    if is_partial(answer) { Exit::Partial } else { Exit::Done }
}

/// The document that answers a question.
async fn answered(client: &Client, path: &str, question: &Value, purpose: &Purpose) -> Result<Value, Fault> {
    let (_, bytes) = client.post_with(path, question, &purpose.headers()).await?;
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

/// One page of a listing, and where the next one begins.
fn paged(kind: &'static str, mut list: Value, columns: &'static [(&str, &str)]) -> (Answer, Exit) {
    let exit = exit_of(&list);
    let next = list.get("next_cursor").cloned();
    let mut answer = Answer::list(kind, items(list.take()), columns);
    if let (Some(members), Some(next)) = (answer.json.as_object_mut(), next) {
        members.insert("next_cursor".to_owned(), next);
    }
    (answer, exit)
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
                    matches!(phase, Some("request" | "connect" | "rejudge" | "ext_authz"))
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
