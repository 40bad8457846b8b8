//! The commands of docs/guide.md and of the README, run as written, in their order, on a fresh directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Outcome, Result, binary, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("the_guide_works_as_written", missing("curl").or_else(|| missing("jq")), guide)]
}

/// Every `portcullis ..` line of a document's shell blocks, without comment.
pub(crate) fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line.starts_with("```sh");
            continue;
        }
        let command = line.split(" # ").next().unwrap_or(line).split("     #").next().unwrap_or(line).trim();
        if inside && command.starts_with("portcullis ") {
            found.push(command.to_owned());
        }
    }
    found
}

struct Guide {
    dir: PathBuf,
    done: BTreeSet<String>,
    running: Option<Child>,
}

impl Drop for Guide {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Guide {
    /// Runs a line of the guide through a shell whose `portcullis` is the binary under test.
    fn run(&mut self, line: &str) -> Result<Outcome> {
        self.done.insert(line.split_whitespace().collect::<Vec<_>>().join(" "));
        self.shell(line)
    }

    fn shell(&self, line: &str) -> Result<Outcome> {
        let bin = binary::portcullis();
        let path = format!("{}:{}", bin.parent().unwrap_or(Path::new("/")).display(), std::env::var("PATH")?);
        let output = Command::new("sh")
            .args(["-c", line])
            .current_dir(&self.dir)
            .env("PATH", path)
            .stdin(Stdio::null())
            .output()?;
        Ok(output.into())
    }

