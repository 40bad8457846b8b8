//! Builders for tests over the shipped binary.
