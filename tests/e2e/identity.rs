//! Identities as workloads meet them: fetched and watched with py-spiffe, renewed under load, withdrawn, enrolled.

mod authorities;
mod enrolment;
mod envoy;
pub(crate) mod federation;
mod files;
mod fleet;
mod forged;
mod hosts;
mod people;
mod revoked;
mod sds;
mod tokens;
mod verified;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::peers::{missing, missing_module};
use tests::upstream::Upstream;
use tests::{Gateway, Result, Script, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let spiffe = || missing_module("spiffe");
    let clock = || missing_module("cryptography").or_else(|| missing("faketime"));
    let own = vec![
        trial("we_py_spiffe_fetches_svid_and_bundle_and_verifies_them", spiffe(), fetched),
        trial("ag_py_spiffe_watches_a_changed_entry", spiffe(), changed_entry),
        trial("ag_py_spiffe_watches_renewals_at_half_life", spiffe().or_else(clock), renewals),
        trial("wa_08_py_spiffe_is_denied_when_its_entry_is_deleted", spiffe(), withdrawn),
        trial("we_02_the_workload_api_asks_for_its_header", missing_module("grpc"), header),
        trial("the_gateway_renews_its_svid_under_load", clock(), renewed_under_load),
        trial("x5_openssl_verifies_an_svid_strictly", missing("openssl"), strictly),
        trial("svid_commands_show_and_write_what_was_issued", None, commands),
    ];
    let more = [
        authorities::trials(),
        enrolment::trials(),
        envoy::trials(),
        federation::trials(),
        files::trials(),
        forged::trials(),
        fleet::trials(),
        hosts::trials(),
        revoked::trials(),
        sds::trials(),
        people::trials(),
        tokens::trials(),
        verified::trials(),
    ];
    own.into_iter().chain(more.into_iter().flatten()).collect()
}

/// A gateway whose only purpose is its Workload API.
fn plain() -> Result<Gateway> {
    Gateway::before(Upstream::echo().address)
}

/// How many responses of SDS its clients refused.
fn rejected(gateway: &Gateway) -> Result<u64> {
    let line = |text: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix("portcullis_sds_rejected_total "));
        found.and_then(|count| count.trim().parse().ok())
    };
    // Told once a second.
    std::thread::sleep(Duration::from_millis(1_500));
    let (_, text) = gateway.http("/metrics")?;
    line(&text).ok_or_else(|| format!("no count in {text}").into())
}

fn serial(update: &Value) -> Option<&str> {
    update["svids"][0]["serial"].as_str()
}

/// The entry of the configuration.
fn web_entry(gateway: &Gateway) -> Result<Value> {
    let list = gateway.json(&["entry", "list"])?;
    let found = list["items"].as_array().into_iter().flatten();
    let found = found.into_iter().find(|entry| entry["spiffe_id"] == "spiffe://example.org/web");
    Ok(found.ok_or("no entry for web")?.clone())
}

fn fetched() -> Result {
    let gateway = plain()?;
    let said = Script::run("spiffe_client", &["fetch", &gateway.workload_socket()])?;
    let found = said.first().ok_or("nothing")?;
    let svid = &found["svids"][0];
    check!(svid["id"] == "spiffe://example.org/web", "{found}");
    check!(svid["verified"] == true && svid["key_fits"] == true, "the chain does not verify: {found}");
    check!(found["same_bundle"] == true, "the two calls give two bundles: {found}");
    check!(found["svids"].as_array().is_some_and(|svids| svids.len() == 1), "{found}");
    let ours = gateway.json(&["svid", "fetch", "--socket", &gateway.workload_socket()])?;
    check!(ours["items"][0]["spiffe_id"] == svid["id"], "{ours}");
    Ok(())
}

fn changed_entry() -> Result {
    let gateway = Gateway::build().entries("").start()?;
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?);
    let mut entry =
        json!({ "spiffe_id": "spiffe://example.org/web", "selectors": [format!("unix:uid:{uid}")] });
    let created = gateway.ask("POST", "/v1/entries", &[], Some(&entry))?;
    check!(created.status == 201, "{created:?}");
    let path = format!("/v1/entries/{}", created.body["id"].as_str().ok_or("no id")?);
    let tag = created.header("etag").ok_or("no etag")?.to_owned();

    let mut peer = Script::start("spiffe_client", &["watch", &gateway.workload_socket(), "60"])?;
    let first = peer.next(Duration::from_secs(20))?;
    check!(first["svids"][0]["verified"] == true, "{first}");
    entry["dns_names"] = json!(["web.local"]);
    check!(
        gateway.ask("PUT", &path, &[], Some(&entry))?.status == 428,
        "a change without If-Match was taken"
    );
    let updated = gateway.ask("PUT", &path, &[("if-match", &tag)], Some(&entry))?;
    check!(updated.status == 200, "{updated:?}");
    let next = peer.until(Duration::from_secs(20), |update| serial(update) != serial(&first))?;
    check!(next["svids"][0]["verified"] == true && next["svids"][0]["key_fits"] == true, "{next}");
    let stale = gateway.ask("PUT", &path, &[("if-match", &tag)], Some(&entry))?;
    check!(stale.status == 412, "a stale change was taken: {stale:?}");
    Ok(())
}

