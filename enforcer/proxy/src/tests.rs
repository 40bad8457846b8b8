//! The whole data plane in one process: real sockets, real TLS, a fake ledger and small origins.

mod allowed;
mod bodies;
mod checks;
mod client;
mod connect;
mod continuous;
mod denied;
mod flood;
mod forwarded;
mod grpc;
mod handled;
mod harness;
mod lifecycle;
mod names;
mod origin;
mod outliers;
mod overload;
mod quic;
mod rates;
mod recorded;
mod routed;
mod secured;
mod tcp;
mod tries;
mod upstream;
mod websocket;
