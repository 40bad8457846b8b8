//! Auditors of two namespaces on one gateway: each sees what is his, by every way there is to ask, and every look is on
//! record.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Outcome, Result, binary, check, own_uid};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let peers = || missing("curl").or_else(|| missing("setpriv"));
    vec![
        trial("dl1_an_auditor_never_sees_a_row_of_another_namespace", peers(), tenants),
        trial("qy3_a_reader_asks_so_much_and_no_more", None, limited),
        trial("rr4_an_export_says_what_it_is_for_where_that_is_required", None, purposes),
        trial("ra6_a_tail_comes_back_after_a_restart_and_misses_nothing", missing("curl"), tail),
    ]
}

const SHOP: u32 = 4001;
const BOOKS: u32 = 4002;
const FRONT: u32 = 4003;
const NOBODY: u32 = 4004;

const POLICIES: &str = r#"
@id("web-all")
permit (principal == Workload::"spiffe://example.org/web", action in Action::"call", resource);
@id("shop-audit")
permit (principal == Portcullis::LocalUser::"4001",
  action in [Portcullis::Action::"decisions:read", Portcullis::Action::"decisions:export"],
  resource == Namespace::"shop");
@id("books-audit")
permit (principal == Portcullis::LocalUser::"4002", action == Portcullis::Action::"decisions:read",
  resource == Namespace::"books");
@id("front-audit")
permit (principal == Portcullis::LocalUser::"4003", action == Portcullis::Action::"decisions:read",
  resource == Namespace::"front");
"#;

fn gateway() -> Result<Gateway> {
    let to = format!("http://{}", Upstream::echo().address);
    let uid = own_uid();
    let entries = format!(
        "[[ca.entry]]\nspiffe_id = \"spiffe://example.org/web\"\nselectors = [\"unix:uid:{uid}\"]\nnamespace = \"front\"\ndns_names = [\"localhost\"]\n"
    );
    // Auditors have no role: policies name them. Somebody with one opens the socket to all.
    Gateway::build()
        .policy(POLICIES)
        .entries(&entries)
        .user(4000, &["viewer"])
        .service("carts", &[])
        .route("carts", "carts", "{ path = \"/carts\" }", &to)
        .section("[[enforcer.service]]\nname = \"library\"\nnamespace = \"books\"")
        .route("library", "library", "{ path = \"/library\" }", &to)
        .start()
}

/// What somebody is answered in JSON.
fn asked(gateway: &Gateway, uid: u32, words: &[&str]) -> Result<Value> {
    let outcome = gateway.cli_as(uid, &[words, &["-o", "json"]].concat())?;
    check!(outcome.code == 0, "{words:?} as {uid}: {outcome:?}");
    Ok(serde_json::from_str(&outcome.stdout)?)
}

fn services(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|item| item["service"].as_str().unwrap_or("-")).collect()
}

