//! The addresses of a name over time (HC-02): what is used of what name servers say, as a function of their answers and
//! now. A wrong answer costs no endpoint at once: nothing is taken from a failure, an empty answer counts only when it
//! comes again, and of a set that shrinks by more than half the rest goes one by one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use base_ports::{Addresses, Mono};

/// No name is asked for more often; so far apart are also the two answers that empty a set.
const SOONEST: Duration = Duration::from_secs(5);
/// Every name is asked for at least so often.
const LATEST: Duration = Duration::from_secs(300);
/// So long it takes until more than half of a set is gone.
const DAMPING: Duration = Duration::from_secs(10);
/// More addresses of one answer are not used (OUT6).
const MOST: usize = 10_000;

/// The addresses in use.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// Each with the time it goes, for those that the last answer does not have any more.
    addresses: BTreeMap<IpAddr, Option<Mono>>,
    ask_at: Mono,
    /// Since when answers have been empty.
    empty_since: Option<Mono>,
}

impl Resolved {
    /// The addresses in use, in ascending order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.keys().copied()
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// When there is something to do: to ask, or to let an address go.
    #[must_use]
    pub fn due(&self) -> Mono {
        self.addresses.values().flatten().copied().fold(self.ask_at, Mono::min)
    }

    /// It is time to ask.
    #[must_use]
    pub fn is_to_ask(&self, now: Mono) -> bool {
        now >= self.ask_at
    }

    /// Learns an answer; none = nobody knew. True when other addresses are in use now.
    pub fn learn(&mut self, answer: Option<&Addresses>, now: Mono) -> bool {
        let before: Vec<_> = self.addresses().collect();
        self.expire(now);
        self.ask_at = now + SOONEST;
        if let Some(answer) = answer
            && self.believes(answer, now)
        {
            self.ask_at = now + answer.ttl.clamp(SOONEST, LATEST);
            self.turn_to(&answer.addresses, now);
        }
        !self.addresses().eq(before)
    }

    /// Lets go what is to go by now. True when that was any.
    pub fn expire(&mut self, now: Mono) -> bool {
        let before = self.addresses.len();
        self.addresses.retain(|_, leaves| leaves.is_none_or(|at| at > now));
        self.addresses.len() != before
    }

    /// Lets go at once what must not be used, whoever says it. True when that was any.
    pub fn forbid(&mut self, is_forbidden: impl Fn(IpAddr) -> bool) -> bool {
        let before = self.addresses.len();
        self.addresses.retain(|address, _| !is_forbidden(*address));
        self.addresses.len() != before
    }

    /// An empty answer must come twice while there is something to lose.
    fn believes(&mut self, answer: &Addresses, now: Mono) -> bool {
        if !answer.addresses.is_empty() {
            self.empty_since = None;
            return true;
        }
        let since = *self.empty_since.get_or_insert(now);
        self.addresses.is_empty() || now.saturating_since(since) >= SOONEST
    }

