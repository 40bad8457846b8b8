//! Bytes in, calls out: the canonical call, the strict HTTP/1 gate and gRPC framing.
//!
//! `enforcer/proxy` feeds received bytes and parsed HTTP/3 heads in, gets one immutable [`Call`] per request
//! and one [`Answer`] per upstream response, and prints both for the next hop from the parsed parts only.
//! No sockets, no runtime, no clock, no policy and no route live here. What is not canonical is refused with
//! the id of its rule ([`NotCanonical`]), never repaired.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod answer;
mod call;
pub mod canonical;
pub mod client_hello;
mod edits;
mod fields;
pub mod grpc;
pub mod h1;
pub mod h2;
pub mod h3;
pub mod headers;
mod limits;
pub mod proxy_protocol;
mod refusal;
pub mod token;

pub use answer::{Answer, Asked, Downstream, Sent};
pub use call::{BodyLength, Call, CallProtocol, Profile, Rewriting, Scheme, Transport, Upgrade};
pub use edits::{FieldEdit, FieldEdits};
pub use fields::FieldIter;
pub use limits::Limits;
pub use refusal::NotCanonical;