fn tenants() -> Result {
    let gateway = gateway()?;
    let tls = gateway.identity()?;
    for path in ["/carts/1", "/carts/2", "/carts/3", "/library/1", "/library/2"] {
        let (status, body) = gateway.curl(&tls, path, &[])?;
        check!(status == 200, "{path}: {status} {body}");
    }
    let calls = gateway.decisions(&["--action", "http:GET"])?;
    check!(calls.len() == 5, "{calls:?}");
    let id = |service: &str| {
        let of = calls.iter().find(|call| call["service"] == service);
        of.and_then(|call| call["id"].as_str()).unwrap_or_default().to_owned()
    };
    let (cart, book) = (id("carts"), id("library"));

    // Lists, single records, explanations.
    // Beside the calls an auditor sees that his namespace was read, which is no call of a service.
    for (uid, service, calls) in [(SHOP, "carts", 3), (BOOKS, "library", 2)] {
        let all = asked(&gateway, uid, &["decisions", "query", "--all"])?;
        let mut seen = services(&all);
        seen.retain(|of| *of != "-");
        check!(seen == vec![service; calls], "{service}: {all}");
    }
    for (uid, own, other) in [(SHOP, &cart, &book), (BOOKS, &book, &cart)] {
        for command in [["decisions", "get"].as_slice(), &["explain"]] {
            let seen = gateway.cli_as(uid, &[command, &[own]].concat())?;
            check!(seen.code == 0, "{command:?} {own}: {seen:?}");
            let hidden = gateway.cli_as(uid, &[command, &[other]].concat())?;
            check!(hidden.code == 3 && !hidden.stderr.contains("web"), "{command:?} {other}: {hidden:?}");
        }
    }

    // Counts and exports.
    let stats =
        asked(&gateway, SHOP, &["decisions", "stats", "--by", "service,policy", "--action", "http:GET"])?;
    check!(stats["total"]["count"] == 3 && stats["groups"].as_array().map(Vec::len) == Some(1), "{stats}");
    check!(stats["groups"][0]["key"] == json!({"service": "carts", "policy": "web-all"}), "{stats}");
    // Roll-ups, which are behind by a moment.
    let begun = Instant::now();
    let carts = |report: &Value| {
        let groups = report["groups"].as_array().into_iter().flatten();
        groups.filter(|group| group["key"]["service"] == "carts").any(|group| group["allow"] == 3)
    };
    loop {
        let report = asked(&gateway, SHOP, &["decisions", "report", "--by", "service"])?;
        check!(!report.to_string().contains("library"), "{report}");
        if carts(&report) {
            break;
        }
        check!(begun.elapsed() < Duration::from_secs(10), "the calls are in no report: {report}");
        std::thread::sleep(Duration::from_millis(700));
    }
    let export = ["decisions", "export", "--action", "http:GET", "--format", "csv", "--purpose", "case 7"];
    let csv = gateway.cli_as(SHOP, &export)?;
    check!(csv.code == 0 && csv.stdout.lines().count() == 4, "{csv:?}");
    check!(!csv.stdout.contains("library") && csv.stdout.contains("/carts/1"), "{csv:?}");
    let refused = gateway.cli_as(BOOKS, &export)?;
    check!(refused.code == 77, "an export without the right: {refused:?}");

    // A cursor is its reader's.
    let page = gateway.json(&["decisions", "query", "--limit", "1"])?;
    let cursor = page["next_cursor"].as_str().ok_or("no cursor")?;
    let stolen = gateway.cli_as(SHOP, &["decisions", "query", "--limit", "1", "--cursor", cursor])?;
    check!(stolen.code == 3 && stolen.stderr.contains("cursor"), "{stolen:?}");

    // A tail from the beginning.
    let tailed = tail_as(&gateway, SHOP)?;
    let rows: Vec<Value> =
        tailed.stdout.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
    check!(rows.len() == 3 && rows.iter().all(|row| row["service"] == "carts"), "{tailed:?}");

    // The side of the caller: that it asked and what came of it.
    let outbound = asked(&gateway, FRONT, &["decisions", "query", "--action", "http:GET"])?;
    let items = outbound["items"].as_array().ok_or("no items")?;
    check!(items.len() == 5, "{outbound}");
    for item in items {
        check!(item["view"] == "outbound" && item["effect"] == "allow", "{item}");
        for hidden in
            ["determining", "service", "namespaces", "connection", "request", "credential", "stream"]
        {
            check!(item.get(hidden).is_none(), "{hidden} is told: {item}");
        }
    }
    let looked = asked(&gateway, FRONT, &["decisions", "query", "--policy", "web-all"])?;
    check!(looked["items"] == json!([]), "a filter looks behind the outbound view: {looked}");
    let why = gateway.cli_as(FRONT, &["explain", &cart])?;
    check!(why.code == 77 && !why.stderr.contains("web-all"), "{why:?}");

    let nobody = gateway.cli_as(NOBODY, &["decisions", "query"])?;
    check!(nobody.code == 77, "{nobody:?}");
    on_record(&gateway)
}

/// Every look of the auditor of the shop, with what it gave.
fn on_record(gateway: &Gateway) -> Result {
    let reads = gateway.decisions(&["--kind", "read", "--principal", &SHOP.to_string()])?;
    let calls: BTreeSet<&str> = reads.iter().filter_map(|read| read["body"]["call"].as_str()).collect();
    let expected = ["aggregate", "explain", "export", "get", "list", "report", "tail", "tail_end"];
    check!(calls == BTreeSet::from(expected), "{calls:?}");
    let of = |call: &str| reads.iter().filter(|read| read["body"]["call"] == call).collect::<Vec<_>>();
    let export = of("export").first().copied().ok_or("no export")?.clone();
    check!(export["body"]["count"] == 3 && export["body"]["purpose"] == "case 7", "{export}");
    check!(export["body"]["bytes"].as_u64().is_some_and(|bytes| bytes > 500), "{export}");
    check!(of("get").iter().any(|read| read["body"]["failed"] == "decision-not-found"), "{reads:?}");
    check!(of("list").iter().any(|read| read["body"]["failed"] == "foreign-cursor"), "{reads:?}");
    // What it was that each look showed, and by whom.
    check!(reads.iter().all(|read| read["credential"]["kind"] == "local"), "{reads:?}");
    let explained = |read: &&Value| read["body"]["bytes"].as_u64().is_some_and(|bytes| bytes > 100);
    check!(of("explain").iter().copied().any(|read| explained(&read)), "{reads:?}");
    check!(of("tail_end").iter().any(|read| read["body"]["count"] == 3), "{reads:?}");
    Ok(())
}

