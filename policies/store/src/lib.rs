//! A watched directory of policies becomes numbered, checked snapshots.
//!
//! `portcullis run` opens a [`PolicyStore`], tells it the entities, and subscribes to its snapshots; `policy validate`
//! and `policy test` call [`check_dir`] and [`run_cases`], which start nothing and store nothing.
//! A bad edit never takes effect: the last good snapshot stays, also across a restart, and the findings are told.
//! This crate judges no call and knows no network. Five types to know: [`PolicyStore`], [`StoreConfig`], [`Status`],
//! [`Report`], [`CaseReport`].

mod archive;
mod cases;
mod check;
mod content;
mod error;
mod fingerprint;
mod load;
mod manifest;
mod open;
mod outside;
mod registry;
mod retain;
mod status;
mod store;
#[cfg(test)]
mod testing;
mod watch;

pub use cases::{CaseReport, CaseResult, run_cases};
pub use check::{Report, check_dir};
pub use error::PolicyStoreError;
pub use status::{Reloads, Status};
pub use store::{PolicyStore, StoreConfig};
