//! The one room of `ca` where rustls types appear (BN-04): verifiers, certificate resolver and configurations.
//!
//! Enforcer, authority and agent take their TLS configurations from here. All of them read one published
//! [`Trust`], so a renewal or a revocation changes new handshakes at once and touches no open connection (TL-05).
//! TLS 1.3 only, hybrid key exchange first; tickets, stored sessions and early data are off, because resumption
//! would skip the verifier (TL-02, HV-17, RG-01). What strangers of the web reach or are asked by is in `web`: TLS 1.2 as well (FE-02).

mod cache;
mod config;
mod named;
mod trust;
mod unjudged;
mod verifier;
mod web;

pub use config::{
    ClientAuth, client_config, client_config_telling, install_provider, server_config, server_config_by_name,
};
pub use named::{NamedCertificate, NamedError};
pub use trust::{PublishError, Trust};
pub use unjudged::unjudged_client_config;
pub use verifier::{Expected, Refused, alert_in, alerted, peer, refusal_in, refusal_in_alert, refusal_of};
pub use web::{WebError, WebRoots, public_config, web_client_config};

#[cfg(test)]
mod tests;
