//! SDS and server reflection with grpcio: names, stale words, refusals, what deltas hold and what is gone.

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::peers::missing_module;
use tests::{Gateway, Result, Script, check, own_uid};

use super::plain;
use crate::trial;

const DESCRIPTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ca/agent/src/generated/sds.binpb");
const WEB: &str = "spiffe://example.org/web";
const BATCH: &str = "spiffe://example.org/batch";

pub(super) fn trials() -> Vec<Trial> {
    let grpc = || missing_module("grpc");
    vec![
        trial("sd_01_grpcio_gets_its_own_secrets_and_no_others", grpc(), names),
        trial("sd_02_grpcio_refuses_speaks_too_late_and_asks_for_more", grpc(), words),
        trial("sd_02_grpcio_is_told_by_delta_what_changed_and_what_is_gone", grpc(), deltas),
        trial("sd_03_grpcio_asks_for_plain_roots", grpc(), forms),
        trial("we_06_grpcio_reads_the_services_by_reflection", missing_module("grpc_reflection"), reflection),
    ]
}

/// A gateway with two identities for this user.
fn two() -> Result<Gateway> {
    let uid = own_uid();
    let entry = |id: &str| format!("[[ca.entry]]\nspiffe_id = \"{id}\"\nselectors = [\"unix:uid:{uid}\"]\n");
    Gateway::build().entries(&format!("{}{}", entry(WEB), entry(BATCH))).start()
}

fn steps(gateway: &Gateway, steps: &Value) -> Result<Vec<Value>> {
    Script::run("sds_client", &[&gateway.workload_socket(), DESCRIPTORS, &steps.to_string()])
}

fn secrets(said: &Value) -> Vec<&str> {
    let list = said["secrets"].as_array().into_iter().flatten();
    list.filter_map(|secret| secret["name"].as_str()).collect()
}

fn names() -> Result {
    let gateway = two()?;
    let ask = |names: &[&str]| json!(["fetch", { "resource_names": names }]);
    let all = json!([
        ask(&[]),
        ask(&["default", "ROOTCA", "ALL", WEB]),
        ask(&[WEB, "spiffe://example.org/other"]),
        ask(&["root"]),
        ["fetch", { "type_url": "type.googleapis.com/envoy.config.cluster.v3.Cluster" }],
        ["open", "StreamSecrets", { "resource_names": ["spiffe://other.org"] }],
        ["next", 5]
    ]);
    let said = steps(&gateway, &all)?;
    check!(secrets(&said[0]).len() == 3 && secrets(&said[0])[0] == "spiffe://example.org", "{}", said[0]);
    check!(secrets(&said[0]).contains(&WEB) && secrets(&said[0]).contains(&BATCH), "{}", said[0]);
    check!(secrets(&said[1]).len() == 4, "{}", said[1]);
    for (at, name) in [(2, "spiffe://example.org/other"), (3, "root"), (6, "spiffe://other.org")] {
        check!(said[at]["end"] == "INVALID_ARGUMENT", "{}", said[at]);
        check!(said[at]["details"] == format!("no secret of this caller: \"{name}\""), "{}", said[at]);
    }
    check!(said[4]["end"] == "INVALID_ARGUMENT", "{}", said[4]);

    let gateway = Gateway::build().entries("").start()?;
    let said = steps(&gateway, &json!([ask(&["ROOTCA"]), ask(&[])]))?;
    check!(said.iter().all(|said| said["end"] == "PERMISSION_DENIED"), "{said:?}");

    let gateway = Gateway::build().env("PORTCULLIS_AGENT__SDS_DEFAULT", "mine").start()?;
    let said = steps(&gateway, &json!([ask(&["mine"]), ask(&["default"])]))?;
    check!(secrets(&said[0]) == ["mine"] && said[1]["end"] == "INVALID_ARGUMENT", "{said:?}");
    Ok(())
}

fn words() -> Result {
    let gateway = two()?;
    let refused = json!({ "code": 13, "message": "no room\n" });
    let said = steps(
        &gateway,
        &json!([
            ["open", "StreamSecrets", { "resource_names": ["default"], "node": { "id": "probe" } }],
            ["next", 10],
            ["send", { "resource_names": ["default"], "response_nonce": "NONCE", "error_detail": refused }],
            ["next", 1],
            ["send", { "resource_names": ["default", "ROOTCA"], "response_nonce": "77" }],
            ["next", 1],
            ["send", { "resource_names": ["default", "ROOTCA"], "response_nonce": "NONCE" }],
            ["next", 5]
        ]),
    )?;
    check!(secrets(&said[1]) == ["default"] && said[1]["nonce"] == "1", "{}", said[1]);
    check!(said[2]["silent"] == true, "what was refused came again: {}", said[2]);
    check!(said[3]["silent"] == true, "a stale word was answered: {}", said[3]);
    check!(secrets(&said[4]) == ["ROOTCA", "default"], "{}", said[4]);
    check!(gateway.log().contains("refused what it was sent"), "{}", gateway.log());
    let metrics = super::rejected(&gateway)?;
    check!(metrics == 1, "{metrics} refusals are counted");
    Ok(())
}