    fn expect(&mut self, line: &str, code: i32) -> Result<String> {
        let outcome = self.run(line)?;
        check!(
            outcome.code == code,
            "`{line}` ended with {}, not {code}:\n{}{}",
            outcome.code,
            outcome.stdout,
            outcome.stderr
        );
        Ok(outcome.stdout)
    }
}

/// Waits until what chapter 6 wrote into the directory is a version, so that the change below starts from it.
fn settled(guide: &Guide) -> Result {
    let end = Instant::now() + Duration::from_secs(10);
    let name = "suggested_test.json";
    let written = std::fs::read_to_string(guide.dir.join("policies").join(name))?;
    while Instant::now() < end {
        let newest = guide.shell("portcullis policy pull check --yes")?;
        if newest.code == 0
            && std::fs::read_to_string(guide.dir.join("check").join(name)).is_ok_and(|text| text == written)
        {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err("what was suggested is not in force".into())
}

fn agents(guide: &mut Guide) -> Result {
    let token = guide.expect("portcullis agent token", 0)?;
    check!(token.contains("token    ") && token.contains("ca.listen"), "no other host reaches it: {token}");
    guide.expect("portcullis agent list", 0)?;
    Ok(())
}

fn tokens(guide: &mut Guide) -> Result {
    guide.expect("portcullis svid fetch --audience orders", 0)?;
    guide.expect("portcullis svid fetch --audience orders -o json | jq -r .items[0].token > token.jwt", 0)?;
    let valid = guide.expect("portcullis svid validate --audience orders token.jwt", 0)?;
    check!(valid.contains("valid: spiffe://example.org/web"), "validated: {valid}");
    let shown = guide.expect("portcullis svid inspect token.jwt", 0)?;
    check!(shown.contains("orders"), "inspected: {shown}");
    guide.expect("portcullis svid verify token.jwt --audience orders", 0)?;
    Ok(())
}

/// Another trust domain, whose endpoint is not there.
fn federation(guide: &mut Guide) -> Result {
    guide.expect("portcullis bundle show --format spiffe > ours.json", 0)?;
    let partner = crate::identity::federation::document("partner.org", 1, |_| {})?;
    std::fs::write(guide.dir.join("partner.json"), partner.to_string())?;
    let create = "portcullis federation create partner.org --url https://bundle.partner.org:8445/ --profile https_spiffe --endpoint-id spiffe://partner.org/gateway --bundle partner.json";
    guide.expect(create, 0)?;
    let listed = guide.expect("portcullis federation list", 0)?;
    check!(listed.contains("partner.org") && listed.contains("current"), "listed: {listed}");
    guide.expect("portcullis federation get partner.org", 0)?;
    guide.expect("portcullis federation refresh partner.org", 75)?;
    guide.expect("portcullis bundle list", 0)?;
    guide.expect("portcullis bundle get partner.org > kept.json", 0)?;
    guide.expect("portcullis bundle set partner.org kept.json", 0)?;
    guide.expect("portcullis federation delete partner.org --yes", 0)?;
    Ok(())
}

/// Entries from a file, explained, and identities in files.
fn identities(guide: &mut Guide) -> Result {
    let uid = tests::own_uid();
    let entries = format!(
        "[[ca.entry]]\nspiffe_id = \"spiffe://example.org/report\"\nselectors = [\"unix:uid:{uid}\"]\n"
    );
    std::fs::write(guide.dir.join("entries.toml"), entries)?;
    guide.expect("portcullis entry list --selector unix:uid:1000", 0)?;
    guide.expect("portcullis entry count", 0)?;
    let shown = guide.expect("portcullis entry apply -f entries.toml --dry-run", 0)?;
    check!(shown.contains("+ spiffe://example.org/report"), "shown: {shown}");
    guide.expect("portcullis entry apply -f entries.toml", 0)?;
    let told = guide.expect("portcullis entry explain $$", 0)?;
    check!(told.contains("spiffe://example.org/report"), "explained: {told}");
    guide.expect("portcullis bundle show --format pem > roots.pem", 0)?;
    let due = guide.expect("portcullis svid write --dir tls --once --if-due", 0)?;
    check!(due.contains("not due before"), "written: {due}");
    let id = guide.expect("portcullis svid exec -- printenv SVID_ID", 0)?;
    check!(id.trim() == "spiffe://example.org/web", "executed as {id}");
    let watched = guide.run("timeout --preserve-status -s INT 1 portcullis svid watch")?;
    check!(watched.code == 0 && watched.stdout.contains("spiffe://example.org/web"), "watched: {watched:?}");
    guide.done.insert("portcullis svid watch".to_owned());
    Ok(())
}

/// What auditors ask; the call above is denied in observe mode, which is no denial.
fn audit(guide: &mut Guide) -> Result {
    guide.expect("portcullis decisions keys > main.vkey", 0)?;
    for line in [
        "portcullis decisions query --deny --since 7d --namespace shop --source-ip 127.0.0.0/8",
        "portcullis decisions query --policy sensitive-methods --policies 1-9 --order asc",
        "portcullis decisions stats --deny --by principal,resource",
        "portcullis decisions stats --unused 30d",
        "portcullis decisions report --since 90d",
        "portcullis decisions report --by principal --order deny",
        "portcullis decisions report --by hour --since 1d",
        "portcullis decisions report --unused 90d",
        "portcullis decisions query --principal alice@corp.example",
        "portcullis decisions streams --since 7d",
        "portcullis decisions gaps --since 7d",
        "portcullis decisions export --since 7d --format csv --purpose \"quarterly review\" > decisions.csv",
        "portcullis decisions export --since 7d --with-proofs --purpose \"case 7\" > decisions.bundle",
        "portcullis decisions verify decisions.bundle --key main.vkey",
    ] {
        guide.expect(line, 0)?;
    }
    for (line, code) in [
        (
            "portcullis decisions hold add case-7 --purpose \"inquiry 7\" --since 2026-11-01T00:00:00Z --until 2026-11-22T00:00:00Z",
            0,
        ),
        (
            "portcullis decisions hold add case-8 --purpose \"inquiry 8\" --principal spiffe://example.org/web --deny",
            0,
        ),
        ("portcullis decisions hold list", 0),
        // Nobody here is an approver.
        ("portcullis decisions hold release case-7", 77),
        // No person has called: `redaction.rs` has the story of one.
        ("portcullis decisions reveal DECISION_ID --purpose \"inquiry 7\" -o json > opening.json", 3),
        ("portcullis decisions verify one.tlog-proof --key main.vkey --opening opening.json", 3),
        ("portcullis decisions erase alice@corp.example --purpose \"request 12\"", 0),
    ] {
        guide.expect(line, code)?;
    }
    let policies = guide.expect("portcullis decisions stats --by policy", 0)?;
    check!(policies.contains("role-operator"), "hits per policy: {policies}");
    let effects = guide.expect("portcullis decisions stats --by effect --every 1h", 0)?;
    check!(effects.contains(":00:00Z  allow"), "over time: {effects}");
    let csv = std::fs::read_to_string(guide.dir.join("decisions.csv"))?;
    check!(csv.starts_with("index,time,id") && csv.contains("http:POST"), "{csv}");
    Ok(())
}

/// Chapter 7: a change by its whole way, and back.
fn change(guide: &mut Guide) -> Result {
    settled(guide)?;
    check!(guide.shell("cp -r policies desk")?.code == 0, "cp");
    let file = guide.dir.join("desk/suggested.cedar");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replacen("http:POST", "http:DELETE", 1))?;
    let pushed = "portcullis policy push desk -m \"orders: web may also delete\" --ticket SEC-12";
    guide.expect(pushed, 0)?;
    guide.expect("portcullis policy changes", 0)?;
    let versions = guide.shell("portcullis policy versions -o json")?;
    let versions: Value = serde_json::from_str(&versions.stdout)?;
    let next = versions["items"][0]["version"].as_u64().ok_or("no version")? + 1;
    for line in [
        "portcullis policy show CHANGE",
        "portcullis policy check CHANGE",
        "portcullis policy commit CHANGE",
        "portcullis policy shadow VERSION",
        "portcullis policy shadow --stop",
        "portcullis policy activate VERSION",
    ] {
        let outcome = guide.shell(&line.replace("CHANGE", "c1").replace("VERSION", &format!("v{next}")))?;
        check!(outcome.code == 0, "{line}: {outcome:?}");
        guide.done.insert(line.to_owned());
    }
    guide.expect("portcullis policy rollback -m \"orders broke\"", 0)?;
    for line in [
        "portcullis policy versions",
        "portcullis policy diff v1 v2",
        "portcullis policy history orders-read",
        "portcullis policy blame orders-read",
        "portcullis policy get orders-read --version v1",
        "portcullis policy pull policies --yes",
    ] {
        guide.expect(line, 0)?;
    }
    Ok(())
}

/// What an auditor takes along, and what it is good for.
fn prove(guide: &mut Guide, id: &str) -> Result {
    guide.expect("portcullis decisions keys > main.vkey", 0)?;
    guide.expect("portcullis decisions checkpoint > march.cp", 0)?;
    let line = "portcullis decisions prove DECISION_ID --out one.tlog-proof";
    let end = Instant::now() + Duration::from_secs(10);
    // A checkpoint covers it within two seconds.
    while guide.shell(&line.replace("DECISION_ID", id))?.code != 0 {
        check!(Instant::now() < end, "the decision cannot be proved");
        std::thread::sleep(Duration::from_millis(200));
    }
    guide.done.insert(line.to_owned());
    guide.expect("portcullis decisions verify one.tlog-proof --key main.vkey", 0)?;
    let verified =
        guide.expect("portcullis decisions verify --key main.vkey --since-checkpoint march.cp", 0)?;
    check!(verified.contains("intact and complete"), "{verified}");
    guide.expect(
        "portcullis decisions verify --dir ./data/ledger --key main.vkey --since-checkpoint march.cp",
        0,
    )?;
    guide.expect("portcullis decisions keys rotate", 0)?;
    Ok(())
}

fn guide() -> Result {
    let home = tempfile::tempdir()?;
    let mut guide = Guide { dir: home.path().to_owned(), done: BTreeSet::new(), running: None };
    guide.expect("portcullis init my-gateway", 0)?;
    guide.dir = home.path().join("my-gateway");
    guide.expect("portcullis config validate", 0)?;
    guide.expect("portcullis config explain enforcer.route", 0)?;
    guide.expect("portcullis policy validate", 0)?;
    guide.expect("portcullis policy test", 0)?;
    guide.expect("portcullis policy fmt --check", 0)?;
    guide.expect("portcullis policy lint --fail-level warning --format github", 0)?;
    guide.expect("portcullis policy test --coverage --threshold 80", 0)?;
    guide.expect("portcullis schema validate", 0)?;
    guide.expect("portcullis check --pre", 0)?;

    // What a person does in an editor: the address of the service, and here also ports and the user of this test.
    let (listener, admin, upstream) = (tests::port::free_port(), tests::port::free_port(), Upstream::echo());
    let uid = guide.shell("id -u")?.stdout.trim().to_owned();
    let file = guide.dir.join("portcullis.toml");
    let text = std::fs::read_to_string(&file)?;
    let edited = text
        .replace("http://127.0.0.1:8000", &format!("http://{}", upstream.address))
        .replace("127.0.0.1:9443", &format!("127.0.0.1:{listener}"))
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{admin}"))
        .replace("unix:uid:1000", &format!("unix:uid:{uid}"));
    std::fs::write(&file, &edited)?;

    let log = std::fs::File::create(home.path().join("log"))?;
    guide.done.insert("portcullis run".to_owned());
    let run = Command::new(binary::portcullis())
        .arg("run")
        .current_dir(&guide.dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    guide.running = Some(run);
    guide.expect("portcullis wait --timeout 30s", 0)?;
    guide.expect("portcullis status", 0)?;

    guide.expect("portcullis entry create --id spiffe://example.org/batch --selector unix:uid:1000", 0)?;
    guide.expect("portcullis entry list", 0)?;
    let fetched = guide.expect("portcullis svid fetch", 0)?;
    check!(fetched.contains("spiffe://example.org/web"), "fetched: {fetched}");
    guide.expect("portcullis svid write --dir tls --once", 0)?;
    guide.expect("portcullis svid inspect tls/svid.pem", 0)?;
    tokens(&mut guide)?;
    agents(&mut guide)?;
    identities(&mut guide)?;
    federation(&mut guide)?;

    let call = format!(
        "curl -sS --cacert tls/bundle.pem --cert tls/svid.pem --key tls/svid.key -X POST https://localhost:{listener}/"
    );
    let observed = guide.shell(&call)?;
    check!(observed.stdout.starts_with("POST / HTTP/1.1"), "observe mode refused: {observed:?}");
    let would = guide.expect("portcullis decisions query --would deny", 0)?;
    check!(would.contains("http:POST"), "would-be denial: {would}");
    let tail = guide.run("timeout --preserve-status -s INT 1 portcullis decisions tail")?;
    check!(tail.code == 0, "tail ended with {}: {tail:?}", tail.code);
    guide.done.insert("portcullis decisions tail".to_owned());
    audit(&mut guide)?;

    let query = guide.shell("portcullis decisions query --would deny -o json")?;
    let found: Value = serde_json::from_str(&query.stdout)?;
    let id = found["items"][0]["id"].as_str().ok_or("no would-be denial")?.to_owned();
    let suggested = guide.shell(&format!("portcullis policy suggest {id} > policies/suggested.cedar"))?;
    check!(suggested.code == 0, "{suggested:?}");
    guide.done.insert("portcullis policy suggest DECISION_ID > policies/suggested.cedar".to_owned());
    guide.expect("portcullis policy validate", 0)?;
    let impact = guide.expect("portcullis policy impact", 0)?;
    check!(impact.contains("deny -> allow  web"), "impact of the suggestion: {impact}");
    guide.expect("portcullis policy impact ./policies --since 1h --fail-on newly-denied", 0)?;
    guide.expect("portcullis policy impact ./policies --ledger ./data/ledger", 0)?;
    let case = guide.shell(&format!("portcullis policy new --test {id}"))?;
    check!(case.code == 0 && case.stdout.contains("may not http:POST"), "{case:?}");
    guide.done.insert("portcullis policy new --test DECISION_ID".to_owned());
    guide.expect("portcullis can spiffe://example.org/web grpc 'Method::\"shop.Orders/Get\"'", 0)?;

    std::fs::write(&file, edited.replace("mode = \"observe\"", "mode = \"enforce\""))?;
    let reloaded = guide.expect("portcullis config reload", 0)?;
    check!(reloaded.contains("enforcer.mode"), "reloaded: {reloaded}");
    let allowed = guide.shell(&call)?;
    check!(
        allowed.stdout.starts_with("POST / HTTP/1.1"),
        "the suggested permit is not in force: {allowed:?}"
    );
    let refused = guide.shell(&call.replace("POST", "DELETE"))?;
    let problem: Value = serde_json::from_str(&refused.stdout)?;
    let id = problem["decision_id"].as_str().ok_or("no decision id")?.to_owned();
    let explained = guide.expect("portcullis explain --last-deny", 0)?;
    check!(explained.starts_with("DENY  web -> orders"), "explained: {explained}");
    let get = "spiffe://example.org/web grpc 'Method::\"shop.Orders/Get\"'";
    let clauses = guide.expect(&format!("portcullis can {get} --explain"), 0)?;
    check!(
        clauses.contains("permit matched: ") && clauses.contains("          principal  "),
        "can: {clauses}"
    );
    guide.expect(&format!("portcullis can {get} --version v1"), 0)?;
    let who = guide.expect("portcullis who-can grpc 'Method::\"shop.Orders/Get\"'", 0)?;
    check!(who.contains("spiffe://example.org/web") && who.contains("allow"), "who-can: {who}");
    let what = guide.expect("portcullis what-can spiffe://example.org/web", 0)?;
    check!(what.contains("Method::\"shop.Orders/Get\""), "what-can: {what}");
    for line in [
        "portcullis explain DECISION_ID -o json",
        "portcullis decisions get DECISION_ID",
        "portcullis policy suggest DECISION_ID --write policies",
    ] {
        let outcome = guide.shell(&line.replace("DECISION_ID", &id))?;
        check!(outcome.code == 0, "{line}: {outcome:?}");
        guide.done.insert(line.to_owned());
    }
    prove(&mut guide, &id)?;
    change(&mut guide)?;
    for line in [
        "portcullis proxy fault inject orders-http --abort 503 --percent 10 --for 5m",
        "portcullis proxy fault list",
        "portcullis proxy fault end orders-http",
        "portcullis policy signing",
        "portcullis policy signing rotate",
        "portcullis policy signing raise-epoch",
        "portcullis policy export --snapshot policies.pcsnap",
    ] {
        guide.expect(line, 0)?;
    }
    let server = "portcullis svid verify https://localhost:9443 --id spiffe://example.org/gateway";
    let asked = guide.shell(&server.replace("9443", &listener.to_string()))?;
    check!(asked.code == 0, "{asked:?}");
    guide.done.insert(server.to_owned());
    for line in [
        "portcullis svid verify tls/svid.pem --bundle tls/bundle.pem",
        "portcullis svid mint spiffe://example.org/laptop --dir laptop --ttl 8h",
        "portcullis svid list",
        "portcullis svid revoke tls/svid.pem --reason \"laptop stolen\" --yes",
        "portcullis svid revoke --id spiffe://example.org/web --reason \"retired\" --yes",
        "portcullis svid revocations",
        "portcullis svid unrevoke spiffe://example.org/web",
        "portcullis ca crl",
        "portcullis ca crl --format pem > crls.pem",
        "portcullis ca show",
        "portcullis ca rotate --kind signing --yes",
        "portcullis ca taint --kind signing --yes",
        "portcullis ca revoke --kind signing --reason \"key leaked\" --yes",
    ] {
        guide.expect(line, 0)?;
    }
    // Observe mode is off; what is left is nothing.
    guide.expect("portcullis check", 0)?;
    guide.expect("portcullis code PC2001", 0)?;
    guide.expect("portcullis version -o json", 0)?;
    guide.expect("portcullis version --sbom > portcullis.cdx.json", 0)?;
    // `package.rs` runs it where /etc is its own.
    guide.done.insert("portcullis init /etc/portcullis --system".to_owned());

    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide.md"))?;
    let written: BTreeSet<String> =
        commands(&text).iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let untested: Vec<_> = written.difference(&guide.done).collect();
    check!(untested.is_empty(), "docs/guide.md has commands that this test does not run: {untested:?}");
    Ok(())
}
