//! `entry explain PID`: what the agent sees of a process, which entries it matches, and which it nearly does (EN-06).

use serde_json::Value;

use crate::cli::authority::word;
use crate::client::{Client, Fault};
use crate::output::{Answer, Exit};

/// Exit 0 when the process has an identity, 2 when it has none.
pub(super) async fn run(client: Client, pid: i32) -> Result<(Answer, Exit), Fault> {
    let told = client.get(&format!("/v1/entries:explain?pid={pid}")).await?;
    let list = |name: &str| told.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let words = |value: &Value, name: &str| {
        let words = value.get(name).and_then(Value::as_array).into_iter().flatten();
        words.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut lines =
        vec![format!("process {pid} is"), format!("  {}", words(&told, "selectors").join("\n  "))];
    let (matching, nearest) = (list("matching"), list("nearest"));
    match matching.is_empty() {
        true => lines.push("no entry matches".to_owned()),
        false => lines.push("it matches".to_owned()),
    }
    let name = |entry: &Value| format!("{}  {}", word(entry, "spiffe_id"), word(entry, "id"));
    lines.extend(matching.iter().map(|entry| format!("  {}", name(entry))));
    if !nearest.is_empty() {
        lines.push("nearest that do not".to_owned());
    }
    for entry in &nearest {
        lines.push(format!("  {}", name(entry)));
        lines.push(format!("    it is not {}", words(entry, "missing").join(", not ")));
    }
    let exit = if matching.is_empty() { Exit::Denied } else { Exit::Done };
    Ok((Answer::object("EntryExplanation", told, lines.join("\n")), exit))
}
