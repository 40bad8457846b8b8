//! What was answered survives kill -9; what is damaged is refused with its place; one process per data directory.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::forge::{base64_of, request_to};
use tests::peers::{missing, missing_module};
use tests::upstream::Upstream;
use tests::{Gateway, Result, Script, binary, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("du_decisions_that_were_answered_survive_kill_9", missing_module("cryptography"), decisions),
        trial(
            "re1_every_call_is_on_record_once_with_the_same_members_whether_allowed_or_denied",
            missing("curl"),
            alike,
        ),
        trial("du_entries_and_used_tokens_survive_kill_9", missing("openssl"), entries),
        trial("du_issuance_records_survive_kill_9", missing_module("spiffe"), issuances),
        trial("du_policy_versions_go_on_after_kill_9", None, versions),
        trial("fs6_a_second_process_names_the_owner_of_the_directory", missing("timeout"), second_process),
        trial("fs3_a_flipped_bit_in_the_journal_is_refused_with_its_place", None, flipped_bit),
        trial("du_a_deleted_index_is_rebuilt_from_the_journal", None, deleted_index),
    ]
}

/// A gateway that tells callers every decision id.
fn telling() -> Result<(Gateway, Upstream)> {
    let upstream = Upstream::echo();
    let gateway =
        Gateway::build().decisions("reveal_decision_id = \"always\"").site(upstream.address).start()?;
    Ok((gateway, upstream))
}

fn decisions() -> Result {
    let (mut gateway, upstream) = telling()?;
    let tls = gateway.identity()?.display().to_string();
    let address = gateway.address.to_string();
    let mut answered = BTreeSet::new();
    for round in 0..3 {
        let mut load = Script::start("https_load", &[&address, &tls, "POST", "4", "120"])?;
        let mut broken = 0;
        let mut fresh = 0;
        while broken < 4 {
            let line = load.next(Duration::from_secs(20))?;
            broken += usize::from(line.get("broken").is_some() && line.get("thread").is_some());
            if line["status"] == 200 {
                let id = line["decision"].as_str().ok_or("an answer without decision id")?;
                check!(answered.insert(id.to_owned()), "the decision id {id} was given twice");
                fresh += 1;
                // Off the beat of the commit interval, another way in each round.
                if fresh == 200 + round * 37 {
                    gateway.kill()?;
                }
            }
        }
        gateway.restart()?;
    }
    let records = gateway.records("kind=decision&action=http:POST")?;
    let stored: BTreeSet<_> =
        records.iter().filter_map(|record| record["id"].as_str().map(str::to_owned)).collect();
    check!(stored.len() == records.len(), "a decision id is on record twice");
    let lost: Vec<_> = answered.difference(&stored).collect();
    check!(lost.is_empty(), "{} of {} answered decisions are gone: {lost:?}", lost.len(), answered.len());
    check!(
        stored.len() >= upstream.calls(),
        "{} calls arrived, {} are on record",
        upstream.calls(),
        stored.len()
    );
    let recoveries = gateway.records("kind=recovery")?;
    check!(recoveries.len() == 3, "three crashes, {} recoveries on record", recoveries.len());
    Ok(())
}

fn alike() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::build()
        .policy("@id(\"reads\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"http:GET\", resource);\n")
        .site(upstream.address)
        .start()?;
    let tls = gateway.identity()?;
    for number in 0..8 {
        for (method, expected) in [("GET", 200), ("DELETE", 403)] {
            let (status, _) = gateway.curl(&tls, &format!("/item/{number}"), &["-X", method])?;
            check!(status == expected, "{method} got {status}");
        }
    }
    let members = |action: &str| -> Result<(usize, BTreeSet<String>)> {
        let records = gateway.records(&format!("kind=decision&action={action}"))?;
        let names = records.iter().flat_map(|record| record.as_object().into_iter().flatten());
        Ok((records.len(), names.map(|(name, _)| name.clone()).collect()))
    };
    let (allowed, denied) = (members("http:GET")?, members("http:DELETE")?);
    check!(allowed.0 == 8 && allowed == denied, "{allowed:?}\n{denied:?}");
    Ok(())
}

