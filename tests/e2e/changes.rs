//! Policies as teams change them: a draft with a typo, what its check says, who approves it, what it does when it is in
//! force, and the way back. Each story uses the commands or the API that people and pipelines use.

mod keyed;
mod nonsense;
mod people;
mod verbs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::peers::{missing, missing_users};
use tests::upstream::Upstream;
use tests::{Gateway, Outcome, Result, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("st6_a_change_is_checked_committed_and_only_then_in_force", missing("curl"), whole_way),
        trial("ra4_a_change_is_written_by_whom_has_read_it", None, revisions),
        trial("ps6_of_two_changes_of_one_policy_the_second_learns_what_the_first_did", None, conflict),
        trial("st5_a_rollback_is_one_command_and_a_new_version_that_says_so", missing("curl"), rollback),
        trial("st10_the_directory_counts_when_it_is_saved_not_when_it_is_older", missing("curl"), directory),
        trial("st4_every_activation_is_on_record_with_who_did_it", None, recorded),
        trial("sh3_a_version_in_shadow_records_what_it_would_do_and_ends", missing("curl"), shadow),
        trial("sh3_a_version_in_shadow_that_is_dear_ends_under_load_and_says_why", missing("h2load"), dear),
        trial("a_version_leaves_as_one_file_and_comes_back_as_a_change", None, nonsense::exported),
        trial("st6_grpcio_takes_a_change_from_its_typo_to_the_rollback", verbs::missing(), verbs::whole_way),
        trial("ra1_grpc_and_rest_answer_and_refuse_in_the_same_words", verbs::missing(), verbs::twins),
        trial("ps1_grpc_asks_the_same_rights", missing_users().or_else(verbs::missing), verbs::rights),
        trial("ra5_a_keyed_call_is_done_once_also_across_a_restart", None, keyed::once),
        trial("ra5_a_keyed_call_goes_on_when_its_caller_hangs_up", None, keyed::hung_up),
        trial("ra5_keys_work_over_grpc", verbs::missing(), keyed::over_grpc),
        trial("ra5_keys_belong_to_their_caller", missing_users().or_else(verbs::missing), keyed::of_others),
        trial("the_api_formats_as_the_command_does", None, nonsense::formatted),
        trial("a_policy_named_as_a_path_is_found_by_its_name", None, nonsense::named_as_paths),
        trial(
            "st6_a_change_of_a_change_of_nothing_and_of_nonsense_is_refused_with_a_way_out",
            None,
            nonsense::nonsense,
        ),
        trial("st10_a_second_person_approves_what_opens_something", missing_users(), people::two_persons),
        trial("st10_a_saved_file_does_not_open_what_needs_two_persons", missing_users(), people::saved),
        trial(
            "ps1_each_role_does_what_it_may_and_nothing_else",
            missing_users().or(missing("curl")),
            people::roles,
        ),
        trial("ps1_nobody_edits_what_somebody_else_wrote", missing_users(), people::others),
    ]
}

/// What a gateway begins with: `web` may read.
const READ: &str = "@id(\"site-read\")\npermit (\n  principal == Workload::\"spiffe://example.org/web\",\n  action in Action::\"http:read\",\n  resource\n);\n";
/// A policy that opens something.
const WRITE: &str = "@id(\"site-write\")\npermit (\n  principal == Workload::\"spiffe://example.org/web\",\n  action in Action::\"http:write\",\n  resource\n);\n";

fn started() -> Result<Gateway> {
    builder(Upstream::echo()).start()
}

fn builder(upstream: Upstream) -> tests::gateway::Builder {
    Gateway::build().policy(READ).service("site", &[]).route(
        "site",
        "site",
        "{ path = \"/\" }",
        &format!("http://{}", upstream.address),
    )
}

