//! The identity of this process: an SVID that is renewed in time, and the bundle that goes with it.

use std::sync::Arc;
use std::time::Duration;

use base_ports::{Clock, Rng, Tasks};
use ca_authority::Authority;
use ca_identity::tls::Trust;
use ca_identity::{Bundle, BundleMap, IdentitySnapshot, SpiffeId, X509Svid};

use super::identity;
use crate::messages::Message;

/// How long the start may wait for the first own identity.
const START: Duration = Duration::from_secs(20);

/// Keeps the own SVID and the bundle in one published snapshot; returns once the first SVID is held.
pub(super) async fn keep(
    trust: &Arc<Trust>,
    authority: &Arc<Authority>,
    (id, dns_names): (&SpiffeId, &[String]),
    (clock, rng, tasks): (&Arc<dyn Clock>, &Arc<dyn Rng>, &Tasks),
    condition: base_telemetry::Condition,
) -> Result<(), Message> {
    let sign = identity::sign_own(authority, id, dns_names);
    let keeper = ca_agent::Keeper::start(
        id.clone(),
        dns_names.to_vec(),
        sign,
        |_| {},
        Arc::clone(clock),
        Arc::clone(rng),
        tasks,
    );
    let (mut own, mut bundle) = (keeper.watch(), authority.watch_bundle());
    let first = async { own.wait_for(Option::is_some).await.is_ok() };
    if !tokio::time::timeout(START, first).await.unwrap_or(false) {
        return Err(Message::error("PC1001", format!("`{id}` got no SVID within {} s", START.as_secs()))
            .next("portcullis run --log-json"));
    }
    let publish = {
        let trust = Arc::clone(trust);
        move |own: Option<Arc<X509Svid>>, bundle: &Arc<Bundle>| {
            match &own {
                Some(own) => condition.set(true, format!("{} until {}", own.id, own.not_after)),
                None => condition.set(false, "own SVID expired"),
            }
            let bundles = BundleMap::of(Arc::clone(bundle));
            if let Err(error) =
                trust.publish(IdentitySnapshot { own, bundles, ..IdentitySnapshot::default() })
            {
                tracing::error!(event = "identity_not_published", error = %error, "the identity cannot be used");
            }
        }
    };
    publish(own.borrow_and_update().clone(), &bundle.borrow_and_update());
    tasks.spawn("identity", async move {
        let _keeper = keeper;
        loop {
            let alive = tokio::select! {
                moved = own.changed() => moved.is_ok(),
                moved = bundle.changed() => moved.is_ok(),
            };
            if !alive {
                return;
            }
            publish(own.borrow_and_update().clone(), &bundle.borrow_and_update());
        }
    });
    Ok(())
}
