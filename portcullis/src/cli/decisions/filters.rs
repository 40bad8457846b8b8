//! Filters of the ledger as flags, by the names that the API has (QY1).

use clap::Args;
use serde_json::{Map, Value};

/// What the command looks back when nobody says.
const RANGE: &str = "24h";

/// Filters of the ledger; all given ones must hold.
#[derive(Debug, Clone, Args)]
pub(crate) struct Filters {
    /// Allow or deny
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
    /// Namespace of the called service
    #[arg(long)]
    namespace: Option<String>,
    /// A determining policy
    #[arg(long)]
    policy: Option<String>,
    /// Ticket of a determining policy
    #[arg(long)]
    ticket: Option<String>,
    /// Reason word
    #[arg(long)]
    reason: Option<String>,
    /// Policies version or range: 41, 38-41
    #[arg(long = "policies", value_name = "VERSION")]
    version: Option<String>,
    /// SPIFFE ID of the enforcer, or prefix:..
    #[arg(long)]
    enforcer: Option<String>,
    /// Record kind: decision, gap, read, ..
    #[arg(long)]
    kind: Option<String>,
    /// Address or network of the caller: 10.0.0.0/8
    #[arg(long)]
    source_ip: Option<String>,
    /// Serial number of the caller's certificate
    #[arg(long)]
    serial: Option<String>,
    /// Part of the request path
    #[arg(long)]
    path: Option<String>,
    /// Trace id
    #[arg(long)]
    trace: Option<String>,
    /// Denials only
    #[arg(long, conflicts_with = "effect")]
    deny: bool,
    /// What enforcing, or shadow policies, would deny
    #[arg(long, conflicts_with = "would")]
    would_deny: bool,
}

/// From when to when.
#[derive(Debug, Clone, Args)]
pub(crate) struct Range {
    /// From this time on: RFC 3339, or an age such as 15m or 7d [default: 24h]
    #[arg(long)]
    since: Option<String>,
    /// Until this time
    #[arg(long)]
    until: Option<String>,
}

/// Why somebody reads.
#[derive(Debug, Clone, Args)]
pub(crate) struct Purpose {
    /// What for; goes on record with the read
    #[arg(long, value_name = "TEXT")]
    purpose: Option<String>,
}

impl Filters {
    pub(crate) fn query(&self) -> Vec<(&'static str, String)> {
        let deny = |is_asked: bool| is_asked.then(|| "deny".to_owned());
        [
            ("effect", self.effect.clone().or(deny(self.deny))),
            ("would", self.would.clone().or(deny(self.would_deny))),
            ("principal", self.principal.clone()),
            ("action", self.action.clone()),
            ("resource", self.resource.clone()),
            ("service", self.service.clone()),
            ("namespace", self.namespace.clone()),
            ("policy", self.policy.clone()),
            ("ticket", self.ticket.clone()),
            ("reason", self.reason.clone()),
            ("version", self.version.clone()),
            ("enforcer", self.enforcer.clone()),
            ("kind", self.kind.clone()),
            ("source_ip", self.source_ip.clone()),
            ("serial", self.serial.clone()),
            ("path~", self.path.clone()),
            ("trace", self.trace.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }

    /// The same, of decisions alone unless a kind is named or `all` are wanted.
    pub(crate) fn of_decisions(&self, all: bool) -> Vec<(&'static str, String)> {
        let mut query = self.query();
        if !all && self.kind.is_none() {
            query.push(("kind", "decision".to_owned()));
        }
        query
    }
}

impl Range {
    pub(crate) fn query(&self) -> Vec<(&'static str, String)> {
        let since = self.since.clone().unwrap_or_else(|| RANGE.to_owned());
        let until = self.until.clone().map(|until| ("until", until));
        [("since", since)].into_iter().chain(until).collect()
    }
}

impl Purpose {
    pub(crate) fn headers(&self) -> Vec<(&'static str, String)> {
        self.purpose.clone().map(|purpose| ("portcullis-purpose", purpose)).into_iter().collect()
    }
}

/// A question in the form of the API's bodies.
pub(super) fn body(range: &Range, filters: Vec<(&'static str, String)>) -> Map<String, Value> {
    let member = |(name, value): (&'static str, String)| (name.to_owned(), Value::from(value));
    let mut body: Map<_, _> = range.query().into_iter().map(member).collect();
    body.insert("filter".to_owned(), filters.into_iter().map(member).collect::<Map<_, _>>().into());
    body
}
