//! The running data plane: workers, TLS, pools, authorize, forward, trail.
