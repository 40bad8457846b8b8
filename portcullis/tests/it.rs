//! Command-line tests of the shipped binary.