/// A directory beside the watched one, with these files.
fn desk(gateway: &Gateway, name: &str, files: &[(&str, &str)]) -> Result<PathBuf> {
    let dir = gateway.dir().join(name);
    fs::create_dir_all(&dir)?;
    for entry in fs::read_dir(&dir)? {
        fs::remove_file(entry?.path())?;
    }
    for (file, text) in files {
        fs::write(dir.join(file), text)?;
    }
    Ok(dir)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A command that must end with that code.
fn expect(gateway: &Gateway, arguments: &[&str], code: i32) -> Result<Outcome> {
    let outcome = gateway.cli(arguments)?;
    check!(
        outcome.code == code,
        "`{}` ended with {}, not {code}:\n{}{}",
        arguments.join(" "),
        outcome.code,
        outcome.stdout,
        outcome.stderr
    );
    Ok(outcome)
}

/// Pushes a directory; gives the id of the change.
fn push(gateway: &Gateway, dir: &Path, message: &str) -> Result<String> {
    let pushed = gateway.json(&["policy", "push", &shown(dir), "-m", message])?;
    Ok(pushed.pointer("/change/id").and_then(Value::as_str).ok_or(format!("no change: {pushed}"))?.to_owned())
}

/// Pushes a directory and puts it into force; gives the version.
fn publish(gateway: &Gateway, dir: &Path, message: &str) -> Result<u64> {
    let published = gateway.json(&["policy", "push", &shown(dir), "-m", message, "--publish"])?;
    Ok(published["version"].as_u64().ok_or(format!("no version: {published}"))?)
}

fn whole_way() -> Result {
    let gateway = started()?;
    let tls = gateway.identity()?;
    let call = |expected: u16| -> Result {
        let (status, body) = gateway.curl(&tls, "/", &["-X", "POST"])?;
        check!(status == expected, "POST / is {status}, not {expected}: {body}");
        Ok(())
    };
    call(403)?;
    let typo = WRITE.replace("principal ==", "principle ==");
    let dir = desk(&gateway, "desk", &[("web.cedar", READ), ("write.cedar", &typo)])?;
    let desk_name = shown(&dir);
    let pushed = expect(&gateway, &["policy", "push", &desk_name, "-m", "web may write"], 3)?;
    check!(pushed.stderr.contains("desk/write.cedar:3:3"), "no place: {}", pushed.stderr);
    check!(pushed.stderr.contains("principle ==") && pushed.stderr.contains("next: "), "{}", pushed.stderr);
    check!(gateway.json(&["status"])?["policies"]["diagnostics"] == json!([]), "a draft shows as a bad edit");
    call(403)?;

    // The next push writes the same change again.
    fs::write(dir.join("write.cedar"), WRITE)?;
    let change = push(&gateway, &dir, "web may write")?;
    let listed = gateway.json(&["policy", "changes"])?;
    check!(listed["items"].as_array().map(Vec::len) == Some(1), "two changes of one mistake: {listed}");
    let change_shown = expect(&gateway, &["policy", "show", &change], 0)?.stdout;
    for part in
        ["checked", "web may write", "added write.cedar", "+  action in Action::\"http:write\"", "next: "]
    {
        check!(change_shown.contains(part), "`{part}` is not in {change_shown}");
    }
    let checked = gateway.json(&["policy", "check", &change])?;
    check!(checked["widens"] == true && checked["passed"] == true, "checks: {checked}");

    let before = gateway.policies_version()?;
    let committed = gateway.json(&["policy", "commit", &change])?;
    let version = committed["version"].as_u64().ok_or("no version")?;
    check!(version == before + 1 && committed["standing"] == "committed", "{committed}");
    check!(gateway.policies_version()? == before, "a commit is in force");
    call(403)?;
    let activated = expect(&gateway, &["policy", "activate", &format!("v{version}")], 0)?.stdout;
    check!(activated.contains("undo: portcullis policy rollback"), "{activated}");
    check!(gateway.policies_version()? == version, "not in force");
    call(200)?;

    let history = gateway.json(&["policy", "history", "site-write"])?;
    check!(history["items"][0]["version"] == version && history["items"][0]["step"] == "added", "{history}");
    check!(history["items"][0]["message"] == "web may write", "{history}");
    let blame = expect(&gateway, &["policy", "blame", "site-write"], 0)?.stdout;
    check!(blame.lines().filter(|line| line.starts_with(&format!("v{version} "))).count() >= 6, "{blame}");
    let got = expect(&gateway, &["policy", "get", "site-write"], 0)?.stdout;
    check!(got.contains("@id(\"site-write\")") && got.contains("write.cedar"), "{got}");
    let gone = expect(&gateway, &["policy", "get", "site-write", "--version", &before.to_string()], 3)?;
    check!(gone.stderr.contains("PC2044") && gone.stderr.contains("next: "), "{}", gone.stderr);
    let system = expect(&gateway, &["policy", "get", "two-person-widening"], 0)?.stdout;
    check!(system.contains("context.change.widens"), "{system}");
    Ok(())
}

fn revisions() -> Result {
    let gateway = started()?;
    let edits = json!({ "edits": [{ "file": "write.cedar", "text": WRITE }], "message": "m" });
    let made = gateway.ask("POST", "/v1/policies/changes", &[], Some(&edits))?;
    check!(made.status == 201 && made.body["stage"] == "draft", "{made:?}");
    let place = made.header("location").ok_or("no location")?.to_owned();
    let first = made.header("etag").ok_or("no etag")?.to_owned();
    let more = json!({ "edits": [{ "file": "write.cedar", "text": format!("// why\n{WRITE}") }] });
    check!(gateway.ask("PATCH", &place, &[], Some(&more))?.status == 428, "without If-Match");
    let second = gateway.ask("PATCH", &place, &[("if-match", &first)], Some(&more))?;
    check!(second.status == 200 && second.header("etag") != Some(&first), "{second:?}");
    let stale = gateway.ask("PATCH", &place, &[("if-match", &first)], Some(&more))?;
    check!(stale.status == 412 && stale.body["code"] == "PC2041", "{stale:?}");
    check!(
        stale.body["type"] == "urn:portcullis:problem:PC2041" && stale.body["next"].is_string(),
        "{stale:?}"
    );
    for verb in ["commit", "approve", "abandon"] {
        let blind = gateway.ask("POST", &format!("{place}:{verb}"), &[], None)?;
        check!(blind.status == 428, "{verb} without If-Match: {blind:?}");
        let stale = gateway.ask("POST", &format!("{place}:{verb}"), &[("if-match", &first)], None)?;
        check!(stale.status == 412, "{verb} of an old revision: {stale:?}");
    }
    let tag = gateway.ask("GET", &place, &[], None)?;
    let unchecked = gateway.ask(
        "POST",
        &format!("{place}:commit"),
        &[("if-match", tag.header("etag").unwrap_or_default())],
        None,
    )?;
    check!(unchecked.status == 422 && unchecked.body["code"] == "PC2040", "{unchecked:?}");
    // Of many writers with one revision one wins (PS6).
    let revision = tag.header("etag").unwrap_or_default().to_owned();
    let won: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..20)
            .map(|writer| {
                let (gateway, place, revision) = (&gateway, &place, &revision);
                scope.spawn(move || {
                    let text = format!("// {writer}\n{WRITE}");
                    let edits = json!({ "edits": [{ "file": "write.cedar", "text": text }] });
                    gateway
                        .ask("PATCH", place, &[("if-match", revision)], Some(&edits))
                        .map(|answer| answer.status)
                        .map_err(|error| error.to_string())
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join()).filter(|status| matches!(status, Ok(Ok(200)))).count()
    });
    check!(won == 1, "{won} of 20 writers of one revision won");
    Ok(())
}

fn conflict() -> Result {
    let gateway = started()?;
    let ours = desk(&gateway, "ours", &[("web.cedar", &READ.replace("http:read", "http:GET"))])?;
    let first = push(&gateway, &ours, "only GET")?;
    let theirs = desk(&gateway, "theirs", &[("web.cedar", &READ.replace("http:read", "http"))])?;
    let second = push(&gateway, &theirs, "everything")?;
    let third =
        push(&gateway, &desk(&gateway, "third", &[("web.cedar", READ), ("write.cedar", WRITE)])?, "write")?;
    check!(first != second && second != third, "changes are mixed up: {first} {second} {third}");
    let head = gateway.json(&["policy", "commit", &first])?["version"].as_u64().ok_or("no version")?;
    let tag = gateway.ask("GET", &format!("/v1/policies/changes/{second}"), &[], None)?;
    let tag = tag.header("etag").unwrap_or_default().to_owned();
    let refused =
        gateway.ask("POST", &format!("/v1/policies/changes/{second}:commit"), &[("if-match", &tag)], None)?;
    check!(refused.status == 409 && refused.body["head"] == head, "{refused:?}");
    check!(refused.body["conflicting"] == json!(["site-read"]), "{refused:?}");
    let told = expect(&gateway, &["policy", "commit", &second], 3)?;
    check!(told.stderr.contains("site-read") && told.stderr.contains("next: "), "{}", told.stderr);
    expect(&gateway, &["policy", "rebase", &second], 3)?;
    expect(&gateway, &["policy", "abandon", &second], 0)?;
    expect(&gateway, &["policy", "abandon", &second], 3)?;
    // What touches another file starts from the newest version with one command.
    expect(&gateway, &["policy", "commit", &third], 3)?;
    expect(&gateway, &["policy", "rebase", &third], 0)?;
    expect(&gateway, &["policy", "check", &third], 0)?;
    let version = gateway.json(&["policy", "commit", &third])?["version"].as_u64();
    check!(version == Some(head + 1), "{version:?}");
    let listed = expect(&gateway, &["policy", "changes"], 0)?.stdout;
    check!(listed.contains("abandoned") && listed.contains("committed"), "{listed}");
    Ok(())
}

fn rollback() -> Result {
    let gateway = started()?;
    let tls = gateway.identity()?;
    let status = |method: &str| gateway.curl(&tls, "/", &["-X", method]).map(|(status, _)| status);
    let first = gateway.policies_version()?;
    let dir = desk(&gateway, "desk", &[("web.cedar", READ), ("write.cedar", WRITE)])?;
    let second = publish(&gateway, &dir, "web may write")?;
    check!(status("POST")? == 200, "v{second} is not in force");
    // A bad one: nobody may do anything.
    let bad = publish(
        &gateway,
        &desk(&gateway, "desk", &[("other.cedar", &READ.replace("/web", "/batch"))])?,
        "oops",
    )?;
    check!((status("GET")?, status("POST")?) == (403, 403), "v{bad} is not in force");
    let back = expect(&gateway, &["policy", "rollback"], 0)?.stdout;
    check!((status("GET")?, status("POST")?) == (200, 200), "not rolled back");
    let now = gateway.policies_version()?;
    check!(now == bad + 1, "v{now} after v{bad}");
    for part in [
        format!("v{now} are in force: what was v{second}"),
        "added web.cedar".to_owned(),
        "removed other.cedar".to_owned(),
        format!("undo: portcullis policy rollback v{bad}"),
    ] {
        check!(back.contains(&part), "`{part}` is not in {back}");
    }
    let again = gateway.json(&["policy", "rollback", "-m", "further back"])?;
    check!(again["rollback_of"] == first && again["message"] == "further back", "{again}");
    check!((status("GET")?, status("POST")?) == (200, 403), "not v{first} again");
    let versions = expect(&gateway, &["policy", "versions"], 0)?.stdout;
    check!(versions.contains(&format!("rollback to v{first}")) && versions.contains("oops"), "{versions}");
    check!(versions.lines().filter(|line| line.contains(" active ")).count() == 1, "{versions}");
    // Older numbers never come back; unknown ones never were.
    let older = expect(&gateway, &["policy", "activate", &format!("v{second}")], 3)?;
    check!(older.stderr.contains(&format!("next: portcullis policy rollback {second}")), "{}", older.stderr);
    expect(&gateway, &["policy", "activate", "v99"], 3)?;
    expect(&gateway, &["policy", "rollback", "v99"], 3)?;
    expect(&gateway, &["policy", "rollback", "yesterday"], 64)?;
    let history = gateway.json(&["policy", "history", "site-write"])?;
    let steps: Vec<_> =
        history["items"].as_array().into_iter().flatten().map(|item| item["step"].clone()).collect();
    check!(steps == [json!("removed"), json!("added"), json!("removed"), json!("added")], "{steps:?}");
    let difference =
        expect(&gateway, &["policy", "diff", &format!("v{first}"), &format!("v{second}")], 0)?.stdout;
    check!(difference.contains("added write.cedar"), "{difference}");
    Ok(())
}

fn directory() -> Result {
    let mut gateway = started()?;
    let tls = gateway.identity()?;
    let dir = desk(&gateway, "desk", &[("web.cedar", READ), ("write.cedar", WRITE)])?;
    let version = publish(&gateway, &dir, "from the desk")?;
    let differs = |gateway: &Gateway| -> Result<Value> {
        Ok(gateway.json(&["status"])?["policies"]["differs"].clone())
    };
    check!(differs(&gateway)? == true, "the watched directory differs and nobody says so");
    let checked = expect(&gateway, &["check"], 0)?.stdout;
    check!(checked.contains("portcullis policy pull"), "check: {checked}");
    gateway.terminate()?;
    gateway.restart()?;
    check!(gateway.policies_version()? == version, "a restart took the older directory back");
    check!(gateway.curl(&tls, "/", &["-X", "POST"])?.0 == 200, "v{version} is not in force");
    // Pulling makes both the same.
    let watched = shown(&gateway.dir().join("policies"));
    let refused = expect(&gateway, &["policy", "pull", &watched], 0)?;
    check!(refused.stdout.contains(&format!("v{version}")), "{refused:?}");
    let difference = expect(&gateway, &["policy", "diff"], 0)?.stdout;
    check!(difference.contains(&format!("is as policies v{version}")), "{difference}");
    // A save counts at once, and its version says where it came from.
    let saved = gateway.publish("web.cedar", &READ.replace("http:read", "http:GET"))?;
    let about = gateway.json(&["policy", "versions"])?["items"][0].clone();
    check!(about["version"] == saved && about["origin"] == "directory", "{about}");
    check!(differs(&gateway)? == false, "it is as the directory");
    // Overwriting asks.
    let asked = expect(&gateway, &["policy", "pull", &watched, "--version", &version.to_string()], 64)?;
    check!(asked.stderr.contains("web.cedar") && asked.stderr.contains("--yes"), "{}", asked.stderr);
    Ok(())
}

fn recorded() -> Result {
    let gateway = started()?;
    let version = publish(&gateway, &desk(&gateway, "desk", &[("web.cedar", WRITE)])?, "write only")?;
    gateway.json(&["policy", "rollback"])?;
    let activations = gateway.records("kind=activation")?;
    let outcomes: Vec<_> =
        activations.iter().map(|record| record["body"]["outcome"].as_str().unwrap_or_default()).collect();
    check!(outcomes.first() == Some(&"rolled_back") && outcomes.contains(&"activated"), "{outcomes:?}");
    let by: Vec<_> = activations.iter().map(|record| record["principal"]["id"].clone()).collect();
    check!(by.first() == Some(&json!(uid().to_string())), "who went back? {by:?}");
    check!(activations[0]["versions"]["policies"] == version + 1, "{}", activations[0]);
    let written = gateway.records("kind=administration")?;
    let operations: Vec<_> =
        written.iter().map(|record| record["body"]["operation"].as_str().unwrap_or_default()).collect();
    for operation in ["policy.draft", "policy.commit", "policy.activate", "policy.rollback"] {
        check!(operations.contains(&operation), "{operation} is not on record: {operations:?}");
    }
    // The decision that permitted it is there as well, and can be explained.
    let decisions = gateway.decisions(&["--action", "policy:publish"])?;
    check!(decisions.len() == 2, "commit and activate are two decisions, not {}", decisions.len());
    let status = gateway.cli(&["status"])?.stdout;
    check!(
        status.contains("policies") && !status.contains(&format!("policies      {version}\n")),
        "{status}"
    );
    Ok(())
}

fn uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").map_or(0, |about| about.uid())
}

