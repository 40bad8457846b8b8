//! What the authority and the own identity say of themselves in numbers (IC-05): when keys and SVID end, which bundle is in
//! force, how many items the deny set has. No SPIFFE IDs as labels.

use std::sync::Arc;
use std::time::Duration;

use base_ports::Tasks;
use base_telemetry::Metrics;
use ca_authority::{Authority, KeyKind, KeyState};
use ca_identity::tls::Trust;

const PERIOD: Duration = Duration::from_secs(1);

/// Keeps the gauges true.
pub(super) fn watch(authority: Arc<Authority>, trust: Arc<Trust>, metrics: &Metrics, tasks: &Tasks) {
    let gauge = |name, help| metrics.gauge(name, help, &[]).with(&[]);
    let keys = metrics.gauge(
        "portcullis_ca_expiry_timestamp_seconds",
        "When the active key of that kind ends, in seconds since 1970",
        &["kind"],
    );
    let kinds =
        [KeyKind::Root, KeyKind::Signing, KeyKind::Jwt].map(|kind| (kind, keys.with(&[kind.as_str()])));
    let own = metrics.gauge(
        "portcullis_svid_expiry_timestamp_seconds",
        "When the SVID of that role of this process ends, in seconds since 1970; 0 without one",
        &["role"],
    );
    let own = own.with(&["gateway"]);
    let sequence = gauge("portcullis_bundle_sequence", "Sequence of the bundle of the own trust domain");
    let denied = gauge("portcullis_revocations", "Items of the deny set that is in force in this process");
    tasks.spawn("identity gauges", async move {
        loop {
            let slots = authority.keys();
            for (kind, end) in &kinds {
                let active = slots.iter().find(|slot| slot.kind == *kind && slot.state == KeyState::Active);
                end.set(active.map_or(0, |slot| slot.not_after.as_secs()));
            }
            let snapshot = trust.snapshot();
            own.set(snapshot.own.as_ref().map_or(0, |own| own.not_after.as_secs()));
            let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            sequence.set(whole(authority.bundle().sequence));
            denied.set(whole(snapshot.revoked.len() as u64));
            drop(snapshot);
            tokio::time::sleep(PERIOD).await;
        }
    });
}
