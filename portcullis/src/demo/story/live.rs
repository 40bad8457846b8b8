//! The demo after its story: counters, what becomes of edits, and what a key asks for.

use std::io;
use std::path::Path;
use std::process::Stdio;

use base_telemetry::redact::escape;
use serde_json::{Value, json};
use tokio::process::Command;

use super::super::failed;
use super::super::keys::Keys;
use super::{LAST_DENIAL, Story};
use crate::client::Client;
use crate::messages::Message;
use crate::output::{self, Exit, Format};

const KEYS: &str = "e edit the policy   s take the suggestion   t tail   q quit";
/// Who says what `decisions tail` prints.
const TAIL: &str = "tail";

impl Story<'_> {
    /// Counters once a second, every edit of the policy, taken in force or refused with its place, and what a key asks for.
    pub(super) async fn live(&mut self) -> Result<Exit, Message> {
        let terminal = output::is_terminal();
        let (mut shown, mut policies) = (0u32, self.policies().await?);
        let mut keys = Keys::listen().filter(|_| self.format == Format::Table);
        loop {
            let pressed = async {
                match &keys {
                    Some(keys) => keys.next().await,
                    None => std::future::pending().await,
                }
            };
            let said = tokio::select! {
                said = self.hear() => said?,
                pressed = pressed => {
                    if terminal {
                        output::status("");
                    }
                    match (pressed, &keys) {
                        (Ok('q'), _) => {
                            output::talk("stopped; nothing is left behind");
                            return Ok(Exit::Done);
                        }
                        (Ok('e'), Some(keys)) => self.edit(keys).await?,
                        (Ok('s'), _) => self.suggest().await?,
                        (Ok('t'), _) => self.tail()?,
                        (Ok(_), _) => output::data(KEYS),
                        // Nobody can press one any more; the demo goes on.
                        (Err(_gone), _) => keys = None,
                    }
                    continue;
                }
            };
            let (called, now) = match said {
                (TAIL, said) => {
                    output::data(&escape(said.as_str().unwrap_or_default()));
                    continue;
                }
                (_, said) if said.get("event").and_then(Value::as_str) == Some("called") => {
                    shown = shown.wrapping_add(1);
                    if !shown.is_multiple_of(20) {
                        continue;
                    }
                    (said, self.policies().await?)
                }
                _ => continue,
            };
            if now != policies {
                self.step("policies", &now, json!({ "policies": now }));
                policies = now;
            }
            let of = |name: &str| called.get(name).and_then(Value::as_u64).unwrap_or_default();
            let counts =
                format!("  allowed {}  denied {}  failed {}", of("allowed"), of("denied"), of("failed"));
            let hint = if keys.is_some() { KEYS } else { "Ctrl-C ends" };
            match self.format {
                Format::Table if terminal && self.tail.is_none() => output::status(&format!("{counts}   {hint}")),
                Format::Table if shown.is_multiple_of(200) => output::data(&counts),
                Format::Ndjson => output::data(&json!({ "event": "counts", "allowed": of("allowed"), "denied": of("denied"), "failed": of("failed") }).to_string()),
                Format::Table | Format::Json => {}
            }
        }
    }

    /// The policy in an editor. Traffic goes on meanwhile, and every save is in force at once.
    async fn edit(&mut self, keys: &Keys) -> Result<(), Message> {
        let policy = self.stage.policies().join("orders.cedar");
        let Some(editor) = editor() else {
            output::data(&format!("  no editor: set EDITOR, or change {} elsewhere", policy.display()));
            return Ok(());
        };
        let terminal = |error: io::Error| failed("terminal", &error);
        keys.give().map_err(terminal)?;
        // As git starts one: EDITOR may have arguments.
        let started =
            Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(&policy).spawn();
        let ended = match started {
            Ok(mut child) => loop {
                tokio::select! {
                    ended = child.wait() => break ended.map(|_| ()),
                    said = self.hear() => drop(said?),
                }
            },
            Err(error) => Err(error),
        };
        keys.take().map_err(terminal)?;
        if let Err(error) = ended {
            output::data(&format!("  {editor} does not start: {error}"));
        }
        Ok(())
    }

    /// Has the least permit for the last denial written into the policies, by the command that anybody would use.
    async fn suggest(&mut self) -> Result<(), Message> {
        let found = Client::new(self.stage.admin_socket()).get(LAST_DENIAL).await;
        let found = found.map_err(|fault| fault.message)?;
        let Some(id) = found.pointer("/items/0/id").and_then(Value::as_str) else { return Ok(()) };
        let mut command = self.command(&["policy", "suggest", id, "--write", "policies", "-o", "json"])?;
        let output = command.output().await.map_err(|error| failed("policy suggest", &error))?;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        match answer.get("policy").and_then(Value::as_str) {
            Some(policy) if output.status.success() => {
                output::data("  portcullis policy suggest --write policies");
                policy.trim_end().lines().for_each(|line| output::data(&format!("    {}", escape(line))));
            }
            _ => {
                let said = String::from_utf8_lossy(&output.stderr);
                output::data(&format!(
                    "  {}",
                    escape(said.lines().next().unwrap_or("there is nothing to suggest"))
                ));
            }
        }
        Ok(())
    }

    /// Begins or ends to show every decision as it is made.
    fn tail(&mut self) -> Result<(), Message> {
        // It is killed as it is dropped.
        if self.tail.take().is_some() {
            return Ok(());
        }
        let mut command = self.command(&["decisions", "tail"])?;
        let started = command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn();
        let mut child = started.map_err(|error| failed("decisions tail", &error))?;
        if let Some(out) = child.stdout.take() {
            self.listen_to(TAIL, out, Value::String);
        }
        self.tail = Some(child);
        Ok(())
    }

    /// A command as a person in the directory of the demo would give it.
    fn command(&self, words: &[&str]) -> Result<Command, Message> {
        let own = std::env::current_exe().map_err(|error| failed("this program", &error))?;
        let mut command = Command::new(own);
        command.args(words).current_dir(&self.stage.dir).stdin(Stdio::null());
        Ok(command)
    }

    /// What is in force, and what was refused, in one line.
    async fn policies(&self) -> Result<String, Message> {
        let status =
            Client::new(self.stage.admin_socket()).get("/v1/status").await.map_err(|fault| fault.message)?;
        let version = status.pointer("/policies/version").and_then(Value::as_u64).unwrap_or_default();
        let Some(found) = status.pointer("/policies/diagnostics/0") else {
            return Ok(format!("policies v{version} in force"));
        };
        let of = |name: &str| match found.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        // A case that fails has a file and no line.
        let place: Vec<_> = ["file", "line", "column"].into_iter().filter_map(of).collect();
        let said = of("message").unwrap_or_default();
        Ok(format!("edit refused: {} {said}; policies v{version} stay in force", place.join(":")))
    }
}

/// The editor of whoever sits there.
fn editor() -> Option<String> {
    let set = ["VISUAL", "EDITOR"].into_iter().filter_map(|name| std::env::var(name).ok());
    let usual =
        ["sensible-editor", "nano", "vi"].into_iter().filter(|name| is_program(name)).map(str::to_owned);
    set.filter(|editor| !editor.trim().is_empty()).chain(usual).next()
}

fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir: std::path::PathBuf| Path::is_file(&dir.join(name)))
}
