//! The deny set: what no longer authenticates although it still verifies (RV-03, VS-10).
//!
//! The authority fills it, every snapshot carries it, the verifiers and open connections ask it. It knows nothing of
//! reasons and ends; those stand in the authority's records.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::jwt::TokenRefusal;
use crate::key_id::{KeyId, Serial, sha256};
use crate::refusal::Refusal;
use crate::verify_x509::PathLink;
use crate::{SpiffeId, TrustDomain, VerifiedPeer};

mod marks;

pub use marks::MARK;

/// The longest `kid` or `jti` that can be denied, in bytes.
const NAME_BYTES: usize = 256;

/// One thing that is denied. `Display` writes its name, [`Revoked::parse`] reads it back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// One certificate, named by the key that issued it and its serial number.
    Certificate(PathLink),
    /// Everything that a key issued.
    Issuer(KeyId),
    /// An identity, whatever certificate or token it shows.
    Id(SpiffeId),
    /// Every token that a key of that trust domain signed, by its `kid`.
    JwtKey(TrustDomain, String),
    /// One token of that trust domain, by its `jti`.
    Token(TrustDomain, String),
}

impl Revoked {
    /// The certificate of that issuer with that serial number.
    pub fn certificate(issuer: KeyId, serial: Serial) -> Self {
        Self::Certificate(PathLink { issuer, serial })
    }

    /// Reads a name: `x509:ISSUER:SERIAL`, `issuer:KEY`, a SPIFFE ID, `kid:DOMAIN:KID` or `jti:DOMAIN:JTI`.
    pub fn parse(name: &str) -> Option<Self> {
        if name.starts_with("spiffe://") {
            return SpiffeId::parse(name).ok().map(Self::Id);
        }
        let (kind, rest) = name.split_once(':')?;
        if kind == "issuer" {
            return KeyId::parse_hex(rest).map(Self::Issuer);
        }
        let (first, second) = rest.split_once(':')?;
        let named = |wrap: fn(TrustDomain, String) -> Self| {
            let is_name = (1..=NAME_BYTES).contains(&second.len()) && !second.contains(char::is_control);
            let domain = TrustDomain::parse(first).ok().filter(|_| is_name)?;
            Some(wrap(domain, second.to_owned()))
        };
        match kind {
            "x509" => Some(Self::certificate(KeyId::parse_hex(first)?, Serial::parse_hex(second)?)),
            "kid" => named(Self::JwtKey),
            "jti" => named(Self::Token),
            _ => None,
        }
    }

    /// A stable word for the kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "certificate",
            Self::Issuer(_) => "issuer",
            Self::Id(_) => "spiffe_id",
            Self::JwtKey(..) => "jwt_key",
            Self::Token(..) => "token",
        }
    }

    fn mark(&self) -> Mark {
        match self {
            Self::Certificate(link) => Mark::certificate(link),
            Self::Issuer(key) => Mark::issuer(key),
            Self::Id(id) => Mark::id(id),
            Self::JwtKey(domain, kid) => Mark::jwt_key(domain, kid),
            Self::Token(domain, jti) => Mark::token(domain, jti),
        }
    }
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(PathLink { issuer, serial }) => write!(f, "x509:{issuer}:{serial}"),
            Self::Issuer(key) => write!(f, "issuer:{key}"),
            Self::Id(id) => write!(f, "{id}"),
            Self::JwtKey(domain, kid) => write!(f, "kid:{domain}:{kid}"),
            Self::Token(domain, jti) => write!(f, "jti:{domain}:{jti}"),
        }
    }
}

/// An item as the set holds it: 128 bits of SHA-256 over its kind and its name. Who holds a certificate chooses neither
/// serial number nor issuer, so nobody can aim for the mark of another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Mark([u8; 16]);

impl Mark {
    fn of(parts: &[&[u8]]) -> Self {
        Self(sha256(parts).first_chunk().copied().unwrap_or_default())
    }

    fn certificate(PathLink { issuer, serial }: &PathLink) -> Self {
        Self::of(&[b"x", issuer.as_bytes(), serial.as_bytes()])
    }

    fn issuer(key: &KeyId) -> Self {
        Self::of(&[b"i", key.as_bytes()])
    }

    fn id(id: &SpiffeId) -> Self {
        Self::of(&[b"s", id.as_str().as_bytes()])
    }

    fn jwt_key(domain: &TrustDomain, kid: &str) -> Self {
        Self::of(&[b"k", domain.as_str().as_bytes(), b"\0", kid.as_bytes()])
    }

    fn token(domain: &TrustDomain, jti: &str) -> Self {
        Self::of(&[b"t", domain.as_str().as_bytes(), b"\0", jti.as_bytes()])
    }
}

/// Certificates, issuer keys, identities and tokens that are refused. Carried by every snapshot (S14).
///
/// A clone shares the items; an item costs 20 to 39 bytes (RV-05).
#[derive(Clone, Default)]
pub struct RevocationSet {
    denied: Arc<HashSet<Mark>>,
}

impl RevocationSet {
    /// Denies something.
    pub fn deny(&mut self, what: &Revoked) {
        Arc::make_mut(&mut self.denied).insert(what.mark());
    }

