//! kill -9 at random moments under load, and damage between two starts: what the ledger of the shipped binary has afterwards,
//! and what `decisions verify` says of it (DL3). PORTCULLIS_TEST_SCALE times as many kills.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::missing_module;
use tests::upstream::Upstream;
use tests::{Gateway, Result, Script, binary, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "dl3_whatever_moment_it_is_killed_nothing_acknowledged_is_lost_and_every_other_number_is_declared",
            missing_module("cryptography"),
            killed,
        ),
        trial(
            "dl2_what_is_damaged_before_it_is_signed_is_set_aside_at_the_next_start_and_verify_says_so",
            missing_module("cryptography"),
            damaged,
        ),
    ]
}

/// POST is durable; GET is `best_effort` without a policy that says more.
const POLICIES: &str = r#"
@id("web-all")
permit (principal == Workload::"spiffe://example.org/web", action in Action::"call", resource);
@id("writes")
@audit("durable")
permit (principal == Workload::"spiffe://example.org/web", action == Action::"http:POST", resource);
"#;

/// A gateway that tells callers every decision id.
fn telling() -> Result<(Gateway, Upstream)> {
    let upstream = Upstream::echo();
    let gateway = Gateway::build()
        .policy(POLICIES)
        .decisions("reveal_decision_id = \"always\"")
        .site(upstream.address)
        .start()?;
    Ok((gateway, upstream))
}

/// Numbers by chance; a failure names where they began.
struct Chance(u64);

