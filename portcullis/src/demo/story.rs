//! Watches the demo and tells what it sees, step by step, to people or to programs.

mod live;

use std::process::Stdio;
use std::time::Duration;

use base_ports::{Clock, Mono, SystemClock, Tasks};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;

use super::stage::Stage;
use super::{PATIENCE, failed};
use crate::assemble::{self, Running};
use crate::client::Client;
use crate::messages::Message;
use crate::output::{self, Answer, Exit, Format};

const LAST_DENIAL: &str = "/v1/decisions?effect=deny&action=grpc&limit=1";

/// One demo being told.
pub(super) struct Story<'a> {
    stage: &'a Stage,
    format: Format,
    began: Mono,
    running: Option<Running>,
    children: Vec<Child>,
    /// Shows decisions, while that is asked for.
    tail: Option<Child>,
    tasks: Tasks,
    said: mpsc::Receiver<(&'static str, Value)>,
    say: mpsc::Sender<(&'static str, Value)>,
    document: Map<String, Value>,
    timings: Map<String, Value>,
}

impl<'a> Story<'a> {
    pub(super) fn begin(stage: &'a Stage, format: Format) -> Self {
        // Two samples, 20 lines a second: a full channel makes a sample wait, nothing is lost.
        let (say, said) = mpsc::channel(256);
        Self {
            stage,
            format,
            began: SystemClock.mono(),
            running: None,
            children: Vec::new(),
            tail: None,
            tasks: Tasks::new("demo"),
            said,
            say,
            document: Map::new(),
            timings: Map::new(),
        }
    }

    /// Tells it to the explained denial; then goes on with live counters unless `once`.
    pub(super) async fn tell(&mut self, once: bool) -> Result<Exit, Message> {
        match tokio::time::timeout(PATIENCE, Box::pin(self.steps(once))).await {
            Ok(told) => told?,
            Err(_elapsed) => {
                return Err(failed("no explained denial", &format!("not within {} s", PATIENCE.as_secs())));
            }
        }
        if once {
            self.document.insert("timings_ms".to_owned(), Value::Object(self.timings.clone()));
            if self.format == Format::Json {
                Answer::object("Demo", Value::Object(self.document.clone()), String::new())
                    .print(Format::Json);
            }
            return Ok(Exit::Done);
        }
        self.live().await
    }

    async fn steps(&mut self, once: bool) -> Result<(), Message> {
        let config = crate::config::load(&self.stage.config()).map_err(|faults| {
            faults.into_iter().next().unwrap_or_else(|| failed("configuration", &"invalid"))
        })?;
        let config = config.config;
        let client = Client::new(config.admin_socket());
        let running = assemble::start(config.clone(), &assemble::Process::alone(), &mut None).await?;
        running.accept();
        let (gateway, admin) = (running.listener("public"), running.admin_address());
        let quic = running.urls("public").into_iter().find(|url| url.starts_with("quic://"));
        self.running = Some(running);
        let authorities = client.get("/v1/authorities").await.map_err(|fault| fault.message)?;
        let root =
            authorities.pointer("/items/0/key_id").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.step(
            "trust_domain",
            &format!("trust domain example.org made; root key {}", short(&root)),
            json!({ "trust_domain": "example.org", "root_key": root }),
        );

        self.start("orders", &["--address", &self.stage.orders.to_string()])?;
        let orders = self.wait("orders", "identity").await?;
        self.attested("orders", &orders);
        self.wait("orders", "listening").await?;
        let gateway = gateway.ok_or_else(|| failed("gateway", &"no listener"))?;
        let quic = quic.ok_or_else(|| failed("gateway", &"no listener for QUIC"))?;
        self.start("web", &["--address", &gateway.to_string(), "--expect", "spiffe://example.org/gateway"])?;
        let web = self.wait("web", "identity").await?;
        self.attested("web", &web);
        self.step(
            "gateway",
            &format!("gateway listening on tcp://{gateway} and {quic}, mTLS 1.3 only"),
            json!({ "gateway": format!("tcp://{gateway}"), "quic": quic }),
        );

        let mut flowing = false;
        let counts = loop {
            let called = self.wait("web", "called").await?;
            let of = |name: &str| called.get(name).and_then(Value::as_u64).unwrap_or_default();
            if of("allowed") > 0 && !flowing {
                flowing = true;
                self.step("traffic", "traffic flows: web -> gateway -> orders, 20 calls a second", json!({}));
            }
            if of("allowed") > 0 && of("denied") > 0 {
                break json!({ "allowed": of("allowed"), "denied": of("denied"), "failed": of("failed") });
            }
        };
        self.step(
            "denied",
            "one call in four is refused: web asks for shop.Orders/Refund",
            json!({ "counts": counts }),
        );
        self.document.insert("counts".to_owned(), counts);
        self.explained(&client).await?;
        if once {
            return Ok(());
        }
        let api = admin.map(|admin| format!("http://{admin}")).unwrap_or_default();
        let dir = self.stage.dir.display().to_string();
        self.step(
            "go_on",
            &format!("API docs {api}/docs   metrics {api}/metrics"),
            json!({ "api": api, "dir": dir }),
        );
        if self.format == Format::Table {
            output::data("\n  go on in a second terminal with");
            output::data(&format!("    cd {dir}"));
            for command in ["explain --last-deny", "decisions tail", "status", "entry list"] {
                output::data(&format!("    portcullis {command}"));
            }
            output::data(
                "  or add Method::\"shop.Orders/Refund\" to the list in policies/orders.cedar there, and watch here\n",
            );
        }
        Ok(())
    }

    /// Asks the API as any command would, until the ledger shows the denial.
    async fn explained(&mut self, client: &Client) -> Result<(), Message> {
        let id = loop {
            let found = client.get(LAST_DENIAL).await.map_err(|fault| fault.message)?;
            if let Some(id) = found.pointer("/items/0/id").and_then(Value::as_str) {
                break id.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let path = format!("/v1/decisions/{id}/explain");
        let explained = client.get(&path).await.map_err(|fault| fault.message)?;
        let text = explained.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
        if text.is_empty() || explained.pointer("/nearest/0/policy").is_none() {
            return Err(failed("explanation", &"the denial was recorded and could not be explained"));
        }
        self.step("explained", "why, from the decision ledger:", json!({ "explanation": explained }));
        if self.format == Format::Table {
            output::data("");
            text.lines().for_each(|line| output::data(&format!("  {line}")));
            output::data("");
        }
        self.document.insert("explained".to_owned(), explained);
        Ok(())
    }

    /// Stops samples and roles.
    pub(super) async fn end(mut self) {
        for child in &mut self.children {
            if let Err(error) = child.kill().await {
                tracing::debug!(error = %error, "sample had ended");
            }
        }
        if let Some(running) = self.running.take() {
            running.drain(Duration::ZERO, Duration::from_millis(500)).await;
        }
    }

    fn attested(&mut self, name: &str, said: &Value) {
        let of = |field: &str| said.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (id, serial, until) = (of("id"), of("serial"), of("not_after"));
        let text = format!(
            "{name:<7} attested by uid and path, holds {id}, serial {}, until {until}",
            short(&serial)
        );
        let identity = json!({ "id": id, "serial": serial, "not_after": until });
        self.step(&format!("identity_{name}"), &text, identity.clone());
        if let Value::Array(identities) = self.document.entry("identities").or_insert_with(|| json!([])) {
            identities.push(identity);
        }
    }

    fn step(&mut self, name: &str, text: &str, facts: Value) {
        let elapsed = SystemClock.mono().saturating_since(self.began);
        self.timings.insert(name.to_owned(), json!(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)));
        match self.format {
            Format::Table => output::data(&format!("{:>5.1} s  {text}", elapsed.as_secs_f64())),
            Format::Ndjson => {
                let mut event = json!({ "event": name, "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX), "text": text });
                if let (Some(members), Value::Object(facts)) = (event.as_object_mut(), facts) {
                    members.extend(facts);
                }
                output::data(&event.to_string());
            }
            Format::Json => {}
        }
    }

    fn start(&mut self, name: &'static str, arguments: &[&str]) -> Result<(), Message> {
        let mut child = Command::new(self.stage.program(name))
            .args(["sample", name, "--socket", &self.stage.workload_socket()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(name, &error))?;
        if let Some(out) = child.stdout.take() {
            self.listen_to(name, out, |line| serde_json::from_str(&line).unwrap_or_default());
        }
        self.children.push(child);
        Ok(())
    }

    fn listen_to(
        &mut self,
        name: &'static str,
        out: ChildStdout,
        read: impl Fn(String) -> Value + Send + 'static,
    ) {
        let say = self.say.clone();
        self.tasks.spawn("output", async move {
            let mut lines = BufReader::new(out).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if say.send((name, read(line))).await.is_err() {
                    return;
                }
            }
        });
    }

    /// The next `event` that `name` tells.
    async fn wait(&mut self, name: &str, event: &str) -> Result<Value, Message> {
        loop {
            let (who, said) = self.hear().await?;
            if who == name && said.get("event").and_then(Value::as_str) == Some(event) {
                return Ok(said);
            }
        }
    }

    /// What is said next, and by whom. Safe to cancel.
    async fn hear(&mut self) -> Result<(&'static str, Value), Message> {
        // INVARIANT: one of the senders is here.
        let Some((who, said)) = self.said.recv().await else { return Err(failed("samples", &"ended")) };
        if said.get("event").and_then(Value::as_str) == Some("failed") {
            return Err(failed(who, &said.get("error").and_then(Value::as_str).unwrap_or_default()));
        }
        Ok((who, said))
    }
}

fn short(hex: &str) -> String {
    hex.chars().take(8).chain(['…']).collect()
}
