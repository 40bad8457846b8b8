//! Tests of the follower as a whole.
