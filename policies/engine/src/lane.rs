//! The way of a record from a worker to the ledger: one lane per worker, whose counter only its owner touches.
//! Implemented by `policies/decisions`, called by the proxy and by services; taking a record never blocks.

use crate::{DecisionId, DecisionRecord};
use std::{fmt, pin::Pin};

/// One worker's numbered stream of records.
pub trait Lane: Send {
    /// Takes the record and gives it its id at once. The receipt says whether the effect must wait.
    fn record(&mut self, record: DecisionRecord) -> (DecisionId, Receipt);
}

/// What became of a record.
pub enum Receipt {
    /// `best_effort`: in the lane; the call goes on.
    Taken,
    /// `required` or `durable`: the effect waits for this.
    Pending(Pin<Box<dyn Future<Output = Result<(), AuditUnavailable>> + Send>>),
    /// `best_effort` with no room: the call goes on, an exact gap record follows.
    Lost,
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Receipt::Taken => "Taken",
            Receipt::Pending(_) => "Pending",
            Receipt::Lost => "Lost",
        })
    }
}

/// The record could not be kept as strongly as its decision demands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the decision could not be recorded: {0}")]
pub struct AuditUnavailable(pub String);
