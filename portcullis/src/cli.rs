//! The command tree. One file per noun; this one reads the line, finds the running process and maps the outcome.

mod agent;
mod authority;
mod bundle;
mod ca;
mod check;
mod config;
pub(crate) mod decisions;
mod entry;
mod federation;
pub(crate) mod init;
mod pages;
mod policy;
mod proxy;
mod route;
mod run;
mod schema;
mod status;
mod svid;
mod version;

use std::future::Future;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::client::{Client, Fault};
use crate::messages::Message;
use crate::output::{self, Answer, Exit, Format};

/// Zero-trust identity and policy enforcement gateway.
#[derive(Debug, Parser)]
#[command(
    name = "portcullis",
    version,
    arg_required_else_help = true,
    after_help = "Examples:\n  portcullis demo                     see an explained denial in ten seconds\n  portcullis init my-gateway          write a configuration for your own service\n  portcullis run -c portcullis.toml   run the roles it names\n  portcullis explain --last-deny      why the last call was refused"
)]
struct Line {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The whole tree, for those who write about it.
#[cfg(test)]
pub(crate) fn tree() -> clap::Command {
    <Line as clap::CommandFactory>::command()
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Configuration file [default: ./portcullis.toml, then /etc/portcullis/portcullis.toml]
    #[arg(short = 'c', long = "config", global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Admin socket of the running process, as unix:///PATH [default: from the configuration]
    #[arg(long, global = true, value_name = "URL", env = "PORTCULLIS_SERVER")]
    server: Option<String>,
    /// Form of the answer
    #[arg(short = 'o', long = "output", global = true, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole product on this machine and watch one call being refused and explained
    #[command(after_help = "Example:\n  portcullis demo --once -o json")]
    Demo(crate::demo::Options),
    /// Write a configuration, a first policy and its test
    #[command(after_help = "Example:\n  portcullis init my-gateway")]
    Init(init::Options),
    /// Run the roles that the configuration names
    #[command(after_help = "Example:\n  portcullis run -c portcullis.toml")]
    Run(run::Options),
    /// Look for problems and name the next command
    #[command(after_help = "Example:\n  portcullis check --fail-on warning")]
    Check(check::Options),
    /// What runs, with versions and expiries
    #[command(after_help = "Example:\n  portcullis status -o json")]
    Status,
    /// Wait until the running process is ready
    #[command(after_help = "Example:\n  portcullis wait --timeout 60s")]
    Wait(status::WaitOptions),
    /// Fetch, write and inspect X.509-SVIDs from any SPIFFE Workload API
    #[command(subcommand)]
    Svid(svid::Command),
    /// Registration entries: which workload gets which identity
    #[command(subcommand)]
    Entry(entry::Command),
    /// What verifies certificates and tokens of the trust domain
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// Other trust domains whose identities are verified here
    #[command(subcommand)]
    Federation(federation::Command),
    /// The certificate authority
    #[command(subcommand)]
    Ca(ca::Command),
    /// Agents of other hosts
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Policies: check them, test them, have one suggested
    #[command(subcommand)]
    Policy(policy::Command),
    /// What policies can speak about
    #[command(subcommand)]
    Schema(schema::Command),
    /// Ask whether a call would be allowed: exit 0 allow, 2 deny
    #[command(
        after_help = "Example:\n  portcullis can 'Workload::\"spiffe://example.org/web\"' 'Action::\"grpc\"' 'Method::\"shop.Orders/Get\"'"
    )]
    Can(policy::CanOptions),
    /// Who can do that: callers one by one, everybody else by class; exit 2 when nobody can
    #[command(
        name = "who-can",
        after_help = "Example:\n  portcullis who-can grpc 'Method::\"shop.Orders/Get\"'"
    )]
    WhoCan(policy::WhoCanOptions),
    /// What a caller can do, on everything there is; exit 2 when nothing
    #[command(
        name = "what-can",
        after_help = "Examples:\n  portcullis what-can spiffe://example.org/web\n  portcullis what-can anonymous --action http:GET"
    )]
    WhatCan(policy::WhatCanOptions),
    /// The data plane of the running process
    #[command(subcommand)]
    Proxy(proxy::Command),
    /// Routes: which one takes a call, and why
    #[command(subcommand)]
    Route(route::Command),
    /// The decision ledger
    #[command(subcommand)]
    Decisions(Box<decisions::Command>),
    /// Why a call was allowed or refused
    #[command(after_help = "Examples:\n  portcullis explain --last-deny\n  portcullis explain 01JD8Z…7Q")]
    Explain(decisions::ExplainOptions),
    /// The configuration file
    #[command(subcommand)]
    Config(config::Command),
    /// Completions for a shell
    #[command(after_help = "Example:\n  portcullis completion bash > /etc/bash_completion.d/portcullis")]
    Completion { shell: clap_complete::Shell },
    /// Manual pages, one a command, into a directory
    #[command(after_help = "Example:\n  portcullis man /usr/local/share/man/man1")]
    Man { dir: PathBuf },
    /// What this binary is
    #[command(
        after_help = "Examples:\n  portcullis version -o json\n  portcullis version --sbom > portcullis.cdx.json"
    )]
    Version(version::Options),
    /// What a message code means
    #[command(name = "code", after_help = "Example:\n  portcullis code PC0103")]
    Code { code: String },
    /// The sample services of the demo
    #[command(hide = true)]
    Sample(crate::demo::SampleOptions),
}

