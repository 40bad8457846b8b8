//! The messages and both halves of `PolicyFeed`, generated from `policies/store/proto` and checked in, so that a build
//! needs no protoc. Used by `feed` and `follow` only; nothing of it is public.
//!
//! Made with protox 0.9 and tonic-prost-build 0.14 (`bytes(".")`, `btree_map(".")`, `build_transport(false)`);
//! CONTRIBUTING.md tells how to make it again.

#[cfg(test)]
mod golden;

#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
pub(crate) mod messages;

#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, dead_code, unused_imports, unused_qualifications, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
pub(crate) mod client;

#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, dead_code, unused_imports, unused_qualifications, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
pub(crate) mod server;
