//! Workload attestation, SVID cache and rotation, the SPIFFE Workload API.
