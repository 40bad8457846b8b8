//! The messages and the server half of the verbs, generated from `policies/store/proto` and checked in, so that a build
//! needs no protoc. Answers are read from the documents of the REST API, so messages carry serde's derives.
//!
//! Made with protox 0.9 and tonic-prost-build 0.14; CONTRIBUTING.md tells how to make it again.

#[cfg(test)]
mod golden;

#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
pub(super) mod messages;

#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, dead_code, unused_imports, unused_qualifications, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
pub(super) mod server;
