//! `portcullis proxy`: the data plane of the running process.

use clap::Subcommand;
use serde_json::{Value, json};

use super::Global;
use super::authority::items;
use crate::output::{self, Answer, Exit};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Listeners in force: where they listen, whom they ask for a certificate, how many are connected
    #[command(after_help = "Example:\n  portcullis proxy listeners")]
    Listeners,
    /// Routes in force, in order: what each takes and where that goes
    #[command(
        after_help = "Example:\n  portcullis proxy routes\n\nWhich of them takes a call, and why: portcullis route test"
    )]
    Routes,
    /// Clusters in force: how many of their endpoints take calls
    #[command(after_help = "Example:\n  portcullis proxy clusters")]
    Clusters,
    /// Endpoints of the clusters in use: who takes calls, who is shut out, who is ill
    #[command(after_help = "Example:\n  portcullis proxy endpoints")]
    Endpoints,
    /// Open connections of known callers, and how many of their calls run
    #[command(after_help = "Example:\n  portcullis proxy streams --principal spiffe://example.org/web")]
    Streams {
        /// Those of one caller alone
        #[arg(long, value_name = "SPIFFE_ID")]
        principal: Option<String>,
    },
    /// Own SVID, certificates of listeners, roots of callers; no keys
    #[command(after_help = "Example:\n  portcullis proxy certificates")]
    Certificates,
    /// Faults that are put into calls for a while, to see what callers make of them
    #[command(subcommand)]
    Fault(Fault),
    /// Have the process end as SIGTERM does: running calls have their time
    #[command(after_help = "Example:\n  portcullis proxy drain --yes")]
    Drain {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Another log level, for 15 minutes
    #[command(after_help = "Example:\n  portcullis proxy log-level debug")]
    LogLevel {
        /// error, warn, info, debug, trace, or a filter as in RUST_LOG
        #[arg(required_unless_present = "reset")]
        level: Option<String>,
        /// The configured level again
        #[arg(long, conflicts_with = "level")]
        reset: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Fault {
    /// Have calls of a route wait or fail for a while; another fault of that route ends
    #[command(
        after_help = "Examples:\n  portcullis proxy fault inject orders --delay 2s --percent 10\n  portcullis proxy fault inject orders --abort 503 --for 5m"
    )]
    Inject {
        /// Name of the route
        route: String,
        /// Percent of its calls [default: all]
        #[arg(long)]
        percent: Option<f64>,
        /// They wait so long
        #[arg(long, value_name = "DURATION")]
        delay: Option<String>,
        /// They are answered with this status, 400 to 599, and reach no endpoint
        #[arg(long, value_name = "STATUS")]
        abort: Option<u16>,
        /// It ends after so long, at most 24h
        #[arg(long = "for", value_name = "DURATION", default_value = "10m")]
        lasts: String,
    },
    /// Faults in force
    #[command(after_help = "Example:\n  portcullis proxy fault list")]
    List,
    /// End the fault of a route, or all
    #[command(after_help = "Example:\n  portcullis proxy fault end orders")]
    End {
        /// Name of the route [default: all]
        route: Option<String>,
    },
}

