//! The one spelling of a path and of an authority (dataplane.md 5, CC-01 to CC-08).
//!
//! Called when a call is built, and by the router for configured prefixes and hosts.

mod authority;
mod path;
#[cfg(test)]
mod tests;

pub use authority::authority;
pub use path::{Kept, Path, path, spelled};