/// What a tail from the first record gives within two seconds.
fn tail_as(gateway: &Gateway, uid: u32) -> Result<Outcome> {
    let id = uid.to_string();
    let mut command = Command::new("timeout");
    command
        .args(["--preserve-status", "-s", "INT", "2", "setpriv", "--reuid", &id, "--regid", &id])
        .args(["--clear-groups", "--"])
        .arg(binary::portcullis())
        .args(["decisions", "tail", "--from", "0", "--action", "http:GET", "-o", "json", "--server"])
        .arg(format!("unix://{}", gateway.admin_socket().display()))
        .current_dir("/")
        .stdin(Stdio::null());
    Ok(command.output()?.into())
}

fn limited() -> Result {
    let gateway = Gateway::build()
        .env("PORTCULLIS_DECISIONS__QUESTIONS_PER_MINUTE", "3")
        .site(Upstream::echo().address)
        .start()?;
    for _ in 0..3 {
        check!(gateway.cli(&["decisions", "query"])?.code == 0, "a question within the limit");
    }
    let refused = gateway.cli(&["decisions", "query"])?;
    check!(refused.code == 75 && refused.stderr.contains("questions a minute"), "{refused:?}");
    let answer = gateway.ask("GET", "/v1/decisions", &[], None)?;
    check!(answer.status == 429, "{answer:?}");
    let wait = answer.header("retry-after").and_then(|after| after.parse::<u64>().ok());
    check!(wait.is_some_and(|wait| (1..=61).contains(&wait)), "{answer:?}");
    Ok(())
}

fn purposes() -> Result {
    let gateway =
        Gateway::build().decisions("require_purpose = true").site(Upstream::echo().address).start()?;
    let silent = gateway.cli(&["decisions", "export"])?;
    check!(silent.code == 3 && silent.stderr.contains("--purpose"), "{silent:?}");
    let told = gateway.cli(&["decisions", "export", "--all", "--purpose", "case 12"])?;
    check!(told.code == 0 && told.stdout.contains("StreamOpen"), "{told:?}");
    // In pieces it is the same, and each piece says where the next begins.
    let body = json!({"format": "ndjson", "limit": 1, "filter": {"kind": "stream_open"}, "since": "1d"});
    let purpose = [("portcullis-purpose", "case 12")];
    let piece = gateway.ask("POST", "/v1/decisions:export", &purpose, Some(&body))?;
    check!(piece.status == 200 && piece.header("portcullis-rows") == Some("1"), "{piece:?}");
    check!(piece.header("portcullis-next-cursor").is_some(), "{piece:?}");
    let wrong = gateway.cli(&["decisions", "export", "--purpose", "x", "--format", "cvs"])?;
    check!(wrong.code == 3 && wrong.stderr.contains("did you mean `csv`"), "{wrong:?}");
    let wrong = gateway.cli(&["decisions", "stats", "--by", "principle"])?;
    check!(wrong.code == 3 && wrong.stderr.contains("did you mean `principal`"), "{wrong:?}");
    Ok(())
}

fn tail() -> Result {
    let mut gateway = Gateway::before(Upstream::echo().address)?;
    let tls = gateway.identity()?;
    let mut command = Command::new(binary::portcullis());
    command
        .args(["decisions", "tail", "--action", "http:GET", "-o", "json", "--server"])
        .arg(format!("unix://{}", gateway.admin_socket().display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let begun = std::time::Instant::now();
    while gateway.decisions(&["--kind", "read", "--all"])?.iter().all(|read| read["body"]["call"] != "tail") {
        check!(begun.elapsed().as_secs() < 10, "the tail has not begun");
    }
    for path in ["/1", "/2"] {
        check!(gateway.curl(&tls, path, &[])?.0 == 200, "{path}");
    }
    gateway.restart()?;
    for path in ["/3", "/4"] {
        check!(gateway.curl(&tls, path, &[])?.0 == 200, "{path}");
    }
    std::thread::sleep(std::time::Duration::from_secs(4));
    child.kill()?;
    let output: Outcome = child.wait_with_output()?.into();
    let paths: Vec<String> = output
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|row| Some(row.pointer("/request/path")?.as_str()?.to_owned()))
        .collect();
    check!(paths == ["/1", "/2", "/3", "/4"], "{paths:?}");
    Ok(())
}
