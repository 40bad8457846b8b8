//! Ordered, durable state: an append-only journal as the truth, sled as its rebuildable index, memory for tests.
