//! What is wrong with a ledger now, for whoever looks after it (chapter 16): `check`, `status` and metrics say the same.

use std::fmt;

use base_ports::UnixTime;

use crate::{ledger::Ledger, proof::Boot, roll::Standing};

/// How old the last checkpoint may be while records wait for one, seconds.
const CHECKPOINT_AGE: u64 = 30;

/// Something that somebody must look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// An enforcer neither closed its stream nor was it heard of since (SQ4).
    Silent {
        /// Which.
        boot: Boot,
        /// When it was last heard.
        since: UnixTime,
    },
    /// Records were lost since the start, each covered by a gap (LS7).
    Lost(u64),
    /// Records wait for a checkpoint for that many seconds.
    Unsigned(u64),
    /// That many ranges cannot be read.
    Damaged(usize),
    /// The hourly look at a closed segment found something.
    SelfCheck(String),
    /// What is held is larger than the ledger may be (LG5).
    OverHeld,
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Alarm::Silent { boot, since } => {
                write!(f, "{boot} neither closed its stream nor was heard of since {since}")
            }
            Alarm::Lost(1) => f.write_str("1 record was lost since the start; a gap record covers it"),
            Alarm::Lost(count) => {
                write!(f, "{count} records were lost since the start; gap records cover them")
            }
            Alarm::Unsigned(age) => write!(f, "records wait for a signed checkpoint for {age} s"),
            Alarm::Damaged(1) => f.write_str("1 range of records cannot be read"),
            Alarm::Damaged(count) => write!(f, "{count} ranges of records cannot be read"),
            Alarm::SelfCheck(what) => write!(f, "the hourly check of a closed segment failed: {what}"),
            Alarm::OverHeld => f.write_str("held records take more room than the ledger may"),
        }
    }
}

impl Ledger {
    /// What is wrong now.
    #[must_use]
    pub fn alarms(&self) -> Vec<Alarm> {
        let stats = self.stats();
        let silent = self.roll().into_iter().filter(|heard| heard.standing == Standing::Silent);
        let mut alarms: Vec<_> =
            silent.map(|heard| Alarm::Silent { boot: heard.boot, since: heard.heard }).collect();
        alarms.extend((stats.lost > 0).then_some(Alarm::Lost(stats.lost)));
        let age = stats.unsigned_for.as_secs();
        alarms.extend((age > CHECKPOINT_AGE).then_some(Alarm::Unsigned(age)));
        alarms.extend((stats.damaged > 0).then_some(Alarm::Damaged(stats.damaged)));
        alarms.extend(self.self_check_failure().map(Alarm::SelfCheck));
        alarms.extend(stats.is_over_held.then_some(Alarm::OverHeld));
        alarms
    }
}