/// Reads the command line and runs the command.
pub(crate) fn main() -> Exit {
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => {
            // clap prints help to stdout and errors to stderr by itself; its own code 2 means something else here.
            drop(error.print());
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let global = line.global;
    match line.command {
        Command::Demo(options) => crate::demo::run(options, &global),
        Command::Init(options) => init::run(&options, &global),
        Command::Run(options) => run::run(&options, &global),
        Command::Check(options) => check::run(&options, &global),
        Command::Status => status::run(&global),
        Command::Wait(options) => status::wait(&options, &global),
        Command::Svid(command) => svid::run(command, &global),
        Command::Entry(command) => entry::run(command, &global),
        Command::Bundle(command) => bundle::run(command, &global),
        Command::Federation(command) => federation::run(command, &global),
        Command::Ca(command) => ca::run(command, &global),
        Command::Agent(command) => agent::run(command, &global),
        Command::Policy(command) => policy::run(command, &global),
        Command::Schema(command) => schema::run(command, &global),
        Command::Can(options) => policy::can(&options, &global),
        Command::WhoCan(options) => policy::who_can(options, &global),
        Command::WhatCan(options) => policy::what_can(options, &global),
        Command::Route(command) => route::run(&command, &global),
        Command::Proxy(command) => proxy::run(command, &global),
        Command::Decisions(command) => decisions::run(*command, &global),
        Command::Explain(options) => decisions::explain(&options, &global),
        Command::Config(command) => config::run(command, &global),
        Command::Completion { shell } => pages::completion(shell),
        Command::Man { dir } => pages::man(&dir, &global),
        Command::Version(options) => version::run(&options, &global),
        Command::Code { code } => about_code(&code, &global),
        Command::Sample(options) => crate::demo::sample(&options),
    }
}

impl Global {
    pub(crate) fn format(&self) -> Format {
        self.output
    }

    /// The configuration file in force for this command.
    pub(crate) fn config_path(&self) -> PathBuf {
        crate::config::locate(self.config.as_deref())
    }

    /// The configuration, or the exit code after its faults were printed.
    pub(crate) fn load(&self) -> Result<crate::config::Loaded, Exit> {
        crate::config::load(&self.config_path()).map_err(|faults| output::report(&faults, self.output))
    }

    /// The running process: `--server`, else the socket of the configuration.
    pub(crate) fn client(&self) -> Result<Client, Exit> {
        match &self.server {
            Some(server) => {
                match server.strip_prefix("unix://").map(Path::new).filter(|path| path.is_absolute()) {
                    Some(path) => Ok(Client::new(path)),
                    None => {
                        let fault = Message::error("PC0104", format!("`{server}` is not unix:///PATH"));
                        output::report(&[fault], self.output);
                        Err(Exit::Usage)
                    }
                }
            }
            None => {
                let path = self.config_path();
                match crate::config::load(&path) {
                    Ok(loaded) => Ok(Client::new(loaded.config.admin_socket())),
                    // The process runs with an older file, and says what is wrong with this one.
                    Err(faults) => crate::config::admin_socket(&path)
                        .map(Client::new)
                        .ok_or_else(|| output::report(&faults, self.output)),
                }
            }
        }
    }

    /// Runs one question to the running process and prints its answer.
    pub(crate) fn ask<F, W>(&self, question: F) -> Exit
    where
        F: FnOnce(Client) -> W,
        W: Future<Output = Result<(Answer, Exit), Fault>>,
    {
        let client = match self.client() {
            Ok(client) => client,
            Err(exit) => return exit,
        };
        match block_on(question(client)) {
            Ok((answer, exit)) => {
                answer.print(self.output);
                exit
            }
            Err(fault) => self.fail(&fault),
        }
    }

    /// Prints `fault` and gives its exit code.
    pub(crate) fn fail(&self, fault: &Fault) -> Exit {
        let told: Vec<_> = fault.findings.iter().chain([&fault.message]).cloned().collect();
        output::report(&told, self.output);
        fault.exit
    }
}

/// Runs a client command's future on a runtime of its own.
pub(crate) fn block_on<W: Future>(work: W) -> W::Output {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            output::talk(&format!("error[PC9001]: no runtime: {error}"));
            std::process::exit(i32::from(Exit::Failed as u8))
        }
    }
}

fn about_code(code: &str, global: &Global) -> Exit {
    match crate::messages::find(code) {
        Some(found) => {
            let json = serde_json::json!({ "code": found.code, "title": found.title, "text": found.text });
            Answer::object("Code", json, format!("{}: {}\n  {}", found.code, found.title, found.text))
                .print(global.output);
            Exit::Done
        }
        None => {
            let known = crate::messages::codes().map(|code| code.code);
            let near = crate::messages::nearest(&code.to_uppercase(), known);
            let mut fault = Message::error("PC0104", format!("`{code}` is no message code"));
            fault.label = near.map(|near| format!("did you mean `{near}`?"));
            output::report(&[fault], global.output);
            Exit::Usage
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policies_engine::{Reason, explain::fix};

    #[test]
    fn ex4_every_fix_of_an_explanation_is_a_command_of_ours() {
        let id = "01JD8Z6N4T0B7K3Q5XW2M9E47Q";
        let fixes: Vec<_> = Reason::ALL.iter().filter_map(|reason| fix(*reason, Some(id))).collect();
        assert!(fixes.len() > 10);
        for fix in fixes {
            let parsed = Line::try_parse_from(&fix.command);
            assert!(parsed.is_ok(), "{:?}: {:?}", fix.command, parsed.err());
        }
    }
}