    fn turn_to(&mut self, wanted: &[IpAddr], now: Mono) {
        let wanted: BTreeMap<_, _> =
            wanted.iter().take(MOST).map(|address| (address.to_canonical(), None)).collect();
        let staying = self.addresses.values().filter(|leaves| leaves.is_none()).count();
        let mut going: Vec<_> = self
            .addresses
            .iter_mut()
            .filter(|(address, leaves)| leaves.is_none() && !wanted.contains_key(address))
            .map(|(_, leaves)| leaves)
            .collect();
        let n = u32::try_from(going.len()).unwrap_or(u32::MAX);
        let is_much = going.len() * 2 > staying;
        for (nth, leaves) in (1..).zip(&mut going) {
            **leaves = Some(if is_much { now + DAMPING * nth / n } else { now });
        }
        self.addresses.extend(wanted);
        self.expire(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Mono {
        Mono::from_nanos(millis * 1_000_000)
    }

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn said(addresses: &[u8], ttl: u64) -> Addresses {
        Addresses { addresses: addresses.iter().copied().map(ip).collect(), ttl: Duration::from_secs(ttl) }
    }

    fn used(resolved: &Resolved) -> Vec<IpAddr> {
        resolved.addresses().collect()
    }

    #[test]
    fn hc_02_the_time_to_live_is_kept_between_five_and_three_hundred_seconds() {
        for (ttl, after) in [(0, 5), (4, 5), (5, 5), (60, 60), (300, 300), (86_400, 300)] {
            let mut resolved = Resolved::default();
            assert!(resolved.is_to_ask(at(0)), "a name is asked for at once");
            assert!(resolved.learn(Some(&said(&[1], ttl)), at(1_000)));
            assert_eq!(resolved.due(), at(1_000 + after * 1_000), "{ttl}");
        }
    }

    #[test]
    fn hc_02_the_last_good_addresses_stay_while_nobody_knows() {
        let mut resolved = Resolved::default();
        resolved.learn(Some(&said(&[1, 2], 60)), at(0));
        for nth in 1..1_000 {
            assert!(!resolved.learn(None, at(nth * 5_000)));
            assert_eq!(resolved.due(), at((nth + 1) * 5_000));
        }
        assert_eq!(used(&resolved), [ip(1), ip(2)]);
    }

    #[test]
    fn hc_02_an_empty_answer_counts_only_when_it_comes_again_five_seconds_later() {
        let mut resolved = Resolved::default();
        resolved.learn(Some(&said(&[1, 2], 60)), at(0));
        assert!(!resolved.learn(Some(&said(&[], 300)), at(60_000)));
        assert_eq!(resolved.due(), at(65_000), "it is asked again soon");
        assert!(!resolved.learn(Some(&said(&[], 300)), at(64_999)), "too early");
        // A good one in between begins it anew.
        resolved.learn(Some(&said(&[1, 2], 60)), at(66_000));
        assert!(!resolved.learn(Some(&said(&[], 300)), at(70_000)));
        assert_eq!(used(&resolved), [ip(1), ip(2)]);
        resolved.learn(Some(&said(&[], 300)), at(75_000));
        assert!(resolved.expire(at(80_000)), "then it is damped");
        assert_eq!(used(&resolved), [ip(2)]);
        assert!(resolved.expire(at(85_000)));
        assert!(resolved.is_empty());
    }

    #[test]
    fn hc_02_more_than_half_of_a_set_goes_within_ten_seconds_and_not_at_once() {
        let mut resolved = Resolved::default();
        resolved.learn(Some(&said(&[1, 2, 3, 4], 5)), at(0));
        // Half of it may go at once.
        assert!(resolved.learn(Some(&said(&[3, 4], 5)), at(5_000)));
        assert_eq!(used(&resolved), [ip(3), ip(4)]);
        assert!(resolved.learn(Some(&said(&[9], 300)), at(10_000)));
        assert_eq!(used(&resolved), [ip(3), ip(4), ip(9)], "the new one is there at once");
        assert_eq!(resolved.due(), at(15_000));
        assert!(resolved.expire(at(15_000)));
        // One that comes back meanwhile stays.
        assert!(!resolved.learn(Some(&said(&[4, 9], 300)), at(16_000)));
        assert!(!resolved.expire(at(60_000)));
        assert_eq!(used(&resolved), [ip(4), ip(9)]);
    }

    #[test]
    fn out6_no_more_than_ten_thousand_addresses_are_used() {
        let many: Vec<IpAddr> =
            (0..20_000u32).map(|nth| std::net::Ipv4Addr::from(nth + (10 << 24)).into()).collect();
        let mut resolved = Resolved::default();
        resolved.learn(Some(&Addresses { addresses: many, ttl: LATEST }), at(0));
        assert_eq!(used(&resolved).len(), 10_000);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Said(Vec<u8>, u64),
        Unknown,
        Wait,
    }

    fn step() -> impl Strategy<Value = (Step, u64)> {
        let step = prop_oneof![
            4 => (proptest::collection::vec(0u8..12, 1..8), 0u64..400).prop_map(|(set, ttl)| Step::Said(set, ttl)),
            2 => (0u64..400).prop_map(|ttl| Step::Said(Vec::new(), ttl)),
            2 => Just(Step::Unknown),
            2 => Just(Step::Wait),
        ];
        (step, 0u64..20_000)
    }

    proptest! {
        #[test]
        fn hc_02_no_sequence_of_answers_takes_more_than_half_at_once_or_keeps_what_is_gone(
            steps in proptest::collection::vec(step(), 1..60),
        ) {
            let (mut resolved, mut now) = (Resolved::default(), 0);
            let mut last = Vec::new();
            for (step, pause) in steps {
                now += pause;
                resolved.expire(at(now));
                let before = used(&resolved);
                let changed = match &step {
                    Step::Said(set, ttl) => resolved.learn(Some(&said(set, *ttl)), at(now)),
                    Step::Unknown => resolved.learn(None, at(now)),
                    Step::Wait => resolved.expire(at(now)),
                };
                let after = used(&resolved);
                prop_assert_eq!(changed, before != after);
                let gone = before.iter().filter(|address| !after.contains(address)).count();
                prop_assert!(gone * 2 <= before.len(), "{} of {} went at once", gone, before.len());
                if let Step::Said(set, _) = &step {
                    if !set.is_empty() {
                        last = said(set, 0).addresses;
                    }
                    prop_assert!(set.iter().all(|one| after.contains(&ip(*one))), "what is there is used at once");
                } else {
                    prop_assert_eq!(gone, 0, "who does not know takes nothing away");
                }
                let is_busy = resolved.due() <= at(now);
                prop_assert!(!is_busy || (matches!(step, Step::Wait) && resolved.is_to_ask(at(now))));
                prop_assert!(resolved.due() <= at(now + 300_000), "never forgotten");
            }
            // Quiet for the time of the damping: what is left is the last answer that was not empty, or nothing.
            resolved.expire(at(now + 10_000));
            let left = used(&resolved);
            prop_assert!(left.iter().all(|address| last.contains(address)));
        }
    }
}
