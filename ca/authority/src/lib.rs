//! The workload CA: keys, entries, attestation, issuance.
