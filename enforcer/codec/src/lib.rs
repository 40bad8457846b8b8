//! Bytes in, calls out: the canonical call, HTTP/1 and gRPC framing. No sockets.
