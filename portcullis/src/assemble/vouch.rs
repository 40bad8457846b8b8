//! Heartbeats of the decision log are signed with the SVID that this process holds (SQ5, S16).
//!
//! Only with the one of the enforcer whose records they are, and only while it is valid: a process that has none yet, or
//! whose SVID ran out, says what it has to say unsigned.

use std::sync::Arc;

use bytes::Bytes;
use ca_identity::X509Svid;
use ca_identity::tls::Trust;
use policies_decisions::{HeldSvid, Voucher};

/// The SVID in the published snapshot.
#[derive(Debug)]
pub(super) struct OwnSvid {
    pub(super) trust: Arc<Trust>,
    /// SPIFFE id of the enforcer in the records.
    pub(super) enforcer: String,
}

impl Voucher for OwnSvid {
    fn held(&self) -> Option<Arc<dyn HeldSvid>> {
        let own = self.trust.snapshot().own.clone()?;
        let is_ours = own.id.as_str() == self.enforcer && own.is_valid_at(self.trust.now());
        is_ours.then(|| Arc::new(Held(own)) as Arc<dyn HeldSvid>)
    }
}

#[derive(Debug)]
struct Held(Arc<X509Svid>);

impl HeldSvid for Held {
    fn chain(&self) -> Vec<Bytes> {
        self.0.chain.iter().map(|certificate| Bytes::copy_from_slice(certificate)).collect()
    }

    fn sign(&self, text: &[u8]) -> Option<Vec<u8>> {
        let signed = self.0.sign(text);
        signed.inspect_err(|error| tracing::warn!(event = "heartbeat_unsigned", %error, "no signature")).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base_ports::{Clock, ManualClock, UnixTime};
    use ca_identity::testing::TestCa;

    use super::*;

    #[test]
    fn sq5_only_the_valid_svid_of_the_enforcer_is_lent() {
        let clock = Arc::new(ManualClock::new(UnixTime::from_secs(1_000_000)));
        let trust = Trust::new(Arc::<ManualClock>::clone(&clock));
        let voucher = |id: &str| OwnSvid { trust: Arc::clone(&trust), enforcer: id.to_owned() };
        let gateway = voucher("spiffe://example.org/gateway");
        assert!(gateway.held().is_none(), "there is none yet");
        let ca = TestCa::new("example.org", clock.now().wall);
        let own = ca.svid_with("/gateway", &[], Duration::from_secs(600));
        trust.publish(ca.snapshot(Some(own.clone()))).unwrap();
        let held = gateway.held().unwrap();
        assert_eq!(held.chain().len(), own.chain.len());
        let signature = held.sign(b"text").unwrap();
        assert_eq!(ca_identity::signer_of(own.leaf().unwrap(), b"text", &signature).unwrap(), own.id);
        assert!(voucher("spiffe://example.org/other").held().is_none());
        clock.advance(Duration::from_secs(601));
        assert!(gateway.held().is_none(), "it ran out");
    }
}
