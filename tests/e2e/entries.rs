//! Registration entries and the bundle from the command line: read, counted, changed, applied from a file, explained.

use std::fs;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::{Gateway, Result, check, own_uid};

use crate::trial;

const WEB: &str = "spiffe://example.org/web";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("en_04_an_entry_is_read_changed_and_brought_back_by_its_undo", None, updated),
        trial("en_04_a_file_of_entries_is_shown_and_applied", None, applied),
        trial("en_04_a_broken_file_of_entries_is_told_with_its_place", None, broken),
        trial("en_06_a_process_is_explained_with_its_entries_and_nearest_misses", None, explained),
        trial("ic_02_the_bundle_is_shown_as_keys_as_pem_and_as_jwk_set", None, bundle),
    ]
}

fn gateway() -> Result<Gateway> {
    Gateway::build().start()
}

fn web(gateway: &Gateway) -> Result<Value> {
    let list = gateway.json(&["entry", "list", "--id", WEB])?;
    let items = list["items"].as_array().ok_or("no items")?;
    check!(items.len() == 1, "{list}");
    Ok(items[0].clone())
}

fn updated() -> Result {
    let gateway = gateway()?;
    let entry = web(&gateway)?;
    let id = entry["id"].as_str().ok_or("no id")?;
    let got = gateway.json(&["entry", "get", id])?;
    check!(got["spiffe_id"] == WEB && got["kind"] == "Entry", "{got}");
    let shown = gateway.cli(&["entry", "get", id])?;
    check!(shown.stdout.contains("dns_names   localhost"), "{shown:?}");
    check!(gateway.json(&["entry", "count"])?["count"] == 1, "one entry is registered");
    check!(gateway.json(&["entry", "count", "--namespace", "shop"])?["count"] == 0, "none is in shop");

    let change = ["entry", "update", id, "--dns-name", "web.local", "--ttl", "30m", "--namespace", "shop"];
    let changed = gateway.cli(&change)?;
    check!(changed.code == 0 && changed.stdout.contains("dns_names: localhost -> web.local"), "{changed:?}");
    let undo = changed.stdout.lines().find_map(|line| line.strip_prefix("undo: portcullis "));
    let undo: Vec<&str> = undo.ok_or("no undo")?.split(' ').collect();
    let after = web(&gateway)?;
    check!(after["dns_names"] == json!(["web.local"]) && after["x509_ttl"] == "1800s", "{after}");
    check!(after["selectors"] == entry["selectors"], "what was not named changed: {after}");
    let again = gateway.cli(&change)?;
    check!(again.code == 0 && again.stdout.contains("says this already"), "{again:?}");
    check!(gateway.json(&["entry", "count", "--namespace", "shop"])?["count"] == 1, "it is in shop");

    let back = gateway.cli(&undo)?;
    check!(back.code == 0, "{undo:?}: {back:?}");
    let back = web(&gateway)?;
    for field in ["dns_names", "x509_ttl", "namespace", "selectors"] {
        check!(back[field] == entry[field], "{field} is not what it was: {back}");
    }
    let nobody = gateway.cli(&["entry", "get", "nobody"])?;
    check!(nobody.code == 3 && nobody.stderr.contains("portcullis entry list"), "{nobody:?}");
    let wrong = gateway.cli(&["entry", "update", id, "--selector", "unix:uuid:1"])?;
    check!(wrong.code == 3 && wrong.stderr.contains("uid"), "{wrong:?}");
    Ok(())
}

fn applied() -> Result {
    let gateway = gateway()?;
    let uid = own_uid();
    let file = gateway.dir().join("entries.toml");
    let path = file.display().to_string();
    let entry = |id: &str, more: &str| {
        format!(
            "[[ca.entry]]\nspiffe_id = \"spiffe://example.org/{id}\"\nselectors = [\"unix:uid:{uid}\"]\n{more}"
        )
    };
    fs::write(&file, format!("{}{}", entry("a", "hint = \"a\"\n"), entry("b", "")))?;
    let count = || -> Result<Value> { Ok(gateway.json(&["entry", "count"])?["count"].clone()) };

    let looked = gateway.cli(&["entry", "apply", "-f", &path, "--dry-run"])?;
    check!(looked.code == 0 && looked.stdout.contains("+ spiffe://example.org/a"), "{looked:?}");
    check!(looked.stdout.contains("2 would change, 0 failed, 0 unchanged"), "{looked:?}");
    check!(count()? == 1, "a dry run changed something");
    let done = gateway.json(&["entry", "apply", "-f", &path])?;
    check!(done["items"].as_array().is_some_and(|items| items.len() == 2) && count()? == 3, "{done}");
    let again = gateway.json(&["entry", "apply", "-f", &path])?;
    check!(again["unchanged"] == 2 && again["items"] == json!([]), "{again}");

    fs::write(&file, entry("a", "hint = \"z\"\n"))?;
    let looked = gateway.cli(&["entry", "apply", "-f", &path, "--dry-run", "--prune"])?;
    check!(looked.stdout.contains("    hint: a -> z"), "{looked:?}");
    check!(looked.stdout.contains("- spiffe://example.org/b"), "{looked:?}");
    check!(!looked.stdout.contains("example.org/web"), "the configuration's own is to go: {looked:?}");
    let asked = gateway.cli(&["entry", "apply", "-f", &path, "--prune"])?;
    check!(asked.code == 64 && count()? == 3, "{asked:?}");
    let pruned = gateway.cli(&["entry", "apply", "-f", &path, "--prune", "--yes"])?;
    check!(pruned.code == 0 && count()? == 2, "{pruned:?}");

    // What the authority refuses is told for its entry, and the others are done.
    let foreign = entry("c", "") + &entry("d", "namespace = \"no such/word\"\n");
    fs::write(&file, foreign)?;
    let partly = gateway.cli(&["entry", "apply", "-f", &path, "-o", "json"])?;
    check!(partly.code == 4 || partly.code == 3, "{partly:?}");
    Ok(())
}

