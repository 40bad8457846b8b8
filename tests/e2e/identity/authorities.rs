//! The keys of the authority by a person's word, through the shipped binary and under calls: a root is replaced and nobody
//! loses one, a signing CA is revoked and nobody who was renewed does.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::binary::portcullis;
use tests::port::free_port;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use super::revoked::{Busy, HTTP, Issuer, is_taken, measured};
use super::web_entry;
use crate::trial;

/// A tainted key has everything renewed within 30 s.
const RENEWED: Duration = Duration::from_secs(40);

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("threat_ca10_a_root_is_replaced_under_calls_and_none_is_lost", None, root),
        trial("rv_04_a_revoked_signing_ca_is_refused_within_a_second_and_fresh_svids_go_on", None, signing),
        trial("ic_01_ca_verbs_tell_their_effect_and_what_comes_next", None, told),
    ]
}

fn key(gateway: &Gateway, kind: &str, state: &str) -> Result<Value> {
    let shown = gateway.json(&["ca", "show"])?;
    let found = shown["items"].as_array().into_iter().flatten();
    let found = found.into_iter().find(|key| key["kind"] == kind && key["state"] == state);
    Ok(found.ok_or_else(|| format!("no {state} {kind} key: {shown}"))?.clone())
}

fn until(what: &str, within: Duration, mut is_so: impl FnMut() -> Result<bool>) -> Result {
    let end = Instant::now() + within;
    while !is_so()? {
        check!(Instant::now() < end, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// `svid write`, as a workload runs it: its files follow the Workload API.
struct Files {
    dir: PathBuf,
    writer: Child,
}

impl Files {
    fn follow(gateway: &Gateway) -> Result<Self> {
        let dir = gateway.dir().join("followed");
        let mut command = Command::new(portcullis());
        command.args(["svid", "write", "--socket", &gateway.workload_socket(), "--dir"]).arg(&dir);
        let writer = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let files = Self { dir, writer };
        until("the first SVID is written", RENEWED, || Ok(files.dir.join("svid.pem").exists()))?;
        Ok(files)
    }

    fn roots(&self) -> usize {
        let bundle = std::fs::read_to_string(self.dir.join("bundle.pem")).unwrap_or_default();
        bundle.matches("BEGIN CERTIFICATE").count()
    }

    fn svid(&self) -> String {
        std::fs::read_to_string(self.dir.join("svid.pem")).unwrap_or_default()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(self.writer.kill().and_then(|()| self.writer.wait()));
    }
}

/// Somebody who opens one connection after the other with what the files hold.
struct Dialing {
    running: JoinHandle<(usize, Vec<String>)>,
    stop: Arc<AtomicBool>,
}

impl Dialing {
    fn start(gateway: &Gateway, dir: &Path) -> Self {
        let (address, dir, stop) = (gateway.address, dir.to_owned(), Arc::new(AtomicBool::new(false)));
        let stopping = Arc::clone(&stop);
        let running = std::thread::spawn(move || {
            let (mut calls, mut lost) = (0, Vec::new());
            while !stopping.load(Ordering::SeqCst) {
                // Files are renamed one by one, so a reader can meet a key before its certificate.
                match super::revoked::call(address, &dir)
                    .or_else(|_mixed| super::revoked::call(address, &dir))
                {
                    Ok(()) => calls += 1,
                    Err(error) => lost.push(error.to_string()),
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            (calls, lost)
        });
        Self { running, stop }
    }

    fn none_lost(self) -> Result {
        self.stop.store(true, Ordering::SeqCst);
        let (calls, lost) = self.running.join().map_err(|_panic| "a caller panicked")?;
        println!("{calls} connections, {} lost", lost.len());
        check!(calls > 20 && lost.is_empty(), "{calls} calls, lost {lost:?}");
        Ok(())
    }
}

fn root() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let files = Files::follow(&gateway)?;
    let (dialing, staying) =
        (Dialing::start(&gateway, &files.dir), Busy::start(gateway.address, &files.dir, HTTP)?);
    let first = key(&gateway, "root", "active")?["key_id"].clone();
    let before = files.svid();

    gateway.json(&["ca", "prepare", "--kind", "root"])?;
    until("the workload knows both roots", RENEWED, || Ok(files.roots() == 2))?;
    let active = gateway.json(&["ca", "activate", "--kind", "root", "--yes"])?;
    check!(
        key(&gateway, "root", "active")?["key_id"] == active["key_id"] && active["key_id"] != first,
        "{active}"
    );
    let tainted = gateway.json(&["ca", "taint", "--kind", "root", "--yes"])?;
    check!(tainted["tainted"] == true && tainted["key_id"] == first, "{tainted}");
    until("the workload is renewed", RENEWED, || Ok(files.svid() != before && !files.svid().is_empty()))?;
    // The connection that was opened under the old root is still good: tainted is not revoked.
    staying.goes_on()?;
    std::thread::sleep(Duration::from_millis(300));
    let command = ["ca", "revoke", "--kind", "root", "--reason", "replaced"];
    let asked = gateway.cli(&command)?;
    check!(asked.code != 0 && asked.stderr.contains("takes it out of the bundle and ends "), "{asked:?}");
    gateway.json(&[&command[..], &["--yes"]].concat())?;
    until("the workload knows the new root only", RENEWED, || Ok(files.roots() == 1))?;
    std::thread::sleep(Duration::from_millis(300));
    dialing.none_lost()?;
    for event in ["root_prepared", "root_activated", "root_tainted", "root_revoked"] {
        let told = gateway.records("kind=authority")?;
        let told = told.iter().find(|record| record["body"]["event"] == event);
        let told = told.ok_or_else(|| format!("no `{event}` on record"))?.to_string();
        check!(told.contains("local user "), "{told}");
    }
    Ok(())
}

fn signing() -> Result {
    let ca = free_port();
    let mut gateway = Gateway::build().ca(&Issuer::listen(ca)).site(Upstream::echo().address).start()?;
    let issuer = Issuer::enrol(&gateway, ca)?;
    let entry = web_entry(&gateway)?["id"].as_str().ok_or("no id")?.to_owned();
    let lost = issuer.issue(&gateway, &entry, "lost")?;
    gateway.json(&["ca", "rotate", "--kind", "signing", "--yes"])?;
    let kept = issuer.issue(&gateway, &entry, "kept")?;
    let ending = Busy::start(gateway.address, &lost, HTTP)?;
    let staying = Busy::start(gateway.address, &kept, HTTP)?;
    let early = gateway.cli(&["ca", "revoke", "--kind", "signing", "--reason", "leaked", "--yes"])?;
    check!(
        early.code != 0 && early.stderr.contains("is not tainted: `portcullis ca taint --kind signing"),
        "{early:?}"
    );
    let command = ["ca", "revoke", "--kind", "signing", "--reason", "leaked", "--skip-taint"];
    let asked = gateway.cli(&command)?;
    check!(asked.code != 0 && asked.stderr.contains("ca rotate --kind root prevents"), "AU-07: {asked:?}");
    let revoked = measured(&gateway, &[&command[..], &["--yes"]].concat(), vec![ending])?;
    check!(revoked["state"] == "revoked", "{revoked}");
    check!(!is_taken(&gateway, &lost)?, "a certificate of the revoked CA is taken");
    check!(is_taken(&gateway, &kept)?, "a certificate of the new CA is refused");
    std::thread::sleep(Duration::from_millis(300));
    staying.goes_on()?;
    // The agent and the gateway have left it too: what is fetched now is taken, by a gateway that is under the new one.
    check!(is_taken(&gateway, &gateway.identity()?)?, "the agent serves what is refused");
    let own = gateway.json(&["proxy", "certificates"])?;
    let list = gateway.json(&["svid", "list"])?;
    let own = own["items"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["kind"] == "svid")
        .ok_or("no own SVID")?;
    let is_good = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|one| one["serial"] == own["serial"] && one["revoked"] == false);
    check!(is_good, "the gateway shows a revoked certificate: {own} {list}");
    gateway.restart()?;
    check!(!is_taken(&gateway, &lost)? && is_taken(&gateway, &kept)?, "a restart forgets");
    Ok(())
}

fn told() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    for (arguments, part) in [
        (&["ca", "activate", "--kind", "jwt"][..], "repeat with --yes"),
        (&["ca", "activate", "--kind", "jwt", "--yes"], "`portcullis ca prepare --kind jwt`"),
        (&["ca", "rotate", "--kind", "jwt", "--yes"], "or now with --force"),
        (&["ca", "prepare", "--kind", "jwt"], "`portcullis ca activate --kind jwt`"),
        (&["ca", "taint", "--kind", "root", "--yes"], "0 root keys are old"),
    ] {
        let refused = gateway.cli(arguments)?;
        check!(refused.code != 0 && refused.stderr.contains(part), "{arguments:?}: {refused:?}");
    }
    let active = key(&gateway, "root", "active")?["key_id"].as_str().ok_or("no key")?.to_owned();
    let refused = gateway.cli(&["ca", "taint", "--kind", "root", "--key", &active, "--yes"])?;
    check!(refused.stderr.contains("`portcullis ca rotate --kind root --yes`"), "{refused:?}");
    let rotated = gateway.cli(&["ca", "rotate", "--kind", "signing", "--yes"])?;
    check!(
        rotated.code == 0 && rotated.stdout.contains("next: portcullis ca taint --kind signing --yes"),
        "{rotated:?}"
    );
    let tainted = gateway.cli(&["ca", "taint", "--kind", "signing", "--yes"])?;
    check!(
        tainted.code == 0 && tainted.stdout.contains("next: portcullis ca revoke --kind signing --key "),
        "{tainted:?}"
    );
    Ok(())
}