fn renewals() -> Result {
    let upstream = Upstream::echo();
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?);
    let gateway = Gateway::build()
        .entries(&format!(
            "[[ca.entry]]\nspiffe_id = \"spiffe://example.org/web\"\nselectors = [\"unix:uid:{uid}\"]\nx509_ttl = \"5m\"\n"
        ))
        .site(upstream.address)
        .fast_clock(60)
        .start()?;
    let began = Instant::now();
    let mut peer = Script::start("spiffe_client", &["watch", &gateway.workload_socket(), "60"])?;
    let mut serials: Vec<String> = Vec::new();
    while serials.len() < 4 {
        let update = peer.next(Duration::from_secs(30))?;
        check!(update["svids"][0]["verified"] == true, "{update}\n{}", gateway.log());
        let serial = serial(&update).ok_or("no serial")?.to_owned();
        check!(!serials.contains(&serial), "the same SVID was sent twice: {serials:?} {serial}");
        serials.push(serial);
    }
    // Three renewals at half of 5 min, sixty times as fast, with 10 % of jitter: at least 6.75 s.
    check!(began.elapsed() > Duration::from_millis(5_500), "renewed too often: {:?}", began.elapsed());
    Ok(())
}

fn withdrawn() -> Result {
    let gateway = plain()?;
    let mut peer = Script::start("spiffe_client", &["watch", &gateway.workload_socket(), "60"])?;
    peer.next(Duration::from_secs(20))?;
    let id = web_entry(&gateway)?["id"].as_str().ok_or("no id")?.to_owned();
    let deleted = gateway.cli(&["entry", "delete", &id, "--yes"])?;
    check!(deleted.code == 0, "{deleted:?}");
    let told = peer.next(Duration::from_secs(5))?;
    check!(told["error"].as_str().is_some_and(|error| error.contains("PERMISSION_DENIED")), "{told}");
    let fetched = gateway.cli(&["svid", "fetch", "--socket", &gateway.workload_socket()])?;
    check!(fetched.code == 69, "an identity without an entry: {fetched:?}");
    Ok(())
}

fn header() -> Result {
    let gateway = plain()?;
    let ask = |method: &str, metadata: &[&str]| -> Result<Value> {
        let said = Script::run("workload_raw", &[&[&gateway.workload_socket(), method], metadata].concat())?;
        said.into_iter().next().ok_or_else(|| "nothing".into())
    };
    let good = &["workload.spiffe.io=true"][..];
    let svid = ask("/SpiffeWorkloadAPI/FetchX509SVID", good)?;
    check!(svid["code"] == "OK" && svid["bytes"].as_u64() > Some(500), "{svid}");
    for metadata in
        [&[][..], &["workload.spiffe.io=false"], &["workload.spiffe.io=true", "workload.spiffe.io=true"]]
    {
        for method in
            ["FetchX509SVID", "FetchX509Bundles", "FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID"]
        {
            let refused = ask(&format!("/SpiffeWorkloadAPI/{method}"), metadata)?;
            check!(refused["code"] == "INVALID_ARGUMENT", "{method} {metadata:?}: {refused}");
            check!(refused["bytes"] == 0, "{method} {metadata:?}: {refused}");
        }
    }
    let keys = ask("/SpiffeWorkloadAPI/FetchJWTBundles", good)?;
    check!(keys["code"] == "OK" && keys["bytes"].as_u64() > Some(100), "{keys}");
    for (method, code) in [
        ("FetchJWTSVID", "INVALID_ARGUMENT"),
        ("ValidateJWTSVID", "INVALID_ARGUMENT"),
        ("FetchWITSVID", "UNIMPLEMENTED"),
        ("FetchWITBundles", "UNIMPLEMENTED"),
        ("Nonsense", "UNIMPLEMENTED"),
    ] {
        let answer = ask(&format!("/SpiffeWorkloadAPI/{method}"), good)?;
        check!(answer["code"] == code, "{method}: {answer}");
    }
    let other = ask("/other.Service/Call", good)?;
    check!(other["code"] == "UNIMPLEMENTED", "{other}");
    Ok(())
}

