//! Messages and server half of Envoy's `Authorization`, generated from `policies/adapters/proto` and checked in, so that a
//! build needs no protoc. Made as the other generated code is; CONTRIBUTING.md tells how.

#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
pub(crate) mod messages;

#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, dead_code, unused_imports, unused_qualifications, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
pub(crate) mod server;
