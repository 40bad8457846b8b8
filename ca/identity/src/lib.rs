//! SPIFFE identity values and the pure verifiers.
//!
//! Who a caller is, as values: after [`SpiffeId::parse`] nobody looks at strings, after [`verify_svid`] nobody reads the
//! certificate again, and after [`verify_jwt_svid`] nobody the token. The five types to know: [`SpiffeId`], [`X509Svid`],
//! [`Bundle`], [`IdentitySnapshot`] and [`VerifiedPeer`]. Authority, agent, enforcer and command line all call this crate.
//!
//! What is absent: no sockets, no files, no async, no clock of its own (time is a parameter). rustls appears in
//! the module [`tls`] only, and a private key has neither `Debug` of its bytes nor a serializer.
#![deny(clippy::arithmetic_side_effects)]

mod algorithm;
mod bundle;
mod certificate;
pub mod csr;
mod der;
mod id_pattern;
pub mod inspect;
mod jwks;
mod jwt;
mod key;
mod key_id;
mod name;
pub mod pem;
mod refusal;
mod revocation;
mod selector;
mod signed;
mod snapshot;
mod spiffe_id;
mod svid;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tls;
mod trust_domain;
mod verify_x509;

pub use bundle::{Anchor, Bundle, BundleError, BundleMap};
pub use id_pattern::IdPattern;
pub use jwks::{JwksError, JwksReader};
pub use jwt::{
    IssuerKeys, IssuerKeysError, JwtAlgorithm, JwtClaims, JwtKey, JwtKeyError, JwtSigner, TokenRefusal,
    UserToken, VerifiedToken, issuer_of, token_digest, verify_jwt_svid, verify_user_token,
};
pub use key::{KeyError, PrivateKey};
pub use key_id::{KeyId, Serial, spki_sha256};
pub use name::IdError;
pub use refusal::{Refusal, RefusalClass};
pub use revocation::{MARK, RevocationSet, Revoked};
pub use rustls_pki_types::CertificateDer;
pub use selector::{Selector, SelectorError};
pub use signed::signer_of;
pub use snapshot::IdentitySnapshot;
pub use spiffe_id::SpiffeId;
pub use svid::{SvidError, X509Svid};
pub use trust_domain::TrustDomain;
pub use verify_x509::{PathLink, Usage, VerifiedPeer, verify_svid};