    /// Denies several things at once.
    pub fn extend<'a>(&mut self, items: impl IntoIterator<Item = &'a Revoked>) {
        Arc::make_mut(&mut self.denied).extend(items.into_iter().map(Revoked::mark));
    }

    /// Takes things off the set, and gives back the room.
    pub fn lift<'a>(&mut self, items: impl IntoIterator<Item = &'a Revoked>) {
        let denied = Arc::make_mut(&mut self.denied);
        for what in items {
            denied.remove(&what.mark());
        }
        if denied.capacity() / 4 > denied.len() {
            denied.shrink_to_fit();
        }
    }

    /// Whether exactly this is denied.
    pub fn contains(&self, what: &Revoked) -> bool {
        self.has(|| what.mark())
    }

    /// How many things are denied.
    pub fn len(&self) -> usize {
        self.denied.len()
    }

    /// True when nothing is denied.
    pub fn is_empty(&self) -> bool {
        self.denied.is_empty()
    }

    /// True when the key is denied as an issuer.
    pub fn has_issuer(&self, issuer: &KeyId) -> bool {
        self.has(|| Mark::issuer(issuer))
    }

    /// True when the identity is denied.
    pub fn has_id(&self, id: &SpiffeId) -> bool {
        self.has(|| Mark::id(id))
    }

    /// Re-judges a verified peer, such as the one of an open connection: a look-up, no cryptography (S14).
    ///
    /// # Errors
    /// Names what is denied.
    pub fn check(&self, peer: &VerifiedPeer) -> Result<(), Refusal> {
        self.check_path(&peer.id, &peer.path)
    }

    /// The same for an identity and the certificates that it shows, leaf first.
    ///
    /// # Errors
    /// Names what is denied.
    pub fn check_path(&self, id: &SpiffeId, path: &[PathLink]) -> Result<(), Refusal> {
        if self.has_id(id) {
            return Err(Refusal::RevokedId);
        }
        for link in path {
            if self.has_issuer(&link.issuer) {
                return Err(Refusal::RevokedIssuer);
            }
            if self.has(|| Mark::certificate(link)) {
                return Err(Refusal::RevokedCertificate);
            }
        }
        Ok(())
    }

    /// The same for what a verified token names (VJ-06).
    ///
    /// # Errors
    /// Names what is denied.
    pub fn check_token(&self, id: &SpiffeId, kid: &str, jti: Option<&str>) -> Result<(), TokenRefusal> {
        if self.has_id(id) {
            return Err(TokenRefusal::RevokedId);
        }
        if self.has(|| Mark::jwt_key(id.trust_domain(), kid)) {
            return Err(TokenRefusal::RevokedKey);
        }
        if jti.is_some_and(|jti| self.has(|| Mark::token(id.trust_domain(), jti))) {
            return Err(TokenRefusal::RevokedToken);
        }
        Ok(())
    }

    /// Nothing is hashed while nothing is denied.
    fn has(&self, mark: impl FnOnce() -> Mark) -> bool {
        !self.denied.is_empty() && self.denied.contains(&mark())
    }
}

impl fmt::Debug for RevocationSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationSet").field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> KeyId {
        KeyId::from_bytes([n; 20])
    }

    fn certificate(n: u32) -> Revoked {
        Revoked::certificate(key(1), Serial::from_bytes(&n.to_be_bytes()))
    }

    fn one_of_each() -> [Revoked; 5] {
        let domain = || TrustDomain::parse("example.org").unwrap();
        [
            certificate(7),
            Revoked::Issuer(key(2)),
            Revoked::Id(SpiffeId::parse("spiffe://example.org/web").unwrap()),
            Revoked::JwtKey(domain(), "a:b".to_owned()),
            Revoked::Token(domain(), "one".to_owned()),
        ]
    }

    #[test]
    fn names_of_what_is_denied_read_back_and_others_are_refused() {
        for what in one_of_each() {
            assert_eq!(Revoked::parse(&what.to_string()), Some(what));
        }
        let long = format!("jti:example.org:{}", "x".repeat(257));
        for text in
            ["", "x509:aa", "x509:aa:bb", "issuer:00", "kid:example.org", "kid:example.org:", "jti:UP:a"]
        {
            assert_eq!(Revoked::parse(text), None, "{text}");
        }
        for text in [&long, "jti:example.org:a\nb", "spiffe://example.org/a/", "other:a:b"] {
            assert_eq!(Revoked::parse(text), None, "{text}");
        }
    }

    #[test]
    fn rv_03_each_kind_is_denied_and_lifted_by_itself() {
        let mut set = RevocationSet::default();
        for what in &one_of_each() {
            assert!(!set.contains(what));
            set.deny(what);
        }
        let before = set.clone();
        for (n, what) in one_of_each().iter().enumerate() {
            assert!(set.contains(what));
            set.lift([what]);
            assert!(!set.contains(what) && before.contains(what), "a clone is a state of its own");
            assert_eq!(set.len(), 4 - n);
        }
        assert!(set.is_empty());
    }

    /// hashbrown keeps a power of two of buckets, seven eighths of them in use at most, and one octet of control for each;
    /// an item owns no memory besides. Right after it has grown the set is at its widest.
    #[test]
    fn rv_05_an_item_takes_at_most_64_bytes() {
        for count in [1_000_u32, 57_344, 57_345, 100_000] {
            let mut set = RevocationSet::default();
            set.extend(&(0..count).map(certificate).collect::<Vec<_>>());
            let buckets = set.denied.capacity() * 8 / 7;
            let bytes = buckets * (size_of::<Mark>() + 1) / set.len();
            assert!(set.len() == count as usize && bytes <= 64, "{count}: {bytes} bytes an item");
        }
        let mut set = RevocationSet::default();
        let items: Vec<_> = (0..10_000).map(certificate).collect();
        set.extend(&items);
        set.lift(&items[1..]);
        assert!(set.denied.capacity() < 100, "{}", set.denied.capacity());
    }
}
