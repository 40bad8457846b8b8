//! Another configuration for a running gateway: routes come, go and move under load and no call notices; what is wrong
//! or needs a restart changes nothing and says so everywhere (RD-01, CF9, FS2).

mod listeners;
mod saved;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::{missing, missing_users};
use tests::upstream::Upstream;
use tests::{Gateway, Outcome, Result, check};

use crate::policies::load;
use crate::trial;

const RELOADS: usize = 20;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("rd_01_twenty_reloads_under_load_lose_no_call_and_mix_nothing", missing("curl"), under_load),
        trial(
            "rd_01_a_running_call_ends_on_the_route_that_a_reload_took_away",
            missing("curl"),
            running_call,
        ),
        trial("fs2_a_bad_configuration_changes_nothing_and_is_shown_everywhere", missing("curl"), bad_file),
        trial("cf9_what_needs_a_restart_is_named_and_nothing_is_half_applied", missing("curl"), restart),
        trial("cf9_a_mode_is_changed_by_a_reload_on_open_connections_too", missing("curl"), mode),
        trial("cf9_a_viewer_reloads_nothing", missing_users(), rights),
    ];
    trials.extend(listeners::trials());
    trials.extend(saved::trials());
    trials
}

/// A gateway and the text of its configuration.
struct Story {
    gateway: Gateway,
    text: String,
}

impl Story {
    fn start(gateway: Gateway) -> Result<Story> {
        let text = fs::read_to_string(gateway.dir().join("portcullis.toml"))?;
        Ok(Story { gateway, text })
    }

    fn write(&self, text: &str) -> Result {
        Ok(fs::write(self.gateway.dir().join("portcullis.toml"), text)?)
    }

    /// The configuration with one text in place of another.
    fn with(&self, from: &str, to: &str) -> Result<String> {
        check!(self.text.contains(from), "`{from}` is not in {}", self.text);
        Ok(self.text.replacen(from, to, 1))
    }

    fn reload(&self) -> Result<Outcome> {
        self.gateway.cli(&["config", "reload"])
    }

    fn reloaded(&self, text: &str) -> Result<String> {
        self.write(text)?;
        let outcome = self.reload()?;
        check!(outcome.code == 0, "not reloaded: {outcome:?}\n{}", self.gateway.log());
        Ok(outcome.stdout)
    }

    fn hang_up(&self) -> Result {
        Command::new("kill").args(["-HUP", &self.gateway.pid().to_string()]).status()?;
        Ok(())
    }

    fn standing(&self) -> Result<Value> {
        let status = self.gateway.json(&["status"])?;
        Ok(status.get("configuration").cloned().unwrap_or_default())
    }

    /// Waits until the configuration says what `is_so` wants.
    fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let end = Instant::now() + Duration::from_secs(10);
        let mut standing = Value::Null;
        while Instant::now() < end {
            standing = self.standing()?;
            if is_so(&standing) {
                return Ok(standing);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("{what}: not within 10 s: {standing}\n{}", self.gateway.log()).into())
    }

    fn snapshot(&self) -> Result<u64> {
        let status = self.gateway.json(&["status"])?;
        status.pointer("/policies/snapshot").and_then(Value::as_u64).ok_or_else(|| "no snapshot".into())
    }
}

fn route(name: &str, service: &str, path: &str, to: &Upstream) -> String {
    format!(
        "[[enforcer.route]]\nname = \"{name}\"\nservice = \"{service}\"\nmatch = {{ path = \"{path}\" }}\nto = [\"http://{}\"]\n",
        to.address
    )
}

