//! Two trust domains, each a process of the shipped binary: found by both profiles, called across, rotated under calls, kept
//! over a restart, ended within a second; and an endpoint that answers with every fault there is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};
use tests::forge::pem;
use tests::peers::{missing, missing_module, python};
use tests::port::free_port;
use tests::script;
use tests::upstream::Upstream;
use tests::{Gateway, Result, Script, check};

use crate::trial;

/// From the command to the end of the last open connection (FE-10).
const BOUND: Duration = Duration::from_secs(1);
const PARTNERS: &str = "@id(\"partners\")\npermit (principal == Workload::\"spiffe://partner.org/web\", action in Action::\"call\", resource);\n";
const GATEWAY: &str = "spiffe://partner.org/gateway";

pub(super) fn trials() -> Vec<Trial> {
    let spiffe = || missing_module("spiffe").or_else(|| missing_module("cryptography"));
    vec![
        trial("ig14_two_domains_call_across_over_https_spiffe", spiffe(), over_spiffe),
        trial("ig14_https_web_is_known_by_name_under_web_roots", missing("curl"), over_web),
        trial("threat_ca4_every_fault_of_an_endpoint_has_its_name_and_changes_nothing", None, faults),
    ]
}

/// A root for the web, and a certificate for `localhost` under it.
pub(super) fn web_certificate(dir: &Path) -> Result {
    let (key, leaf_key) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = params.self_signed(&key)?;
    let mut leaf = CertificateParams::new(["localhost".to_owned()])?;
    leaf.distinguished_name = DistinguishedName::new();
    let leaf = leaf.signed_by(&leaf_key, &Issuer::new(params, key))?;
    fs::write(dir.join("web-root.pem"), pem("CERTIFICATE", root.der()))?;
    fs::write(dir.join("web.pem"), pem("CERTIFICATE", leaf.der()))?;
    fs::write(dir.join("web.key"), pem("PRIVATE KEY", &leaf_key.serialize_der()))?;
    fs::set_permissions(dir.join("web.key"), fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// Another trust domain, whose `web` knows ours.
struct Partner {
    gateway: Gateway,
    spiffe: String,
    web: String,
    certificates: tempfile::TempDir,
}

impl Partner {
    fn start() -> Result<Self> {
        let certificates = tempfile::tempdir()?;
        web_certificate(certificates.path())?;
        let (spiffe, web) = (free_port(), free_port());
        let uid = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self")?);
        let at = certificates.path().display();
        let gateway = Gateway::build()
            .domain("partner.org")
            .ca("fetch_from = [\"127.0.0.0/8\", \"::1\"]")
            .entries(&format!(
                "[ca.bundle]\nspiffe_listen = \"https://127.0.0.1:{spiffe}\"\nweb_listen = \"https://127.0.0.1:{web}\"\nrefresh_hint = \"10s\"\n\
                 [ca.bundle.certificate]\nchain = \"{at}/web.pem\"\nkey = \"{at}/web.key\"\n\
                 [[ca.entry]]\nspiffe_id = \"spiffe://partner.org/web\"\nselectors = [\"unix:uid:{uid}\"]\nfederates_with = [\"example.org\"]\n"
            ))
            .site(Upstream::echo().address)
            .start()?;
        let url = |port: u16| format!("https://localhost:{port}/");
        Ok(Self { gateway, spiffe: url(spiffe), web: url(web), certificates })
    }

    /// Its bundle as a file.
    fn bundle(&self) -> Result<String> {
        let shown = self.gateway.cli(&["bundle", "show", "--format", "spiffe"])?;
        let file = self.gateway.dir().join("bundle.json");
        fs::write(&file, shown.stdout)?;
        Ok(file.display().to_string())
    }

    /// Takes our bundle, which it fetches from nowhere.
    fn learn(&self, ours: &Gateway) -> Result {
        let shown = ours.cli(&["bundle", "show", "--format", "pem"])?;
        let file = self.gateway.dir().join("example.pem");
        fs::write(&file, shown.stdout)?;
        let file = file.display().to_string();
        let url = format!("https://localhost:{}/", free_port());
        let made = self.gateway.cli(&[
            "federation",
            "create",
            "example.org",
            "--url",
            &url,
            "--profile",
            "https_web",
            "--bundle",
            &file,
        ])?;
        check!(made.code == 0, "{made:?}");
        Ok(())
    }
}

fn ours() -> tests::gateway::Builder {
    Gateway::build()
        .policy(PARTNERS)
        .ca("fetch_from = [\"127.0.0.0/8\", \"::1\"]")
        .site(Upstream::echo().address)
}

fn ok(gateway: &Gateway, arguments: &[&str]) -> Result<String> {
    let outcome = gateway.cli(arguments)?;
    check!(outcome.code == 0, "{arguments:?}: {outcome:?}\n{}", gateway.log());
    Ok(outcome.stdout)
}

/// A call of the partner's `web`: status, or why there was none.
fn call(partner: &Partner, gateway: &Gateway) -> Result<Value> {
    let port = gateway.address.port().to_string();
    let said =
        Script::run("federated_client", &[&partner.gateway.workload_socket(), &port, "example.org", "once"])?;
    said.into_iter().next().ok_or_else(|| "it said nothing".into())
}

fn over_spiffe() -> Result {
    let (partner, mut gateway) = (Partner::start()?, ours().start()?);
    partner.learn(&gateway)?;
    let before = call(&partner, &gateway)?;
    check!(before.get("failed").is_some(), "called without federation: {before}");

    let bundle = partner.bundle()?;
    let create = |id: &str| {
        let url = partner.spiffe.as_str();
        [
            "federation",
            "create",
            "partner.org",
            "--url",
            url,
            "--profile",
            "https_spiffe",
            "--endpoint-id",
            id,
            "--bundle",
            &bundle,
        ]
        .map(str::to_owned)
    };
    let made = create(GATEWAY);
    let words: Vec<&str> = made.iter().map(String::as_str).collect();
    let text = ok(&gateway, &words)?;
    check!(text.contains("undo: portcullis federation delete partner.org --yes"), "{text}");
    let fetched = gateway.json(&["federation", "refresh", "partner.org"])?;
    check!(fetched["state"] == "current" && fetched["last_fetch"]["peer"] == GATEWAY, "{fetched}");
    let called = call(&partner, &gateway)?;
    check!(called == json!({ "id": "spiffe://partner.org/web", "status": 200 }), "{called}");
    let decided = gateway.decisions(&["--principal", "spiffe://partner.org/web"])?;
    check!(!decided.is_empty(), "the policy did not see the caller");

    rotated(&partner, &gateway)?;
    // What is written down comes back, and the bundle with it.
    gateway.restart()?;
    let kept = gateway.json(&["federation", "get", "partner.org"])?;
    check!(kept["state"] == "current", "{kept}");
    check!(call(&partner, &gateway)?["status"] == 200, "not after a restart");
    ended(&partner, &gateway)?;

    // With the bundle of now, under the same name.
    partner.bundle()?;
    let back: Vec<&str> = words
        .iter()
        .copied()
        .map(|word| if word == GATEWAY { "spiffe://partner.org/other" } else { word })
        .collect();
    ok(&gateway, &back)?;
    let wrong = gateway.cli(&["federation", "refresh", "partner.org", "-o", "json"])?;
    let told: Value = serde_json::from_str(&wrong.stdout)?;
    check!(wrong.code == 75 && told["last_fetch"]["code"] == "wrong_identity", "{wrong:?}");
    Ok(())
}

/// The partner gets a new root while its workload calls; nobody loses a call.
fn rotated(partner: &Partner, gateway: &Gateway) -> Result {
    let port = gateway.address.port().to_string();
    let mut command = Command::new(python());
    command.arg(script::file("federated_client.py"));
    command.args([&partner.gateway.workload_socket(), &port, "example.org", "many"]).stdin(Stdio::piped());
    let mut caller = command.stdout(Stdio::piped()).spawn()?;
    let roots = |gateway: &Gateway| -> Result<u64> {
        let told = gateway.json(&["federation", "refresh", "partner.org"])?;
        Ok(told["bundle"]["roots"].as_u64().unwrap_or_default())
    };
    check!(roots(gateway)? == 1, "one root at first");
    ok(&partner.gateway, &["ca", "prepare", "--kind", "root"])?;
    let early = partner.gateway.cli(&["ca", "activate", "--kind", "root", "--yes"])?;
    check!(early.code != 0, "AU-05: others have had no time to fetch it: {early:?}");
    check!(roots(gateway)? == 2, "the new one is not there");
    ok(&partner.gateway, &["ca", "activate", "--kind", "root", "--force", "--yes"])?;
    ok(&partner.gateway, &["ca", "taint", "--kind", "root", "--yes"])?;
    // Everything is issued anew within half a minute.
    std::thread::sleep(Duration::from_secs(32));
    ok(&partner.gateway, &["ca", "revoke", "--kind", "root", "--reason", "test", "--yes"])?;
    check!(roots(gateway)? == 1, "the old one is not gone");
    std::thread::sleep(Duration::from_millis(500));
    drop(caller.stdin.take());
    let output = caller.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
    println!("{told}");
    let lost = told["lost"].as_array().map_or(usize::MAX, Vec::len);
    check!(told["calls"].as_u64().is_some_and(|calls| calls > 100) && lost == 0, "{told}\n{}", gateway.log());
    Ok(())
}

/// The relationship ends: so do open connections, within a second, and no new one is taken.
fn ended(partner: &Partner, gateway: &Gateway) -> Result {
    let port = gateway.address.port().to_string();
    let arguments = [&partner.gateway.workload_socket(), &port, "example.org", "hold"];
    let mut held = Script::start("federated_client", &arguments)?;
    check!(held.next(Duration::from_secs(20))? == json!({ "status": 200 }), "no call");
    let asked = gateway.cli(&["federation", "delete", "partner.org"])?;
    check!(asked.code == 64 && asked.stderr.contains("ends 1 open connections"), "{asked:?}");
    let began = Instant::now();
    let text = ok(gateway, &["federation", "delete", "partner.org", "--yes"])?;
    check!(text.contains("undo: portcullis federation create partner.org"), "{text}");
    let end = held.until(Duration::from_secs(5), |line| line != &json!({ "status": 200 }))?;
    let took = began.elapsed();
    println!("ended {took:?} after the command began: {end}");
    check!(took < BOUND, "{took:?}: {end}");
    check!(call(partner, gateway)?.get("failed").is_some(), "a new connection was taken");
    let list = gateway.json(&["federation", "list"])?;
    check!(list["items"] == json!([]), "{list}");
    Ok(())
}

fn over_web() -> Result {
    let partner = Partner::start()?;
    let certificates = partner.certificates.path();
    let roots = certificates.join("web-root.pem").display().to_string();
    let output = Command::new("curl")
        .args(["-sS", "-i", "--tls-max", "1.2", "--cacert", &roots, &partner.web])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    check!(text.contains("spiffe_refresh_hint\":10") && text.contains("etag: \""), "{text}");

    let gateway = ours().ca(&format!("web_roots = \"{roots}\"")).start()?;
    let url = partner.web.as_str();
    ok(&gateway, &["federation", "create", "partner.org", "--url", url, "--profile", "https_web"])?;
    let fetched = gateway.json(&["federation", "refresh", "partner.org"])?;
    check!(fetched["state"] == "current" && fetched["last_fetch"]["peer"] == url, "{fetched}");
    let tls = partner.gateway.identity()?;
    // Its own trust domain's roots do not verify our gateway, so curl does without.
    let (status, _) = gateway.curl(&tls, "/x", &["-k"])?;
    check!(status == 200, "{status}\n{}", gateway.log());
    // Told once a second.
    std::thread::sleep(Duration::from_millis(1_500));
    let (_, metrics) = gateway.http("/metrics")?;
    check!(metrics.contains("portcullis_federated_domains{state=\"current\"} 1"), "{metrics}");
    // An address by its number is no name of the certificate.
    let by_number = url.replace("localhost", "127.0.0.1");
    let text = ok(&gateway, &["federation", "update", "partner.org", "--url", &by_number])?;
    check!(text.contains(&format!("undo: portcullis federation update partner.org --url '{url}'")), "{text}");
    let wrong = gateway.cli(&["federation", "refresh", "partner.org", "-o", "json"])?;
    let told: Value = serde_json::from_str(&wrong.stdout)?;
    check!(told["last_fetch"]["code"] == "tls" && told["state"] == "current", "{told}");
    let checked = gateway.cli(&["check"])?;
    check!(checked.stdout.contains("identities of partner.org are refused after"), "{checked:?}");
    Ok(())
}

/// The bundle of a domain with a root of its own, as it would publish it.
pub(crate) fn document(domain: &str, sequence: u64, change: impl FnOnce(&mut Value)) -> Result<Value> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}").try_into()?)];
    let root = params.self_signed(&KeyPair::generate()?)?;
    let bundle = ca_identity::Bundle::new(
        ca_identity::TrustDomain::parse(domain)?,
        vec![root.der().clone()],
        sequence,
    )?;
    let mut document = serde_json::from_str(&bundle.to_jwks())?;
    change(&mut document);
    Ok(document)
}

