//! What auditors hold: proofs, checkpoints and copies of the ledger, checked offline, by our command and by a script that
//! shares nothing with it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::{missing_module, missing_users};
use tests::upstream::Upstream;
use tests::{Gateway, Outcome, Result, Script, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "vf3_a_proof_verifies_with_the_key_alone_for_us_and_for_others",
            missing_module("cryptography"),
            proofs,
        ),
        trial(
            "vf6_a_copied_ledger_verifies_and_a_changed_one_is_named",
            missing_module("cryptography"),
            copies,
        ),
        trial(
            "lg3_a_ledger_that_lost_its_end_starts_only_after_an_accepted_loss",
            missing_module("cryptography"),
            loss,
        ),
        trial("rr3_bundles_of_records_need_a_right_of_their_own", missing_users(), rights),
    ]
}

/// A command that must end with `code`; what it wrote to stdout.
fn expect(outcome: Result<Outcome>, code: i32) -> Result<String> {
    let outcome = outcome?;
    check!(
        outcome.code == code,
        "ended with {}, not {code}:\n{}{}",
        outcome.code,
        outcome.stdout,
        outcome.stderr
    );
    Ok(outcome.stdout)
}

/// A gateway with a few decisions; returns the id of one.
fn audited() -> Result<(Gateway, Upstream, String)> {
    let upstream = Upstream::echo();
    let gateway = Gateway::before(upstream.address)?;
    let tls = gateway.identity()?;
    for _ in 0..5 {
        let (status, _) = gateway.curl(&tls, "/orders", &[])?;
        check!(status == 200, "the call got {status}");
    }
    let records = gateway.records("kind=decision&action=http:GET")?;
    let id = records.first().and_then(|record| record["id"].as_str()).ok_or("no decision")?.to_owned();
    let begun = Instant::now();
    while gateway.ask("GET", &format!("/v1/decisions/{id}"), &[], None)?.body["log"]["provable"] != true {
        check!(begun.elapsed() < Duration::from_secs(10), "the record is not provable");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok((gateway, upstream, id))
}

fn keep(gateway: &Gateway, what: &str, file: &Path) -> Result {
    fs::write(file, expect(gateway.cli(&["decisions", what]), 0)?)?;
    Ok(())
}

fn says(name: &[&str]) -> Result<Value> {
    Ok(Script::run("log_check", name)?.pop().ok_or("the script said nothing")?)
}

fn proofs() -> Result {
    let (gateway, _upstream, id) = audited()?;
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (proof, key) = (path("one.tlog-proof"), path("main.vkey"));
    keep(&gateway, "keys", Path::new(&key))?;
    let told = expect(gateway.cli(&["decisions", "prove", &id, "--out", &proof]), 0)?;
    check!(told.contains("proved in"), "{told}");
    // Nobody is asked from here on.
    drop(gateway);
    let portcullis = |arguments: &[&str]| -> Result<Outcome> {
        let output = std::process::Command::new(tests::binary::portcullis()).args(arguments).output()?;
        Ok(output.into())
    };
    let told = expect(portcullis(&["decisions", "verify", &proof, "--key", &key]), 0)?;
    check!(told.contains(&id) && told.contains("result      proved"), "{told}");
    let other = says(&["proof", &proof, &key])?;
    check!(other["ok"] == true, "another implementation refuses the proof: {other}");

    let good = fs::read(&proof)?;
    for at in (0..good.len()).step_by(good.len() / 40) {
        let mut bad = good.clone();
        bad[at] ^= 4;
        fs::write(&proof, &bad)?;
        expect(portcullis(&["decisions", "verify", &proof, "--key", &key]), 1)?;
    }
    Ok(())
}

/// Copies the ledger as a backup does.
fn copy(from: &Path, to: &Path) -> Result {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?
        } else {
            fs::copy(entry.path(), target).map(drop)?
        }
    }
    Ok(())
}