/// Calls on open HTTP/2 connections and calls that each connect anew, while routes change: by command, then by signal.
fn under_load() -> Result {
    let (one, two) = (Upstream::echo(), Upstream::echo());
    let story = Story::start(Gateway::before(one.address)?)?;
    let tls = story.gateway.identity()?;
    let connector = load::connector(&tls)?;
    let (stop, address) = (Arc::new(AtomicBool::new(false)), story.gateway.address);
    let until = Arc::clone(&stop);
    let client = std::thread::spawn(move || load::calls(&connector, address, &until));

    let more = "[[enforcer.service]]\nname = \"more\"\nnamespace = \"shop\"\n";
    let site = format!("to = [\"http://{}\"]", one.address);
    let sections = |text: &str, added: &str| text.replacen("[decisions]", &format!("{added}[decisions]"), 1);
    let moved = story.with(&site, &format!("to = [\"http://{}\"]", two.address))?;
    // As it was; moved to another endpoint; with a narrower route of another service; that route moved in turn.
    let variants = [
        story.text.clone(),
        moved.clone(),
        sections(&story.text, &format!("{more}{}", route("flip", "more", "/flip", &two))),
        sections(&moved, &format!("{more}{}", route("flip", "more", "/flip", &one))),
    ];
    let fresh = AtomicUsize::new(0);
    let reloads = std::thread::scope(|scope| {
        let calling = scope.spawn(|| -> Result {
            while !stop.load(Ordering::SeqCst) {
                let (status, body) = story.gateway.curl(&tls, "/flip", &[])?;
                check!(status == 200, "a new connection got {status}: {body}");
                fresh.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        });
        let reloads = (1..=RELOADS).try_for_each(|number| -> Result {
            let text = &variants[number % variants.len()];
            if number % 2 == 0 {
                story.reloaded(text)?;
            } else {
                story.write(text)?;
                story.hang_up()?;
                story.until("a reload by signal", |standing| standing["in_force"] == standing["on_disk"])?;
            }
            std::thread::sleep(Duration::from_millis(30));
            Ok(())
        });
        stop.store(true, Ordering::SeqCst);
        calling.join().map_err(|_| "curl panicked")??;
        reloads
    });
    let answers = client.join().map_err(|_| "the client panicked")??;
    reloads?;
    let (total, fresh) = (answers.values().sum::<usize>(), fresh.load(Ordering::SeqCst));
    check!(answers.keys().all(|status| *status == 200), "lost calls: {answers:?}");
    check!(total > 500 && fresh > 10, "too little was seen: {answers:?}, {fresh} new connections");
    check!(one.calls() + two.calls() == total + fresh, "{} and {} arrived", one.calls(), two.calls());
    check!(one.calls() > 0 && two.calls() > 0, "one endpoint got everything");

    // One snapshot number, one meaning of a path (MO9).
    let records = load::all_decisions(&story.gateway)?;
    check!(records.len() == total + fresh, "{} of {} calls on record", records.len(), total + fresh);
    let mut meant: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for record in &records {
        let snapshot = record["versions"]["snapshot"].as_u64().ok_or("no snapshot")?;
        meant.entry(snapshot).or_default().insert(record["resource"].to_string());
    }
    check!(meant.values().all(|resources| resources.len() == 1), "a snapshot with two meanings: {meant:?}");
    check!(meant.len() > RELOADS / 2, "few snapshots judged: {meant:?}");
    let names: BTreeSet<_> = meant.values().flatten().collect();
    check!(names.len() == 2, "both routes judged: {names:?}");

    // Each reload is on record, with who asked.
    let records = story.gateway.records("kind=administration")?;
    let reloads: Vec<_> =
        records.iter().filter(|record| record.to_string().contains("config.reload")).collect();
    check!(reloads.len() == RELOADS, "{} reloads on record: {records:?}", reloads.len());
    let (_, metrics) = story.gateway.http("/metrics")?;
    let line = format!("portcullis_config_reloads_total{{result=\"applied\"}} {RELOADS}");
    check!(metrics.contains(&line), "no `{line}` in {metrics}");
    Ok(())
}

fn running_call() -> Result {
    let (one, two) = (Upstream::echo(), Upstream::echo());
    let story = Story::start(
        Gateway::build()
            .service("site", &[])
            .service("slow", &[])
            .route("site", "site", "{ path = \"/\" }", &format!("http://{}", one.address))
            .route("slow", "slow", "{ path = \"/slow\" }", &format!("http://{}", two.address))
            .start()?,
    )?;
    let tls = story.gateway.identity()?;
    let body = story.gateway.dir().join("body");
    fs::write(&body, vec![b'x'; 60_000])?;
    let upload = format!("@{}", body.display());
    // About three seconds of upload.
    let slow = ["--data-binary", upload.as_str(), "--limit-rate", "20k", "-H", "expect:"];
    std::thread::scope(|scope| {
        let running = scope.spawn(|| story.gateway.curl(&tls, "/slow", &slow));
        std::thread::sleep(Duration::from_millis(800));
        let service = "[[enforcer.service]]\nname = \"slow\"\nnamespace = \"shop\"\nmethods = []\n";
        let without = story.with(&route("slow", "slow", "/slow", &two), "")?.replacen(service, "", 1);
        let told = story.reloaded(&without)?;
        check!(told.contains("enforcer.route[slow], enforcer.service[slow]"), "what changed: {told}");
        check!(!running.is_finished(), "the call was over too soon to show anything");
        let (status, body) = story.gateway.curl(&tls, "/slow", &[])?;
        check!(status == 200 && one.calls() == 1, "a new call takes the new route: {status} {body}");
        let (status, body) = running.join().map_err(|_| "curl panicked")??;
        check!(status == 200 && body.len() > 60_000, "the running call was lost: {status}");
        check!(two.calls() == 1, "it went where it was sent");
        Ok(())
    })
}

fn bad_file() -> Result {
    let upstream = Upstream::echo();
    let story = Story::start(Gateway::before(upstream.address)?)?;
    let tls = story.gateway.identity()?;
    let (before, snapshot) = (story.standing()?, story.snapshot()?);
    check!(before["in_force"] == before["on_disk"] && before["in_force"].is_string(), "{before}");
    let line = format!("to = [\"http://{}\"]", upstream.address);
    let faults = [
        (story.with(&line, &format!("{line}\nbalancr = \"p2c\""))?, "PC0103", "did you mean `balancer`?"),
        (story.with("service = \"site\"", "service = \"sitte\"")?, "PC0105", "did you mean `site`?"),
        (format!("{}[[enforcer.route\n", story.text), "PC0101", "not valid TOML"),
    ];
    for (text, code, way_out) in &faults {
        story.write(text)?;
        let outcome = story.reload()?;
        check!(outcome.code == 3, "ended with {}: {outcome:?}", outcome.code);
        for part in [*code, *way_out, "portcullis.toml:", "PC0120", "the configuration in force stays"] {
            check!(outcome.stderr.contains(part), "no `{part}` in {}", outcome.stderr);
        }
        let standing = story.standing()?;
        check!(standing["in_force"] == before["in_force"] && standing["on_disk"].is_null(), "{standing}");
        check!(standing["errors"][0]["code"] == *code, "{standing}");
        check!(standing["last_reload"]["result"] == "failed", "{standing}");
        let shown = story.gateway.cli(&["status"])?.stdout;
        check!(shown.contains("on disk, refused: ") && shown.contains(code), "status shows: {shown}");
        check!(story.gateway.cli(&["check"])?.code != 0, "check finds nothing");
        check!(story.gateway.curl(&tls, "/", &[])?.0 == 200, "calls go on");
    }
    story.hang_up()?;
    let end = Instant::now() + Duration::from_secs(10);
    let counted = format!("result=\"failed\"}} {}", faults.len() + 1);
    while !story.gateway.http("/metrics")?.1.contains(&counted) {
        check!(Instant::now() < end, "the failed SIGHUP is not counted");
        std::thread::sleep(Duration::from_millis(20));
    }
    check!(story.gateway.log().contains("config_reload_failed"), "not in the log: {}", story.gateway.log());
    check!(story.snapshot()? == snapshot, "nothing was published");
    let told = story.reloaded(&story.text)?;
    check!(told.contains("in force already"), "after mending: {told}");
    let standing = story.standing()?;
    check!(
        standing["last_reload"]["result"] == "unchanged" && standing["errors"] == before["errors"],
        "{standing}"
    );
    Ok(())
}

fn restart() -> Result {
    let (one, two) = (Upstream::echo(), Upstream::echo());
    let story = Story::start(Gateway::before(one.address)?)?;
    let tls = story.gateway.identity()?;
    let before = story.standing()?;
    let text = story.with("workers = 2", "workers = 3")?;
    // In the same file a change that a reload could make.
    let text = text.replace(&one.address.to_string(), &two.address.to_string());
    story.write(&text)?;
    let outcome = story.reload()?;
    check!(outcome.code == 3, "ended with {}: {outcome:?}", outcome.code);
    for part in ["PC0121", "enforcer.workers needs a restart", "restart portcullis run"] {
        check!(outcome.stderr.contains(part), "no `{part}` in {}", outcome.stderr);
    }
    check!(story.gateway.curl(&tls, "/", &[])?.0 == 200 && two.calls() == 0, "half of it was applied");
    let standing = story.standing()?;
    check!(
        standing["in_force"] == before["in_force"] && standing["on_disk"] != before["in_force"],
        "{standing}"
    );
    check!(standing["waits_for_restart"][0] == "enforcer.workers", "{standing}");
    check!(standing["waits_for_reload"][0] == "enforcer.route[site].to", "{standing}");
    let shown = story.gateway.cli(&["status"])?.stdout;
    check!(shown.contains("needs a restart for enforcer.workers"), "status shows: {shown}");
    let explained = story.gateway.cli(&["config", "explain", "enforcer.workers"])?.stdout;
    check!(explained.contains("takes effect: at a restart"), "{explained}");
    let explained = story.gateway.cli(&["config", "explain", "enforcer.route.timeout"])?.stdout;
    check!(explained.contains("takes effect: at a reload"), "{explained}");
    Ok(())
}

fn mode() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::build()
        .site(upstream.address)
        .policy("@id(\"reads\")\npermit (principal, action == Action::\"http:GET\", resource);\n")
        .enforcer("mode = \"observe\"")
        .start()?;
    let story = Story::start(gateway)?;
    let tls = story.gateway.identity()?;
    check!(story.gateway.curl(&tls, "/", &["-X", "DELETE"])?.0 == 200, "observed");
    // Two calls of one connection; the second is sent when the mode has changed.
    std::thread::scope(|scope| {
        let upload = ["-X", "DELETE", "--limit-rate", "20k", "-H", "expect:", "--data-binary"];
        let body = format!("@{}", story.gateway.dir().join("body").display());
        fs::write(story.gateway.dir().join("body"), vec![b'x'; 40_000])?;
        let second = format!("https://localhost:{}/second", story.gateway.address.port());
        let (tls, gateway) = (&tls, &story.gateway);
        let both =
            scope.spawn(move || gateway.curl(tls, "/first", &[&upload[..], &[&body, &second]].concat()));
        std::thread::sleep(Duration::from_millis(500));
        let told = story.reloaded(&story.with("mode = \"observe\"", "mode = \"enforce\"")?)?;
        check!(told.contains("enforcer.mode"), "what changed: {told}");
        check!(story.gateway.json(&["status"])?["mode"] == "enforce", "status");
        let (last, text) = both.join().map_err(|_| "curl panicked")??;
        check!(last == 403 || text.contains("\n403"), "an open connection is still observed: {last} {text}");
        check!(story.gateway.curl(tls, "/", &["-X", "DELETE"])?.0 == 403, "enforced");
        check!(story.gateway.curl(tls, "/", &[])?.0 == 200, "permitted");
        Ok(())
    })
}

fn rights() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::build().site(upstream.address).user(61_001, &["viewer", "author"]).start()?;
    let story = Story::start(gateway)?;
    let before = story.standing()?;
    story.write(&story.with("path = \"/\"", "path = \"/other\"")?)?;
    let outcome = story.gateway.cli_as(61_001, &["config", "reload"])?;
    check!(outcome.code == 77 && outcome.stderr.contains("config:write"), "{outcome:?}");
    check!(story.standing()?["in_force"] == before["in_force"], "it was reloaded all the same");
    let asked = story.gateway.decisions(&["--action", "config:write"])?;
    check!(asked.len() == 1 && asked[0]["effect"] == "deny", "on record: {asked:?}");
    check!(story.reload()?.code == 0, "root may");
    Ok(())
}
