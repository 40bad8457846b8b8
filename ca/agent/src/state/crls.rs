//! Revocation lists as workloads get them: in DER with the Workload API, in PEM with SDS. Made by `cache`.
//!
//! Lists that are large together are left out of both, since every client reads them with every answer (RV-06).

use std::sync::Arc;

use ca_identity::pem;
use prost::bytes::Bytes;

/// The most bytes of all lists together.
const LIMIT: usize = 256 * 1024;

/// The lists of the own trust domain; none when they are too large.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Crls(Vec<Bytes>);

impl Crls {
    pub(crate) fn of(lists: &[Arc<[u8]>]) -> Self {
        let bytes: usize = lists.iter().map(|list| list.len()).sum();
        if bytes > LIMIT {
            tracing::warn!(
                event = "crl_too_large",
                bytes,
                "workloads get no revocation lists; they are at /v1/crls"
            );
            return Self::default();
        }
        Self(lists.iter().map(|list| Bytes::from_owner(Arc::clone(list))).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One message each; shares the bytes.
    pub(crate) fn messages(&self) -> Vec<Bytes> {
        self.0.clone()
    }

    pub(crate) fn to_pem(&self) -> String {
        self.0.iter().map(|list| pem::write_crl(list)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rv_06_lists_above_256_kib_are_left_out() {
        let of = |sizes: &[usize]| {
            Crls::of(&sizes.iter().map(|size| Arc::from(vec![0x30; *size])).collect::<Vec<_>>())
        };
        assert_eq!(of(&[LIMIT - 1, 1]).messages().len(), 2);
        assert!(of(&[LIMIT, 1]).is_empty() && of(&[]).is_empty());
        assert!(of(&[3]).to_pem().starts_with("-----BEGIN X509 CRL-----\n"));
    }
}
