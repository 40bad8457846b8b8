//! SPIFFE identity values and the one pure verifier.
