//! gRPC through the gateway with grpcio on both sides, and HTTP/2 at volume with h2load.

use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::peers::{missing, missing_module};
use tests::upstream::Upstream;
use tests::{Gateway, Result, Script, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let grpc = || missing_module("grpc");
    vec![
        trial("grpcio_calls_of_every_shape_pass_with_their_metadata", grpc(), shapes),
        trial("grpcio_sees_the_status_and_details_of_the_service", grpc(), status),
        trial("rpc_02_a_denied_method_is_permission_denied_with_error_info", grpc(), denied),
        trial("rpc_an_unregistered_method_is_unimplemented_and_never_forwarded", grpc(), unregistered),
        trial("rpc_a_deadline_ends_the_call_on_both_sides", grpc().or_else(|| missing("curl")), deadline),
        trial("in14_a_new_policy_ends_a_running_call_within_a_second", grpc(), forbidden_meanwhile),
        trial("rpc_a_dead_service_is_unavailable", grpc(), dead),
        trial("h2load_20000_requests_pass_and_are_on_record", missing("h2load"), volume),
    ]
}

const POLICY: &str = "@id(\"orders\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"grpc\", resource)\n\
     unless { resource == Method::\"shop.Orders/Refund\" };\n";

/// A gateway before a grpcio server.
struct Shop {
    gateway: Gateway,
    server: Script,
    tls: String,
}

impl Shop {
    fn start() -> Result<Self> {
        let mut server = Script::start("grpc_server", &[])?;
        let port = server.next(Duration::from_secs(20))?["port"].as_u64().ok_or("no port")?;
        let methods = ["Get", "Upload", "List", "Chat", "Fail", "Slow", "Refund"];
        let methods: Vec<_> = methods.iter().map(|method| format!("shop.Orders/{method}")).collect();
        let gateway = Gateway::build()
            .policy(POLICY)
            .service("orders", &methods.iter().map(String::as_str).collect::<Vec<_>>())
            .route("orders", "orders", "{ grpc = \"shop.Orders/*\" }", &format!("h2c://127.0.0.1:{port}"))
            .start()?;
        let tls = gateway.identity()?.display().to_string();
        Ok(Self { gateway, server, tls })
    }

    fn call(&self, kind: &str, method: &str, deadline: &str, messages: &[&str]) -> Result<Value> {
        let address = self.gateway.address.to_string();
        let arguments = [&[address.as_str(), &self.tls, kind, method, deadline], messages].concat();
        Script::run("grpc_client", &arguments)?.into_iter().next().ok_or_else(|| "nothing".into())
    }

    /// Calls that arrived at the service since the last look.
    fn arrived(&self) -> Vec<Value> {
        self.server.said().into_iter().filter(|line| line.get("call").is_some()).collect()
    }
}

fn shapes() -> Result {
    let shop = Shop::start()?;
    let got = shop.call("unary", "/shop.Orders/Get", "10", &["7"])?;
    check!(got["code"] == "OK" && got["messages"] == json!(["order 7"]), "{got}");
    check!(got["initial"]["served-by"] == "orders", "initial metadata: {got}");
    check!(got["trailing"]["order-note"] == "fresh", "trailing metadata: {got}");
    check!(got["trailing"]["order-bin"] == "0001ff", "binary trailing metadata: {got}");
    let arrived = shop.arrived();
    let metadata = &arrived.first().ok_or("nothing arrived")?["metadata"];
    check!(metadata["caller-note"] == "hello", "the service was told {metadata}");
    check!(metadata["portcullis-peer"] == "spiffe://example.org/web", "the service was told {metadata}");

    let large = "x".repeat(50_000);
    let uploaded = shop.call("upload", "/shop.Orders/Upload", "20", &["a", &large, &large, "b"])?;
    check!(uploaded["messages"] == json!(["4 parts, 100002 bytes"]), "{uploaded}");
    let listed = shop.call("listing", "/shop.Orders/List", "20", &["500"])?;
    let items = listed["messages"].as_array().ok_or("no messages")?;
    check!(items.len() == 500 && items[499] == "item 499" && listed["code"] == "OK", "{listed}");
    let chat = shop.call("chat", "/shop.Orders/Chat", "20", &["one", "two", "three"])?;
    check!(
        chat["messages"] == json!(["echo one", "echo two", "echo three"]) && chat["code"] == "OK",
        "{chat}"
    );
    let empty = shop.call("listing", "/shop.Orders/List", "20", &["0"])?;
    check!(empty["code"] == "OK" && empty["messages"] == json!([]), "a stream without messages: {empty}");

    let recorded = shop.gateway.decisions(&["--effect", "allow", "--action", "grpc"])?;
    check!(recorded.len() == 5, "five calls, {} records", recorded.len());
    check!(recorded[0]["determining"] == json!(["orders"]), "{}", recorded[0]);
    Ok(())
}

