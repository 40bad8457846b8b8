//! `GET /v1/status`: what runs, with versions and expiries, from the same values the process works with.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use base_ports::UnixTime;
use ca_identity::tls::Trust;
use policies_store::{EnforcerStatus, FollowStatus, Position};
use serde_json::{Value, json};

use super::Api;
use crate::assemble::Shipped;
use crate::assemble::upgrade::Upgrades;

/// What only the assembly knows.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) trust: Option<Arc<Trust>>,
    pub(crate) workload_socket: Option<String>,
    pub(crate) upgrades: Arc<Upgrades>,
}

/// What runs.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, description = "status")))]
pub(super) async fn status(State(api): State<Arc<Api>>) -> Json<Value> {
    let facts = &api.status;
    let own = facts.trust.as_ref().and_then(|trust| trust.snapshot().own.clone());
    let conditions: Vec<_> = api
        .health
        .report()
        .into_iter()
        .map(|(name, ok, detail)| json!({ "name": name, "ok": ok, "detail": detail }))
        .collect();
    let served = api.process.served().map(|proxy| proxy.urls()).unwrap_or_default();
    let listeners: Vec<_> =
        served.iter().map(|(name, address)| json!({ "name": name, "address": address })).collect();
    let policies = policies(&api);
    Json(json!({
        "apiVersion": "portcullis/v1",
        "kind": "Status",
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "upgrade": facts.upgrades.last().map(|last| json!({ "at": last.at.to_string(), "result": last.result, "why": last.why })),
        "trust_domain": api.trust_domain.as_str(),
        "ready": api.health.is_ready(),
        "mode": mode(&api),
        "configuration": super::config::standing(&api).await,
        "conditions": conditions,
        "listeners": listeners,
        "workload_api": facts.workload_socket,
        "identity": own.map(|own| json!({ "id": own.id.as_str(), "serial": own.serial.to_string(), "not_after": own.not_after.to_string() })),
        "policies": policies,
        "ledger": ledger(&api),
    }))
}

/// How far the ledger has come, and what is wrong with it.
fn ledger(api: &Api) -> Value {
    let stats = api.ledger.stats();
    let alarms = api.ledger.alarms();
    let alarms: Vec<_> = alarms.iter().map(|alarm| crate::messages::alarm(alarm).to_json()).collect();
    json!({
        "origin": api.ledger.origin(), "records": stats.next_index.to_string(), "first": stats.first_index.to_string(),
        "tree_size": stats.tree_size.to_string(), "self_checked": stats.self_checked, "alarms": alarms,
        "ships": api.shipping.as_ref().map(|shipping| ships(&shipping.now(), stats.next_index)),
    })
}

/// How far the records of this process have come elsewhere.
fn ships(shipped: &Shipped, end: u64) -> Value {
    json!({
        "to": shipped.to, "acknowledged": shipped.next.to_string(),
        "waiting": end.saturating_sub(shipped.next).to_string(), "problem": shipped.problem,
    })
}

/// How the data plane carries out denials where neither listener nor route says otherwise.
fn mode(api: &Api) -> &'static str {
    match &api.configuration.in_force().enforcer {
        None => "none",
        Some(enforcer) if enforcer.observe => "observe",
        Some(_) => "enforce",
    }
}

/// What is in force, what was refused, and how it stands with the publisher or the enforcers that follow.
fn policies(api: &Api) -> Value {
    let status = match (&api.store, &api.follower) {
        (Some(store), _) => store.status(),
        (None, Some(follower)) => follower.status(),
        (None, None) => return Value::Null,
    };
    let now = api.clock.now().wall;
    let diagnostics = status.diagnostics.iter().map(|found| crate::messages::Message::from(found).to_json());
    let mut document = json!({
        "version": status.numbers.map(|numbers| numbers.policies),
        "snapshot": status.numbers.map(|numbers| numbers.snapshot),
        "diagnostics": diagnostics.collect::<Vec<_>>(),
    });
    let Some(members) = document.as_object_mut() else { return document };
    if let Some(store) = &api.store {
        let keys: Vec<_> = store.verifiers().iter().map(ToString::to_string).collect();
        let wanted = store.feed().newest();
        let enforcers: Vec<_> =
            store.feed().enforcers().iter().map(|enforcer| followed_by(enforcer, wanted, now)).collect();
        members.extend(super::policies::standing::standing(api, store));
        members.insert("keys".to_owned(), json!(keys));
        members.insert("enforcers".to_owned(), json!(enforcers));
    }
    if let Some(follower) = &api.follower {
        members.insert("follows".to_owned(), follows(&follower.follow_status(), status.since, now));
    }
    document
}

fn follows(status: &FollowStatus, since: Option<UnixTime>, now: UnixTime) -> Value {
    json!({
        "publisher": status.publisher,
        "connected": status.is_connected,
        "problem": status.problem,
        "heard": status.heard.map(|heard| heard.to_string()),
        "heard_seconds_ago": status.heard.map(|heard| now.saturating_since(heard).as_secs()),
        "since": since.map(|since| since.to_string()),
        "freshness": status.freshness.as_str(),
        "wanted": status.wanted.map(|position| position.to_string()),
        "running": status.running.map(|position| position.to_string()),
        "refusal": status.refusal.as_ref().map(|(code, detail)| json!({ "code": code, "detail": detail })),
        "alarm": status.alarm,
    })
}

fn followed_by(enforcer: &EnforcerStatus, wanted: Option<Position>, now: UnixTime) -> Value {
    let refusal = enforcer.refusal.as_ref();
    json!({
        "principal": enforcer.principal,
        "name": enforcer.name,
        "connected": enforcer.is_connected,
        "wanted": wanted.map(|position| position.to_string()),
        "running": enforcer.running.map(|position| position.to_string()),
        "current": wanted.is_some() && enforcer.running == wanted,
        "policies": enforcer.policies,
        "compile_micros": enforcer.compile_micros,
        "slow_policies": enforcer.slow_policies,
        "mismatches": enforcer.mismatches,
        "refusal": refusal.map(|(offered, code, detail)| {
            json!({ "snapshot": offered.map(|position| position.to_string()), "code": code, "detail": detail })
        }),
        "reported": enforcer.reported.map(|time| time.to_string()),
        "reported_seconds_ago": enforcer.reported.map(|time| now.saturating_since(time).as_secs()),
    })
}
