//! What auditors hold: proofs, checkpoints and copies of the ledger, checked offline, by our command and by a script that
//! shares nothing with it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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
        trial("sq4_a_killed_gateway_is_recovered_with_its_gaps_and_alarms_nobody", None, killed),
        trial("vf6_a_sample_is_recomputed_by_stock_cedar_and_a_mismatch_is_named", None, recomputed),
        trial("vf2_who_holds_the_old_key_of_the_log_follows_to_the_new_one", None, rotated),
        trial("sq5_what_enforcers_signed_is_checked_offline_against_a_bundle", None, heartbeats),
        trial("sq5_a_process_that_is_an_authority_alone_signs_its_heartbeats_too", None, authority),
        trial(
            "lg3_a_ledger_that_lost_its_end_starts_only_after_an_accepted_loss",
            missing_module("cryptography"),
            loss,
        ),
        trial(
            "vf6_an_export_with_proofs_verifies_offline_for_us_and_for_others",
            missing_module("cryptography"),
            exported,
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

fn heartbeats() -> Result {
    let (mut gateway, _upstream, _) = audited()?;
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (key, ledger, bundle, other) =
        (path("main.vkey"), path("ledger"), path("roots.pem"), path("other.pem"));
    keep(&gateway, "keys", Path::new(&key))?;
    fs::copy(gateway.identity()?.join("bundle.pem"), &bundle)?;
    gateway.terminate()?;
    copy(&gateway.dir().join("data/ledger"), Path::new(&ledger))?;
    let offline = ["decisions", "verify", "--dir", &ledger, "--key", &key];
    let verify =
        |bundle: &str, code| expect(gateway.cli(&[&offline[..], &["--bundle", bundle]].concat()), code);
    let told = verify(&bundle, 0)?;
    check!(told.contains("heartbeats  1 signed by 1 SVIDs, which lead to "), "{told}");
    // Without authorities it says what it could not check.
    let told = expect(gateway.cli(&offline), 0)?;
    check!(told.contains("1 signed by 1 SVIDs, not compared with any authority (--bundle)"), "{told}");
    // A trust domain of the same name, and another root.
    let stranger = Gateway::before(Upstream::echo().address)?;
    fs::copy(stranger.identity()?.join("bundle.pem"), &other)?;
    let told = verify(&other, 1)?;
    check!(told.contains("the heartbeat is not its enforcer's: its SVID is not trusted"), "{told}");
    verify(&key, 3)?;
    Ok(())
}

fn authority() -> Result {
    let mut gateway = Gateway::before(Upstream::echo().address)?;
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (key, ledger, bundle) = (path("main.vkey"), path("ledger"), path("roots.pem"));
    keep(&gateway, "keys", Path::new(&key))?;
    fs::copy(gateway.identity()?.join("bundle.pem"), &bundle)?;
    check!(gateway.terminate()?.success(), "{}", gateway.log());
    let file = gateway.dir().join("portcullis.toml");
    let text = fs::read_to_string(&file)?;
    let (before, rest) = text.split_once("[enforcer]").ok_or("no enforcer")?;
    let (_, after) = rest.split_once("[decisions]").ok_or("no decisions")?;
    fs::write(&file, format!("{before}[decisions]{after}"))?;
    gateway.restart()?;
    let records = gateway.decisions(&["--kind", "stream_open"])?;
    check!(records[0]["stream"]["enforcer"] == "spiffe://example.org/portcullis/ca", "{records:?}");
    check!(gateway.terminate()?.success(), "{}", gateway.log());
    copy(&gateway.dir().join("data/ledger"), Path::new(&ledger))?;
    let verify = ["decisions", "verify", "--dir", &ledger, "--key", &key, "--bundle", &bundle];
    let told = expect(gateway.cli(&verify), 0)?;
    check!(told.contains("heartbeats  2 signed by 2 SVIDs, which lead to "), "{told}");
    Ok(())
}

fn killed() -> Result {
    let (mut gateway, _upstream, _) = audited()?;
    let told = expect(gateway.cli(&["decisions", "streams"]), 0)?;
    check!(told.contains("running"), "{told}");
    expect(gateway.cli(&["decisions", "gaps"]), 0)?;
    gateway.kill()?;
    gateway.restart()?;
    let streams = gateway.json(&["decisions", "streams"])?;
    let states: Vec<_> =
        streams["items"].as_array().into_iter().flatten().filter_map(|it| it["state"].as_str()).collect();
    check!(states.len() == 2 && states.contains(&"recovered") && states.contains(&"running"), "{streams}");
    let gaps = expect(gateway.cli(&["decisions", "gaps"]), 4)?;
    check!(gaps.contains("crash"), "{gaps}");
    let checked = expect(gateway.cli(&["check"]), 0)?;
    check!(checked.contains("nothing lost, nobody silent, everything signed"), "{checked}");
    let (_, metrics) = gateway.http("/metrics")?;
    for line in [
        "portcullis_ledger_streams_silent 0",
        "portcullis_ledger_records_total{kind=\"decision\"} ",
        "portcullis_ledger_records_total{kind=\"recovery\"} 1",
        "portcullis_ledger_gaps_total{cause=\"crash\",exact=\"false\"} ",
        "portcullis_ledger_commit_duration_seconds_count ",
        "portcullis_ledger_checkpoint_age_seconds 0",
        "portcullis_ledger_tree_size ",
        "portcullis_decision_reads_total{call=\"streams\",result=\"ok\"} 1",
    ] {
        check!(metrics.contains(line), "no `{line}` in\n{metrics}");
    }
    Ok(())
}

fn recomputed() -> Result {
    let (gateway, _upstream, _) = audited()?;
    let told = expect(gateway.cli(&["decisions", "verify", "--recompute", "1000"]), 0)?;
    let line = told.lines().find(|line| line.starts_with("recomputed")).unwrap_or_default();
    check!(line.contains(" decisions by stock Cedar, ") && !line.contains(" 0 as recorded"), "{told}");
    let read = gateway.records("kind=read")?;
    check!(read.iter().any(|record| record["body"]["call"] == "verify"), "it is not on record: {read:?}");

    // A record that says the opposite of what was decided.
    let records = gateway.records("kind=decision&action=http:GET")?;
    let id = records.first().and_then(|record| record["id"].as_str()).ok_or("no decision")?.to_owned();
    let proof = gateway.ask("GET", &format!("/v1/decisions/{id}/proof"), &[], None)?.body;
    let leaf = proof["leaf"].as_str().ok_or("no leaf")?;
    let again = |leaf: &str| -> Result<Value> {
        let body = serde_json::json!({ "leaves": [leaf] });
        let answer = gateway.ask("POST", "/v1/decisions:verify", &[], Some(&body))?;
        check!(answer.status == 200, "{answer:?}");
        Ok(answer.body["results"][0].clone())
    };
    check!(again(leaf)?["result"] == "same", "{}", again(leaf)?);
    // In CBOR: 6 (effect) is 1, 7 (reason) is a text of six bytes.
    let mut bytes = STANDARD.decode(leaf)?;
    let (was, forged) = (b"\x06\x01\x07\x66permit", b"\x06\x00\x07\x66forbid");
    let at = bytes.windows(was.len()).position(|part| part == was).ok_or("no permit in the leaf")?;
    bytes[at..at + was.len()].copy_from_slice(forged);
    let told = again(&STANDARD.encode(bytes))?;
    check!(
        told["result"] == "different"
            && told["why"].as_str().is_some_and(|why| why.contains("recomputed allow")),
        "{told}"
    );
    check!(again("AAAA")?["result"] == "undecided", "{}", again("AAAA")?);
    Ok(())
}

fn rotated() -> Result {
    let (gateway, _upstream, id) = audited()?;
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (old, new, proof) = (path("old.vkey"), path("new.vkey"), path("one.tlog-proof"));
    keep(&gateway, "keys", Path::new(&old))?;
    let told = expect(gateway.cli(&["decisions", "keys", "rotate"]), 0)?;
    check!(
        told.lines().filter(|line| line.starts_with("example.org/decisions/main+")).count() == 2,
        "{told}"
    );
    fs::write(&new, told.lines().next().unwrap_or_default())?;
    check!(fs::read(&new)? != fs::read(&old)?, "it is the same key");
    let keys = gateway.ask("GET", "/v1/log/keys", &[], None)?.body;
    check!(keys["keys"][0]["until"].is_null() && keys["keys"][1]["until"].is_string(), "{keys}");
    let begun = Instant::now();
    while expect(gateway.cli(&["decisions", "checkpoint"]), 0)?.matches("— ").count() < 2 {
        check!(begun.elapsed() < Duration::from_secs(10), "the new key signs nothing");
        std::thread::sleep(Duration::from_millis(100));
    }
    for key in [&old, &new] {
        let told = expect(gateway.cli(&["decisions", "verify", "--key", key]), 0)?;
        check!(told.contains("key         ") && told.contains("intact and complete"), "{told}");
        expect(gateway.cli(&["decisions", "prove", &id, "--out", &proof]), 0)?;
        expect(gateway.cli(&["decisions", "verify", &proof, "--key", key]), 0)?;
    }
    let records = gateway.records("kind=administration")?;
    let change = records.iter().find(|record| record["body"]["operation"] == "decisions.rotate_key");
    check!(
        change.is_some_and(|record| record["principal"]["type"] == "Portcullis::LocalUser"),
        "{records:?}"
    );
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

fn exported() -> Result {
    let (mut gateway, _upstream, _) = audited()?;
    let tls = gateway.identity()?;
    // Under another version of the policies, and denied.
    let forbid = "@id(\"no-deletes\")\n@owner(\"shop\")\nforbid (principal, action == Action::\"http:DELETE\", resource);\n";
    gateway.publish("deletes.cedar", forbid)?;
    let (status, _) = gateway.curl(&tls, "/orders", &["-X", "DELETE"])?;
    check!(status == 403, "the call got {status}");
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (key, file, bad) = (path("main.vkey"), path("calls.bundle"), path("bad.bundle"));
    keep(&gateway, "keys", Path::new(&key))?;
    let export = ["decisions", "export", "--with-proofs", "--since", "1h", "--purpose", "case 7"];
    let bundle = expect(gateway.cli(&export), 0)?;
    fs::write(&file, &bundle)?;
    let read = gateway.records("kind=read")?;
    let exported = read.iter().find(|record| record["body"]["call"] == "export");
    check!(exported.is_some_and(|record| record["body"]["purpose"] == "case 7"), "{read:?}");

    // Offline: no process, the key alone.
    check!(gateway.terminate()?.success(), "{}", gateway.log());
    let told = expect(gateway.cli(&["decisions", "verify", &file, "--key", &key]), 0)?;
    check!(told.contains("v1, v2, by their texts in the file") && told.ends_with("proved\n"), "{told}");
    let checked = Script::run("log_check", &["bundle", &file, &key])?;
    let checked = checked.first().ok_or("nothing said")?;
    check!(checked["ok"] == true && checked["versions"] == serde_json::json!([1, 2]), "{checked}");
    check!(checked["denied"].as_u64().is_some_and(|denied| denied >= 1), "{checked}");
    check!(told.contains(&format!("{} proved", checked["entries"])), "{told} {checked}");

    // A policy that is not the one that judged, a record that is another, and a file that was cut off.
    let other = bundle.replacen("no-deletes", "no-delete5", 1);
    let entry = bundle.lines().find(|line| line.contains("\"Entry\"")).ok_or("no entry")?;
    let leaf = serde_json::from_str::<Value>(entry)?["leaf"].as_str().ok_or("no leaf")?.to_owned();
    let mut bytes = STANDARD.decode(&leaf)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let record = bundle.replacen(&leaf, &STANDARD.encode(&bytes), 1);
    let cut = bundle.get(..bundle.len() - 20).unwrap_or_default().to_owned();
    for (text, code, word) in
        [(other, 4, "texts are not in the file"), (record, 1, "not in the tree"), (cut, 1, "cut off")]
    {
        check!(text != bundle, "{word}: nothing was changed");
        fs::write(&bad, text)?;
        let told = expect(gateway.cli(&["decisions", "verify", &bad, "--key", &key]), code)?;
        check!(told.contains(word), "{word}: {told}");
        let checked = Script::run("log_check", &["bundle", &bad, &key])?;
        check!(checked.first().is_some_and(|checked| checked["ok"] == false), "{word}: {checked:?}");
    }
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
    // Each bundle that he was given is on record as a read of his.
    let reads = gateway.decisions(&["--kind", "read", "--principal", "4712"])?;
    let entries = reads.iter().find(|read| read["body"]["call"] == "entries");
    let given = entries.is_some_and(|read| read["body"]["count"].as_u64().is_some_and(|count| count > 0));
    check!(given && entries.is_some_and(|read| read["credential"]["kind"] == "local"), "{reads:?}");
    expect(gateway.cli_as(4_713, &["decisions", "checkpoint"]), 77)?;
    // Exports take a right of their own too, with proofs as without.
    let export = ["decisions", "export", "--with-proofs"];
    let refused = gateway.cli_as(4_711, &export)?;
    check!(refused.code == 77 && refused.stderr.contains("decisions:export"), "{refused:?}");
    expect(gateway.cli_as(4_712, &export), 0)?;
    // A path in another spelling is no way around.
    let answer = gateway.ask("GET", "/v1/log/tile/%65ntries/000.p/1", &[], None)?;
    check!(answer.status == 404, "{answer:?}");
    Ok(())
}
