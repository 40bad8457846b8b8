//! The running data plane: TLS in, one judgement per call, the judged call out.
//!
//! `portcullis` gives it listeners, a [`ViewHandle`] (policies and routes), a published identity
//! (`ca_identity::tls::Trust`) and a record lane per worker; it forwards what `authorize` permitted and nothing else.
//! It holds no CA key, reads no file, parses no policy and no configuration, and no worker shares a lock with another.
//! Five types to know: [`Proxy`], [`ProxyConfig`], [`Ports`], [`View`], [`ViewHandle`].

mod accounts;
mod authorize;
mod body;
mod checks;
mod clocks;
mod config;
mod error;
mod fault;
mod fleets;
mod forward;
mod holdings;
mod inbound;
mod injection;
mod issuer;
mod judge;
mod listeners;
mod listening;
mod load;
mod meter;
mod mirror;
mod names;
mod overload;
mod pool;
mod proxy;
mod quic;
mod reply;
mod report;
mod respond;
mod secured;
mod shaken;
mod shed;
mod standing;
#[cfg(test)]
mod tests;
mod trail;
mod tunnel;
mod upstream;
mod view;
mod waiting;
mod wheel;
mod worker;

pub use authorize::request_of;
pub use config::{Callers, Carries, Lanes, ListenerSpec, Ports, ProxyConfig, Reveal};
pub use error::ProxyError;
pub use injection::Injection;
pub use issuer::{Issuer, IssuerSettings};
pub use listeners::NextListeners;
pub use names::{Dns, Names};
pub use overload::Gauges;
pub use proxy::Proxy;
pub use report::EndpointReport;
pub use secured::credential_of;
pub use standing::ConnectionReport;
pub use trail::{Attribute, CallTrail, Reader, Span, SpanIds, TrailFormat, Trails};
pub use view::{View, ViewHandle};
