//! Who follows, what each has in force, and what it refused: the last report per enforcer, for `status` (ST8).
//! An enforcer is whom the connection proves, and beside that what it calls itself. Bounded: a caller cannot grow it
//! without end, and what it sends is cut to size.

use crate::{generated::messages, position::Position};
use base_ports::UnixTime;
use parking_lot::Mutex;
use policies_engine::Principal;
use std::{collections::BTreeMap, sync::Arc};

const ENFORCERS: usize = 10_000;
/// Open streams of one caller, and of all.
const STREAMS_EACH: usize = 512;
const STREAMS: usize = 4_096;
const NAME: usize = 512;
const TEXT: usize = 2_048;
const SLOW: usize = 256;

/// What is known of one enforcer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnforcerStatus {
    /// Who it is, as its connection proves: `Workload::"spiffe://.."`, `Portcullis::LocalUser::"0"`.
    pub principal: String,
    /// What it calls itself.
    pub name: String,
    /// Whether it has a stream open now.
    pub is_connected: bool,
    /// What it has in force.
    pub running: Option<Position>,
    /// Its number of policies.
    pub policies: u64,
    /// How long it compiled.
    pub compile_micros: u64,
    /// Ids of policies that it does not run compiled.
    pub slow_policies: Vec<String>,
    /// Decisions that stock Cedar judged differently.
    pub mismatches: u64,
    /// What it refused last: the snapshot, the code and why.
    pub refusal: Option<(Option<Position>, String, String)>,
    /// When it reported last.
    pub reported: Option<UnixTime>,
}

/// Why a caller is turned away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany(pub(crate) &'static str);

type Key = (String, String);

#[derive(Debug, Clone, Default)]
pub(crate) struct Enforcers(Arc<Mutex<BTreeMap<Key, Known>>>);

#[derive(Debug, Default)]
struct Known {
    streams: usize,
    report: messages::ReportRequest,
    reported: Option<UnixTime>,
}

/// One open stream.
#[derive(Debug)]
pub(crate) struct Permit {
    enforcers: Enforcers,
    key: Key,
}

impl Enforcers {
    /// Counts a stream in.
    pub(crate) fn admit(&self, principal: &Principal, name: &str) -> Result<Permit, TooMany> {
        let key = key(principal, name);
        let mut known = self.0.lock();
        let streams = |is_counted: &dyn Fn(&Key) -> bool| -> usize {
            known.iter().filter(|(key, _)| is_counted(key)).map(|(_, enforcer)| enforcer.streams).sum()
        };
        if streams(&|other| other.0 == key.0) >= STREAMS_EACH || streams(&|_| true) >= STREAMS {
            return Err(TooMany("too many open streams"));
        }
        let enforcer = entry(&mut known, key.clone())?;
        enforcer.streams = enforcer.streams.saturating_add(1);
        Ok(Permit { enforcers: self.clone(), key })
    }

    /// Takes a report down.
    pub(crate) fn report(
        &self,
        principal: &Principal,
        mut report: messages::ReportRequest,
        now: UnixTime,
    ) -> Result<(), TooMany> {
        report.slow_policies.truncate(SLOW);
        report.slow_policies.iter_mut().for_each(|id| cut(id, NAME));
        if let Some(refusal) = &mut report.refusal {
            cut(&mut refusal.code, NAME);
            cut(&mut refusal.detail, TEXT);
        }
        let mut known = self.0.lock();
        let enforcer = entry(&mut known, key(principal, &report.enforcer))?;
        (enforcer.report, enforcer.reported) = (report, Some(now));
        Ok(())
    }

    pub(crate) fn list(&self) -> Vec<EnforcerStatus> {
        self.0.lock().iter().map(|((principal, name), known)| known.status(principal, name)).collect()
    }
}

impl Known {
    fn status(&self, principal: &str, name: &str) -> EnforcerStatus {
        let report = &self.report;
        let position =
            |message: &Option<messages::Position>| message.as_ref().and_then(Position::from_message);
        EnforcerStatus {
            principal: principal.to_owned(),
            name: name.to_owned(),
            is_connected: self.streams > 0,
            running: position(&report.active),
            policies: report.policies,
            compile_micros: report.compile_micros,
            slow_policies: report.slow_policies.clone(),
            mismatches: report.mismatches,
            refusal: report
                .refusal
                .as_ref()
                .map(|refusal| (position(&refusal.offered), refusal.code.clone(), refusal.detail.clone())),
            reported: self.reported,
        }
    }
}