fn shadow() -> Result {
    let gateway = started()?;
    let tls = gateway.identity()?;
    let change = push(&gateway, &desk(&gateway, "desk", &[("write.cedar", WRITE)])?, "only write")?;
    let version = gateway.json(&["policy", "commit", &change])?["version"].as_u64().ok_or("no version")?;
    expect(&gateway, &["policy", "shadow", &format!("v{version}")], 0)?;
    check!(gateway.json(&["status"])?["policies"]["shadow"]["version"] == version, "status hides the shadow");
    check!(gateway.curl(&tls, "/", &[])?.0 == 200, "a shadow decides");
    check!(gateway.curl(&tls, "/", &["-X", "POST"])?.0 == 403, "a shadow decides");
    let would = gateway.decisions(&["--would", "deny"])?;
    check!(would.len() == 1, "{would:?}");
    expect(&gateway, &["policy", "shadow", "--stop"], 0)?;
    check!(gateway.json(&["status"])?["policies"]["shadow"].is_null(), "the shadow goes on");
    check!(gateway.curl(&tls, "/", &[])?.0 == 200, "a call after the shadow");
    check!(gateway.decisions(&["--would", "deny"])?.len() == 1, "it is still compared");
    expect(&gateway, &["policy", "shadow"], 64)?;
    Ok(())
}

