//! How long records are kept, over the shipped binary: the limits, and legal holds, who sets one, who ends it, and that both
//! are on record.

use std::fs;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("lg5_a_hold_is_named_on_record_and_ended_by_an_approver_alone", missing("setpriv"), held),
        trial("lg4_the_limits_are_explained_changed_by_a_reload_and_a_bad_one_changes_nothing", None, limits),
    ]
}

fn limits() -> Result {
    let gateway = Gateway::build()
        .decisions("keep = { days = 90, size = \"1GiB\" }")
        .site(Upstream::echo().address)
        .start()?;
    for (key, hint) in
        [("decisions.keep.days", "from 1 to 36500"), ("decisions.keep.size", "512MiB at least")]
    {
        let explained = gateway.cli(&["config", "explain", key])?;
        check!(explained.code == 0 && explained.stdout.contains(hint), "{key}: {explained:?}");
    }
    let path = gateway.dir().join("portcullis.toml");
    let text = fs::read_to_string(&path)?;
    let reload = |to: &str| {
        fs::write(&path, text.replacen("days = 90, size = \"1GiB\"", to, 1))?;
        gateway.cli(&["config", "reload"])
    };
    for (bad, hint) in [
        ("days = 0", "0 is not a whole number from 1 to 36500"),
        ("size = \"64MiB\"", "64MiB is less than 512MiB"),
        ("weeks = 3", "weeks"),
    ] {
        let refused = reload(bad)?;
        check!(refused.code != 0 && refused.stderr.contains(hint), "{bad}: {refused:?}");
    }
    let reloaded = reload("days = 7, size = \"2GiB\"")?;
    check!(reloaded.code == 0 && reloaded.stdout.contains("decisions.keep.days"), "{reloaded:?}");
    let records = gateway.decisions(&["--kind", "administration"])?;
    let is_it = |record: &Value| record["body"].to_string().contains("decisions.keep.size");
    check!(records.iter().any(is_it), "it is on record: {records:?}");
    Ok(())
}

const APPROVER: u32 = 4001;
const AUDITOR: u32 = 4002;

fn names(gateway: &Gateway) -> Result<Vec<String>> {
    let list = gateway.json(&["decisions", "hold", "list"])?;
    let items = list["items"].as_array().ok_or("no list")?;
    Ok(items.iter().filter_map(|hold| hold["name"].as_str().map(str::to_owned)).collect())
}

fn held() -> Result {
    let mut gateway = Gateway::build()
        // A person who is committed is found by no hold.
        .decisions("people = \"hashed\"")
        .user(APPROVER, &["approver"])
        .user(AUDITOR, &["auditor"])
        .site(Upstream::echo().address)
        .start()?;
    let add = ["decisions", "hold", "add"];
    let times = ["case-7", "--purpose", "inquiry 7", "--since", "2026-01-01T00:00:00Z", "--until", "1h"];
    let hold = gateway.json(&[&add[..], &times].concat())?;
    check!(hold["range"]["since"] == "2026-01-01T00:00:00Z" && hold["reason"] == "inquiry 7", "{hold}");
    let person = ["case-8", "--purpose", "inquiry 8", "--principal", "alice@corp.example", "--deny"];
    let hold = gateway.json(&[&add[..], &person].concat())?;
    check!(hold["filter"]["effect"] == "deny" && !hold.to_string().contains("alice"), "{hold}");
    check!(
        gateway.cli(&[&add[..], &["case-9", "--purpose", "x", "--first", "5", "--last", "9"]].concat())?.code
            == 0,
        "a range of indexes"
    );

    for (wrong, hint) in [
        (["case-7", "--purpose", "again", "--deny"].as_slice(), "a hold `case-7` already"),
        (&["case-x", "--purpose", "x", "--path", "/orders"], "is no filter of a hold"),
        (&["case-x", "--purpose", "x", "--first", "9", "--last", "5"], "ends before it begins"),
    ] {
        let refused = gateway.cli(&[&add[..], wrong].concat())?;
        check!(refused.code != 0 && refused.stderr.contains(hint), "{wrong:?}: {refused:?}");
    }
    let refused = gateway.cli_as(AUDITOR, &[&add[..], &["mine", "--purpose", "x"]].concat())?;
    check!(refused.code == 77, "an auditor: {refused:?}");

    check!(gateway.terminate()?.success(), "{}", gateway.log());
    gateway.restart()?;
    check!(names(&gateway)? == ["case-7", "case-8", "case-9"], "{:?}", names(&gateway)?);
    let release = ["decisions", "hold", "release", "case-7"];
    for (who, outcome) in
        [("the operator", gateway.cli(&release)?), ("an auditor", gateway.cli_as(AUDITOR, &release)?)]
    {
        check!(outcome.code == 77, "{who}: {outcome:?}");
    }
    check!(names(&gateway)?.len() == 3, "a hold is gone");
    let released = gateway.cli_as(APPROVER, &release)?;
    check!(released.code == 0 && released.stdout.contains("released case-7"), "{released:?}");
    check!(names(&gateway)? == ["case-8", "case-9"], "{:?}", names(&gateway)?);
    let unknown = gateway.cli_as(APPROVER, &release)?;
    check!(unknown.code == 3 && unknown.stderr.contains("no hold `case-7`"), "{unknown:?}");

    let records = gateway.decisions(&["--kind", "administration"])?;
    let of = |operation: &str| -> Vec<&Value> {
        records.iter().filter(|record| record["body"]["operation"] == operation).collect()
    };
    let [released] = of("release")[..] else { return Err(format!("one release is due: {records:?}").into()) };
    check!(released["principal"]["id"].as_str() == Some(&*APPROVER.to_string()), "{released}");
    check!(released["body"]["details"]["name"] == "case-7", "{released}");
    let holds = of("hold");
    check!(
        holds.len() == 3 && holds.iter().all(|hold| hold["principal"]["type"] == "Portcullis::LocalUser"),
        "{holds:?}"
    );
    check!(holds[2]["body"]["details"]["reason"] == json!("inquiry 7"), "{holds:?}");
    Ok(())
}
