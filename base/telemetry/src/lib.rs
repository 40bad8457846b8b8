//! Logs, metrics, health and the escaping of untrusted text.
//!
//! This crate knows no name of a domain metric and no protocol: who counts something names it. Five types to know:
//! [`Metrics`], [`Counter`], [`Histogram`], [`Health`], [`Condition`].

mod health;
pub mod logs;
mod metrics;
pub mod redact;

pub use health::{Condition, Health};
pub use metrics::{Counter, Family, Gauge, Histogram, Metrics};
