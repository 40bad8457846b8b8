//! Ports for heartbeat signatures (SQ5, S16): who signs them, and who tells whether a signature is an enforcer's.
//!
//! `portcullis` fills both: this crate handles no key of an SVID and reads no certificate.

use std::{fmt, sync::Arc};

use base_ports::UnixTime;
use bytes::Bytes;

/// Lends the SVID of this enforcer for signatures.
pub trait Voucher: fmt::Debug + Send + Sync {
    /// The SVID held now; `None` without one, and with one that has run out.
    fn held(&self) -> Option<Arc<dyn HeldSvid>>;
}

/// One SVID with its key.
pub trait HeldSvid: fmt::Debug + Send + Sync {
    /// Its certificates, leaf first.
    fn chain(&self) -> Vec<Bytes>;

    /// Signature of `text` with the key of the leaf; `None` when it cannot be made.
    fn sign(&self, text: &[u8]) -> Option<Vec<u8>>;
}

/// A signature that an enforcer is said to have made.
#[derive(Debug, Clone, Copy)]
pub struct Vouched<'a> {
    /// SPIFFE id of the enforcer.
    pub enforcer: &'a str,
    /// Certificates of its SVID, leaf first.
    pub chain: &'a [Bytes],
    /// When it signed.
    pub at: UnixTime,
    /// What it signed.
    pub text: &'a [u8],
    /// The signature.
    pub signature: &'a [u8],
}

/// Tells whether signatures are those of an enforcer.
pub trait Identities {
    /// Whether the chain is compared with authorities that are trusted; else only that leaf, name and signature fit.
    fn is_anchored(&self) -> bool;

    /// Checks the signature, the name in the leaf, and, where authorities are trusted, the chain at that time.
    ///
    /// # Errors
    /// What does not fit, for people.
    fn check(&self, vouched: &Vouched<'_>) -> Result<(), String>;

    /// Whether an SVID could still be used at that time.
    fn is_valid(&self, chain: &[Bytes], at: UnixTime) -> bool;
}
