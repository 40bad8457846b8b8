//! The messages and both halves of the Workload API, generated from `ca/proto/workload.proto`, and what a server of
//! Envoy's SDS needs, from `ca/proto/envoy/`: checked in, so that a build needs no protoc. Used by `secret`, `service` and
//! `client` only; nothing of it is public.
//!
//! Made with protox 0.9 and tonic-prost-build 0.14 (`bytes(".")`, `btree_map(".")`, `build_transport(false)`, no
//! `Debug` for messages that carry keys or tokens). CONTRIBUTING.md tells how to make it again.

use std::fmt;

use prost::bytes::Bytes;

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

#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, dead_code, unused_imports, unused_qualifications, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
pub(crate) mod sds;

/// The Workload API as a file descriptor set, for server reflection (WE-06).
pub(crate) const DESCRIPTORS: &[u8] = include_bytes!("generated/workload.binpb");

/// SDS in the same form.
pub(crate) const SDS_DESCRIPTORS: &[u8] = include_bytes!("generated/sds.binpb");

/// `google.protobuf.Any` whose bytes are shared, not copied for each message (AG-05).
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct SharedAny {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

/// Says what it is; a secret may be inside.
impl fmt::Debug for SharedAny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedAny").field("type_url", &self.type_url).finish_non_exhaustive()
    }
}

/// Certificates or a key: never shown.
impl fmt::Debug for sds::envoy::config::core::v3::DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataSource").finish_non_exhaustive()
    }
}

/// The same.
impl fmt::Debug for sds::envoy::config::core::v3::data_source::Specifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Specifier").finish_non_exhaustive()
    }
}

/// Says whose it is; never the key.
impl fmt::Debug for messages::X509svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509svid")
            .field("spiffe_id", &self.spiffe_id)
            .field("hint", &self.hint)
            .finish_non_exhaustive()
    }
}

/// Says whose it is; never the token.
impl fmt::Debug for messages::Jwtsvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwtsvid")
            .field("spiffe_id", &self.spiffe_id)
            .field("hint", &self.hint)
            .finish_non_exhaustive()
    }
}

/// Says for whom; never the token.
impl fmt::Debug for messages::ValidateJwtsvidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidateJwtsvidRequest").field("audience", &self.audience).finish_non_exhaustive()
    }
}