pub(crate) fn run(command: Command, global: &Global) -> Exit {
    match command {
        Command::Listeners => list(
            global,
            "/v1/proxy/listeners".to_owned(),
            "Listener",
            &[
                ("LISTENER", "/name"),
                ("ADDRESSES", "/addresses"),
                ("CLIENT AUTH", "/client_auth"),
                ("MODE", "/mode"),
                ("CONNECTIONS", "/connections"),
            ],
        ),
        Command::Routes => list(
            global,
            "/v1/proxy/routes".to_owned(),
            "Route",
            &[
                ("ROUTE", "/name"),
                ("SERVICE", "/service"),
                ("LISTENER", "/listener"),
                ("TAKES", "/takes"),
                ("GOES TO", "/goes"),
                ("MODE", "/mode"),
            ],
        ),
        Command::Clusters => list(
            global,
            "/v1/proxy/clusters".to_owned(),
            "Cluster",
            &[
                ("CLUSTER", "/name"),
                ("BALANCER", "/balancer"),
                ("ENDPOINTS", "/endpoints"),
                ("IN USE", "/in_use"),
                ("SHUT OUT", "/shut_out"),
                ("ILL", "/ill"),
                ("IN FLIGHT", "/in_flight"),
            ],
        ),
        Command::Endpoints => list(
            global,
            "/v1/proxy/endpoints".to_owned(),
            "Endpoint",
            &[
                ("CLUSTER", "/cluster"),
                ("ENDPOINT", "/address"),
                ("PROTOCOL", "/protocol"),
                ("PRIORITY", "/priority"),
                ("STATE", "/state"),
                ("HEALTH", "/health"),
                ("IN FLIGHT", "/in_flight"),
            ],
        ),
        Command::Streams { principal } => list(
            global,
            principal
                .map_or("/v1/proxy/streams".to_owned(), |id| format!("/v1/proxy/streams?principal={id}")),
            "Stream",
            &[
                ("PRINCIPAL", "/principal"),
                ("LISTENER", "/listener"),
                ("PROTOCOL", "/protocol"),
                ("SOURCE", "/source"),
                ("CALLS", "/calls"),
                ("AGE S", "/age_seconds"),
                ("IDLE S", "/idle_seconds"),
                ("ENDS IN S", "/ends_in_seconds"),
            ],
        ),
        Command::Certificates => list(
            global,
            "/v1/proxy/certificates".to_owned(),
            "Certificate",
            &[
                ("KIND", "/kind"),
                ("NAME", "/name"),
                ("LISTENER", "/listener"),
                ("KEY", "/key_id"),
                ("EXPIRES", "/not_after"),
            ],
        ),
        Command::Fault(command) => fault(command, global),
        Command::Drain { yes: false } => output::unconfirmed("the process ends once its calls have"),
        Command::Drain { yes: true } => global.ask(|client| async move {
            let drain = client.post("/v1/proxy:drain", &json!({})).await?;
            let open = drain.get("connections").and_then(Value::as_u64).unwrap_or_default();
            let text = format!("draining; {open} connections are asked to go, then the process ends");
            Ok((Answer::object("Drain", drain, text), Exit::Done))
        }),
        Command::LogLevel { level, .. } => global.ask(|client| async move {
            let level = level.unwrap_or_default();
            let set = client.post("/v1/proxy:setLogLevel", &json!({ "level": level })).await?;
            let text = match set.get("until").and_then(Value::as_str) {
                Some(until) => format!("{level} until {until}\nundo: portcullis proxy log-level --reset"),
                None => "the configured level".to_owned(),
            };
            Ok((Answer::object("LogLevel", set, text), Exit::Done))
        }),
    }
}

fn fault(command: Fault, global: &Global) -> Exit {
    match command {
        Fault::List => list(
            global,
            "/v1/proxy/faults".to_owned(),
            "Fault",
            &[
                ("ROUTE", "/route"),
                ("PERCENT", "/percent"),
                ("DELAY", "/delay"),
                ("ABORT", "/abort"),
                ("UNTIL", "/until"),
            ],
        ),
        Fault::Inject { route, percent, delay, abort, lasts } => global.ask(|client| async move {
            let wanted =
                json!({ "route": route, "percent": percent, "delay": delay, "abort": abort, "lasts": lasts });
            let begun = client.post("/v1/proxy:injectFault", &wanted).await?;
            let until = begun.get("until").and_then(Value::as_str).unwrap_or_default();
            let text = format!(
                "calls of {route} are disturbed until {until}\nundo: portcullis proxy fault end {route}"
            );
            Ok((Answer::object("Fault", begun, text), Exit::Done))
        }),
        Fault::End { route } => global.ask(|client| async move {
            let ended = client.post("/v1/proxy:endFaults", &json!({ "route": route })).await?;
            let count = ended.get("ended").and_then(Value::as_u64).unwrap_or_default();
            Ok((Answer::object("FaultsEnded", ended, format!("{count} ended")), Exit::Done))
        }),
    }
}

fn list(global: &Global, path: String, kind: &'static str, columns: &'static [(&str, &str)]) -> Exit {
    global.ask(|client| async move {
        let items = items(client.get(&path).await?);
        Ok((Answer::list(kind, items, columns), Exit::Done))
    })
}