/// Identities of all entries.
fn listed(gateway: &Gateway) -> Result<BTreeSet<String>> {
    let list = gateway.json(&["entry", "list"])?;
    let items = list["items"].as_array().ok_or("no items")?;
    Ok(items.iter().filter_map(|entry| entry["spiffe_id"].as_str().map(str::to_owned)).collect())
}

fn create(gateway: &Gateway, name: &str) -> Result<String> {
    let id = format!("spiffe://example.org/{name}");
    let created = gateway.cli(&["entry", "create", "--id", &id, "--selector", "unix:uid:4711"])?;
    check!(created.code == 0, "{created:?}");
    Ok(id)
}

fn entries() -> Result {
    let mut gateway = Gateway::before(Upstream::echo().address)?;
    let request = gateway.dir().join("request.pem");
    request_to(&request, &gateway.dir().join("request.key"), &[])?;
    let csr = base64_of(&fs::read_to_string(&request)?);
    let attest = |gateway: &Gateway, token: &str| {
        let evidence = json!({ "evidence": { "type": "join_token", "token": token }, "csr": csr });
        gateway.ask("POST", "/v1/agents:attest", &[], Some(&evidence))
    };
    let token = |gateway: &Gateway| -> Result<String> {
        Ok(gateway.json(&["agent", "token"])?["token"].as_str().ok_or("no token")?.to_owned())
    };
    let mut wanted = listed(&gateway)?;
    for round in 0..3 {
        let (used, kept) = (token(&gateway)?, token(&gateway)?);
        let gone = create(&gateway, &format!("gone-{round}"))?;
        for number in 0..3 {
            wanted.insert(create(&gateway, &format!("kept-{round}-{number}"))?);
        }
        let list = gateway.json(&["entry", "list"])?;
        let found =
            list["items"].as_array().into_iter().flatten().find(|entry| entry["spiffe_id"] == gone.as_str());
        let id = found.and_then(|entry| entry["id"].as_str()).ok_or("not listed")?.to_owned();
        check!(gateway.cli(&["entry", "delete", &id, "--yes"])?.code == 0, "not deleted");
        let first = attest(&gateway, &used)?;
        check!(first.status == 200, "{first:?}");
        gateway.kill()?;
        gateway.restart()?;
        check!(listed(&gateway)? == wanted, "round {round}: {:?} instead of {wanted:?}", listed(&gateway)?);
        let again = attest(&gateway, &used)?;
        check!(again.status == 403, "a token was used twice across a crash: {again:?}");
        let late = attest(&gateway, &kept)?;
        check!(late.status == 200, "an unused token was lost in the crash: {late:?}");
    }
    Ok(())
}

fn issuances() -> Result {
    let mut gateway = Gateway::before(Upstream::echo().address)?;
    let uid = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self")?);
    let mut serials = BTreeSet::new();
    for round in 0..3 {
        let mut peer = Script::start("spiffe_client", &["watch", &gateway.workload_socket(), "60"])?;
        let before = peer.next(Duration::from_secs(20))?;
        let id = format!("spiffe://example.org/late-{round}");
        let entry = json!({ "spiffe_id": id, "selectors": [format!("unix:uid:{uid}")] });
        check!(gateway.ask("POST", "/v1/entries", &[], Some(&entry))?.status == 201, "no entry");
        let of = |update: &Value| -> Vec<String> {
            let svids = update["svids"].as_array().into_iter().flatten();
            svids.filter_map(|svid| svid["serial"].as_str().map(str::to_owned)).collect()
        };
        let update = peer.until(Duration::from_secs(20), |update| of(update).len() > of(&before).len())?;
        gateway.kill()?;
        serials.extend(of(&before));
        serials.extend(of(&update));
        gateway.restart()?;
    }
    let records = gateway.records("kind=authority")?;
    let issued = records.iter().filter(|record| record["body"]["event"] == "issued");
    let serial = |text: &str| text.trim_start_matches('0').to_owned();
    let recorded: BTreeSet<_> =
        issued.filter_map(|record| record["body"]["details"]["serial"].as_str().map(serial)).collect();
    let lost: Vec<_> = serials.difference(&recorded).collect();
    check!(lost.is_empty(), "{} of {} issued SVIDs are not on record: {lost:?}", lost.len(), serials.len());
    Ok(())
}

