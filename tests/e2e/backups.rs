//! Data that is not what it was: a backup that is restored, a segment of the ledger and a day of its sums that are damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::{missing, missing_module};
use tests::upstream::Upstream;
use tests::{Gateway, Outcome, Result, Script, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "fs8_a_restored_backup_goes_on_from_where_it_was_and_a_kept_checkpoint_tells_what_it_lacks",
            missing("curl"),
            restored,
        ),
        trial(
            "fs3_a_damaged_segment_is_made_good_from_the_write_ahead_file_and_calls_are_judged",
            missing_module("cryptography"),
            damaged,
        ),
        trial(
            "qy5_a_report_without_a_day_that_was_counted_says_so_and_ends_with_4",
            missing("curl"),
            uncounted,
        ),
    ]
}

const PATIENCE: Duration = Duration::from_secs(20);

fn files(dir: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut files: Vec<_> = fs::read_dir(dir)?.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    Ok(files)
}

/// Makes a directory what another one is.
fn mirror(from: &Path, to: &Path) -> Result {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    check!(copied.success(), "{} is not copied", from.display());
    Ok(())
}

/// The last signed checkpoint, once it covers what there is now.
fn checkpoint(gateway: &Gateway, name: &str) -> Result<String> {
    let last = gateway.decisions(&["--all", "--limit", "1"])?;
    let newest = last.first().and_then(|record| record["log"]["index"].as_str());
    let newest: u64 = newest.ok_or("no record")?.parse()?;
    let begun = Instant::now();
    loop {
        let note = gateway.cli(&["decisions", "checkpoint"])?;
        let size = note.stdout.lines().nth(1).and_then(|size| size.parse::<u64>().ok());
        if size > Some(newest) {
            let file = gateway.dir().join(name);
            fs::write(&file, note.stdout)?;
            return Ok(file.display().to_string());
        }
        check!(begun.elapsed() < PATIENCE, "no checkpoint covers index {newest}: {note:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn restored() -> Result {
    let mut gateway = Gateway::before(Upstream::echo().address)?;
    let tls = gateway.identity()?;
    let call = |gateway: &Gateway, path: &str| -> Result {
        check!(gateway.curl(&tls, path, &[])?.0 == 200, "{path}");
        Ok(())
    };
    let verify = |gateway: &Gateway, kept: &str| -> Result<Outcome> {
        gateway.cli(&["decisions", "verify", "--since-checkpoint", kept])
    };
    call(&gateway, "/before")?;
    let early = checkpoint(&gateway, "early.cp")?;
    check!(gateway.terminate()?.success(), "{}", gateway.log());
    let (data, backup) = (gateway.dir().join("data"), gateway.dir().join("backup"));
    mirror(&data, &backup)?;
    gateway.restart()?;
    call(&gateway, "/after")?;
    let late = checkpoint(&gateway, "late.cp")?;
    check!(verify(&gateway, &late)?.code == 0, "before the backup is restored");
    check!(gateway.terminate()?.success(), "{}", gateway.log());

    mirror(&backup, &data)?;
    gateway.restart()?;
    call(&gateway, "/again")?;
    let again = gateway.decisions(&["--action", "http:GET"])?;
    let paths: Vec<_> = again.iter().filter_map(|record| record["request"]["path"].as_str()).collect();
    check!(paths == ["/again", "/before"], "{paths:?}");
    // No number of a stream is given twice: each start has its own.
    let boot = |record: &Value| record["stream"]["boot"].to_string();
    check!(boot(&again[0]) != boot(&again[1]), "{again:?}");
    // Whoever kept a checkpoint of the time before the backup goes on; one of the time after it knows that it is gone.
    check!(verify(&gateway, &early)?.code == 0, "{:?}", verify(&gateway, &early)?);
    let forked = verify(&gateway, &late)?;
    check!(forked.code == 1 && forked.stdout.contains("the kept"), "{forked:?}");

    // A part of a backup is no state: the journal would go back behind what stands beside it.
    check!(
        gateway
            .cli(&["entry", "create", "--id", "spiffe://example.org/new", "--selector", "unix:uid:4711"])?
            .code
            == 0,
        "no entry"
    );
    check!(gateway.terminate()?.success(), "{}", gateway.log());
    mirror(&backup.join("state/journal"), &data.join("state/journal"))?;
    let before = gateway.log().len();
    check!(gateway.restart().is_err(), "it runs with a journal that went back");
    let log = gateway.log();
    let said = log.get(before..).unwrap_or_default();
    check!(said.contains("journal"), "{said}");
    Ok(())
}

fn damaged() -> Result {
    let mut gateway = Gateway::build()
        .policy("@id(\"read\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"http:GET\", resource);\n")
        .site(Upstream::echo().address)
        .start()?;
    let tls = gateway.identity()?;
    // Some blocks of 256.
    let mut load = Script::start(
        "https_load",
        &[&gateway.address.to_string(), &tls.display().to_string(), "GET", "2", "120"],
    )?;
    for _ in 0..700 {
        load.until(PATIENCE, |line| line["status"] == 200)?;
    }
    drop(load);
    let kept = checkpoint(&gateway, "kept.cp")?;
    check!(gateway.terminate()?.success(), "{}", gateway.log());
    let segments = files(&gateway.dir().join("data/ledger/seg"), ".seg")?;
    let segment = segments.first().ok_or("no segment")?;
    let mut bytes = fs::read(segment)?;
    // Within the first block, which begins behind the header.
    bytes[4_096 + 200] ^= 16;
    fs::write(segment, &bytes)?;

    gateway.restart()?;
    for (method, status) in [("GET", 200), ("POST", 403)] {
        let answer = gateway.curl(&tls, "/still", &["-X", method])?;
        check!(answer.0 == status, "{method} got {answer:?}");
    }
    // What the segment holds stands in a write-ahead file too, until all of that file is put away.
    let asked =
        gateway.cli(&["decisions", "query", "--action", "http:GET", "--limit", "1000", "-o", "json"])?;
    let list: Value = serde_json::from_str(&asked.stdout)?;
    let count = list["items"].as_array().map_or(0, Vec::len);
    check!(asked.code == 0 && count > 700, "{count} records, exit {}", asked.code);
    let verified = gateway.cli(&["decisions", "verify", "--since-checkpoint", &kept])?;
    check!(verified.code == 0, "{verified:?}");
    Ok(())
}

fn uncounted() -> Result {
    let mut gateway = Gateway::before(Upstream::echo().address)?;
    let tls = gateway.identity()?;
    check!(gateway.curl(&tls, "/counted", &[])?.0 == 200, "a call");
    let report =
        |gateway: &Gateway, form: &str| gateway.cli(&["decisions", "report", "--by", "action", "-o", form]);
    let begun = Instant::now();
    loop {
        let told = report(&gateway, "json")?;
        check!(told.code == 0, "{told:?}");
        if told.stdout.contains("http:GET") {
            break;
        }
        check!(begun.elapsed() < PATIENCE, "the call is in no report: {told:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
    check!(gateway.terminate()?.success(), "{}", gateway.log());
    for day in files(&gateway.dir().join("data/ledger/rollup"), "")? {
        let mut bytes = fs::read(&day)?;
        if day.ends_with("through") {
            continue;
        }
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&day, bytes)?;
    }
    gateway.restart()?;
    let told = report(&gateway, "json")?;
    let document: Value = serde_json::from_str(&told.stdout)?;
    check!(told.code == 4 && document["partial"] == true, "{told:?}");
    check!(document["incomplete"][0]["uncounted"] == Value::Null, "{document}");
    let told = report(&gateway, "table")?;
    check!(
        told.code == 4 && told.stdout.contains("an unknown number of records are not counted"),
        "{told:?}"
    );
    Ok(())
}
