//! What must not stand on record: secrets of calls in any file or answer, and names of people in a record.

mod erased;
mod planted;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use base_ports::SystemDisk;
use libtest_mimic::Trial;
use policies_decisions::{DirMaterial, Material};
use serde_json::{Value, json};
use tests::gateway::ALLOW_WEB;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("cm2_people_are_on_record_by_a_hash_and_found_by_their_name", None, people),
        trial("cm5_rr3_a_person_is_revealed_to_who_may_and_then_erased", missing("setpriv"), erased::story),
        trial("re5_planted_secrets_reach_no_file_and_no_answer", missing("curl"), planted::secrets),
    ]
}

const ALICE: &str = "alice.liddell@corp.example";

/// Puts the question of another enforcer whether a person may read the site; gives the id of the decision.
fn asked(gateway: &Gateway, who: &str) -> Result<String> {
    let question = json!({
        "subject": { "type": "User", "id": who },
        "action": { "name": "http:GET" },
        "resource": { "type": "Route", "id": "site" },
        "context": {
            "connection": { "mtls": false, "tls": 13, "source_ip": "10.0.0.7", "listener": "public", "protocol": "h2" },
            "request": { "method": "GET", "host": "localhost", "path": "/" },
        },
    });
    let answer = gateway.ask("POST", "/access/v1/evaluation", &[], Some(&question))?;
    check!(answer.status == 200 && answer.body["decision"] == false, "{answer:?}");
    Ok(answer.body["context"]["decision_id"].as_str().ok_or("no id")?.to_owned())
}

fn people() -> Result {
    let mut gateway = Gateway::build()
        .policy(ALLOW_WEB)
        .site(Upstream::echo().address)
        .decisions("people = \"hashed\"")
        .section("[authzen]\nurl = \"https://localhost:8443\"\n")
        .start()?;
    let id = asked(&gateway, ALICE)?;
    asked(&gateway, "bob")?;
    let record = gateway.json(&["decisions", "get", &id])?;
    let hash = record["principal"]["id"].as_str().unwrap_or_default().to_owned();
    check!(record["principal"]["type"] == "User" && hash.starts_with("hashed:"), "{record}");
    for name in [ALICE, hash.as_str()] {
        let found = gateway.decisions(&["--principal", name])?;
        check!(found.len() == 1 && found[0]["id"] == id, "{name}: {found:?}");
    }
    check!(gateway.decisions(&["--principal", "alice"])?.is_empty(), "an id is found by a part of it");

    // What needs the name says so, and what does not goes on.
    let explained = gateway.cli(&["explain", &id, "-o", "json"])?;
    check!(explained.code == 0, "{explained:?}");
    let why: Value = serde_json::from_str(&explained.stdout)?;
    check!(why["not_recorded"] == json!(["principal.id"]), "{why}");
    for command in [["policy", "suggest", &id].as_slice(), &["policy", "new", "--test", &id]] {
        let refused = gateway.cli(command)?;
        check!(refused.code == 3 && refused.stderr.contains("not on record in clear"), "{refused:?}");
    }
    let impact = gateway.cli(&["policy", "impact", "-o", "json"])?;
    let told: Value = serde_json::from_str(&impact.stdout)?;
    check!(told["undecided"].as_u64() >= Some(2) && told.to_string().contains("principal.id"), "{impact:?}");
    let export = gateway.cli(&["decisions", "export", "--principal", ALICE, "--format", "csv"])?;
    check!(export.code == 0 && export.stdout.contains(&hash), "{export:?}");

    // The same hash after a restart; and the name is in no record, not even of those who asked for it.
    check!(gateway.terminate()?.success(), "{}", gateway.log());
    gateway.restart()?;
    let again = asked(&gateway, ALICE)?;
    let found = gateway.decisions(&["--principal", ALICE])?;
    check!(found.len() == 2 && found[0]["id"] == again, "{found:?}");
    check!(gateway.terminate()?.success(), "{}", gateway.log());
    for text in [export.stdout.as_str(), &record.to_string(), &why.to_string(), &told.to_string()] {
        check!(!text.contains("liddell"), "a name in {text}");
    }
    let written = written(&gateway)?;
    check!(places(&written, &hash).len() > 2, "the scan finds nothing");
    check!(places(&written, "liddell").is_empty(), "a name in {:?}", places(&written, "liddell"));
    Ok(())
}

/// Everything that a gateway which has ended has written below its data directory: each file as it is, and each record of
/// the ledger, also of compressed segments, with the file it stands in.
fn written(gateway: &Gateway) -> Result<Vec<(String, String)>> {
    let data = gateway.dir().join("data");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut all = Vec::new();
    let material = DirMaterial::open(&data.join("ledger"), Arc::new(SystemDisk))?;
    let damage = material.leaves(&mut |found| {
        all.push((format!("{} record {}", found.file, found.index), text(found.leaf)))
    })?;
    check!(damage.is_none() && !all.is_empty(), "{damage:?}");
    each_file(&data, &mut |path| {
        all.push((path.display().to_string(), text(&fs::read(path)?)));
        Ok(())
    })?;
    Ok(all)
}

/// Where that text stands.
fn places<'a>(written: &'a [(String, String)], text: &str) -> Vec<&'a str> {
    written.iter().filter(|(_, all)| all.contains(text)).map(|(place, _)| place.as_str()).collect()
}

fn each_file(dir: &Path, each: &mut impl FnMut(&Path) -> Result) -> Result {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            each_file(&entry.path(), each)?;
        } else if kind.is_file() {
            each(&entry.path())?;
        }
    }
    Ok(())
}
