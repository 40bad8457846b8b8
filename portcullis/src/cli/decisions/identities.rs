//! Whose heartbeats those in a log are: signature and name always, the chain where the auditor gives a bundle (SQ5).
//!
//! A chain is judged at the time of the heartbeat by the one verifier of SVIDs. What was revoked since is not asked: the
//! enforcer did sign.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base_ports::UnixTime;
use bytes::Bytes;
use ca_identity::{
    Bundle, BundleMap, CertificateDer, IdentitySnapshot, TrustDomain, Usage, inspect, pem, signer_of,
    verify_svid,
};
use policies_decisions::{Identities, Vouched};

/// What an auditor knows of identities.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The authorities he trusts.
    trusted: Option<IdentitySnapshot>,
    /// Chains that were found good: from when, and until when.
    good: RefCell<BTreeMap<Vec<Bytes>, (UnixTime, UnixTime)>>,
}

impl Known {
    /// With the authorities in a file: PEM as `svid write` leaves it, or a SPIFFE bundle (JWKS).
    ///
    /// # Errors
    /// It holds neither, for people.
    pub(super) fn with_bundle(domain: &str, path: &Path, bytes: &[u8]) -> Result<Self, String> {
        let said = |error: &dyn std::fmt::Display| format!("`{}`: {error}", path.display());
        let domain = TrustDomain::parse(domain).map_err(|error| said(&error))?;
        let bundle = if bytes.trim_ascii_start().starts_with(b"{") {
            Bundle::from_jwks(domain, bytes).map_err(|error| said(&error))?
        } else {
            let anchors = pem::read_certificates(bytes).map_err(|error| said(&error))?;
            Bundle::new(domain, anchors, 0).map_err(|error| said(&error))?
        };
        if bundle.anchors().is_empty() {
            return Err(said(&"it holds no authority"));
        }
        let bundles = BundleMap::of(Arc::new(bundle));
        let trusted = IdentitySnapshot { bundles, ..IdentitySnapshot::default() };
        Ok(Self { trusted: Some(trusted), ..Self::default() })
    }

    /// Whether the chain led to a trusted authority at that time.
    fn anchored(&self, trusted: &IdentitySnapshot, vouched: &Vouched<'_>) -> Result<(), String> {
        let mut good = self.good.borrow_mut();
        if good.get(vouched.chain).is_some_and(|(from, to)| (*from..=*to).contains(&vouched.at)) {
            return Ok(());
        }
        let chain = certificates(vouched.chain);
        let judge = |usage| verify_svid(&chain, trusted, usage, vouched.at);
        let peer = judge(Usage::Server).or_else(|_| judge(Usage::Client));
        let peer = peer.map_err(|refusal| format!("its SVID is not trusted: {refusal}"))?;
        good.insert(vouched.chain.to_vec(), (vouched.at, peer.expires));
        Ok(())
    }
}

impl Identities for Known {
    fn is_anchored(&self) -> bool {
        self.trusted.is_some()
    }

    fn check(&self, vouched: &Vouched<'_>) -> Result<(), String> {
        let leaf = vouched.chain.first().ok_or("there is no certificate")?;
        let leaf = CertificateDer::from(leaf.as_ref());
        let signer =
            signer_of(&leaf, vouched.text, vouched.signature).map_err(|refusal| refusal.to_string())?;
        if signer.as_str() != vouched.enforcer {
            return Err(format!("{signer} signed it, not {}", vouched.enforcer));
        }
        self.trusted.as_ref().map_or(Ok(()), |trusted| self.anchored(trusted, vouched))
    }

    fn is_valid(&self, chain: &[Bytes], at: UnixTime) -> bool {
        let facts = chain.first().and_then(|leaf| inspect::certificate(leaf).ok());
        facts.is_some_and(|facts| at <= facts.not_after)
    }
}

fn certificates(chain: &[Bytes]) -> Vec<CertificateDer<'_>> {
    chain.iter().map(|certificate| CertificateDer::from(certificate.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ca_identity::X509Svid;
    use ca_identity::testing::{TestCa, now};

    use super::*;

    fn check(known: &Known, enforcer: &str, svid: &X509Svid, at: UnixTime) -> Result<(), String> {
        let chain: Vec<_> = svid.chain.iter().map(|der| Bytes::copy_from_slice(der)).collect();
        let signature = svid.sign(b"text").unwrap();
        let vouched = Vouched { enforcer, chain: &chain, at, text: b"text", signature: &signature };
        assert!(known.check(&Vouched { text: b"other", ..vouched }).is_err());
        known.check(&vouched)
    }

    #[test]
    fn sq5_dl6_a_heartbeat_is_its_enforcers_alone_and_its_chain_is_one_that_the_auditor_trusts() {
        let (ca, other) = (TestCa::new("example.org", now()), TestCa::new("example.org", now()));
        let gateway = "spiffe://example.org/gateway";
        let (own, forged) = (ca.svid("/gateway"), other.svid("/gateway"));
        let pem = pem::write_certificates([ca.root()]);
        let jwks = ca.bundle().to_jwks();
        for bundle in [pem.as_bytes(), jwks.as_bytes()] {
            let known = Known::with_bundle("example.org", Path::new("b"), bundle).unwrap();
            assert!(known.is_anchored());
            assert_eq!(check(&known, gateway, &own, now()), Ok(()));
            assert_eq!(check(&known, gateway, &own, now() + Duration::from_secs(60)), Ok(()));
            let late = check(&known, gateway, &own, now() + Duration::from_secs(86_400 * 9)).unwrap_err();
            assert!(late.contains("not trusted"), "{late}");
            assert!(check(&known, gateway, &forged, now()).unwrap_err().contains("not trusted"));
            let second = check(&known, gateway, &ca.svid("/web"), now()).unwrap_err();
            assert!(second.contains("spiffe://example.org/web signed it, not "), "{second}");
        }
        // Without a bundle only signature and name are compared.
        let known = Known::default();
        assert!(!known.is_anchored() && check(&known, gateway, &forged, now()).is_ok());
        let chain: Vec<_> = own.chain.iter().map(|der| Bytes::copy_from_slice(der)).collect();
        assert!(
            known.is_valid(&chain, now()) && !known.is_valid(&chain, now() + Duration::from_secs(86_400))
        );
        for bad in [&b"no bundle"[..], b"{}", b""] {
            assert!(Known::with_bundle("example.org", Path::new("b"), bad).is_err());
        }
    }
}