fn deltas() -> Result {
    let gateway = two()?;
    let open = json!({ "resource_names_subscribe": [WEB, BATCH], "node": { "id": "probe" } });
    let arguments = json!([
        ["open", "DeltaSecrets", open],
        ["next", 10],
        ["send", { "resource_names_unsubscribe": [BATCH], "response_nonce": "NONCE" }],
        ["next", 1],
        ["send", { "resource_names_subscribe": [BATCH, "ROOTCA"] }],
        ["next", 5],
        ["next", 30],
        ["send", { "resource_names_subscribe": ["nothing"] }],
        ["next", 5]
    ]);
    let socket = gateway.workload_socket();
    let mut peer = Script::start("sds_client", &[&socket, DESCRIPTORS, &arguments.to_string()])?;
    let patience = std::time::Duration::from_secs(20);
    let mut next = || peer.next(patience);
    next()?;
    let first = next()?;
    check!(secrets(&first).len() == 2, "{first}");
    check!(next()?["silent"] == true, "a name that was given back is answered");
    let again = next()?;
    check!(secrets(&again) == ["ROOTCA", BATCH], "{again}");
    let entries = gateway.json(&["entry", "list"])?;
    let batch = entries["items"].as_array().into_iter().flatten().find(|entry| entry["spiffe_id"] == BATCH);
    let id = batch.and_then(|entry| entry["id"].as_str()).ok_or("no entry")?.to_owned();
    let deleted = gateway.cli(&["entry", "delete", &id, "--yes"])?;
    check!(deleted.code == 0, "{deleted:?}");
    let gone = next()?;
    check!(gone["removed"] == json!([BATCH]) && secrets(&gone).is_empty(), "{gone}");
    let end = next()?;
    check!(end["end"] == "INVALID_ARGUMENT", "{end}");

    // Who comes back with what it has is sent what it has not.
    let version = "0000000000000000";
    let held = json!({ WEB: version, BATCH: version });
    let names = json!([WEB, BATCH]);
    let open = json!({ "resource_names_subscribe": names, "initial_resource_versions": held });
    let said = steps(&gateway, &json!([["open", "DeltaSecrets", open], ["next", 10]]))?;
    check!(secrets(&said[1]) == [WEB] && said[1]["removed"] == json!([BATCH]), "{}", said[1]);
    Ok(())
}

fn forms() -> Result {
    let gateway = plain()?;
    let fetch = |node: Value| json!(["fetch", { "resource_names": ["ROOTCA"], "node": node }]);
    let asked = json!([
        fetch(json!({ "id": "new" })),
        fetch(json!({ "id": "asks", "metadata": { "disable_spiffe_cert_validation": true } })),
        fetch(
            json!({ "id": "old", "user_agent_build_version": { "version": { "major_number": 1, "minor_number": 17 } } })
        )
    ]);
    let said = steps(&gateway, &asked)?;
    let context = &said[0]["secrets"][0];
    check!(context["validator"] == "envoy.tls.cert_validator.spiffe" && context["plain"] == "", "{context}");
    for said in &said[1..] {
        let context = &said["secrets"][0];
        let pem = context["plain"].as_str().unwrap_or_default();
        check!(context["validator"] == "" && pem.starts_with("-----BEGIN CERTIFICATE-----"), "{context}");
    }
    Ok(())
}

fn reflection() -> Result {
    let gateway = plain()?;
    let said = Script::run("sds_client", &[&gateway.workload_socket(), "reflection"])?;
    let services: Vec<_> = said[0]["services"].as_array().into_iter().flatten().cloned().collect();
    for name in [
        "SpiffeWorkloadAPI",
        "envoy.service.secret.v3.SecretDiscoveryService",
        "grpc.reflection.v1alpha.ServerReflection",
    ] {
        check!(services.contains(&json!(name)), "{name} is not in {services:?}");
    }
    let request = "envoy.service.discovery.v3.DiscoveryRequest";
    check!(said[1]["methods"]["StreamSecrets"] == request, "{}", said[1]);
    check!(said[1]["methods"].as_object().is_some_and(|methods| methods.len() == 3), "{}", said[1]);
    check!(said[2]["methods"]["FetchX509SVID"] == "X509SVIDRequest", "{}", said[2]);
    check!(said[2]["methods"].as_object().is_some_and(|methods| methods.len() == 5), "{}", said[2]);
    Ok(())
}