impl Chance {
    fn new() -> Result<Chance> {
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
        Ok(Chance(u64::try_from(nanos)? | 1))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn killed() -> Result {
    let scale: u64 =
        std::env::var("PORTCULLIS_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1);
    let mut chance = Chance::new()?;
    let begun = chance.0;
    kills(6 * scale, &mut chance).map_err(|error| format!("chance from {begun}: {error}").into())
}

fn kills(rounds: u64, chance: &mut Chance) -> Result {
    let (mut gateway, _upstream) = telling()?;
    let tls = gateway.identity()?.display().to_string();
    let address = gateway.address.to_string();
    let (mut durable, mut given) = (BTreeSet::new(), BTreeSet::new());
    let mut kept = Kept::begin(&gateway)?;
    for round in 0..rounds {
        kept.note(&gateway, round)?;
        let mut writes = Load::start(&address, &tls, ("POST", 3))?;
        let reads = Load::start(&address, &tls, ("GET", 2))?;
        writes.answers(1 + chance.below(120))?;
        std::thread::sleep(Duration::from_micros(chance.below(80_000)));
        gateway.kill()?;
        durable.extend(writes.end()?);
        given.extend(reads.end()?);
        // A start that does not get far.
        if round % 2 == 1 {
            let mut child = Command::new(binary::portcullis())
                .args(["run", "-c"])
                .arg(gateway.dir().join("portcullis.toml"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            std::thread::sleep(Duration::from_micros(chance.below(600_000)));
            child.kill()?;
            child.wait()?;
        }
        gateway.restart()?;
    }
    check!(durable.len() as u64 >= rounds, "the load was real: {}", durable.len());

    let records = gateway.records("kind=decision&since=1d")?;
    let stored: BTreeMap<&str, &Value> =
        records.iter().filter_map(|record| Some((record["id"].as_str()?, record))).collect();
    check!(stored.len() == records.len(), "an id is on record twice");
    let lost: Vec<_> = durable.iter().filter(|id| !stored.contains_key(id.as_str())).collect();
    check!(lost.is_empty(), "{} of {} durable records are gone: {lost:?}", lost.len(), durable.len());

    // Every number that was given out is on record or in a gap of its lane, and no gap holds one that is on record.
    let gaps = gateway.cli(&["decisions", "gaps", "--limit", "1000", "-o", "json"])?;
    check!([0, 4].contains(&gaps.code), "{gaps:?}");
    let gaps: Value = serde_json::from_str(&gaps.stdout)?;
    let gaps: Vec<Gap> = gaps["items"].as_array().into_iter().flatten().filter_map(Gap::read).collect();
    let mut streams = BTreeMap::new();
    for (id, record) in &stored {
        let stream = (record["stream"]["boot"].to_string(), record["stream"]["lane"].to_string());
        let seq = seq_of(id)?;
        let within = gaps.iter().find(|gap| gap.is_of(&stream) && gap.has(seq));
        check!(within.is_none(), "{id} is on record and in the gap {within:?}");
        streams.insert(stream_of(id)?, stream);
    }
    for id in given.iter().filter(|id| !stored.contains_key(id.as_str())) {
        let seq = seq_of(id)?;
        // Of a stream of which nothing is left its number is all there is.
        let stream = streams.get(stream_of(id)?);
        let is_declared =
            gaps.iter().any(|gap| gap.has(seq) && stream.is_none_or(|stream| gap.is_of(stream)));
        check!(is_declared, "{id}, number {seq}, was answered and is nowhere: {gaps:?}");
    }

    // The auditor's side, of the process and of a copy. What it asks of is one number after the other.
    let verified = gateway.cli(&["decisions", "verify", "-o", "json"])?;
    let told: Value = serde_json::from_str(&verified.stdout)?;
    check!([0, 4].contains(&verified.code) && told["faults"] == serde_json::json!([]), "{verified:?}");
    let proved = kept.check(&gateway, &durable.iter().map(String::as_str).collect::<Vec<_>>())?;
    let recoveries = gateway.records("kind=recovery&since=1d")?;
    check!(recoveries.len() as u64 >= rounds, "{rounds} kills, {} recoveries", recoveries.len());
    println!(
        "{rounds} kills: {} durable answers, all on record; {} other answers, {} of them in the {} gaps and the rest on \
         record; {} of {} checkpoints looked at again and {proved} proofs checked, all of them true",
        durable.len(),
        given.len(),
        given.iter().filter(|id| !stored.contains_key(id.as_str())).count(),
        gaps.len(),
        kept.chosen().len(),
        kept.checkpoints.len()
    );
    Ok(())
}

/// What an auditor takes home before each kill: nothing that was signed may be untrue afterwards.
struct Kept {
    key: String,
    checkpoints: Vec<PathBuf>,
}

/// Checkpoints and proofs that are looked at again: each check reads the whole log.
const LOOKED_AT: usize = 8;

impl Kept {
    fn begin(gateway: &Gateway) -> Result<Kept> {
        let key = gateway.dir().join("kept.vkey");
        fs::write(&key, gateway.cli(&["decisions", "keys"])?.stdout)?;
        Ok(Kept { key: key.display().to_string(), checkpoints: Vec::new() })
    }

    fn note(&mut self, gateway: &Gateway, round: u64) -> Result {
        let file = gateway.dir().join(format!("{round}.cp"));
        // The first comes a moment after the start.
        let begun = Instant::now();
        let mut told = gateway.cli(&["decisions", "checkpoint"])?;
        while told.code != 0 && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(100));
            told = gateway.cli(&["decisions", "checkpoint"])?;
        }
        check!(told.code == 0, "{told:?}");
        fs::write(&file, told.stdout)?;
        self.checkpoints.push(file);
        Ok(())
    }

    fn chosen(&self) -> Vec<&PathBuf> {
        spread(&self.checkpoints)
    }

    /// What was signed before kills is the beginning of what there is, and records of all times are proved by the key alone.
    /// Returns how many proofs there were.
    fn check(&self, gateway: &Gateway, ids: &[&str]) -> Result<usize> {
        for file in self.chosen() {
            let file = file.display().to_string();
            let told =
                gateway.cli(&["decisions", "verify", "--key", &self.key, "--since-checkpoint", &file])?;
            check!([0, 4].contains(&told.code), "{file}: {told:?}");
        }
        let proof = gateway.dir().join("one.tlog-proof").display().to_string();
        let ids = spread(ids);
        for id in &ids {
            let told = gateway.cli(&["decisions", "prove", id, "--out", &proof])?;
            check!(told.code == 0, "{id}: {told:?}");
            let told = gateway.cli(&["decisions", "verify", &proof, "--key", &self.key])?;
            check!(told.code == 0 && told.stdout.contains(*id), "{id}: {told:?}");
        }
        Ok(ids.len())
    }
}

/// Some of these from the first to the last.
fn spread<T>(all: &[T]) -> Vec<&T> {
    let step = all.len().div_ceil(LOOKED_AT).max(1);
    all.iter().rev().step_by(step).collect()
}

/// Calls over kept connections, and the decision ids of what was answered.
struct Load {
    script: Script,
    threads: usize,
    broken: usize,
    answered: Vec<String>,
}

impl Load {
    fn start(address: &str, tls: &str, (method, threads): (&str, usize)) -> Result<Load> {
        let count = threads.to_string();
        let script = Script::start("https_load", &[address, tls, method, &count, "120"])?;
        Ok(Load { script, threads, broken: 0, answered: Vec::new() })
    }

    fn line(&mut self) -> Result {
        let line = self.script.next(Duration::from_secs(20))?;
        self.broken += usize::from(line.get("broken").is_some() && line.get("thread").is_some());
        if line["status"] == 200 {
            self.answered.push(line["decision"].as_str().ok_or("an answer without decision id")?.to_owned());
        }
        Ok(())
    }

    /// Waits for so many answers.
    fn answers(&mut self, wanted: u64) -> Result {
        while (self.answered.len() as u64) < wanted {
            self.line()?;
        }
        Ok(())
    }

    /// All that was answered before the connections broke.
    fn end(mut self) -> Result<Vec<String>> {
        while self.broken < self.threads {
            self.line()?;
        }
        Ok(self.answered)
    }
}

/// Numbers of a lane that are declared missing.
#[derive(Debug)]
struct Gap {
    boot: String,
    lane: String,
    first: u64,
    last: u64,
}

impl Gap {
    fn read(gap: &Value) -> Option<Gap> {
        let number = |name: &str| gap[name].as_str()?.parse().ok();
        Some(Gap {
            boot: gap["boot"].to_string(),
            lane: gap["lane"].to_string(),
            first: number("first")?,
            last: number("last")?,
        })
    }

    fn is_of(&self, (boot, lane): &(String, String)) -> bool {
        (&self.boot, &self.lane) == (boot, lane)
    }

    fn has(&self, seq: u64) -> bool {
        (self.first..=self.last).contains(&seq)
    }
}

/// The part of an id that names its stream: 40 bits of Crockford base32.
fn stream_of(id: &str) -> Result<&str> {
    Ok(id.get(10..18).ok_or("no id")?)
}

/// The number of an id within its stream: its last 40 bits.
fn seq_of(id: &str) -> Result<u64> {
    const DIGITS: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digits = id.get(18..).ok_or("no id")?.chars();
    let value = |digit: char| DIGITS.find(digit).ok_or("no digit");
    let mut seq = 0;
    for digit in digits {
        seq = seq << 5 | u64::try_from(value(digit)?)?;
    }
    Ok(seq)
}

fn damaged() -> Result {
    let (mut gateway, _upstream) = telling()?;
    let tls = gateway.identity()?.display().to_string();
    let address = gateway.address.to_string();
    let key = gateway.dir().join("main.vkey");
    fs::write(&key, gateway.cli(&["decisions", "keys"])?.stdout)?;
    // Until it is killed in the second before a checkpoint, with records that none covers.
    let mut found = None;
    for _ in 0..20 {
        let mut load = Script::start("https_load", &[&address, &tls, "POST", "1", "120"])?;
        for _ in 0..10 {
            load.until(Duration::from_secs(20), |line| line["status"] == 200)?;
        }
        gateway.kill()?;
        found = unsigned(&gateway)?;
        if found.is_some() {
            break;
        }
        gateway.restart()?;
    }
    let (file, index, offset) = found.ok_or("every record was signed at once, each of 20 times")?;
    let mut bytes = fs::read(&file)?;
    // In the middle of the record, which has more than its head.
    let place = offset + 100;
    bytes[place] ^= 4;
    fs::write(&file, &bytes)?;

    gateway.restart()?;
    let aside = gateway.decisions(&["--kind", "administration"])?;
    let aside: Vec<_> =
        aside.iter().filter(|record| record["body"].to_string().contains("quarantine")).collect();
    check!(!aside.is_empty(), "nothing on record says that it was set aside\n{}", gateway.log());
    let kept = fs::read_dir(gateway.dir().join("data/ledger/quarantine"))?.count();
    check!(kept > 0, "its bytes were not kept");
    let signed = || -> Result<bool> {
        let verified = gateway.cli(&["decisions", "verify", "-o", "json"])?;
        let told: Value = serde_json::from_str(&verified.stdout)?;
        check!(told["faults"] == serde_json::json!([]) && verified.code == 4, "{verified:?}");
        let first = told["quarantined"][0]["first"].as_str().and_then(|first| first.parse::<u64>().ok());
        check!(first.is_none_or(|first| first == index), "index {index} was damaged: {told}");
        Ok(first.is_some() && told["result"] == "intact, with records set aside")
    };
    // Until a checkpoint covers what stands in its place.
    for _ in 0..50 {
        if signed()? {
            let status = gateway.http("/metrics")?.1;
            check!(status.contains("portcullis_ledger_quarantined 1"), "{status}");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Err("the report never named what was set aside".into())
}

/// A record that no checkpoint covers and that has others behind it: its file, its index, and where its frame begins.
fn unsigned(gateway: &Gateway) -> Result<Option<(PathBuf, u64, usize)>> {
    let ledger = gateway.dir().join("data/ledger");
    let note = fs::read_to_string(ledger.join("checkpoint")).unwrap_or_default();
    let signed: u64 = note.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0);
    let mut files: Vec<_> = fs::read_dir(ledger.join("wal"))?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let Some(file) = files.pop() else { return Ok(None) };
    let first = file.file_stem().and_then(|name| name.to_str()).and_then(|name| name.parse::<u64>().ok());
    let first = first.ok_or("a file of another name")?;
    let bytes = fs::read(&file)?;
    let (mut offset, mut index, mut frames) = (8, first, Vec::new());
    while let Some(length) = bytes.get(offset..offset + 4) {
        let length = usize::try_from(u32::from_le_bytes(length.try_into()?))?;
        if length == 0 || bytes.len() < offset + 8 + length {
            break;
        }
        frames.push((index, offset));
        (index, offset) = (index + 1, offset + 8 + length);
    }
    let open: Vec<_> = frames.into_iter().filter(|(index, _)| *index >= signed).collect();
    Ok(open.first().filter(|_| open.len() >= 4).map(|(index, offset)| (file, *index, *offset)))
}
