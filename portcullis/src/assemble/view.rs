//! The view of the data plane: policies and routes that agree, published together; and its settings.

use std::num::NonZeroUsize;
use std::sync::Arc;

use base_net::{Caps, Timers};
use base_ports::Tasks;
use base_telemetry::Condition;
use ca_identity::tls::ClientAuth;
use enforcer_proxy::{ListenerSpec, ProxyConfig, View, ViewHandle};
use enforcer_traffic::Routes;
use policies_engine::{Freshness, Mode, Snapshot};
use tokio::sync::watch;

use super::entities;
use crate::config::{Config, Enforcer};
use crate::messages::Message;

/// Snapshots as they come into force, and how current they are known to be.
pub(super) type Subscribed = (watch::Receiver<Option<Arc<Snapshot>>>, Option<watch::Receiver<Freshness>>);

/// Publishes a view for every snapshot; the condition says whether calls can be judged.
pub(super) fn publish(
    enforcer: &Enforcer,
    policies: Subscribed,
    tasks: &Tasks,
    condition: Condition,
) -> Result<Arc<ViewHandle>, Message> {
    let (services, routes) = entities::traffic(enforcer);
    let routes = Routes::build(&services, &routes).map_err(|error| {
        Message::error("PC0105", format!("routes: {error}")).next("portcullis config validate")
    })?;
    let mut source = Source { policies, routes: Arc::new(routes), condition };
    let handle = Arc::new(ViewHandle::new(source.view()));
    let views = Arc::clone(&handle);
    tasks.spawn("view", async move {
        while source.changed().await {
            let view = source.view().after(&views.current());
            views.publish(view);
        }
    });
    Ok(handle)
}

/// What a view is made of.
struct Source {
    policies: Subscribed,
    routes: Arc<Routes>,
    condition: Condition,
}

impl Source {
    /// The view of now; what it is made of counts as seen.
    fn view(&mut self) -> View {
        let (snapshots, freshness) = &mut self.policies;
        let freshness = freshness.as_mut().map(|told| *told.borrow_and_update()).unwrap_or_default();
        let snapshot = snapshots.borrow_and_update().clone();
        tell(&self.condition, snapshot.as_ref(), freshness);
        View::new(snapshot, Arc::clone(&self.routes)).as_of(freshness)
    }

    /// Waits until something is not seen; false when nothing can come any more.
    async fn changed(&mut self) -> bool {
        match &mut self.policies {
            (snapshots, None) => snapshots.changed().await.is_ok(),
            (snapshots, Some(freshness)) => tokio::select! {
                moved = snapshots.changed() => moved.is_ok(),
                moved = freshness.changed() => moved.is_ok(),
            },
        }
    }
}

fn tell(condition: &Condition, snapshot: Option<&Arc<Snapshot>>, freshness: Freshness) {
    match snapshot {
        Some(_) if freshness == Freshness::Expired => {
            condition
                .set(false, "the publisher of policies was not heard for longer than policies.deny_after");
        }
        Some(snapshot) => {
            let numbers = snapshot.versions().numbers;
            tracing::info!(
                event = "policies_in_force",
                version = numbers.policies,
                snapshot = numbers.snapshot,
                "policies are in force"
            );
            condition.set(true, format!("policies v{} (snapshot {})", numbers.policies, numbers.snapshot));
        }
        None => condition.set(false, "no valid policies yet; portcullis policy validate shows why"),
    }
}

/// The settings of the data plane.
pub(super) fn settings(config: &Config, enforcer: &Enforcer) -> ProxyConfig {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    ProxyConfig {
        workers: if enforcer.workers == 0 { cores } else { enforcer.workers },
        mode: mode(enforcer.observe),
        reveal_decision_id: config.decisions.reveal_decision_id.parse().unwrap_or_default(),
        listeners: enforcer
            .listeners
            .iter()
            .map(|listener| ListenerSpec {
                name: listener.name.as_str().into(),
                binds: listener.bind.clone(),
                client_auth: match listener.client_auth.as_str() {
                    "optional" => ClientAuth::Optional,
                    "none" => ClientAuth::None,
                    _ => ClientAuth::Required,
                },
                mode: listener.observe.map(mode),
                hosts: listener.hosts.clone(),
                timers: Timers {
                    handshake: listener.handshake_timeout,
                    header: listener.header_timeout,
                    idle: listener.idle_timeout,
                    max_age: listener.max_age,
                },
                caps: Caps {
                    connections: listener.max_connections,
                    per_source: listener.max_connections_per_source,
                },
            })
            .collect(),
    }
}

fn mode(observe: bool) -> Mode {
    if observe { Mode::Observe } else { Mode::Enforce }
}
