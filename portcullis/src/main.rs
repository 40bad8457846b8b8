//! The portcullis binary: configuration, assembly of roles, command line.
//!
//! `cli` names every command; `run` assembles the roles that the configuration names (`assemble`) and serves the API
//! (`admin`). Logic worth a unit test of its own lives in the crates below; here it is read, wired and printed.

mod about;
mod admin;
mod assemble;
mod cli;
mod client;
mod config;
mod demo;
mod lines;
mod messages;
mod output;
#[cfg(test)]
mod reference;
mod replay;
mod serve;

/// Records are made on one thread and given back on another, which the allocator of the C library does slowly.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main().into()
}
