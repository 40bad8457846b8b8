//! What the authority did, in numbers (IC-05): issued, refused, attested, revoked. No SPIFFE IDs as labels.

use base_telemetry::{Counter, Family, Metrics};
use ca_authority::{IdentityEvent, SvidKind};

/// Counts events of the authority.
#[derive(Debug)]
pub(crate) struct Counts {
    certificates: Counter,
    tokens: Counter,
    refused: Family<Counter>,
    attested: Family<Counter>,
}

impl Counts {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let issued =
            metrics.counter("portcullis_svids_issued", "SVIDs that the authority released", &["type"]);
        Self {
            certificates: issued.with(&[SvidKind::X509.as_str()]),
            tokens: issued.with(&[SvidKind::Jwt.as_str()]),
            refused: metrics.counter(
                "portcullis_svid_refusals",
                "SVIDs that the authority refused, by the code of the reason",
                &["type", "reason"],
            ),
            attested: metrics.counter(
                "portcullis_attestations",
                "Evidence of nodes that was judged, by kind; result is ok or refused",
                &["kind", "result"],
            ),
        }
    }

    pub(super) fn count(&self, event: &IdentityEvent) {
        match event {
            IdentityEvent::Issued(_) => self.certificates.inc(),
            IdentityEvent::TokenIssued(_) => self.tokens.inc(),
            IdentityEvent::IssuanceRefused { svid, code, .. } => {
                self.refused.with(&[svid.as_str(), code]).inc();
            }
            IdentityEvent::Attested { attested_by, .. } => self.attested.with(&[attested_by, "ok"]).inc(),
            IdentityEvent::AttestationRefused { attested_by, .. } => {
                self.attested.with(&[attested_by, "refused"]).inc();
            }
            _ => {}
        }
    }
}
