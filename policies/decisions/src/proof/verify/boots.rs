//! What enforcers say of themselves, boot by boot: who signed how far its lanes had come, and whether it ended (SQ4, SQ5).

use std::collections::{BTreeMap, BTreeSet};

use base_ports::UnixTime;
use bytes::Bytes;

use crate::{
    leaf::{Gap, Heartbeat, Stream, hex},
    roll::SILENCE,
    voucher::{Identities, Vouched},
    writer::OWN_LANE,
};

/// Heartbeats of a log, and what stands against them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heartbeats {
    /// Signed by the SVID that is on record for it.
    pub signed: u64,
    /// Made while the enforcer held no SVID.
    pub unsigned: u64,
    /// Signed by an SVID whose record retention has taken.
    pub unchecked: u64,
    /// SVIDs that signed.
    pub svids: usize,
    /// The chains lead to authorities that the auditor trusts; else he gave none.
    pub is_anchored: bool,
    /// Boots whose last word is not signed.
    pub unvouched: Vec<Boot>,
    /// Times of more than 30 s in which a boot said nothing.
    pub silences: Vec<(Boot, UnixTime, UnixTime)>,
    /// Boots that have not ended and were heard of lately: last heard.
    pub running: Vec<(Boot, UnixTime)>,
    /// Boots that neither ended nor were heard of: nothing is known of them from then on.
    pub open_ended: Vec<(Boot, UnixTime)>,
}

/// One start of an enforcer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Boot {
    /// Name of the process, for people.
    pub instance: String,
    /// SPIFFE id.
    pub enforcer: String,
    /// Random at each start.
    pub boot: [u8; 8],
}

impl std::fmt::Display for Boot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (boot {})", self.instance, hex(&self.boot))
    }
}

/// The SVID that signs.
#[derive(Debug, Default)]
enum Svid {
    /// None is held.
    #[default]
    None,
    Held(Vec<Bytes>),
    /// Records of the lane are not kept: one of them may have named another.
    Unknown,
}

/// What stands behind a heartbeat.
#[derive(Debug, PartialEq, Eq)]
enum Proof {
    Signed,
    Unsigned,
    Unchecked,
}

impl Svid {
    /// Whether a heartbeat is signed as it must be.
    fn judge(
        &self,
        said: Said<'_>,
        heartbeat: &Heartbeat,
        identities: &dyn Identities,
    ) -> Result<Proof, String> {
        let Said { stream, time: at, mono } = said;
        match (self, &heartbeat.signature) {
            (Svid::Unknown, Some(_)) => Ok(Proof::Unchecked),
            (Svid::Unknown | Svid::None, None) => Ok(Proof::Unsigned),
            (Svid::None, Some(_)) => Err("it is signed by an SVID that no record before it names".to_owned()),
            (Svid::Held(chain), None) if identities.is_valid(chain, at) => {
                Err(format!("it carries no signature, and {} held an SVID", stream.enforcer))
            }
            (Svid::Held(_), None) => Ok(Proof::Unsigned),
            (Svid::Held(chain), Some(signature)) => {
                let (text, enforcer) = (heartbeat.text(stream, at, mono), stream.enforcer.as_str());
                let vouched = Vouched { enforcer, chain, at, text: text.as_bytes(), signature };
                identities.check(&vouched).map(|()| Proof::Signed)
            }
        }
    }
}

/// What is known of a boot so far.
#[derive(Debug, Default)]
struct Seen {
    boot: Boot,
    svid: Svid,
    /// Records of its lane are not kept.
    has_holes: bool,
    /// Number of the next record in the ledger's own lane.
    next: u64,
    /// Last sign of life: wall and monotonic.
    heard: Option<(UnixTime, u64)>,
    last: Option<(u64, Heartbeat)>,
    is_vouched: bool,
    /// Records that its gaps declare.
    declared: u64,
    is_closed: bool,
    has_ended: bool,
}

/// One record of the ledger's own lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) stream: &'a Stream,
    pub(super) time: UnixTime,
    pub(super) mono: u64,
}

/// All boots of a log.
#[derive(Debug, Default)]
pub(super) struct Boots {
    seen: BTreeMap<[u8; 8], Seen>,
    svids: BTreeSet<Vec<Bytes>>,
    counts: Heartbeats,
    newest: Option<UnixTime>,
}

impl Boots {
    /// A record with that number in the ledger's own lane.
    pub(super) fn numbered(&mut self, boot: [u8; 8], seq: u64) {
        let seen = self.seen.entry(boot).or_default();
        if seq != seen.next.max(1) {
            (seen.svid, seen.has_holes) = (Svid::Unknown, true);
        }
        seen.next = seq + 1;
    }

    pub(super) fn opened(&mut self, said: Said<'_>, chain: Vec<Bytes>) -> Result<(), String> {
        let seen = hear(&mut self.seen, &mut self.counts, &mut self.newest, said)?;
        seen.svid = if chain.is_empty() { Svid::None } else { Svid::Held(chain) };
        Ok(())
    }

