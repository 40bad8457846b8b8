//! What is offered to whom, and what is picked of it.

use std::time::Duration;

use ca_identity::testing::{TestCa, now};

use super::*;
use crate::{
    state::Resource,
    testing::{entry, own_selector},
    upstream::AgentEntry,
};

fn served(entry: AgentEntry, svid: Option<ca_identity::X509Svid>, problem: Option<&str>) -> Arc<Served> {
    let resource = svid.map(|svid| Arc::new(Resource::of(&Arc::new(svid))));
    Arc::new(Served { entry: Arc::new(entry), resource, problem: problem.map(Arc::from) })
}

fn offer(state: &State) -> View<Offer> {
    state.offer(&[own_selector()], now(), &SdsNames::default(), Form::Spiffe)
}

fn wanted(names: &[&str]) -> Wanted {
    Wanted { all: names.is_empty(), names: names.iter().map(|name| (*name).to_owned()).collect() }
}

fn pick(state: &State, names: &[&str]) -> View<Picked> {
    offer(state).then(|offer| offer.pick(&wanted(names)))
}

fn names(view: View<Picked>) -> Vec<String> {
    let View::Complete(picked) = view else { panic!("{view:?}") };
    assert!(picked.unknown.is_empty() && picked.absent.is_empty(), "{picked:?}");
    picked.ready.iter().map(|secret| secret.name.clone()).collect()
}

#[test]
fn sd_01_all_is_each_thing_under_its_own_name_and_the_fixed_names_are_asked_for() {
    let ca = TestCa::new("example.org", now());
    let of = |id, path| served(entry(id, path, 1), Some(ca.svid(path)), None);
    let state = State::new(vec![of("a", "/a"), of("b", "/b")], &ca.bundle());
    let (domain, a, b) = ("spiffe://example.org", "spiffe://example.org/a", "spiffe://example.org/b");
    assert_eq!(names(pick(&state, &[])), [domain, a, b]);
    assert_eq!(names(pick(&state, &["default", b, "ROOTCA", "ALL"])), ["ROOTCA", "ALL", b, "default"]);
    let View::Complete(picked) = pick(&state, &["default", a]) else { panic!("not complete") };
    assert_eq!(picked.ready[0].version, picked.ready[1].version, "the default is the first identity");
    let View::Complete(picked) = pick(&state, &[a, "spiffe://example.org/c", "root"]) else { panic!() };
    assert_eq!(picked.unknown, wanted(&["spiffe://example.org/c", "root"]).names);
}

#[test]
fn sd_01_nothing_is_offered_to_others() {
    let ca = TestCa::new("example.org", now());
    let state = State::new(vec![served(entry("a", "/a", 1), Some(ca.svid("/a")), None)], &ca.bundle());
    let offered = state.offer(&[], now(), &SdsNames::default(), Form::Spiffe);
    assert!(matches!(offered, View::Denied), "{offered:?}");
    let many = (0..65).map(|n| served(entry(&n.to_string(), &format!("/e{n}"), 1), None, None)).collect();
    assert!(matches!(offer(&State::new(many, &ca.bundle())), View::TooLarge { entries: 65 }));
}

#[test]
fn ag_05_secrets_are_built_once_and_shared() {
    let ca = TestCa::new("example.org", now());
    let state = State::new(vec![served(entry("a", "/a", 1), Some(ca.svid("/a")), None)], &ca.bundle());
    let all = || {
        let View::Complete(picked) = pick(&state, &["default", "ROOTCA"]) else { panic!("not complete") };
        picked.ready
    };
    for (one, other) in all().iter().zip(&all()) {
        assert!(Arc::ptr_eq(one, other));
        assert_eq!(one.resource().value.as_ptr(), other.resource().value.as_ptr());
    }
}

#[test]
fn sd_01_an_identity_that_is_not_at_hand_is_waited_for_or_told() {
    let ca = TestCa::new("example.org", now());
    let (a, b) = ("spiffe://example.org/a", "spiffe://example.org/b");
    let pending = || served(entry("a", "/a", 2), None, None);
    let failed = || served(entry("a", "/a", 2), None, Some("down"));
    let good = || served(entry("b", "/b", 1), Some(ca.svid("/b")), None);
    let state = |all| State::new(all, &ca.bundle());

    let waiting = state(vec![pending(), good()]);
    assert!(matches!(pick(&waiting, &[a]), View::Pending(None)));
    assert!(matches!(pick(&waiting, &[]), View::Pending(Some(_))));
    assert!(matches!(pick(&waiting, &["default"]), View::Pending(None)), "nobody skips the first");
    assert_eq!(names(pick(&waiting, &[b])), [b]);

    let broken = state(vec![failed(), good()]);
    let View::Unavailable(reason) = pick(&broken, &[a, "ROOTCA"]) else { panic!("served") };
    assert_eq!(reason, "no valid SVID is at hand: down");
    let View::Complete(picked) = pick(&broken, &["default"]) else { panic!("not complete") };
    let View::Complete(second) = pick(&broken, &[b]) else { panic!("not complete") };
    assert_eq!(picked.ready[0].version, second.ready[0].version, "the default is the first one at hand");
    let View::Complete(picked) = pick(&broken, &[]) else { panic!("not complete") };
    assert_eq!(picked.absent, wanted(&[a]).names);
}

#[test]
fn ag_04_an_expired_certificate_is_not_offered() {
    let ca = TestCa::new("example.org", now());
    let state = State::new(vec![served(entry("a", "/a", 1), Some(ca.svid("/a")), None)], &ca.bundle());
    let at = |seconds| {
        let now = now() + Duration::from_secs(seconds);
        let offered = state.offer(&[own_selector()], now, &SdsNames::default(), Form::Spiffe);
        offered.then(|offer| offer.pick(&wanted(&["default"])))
    };
    assert!(matches!(at(3_599), View::Complete(_)));
    assert!(matches!(at(3_600), View::Unavailable(_)));
}

#[test]
fn sd_03_a_caller_gets_the_roots_of_domains_that_its_entries_federate_with_and_of_no_other() {
    let ca = TestCa::new("example.org", now());
    let [partner, stranger] = ["partner.org", "stranger.org"].map(|name| TestCa::new(name, now()));
    let federating =
        AgentEntry { federates_with: vec![partner.trust_domain().clone()], ..entry("a", "/a", 1) };
    let state = State::new(vec![served(federating, Some(ca.svid("/a")), None)], &ca.bundle());
    let bundles = vec![partner.bundle(), stranger.bundle()];
    let state = state.knowing(Arc::new(crate::state::Others::default().next(bundles)));
    let (own, other) = ("spiffe://example.org", "spiffe://partner.org");
    assert_eq!(names(pick(&state, &[])), [own, other, "spiffe://example.org/a"]);
    let View::Complete(picked) = pick(&state, &["ALL", "ROOTCA", own, other, "spiffe://stranger.org"]) else {
        panic!("not complete")
    };
    assert_eq!(picked.unknown, wanted(&["spiffe://stranger.org"]).names);
    let version =
        |name: &str| picked.ready.iter().find(|secret| secret.name == name).unwrap().version.clone();
    assert_eq!(version("ROOTCA"), version(own));
    assert_ne!(version("ALL"), version(own), "ALL has both");
    // What only verifies with roots mixed together is not given them (TB-01).
    let plain = state.offer(&[own_selector()], now(), &SdsNames::default(), Form::Plain);
    let View::Complete(picked) = plain.then(|offer| offer.pick(&wanted(&["ALL", own]))) else { panic!() };
    assert_eq!(picked.ready[0].version, picked.ready[1].version);
}
