//! Templates, their links and the schema of a team, in a directory that is watched.

use std::fs;

use libtest_mimic::Trial;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use super::{permit, refusal};
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("a_link_grants_what_its_template_says_and_a_bad_one_changes_nothing", missing("curl"), links),
        trial("pc2005_the_schema_of_a_team_adds_and_never_shadows", None, team),
    ]
}

const TEMPLATE: &str =
    "@id(\"caller\")\npermit (principal == ?principal, action in Action::\"call\", resource);\n";

fn link(who: &str) -> String {
    format!(
        "[{{ \"id\": \"link\", \"template\": \"caller\",\n   \"principal\": \"Workload::\\\"spiffe://example.org/{who}\\\"\" }}]\n"
    )
}

fn links() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let tls = gateway.identity()?;
    gateway.publish("web.cedar", TEMPLATE)?;
    check!(gateway.curl(&tls, "/", &[])?.0 == 403, "a template alone grants");
    let good = gateway.publish("web.links.json", &link("web"))?;
    check!(gateway.curl(&tls, "/", &[])?.0 == 200, "a link grants nothing");
    let explained =
        gateway.cli(&["can", "spiffe://example.org/web", "http:GET", "Route::\"site\"", "--explain"])?;
    check!(explained.stdout.contains("link"), "the link is not named: {explained:?}");

    fs::write(gateway.dir().join("policies/web.links.json"), link("web").replace("caller", "callers"))?;
    let found = refusal(&gateway)?;
    check!(found["code"] == "PC2015" && found["line"] == 1, "place: {found}");
    check!(gateway.policies_version()? == good, "a bad link got a number");
    check!(gateway.curl(&tls, "/", &[])?.0 == 200, "the last good policies are not in force");

    gateway.publish("web.links.json", &link("other"))?;
    check!(gateway.curl(&tls, "/", &[])?.0 == 403, "a link grants to whom it does not name");
    Ok(())
}

fn team() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let schema = "namespace Payments { entity Till; action refund appliesTo { principal: [Till], resource: [Till] }; }\n";
    fs::write(gateway.dir().join("policies/payments.cedarschema"), schema)?;
    let own = "@id(\"till\")\n@owner(\"payments\")\nforbid (principal, action == Payments::Action::\"refund\", resource);\n";
    gateway.publish("web.cedar", &format!("{}{own}", permit("web", "web", 0)))?;
    fs::write(
        gateway.dir().join("policies/payments.cedarschema"),
        schema.replace("entity Till;", "entity Till; entity Workload;"),
    )?;
    let found = refusal(&gateway)?;
    check!(found["code"] == "PC2005", "shadowing is taken: {found}");
    check!(
        found["file"].as_str().is_some_and(|file| file.ends_with("payments.cedarschema")),
        "file: {found}"
    );
    Ok(())
}