fn versions() -> Result {
    let mut gateway = Gateway::before(Upstream::echo().address)?;
    let second = "@id(\"second\")\npermit (principal == Workload::\"spiffe://example.org/second\", action, resource);\n";
    check!(gateway.publish("second.cedar", second)? == 2, "the second version is not 2");
    gateway.kill()?;
    gateway.restart()?;
    check!(
        gateway.policies_version()? == 2,
        "the same policies got the number {}",
        gateway.policies_version()?
    );
    gateway.kill()?;
    let third = second.replace("second", "third");
    fs::write(gateway.dir().join("policies/third.cedar"), &third)?;
    gateway.restart()?;
    check!(
        gateway.policies_version()? == 3,
        "an edit while down got the number {}",
        gateway.policies_version()?
    );
    check!(
        gateway.publish("fourth.cedar", &third.replace("third", "fourth"))? == 4,
        "the fourth version is not 4"
    );
    gateway.kill()?;
    fs::write(gateway.dir().join("policies/third.cedar"), "permit (")?;
    gateway.restart()?;
    check!(gateway.policies_version()? == 4, "a broken edit while down changed what is in force");
    Ok(())
}

fn second_process() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let output = Command::new("timeout")
        .arg("20")
        .arg(binary::portcullis())
        .args(["run", "-c"])
        .arg(gateway.dir().join("portcullis.toml"))
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    check!(
        !output.status.success() && output.status.code() != Some(124),
        "a second process runs: {}",
        output.status
    );
    check!(said.contains(&gateway.pid().to_string()), "the owner {} is not named: {said}", gateway.pid());
    check!(gateway.http("/readyz")?.0 == 200, "the first process suffered");
    Ok(())
}

/// The one segment of a young journal.
fn segment(gateway: &Gateway) -> Result<PathBuf> {
    let journal = gateway.dir().join("data/state/journal");
    let mut files: Vec<_> = fs::read_dir(&journal)?.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "log"));
    check!(files.len() == 1, "one segment is expected: {files:?}");
    files.pop().ok_or_else(|| "no segment".into())
}

fn flipped_bit() -> Result {
    let mut gateway = Gateway::before(Upstream::echo().address)?;
    for number in 0..10 {
        create(&gateway, &format!("batch-{number}"))?;
    }
    gateway.kill()?;
    let file = segment(&gateway)?;
    let good = fs::read(&file)?;
    for (part, bit) in [(2, 0), (3, 7), (5, 3)] {
        let mut bad = good.clone();
        let place = good.len() / part;
        bad[place] ^= 1 << bit;
        fs::write(&file, &bad)?;
        let before = gateway.log().len();
        let error = match gateway.restart() {
            Ok(()) => return Err(format!("it runs with a flipped bit at {place}").into()),
            Err(error) => error.to_string(),
        };
        let log = gateway.log();
        let said = log.get(before..).unwrap_or_default();
        check!(said.contains(&file.display().to_string()), "the file is not named: {said}{error}");
        check!(said.contains("offset"), "the offset is not told: {said}");
        check!(fs::read(&file)? == bad, "the damaged file was changed");
    }
    fs::write(&file, &good)?;
    gateway.restart()?;
    check!(listed(&gateway)?.len() == 11, "{:?}", listed(&gateway)?);
    Ok(())
}

fn deleted_index() -> Result {
    let mut gateway = Gateway::before(Upstream::echo().address)?;
    for number in 0..5 {
        create(&gateway, &format!("batch-{number}"))?;
    }
    let (wanted, keys) = (listed(&gateway)?, gateway.json(&["ca", "show"])?);
    gateway.kill()?;
    fs::remove_dir_all(gateway.dir().join("data/state/index"))?;
    gateway.restart()?;
    check!(listed(&gateway)? == wanted, "{:?} instead of {wanted:?}", listed(&gateway)?);
    check!(gateway.json(&["ca", "show"])? == keys, "the authority changed its keys");
    create(&gateway, "afterwards")?;
    gateway.kill()?;
    gateway.restart()?;
    check!(listed(&gateway)?.len() == wanted.len() + 1, "{:?}", listed(&gateway)?);
    Ok(())
}