fn status() -> Result {
    let shop = Shop::start()?;
    let failed = shop.call("unary", "/shop.Orders/Fail", "10", &["7"])?;
    check!(failed["code"] == "NOT_FOUND", "{failed}");
    check!(failed["details"] == "no such order: 100 % \u{fc}", "{failed}");
    check!(failed["trailing"]["grpc-status-details-bin"] == "08051204676f6e65", "{failed}");
    check!(failed["trailing"]["order-note"] == "failed", "{failed}");
    check!(failed["trailing"].get("portcullis-decision-id").is_none(), "the gateway spoke too: {failed}");
    Ok(())
}

fn denied() -> Result {
    let shop = Shop::start()?;
    for kind in ["unary", "chat"] {
        let refused = shop.call(kind, "/shop.Orders/Refund", "10", &["7"])?;
        check!(refused["code"] == "PERMISSION_DENIED", "{refused}");
        let id = refused["trailing"]["portcullis-decision-id"].as_str().ok_or("no decision id")?;
        let info = &refused["infos"][0];
        check!(info["reason"] == "DENIED" && info["domain"] == "portcullis", "{refused}");
        check!(info["metadata"]["decision_id"] == id, "{refused}");
        check!(!refused.to_string().contains("orders\""), "the caller learns the policy: {refused}");
        let explained = shop.gateway.json(&["explain", id])?;
        check!(explained["reason"] == "no_permit", "{explained}");
        check!(explained["nearest"][0]["policy"] == "orders", "{explained}");
    }
    check!(shop.arrived().is_empty(), "a denied call reached the service");
    Ok(())
}

fn unregistered() -> Result {
    let shop = Shop::start()?;
    for method in ["/shop.Orders/Unregistered", "/shop.Orders/get", "/shop.Other/Get"] {
        let refused = shop.call("unary", method, "10", &["7"])?;
        check!(refused["code"] == "UNIMPLEMENTED", "{method}: {refused}");
    }
    check!(shop.arrived().is_empty(), "an unregistered method was forwarded");
    let recorded = shop.gateway.decisions(&["--reason", "unknown_method"])?;
    check!(recorded.len() == 3, "three unknown methods, {} records", recorded.len());
    Ok(())
}

fn deadline() -> Result {
    let mut shop = Shop::start()?;
    let late = shop.call("unary", "/shop.Orders/Slow", "0.5", &["7"])?;
    check!(late["code"] == "DEADLINE_EXCEEDED", "{late}");
    let begun = shop.server.until(Duration::from_secs(5), |line| line["slow"] == "begun")?;
    let remaining = begun["remaining"].as_f64().ok_or("the service was told no deadline")?;
    check!(remaining > 0.0 && remaining <= 0.5, "the service was told {remaining} s");
    let ended = shop.server.until(Duration::from_secs(5), |line| line["slow"] == "ended")?;
    check!(ended["after"].as_f64().is_some_and(|after| after < 3.0), "the service worked on: {ended}");

    // grpcio watches its own deadline; curl does not, so this answer is the gateway's.
    let frame = shop.gateway.dir().join("frame");
    std::fs::write(&frame, b"\0\0\0\0\x017")?;
    let began = Instant::now();
    let output = Command::new("curl")
        .current_dir(&shop.tls)
        .args(["-sS", "--http2", "--max-time", "10", "-D", "-", "-o", "/dev/null", "--cacert", "bundle.pem"])
        .args([
            "--cert",
            "svid.pem",
            "--key",
            "svid.key",
            "-H",
            "content-type: application/grpc",
            "-H",
            "te: trailers",
        ])
        .args(["-H", "grpc-timeout: 300m", "--data-binary", &format!("@{}", frame.display())])
        .arg(format!("https://localhost:{}/shop.Orders/Slow", shop.gateway.address.port()))
        .output()?;
    let head = String::from_utf8_lossy(&output.stdout).to_lowercase();
    check!(head.starts_with("http/2 200") && head.contains("grpc-status: 4\r\n"), "{head}");
    check!(began.elapsed() < Duration::from_secs(3), "the gateway waited {:?}", began.elapsed());
    Ok(())
}

