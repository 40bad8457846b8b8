//! The cache as a machine: what is due, what is kept, what is dropped, with time as an argument.

use base_ports::{Clock as _, ManualClock};
use ca_identity::PrivateKey;

use super::*;
use crate::{
    testing::{FakeAuthority, entry, noon},
    upstream::UpstreamError,
};

const HOUR: u64 = 3_600;

struct Bench {
    cache: Cache,
    authority: Arc<FakeAuthority>,
    clock: ManualClock,
}

impl Bench {
    fn new(entries: Vec<AgentEntry>) -> Self {
        use crate::upstream::Upstream as _;
        let authority = FakeAuthority::start(entries);
        let cache = Cache::new(authority.entries(), authority.bundle());
        Self { cache, authority, clock: ManualClock::new(noon()) }
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.authority.advance(seconds);
    }

    fn due(&mut self) -> Vec<Arc<AgentEntry>> {
        self.cache.take_due(self.clock.now(), 100)
    }

    fn sign(&mut self, entry: &Arc<AgentEntry>) {
        let key = PrivateKey::generate_p256().unwrap();
        let request = ca_identity::csr::build(&key, &[]).unwrap();
        let chain = self.authority.sign_for(&entry.spiffe_id, &request).unwrap().chain;
        self.cache.signed(entry, Ok(X509Svid::new(chain, key).unwrap()), self.clock.now(), u64::MAX / 2);
    }

    fn sign_due(&mut self) -> usize {
        let due = self.due();
        due.iter().for_each(|entry| self.sign(entry));
        due.len()
    }

    fn fail(&mut self, entry: &Arc<AgentEntry>) {
        let error = UpstreamError::Unavailable { reason: "down".to_owned() };
        self.cache.signed(entry, Err(error.into()), self.clock.now(), 0);
    }

    fn idle(&mut self) -> Duration {
        self.cache.idle(self.clock.now(), Duration::from_secs(9_999))
    }

    fn held(&mut self) -> Vec<bool> {
        self.cache.expire(self.clock.now());
        self.cache.state().served().iter().map(|served| served.resource.is_some()).collect()
    }
}

#[test]
fn a_new_entry_is_due_at_once_and_only_once() {
    let mut bench = Bench::new(vec![entry("a", "/a", 1)]);
    assert_eq!(bench.due().len(), 1);
    assert!(bench.due().is_empty());
}

#[test]
fn an_svid_is_renewed_at_half_life_and_the_new_one_replaces_the_old() {
    let mut bench = Bench::new(vec![entry("a", "/a", 1)]);
    assert_eq!(bench.sign_due(), 1);
    assert!(bench.idle() >= Duration::from_secs(1_620) && bench.idle() <= Duration::from_secs(1_980));

    bench.pass(1_600);
    assert_eq!(bench.sign_due(), 0);
    bench.pass(400);
    assert_eq!(bench.sign_due(), 1);
    bench.pass(1_700);
    assert_eq!(bench.held(), [true], "the first one would have expired by now");
}

#[test]
fn ag_04_a_failing_renewal_backs_off_and_an_expired_svid_is_dropped() {
    let mut bench = Bench::new(vec![entry("a", "/a", 1)]);
    bench.sign_due();
    bench.pass(HOUR / 2 + 400);
    let due = bench.due();
    bench.fail(&due[0]);

    assert_eq!(bench.idle(), Duration::from_millis(500));
    assert!(bench.due().is_empty());
    assert_eq!(bench.held(), [true]);

    bench.pass(HOUR / 2 - 401);
    assert_eq!(bench.held(), [true]);
    bench.pass(1);
    assert_eq!(bench.held(), [false]);
    let again = bench.due();
    bench.sign(&again[0]);
    assert_eq!(bench.held(), [true]);
}

#[test]
fn failures_in_a_row_wait_longer_and_a_success_starts_over() {
    let mut bench = Bench::new(vec![entry("a", "/a", 1)]);
    let mut waits = Vec::new();
    for _ in 0..4 {
        let due = bench.due();
        bench.fail(&due[0]);
        waits.push(bench.idle());
        let wait = bench.idle();
        bench.clock.advance(wait);
    }
    assert_eq!(waits, [500, 1_000, 2_000, 4_000].map(Duration::from_millis));
    bench.sign_due();
    bench.pass(2_000);
    let due = bench.due();
    bench.fail(&due[0]);
    assert_eq!(bench.idle(), Duration::from_millis(500));
}

#[test]
fn an_entry_that_went_loses_its_svid_and_its_late_answer_is_dropped() {
    let mut bench = Bench::new(vec![entry("a", "/a", 1), entry("b", "/b", 2)]);
    let due = bench.due();
    let bundle = Arc::clone(&bench.cache.bundle);
    bench.cache.reconcile(vec![entry("b", "/b", 2)], bundle, bench.clock.now().mono);
    due.iter().for_each(|entry| bench.sign(entry));
    assert_eq!(bench.held(), [true]);
}

