//! A team and its policy, from the first typo to the last look into the history: told where it is wrong, shown what a
//! change would have done, watched in shadow, put into force, rolled back in one command. Everything is asked of the
//! shipped binary, and every number in the end agrees with what happened.

use std::fs;
use std::path::Path;

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Outcome, Result, check, gateway};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("a_team_goes_from_a_typo_to_a_rollback_and_the_history_tells_it", missing("curl"), story)]
}

const NO_DELETE: &str = "// Orders are never deleted through the gateway (SEC-12).
@id(\"no-delete\")
@owner(\"orders-team\")
forbid (principal, action == Action::\"http:DELETE\", resource == Route::\"site\")
unless { context.request.headers has \"x-tenant\" && context.request.headers[\"x-tenant\"] == [\"ops\"] };
";

const NO_READ: &str = "@id(\"no-read\")
@owner(\"orders-team\")
forbid (principal, action in Action::\"http:read\", resource in Service::\"site\");
";

struct Team {
    gateway: Gateway,
    tls: std::path::PathBuf,
    /// Their checkout.
    dir: std::path::PathBuf,
}

impl Team {
    fn new() -> Result<Team> {
        let gateway = Gateway::before(Upstream::echo().address)?;
        let (tls, dir) = (gateway.identity()?, gateway.dir().join("team"));
        fs::create_dir(&dir)?;
        fs::write(dir.join("web.cedar"), gateway::ALLOW_WEB)?;
        Ok(Team { gateway, tls, dir })
    }

    fn write(&self, file: &str, text: &str) -> Result {
        Ok(fs::write(self.dir.join(file), text)?)
    }

    fn call(&self, method: &str) -> Result<u16> {
        Ok(self.gateway.curl(&self.tls, "/orders", &["-X", method])?.0)
    }

    fn push(&self, more: &[&str]) -> Result<Outcome> {
        let dir: &Path = &self.dir;
        self.gateway.cli(&[&["policy", "push", &dir.display().to_string()], more].concat())
    }

    fn policy(&self, verb: &[&str]) -> Result<Value> {
        self.gateway.json(&[&["policy"], verb].concat())
    }

    /// The newest decision on that action.
    fn last(&self, action: &str) -> Result<Value> {
        let found = self.gateway.decisions(&["--action", action])?;
        found.into_iter().next().ok_or_else(|| format!("no decision on {action}").into())
    }
}

fn done(outcome: &Outcome, says: &[&str]) -> Result {
    let text = format!("{}{}", outcome.stdout, outcome.stderr);
    check!(outcome.code == 0, "ended with {}: {text}", outcome.code);
    for word in says {
        check!(text.contains(word), "`{word}` is not in: {text}");
    }
    Ok(())
}

fn story() -> Result {
    let team = Team::new()?;
    let first = team.gateway.policies_version()?;
    for method in ["GET", "GET", "GET", "DELETE"] {
        check!(team.call(method)? == 200, "{method} is not allowed in the beginning");
    }
    let change = typo_and_fix(&team, first)?;
    let version = impact_and_shadow(&team, &change, first)?;
    check!(team.call("DELETE")? == 200, "a shadow refuses");
    into_force(&team, version)?;
    let (bad, denied, back) = bad_version_and_back(&team, version)?;
    history(&team, [first, version, bad, back], &denied)
}

/// The typo is pointed at, nothing happens; the fixed file becomes the same change.
fn typo_and_fix(team: &Team, first: u64) -> Result<String> {
    team.write("orders.cedar", &NO_DELETE.replace("request.headers has", "request.haeders has"))?;
    let refused = team.push(&["-m", "orders are never deleted", "--ticket", "SEC-12"])?;
    check!(refused.code == 3, "{refused:?}");
    check!(refused.stderr.contains("orders.cedar:5:"), "no place: {}", refused.stderr);
    check!(refused.stderr.contains("did you mean `headers`?"), "no hint: {}", refused.stderr);
    check!(team.gateway.policies_version()? == first, "a typo is in force");
    check!(team.call("DELETE")? == 200, "a typo refuses");

    team.write("orders.cedar", NO_DELETE)?;
    done(&team.push(&["-m", "orders are never deleted", "--ticket", "SEC-12"])?, &["passed", "SEC-12"])?;
    let changes = team.policy(&["changes"])?;
    let open = changes["items"].as_array().cloned().unwrap_or_default();
    check!(open.len() == 1 && open[0]["stage"] == "checked", "the push made another change: {changes}");
    Ok(open[0]["id"].as_str().unwrap_or_default().to_owned())
}

/// What it would have done to the calls on record, then to calls that come, while nothing is in force.
fn impact_and_shadow(team: &Team, change: &str, first: u64) -> Result<u64> {
    let asked = ["policy", "impact", "--change", change, "--since", "1h", "--fail-on", "newly-denied"];
    let impact = team.gateway.cli(&[&asked[..], &["-o", "json"]].concat())?;
    let json: Value = serde_json::from_str(&impact.stdout)?;
    check!(impact.code == 3 && json["newly_denied"] == 2 && json["newly_allowed"] == 0, "{json}");
    let example = json["groups"][0]["examples"][0].as_str().unwrap_or_default().to_owned();
    let recorded = team.gateway.json(&["decisions", "get", &example])?;
    check!(recorded["action"] == "http:DELETE" && recorded["effect"] == "allow", "{recorded}");

    done(&team.gateway.cli(&["policy", "commit", change])?, &["not in force yet", "policy activate v"])?;
    let versions = team.policy(&["versions"])?;
    let version = versions["items"][0]["version"].as_u64().unwrap_or_default();
    check!(version > first && versions["items"][0]["standing"] == "committed", "{versions}");
    done(&team.gateway.cli(&["policy", "shadow", &format!("v{version}")])?, &["beside those in force"])?;
    check!(team.call("DELETE")? == 200 && team.call("GET")? == 200, "a shadow refuses");
    let record = team.last("http:DELETE")?;
    check!(record["effect"] == "allow" && record["versions"]["policies"] == first, "{record}");
    let would = &record["would"];
    check!(
        would["effect"] == "deny" && would["determining"][0] == "no-delete",
        "no would-be verdict: {record}"
    );
    check!(would["version"] == version, "whose verdict: {would}");
    check!(team.last("http:GET")?["would"].is_null(), "a call that does not differ has a would-be verdict");
    let query = team.gateway.decisions(&["--would", "deny"])?;
    check!(query.len() == 1, "asked for would-be denials: {query:?}");
    Ok(version)
}

fn into_force(team: &Team, version: u64) -> Result {
    let activated = team.gateway.cli(&["policy", "activate", &format!("v{version}")])?;
    done(&activated, &["are in force", "undo: portcullis policy rollback"])?;
    check!(team.call("DELETE")? == 403 && team.call("GET")? == 200, "the version is not in force");
    let ops = team.gateway.curl(&team.tls, "/orders", &["-X", "DELETE", "-H", "x-tenant: ops"])?;
    check!(ops.0 == 200, "the exception does not hold");
    let record = &team.gateway.decisions(&["--deny", "--action", "http:DELETE"])?[0];
    check!(record["determining"][0] == "no-delete" && record["versions"]["policies"] == version, "{record}");
    check!(record["would"].is_null(), "the shadow of what is in force goes on: {record}");
    let why = team.gateway.cli(&["explain", "--last-deny"])?;
    done(&why, &["forbid matched: no-delete", "orders.cedar:4", "orders-team"])
}

/// A version that refuses what everybody needs, and one command back.
fn bad_version_and_back(team: &Team, good: u64) -> Result<(u64, String, u64)> {
    team.write("reads.cedar", NO_READ)?;
    done(
        &team.push(&["-m", "tidy up", "--publish"])?,
        &["are in force", "undo: portcullis policy rollback"],
    )?;
    let bad = team.gateway.policies_version()?;
    check!(bad > good && team.call("GET")? == 403, "v{bad} does not refuse");
    let denied = team.last("http:GET")?["id"].as_str().unwrap_or_default().to_owned();

    let back = team.gateway.cli(&["policy", "rollback", "-m", "nobody can read orders"])?;
    done(&back, &[&format!("what was v{good}"), "no-read", "undo: "])?;
    let now = team.gateway.policies_version()?;
    check!(now > bad, "numbers only grow: {now} after {bad}");
    check!(team.call("GET")? == 200 && team.call("DELETE")? == 403, "not as it was");
    Ok((bad, denied, now))
}

/// Versions, history, blame, records and explanations agree about what happened.
fn history(team: &Team, [first, good, bad, back]: [u64; 4], denied: &str) -> Result {
    let versions = team.policy(&["versions"])?;
    let of = |number: u64| {
        let items = versions["items"].as_array().into_iter().flatten();
        items.clone().find(|version| version["version"] == number).cloned().unwrap_or_default()
    };
    check!(of(back)["standing"] == "active" && of(back)["rollback_of"] == good, "{versions}");
    check!(of(back)["message"] == "nobody can read orders", "{versions}");
    check!(of(good)["message"] == "orders are never deleted" && of(good)["ticket"] == "SEC-12", "{versions}");
    check!(of(bad)["message"] == "tidy up" && of(bad)["standing"] != "active", "{versions}");
    let me = format!("Portcullis::LocalUser::\"{}\"", uid()?);
    check!([first, good, bad, back].iter().all(|number| of(*number)["version"] == *number), "{versions}");
    check!([good, bad, back].iter().all(|number| of(*number)["author"] == me.as_str()), "{versions}");

    let steps = team.policy(&["history", "no-delete"])?;
    let steps = steps["items"].as_array().cloned().unwrap_or_default();
    check!(
        steps.last().is_some_and(|step| step["version"] == good),
        "no-delete came with v{good}: {steps:?}"
    );
    let gone = team.policy(&["history", "no-read"])?;
    let gone: Vec<u64> =
        gone["items"].as_array().into_iter().flatten().filter_map(|step| step["version"].as_u64()).collect();
    check!(gone == [back, bad], "no-read came and went: {gone:?}");
    let blame = team.policy(&["blame", "no-delete"])?;
    let lines = blame["items"].as_array().cloned().unwrap_or_default();
    check!(!lines.is_empty() && lines.iter().all(|line| line["version"] == good), "{blame}");
    let diff = team.gateway.cli(&["policy", "diff", &format!("v{good}"), &format!("v{back}")])?;
    check!(diff.code == 0 && !diff.stdout.contains("no-"), "a rollback is the same content: {diff:?}");

    // Each decision names the version that made it, and is explained by it.
    let record = team.gateway.json(&["decisions", "get", denied])?;
    check!(record["versions"]["policies"] == bad && record["determining"][0] == "no-read", "{record}");
    let why = team.gateway.cli(&["explain", denied])?;
    done(&why, &["forbid matched: no-read", "reads.cedar:3"])?;
    let records = team.gateway.records("kind=activation")?;
    let outcome = |record: &Value| {
        let number = record.pointer("/versions/policies")?.as_u64()?;
        Some((number, record.pointer("/body/outcome")?.as_str()?.to_owned()))
    };
    let activations: Vec<(u64, String)> = records.iter().filter_map(outcome).collect();
    for (number, outcome) in
        [(first, "activated"), (good, "activated"), (bad, "activated"), (back, "rolled_back")]
    {
        check!(
            activations.contains(&(number, outcome.to_owned())),
            "v{number} {outcome} is not in {activations:?}"
        );
    }
    Ok(())
}

fn uid() -> Result<u32> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata("/proc/self")?.uid())
}
