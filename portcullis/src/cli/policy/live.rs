//! What the running process knows about the policies in force, for `policy lint --live`.

use std::time::Duration;

use base_ports::UnixTime;
use policies_engine::lint::{PolicyUse, Usage};
use serde_json::{Value, json};

use crate::cli::{Global, block_on};
use crate::output::{self, Exit};

/// How far back the records are read.
const WINDOW: Duration = Duration::from_secs(30 * 86_400);

/// Asks `POST /v1/policies:usage`; prints why there is no answer.
pub(super) fn usage(global: &Global) -> Result<Usage, Exit> {
    let client = global.client()?;
    let body = json!({ "since": "30d", "time_limit": 60 });
    let answer = block_on(async { client.post("/v1/policies:usage", &body).await });
    let answer = answer.map_err(|fault| global.fail(&fault))?;
    if answer.get("partial").and_then(Value::as_bool) == Some(true) {
        output::talk(
            "the ledger is larger than could be read in a minute; policies that look unused may be used",
        );
    }
    let policies = answer.get("policies").and_then(Value::as_object);
    let of = |(id, seen): (&String, &Value)| (id.clone(), policy_use(seen));
    Ok(Usage { window: WINDOW, policies: policies.into_iter().flatten().map(of).collect() })
}

fn policy_use(seen: &Value) -> PolicyUse {
    let number = |pointer: &str| seen.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let text = |pointer: &str| seen.pointer(pointer).and_then(Value::as_str);
    PolicyUse {
        matched: number("/matched"),
        overruled: text("/overruled/forbid").map(|forbid| (forbid.to_owned(), number("/overruled/calls"))),
        since: text("/since").and_then(|time| UnixTime::parse_rfc3339(time).ok()),
    }
}