fn copies() -> Result {
    let (mut gateway, _upstream, _) = audited()?;
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (key, kept) = (path("main.vkey"), path("march.cp"));
    keep(&gateway, "keys", Path::new(&key))?;
    keep(&gateway, "checkpoint", Path::new(&kept))?;
    let online =
        expect(gateway.cli(&["decisions", "verify", "--key", &key, "--since-checkpoint", &kept]), 0)?;
    check!(online.contains("consistent  with") && online.contains("intact and complete"), "{online}");
    let from = std::str::from_utf8(&fs::read(&kept)?)?.lines().nth(1).unwrap_or_default().to_owned();
    let grown = gateway.ask("GET", &format!("/v1/log/consistency?from={from}"), &[], None)?;
    check!(grown.status == 200 && grown.body["path"].is_array(), "{grown:?}");

    gateway.terminate()?;
    let ledger = dir.path().join("ledger");
    copy(&gateway.dir().join("data/ledger"), &ledger)?;
    let dir_of = ledger.display().to_string();
    let offline = ["decisions", "verify", "--dir", &dir_of, "--key", &key, "--since-checkpoint", &kept];
    let told = expect(gateway.cli(&offline), 0)?;
    check!(told.contains("0 running, 0 gaps") && told.contains("intact and complete"), "{told}");
    let other = says(&["tiles", &dir_of, &key])?;
    check!(other["ok"] == true, "another implementation refuses the tiles: {other}");

    let mut files: Vec<_> =
        fs::read_dir(ledger.join("wal"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    let file = files.first().ok_or("no file")?;
    let good = fs::read(file)?;
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(file, &bad)?;
    let told = expect(gateway.cli(&offline), 1)?;
    check!(told.contains("wrong       index ") && told.contains(".wal` at byte "), "{told}");
    check!(told.contains("checksum is wrong"), "{told}");
    fs::write(file, &good)?;
    expect(gateway.cli(&offline), 0)?;
    fs::remove_file(ledger.join("checkpoint"))?;
    expect(gateway.cli(&offline), 3)?;
    Ok(())
}

fn loss() -> Result {
    let (mut gateway, _upstream, _) = audited()?;
    gateway.terminate()?;
    let told = expect(gateway.cli(&["decisions", "accept-loss"]), 0)?;
    check!(told.contains("nothing was changed"), "{told}");
    let wal = gateway.dir().join("data/ledger/wal");
    let mut files: Vec<_> = fs::read_dir(&wal)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    let last = files.last().ok_or("no file")?;
    let length = fs::metadata(last)?.len();
    fs::OpenOptions::new().write(true).open(last)?.set_len(length - 20)?;
    let before = gateway.log().len();
    check!(gateway.restart().is_err(), "it runs with a ledger that is shorter than its checkpoint");
    let log = gateway.log();
    let said = log.get(before..).unwrap_or_default();
    check!(said.contains("PC6020") && said.contains("signed checkpoint covers"), "{said}");
    let told = expect(gateway.cli(&["decisions", "accept-loss"]), 0)?;
    check!(told.contains("decisions/main/2 begins"), "{told}");
    gateway.restart()?;
    let records = gateway.records("kind=administration")?;
    let is_told = records.iter().any(|record| record["body"]["operation"] == "decisions.accept_loss");
    check!(is_told, "the accepted loss is not on record: {records:?}");
    let keys = gateway.ask("GET", "/v1/log/keys", &[], None)?;
    check!(keys.body["origin"] == "example.org/decisions/main/2", "{keys:?}");
    // What was cut off is a declared gap.
    let told = expect(gateway.cli(&["decisions", "verify"]), 4)?;
    check!(told.contains("crash at most") && told.contains("intact, not gap-free"), "{told}");
    Ok(())
}

fn rights() -> Result {
    let upstream = Upstream::echo();
    let gateway =
        Gateway::build().user(4_711, &["viewer"]).user(4_712, &["auditor"]).site(upstream.address).start()?;
    expect(gateway.cli_as(4_711, &["decisions", "checkpoint"]), 0)?;
    let refused = gateway.cli_as(4_711, &["decisions", "verify"])?;
    check!(refused.code != 0 && refused.stderr.contains("decisions:verify"), "{refused:?}");
    expect(gateway.cli_as(4_712, &["decisions", "verify"]), 0)?;
    expect(gateway.cli_as(4_713, &["decisions", "checkpoint"]), 77)?;
    // A path in another spelling is no way around.
    let answer = gateway.ask("GET", "/v1/log/tile/%65ntries/000.p/1", &[], None)?;
    check!(answer.status == 404, "{answer:?}");
    Ok(())
}
