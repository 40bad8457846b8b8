//! A directory and the API on the same policies: who counts when, across restarts, and what a start may number (ST10).

use std::fs;

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use super::permit;
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("st10_what_was_activated_stays_until_the_directory_is_saved_again", missing("curl"), both),
        trial("a_start_numbers_one_snapshot_and_an_unchanged_restart_none", None, starts),
    ]
}

fn numbers(gateway: &Gateway) -> Result<(u64, u64)> {
    let status = gateway.json(&["status"])?;
    let of = |name: &str| status.pointer(name).and_then(Value::as_u64).ok_or_else(|| format!("{status}"));
    Ok((of("/policies/version")?, of("/policies/snapshot")?))
}

fn both() -> Result {
    let mut gateway = Gateway::before(Upstream::echo().address)?;
    let tls = gateway.identity()?;
    check!(gateway.curl(&tls, "/", &[])?.0 == 200, "the directory grants nothing");
    let other = gateway.dir().join("other");
    fs::create_dir(&other)?;
    fs::write(other.join("web.cedar"), permit("nobody-gets", "nobody", 0))?;
    let path = other.display().to_string();
    for step in [&["policy", "push", &path][..], &["policy", "commit", "c1"], &["policy", "activate", "v2"]] {
        let outcome = gateway.cli(step)?;
        check!(outcome.code == 0, "{step:?}: {outcome:?}");
    }
    check!(gateway.curl(&tls, "/", &[])?.0 == 403, "v2 is not in force");
    gateway.restart()?;
    let tls = gateway.identity()?;
    check!(numbers(&gateway)?.0 == 2, "the unchanged directory came back at a restart");
    check!(gateway.curl(&tls, "/", &[])?.0 == 403, "the unchanged directory counts again");
    gateway.publish("web.cedar", &permit("web-again", "web", 0))?;
    check!(gateway.curl(&tls, "/", &[])?.0 == 200, "a save does not count");
    let back = gateway.cli(&["policy", "rollback", "v2", "--message", "too much"])?;
    check!(back.code == 0, "{back:?}");
    check!((numbers(&gateway)?.0, gateway.curl(&tls, "/", &[])?.0) == (4, 403), "v4 is not what v2 was");
    Ok(())
}

fn starts() -> Result {
    let entries = "[[ca.entry]]\nspiffe_id = \"spiffe://example.org/tagged\"\nselectors = [\"unix:uid:4242\"]\nnamespace = \"shop\"\n";
    let mut gateway = Gateway::build().policy(&permit("web", "web", 0)).entries(entries).start()?;
    check!(numbers(&gateway)? == (1, 1), "a start numbered {:?}", numbers(&gateway)?);
    gateway.restart()?;
    check!(numbers(&gateway)? == (1, 1), "an unchanged restart numbered {:?}", numbers(&gateway)?);
    Ok(())
}
