//! For those who look from outside: `svid verify` of files, servers and Workload APIs, `svid mint`, and revocation lists as
//! openssl and curl take them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::missing;
use tests::port::free_port;
use tests::upstream::Upstream;
use tests::{Gateway, Outcome, Result, check};

use super::plain;
use super::revoked::{Issuer, is_taken};
use crate::trial;

const ALLOW: &str = "@id(\"all\")\npermit (principal, action in Action::\"call\", resource);\n";

pub(super) fn trials() -> Vec<Trial> {
    let tools = || missing("openssl").or_else(|| missing("curl"));
    vec![
        trial("ic_02_svid_verify_says_whether_and_why_not", None, verified),
        trial("ic_02_svid_mint_makes_the_key_itself_and_asks_the_gate", None, minted),
        trial("ic_05_the_authority_counts_what_it_did_and_how_long_it_took", None, counted),
        trial("rv_06_revocation_lists_are_published_and_openssl_refuses_by_them", tools(), lists),
    ]
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// It is refused, with that word.
fn refused(answer: &Outcome, word: &str) -> Result {
    check!(answer.code == 3 && answer.stderr.contains("PC1006"), "{answer:?}");
    check!(answer.stderr.contains(&format!("[{word}]")), "no `{word}`: {answer:?}");
    Ok(())
}

fn verified() -> Result {
    let gateway = plain()?;
    let (tls, socket) = (gateway.identity()?, gateway.workload_socket());
    let (file, bundle) = (shown(&tls.join("svid.pem")), shown(&tls.join("bundle.pem")));
    let web = "spiffe://example.org/web";
    for more in [&["--bundle", &bundle][..], &["--socket", &socket], &["--bundle", &bundle, "--id", web]] {
        let good = gateway.json(&[&["svid", "verify", &file], more].concat())?;
        check!(good["spiffe_id"] == web && good["expires"].is_string(), "{more:?}: {good}");
    }
    let verify = |words: &[&str]| gateway.cli(&[&["svid", "verify"], words].concat());
    refused(&verify(&[&file, "--bundle", &bundle, "--id", "spiffe://example.org/api"])?, "unexpected_id")?;
    let foreign = verify(&[&file, "--bundle", &bundle, "--trust-domain", "other.org"])?;
    check!(foreign.code == 3 && foreign.stderr.contains("PC1002"), "a root of another domain: {foreign:?}");
    // A chain without its middle, and another authority of the same name.
    let leaf = gateway.dir().join("leaf.pem");
    let text = fs::read_to_string(&file)?;
    fs::write(&leaf, text.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap_or_default())?;
    refused(&verify(&[&shown(&leaf), "--bundle", &bundle])?, "no_path")?;
    let other = plain()?;
    let strangers = shown(&other.identity()?.join("bundle.pem"));
    refused(&verify(&[&file, "--bundle", &strangers])?, "no_path")?;
    let none = verify(&[&shown(&gateway.dir().join("portcullis.toml")), "--bundle", &bundle])?;
    check!(none.code == 3 && none.stderr.contains("PC1006"), "{none:?}");

    // Whoever answers over TLS; a SPIFFE bundle does as well.
    let server = format!("https://{}", gateway.address);
    let spiffe = gateway.dir().join("bundle.json");
    fs::write(&spiffe, gateway.cli(&["bundle", "show", "--format", "spiffe"])?.stdout)?;
    let own = ["--bundle", &shown(&spiffe), "--trust-domain", "example.org"];
    for more in [&own[..], &["--socket", &socket]] {
        let good = gateway.json(&[&["svid", "verify", &server], more].concat())?;
        check!(good["spiffe_id"] == "spiffe://example.org/gateway", "{good}");
    }
    refused(&verify(&[&server, "--socket", &socket, "--id", web])?, "unexpected_id")?;
    refused(&verify(&[&server, "--bundle", &strangers, "--trust-domain", "example.org"])?, "no_path")?;
    let whose = verify(&[&server, "--bundle", &bundle])?;
    check!(whose.code == 64 && whose.stderr.contains("--trust-domain"), "{whose:?}");
    let nobody = verify(&[&format!("https://127.0.0.1:{}", free_port()), "--socket", &socket])?;
    check!(nobody.code == 69, "{nobody:?}");

    // A Workload API, and a token.
    let api = gateway.json(&["svid", "verify", &socket])?;
    check!(api["items"][0]["spiffe_id"] == web, "{api}");
    let tokens = gateway.json(&["svid", "fetch", "--socket", &socket, "--audience", "orders"])?;
    let token = gateway.dir().join("token.jwt");
    fs::write(&token, tokens["items"][0]["token"].as_str().ok_or("no token")?)?;
    let token = shown(&token);
    for more in [&["--bundle", &shown(&spiffe)][..], &["--socket", &socket]] {
        let good = gateway.json(&[&["svid", "verify", &token, "--audience", "orders"], more].concat())?;
        check!(good["spiffe_id"] == web, "{good}");
    }
    refused(&verify(&[&token, "--audience", "billing", "--bundle", &shown(&spiffe)])?, "wrong_audience")?;
    refused(&verify(&[&token, "--audience", "orders", "--bundle", &bundle])?, "no_keys")?;
    let whom = verify(&[&token, "--bundle", &shown(&spiffe)])?;
    check!(whom.code == 64 && whom.stderr.contains("--audience"), "{whom:?}");
    Ok(())
}

fn minted() -> Result {
    let forbid = "@id(\"no-minted-admins\")\nforbid (principal, action == Portcullis::Action::\"identity:issue\", resource is Workload)\nwhen { context.attested_by.contains(\"minted\") && resource.path == \"/admin\" };\n";
    let site = Upstream::echo();
    let gateway = Gateway::build().policy(&format!("{ALLOW}{forbid}")).site(site.address).start()?;
    let dir = shown(&gateway.dir().join("laptop"));
    let mint = |words: &[&str]| gateway.cli(&[&["svid", "mint"], words].concat());
    let laptop = "spiffe://example.org/laptop";
    let made = gateway.json(&[
        "svid",
        "mint",
        laptop,
        "--dir",
        &dir,
        "--dns-name",
        "laptop.local",
        "--ttl",
        "10m",
    ])?;
    check!(made["spiffe_id"] == laptop && made["ttl_clamped"] == false, "{made}");
    let file = format!("{dir}/svid.pem");
    let facts = gateway.json(&["svid", "inspect", &file])?;
    check!(facts["items"][0]["dns_names"] == serde_json::json!(["laptop.local"]), "{facts}");
    check!(is_taken(&gateway, Path::new(&dir))?, "what was minted is not taken");
    let good = gateway.json(&["svid", "verify", &file, "--bundle", &format!("{dir}/bundle.pem")])?;
    check!(good["serial"] == made["serial"], "{good} {made}");

    let elsewhere = shown(&gateway.dir().join("elsewhere"));
    let denied = mint(&["spiffe://example.org/admin", "--dir", &elsewhere])?;
    check!(denied.code == 77, "the gate was not asked: {denied:?}");
    for wrong in ["spiffe://example.org/portcullis/ca", "spiffe://other.org/web", "spiffe://example.org"] {
        let refused = mint(&[wrong, "--dir", &elsewhere])?;
        check!(refused.code == 3, "{wrong}: {refused:?}");
    }
    let short = mint(&[laptop, "--dir", &elsewhere, "--ttl", "4m"])?;
    check!(short.code == 3, "{short:?}");
    check!(!Path::new(&elsewhere).exists(), "something was written for what was refused");

    let serial = made["serial"].as_str().ok_or("no serial")?;
    let events = gateway.records("kind=authority")?;
    let told = events.iter().find(|record| record["body"]["event"] == "minted").ok_or("not on record")?;
    let told = told.to_string();
    check!(told.contains(serial) && told.contains(laptop) && told.contains("local user "), "{told}");
    let listed = gateway.json(&["svid", "list"])?;
    let of = |svid: &&Value| svid["serial"] == serial;
    let listed = listed["items"].as_array().into_iter().flatten().find(of).ok_or("it is not listed")?.clone();
    check!(listed["spiffe_id"] == laptop, "{listed}");
    gateway.json(&["svid", "revoke", "--serial", serial, "--reason", "lost", "--yes"])?;
    check!(!is_taken(&gateway, Path::new(&dir))?, "what was minted cannot be revoked");
    Ok(())
}

fn counted() -> Result {
    let gateway = plain()?;
    let uid = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self")?);
    let entry = serde_json::json!({ "spiffe_id": "spiffe://example.org/new", "selectors": [format!("unix:uid:{uid}")] });
    let created = gateway.ask("POST", "/v1/entries", &[], Some(&entry))?;
    check!(created.status == 201, "{created:?}");
    let evidence = serde_json::json!({ "type": "join_token", "token": "0".repeat(32) });
    let body = serde_json::json!({ "evidence": evidence, "csr": "MAA=" });
    let refused = gateway.ask("POST", "/v1/agents:attest", &[], Some(&body))?;
    check!(refused.status != 200, "{refused:?}");
    gateway.json(&["svid", "revoke", "--id", "spiffe://example.org/new", "--reason", "test", "--yes"])?;
    let dir = shown(&gateway.dir().join("minted"));
    let denied = gateway.cli(&["svid", "mint", "spiffe://example.org/new", "--dir", &dir])?;
    check!(denied.code != 0, "minted for a revoked identity: {denied:?}");
    let wanted = [
        "portcullis_svids_issued_total{type=\"x509\"} ",
        "portcullis_attestations_total{kind=\"join_token\",result=\"refused\"} 1",
        "portcullis_svid_refusals_total{type=\"x509\",reason=\"revoked\"} ",
        "portcullis_entry_to_svid_seconds_count 1",
        "portcullis_revocation_propagation_seconds_count 1",
        "portcullis_journal_commit_seconds_count ",
    ];
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let (_, metrics) = gateway.http("/metrics")?;
        let Some(missing) = wanted.iter().find(|line| !metrics.contains(**line)) else { return Ok(()) };
        check!(Instant::now() < end, "no {missing}: {metrics}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Lists that name `count` certificates together, once they do.
fn lists_of(gateway: &Gateway, count: u64) -> Result<Vec<Value>> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let lists = gateway.json(&["ca", "crl"])?["items"].as_array().cloned().unwrap_or_default();
        let named: u64 = lists.iter().filter_map(|list| list["entries"].as_u64()).sum();
        if named == count && !lists.is_empty() {
            return Ok(lists);
        }
        check!(Instant::now() < end, "not {count} entries: {lists:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn lists() -> Result {
    let (site, port) = (Upstream::echo(), free_port());
    let gateway = Gateway::build().ca(&Issuer::listen(port)).policy(ALLOW).site(site.address).start()?;
    let (tls, minted) = (gateway.identity()?, gateway.dir().join("laptop"));
    gateway.json(&["svid", "mint", "spiffe://example.org/laptop", "--dir", &shown(&minted)])?;
    let before = lists_of(&gateway, 0)?;
    check!(before.len() == 2, "root and signing CA: {before:?}");
    gateway.json(&["svid", "revoke", &shown(&minted.join("svid.pem")), "--reason", "lost", "--yes"])?;
    let after = lists_of(&gateway, 1)?;
    for (old, new) in before.iter().zip(&after) {
        let number = |list: &Value| list["number"].as_str().and_then(|text| text.parse::<u64>().ok());
        check!(number(new) > number(old), "{old} {new}");
    }
    let file = gateway.dir().join("crls.pem");
    fs::write(&file, gateway.cli(&["ca", "crl", "--format", "pem"])?.stdout)?;
    let verify = |svid: &Path| -> Result<(bool, String)> {
        let mut command = Command::new("openssl");
        command.args(["verify", "-x509_strict", "-crl_check_all", "-CRLfile"]).arg(&file);
        command.arg("-CAfile").arg(tls.join("bundle.pem")).arg("-untrusted").arg(svid).arg(svid);
        let output = command.output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    };
    let (taken, said) = verify(&tls.join("svid.pem"))?;
    check!(taken, "{said}");
    let (taken, said) = verify(&minted.join("svid.pem"))?;
    check!(!taken && said.contains("certificate revoked"), "{said}");

    // Beside the bundle, in DER, for whoever can reach the port of the authority; no certificate is asked for.
    for list in &after {
        let key = list["key_id"].as_str().ok_or("no key")?;
        let der = gateway.dir().join("list.crl");
        let output = Command::new("curl")
            .args(["-sS", "--fail", "--max-time", "10", "-w", "%{content_type}", "--cacert"])
            .arg(tls.join("bundle.pem"))
            .arg("-o")
            .arg(&der)
            .arg(format!("https://localhost:{port}/v1/crls/{key}"))
            .output()?;
        check!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        check!(output.stdout == b"application/pkix-crl", "{}", String::from_utf8_lossy(&output.stdout));
        let mut read = Command::new("openssl");
        let read = read.args(["crl", "-inform", "DER", "-noout", "-crlnumber", "-in"]).arg(&der).output()?;
        check!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    }
    let strange = gateway.cli(&["ca", "crl", "--key", &"0".repeat(40)])?;
    check!(strange.code == 3, "{strange:?}");
    let which = gateway.cli(&["ca", "crl", "--format", "der"])?;
    check!(which.code == 64, "{which:?}");
    Ok(())
}
