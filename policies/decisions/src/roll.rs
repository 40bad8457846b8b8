//! The roll: which boots the ledger hears of while it runs, and which of them have fallen silent (SQ4).
//!
//! The writer calls it with what it has written; whoever watches asks it. It holds the boots that this process wrote or
//! took over; a boot of before that is closed, or declared by the recovery of this one.

use std::{collections::BTreeMap, time::Duration};

use base_ports::{Mono, UnixTime};
use parking_lot::Mutex;

use crate::{
    leaf::{Body, Stream, hex},
    proof::Boot,
};

/// An enforcer that is heard of this long has not gone silent.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);

/// Boots that ended are forgotten beyond this.
const ENDED: usize = 64;

/// How a boot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was heard of within 30 s.
    Running,
    /// It neither ended nor was it heard of (PC5010).
    Silent,
    /// It ended in order.
    Closed,
    /// It was killed, and what it left out is declared.
    Recovered,
}

impl Standing {
    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Standing::Running => "running",
            Standing::Silent => "silent",
            Standing::Closed => "closed",
            Standing::Recovered => "recovered",
        }
    }
}

/// A boot as the ledger has heard of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Whose boot.
    pub boot: Boot,
    /// How it stands.
    pub standing: Standing,
    /// When it began.
    pub opened: Option<UnixTime>,
    /// When it last said something.
    pub heard: UnixTime,
    /// Lane and last number, as far as it told.
    pub lanes: BTreeMap<u16, u64>,
    /// Records that it lost.
    pub lost: u64,
    /// Its last heartbeat carries a signature.
    pub is_signed: bool,
}

impl Heard {
    fn new(stream: &Stream, time: UnixTime) -> Heard {
        let Stream { enforcer, instance, boot, .. } = stream.clone();
        Heard {
            boot: Boot { instance, enforcer, boot },
            standing: Standing::Running,
            opened: None,
            heard: time,
            lanes: BTreeMap::new(),
            lost: 0,
            is_signed: false,
        }
    }

    /// Whether nothing follows.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.standing, Standing::Closed | Standing::Recovered)
    }

    /// Takes in what a record of its own lane says.
    pub(crate) fn hears(&mut self, time: UnixTime, body: &Body) {
        match body {
            Body::StreamOpen { .. } => {
                self.opened.get_or_insert(time);
            }
            Body::Heartbeat(told) => {
                self.lanes.clone_from(&told.lanes);
                (self.lost, self.is_signed) = (told.lost, told.signature.is_some());
            }
            Body::StreamClose { lanes } => {
                self.lanes.clone_from(lanes);
                self.standing = Standing::Closed;
            }
            _ => return,
        }
        self.heard = self.heard.max(time);
    }
}

/// Boots by what their records say, in any order of reading.
#[derive(Debug, Default)]
pub(crate) struct Register(pub(crate) BTreeMap<[u8; 8], Heard>);

impl Register {
    /// Takes in a record; the boot that it is about, if it is about one.
    pub(crate) fn note(&mut self, stream: &Stream, time: UnixTime, body: &Body) -> Option<[u8; 8]> {
        match body {
            Body::StreamOpen { .. } | Body::Heartbeat(_) | Body::StreamClose { .. } => {
                let heard = self.0.entry(stream.boot).or_insert_with(|| Heard::new(stream, time));
                heard.hears(time, body);
                Some(stream.boot)
            }
            Body::Recovery { boot, lanes } => {
                let of = Stream { boot: *boot, ..stream.clone() };
                let heard = self.0.entry(*boot).or_insert_with(|| Heard::new(&of, time));
                heard.standing = Standing::Recovered;
                heard.lanes = lanes.iter().map(|(lane, stored, _)| (*lane, *stored)).collect();
                Some(*boot)
            }
            _ => None,
        }
    }
}

/// The roll of a running ledger.
#[derive(Debug, Default)]
pub(crate) struct Roll(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    boots: Register,
    /// When each was last heard, by the clock of this process, and whether its silence was told.
    at: BTreeMap<[u8; 8], (Mono, bool)>,
}

