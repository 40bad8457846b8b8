//! Access requests in, decisions and records out: Cedar, folded into plans.
