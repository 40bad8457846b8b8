//! The decision ledger: framed records, sequences, queries.
