//! Questions without a call: may this be done, who can do it, what can that caller do, and which permit would help.

use std::fs;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use super::until;
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("who_can_and_what_can_answer_from_the_policies_in_force", None, reverse),
        trial("can_asks_other_versions_and_other_times_and_knows_near_names", None, can),
        trial(
            "ex8_a_suggestion_comes_with_its_case_and_its_effect_and_is_written_on_demand",
            missing("curl"),
            suggested,
        ),
        trial("ex8_nothing_is_suggested_where_no_permit_helps", missing("curl"), useless),
    ]
}

const POLICIES: &str = r#"@id("read")
@owner("shop")
permit (principal == Workload::"spiffe://example.org/web", action in Action::"http:read", resource == Route::"site");

@id("inner")
permit (principal in TrustDomain::"example.org", action == Action::"http:POST", resource)
when { context.connection.listener == "inner" };
"#;
const WEB: &str = "spiffe://example.org/web";
const SITE: &str = "Route::\"site\"";

fn gateway(policies: &str) -> Result<Gateway> {
    Gateway::build().policy(policies).site(Upstream::echo().address).start()
}

fn reverse() -> Result {
    let gateway = gateway(POLICIES)?;
    let reads = gateway.cli(&["who-can", "http:GET", SITE])?;
    check!(reads.code == 0, "{reads:?}");
    let line = reads.stdout.lines().find(|line| line.contains(WEB)).unwrap_or_default();
    check!(
        line.contains("allow") && line.contains("read (") && line.contains("web.cedar:3)"),
        "{}",
        reads.stdout
    );
    check!(reads.stdout.contains("1 always, 0 under a condition, "), "{}", reads.stdout);
    let posts = gateway.json(&["who-can", "http:POST", SITE])?;
    let items = posts["items"].as_array().cloned().unwrap_or_default();
    check!(items.len() >= 2, "a class and a caller: {posts}");
    check!(items[0]["class"] == "any other workload of example.org", "classes come first: {posts}");
    for item in &items {
        check!(
            item["verdict"] == "depends" && item["condition"] == "context.connection.listener == \"inner\"",
            "{item}"
        );
        check!(
            item["policies"][0]["policy"] == "inner" && item["policies"][0]["source"]["line"] == 6,
            "{item}"
        );
    }
    let nobody = gateway.cli(&["who-can", "http:DELETE", SITE])?;
    check!(nobody.code == 2 && nobody.stdout.contains("0 always"), "{nobody:?}");
    let near = gateway.cli(&["who-can", "http:GET", "Route::\"sitee\""])?;
    check!(near.code == 3 && near.stderr.contains("did you mean `site`?"), "{near:?}");
    let never = gateway.cli(&["who-can", "grpc", SITE])?;
    check!(never.code == 3 && never.stderr.contains("no `grpc` on a Route"), "{never:?}");

    let what = gateway.json(&["what-can", WEB])?;
    let site = |what: &Value| -> Vec<Value> {
        what["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|item| item["resource"] == SITE)
            .cloned()
            .collect()
    };
    let lines = site(&what);
    check!(lines.len() == 2, "reads and posts: {what}");
    check!(
        lines[0]["actions"].as_array().is_some_and(|actions| actions.len() == 4),
        "reads stand together: {what}"
    );
    let page = gateway.json(&["what-can", WEB, "--limit", "1"])?;
    let next = page["next"].as_str().ok_or("no next")?.to_owned();
    let second = gateway.json(&["what-can", WEB, "--limit", "1", "--cursor", &next])?;
    check!(
        page["items"][0] == what["items"][0] && second["items"][0] == what["items"][1],
        "pages: {page} {second}"
    );
    let wrong = gateway.cli(&["what-can", "spiffe://example.org/wbe"])?;
    check!(wrong.stderr.contains("did you mean `spiffe://example.org/web`?"), "{wrong:?}");
    let none = gateway.cli(&["what-can", "spiffe://other.org/x", "--action", "http:GET"])?;
    check!(none.code == 2, "{none:?}");
    // Who may ask is decided like everything else.
    for limit in ["0", "1001", "x"] {
        let path = format!("/v1/policies:what-can?principal=anonymous&limit={limit}");
        check!(gateway.ask("GET", &path, &[], None)?.status == 400, "limit={limit}");
    }
    Ok(())
}

fn can() -> Result {
    let gateway = gateway(POLICIES)?;
    let ask = |more: &[&str]| gateway.cli(&[&["can", WEB, "http:GET", SITE], more].concat());
    let allowed = ask(&[])?;
    check!(allowed.code == 0 && allowed.stdout.starts_with("ALLOW  web -> "), "{allowed:?}");
    check!(allowed.stdout.lines().count() == 2, "clauses nobody asked for: {}", allowed.stdout);
    let clauses = ask(&["--explain"])?;
    check!(clauses.stdout.contains("          principal  "), "no clauses: {}", clauses.stdout);
    let first = gateway.policies_version()?;
    let then = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%NZ"]).output()?;
    let then = String::from_utf8(then.stdout)?.trim().to_owned();
    gateway.publish("web.cedar", &super::permit("nobody", "nobody", 0))?;
    check!(ask(&[])?.code == 2, "the second version allows");
    let old = ask(&["--version", &format!("v{first}")])?;
    check!(old.code == 0 && old.stdout.contains(&format!("policies v{first}")), "{old:?}");
    let past = ask(&["--at", &then])?;
    check!(past.code == 0 && past.stdout.contains(&format!("policies v{first}")), "at {then}: {past:?}");
    let now = ask(&["--at", "2200-01-01T00:00:00Z"])?;
    check!(now.code == 2, "a time to come is asked of what is in force: {now:?}");
    let before = ask(&["--at", "2001-01-01T00:00:00Z"])?;
    check!(before.code == 3 && before.stderr.contains("no policies were in force then"), "{before:?}");
    check!(ask(&["--at", "yesterday"])?.code == 3 && ask(&["--version", "v999"])?.code == 3, "nonsense");

    let action = gateway.cli(&["can", WEB, "http:GTE", SITE])?;
    check!(action.code == 3 && action.stderr.contains("did you mean `http:GET`?"), "{action:?}");
    let route = gateway.cli(&["can", WEB, "http:GET", "Route::\"siet\""])?;
    check!(route.code == 2 && route.stderr.contains("did you mean `site`?"), "{route:?}");
    check!(route.stdout.contains("the policies know nothing of Route \"siet\""), "{route:?}");
    Ok(())
}

/// The id of the newest denial of that action.
fn denial(gateway: &Gateway, action: &str) -> Result<String> {
    until("a denial", || {
        let denied = gateway.decisions(&["--deny", "--action", action])?;
        Ok(denied.first().and_then(|record| record["id"].as_str()).map(str::to_owned))
    })
}

fn suggested() -> Result {
    let gateway = gateway(POLICIES)?;
    let tls = gateway.identity()?;
    for _ in 0..3 {
        check!(gateway.curl(&tls, "/a", &["-X", "PUT"])?.0 == 403, "not refused");
    }
    let id = denial(&gateway, "http:PUT")?;
    let suggested = gateway.json(&["policy", "suggest", &id])?;
    let effect = &suggested["effect"];
    check!(
        effect["newly_allowed"] == 3 && effect["refused"] == 3 && effect["partial"] == false,
        "{suggested}"
    );
    check!(
        suggested["test"]["decision"] == "allow" && suggested["test"]["reason"][0] == suggested["id"],
        "{suggested}"
    );
    let shown = gateway.cli(&["policy", "suggest", &id])?;
    check!(shown.stdout.starts_with("@id(") && shown.stderr.contains("3 of 3 refusals"), "{shown:?}");

    let policies = gateway.dir().join("policies");
    let before = gateway.policies_version()?;
    let dir = policies.display().to_string();
    let written = gateway.cli(&["policy", "suggest", &id, "--write", &dir])?;
    check!(written.code == 0 && written.stdout.contains("suggested.cedar"), "{written:?}");
    until("the suggestion in force", || Ok((gateway.policies_version()? > before).then_some(())))?;
    check!(gateway.curl(&tls, "/a", &["-X", "PUT"])?.0 == 200, "the suggestion does not permit the call");
    check!(gateway.curl(&tls, "/a", &["-X", "DELETE"])?.0 == 403, "the suggestion permits another method");
    let tested = gateway.cli(&["policy", "test"])?;
    check!(tested.code == 0 && tested.stdout.contains("1 passed, 0 failed"), "{tested:?}");
    let text = fs::read_to_string(policies.join("suggested.cedar"))?;
    // In force already, so a second one has an id of its own; asked again, it is told.
    let again = gateway.cli(&["policy", "suggest", &id])?;
    check!(again.stderr.contains("permit this call already"), "{again:?}");
    let other = denial(&gateway, "http:DELETE")?;
    let more = gateway.cli(&["policy", "suggest", &other, "--write", &dir])?;
    check!(more.code == 0, "{more:?}");
    let both = fs::read_to_string(policies.join("suggested.cedar"))?;
    check!(both.starts_with(&text) && both.matches("@id(").count() == 2, "something was overwritten: {both}");
    let cases: Vec<Value> = serde_json::from_str(&fs::read_to_string(policies.join("suggested_test.json"))?)?;
    check!(cases.len() == 2, "{cases:?}");
    Ok(())
}

fn useless() -> Result {
    let gateway = Gateway::build()
        .policy("@id(\"stop\")\n@owner(\"risk\")\nforbid (principal, action == Action::\"http:PUT\", resource);\n")
        .service("site", &[])
        .route("site", "site", "{ path = \"/site\" }", &format!("http://{}", Upstream::echo().address))
        .start()?;
    let tls = gateway.identity()?;
    check!(gateway.curl(&tls, "/site", &["-X", "PUT"])?.0 == 403, "not refused");
    check!(gateway.curl(&tls, "/nowhere", &["-X", "POST"])?.0 == 404, "not refused");
    let forbidden = gateway.cli(&["policy", "suggest", &denial(&gateway, "http:PUT")?])?;
    check!(forbidden.code == 3, "{forbidden:?}");
    for said in ["PC2060", "forbid matched: stop [", "web.cedar:3]", "ask risk"] {
        check!(forbidden.stderr.contains(said), "`{said}` is not said: {}", forbidden.stderr);
    }
    let nowhere = gateway.cli(&["policy", "suggest", &denial(&gateway, "http:POST")?])?;
    check!(nowhere.code == 3 && nowhere.stderr.contains("no registered route"), "{nowhere:?}");
    Ok(())
}