    pub(super) fn beat(
        &mut self,
        said: Said<'_>,
        heartbeat: Heartbeat,
        identities: &dyn Identities,
    ) -> Result<(), String> {
        let seen = hear(&mut self.seen, &mut self.counts, &mut self.newest, said)?;
        let outcome = seen.svid.judge(said, &heartbeat, identities);
        (seen.is_vouched, seen.last) = (outcome == Ok(Proof::Signed), Some((said.stream.seq, heartbeat)));
        match outcome {
            Ok(Proof::Signed) => {
                self.counts.signed += 1;
                if let Svid::Held(chain) = &seen.svid
                    && !self.svids.contains(chain)
                {
                    self.svids.insert(chain.clone());
                }
            }
            Ok(Proof::Unsigned) => self.counts.unsigned += 1,
            Ok(Proof::Unchecked) => self.counts.unchecked += 1,
            Err(what) => return Err(format!("the heartbeat is not its enforcer's: {what}")),
        }
        Ok(())
    }

    /// The close. What an SVID was held for must be confirmed by it, so that nobody ends a stream early.
    pub(super) fn closed(&mut self, said: Said<'_>, lanes: &BTreeMap<u16, u64>) -> Result<(), String> {
        let seen = hear(&mut self.seen, &mut self.counts, &mut self.newest, said)?;
        (seen.is_closed, seen.has_ended) = (true, true);
        let others = |lanes: &BTreeMap<u16, u64>| {
            lanes.iter().filter(|(lane, _)| **lane != OWN_LANE).map(|(a, b)| (*a, *b)).collect::<Vec<_>>()
        };
        let is_confirmed = seen.last.as_ref().is_some_and(|(seq, heartbeat)| {
            heartbeat.is_last && seq + 1 == said.stream.seq && others(&heartbeat.lanes) == others(lanes)
        });
        match seen.svid {
            Svid::Held(_) if !is_confirmed => {
                Err("the stream is closed, and its last heartbeat does not say so".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The next boot has declared what this one left out.
    pub(super) fn recovered(&mut self, boot: [u8; 8]) {
        self.seen.entry(boot).or_default().has_ended = true;
    }

    pub(super) fn declared(&mut self, gap: &Gap) {
        self.seen.entry(gap.boot).or_default().declared += gap.count;
    }

    /// Name of the process of a boot, for people.
    pub(super) fn name(&self, boot: &[u8; 8]) -> Option<&str> {
        self.seen.get(boot).map(|seen| seen.boot.instance.as_str()).filter(|name| !name.is_empty())
    }

    /// What is known at the end, and what is wrong with it. `now` is the time of the verification, where the log may
    /// have been written to until then.
    pub(super) fn end(self, now: Option<UnixTime>) -> (Heartbeats, Vec<String>) {
        let (mut counts, mut wrong) = (self.counts, Vec::new());
        counts.svids = self.svids.len();
        let now = now.or(self.newest).unwrap_or(UnixTime::from_secs(0));
        for seen in self.seen.into_values() {
            let lost = seen.last.as_ref().map_or(0, |(_, heartbeat)| heartbeat.lost);
            if seen.is_closed && !seen.has_holes && lost > seen.declared {
                let declared = seen.declared;
                wrong
                    .push(format!("{}: it told {lost} lost records, and gaps declare {declared}", seen.boot));
            }
            let Some((heard, _)) = seen.heard else { continue };
            let is_silent = now.saturating_since(heard) > SILENCE;
            // One that has just begun has said nothing yet.
            let is_due = seen.last.is_some() || seen.has_ended || is_silent;
            if is_due && !seen.is_vouched && !matches!(seen.svid, Svid::Unknown) {
                counts.unvouched.push(seen.boot.clone());
            }
            if !seen.has_ended {
                let list = if is_silent { &mut counts.open_ended } else { &mut counts.running };
                list.push((seen.boot, heard));
            }
        }
        (counts, wrong)
    }
}

/// Whose boot a record is. Only the first says so; all others must agree.
fn hear<'a>(
    all: &'a mut BTreeMap<[u8; 8], Seen>,
    counts: &mut Heartbeats,
    newest: &mut Option<UnixTime>,
    said: Said<'_>,
) -> Result<&'a mut Seen, String> {
    let Said { stream, time, mono } = said;
    *newest = (*newest).max(Some(time));
    let seen = all.entry(stream.boot).or_default();
    if seen.boot.enforcer.is_empty() {
        let Stream { enforcer, instance, boot, .. } = stream.clone();
        seen.boot = Boot { enforcer, instance, boot };
    } else if seen.boot.enforcer != stream.enforcer {
        return Err(format!("the boot is one of {}, not of {}", seen.boot.enforcer, stream.enforcer));
    }
    if let Some((before, at)) = seen.heard.replace((time, mono))
        && u128::from(mono.saturating_sub(at)) > SILENCE.as_nanos()
    {
        counts.silences.push((seen.boot.clone(), before, time));
    }
    Ok(seen)
}
