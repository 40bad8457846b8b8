//! Logs, metrics, health and the escaping of untrusted text.
//!
//! This crate knows no name of a domain metric and no protocol: who counts something names it, and `portcullis` serves
//! what [`Metrics::render`] and [`Health::report`] say. Five types to know: [`Metrics`], [`Family`], [`Counter`],
//! [`Histogram`], [`Health`].

mod health;
pub mod logs;
mod metrics;
pub mod redact;

pub use health::{Condition, Health};
pub use metrics::{Counter, Family, FamilyInfo, FamilyRead, Gauge, Histogram, Kind, Metrics, Read};
