//! Both sessions of SDS as a client meets them, without sockets; `model` has them in any order of events.

mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{
    delta::Delta,
    session::{Heard, Refused, Session},
    whole::Whole,
};
use crate::{
    generated::sds::{
        envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
        google::rpc,
    },
    secret::Secret,
    state::{Picked, Wanted},
};

/// What a caller may have: names with versions.
type Offered = BTreeMap<String, String>;

fn offered(all: &[(&str, &str)]) -> Offered {
    all.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
}

fn pick(offered: &Offered, wanted: &Wanted) -> Picked {
    let is_wanted = |name: &String| wanted.all || wanted.names.contains(name);
    let secrets = offered.iter().filter(|(name, _)| is_wanted(name));
    Picked {
        ready: secrets.map(|(name, version)| Arc::new(Secret::made(name, version))).collect(),
        absent: BTreeSet::new(),
        unknown: wanted.names.iter().filter(|name| !offered.contains_key(*name)).cloned().collect(),
    }
}

/// What the session says to the state of now.
fn look<S: Session>(session: &mut S, offered: &Offered) -> Result<Option<S::Response>, Refused> {
    let picked = pick(offered, session.asked().expect("asked before").0);
    session.answer(&picked)
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}

fn whole(all: &[&str], nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest { resource_names: names(all), response_nonce: nonce.to_owned(), ..Default::default() }
}

fn no() -> Option<rpc::Status> {
    Some(rpc::Status { code: 13, message: "cannot parse".to_owned() })
}

fn count(response: Result<Option<impl Sized>, Refused>) -> usize {
    response.unwrap().into_iter().count()
}

#[test]
fn sd_02_the_state_of_the_world_is_sent_once_and_again_when_it_changes() {
    let mut session = Whole::default();
    let one = offered(&[("a", "1"), ("b", "1")]);
    assert_eq!(session.take(whole(&["a"], "")).unwrap(), Heard::Asked);
    let first = look(&mut session, &one).unwrap().unwrap();
    assert_eq!((first.nonce.as_str(), first.resources.len()), ("1", 1));
    assert_eq!(session.take(whole(&["a"], "1")).unwrap(), Heard::Acknowledged);
    assert_eq!(count(look(&mut session, &one)), 0);
    assert_eq!(count(look(&mut session, &offered(&[("a", "1"), ("b", "2")]))), 0, "b is not asked for");
    let second = look(&mut session, &offered(&[("a", "2")])).unwrap().unwrap();
    assert_ne!(second.version_info, first.version_info);
    assert_eq!(session.take(whole(&["a"], "1")).unwrap(), Heard::Stale);
    assert_eq!(session.take(whole(&["a", "b"], "1")).unwrap(), Heard::Stale);
    assert_eq!(session.take(whole(&["a", "b"], "2")).unwrap(), Heard::Asked);
    assert_eq!(look(&mut session, &one).unwrap().unwrap().resources.len(), 2);
}

#[test]
fn sd_02_what_was_refused_is_not_sent_again_until_it_changes() {
    let (one, two) = (offered(&[("a", "1")]), offered(&[("a", "2")]));
    let mut session = Whole::default();
    session.take(whole(&["a"], "")).unwrap();
    let version = look(&mut session, &one).unwrap().unwrap().version_info;
    let refusal = DiscoveryRequest { error_detail: no(), ..whole(&["a"], "1") };
    let heard = session.take(refusal).unwrap();
    assert_eq!(heard, Heard::Rejected { version, reason: "cannot parse".to_owned() });
    assert_eq!(count(look(&mut session, &one)), 0);
    assert_eq!(count(look(&mut session, &two)), 1);

    let mut session = Delta::default();
    session.take(delta("", &["a"], &[])).unwrap();
    assert_eq!(count(look(&mut session, &one)), 1);
    let refusal = DeltaDiscoveryRequest { error_detail: no(), ..delta("1", &[], &[]) };
    assert!(matches!(session.take(refusal).unwrap(), Heard::Rejected { .. }));
    assert_eq!(count(look(&mut session, &one)), 0);
    assert_eq!(count(look(&mut session, &two)), 1);
}

#[test]
fn sd_01_names_without_right_and_lost_ones_end_the_stream() {
    let mut session = Whole::default();
    session.take(whole(&["a", "x"], "")).unwrap();
    let unknown = look(&mut session, &offered(&[("a", "1")])).unwrap_err();
    assert_eq!(unknown, Refused::Unknown(BTreeSet::from(["x".to_owned()])));
    assert_eq!(unknown.status().code(), tonic::Code::InvalidArgument);

    let mut session = Whole::default();
    session.take(whole(&["a"], "")).unwrap();
    look(&mut session, &offered(&[("a", "1")])).unwrap();
    let lost = look(&mut session, &offered(&[("b", "1")])).unwrap_err();
    assert_eq!(lost, Refused::Lost(BTreeSet::from(["a".to_owned()])));
    assert_eq!(lost.status().code(), tonic::Code::PermissionDenied);
}