fn faults() -> Result {
    let dir = tempfile::tempdir()?;
    web_certificate(dir.path())?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let port = free_port();
    let good = document("partner.org", 7, |_| {})?;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut changed = good.clone();
        changed["spiffe_sequence"] = json!(8);
        change(&mut changed);
        json!({ "body": changed.to_string() })
    };
    let leads = |status: u16, to: &str| json!({ "status": status, "headers": { "location": to } });
    let own = format!("https://localhost:{port}");
    let cases: Vec<(&str, Value, &str)> = vec![
        ("/domain", json!({ "body": document("other.org", 8, |_| {})?.to_string() }), "wrong_trust_domain"),
        ("/lower", with(&|document| document["spiffe_sequence"] = json!(6)), "bundle_rollback"),
        (
            "/twice",
            with(&|document| {
                let key = document["keys"][0].clone();
                document["keys"].as_array_mut().expect("keys").push(key);
            }),
            "duplicate_key",
        ),
        ("/large", json!({ "body": good.to_string(), "size": 1_048_577 }), "bundle_too_large"),
        ("/slow", json!({ "body": good.to_string(), "wait": 15 }), "timeout"),
        ("/http", leads(302, "http://localhost/"), "redirect"),
        ("/permanent", leads(301, &format!("{own}/good")), "redirect"),
        ("/round", leads(307, "/round"), "redirect"),
        ("/metadata", leads(302, "https://169.254.169.254/"), "address_refused"),
        ("/text", json!({ "body": "<html>" }), "bundle_not_json"),
        ("/nokeys", json!({ "body": "{}" }), "bundle_without_keys"),
        ("/broken", with(&|document| document["keys"][0]["x5c"][0] = json!("AAAA")), "unusable_key"),
        ("/member", with(&|document| document["spiffe_sequence"] = json!("8")), "bundle_malformed"),
        ("/gone", json!({ "status": 404 }), "status"),
        ("/shared", json!({ "body": "" }), "shared_root"),
    ];
    let gateway = ours().ca(&format!("web_roots = \"{}\"", path("web-root.pem"))).start()?;
    let mut rules: serde_json::Map<String, Value> =
        cases.iter().map(|(path, rule, _)| ((*path).to_owned(), rule.clone())).collect();
    rules.insert("/good".to_owned(), json!({ "body": good.to_string() }));
    rules.insert("/led".to_owned(), leads(302, "/good"));
    rules.insert(
        "/two".to_owned(),
        with(&|document| {
            document["keys"][0]["x5c"].as_array_mut().expect("x5c").push(json!("never read"));
        }),
    );
    rules.insert("/empty".to_owned(), json!({ "body": "{\"keys\":[],\"spiffe_sequence\":9}" }));
    // A root without a name could be offered for any domain; another relationship holds it already.
    let mut nameless = CertificateParams::default();
    nameless.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    nameless.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let nameless = nameless.self_signed(&KeyPair::generate()?)?;
    fs::write(path("nameless.pem"), pem("CERTIFICATE", nameless.der()))?;
    let bundle = ca_identity::Bundle::new(
        ca_identity::TrustDomain::parse("partner.org")?,
        vec![nameless.der().clone()],
        8,
    )?;
    rules.insert("/shared".to_owned(), json!({ "body": bundle.to_jwks() }));
    fs::write(path("rules.json"), Value::Object(rules).to_string())?;
    let port = port.to_string();
    let mut server =
        Script::start("bundle_server", &[&port, &path("web.pem"), &path("web.key"), &path("rules.json")])?;
    server.next(Duration::from_secs(20))?;

    let holder =
        ["federation", "create", "holder.org", "--url", "https://localhost:1/", "--profile", "https_web"];
    ok(&gateway, &[&holder[..], &["--bundle", &path("nameless.pem")]].concat())?;
    ok(
        &gateway,
        &["federation", "create", "partner.org", "--url", &format!("{own}/led"), "--profile", "https_web"],
    )?;
    let asked = |at: &str| -> Result<(i32, Value)> {
        ok(&gateway, &["federation", "update", "partner.org", "--url", at])?;
        let outcome = gateway.cli(&["federation", "refresh", "partner.org", "-o", "json"])?;
        Ok((outcome.code, serde_json::from_str(&outcome.stdout)?))
    };
    let (code, told) = asked(&format!("{own}/led"))?;
    check!(code == 0 && told["bundle"]["sequence"] == "7", "{told}");
    let elsewhere = [
        ("https://localhost:1/".to_owned(), "unreachable"),
        ("https://[fe80::1]/".to_owned(), "address_refused"),
        (format!("https://127.0.0.1:{port}/good"), "tls"),
    ];
    let here = cases.iter().map(|(path, _, code)| (format!("{own}{path}"), *code));
    for (at, expected) in here.chain(elsewhere) {
        let (code, told) = asked(&at)?;
        let fault = &told["last_fetch"]["code"];
        check!(code == 75 && fault == expected, "{at}: {expected} was {told}");
        check!(
            told["bundle"]["sequence"] == "7" && told["state"] == "current",
            "{at} changed something: {told}"
        );
    }
    let records = Value::Array(gateway.records("kind=authority")?).to_string();
    check!(records.contains("bundle_rollback") && records.contains("federation_refused"), "{records}");
    let (code, told) = asked(&format!("{own}/two"))?;
    check!(code == 0 && told["bundle"]["sequence"] == "8", "X5-17: {told}");
    let (code, told) = asked(&format!("{own}/empty"))?;
    check!(code == 0 && told["state"] == "empty", "TB-05: {told}");
    Ok(())
}
