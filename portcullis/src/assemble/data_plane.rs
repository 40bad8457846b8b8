//! The data plane: its ports, and its start.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use base_ports::{Clock, Rng, SystemDisk, SystemNet, Tasks};
use base_store::seal::load_or_create;
use ca_identity::tls::Trust;
use enforcer_proxy::{Dns, Lanes, Names, Ports, Proxy, ProxyConfig, ProxyError, Trails, ViewHandle};
use parking_lot::Mutex;
use policies_decisions::Ledger;
use policies_store::PolicyStore;

use super::process::Readers;
use super::{DataPlane, Process, doubt, gauges, spans, trails, view};
use crate::config::{Config, Enforcer};
use crate::messages::Message;

/// Where names lead; never to the ports of this process that are not for calls.
pub(super) fn names(config: &Config, clock: &Arc<dyn Clock>) -> Arc<Names> {
    let server = config.enforcer.as_ref().and_then(|enforcer| enforcer.resolver);
    let dns = server.map_or_else(Dns::of_system, Dns::at);
    let ca = config.ca.as_ref().and_then(|ca| ca.listen);
    let own = config.admin.listen.iter().copied().chain(ca).collect();
    Names::new(Arc::new(dns), Arc::clone(clock), own)
}

/// Starts the data plane, or has the one that runs already record and sample where the roles do that are started now.
#[expect(clippy::too_many_arguments, reason = "the one place where the data plane gets all its ports")]
pub(super) fn start(
    config: &Config,
    enforcer: &Enforcer,
    (view, trust, names): (Arc<ViewHandle>, &Arc<Trust>, Arc<Names>),
    ledger: &Ledger,
    (clock, rng): (&Arc<dyn Clock>, &Arc<dyn Rng>),
    (mismatches, store): (Arc<AtomicU64>, Option<Arc<PolicyStore>>),
    process: &Process,
    tasks: &Tasks,
    plane: &mut Option<DataPlane>,
) -> Result<DataPlane, Message> {
    let lanes = ledger.clone();
    let lane: Lanes = Arc::new(move |worker| lanes.lane(worker));
    let samples = doubt::start(ledger, clock, &process.metrics, tasks, mismatches, store);
    if let Some(plane) = plane.take() {
        plane.proxy.rewire(&lane, &samples);
        return Ok(plane);
    }
    let mut told = Trails::default();
    let writer =
        enforcer.trail.as_ref().map(|to| trails::start(to, &mut told, &process.metrics)).transpose()?;
    let spans = enforcer.spans.as_ref();
    let exporter = spans.map(|spans| spans::start(spans, &mut told, &process.metrics)).transpose()?;
    let is_told = writer.is_some() || exporter.is_some();
    let ports = Ports {
        view: Arc::clone(&view),
        trust: Arc::clone(trust),
        lane,
        samples,
        metrics: Arc::clone(&process.metrics),
        clock: Arc::clone(clock),
        rng: Arc::clone(rng),
        net: Arc::new(SystemNet),
        names: Arc::clone(&names),
        sockets: Arc::clone(&process.sockets),
        trails: is_told.then(|| told.clone()),
        gauges: Arc::new(gauges::SystemGauges::new(enforcer.max_memory)),
    };
    let settings = ProxyConfig {
        quic_reset_key: Some(Box::new(reset_key(config, &**rng)?)),
        ..view::settings(config, enforcer, (&process.numbers, &process.issuers), &**rng)?
    };
    let proxy = Proxy::prepare(settings, ports).map_err(|error| refusal(&error))?;
    let (proxy, readers) = (Arc::new(proxy), Mutex::new(Some(Readers { told, writer, exporter })));
    Ok(DataPlane { proxy, view, trust: Arc::clone(trust), names, readers })
}

/// The secret of resets over QUIC outlives the process, so that callers of one that was killed learn it at once (QU-04).
fn reset_key(config: &Config, rng: &dyn Rng) -> Result<[u8; 32], Message> {
    let key = load_or_create(&config.data_dir.join("quic-reset.key"), rng, &SystemDisk);
    key.map(|key| *key).map_err(|error| Message::error("PC4001", format!("data plane: {error}")))
}

/// Why it does not start, or its listeners are not opened.
pub(super) fn refusal(error: &ProxyError) -> Message {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Message::error("PC4001", format!("data plane: {error}{cause}")).next("portcullis config validate")
}
