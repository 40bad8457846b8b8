//! A push of policies every second for minutes, under load, to an enforcer that follows: what no call may notice, told for
//! every call (PS5). `just soak-push MINUTES`; not part of the ordinary run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use super::load::{account, calls, connector};
use super::permit;
use crate::feed::{follow, key};
use crate::trial;

/// How many minutes; without it there is no such trial.
const MINUTES: &str = "PORTCULLIS_SOAK_MINUTES";
const PACE: Duration = Duration::from_secs(1);

pub(super) fn trials() -> Vec<Trial> {
    match std::env::var(MINUTES) {
        Ok(_) => vec![trial("ps5_a_push_every_second_loses_no_call_and_mixes_none", None, soak)],
        Err(_not_asked_for) => Vec::new(),
    }
}

fn soak() -> Result {
    let time = Duration::from_secs_f64(60.0 * std::env::var(MINUTES)?.parse::<f64>()?);
    let upstream = Upstream::echo();
    let publisher = Gateway::before(upstream.address)?;
    let follower = follow(&publisher, &key(&publisher)?, &upstream)?;
    let tls = connector(&follower.identity()?)?;
    let (stop, address) = (Arc::new(AtomicBool::new(false)), follower.address);
    let until = Arc::clone(&stop);
    let client = std::thread::spawn(move || calls(&tls, address, &until));
    let mut versions = BTreeMap::from([(publisher.policies_version()?, ("web-all".to_owned(), "allow"))]);
    let mut took = Vec::new();
    let begun = Instant::now();
    let pushed = (0..).take_while(|_| begun.elapsed() < time).try_for_each(|push: usize| -> Result {
        let start = Instant::now();
        let id = format!("push-{push}");
        let (who, effect) = if push.is_multiple_of(2) { ("nobody", "deny") } else { ("web", "allow") };
        let version = publisher.publish("web.cedar", &permit(&id, who, 0))?;
        versions.insert(version, (id, effect));
        while follower.policies_version()? < version {
            check!(start.elapsed() < 10 * PACE, "v{version} is not in force at the follower");
        }
        took.push(start.elapsed());
        std::thread::sleep(PACE.saturating_sub(start.elapsed()));
        Ok(())
    });
    stop.store(true, Ordering::SeqCst);
    let answers = client.join().map_err(|_| "the client panicked")??;
    pushed?;
    check!(answers.keys().all(|status| [0, 200, 403].contains(status)), "other answers: {answers:?}");
    let judged = account(&follower, &answers, &versions)?;
    took.sort();
    let at = |part: usize| took.get(took.len() * part / 100).or(took.last()).copied().unwrap_or_default();
    println!(
        "{} pushes, {} calls {answers:?}, {} versions judged; from the save until the command line sees it in force at the follower: p50 {:.0?}, p99 {:.0?}, max {:.0?}",
        took.len(),
        answers.values().sum::<usize>(),
        judged.len(),
        at(50),
        at(99),
        at(100),
    );
    // A busy machine may take two pushes as one at the follower, never fewer calls.
    check!(judged.len() * 10 >= took.len() * 9, "{} of {} versions judged a call", judged.len(), took.len());
    Ok(())
}
