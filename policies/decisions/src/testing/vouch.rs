//! Enforcers whose certificates are names, and auditors who read them.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base_ports::UnixTime;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::{HeldSvid, Identities, Vouched, Voucher};

pub(crate) const GATEWAY: &str = "spiffe://example.org/gateway";

/// Lends the SVID that was put here: its certificate is `id#serial`.
#[derive(Debug, Default)]
pub(crate) struct Lender(Mutex<Option<Name>>);

#[derive(Debug, Clone)]
struct Name(String);

impl Lender {
    pub(crate) fn holds(&self, name: Option<&str>) {
        *self.0.lock() = name.map(|name| Name(name.to_owned()));
    }
}

impl Voucher for Lender {
    fn held(&self) -> Option<Arc<dyn HeldSvid>> {
        let name = self.0.lock().clone()?;
        Some(Arc::new(name))
    }
}

impl HeldSvid for Name {
    fn chain(&self) -> Vec<Bytes> {
        vec![Bytes::from(self.0.clone())]
    }

    fn sign(&self, text: &[u8]) -> Option<Vec<u8>> {
        Some(signed(&self.0, text))
    }
}

/// What the SVID of that name signs.
pub(crate) fn signed(name: &str, text: &[u8]) -> Vec<u8> {
    digest(&SHA256, &[name.as_bytes(), text].concat()).as_ref().to_vec()
}

/// Trusts every certificate but those with `#stranger`.
#[derive(Debug, Default)]
pub(crate) struct Auditing;

impl Identities for Auditing {
    fn is_anchored(&self) -> bool {
        true
    }

    fn check(&self, vouched: &Vouched<'_>) -> Result<(), String> {
        let name = std::str::from_utf8(&vouched.chain[0]).unwrap();
        let (id, serial) = name.split_once('#').unwrap();
        match signed(name, vouched.text) == vouched.signature {
            _ if serial == "stranger" => Err("its SVID is not trusted".to_owned()),
            true if id == vouched.enforcer => Ok(()),
            true => Err(format!("{id} signed it")),
            false => Err("the signature is wrong".to_owned()),
        }
    }

    fn is_valid(&self, chain: &[Bytes], _at: UnixTime) -> bool {
        !chain[0].ends_with(b"#expired")
    }
}
