//! The identity of this process: an SVID that is renewed in time, and the bundle that goes with it, from its own authority
//! or from a Workload API.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base_ports::{Clock, Rng, Tasks};
use base_telemetry::{Condition, Metrics};
use ca_agent::WorkloadClient;
use ca_authority::Authority;
use ca_identity::tls::Trust;
use ca_identity::{Bundle, BundleMap, IdentitySnapshot, SpiffeId, X509Svid};

use super::identity;
use crate::messages::Message;

/// So long until a Workload API that does not answer is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// So often it is looked whether the SVID still holds.
const LOOK: Duration = Duration::from_secs(1);
/// How long the start may wait for the first own identity.
const START: Duration = Duration::from_secs(20);

/// Keeps the own SVID and the bundle in one published snapshot; returns once the first SVID is held.
pub(super) async fn keep(
    trust: &Arc<Trust>,
    authority: &Arc<Authority>,
    (role, id, dns_names): (&'static str, &SpiffeId, &[String]),
    (clock, rng, tasks): (&Arc<dyn Clock>, &Arc<dyn Rng>, &Tasks),
    (condition, metrics): (Condition, &Metrics),
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
    let mut told =
        (keeper.watch(), authority.watch_bundle(), authority.watch_revoked(), authority.watch_keys());
    let mut federated = authority.watch_federation();
    let first = async { told.0.wait_for(Option::is_some).await.is_ok() };
    if !tokio::time::timeout(START, first).await.unwrap_or(false) {
        return Err(Message::error("PC1001", format!("`{id}` got no SVID within {} s", START.as_secs()))
            .next("portcullis run --log-json"));
    }
    let help = "From a durable revocation to when this process refuses by it";
    let spread = metrics.histogram("portcullis_revocation_propagation_seconds", help, &[]).with(&[]);
    let (clock, revoker) = (Arc::clone(clock), Arc::clone(authority));
    let trust = Arc::clone(trust);
    let (own, bundle, revoked) = (told.0.clone(), told.1.clone(), told.2.clone());
    let authority = Arc::clone(authority);
    let in_force = move || {
        let (own, bundle) = (own.borrow().clone(), Arc::clone(&bundle.borrow()));
        let revoked = revoked.borrow().clone();
        let unusable = [&revoked, &authority.tainted()];
        let is_hit =
            |own: &Arc<X509Svid>| unusable.iter().any(|set| set.check_path(&own.id, &own.path).is_err());
        if own.as_ref().is_some_and(is_hit) {
            keeper.renew();
        }
        let sequence = bundle.sequence;
        let bundles = trusted(bundle, authority.federated_bundles());
        let snapshot = IdentitySnapshot { own, bundles, revoked, ..Default::default() };
        publish(&trust, &condition, snapshot, "own SVID expired");
        authority.acknowledge(role, sequence);
    };
    in_force();
    tasks.spawn("identity", async move {
        loop {
            let mut is_revocation = false;
            let alive = tokio::select! {
                moved = told.0.changed() => moved.is_ok(),
                moved = told.1.changed() => moved.is_ok(),
                moved = told.2.changed() => {
                    is_revocation = true;
                    moved.is_ok()
                }
                moved = told.3.changed() => moved.is_ok(),
                moved = federated.changed() => moved.is_ok(),
            };
            if !alive {
                return;
            }
            in_force();
            if is_revocation && let Some(at) = revoker.revoked_at() {
                spread.observe(clock.now().mono.saturating_since(at));
            }
        }
    });
    Ok(())
}

/// Keeps the SVID and the bundles that a Workload API gives this process (SC-01). It may come later than the listeners;
/// until then nothing is shown and nobody is taken in.
pub(super) fn follow(trust: &Arc<Trust>, id: SpiffeId, socket: PathBuf, tasks: &Tasks, condition: Condition) {
    let given = Arc::clone(trust);
    let without = format!("the Workload API gives this process no SVID of {id}");
    condition.set(false, format!("no SVID yet from {}", socket.display()));
    let (held, kept) = (Arc::clone(trust), condition.clone());
    let renewer = format!("the Workload API at {} gives no newer one", socket.display());
    tasks.spawn("identity expiry", async move {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Some(expired) = expired(&held) {
                kept.set(false, format!("{expired}; {renewer}"));
            }
        }
    });
    tasks.spawn("identity", async move {
        let address = format!("unix://{}", socket.display());
        let client = loop {
            match WorkloadClient::connect(&address).await {
                Ok(client) => break client,
                Err(error) => tracing::debug!(event = "workload_api", %error, "not yet"),
            }
            tokio::time::sleep(AGAIN).await;
        };
        let mut updates = client.watch_x509();
        loop {
            let (own, bundles) = match updates.next().await {
                Ok(context) => {
                    let own = context.svids.into_iter().find(|svid| svid.id == id).map(Arc::new);
                    (own, context.bundles)
                }
                Err(error) if error.is_denied() => (None, given.snapshot().bundles.clone()),
                Err(error) => {
                    // What is held stays in use until it expires (DF-06).
                    tracing::warn!(event = "workload_api", %error, "the Workload API gave no answer");
                    continue;
                }
            };
            // No deny set comes this way.
            let snapshot = IdentitySnapshot { own, bundles, ..IdentitySnapshot::default() };
            publish(&given, &condition, snapshot, &without);
        }
    });
}

/// What ran out, when the SVID that is held is of no use any more: nobody is taken in under it (TL-08).
fn expired(trust: &Trust) -> Option<String> {
    let own = trust.snapshot().own.clone()?;
    (!own.is_valid_at(trust.now())).then(|| format!("{} ended at {}", own.id, own.not_after))
}

/// The bundle of the own trust domain and those of others. The authority takes none that shares a root; if one is there after
/// all, its domain stays unknown (TB-10).
pub(super) fn trusted(own: Arc<Bundle>, foreign: impl IntoIterator<Item = Arc<Bundle>>) -> BundleMap {
    let mut bundles = BundleMap::of(own);
    for foreign in foreign {
        let domain = foreign.trust_domain.clone();
        if let Err(error) = bundles.insert(foreign) {
            tracing::error!(event = "bundle_not_in_force", trust_domain = %domain, %error, "not trusted");
        }
    }
    bundles
}

/// Puts an identity in force, and says whether there is one.
fn publish(trust: &Trust, condition: &Condition, snapshot: IdentitySnapshot, without: &str) {
    match &snapshot.own {
        Some(own) => condition.set(true, format!("{} until {}", own.id, own.not_after)),
        None => condition.set(false, without),
    }
    if let Err(error) = trust.publish(snapshot) {
        tracing::error!(event = "identity_not_published", %error, "the identity cannot be used");
    }
}

#[cfg(test)]
mod tests {
    use base_ports::{ManualClock, UnixTime};
    use ca_identity::testing::TestCa;

    use super::*;

    #[test]
    fn tl_08_an_svid_that_ran_out_is_told_and_one_that_holds_is_not() {
        let clock = Arc::new(ManualClock::new(UnixTime::from_secs(1_000_000)));
        let trust = Trust::new(Arc::<ManualClock>::clone(&clock));
        assert_eq!(expired(&trust), None, "there is none");
        let ca = TestCa::new("example.org", clock.now().wall);
        let own = ca.svid_with("/gateway", &[], Duration::from_secs(600));
        trust.publish(ca.snapshot(Some(own))).unwrap();
        assert_eq!(expired(&trust), None);
        clock.advance(Duration::from_secs(601));
        let told = expired(&trust).unwrap();
        assert!(told.starts_with("spiffe://example.org/gateway ended at "), "{told}");
    }
}
