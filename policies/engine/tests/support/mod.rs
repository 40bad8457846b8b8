//! What the oracle and the bench share: a judge that is not the engine, and numbers from a seed.

pub(crate) mod dice;
pub(crate) mod judge;
