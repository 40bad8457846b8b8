//! `portcullis decisions tail`: follows the ledger, and goes on where it was when the connection is lost.

use std::time::Duration;

use serde_json::Value;

use super::filters::{Filters, Purpose};
use super::{COLUMNS, path};
use crate::cli::{Global, block_on};
use crate::client::{Client, Fault};
use crate::output::{self, Exit, Format};

/// Between two tries to come back.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) fn run(filters: &Filters, from: Option<u64>, purpose: &Purpose, global: &Global) -> Exit {
    let client = match global.client() {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let mut query = filters.query();
    query.push(("watch", "true".to_owned()));
    query.extend(from.map(|from| ("from", from.to_string())));
    let (path, headers, format) = (path("/v1/decisions", &query), purpose.headers(), global.format());
    let followed = block_on(async {
        tokio::select! {
            followed = follow(&client, &path, &headers, format) => followed,
            _interrupt = tokio::signal::ctrl_c() => Ok(()),
        }
    });
    match followed {
        Ok(()) => Exit::Done,
        Err(fault) => global.fail(&fault),
    }
}

/// Ends only when the first try fails, or the process refuses to let it back.
async fn follow(
    client: &Client,
    path: &str,
    headers: &[(&'static str, String)],
    format: Format,
) -> Result<(), Fault> {
    let mut last = None;
    let each = |kind: &str, data: &str| match kind {
        "" => line(data, format),
        "resync" => output::talk("records before this point can no longer be given"),
        _ => output::talk(data),
    };
    client.events(path, headers, &mut last, each).await?;
    loop {
        // The process restarts, or its policies have changed and it judges this reader again.
        tokio::time::sleep(PAUSE).await;
        match client.events(path, headers, &mut last, each).await {
            Ok(()) => (),
            Err(fault) if fault.exit == Exit::Unavailable => (),
            Err(fault) => return Err(fault),
        }
    }
}

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