#[test]
fn sd_01_all_follows_what_comes_and_goes() {
    let mut session = Whole::default();
    session.take(whole(&[], "")).unwrap();
    assert_eq!(look(&mut session, &offered(&[("a", "1")])).unwrap().unwrap().resources.len(), 1);
    assert_eq!(look(&mut session, &offered(&[("a", "1"), ("b", "1")])).unwrap().unwrap().resources.len(), 2);
    assert_eq!(look(&mut session, &offered(&[("b", "1")])).unwrap().unwrap().resources.len(), 1);
}

fn delta(nonce: &str, subscribe: &[&str], unsubscribe: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        response_nonce: nonce.to_owned(),
        resource_names_subscribe: names(subscribe),
        resource_names_unsubscribe: names(unsubscribe),
        ..Default::default()
    }
}

#[test]
fn sd_02_a_delta_holds_what_changed_and_what_is_gone() {
    let mut session = Delta::default();
    assert_eq!(session.take(delta("", &["a", "b"], &[])).unwrap(), Heard::Asked);
    assert_eq!(look(&mut session, &offered(&[("a", "1"), ("b", "1")])).unwrap().unwrap().resources.len(), 2);
    let second = look(&mut session, &offered(&[("b", "2")])).unwrap().unwrap();
    let sent: Vec<_> =
        second.resources.iter().map(|sent| (sent.name.as_str(), sent.version.as_str())).collect();
    assert_eq!((sent, second.removed_resources), (vec![("b", "2")], names(&["a"])));
    assert_eq!(count(look(&mut session, &offered(&[("b", "2")]))), 0, "it is told once");
    let back = look(&mut session, &offered(&[("a", "1"), ("b", "2")])).unwrap().unwrap();
    assert_eq!(back.resources[0].name, "a", "what comes back is sent");
    assert_eq!(session.take(delta("", &[], &["a"])).unwrap(), Heard::Asked);
    assert_eq!(count(look(&mut session, &offered(&[("a", "9"), ("b", "2")]))), 0);
    session.take(delta("", &["b"], &[])).unwrap();
    let again = look(&mut session, &offered(&[("b", "2")])).unwrap().unwrap();
    assert_eq!(again.resources[0].name, "b", "who asks again is answered again");
    session.take(delta("", &["x"], &[])).unwrap();
    let unknown = look(&mut session, &offered(&[("b", "2")])).unwrap_err();
    assert_eq!(unknown, Refused::Unknown(BTreeSet::from(["x".to_owned()])));
}

#[test]
fn sd_02_a_client_that_comes_back_is_sent_what_it_has_not() {
    let versions = offered(&[("a", "1"), ("b", "1"), ("gone", "1"), ("other", "1")]);
    let first =
        DeltaDiscoveryRequest { initial_resource_versions: versions, ..delta("7", &["a", "b", "gone"], &[]) };
    let mut session = Delta::default();
    session.take(first).unwrap();
    let told = look(&mut session, &offered(&[("a", "1"), ("b", "2")])).unwrap().unwrap();
    let sent: Vec<_> = told.resources.iter().map(|sent| sent.name.as_str()).collect();
    assert_eq!((sent, told.removed_resources), (vec!["b"], names(&["gone"])));
}

#[test]
fn sd_02_a_word_that_comes_too_late_still_changes_what_is_asked_for() {
    let mut session = Delta::default();
    session.take(delta("", &["a"], &[])).unwrap();
    look(&mut session, &offered(&[("a", "1")])).unwrap();
    look(&mut session, &offered(&[("a", "2")])).unwrap();
    let late = DeltaDiscoveryRequest { error_detail: no(), ..delta("1", &["b"], &[]) };
    assert_eq!(session.take(late).unwrap(), Heard::Asked);
    assert_eq!(session.take(delta("1", &[], &[])).unwrap(), Heard::Stale);
    let both = look(&mut session, &offered(&[("a", "2"), ("b", "1")])).unwrap().unwrap();
    assert_eq!(both.resources.len(), 1);
}

#[test]
fn sd_02_the_star_is_all_until_it_is_given_back() {
    let two = offered(&[("a", "1"), ("b", "1")]);
    for first in [delta("", &[], &[]), delta("", &["*"], &[])] {
        let mut session = Delta::default();
        session.take(first).unwrap();
        assert_eq!(look(&mut session, &two).unwrap().unwrap().resources.len(), 2);
        session.take(delta("", &["a"], &["*"])).unwrap();
        assert_eq!(
            look(&mut session, &offered(&[("a", "2"), ("b", "2")])).unwrap().unwrap().resources.len(),
            1
        );
    }
}

#[test]
fn wa_08_who_loses_everything_is_told_by_delta_what_to_drop() {
    let mut session = Delta::default();
    session.take(delta("", &["a", "b"], &[])).unwrap();
    look(&mut session, &offered(&[("a", "1"), ("b", "1")])).unwrap();
    assert_eq!(session.farewell().unwrap().removed_resources, names(&["a", "b"]));
    assert!(session.farewell().is_none());
    assert!(Whole::default().farewell().is_none());
}