fn broken() -> Result {
    let gateway = gateway()?;
    let file = gateway.dir().join("entries.toml");
    let path = file.display().to_string();
    for (text, said) in [
        (
            "[[ca.entry]]\nspiffe_id = \"spiffe://example.org/a\"\nselektors = [\"unix:uid:1\"]\n",
            "did you mean `selectors`?",
        ),
        ("[[ca.entry]]\nspiffe_id = \"web\"\nselectors = [\"unix:uid:1\"]\n", "entries.toml:2:13"),
        ("[[ca.entry]]\nspiffe_id = \"spiffe://example.org/a\"\nselectors = []\n", "entries.toml:3"),
        (
            "[[entry]]\nspiffe_id = \"spiffe://example.org/a\"\n",
            "a file of entries holds [[ca.entry]] tables",
        ),
        ("[ca]\nsvid_ttl = \"1h\"\n", "a file of entries holds [[ca.entry]] tables"),
        ("[[ca.entry]\n", "not valid TOML"),
    ] {
        fs::write(&file, text)?;
        let refused = gateway.cli(&["entry", "apply", "-f", &path, "--dry-run"])?;
        check!(refused.code == 3 && refused.stderr.contains(said), "{text}: {refused:?}");
    }
    check!(
        gateway.cli(&["entry", "apply", "-f", "/nonexistent.toml"])?.code == 3,
        "a file that is not there"
    );
    Ok(())
}

fn explained() -> Result {
    let gateway = gateway()?;
    let uid = own_uid();
    let create = |id: &str, selectors: &[&str]| -> Result {
        let id = format!("spiffe://example.org/{id}");
        let mut words = vec!["entry", "create", "--id", &id];
        selectors.iter().for_each(|selector| words.extend(["--selector", selector]));
        let created = gateway.cli(&words)?;
        check!(created.code == 0, "{created:?}");
        Ok(())
    };
    let own = format!("unix:uid:{uid}");
    create("far", &["unix:uid:4711", "unix:gid:4711"])?;
    create("near", &[&own, "unix:path:/no/such"])?;
    let mut process = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn()?;
    let pid = process.id().to_string();
    let told = gateway.json(&["entry", "explain", &pid]);
    let text = gateway.cli(&["entry", "explain", &pid]);
    process.kill()?;
    process.wait()?;
    let (told, text) = (told?, text?);
    check!(told["selectors"].as_array().is_some_and(|found| found.contains(&json!(own))), "{told}");
    check!(told["matching"][0]["spiffe_id"] == WEB, "{told}");
    let nearest: Vec<_> = told["nearest"].as_array().into_iter().flatten().collect();
    check!(nearest.len() == 2 && nearest[0]["spiffe_id"] == "spiffe://example.org/near", "{told}");
    check!(nearest[0]["missing"] == json!(["unix:path:/no/such"]), "{told}");
    check!(text.stdout.contains("it is not unix:path:/no/such"), "{text:?}");
    let gone = gateway.cli(&["entry", "explain", &pid])?;
    check!(gone.code == 3 && gone.stderr.contains("no such process"), "{gone:?}");
    check!(gateway.cli(&["entry", "explain", "0"])?.code == 64, "no process has this number");

    let gateway = Gateway::build().entries("").start()?;
    let nothing = gateway.cli(&["entry", "explain", &std::process::id().to_string()])?;
    check!(nothing.code == 2 && nothing.stdout.contains("no entry matches"), "{nothing:?}");
    Ok(())
}

fn bundle() -> Result {
    let gateway = gateway()?;
    let shown = gateway.json(&["bundle", "show"])?;
    check!(shown["trust_domain"] == "example.org" && shown["sequence"].as_u64() >= Some(1), "{shown}");
    let uses: Vec<_> = shown["keys"].as_array().into_iter().flatten().map(|key| key["use"].clone()).collect();
    check!(uses.contains(&json!("x509-svid")) && uses.contains(&json!("jwt-svid")), "{shown}");
    let text = gateway.cli(&["bundle", "show"])?;
    check!(text.stdout.contains("trust domain  example.org"), "{text:?}");
    let pem = gateway.cli(&["bundle", "show", "--format", "pem"])?;
    let tls = gateway.identity()?;
    let written = fs::read_to_string(tls.join("bundle.pem"))?;
    check!(pem.stdout == written, "two sets of roots:\n{}\n{written}", pem.stdout);
    let set = gateway.cli(&["bundle", "show", "--format", "spiffe"])?;
    let set: Value = serde_json::from_str(&set.stdout)?;
    check!(set["keys"].as_array().is_some_and(|keys| keys.len() == uses.len()), "{set}");
    check!(set["spiffe_sequence"] == shown["sequence"], "{set}");
    Ok(())
}
