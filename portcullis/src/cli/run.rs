//! `portcullis run`: the roles of the configuration, until a signal ends them.

use std::time::Duration;

use base_net::Sockets;
use clap::Args;

use super::{Global, block_on};
use crate::assemble::signals::{Signals, Told};
use crate::assemble::upgrade::{self, Predecessor, Program, Upgraded};
use crate::assemble::{self, Process, Running};
use crate::config::Config;
use crate::messages::Message;
use crate::output::{self, Exit};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Wait this long before listeners close, so that balancers notice
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    drain_delay: Duration,
    /// Let running calls finish for at most this long
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    drain_timeout: Duration,
    /// Let calls finish for at most this long when another process has taken over (SIGUSR2), or a reload took their listener
    #[arg(long, default_value = "5m", value_parser = parse_duration)]
    drain_grace: Duration,
    /// Give a new process so long to say that it can take over (SIGUSR2)
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    upgrade_timeout: Duration,
    /// Log lines as JSON even on a terminal
    #[arg(long)]
    log_json: bool,
}

pub(crate) fn run(options: &Options, global: &Global) -> Exit {
    let program = Program::of_this_process();
    let (predecessor, process) = match arrival() {
        Ok(arrived) => arrived,
        Err(fault) => {
            output::talk(&fault.to_string());
            return Exit::Failed;
        }
    };
    let loaded = match crate::config::load(&global.config_path()) {
        Ok(loaded) => loaded,
        Err(faults) => {
            if let Some(predecessor) = predecessor {
                let said: Vec<_> = faults.iter().map(Message::in_one_line).collect();
                predecessor.fail(&said.join("; "));
            }
            return output::report(&faults, global.output);
        }
    };
    let log = assemble::logs(&loaded.config.admin.log, options.log_json);
    guard_keys(&loaded.config);
    loaded.warnings.iter().for_each(|warning| output::talk(&warning.to_string()));
    let (times, process) = (Times::of(options), process.within(options.drain_grace).logging(log));
    block_on(async move {
        let signals = Signals::new();
        process.watch();
        let running = match predecessor {
            None => begin(loaded.config, &process).await,
            Some(predecessor) => Box::pin(succeed(loaded.config, &process, predecessor)).await,
        };
        match running {
            Ok(running) => Box::pin(serve(running, &program, signals, times)).await,
            Err(fault) => {
                output::talk(&fault.to_string());
                if fault.code == "PC6001" { Exit::Unavailable } else { Exit::Failed }
            }
        }
    })
}

/// Memory with keys goes to no file: no core dumps, and nothing of an authority is read by other processes of its user (AU-03).
/// Others must be, or nobody could attest them who is no root.
fn guard_keys(config: &Config) {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(event = "core_dumps", %error, "core dumps may be written");
    }
    if config.ca.is_some()
        && let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable)
    {
        tracing::warn!(event = "core_dumps", %error, "memory with keys may be read by processes of the same user");
    }
}

/// Where this process comes from: from another that it replaces, from a service manager, or from nobody.
fn arrival() -> Result<(Option<Predecessor>, Process), Message> {
    let fault = |why: String| Message::error("PC0122", why);
    if let Some(predecessor) = Predecessor::meet().map_err(fault)? {
        let process = Process::with(predecessor.sockets());
        return Ok((Some(predecessor), process));
    }
    let activated = Sockets::activated().map_err(|error| Message::error("PC4002", error.to_string()))?;
    Ok((None, activated.map_or_else(Process::alone, Process::activated)))
}

async fn begin(config: Config, process: &Process) -> Result<Running, Message> {
    let running = assemble::start(config, process, &mut None).await?;
    running.accept();
    Ok(running)
}

/// Takes the place of another process, or leaves it to it.
async fn succeed(
    config: Config,
    process: &Process,
    mut predecessor: Predecessor,
) -> Result<Running, Message> {
    let fault = |why: String| Message::error("PC0122", why);
    let begun = async {
        predecessor.prepare(&config).await.map_err(fault)?;
        let running = assemble::start(config.clone(), process, &mut None).await?;
        predecessor.relieve(&running).await.map_err(fault)?;
        Ok(running)
    };
    let begun: Result<_, Message> = begun.await;
    let running = begun.inspect_err(|fault| predecessor.fail(&fault.in_one_line()))?;
    running.accept();
    predecessor.inform(&running);
    Ok(running)
}

/// Until a signal ends the process, or another has taken its place.
async fn serve(mut running: Running, program: &Program, mut signals: Signals, times: Times) -> Exit {
    loop {
        let told = tokio::select! {
            told = signals.next() => told,
            () = running.process().told_to_end() => Told::End("drain"),
        };
        match told {
            Told::End(signal) => {
                tracing::info!(event = "draining", signal, "draining");
                return unless_ended(running.drain(times.delay, times.timeout)).await;
            }
            Told::Reload => running.reload().await,
            Told::Upgrade => {
                match Box::pin(upgrade::upgrade(running, program, times.patience, times.grace)).await {
                    Upgraded::Stays(stays) => running = *stays,
                    Upgraded::Relieved(relieved) => return unless_ended(relieved.end()).await,
                    Upgraded::Lost(relieved, fault) => {
                        tracing::error!(event = "lost", code = fault.code, "{}", fault.in_one_line());
                        unless_ended(relieved.end()).await;
                        return Exit::Unavailable;
                    }
                }
            }
        }
    }
}

/// A further signal ends at once what is ending.
async fn unless_ended(ending: impl Future<Output = ()>) -> Exit {
    tokio::select! {
        () = ending => {}
        _second = assemble::signals::ended() => tracing::warn!(event = "drain_cut", "second signal: leaving at once"),
    }
    Exit::Done
}

/// How long things may take.
#[derive(Clone, Copy)]
struct Times {
    delay: Duration,
    timeout: Duration,
    grace: Duration,
    patience: Duration,
}

impl Times {
    fn of(options: &Options) -> Self {
        Self {
            delay: options.drain_delay,
            timeout: options.drain_timeout,
            grace: options.drain_grace,
            patience: options.upgrade_timeout,
        }
    }
}

/// Reads durations on the command line as the configuration writes them.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    crate::config::duration(text)
}
