//! Ordered, durable state: an append-only journal as the truth, sled as its rebuildable index, memory for tests.
//!
//! One [`Store`] per process, a key prefix per crate. A commit is acknowledged after its frame is on disk (fdatasync),
//! many commits share one sync. This crate knows no word of identity, policy or traffic, and never makes an empty
//! store where one has been. Five types to know: [`Store`], [`Transaction`], [`Embedded`], [`Memory`], [`Watch`].

pub mod conformance;
mod embedded;
mod entry;
mod error;
mod history;
mod index;
mod journal;
mod lock;
mod memory;
mod overlay;
mod pages;
pub mod seal;
mod store;
mod transaction;
mod watch;

pub use embedded::Embedded;
pub use entry::{Entry, Revision};
pub use error::StoreError;
pub use lock::Lock;
pub use memory::Memory;
pub use pages::{all, pages};
pub use store::{Committed, Store};
pub use transaction::{Compare, Transaction};
pub use watch::{Change, Event, Watch};