/// The row of `key`; when all rows are taken, the one of an enforcer that is gone longest makes room.
fn entry(known: &mut BTreeMap<Key, Known>, key: Key) -> Result<&mut Known, TooMany> {
    if known.len() >= ENFORCERS && !known.contains_key(&key) {
        let gone = known.iter().filter(|(_, enforcer)| enforcer.streams == 0);
        let oldest = gone.min_by_key(|(_, enforcer)| enforcer.reported).map(|(key, _)| key.clone());
        let oldest = oldest.ok_or(TooMany("too many enforcers"))?;
        known.remove(&oldest);
    }
    Ok(known.entry(key).or_default())
}

fn key(principal: &Principal, name: &str) -> Key {
    let mut name = name.to_owned();
    cut(&mut name, NAME);
    (principal.to_string(), name)
}

fn cut(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(enforcer) = self.enforcers.0.lock().get_mut(&self.key) {
            enforcer.streams = enforcer.streams.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(at: usize) -> Principal {
        Principal::workload(&format!("spiffe://example.org/gw-{at}"))
    }

    #[test]
    fn st8_the_last_report_of_each_enforcer_is_kept_under_the_identity_it_proved() {
        let enforcers = Enforcers::default();
        let report = |name: &str, policies| messages::ReportRequest {
            enforcer: name.to_owned(),
            policies,
            ..Default::default()
        };
        let now = UnixTime::from_secs(5);
        enforcers.report(&gateway(1), report("a", 1), now).unwrap();
        enforcers.report(&gateway(1), report("a", 2), now).unwrap();
        enforcers.report(&gateway(2), report("a", 3), now).unwrap();
        let listed = enforcers.list();
        let policies: Vec<_> =
            listed.iter().map(|enforcer| (&*enforcer.principal, enforcer.policies)).collect();
        assert_eq!(
            policies,
            [("Workload::\"spiffe://example.org/gw-1\"", 2), ("Workload::\"spiffe://example.org/gw-2\"", 3)]
        );
        assert!(listed.iter().all(|enforcer| !enforcer.is_connected && enforcer.reported == Some(now)));
    }

    #[test]
    fn one_caller_cannot_take_all_streams_and_a_closed_one_is_given_back() {
        let enforcers = Enforcers::default();
        let mut held: Vec<_> =
            (0..STREAMS_EACH).map(|at| enforcers.admit(&gateway(1), &at.to_string()).unwrap()).collect();
        assert!(enforcers.admit(&gateway(1), "one more").is_err());
        assert!(enforcers.admit(&gateway(2), "another").is_ok());
        held.pop();
        assert!(enforcers.admit(&gateway(1), "one more").is_ok());
    }

    #[test]
    fn what_an_enforcer_sends_is_bounded() {
        let enforcers = Enforcers::default();
        let long = "é".repeat(5_000);
        for at in 0..ENFORCERS + 5 {
            let refusal = Some(messages::Refusal { offered: None, code: long.clone(), detail: long.clone() });
            let slow_policies = if at == 0 { vec![long.clone(); 300] } else { Vec::new() };
            let report = messages::ReportRequest {
                enforcer: long.clone(),
                refusal,
                slow_policies,
                ..Default::default()
            };
            let now = UnixTime::from_secs(i64::try_from(at).unwrap());
            enforcers.report(&gateway(at), report, now).unwrap();
        }
        let listed = enforcers.list();
        assert_eq!(listed.len(), ENFORCERS);
        assert!(!listed.iter().any(|enforcer| enforcer.principal.contains("gw-4\"")), "the oldest make room");
        for enforcer in listed {
            let (_, code, detail) = enforcer.refusal.unwrap();
            assert!(enforcer.name.len() <= NAME && code.len() <= NAME && detail.len() <= TEXT);
            assert!(enforcer.slow_policies.len() <= SLOW);
        }
    }
}