impl Roll {
    /// A record was written.
    pub(crate) fn note(&self, stream: &Stream, time: UnixTime, body: &Body, now: Mono) {
        let mut state = self.0.lock();
        let State { boots, at } = &mut *state;
        if let Some(boot) = boots.note(stream, time, body) {
            at.insert(boot, (now, false));
        }
        if at.len() > ENDED {
            let ended = at.iter().filter(|(boot, _)| boots.0.get(*boot).is_none_or(Heard::has_ended));
            if let Some(oldest) = ended.min_by_key(|(_, (heard, _))| *heard).map(|(boot, _)| *boot) {
                at.remove(&oldest);
                boots.0.remove(&oldest);
            }
        }
    }

    /// All of them, as they stand now. A boot that fell silent since the last look is told in the log.
    pub(crate) fn call(&self, now: Mono) -> Vec<Heard> {
        let mut state = self.0.lock();
        let State { boots, at } = &mut *state;
        let mut all = Vec::new();
        for (boot, heard) in &boots.0 {
            let mut heard = heard.clone();
            if let Some((last, is_told)) = at.get_mut(boot)
                && heard.standing == Standing::Running
                && now.saturating_since(*last) > SILENCE
            {
                heard.standing = Standing::Silent;
                if !std::mem::replace(is_told, true) {
                    tracing::error!(
                        event = "ledger_stream_silent",
                        code = "PC5010",
                        enforcer = heard.boot.enforcer,
                        instance = heard.boot.instance,
                        boot = hex(boot),
                        since = %heard.heard,
                        "an enforcer neither closed its stream nor sent a heartbeat; nothing is known of it since"
                    );
                }
            }
            all.push(heard);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Heartbeat, testing::at};

    fn stream(boot: u8) -> Stream {
        Stream {
            enforcer: "spiffe://example.org/gateway".to_owned(),
            instance: "gw-1".to_owned(),
            boot: [boot; 8],
            lane: u16::MAX,
            seq: 1,
        }
    }

    fn secs(secs: u64) -> Mono {
        Mono::from_nanos(secs * 1_000_000_000)
    }

    fn standings(roll: &Roll, now: Mono) -> Vec<Standing> {
        roll.call(now).iter().map(|heard| heard.standing).collect()
    }

    #[test]
    fn sq4_a_stream_without_close_and_heartbeat_is_silent_after_30_s_and_speaks_again() {
        let (roll, open) = (Roll::default(), Body::StreamOpen { build: String::new(), chain: Vec::new() });
        roll.note(&stream(1), at(0), &open, secs(0));
        assert_eq!(standings(&roll, secs(30)), [Standing::Running]);
        assert_eq!(standings(&roll, secs(31)), [Standing::Silent]);
        let told = Heartbeat { lanes: [(0, 7)].into(), lost: 2, ..Heartbeat::default() };
        roll.note(&stream(1), at(32), &Body::Heartbeat(told), secs(32));
        let heard = roll.call(secs(40)).remove(0);
        assert_eq!((heard.standing, heard.opened, heard.heard), (Standing::Running, Some(at(0)), at(32)));
        assert_eq!((heard.lanes[&0], heard.lost, heard.is_signed), (7, 2, false));
    }

    #[test]
    fn sq4_a_boot_that_was_closed_or_recovered_is_never_silent() {
        let (roll, open) = (Roll::default(), Body::StreamOpen { build: String::new(), chain: Vec::new() });
        roll.note(&stream(1), at(0), &open, secs(0));
        roll.note(&stream(1), at(1), &Body::StreamClose { lanes: [(0, 9)].into() }, secs(1));
        roll.note(&stream(2), at(2), &open, secs(2));
        roll.note(&stream(3), at(3), &Body::Recovery { boot: [2; 8], lanes: vec![(0, 5, 4_096)] }, secs(3));
        roll.note(&stream(3), at(3), &open, secs(1_000));
        assert_eq!(standings(&roll, secs(1_001)), [Standing::Closed, Standing::Recovered, Standing::Running]);
    }

    #[test]
    fn what_ended_long_ago_is_forgotten_and_what_runs_is_not() {
        let (roll, open) = (Roll::default(), Body::StreamOpen { build: String::new(), chain: Vec::new() });
        roll.note(&stream(0), at(0), &open, secs(0));
        for boot in 1..=200 {
            roll.note(&stream(boot), at(1), &open, secs(u64::from(boot)));
            roll.note(
                &stream(boot),
                at(1),
                &Body::StreamClose { lanes: BTreeMap::new() },
                secs(u64::from(boot)),
            );
        }
        let all = roll.call(secs(1));
        assert_eq!((all.len(), all[0].boot.boot), (ENDED, [0; 8]));
    }
}