fn forbidden_meanwhile() -> Result {
    let Shop { gateway, mut server, tls } = Shop::start()?;
    let address = gateway.address.to_string();
    let mut caller =
        Script::start("grpc_client", &[&address, &tls, "unary", "/shop.Orders/Slow", "20", "7"])?;
    server.until(Duration::from_secs(10), |line| line["slow"] == "begun")?;
    let version = gateway.publish(
        "stop.cedar",
        "@id(\"stop-slow\")\n@owner(\"shop\")\nforbid (principal, action == Action::\"grpc\", resource == Method::\"shop.Orders/Slow\");\n",
    )?;
    let in_force = Instant::now();
    let told = caller.next(Duration::from_secs(5))?;
    check!(told["code"] == "PERMISSION_DENIED", "{told}");
    check!(in_force.elapsed() < Duration::from_secs(1), "after {:?}", in_force.elapsed());
    let ended = server.until(Duration::from_secs(5), |line| line["slow"] == "ended")?;
    check!(ended["after"].as_f64().is_some_and(|after| after < 15.0), "the service worked on: {ended}");

    let recorded = gateway.decisions(&["--reason", "revoked_by_change"])?;
    check!(recorded.len() == 1 && recorded[0]["determining"] == json!(["stop-slow"]), "{recorded:?}");
    check!(recorded[0]["phase"] == "rejudge" && recorded[0]["effect"] == "deny", "{}", recorded[0]);
    let id = recorded[0]["id"].as_str().ok_or("no id")?;
    let explained = gateway.cli(&["explain", id])?;
    let sentence =
        format!("a change of policies or entities ended this stream: policies v{version}: forbid stop-slow");
    check!(explained.stdout.contains(&sentence), "{}", explained.stdout);
    Ok(())
}

fn dead() -> Result {
    let Shop { gateway, server, tls } = Shop::start()?;
    drop(server);
    let said = Script::run(
        "grpc_client",
        &[&gateway.address.to_string(), &tls, "unary", "/shop.Orders/Get", "10", "7"],
    )?;
    let answer = said.first().ok_or("nothing")?;
    check!(answer["code"] == "UNAVAILABLE", "{answer}");
    check!(!answer.to_string().contains("127.0.0.1"), "the caller learns the address: {answer}");
    Ok(())
}

fn volume() -> Result {
    const CALLS: u64 = 20_000;
    let upstream = Upstream::echo();
    let gateway = Gateway::build()
        .listener("client_auth = \"none\"")
        .policy("@id(\"anyone\")\npermit (principal == Anonymous::\"anonymous\", action in Action::\"call\", resource);\n")
        .site(upstream.address)
        .start()?;
    let output = Command::new("h2load")
        .args(["-n", &CALLS.to_string(), "-c", "8", "-m", "16"])
        .arg(format!("https://localhost:{}/", gateway.address.port()))
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    check!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    check!(said.contains(&format!("{CALLS} succeeded, 0 failed, 0 errored, 0 timeout")), "{said}");
    check!(said.contains(&format!("status codes: {CALLS} 2xx")), "{said}");
    check!(upstream.calls() as u64 == CALLS, "{} calls arrived", upstream.calls());
    // Reads are recorded when there is time: the oldest first, so that the last ones are written when they are read.
    let (mut recorded, mut lost) = (0, 0);
    for _ in 0..3 {
        let decisions = gateway.records("kind=decision&order=asc")?;
        let of_calls =
            |record: &&Value| record["principal"]["type"] == "Anonymous" && record["effect"] == "allow";
        recorded = decisions.iter().filter(of_calls).count() as u64;
        let gaps = gateway.records("kind=gap")?;
        lost = gaps.iter().filter_map(|gap| gap["body"]["count"].as_u64()).sum();
        if recorded + lost >= CALLS {
            break;
        }
    }
    check!(recorded + lost == CALLS, "{recorded} records and {lost} told as lost");
    Ok(())
}