fn renewed_under_load() -> Result {
    let upstream = Upstream::echo();
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?);
    let gateway = Gateway::build()
        .ca("svid_ttl = \"5m\"")
        .entries(&format!(
            "[[ca.entry]]\nspiffe_id = \"spiffe://example.org/web\"\nselectors = [\"unix:uid:{uid}\"]\nx509_ttl = \"24h\"\n"
        ))
        .site(upstream.address)
        .fast_clock(60)
        .start()?;
    let tls = gateway.identity()?;
    let address = gateway.address.to_string();
    let said = Script::run("https_load", &[&address, &tls.display().to_string(), "GET", "4", "10"])?;
    let broken: Vec<_> = said.iter().filter(|line| line.get("broken").is_some()).collect();
    check!(broken.is_empty(), "connections broke: {broken:?}\n{}", gateway.log());
    let refused: Vec<_> =
        said.iter().filter(|line| line.get("status").is_some_and(|status| status != 200)).collect();
    check!(refused.is_empty(), "calls failed: {refused:?}");
    let done = said.iter().filter(|line| line.get("done").is_some()).count();
    check!(done == 4, "{done} of 4 connections lived through the renewals");
    let mut serials: Vec<_> = said.iter().filter_map(|line| line["fresh"].as_str()).collect();
    serials.dedup();
    check!(serials.len() >= 3, "new handshakes saw the serials {serials:?}");
    let mut distinct = serials.clone();
    distinct.sort_unstable();
    distinct.dedup();
    check!(distinct.len() == serials.len(), "an old SVID came back: {serials:?}");
    let answered = said.iter().filter(|line| line["status"] == 200).count();
    check!(upstream.calls() == answered, "{answered} answers, {} calls arrived", upstream.calls());
    Ok(())
}

fn strictly() -> Result {
    let gateway = plain()?;
    let tls = gateway.identity()?;
    for purpose in ["sslclient", "sslserver"] {
        let output = Command::new("openssl")
            .current_dir(&tls)
            .args([
                "verify",
                "-x509_strict",
                "-purpose",
                purpose,
                "-CAfile",
                "bundle.pem",
                "-untrusted",
                "svid.pem",
                "svid.pem",
            ])
            .output()?;
        check!(output.status.success(), "{purpose}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let shown = Command::new("openssl")
        .current_dir(&tls)
        .args(["x509", "-in", "svid.pem", "-noout", "-text"])
        .output()?;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    for part in [
        "URI:spiffe://example.org/web",
        "CA:FALSE",
        "Digital Signature",
        "TLS Web Client Authentication",
        "NIST CURVE: P-256",
    ] {
        check!(text.contains(part), "`{part}` is not in {text}");
    }
    for part in ["Certificate Sign", "CRL Sign"] {
        check!(!text.contains(part), "`{part}` is in {text}");
    }
    Ok(())
}

fn commands() -> Result {
    let gateway = plain()?;
    let socket = gateway.workload_socket();
    let tls = gateway.identity()?;
    for (file, mode) in [("svid.key", 0o600), ("svid.pem", 0o644), ("bundle.pem", 0o644)] {
        let found = std::fs::metadata(tls.join(file))?.permissions().mode() & 0o777;
        check!(found == mode, "{file} has mode {found:o}");
    }
    check!(std::fs::read_dir(&tls)?.count() == 3, "files were left over in {}", tls.display());
    let fetched = gateway.json(&["svid", "fetch", "--socket", &socket])?;
    let svid = &fetched["items"][0];
    check!(svid["spiffe_id"] == "spiffe://example.org/web", "{fetched}");
    let file = tls.join("svid.pem").display().to_string();
    let inspected = gateway.json(&["svid", "inspect", &file])?;
    let items = inspected["items"].as_array().ok_or("no items")?;
    check!(items.len() == 2, "leaf and signing CA are expected: {inspected}");
    check!(
        items[0]["spiffe_id"] == svid["spiffe_id"] && items[0]["serial"] == svid["serial"],
        "{inspected}\n{fetched}"
    );
    check!(items[0]["ca"] == false && items[0]["expired"] == false, "{inspected}");
    check!(items[0]["dns_names"] == json!(["localhost"]), "{inspected}");
    check!(items[1]["ca"] == true, "{inspected}");
    let nothing =
        gateway.cli(&["svid", "inspect", &gateway.dir().join("portcullis.toml").display().to_string()])?;
    check!(nothing.code == 3, "{nothing:?}");
    let absent =
        gateway.cli(&["svid", "fetch", "--socket", "unix:///nonexistent.sock", "--timeout", "2s"])?;
    check!(absent.code == 69 || absent.code == 75, "{absent:?}");
    Ok(())
}