#[test]
fn an_entry_with_another_identity_starts_anew_and_the_old_answer_does_not_count() {
    let mut bench = Bench::new(vec![entry("a", "/a", 1)]);
    bench.sign_due();
    let before = Arc::new(entry("a", "/a", 1));
    let bundle = Arc::clone(&bench.cache.bundle);
    bench.cache.reconcile(vec![entry("a", "/other", 1)], bundle, bench.clock.now().mono);
    assert_eq!(bench.held(), [false]);

    let due = bench.due();
    bench.sign(&before);
    assert_eq!(bench.held(), [false]);
    bench.sign(&due[0]);
    assert_eq!(bench.held(), [true]);
}

#[test]
fn other_dns_names_ask_for_a_new_svid_while_the_old_one_serves() {
    let mut bench = Bench::new(vec![entry("a", "/a", 1)]);
    bench.sign_due();
    let named = AgentEntry { dns_names: vec!["a.test".to_owned()], ..entry("a", "/a", 1) };
    let bundle = Arc::clone(&bench.cache.bundle);
    bench.cache.reconcile(vec![named], bundle, bench.clock.now().mono);
    assert_eq!(bench.held(), [true]);
    assert_eq!(bench.due().len(), 1);
}

#[test]
fn a_wall_clock_that_goes_back_does_not_revive_an_expired_svid() {
    let mut bench = Bench::new(vec![entry("a", "/a", 1)]);
    bench.sign_due();
    bench.clock.advance(Duration::from_secs(2 * HOUR));
    let due = bench.due();
    assert_eq!(due.len(), 1);
    bench.clock.set_wall(noon());
    assert_eq!(bench.held(), [false]);
}

#[test]
fn an_svid_with_almost_no_life_is_not_renewed_in_a_tight_loop() {
    let mut bench = Bench::new(vec![entry("a", "/a", 1)]);
    bench.authority.set_ttl(1);
    bench.clock.advance(Duration::from_millis(900));
    bench.sign_due();

    bench.clock.advance(Duration::from_millis(80));
    assert!(bench.due().is_empty(), "80 of its last 100 ms have passed, but only 80 ms since it came");
    bench.clock.advance(Duration::from_millis(420));
    assert_eq!(bench.due().len(), 1);
}

#[test]
fn entries_without_svid_are_signed_before_renewals() {
    let mut bench = Bench::new(vec![entry("a", "/a", 1), entry("b", "/b", 2)]);
    bench.sign_due();
    bench.pass(HOUR / 2 + 400);
    let bundle = Arc::clone(&bench.cache.bundle);
    bench.cache.reconcile(
        vec![entry("a", "/a", 1), entry("b", "/b", 2), entry("c", "/c", 3)],
        bundle,
        bench.clock.now().mono,
    );
    let now = bench.clock.now();
    let first = bench.cache.take_due(now, 1);
    assert_eq!(first[0].id, "c");
}

#[test]
fn wa_12_identities_are_ordered_by_age_then_id() {
    let bench = Bench::new(vec![entry("b", "/b", 5), entry("z", "/z", 9), entry("a", "/a", 5)]);
    let state = bench.cache.state();
    let order: Vec<&str> = state.served().iter().map(|served| served.entry.id.as_str()).collect();
    assert_eq!(order, ["z", "a", "b"]);
}

#[test]
fn a_state_is_published_only_when_something_changed() {
    let mut bench = Bench::new(vec![entry("a", "/a", 1)]);
    assert!(bench.cache.changed_state().is_some());
    assert!(bench.cache.changed_state().is_none());
    bench.sign_due();
    assert!(bench.cache.changed_state().is_some());
    let now = bench.clock.now();
    bench.cache.expire(now);
    assert!(bench.cache.changed_state().is_none());
}

#[test]
fn rv_03_a_revoked_svid_is_dropped_and_signed_anew_and_others_stay() {
    let mut bench = Bench::new(vec![entry("a", "/a", 2), entry("b", "/b", 1)]);
    assert_eq!(bench.sign_due(), 2);
    assert_eq!(bench.held(), [true, true]);
    let lost = bench.cache.items["a"].held.as_ref().unwrap().svid.path[0].clone();
    let mut revoked = RevocationSet::default();
    revoked.deny(&ca_identity::Revoked::Certificate(lost));
    bench.cache.deny(revoked.clone());
    assert_eq!(bench.held(), [false, true]);
    let due = bench.due();
    assert_eq!(due.len(), 1);
    bench.sign(&due[0]);
    assert_eq!(bench.held(), [true, true]);

    // An answer that is denied when it comes is no answer.
    revoked.deny(&ca_identity::Revoked::Id(due[0].spiffe_id.clone()));
    bench.cache.deny(revoked);
    assert_eq!(bench.held(), [false, true]);
    let due = bench.due();
    bench.sign(&due[0]);
    assert_eq!(bench.held(), [false, true]);
    let wait = bench.idle();
    assert!(wait >= Duration::from_millis(500), "it is tried again like any failure, after {wait:?}");
}
