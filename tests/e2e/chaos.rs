//! Everything that changes while calls come in, one kind of change after another, under one open-loop load that accounts for every
//! call (issue 4, "What it must show" 4; RD-01, UP-04). `just chaos-local` runs the long form, the ordinary run a short one.

mod changes;
mod kills;
pub(crate) mod load;
mod origin;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tests::peers::missing;
use tests::{Gateway, Result, check};

use crate::policies::load::all_decisions;
use crate::trial;
use load::{Kind, Seen};
use origin::Arrived;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "chaos_every_change_under_load_loses_no_call_and_answers_none_wrong",
            missing("openssl"),
            changes::all,
        ),
        trial(
            "up_04_chaos_of_kill_9_at_points_all_over_an_upgrade_refuses_no_call",
            missing("python3"),
            kills::all,
        ),
    ]
}

/// Calls that are always permitted, never, and as the policies say that are in force.
const KINDS: &[Kind] = &[
    Kind { path: "/ok", expects: &[200] },
    Kind { path: "/no", expects: &[403] },
    Kind { path: "/flip", expects: &[200, 403] },
];

/// How much of the long form is run: all of it at a scale of 20.
fn part_of(count: usize) -> usize {
    let scale =
        std::env::var("PORTCULLIS_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1_usize);
    (count * scale).div_ceil(20).min(count)
}

/// Policies under which `/flip` is permitted or not.
fn policy(flips: bool, number: usize) -> String {
    let permit = |id: &str, route: &str| {
        format!(
            "@id(\"{id}\")\npermit (principal == Workload::\"spiffe://example.org/web\", action in Action::\"call\", resource == Route::\"{route}\");\n"
        )
    };
    let flip = if flips { permit("flip", "flip") } else { String::new() };
    format!("{}{flip}// {number}\n", permit("ok", "ok"))
}

/// Every call was answered as it had to be, by a process that put it on record, and reached an origin exactly when it was
/// permitted. `flips` says for each version of the policies whether `/flip` was.
fn account(
    gateway: &Gateway,
    arrived: &Arrived,
    seen: &BTreeMap<&'static str, Seen>,
    flips: &BTreeMap<u64, bool>,
) -> Result {
    for (protocol, seen) in seen {
        println!(
            "{protocol}: {} calls, {:?}, {} connections, {} made again, {} cut, {} lost, slowest {:?}",
            seen.sent,
            seen.by_status,
            seen.connections,
            seen.again,
            seen.cut,
            seen.lost.len(),
            seen.slowest
        );
    }
    for (protocol, seen) in seen {
        let some: Vec<_> = seen.lost.iter().take(5).collect();
        check!(
            seen.lost.is_empty(),
            "{protocol}: {} lost of {}: {some:#?}\n{}",
            seen.lost.len(),
            seen.sent,
            gateway.log()
        );
        check!(seen.answered == seen.sent && seen.answered > 50, "{protocol}: {seen:?}");
    }
    let sum = |of: fn(&Seen) -> usize| seen.values().map(of).sum::<usize>();
    let (answered, cut, again) = (sum(|seen| seen.answered), sum(|seen| seen.cut), sum(|seen| seen.again));
    let end = Instant::now() + Duration::from_secs(90);
    let mut records = all_decisions(gateway)?;
    while records.len() < answered && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(500));
        records = all_decisions(gateway)?;
    }
    let judged = records.iter().filter(|record| record["phase"] != "rejudge").count();
    // One that broke off with its process may have been judged there.
    let most = if cut > 0 { answered + cut + again } else { answered };
    check!(
        (answered..=most).contains(&judged),
        "{answered} answers, {cut} cut, {judged} records\n{}",
        gateway.log()
    );
    let ids: std::collections::BTreeSet<_> = records.iter().map(|record| record["id"].to_string()).collect();
    check!(ids.len() == records.len(), "{} of {} ids are different", ids.len(), records.len());
    for record in &records {
        let version = record["versions"]["policies"].as_u64().ok_or("no version")?;
        let flip = flips.get(&version).ok_or_else(|| format!("an unknown version: {record}"))?;
        let resource = record["resource"].to_string();
        let permits = resource.contains("ok") || (resource.contains("flip") && *flip);
        check!((record["effect"] == "allow") == permits, "v{version}: {record}");
    }
    let arrived = arrived.lock().map_err(|_| "an origin panicked")?;
    let never = arrived.keys().find(|path| path.starts_with("/no"));
    check!(never.is_none(), "a call arrived that was never permitted: {never:?}");
    let permitted = arrived.keys().filter(|path| path.starts_with("/ok")).count();
    let calls = sum(|seen| seen.sent.div_ceil(KINDS.len()));
    check!(permitted == calls, "{permitted} of {calls} permitted calls arrived");
    Ok(())
}
