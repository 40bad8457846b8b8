//! A person whose id is committed: found and revealed by who may, erased, and the log as provable as before.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::gateway::ALLOW_WEB;
use tests::upstream::Upstream;
use tests::{Gateway, Outcome, Result, check};

use super::{ALICE, asked, each_file, places, written};

/// Somebody whose office it is to reveal, and an auditor like any other.
const OFFICER: u32 = 4_711;
const AUDITOR: u32 = 4_712;

const POLICY: &str = r#"
@id("officer")
permit (principal == Portcullis::LocalUser::"4711",
  action in [Portcullis::Action::"decisions:reveal", Portcullis::Action::"decisions:erase"], resource);
"#;

fn expect(outcome: Result<Outcome>, code: i32) -> Result<String> {
    let outcome = outcome?;
    check!(outcome.code == code, "{outcome:?}");
    Ok(outcome.stdout)
}

pub(super) fn story() -> Result {
    let mut gateway = Gateway::build()
        .policy(&format!("{ALLOW_WEB}{POLICY}"))
        .user(OFFICER, &["auditor"])
        .user(AUDITOR, &["auditor"])
        .site(Upstream::echo().address)
        .section("[authzen]\nurl = \"https://localhost:8443\"\n")
        .start()?;
    let (id, other) = (asked(&gateway, ALICE)?, asked(&gateway, "bob")?);
    let again = asked(&gateway, ALICE)?;
    let path = |name: &str| gateway.dir().join(name).display().to_string();
    let (key, proof, opening, wrong) =
        (path("main.vkey"), path("one.tlog-proof"), path("opening.json"), path("wrong.json"));
    fs::write(&key, expect(gateway.cli(&["decisions", "keys"]), 0)?)?;

    // By default nothing on record joins two calls of a person.
    let commitment = |id: &str| -> Result<String> {
        let record = gateway.json(&["decisions", "get", id])?;
        Ok(record["principal"]["id"].as_str().unwrap_or_default().to_owned())
    };
    let (first, second) = (commitment(&id)?, commitment(&again)?);
    check!(first.starts_with("committed:") && first != second, "{first} {second}");

    // Who may reveal finds her by name and is told; another auditor is not, and neither learns that she is there.
    let query = ["decisions", "query", "--principal", ALICE, "-o", "json"];
    let rows = |text: &str| -> Result<usize> {
        let list: Value = serde_json::from_str(text)?;
        Ok(list["items"].as_array().map_or(0, Vec::len))
    };
    check!(rows(&expect(gateway.cli_as(OFFICER, &query), 0)?)? == 2, "the officer finds her calls");
    check!(rows(&expect(gateway.cli_as(AUDITOR, &query), 0)?)? == 0, "an auditor finds her by name");
    let reveal = ["decisions", "reveal", &id, "--purpose", "inquiry 7", "-o", "json"];
    let refused = gateway.cli_as(AUDITOR, &reveal)?;
    check!(refused.code == 77 && refused.stdout.contains("needs decisions:reveal"), "{refused:?}");
    let told = expect(gateway.cli_as(OFFICER, &reveal), 0)?;
    check!(told.contains(ALICE), "{told}");
    fs::write(&opening, &told)?;
    let reads = gateway.decisions(&["--kind", "read"])?;
    let read = reads.iter().find(|read| read["body"]["call"] == "reveal").ok_or("no record of it")?;
    let query = read["body"]["query"].as_str().unwrap_or_default();
    check!(query.contains(&id) && query.contains("state=clear"), "{read}");
    check!(read["body"]["purpose"] == "inquiry 7" && read["principal"]["id"] == "4711", "{read}");

    // Offline, with key, proof and opening. Those of another record do not fit.
    let begun = Instant::now();
    while gateway.json(&["decisions", "get", &id])?["log"]["provable"] != true {
        check!(begun.elapsed() < Duration::from_secs(20), "the record is not provable");
        std::thread::sleep(Duration::from_millis(100));
    }
    expect(gateway.cli(&["decisions", "prove", &id, "--out", &proof]), 0)?;
    let verify =
        |opening: &str| gateway.cli(&["decisions", "verify", &proof, "--key", &key, "--opening", opening]);
    let verified = expect(verify(&opening), 0)?;
    check!(verified.contains(&format!("principal.id is {ALICE}")), "{verified}");
    let foreign = ["decisions", "reveal", &other, "-o", "json"];
    fs::write(&wrong, expect(gateway.cli_as(OFFICER, &foreign), 0)?)?;
    let unfit = verify(&wrong)?;
    check!(unfit.code == 1 && unfit.stderr.contains("do not fit"), "{unfit:?}");

    // Erased: nobody is told any more, and that it was done is on record without her name.
    let erase = ["decisions", "erase", ALICE, "--purpose", "request 12"];
    let refused = gateway.cli_as(AUDITOR, &erase)?;
    check!(refused.code == 77 && refused.stderr.contains("decisions:erase"), "{refused:?}");
    check!(expect(gateway.cli_as(OFFICER, &erase), 0)?.contains("1 keys are gone"), "nothing was erased");
    let gone = expect(gateway.cli_as(OFFICER, &["decisions", "reveal", &id]), 4)?;
    check!(gone.contains("erased"), "{gone}");
    let still = expect(gateway.cli_as(OFFICER, &["decisions", "reveal", &other]), 0)?;
    check!(still.contains("bob"), "{still}");
    let found = gateway.decisions(&["--kind", "administration"])?;
    let record = found.iter().find(|record| record["body"]["operation"] == "erase").ok_or("no record")?;
    check!(record["body"]["details"]["reason"] == "request 12", "{record}");

    // Explanations and replays never open a commitment, so they say the same as before.
    let explained = gateway.json(&["explain", &id])?;
    check!(explained["not_recorded"][0] == "principal.id", "{explained}");

    // What was kept is worth what it was, and all of the log is proved, also after a restart.
    check!(expect(verify(&opening), 0)?.contains("opened"), "the kept opening");
    check!(commitment(&id)? == first, "the record was changed");
    check!(gateway.terminate()?.success(), "{}", gateway.log());
    let ledger = gateway.dir().join("data/ledger").display().to_string();
    let whole = gateway.cli(&["decisions", "verify", "--dir", &ledger, "--key", &key])?;
    check!(whole.code == 0 && whole.stdout.contains("intact"), "{whole:?}");
    let written = written(&gateway)?;
    check!(places(&written, "liddell").is_empty(), "a name in {:?}", places(&written, "liddell"));
    let mut names = 0;
    each_file(&gateway.dir().join("data/ledger/side"), &mut |_| {
        names += 1;
        Ok(())
    })?;
    check!(names > 0, "no file of the side store");
    gateway.restart()?;
    let gone = gateway.cli_as(OFFICER, &["decisions", "reveal", &again])?;
    check!(gone.code == 4, "{gone:?}");
    Ok(())
}