/// Thirty conditions for each call: much more than the microsecond that is allowed, and few enough to look at all pairs.
fn dear() -> Result {
    let any = "@id(\"any\")\npermit (principal, action in Action::\"http:read\", resource);\n";
    let one = |at: usize| {
        format!(
            "@id(\"f-{at}\")\nforbid (principal, action in Action::\"http:read\", resource) when {{ context.request.path like \"*a*{at}*z\" }};\n"
        )
    };
    let gateway = builder(Upstream::echo()).policy(any).listener("client_auth = \"none\"").start()?;
    let candidate: String = std::iter::once(any.to_owned()).chain((0..30).map(one)).collect();
    let change = push(&gateway, &desk(&gateway, "desk", &[("all.cedar", &candidate)])?, "dear")?;
    let version = gateway.json(&["policy", "commit", &change])?["version"].as_u64().ok_or("no version")?;
    expect(&gateway, &["policy", "shadow", &format!("v{version}")], 0)?;
    // One of eight is timed, and two windows of 4,096 are looked at, for each worker.
    let output = Command::new("h2load")
        .args(["-n", "70000", "-c", "1", "-m", "64"])
        .arg(format!("https://localhost:{}/", gateway.address.port()))
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    check!(said.contains("70000 succeeded, 0 failed"), "{said}");
    let policies = gateway.json(&["status"])?["policies"].take();
    check!(policies["shadow"].is_null(), "{policies}");
    let why = policies["shadow_ended"]["why"].as_str().unwrap_or_default();
    check!(why.contains("timed evaluations took longer than 1 us"), "{policies}");
    Ok(())
}
