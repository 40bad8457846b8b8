//! Stories over the shipped binary, with real peers. One file per subject; each gives its trials.
//! A missing peer makes a trial ignored, with the reason in its name; never passed.

mod api;
mod auditors;
mod authzen;
mod backups;
mod certificates;
mod changes;
mod chaos;
mod commands;
mod crashes;
mod demo;
mod deploy;
mod durability;
mod entries;
mod ext_authz;
mod feed;
mod grpc;
mod guide;
mod holds;
mod hostile;
mod http;
mod http3;
mod identity;
mod image;
mod impact;
mod limits;
mod listeners;
mod logs;
mod names;
mod operating;
mod package;
mod passing;
mod policies;
mod proofs;
mod pushed;
mod quickstart;
mod received;
mod redaction;
mod reload;
mod resilience;
mod routing;
mod sidecar;
mod spans;
mod subsets;
mod team;
mod trails;
mod upgrade;
mod upstream_tls;

use libtest_mimic::{Arguments, Trial};

/// A trial, and the reason it cannot run here.
fn trial(name: &str, missing: Option<String>, test: fn() -> tests::Result) -> Trial {
    match missing {
        None => Trial::test(name, move || test().map_err(|error| error.to_string().into())),
        Some(reason) => Trial::test(format!("{name} [not run: {reason}]"), || Ok(())).with_ignored_flag(true),
    }
}

fn main() {
    let mut arguments = Arguments::from_args();
    // Each trial starts processes of its own; two cores carry a few at a time.
    arguments.test_threads.get_or_insert(4);
    let suites = [
        api::trials(),
        auditors::trials(),
        proofs::trials(),
        crashes::trials(),
        authzen::trials(),
        backups::trials(),
        certificates::trials(),
        changes::trials(),
        chaos::trials(),
        commands::trials(),
        demo::trials(),
        deploy::trials(),
        durability::trials(),
        entries::trials(),
        ext_authz::trials(),
        feed::trials(),
        grpc::trials(),
        guide::trials(),
        hostile::trials(),
        holds::trials(),
        http::trials(),
        http3::trials(),
        identity::trials(),
        image::trials(),
        impact::trials(),
        listeners::trials(),
        logs::trials(),
        limits::trials(),
        names::trials(),
        operating::trials(),
        package::trials(),
        passing::trials(),
        policies::trials(),
        pushed::trials(),
        quickstart::trials(),
        received::trials(),
        redaction::trials(),
        reload::trials(),
        resilience::trials(),
        routing::trials(),
        sidecar::trials(),
        spans::trials(),
        subsets::trials(),
        team::trials(),
        trails::trials(),
        upgrade::trials(),
        upstream_tls::trials(),
    ];
    libtest_mimic::run(&arguments, suites.into_iter().flatten().collect()).exit();
}
