//! Callers at a limit.

use super::*;

fn at(millis: u64) -> Mono {
    Mono::from_nanos(millis * 1_000_000)
}

fn id(name: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://example.org/{name}")).unwrap()
}

fn limit(total: Option<&str>, own: Option<&str>, overrides: &[(&str, &str)]) -> Arc<RateLimit> {
    let rate = |text: &str| Rate::parse(text, None).unwrap();
    Arc::new(RateLimit::new(RateSettings {
        total: total.map(rate),
        per_identity: own.map(rate),
        overrides: overrides
            .iter()
            .map(|(some, text)| {
                (IdPattern::parse(&format!("spiffe://example.org{some}")).unwrap(), rate(text))
            })
            .collect(),
    }))
}

/// How many of a hundred calls pass at once.
fn passes(account: &Account) -> usize {
    (0..100).filter(|_| account.take(at(0)).is_ok()).count()
}

#[test]
fn rl_01_each_identity_has_its_own_and_the_first_override_counts() {
    let limit = limit(None, Some("5/s"), &[("/jobs/night", "20/s"), ("/jobs/*", "10/s")]);
    for (name, key, most) in [("web", 1, 5), ("jobs/night", 2, 20), ("jobs/day", 3, 10), ("api", 4, 5)] {
        let account = limit.account(Some(&id(name)), key, at(0));
        assert_eq!(passes(&account), most, "{name}");
        let exceeded = account.take(at(0)).unwrap_err();
        assert_eq!(exceeded.of, Limited::Identity);
        assert_eq!(exceeded.rate.burst() as usize, most);
        // Another connection of the same identity has no more.
        assert_eq!(passes(&limit.account(Some(&id(name)), key, at(0))), 0, "{name}");
    }
    assert_eq!(limit.known(), 4);
}

#[test]
fn rl_01_callers_without_identity_share_one_bucket_whatever_their_key() {
    let limit = limit(None, Some("5/s"), &[("", "50/s")]);
    let (one, other) = (limit.account(None, 1, at(0)), limit.account(None, 2, at(0)));
    assert_eq!((passes(&one), passes(&other)), (5, 0));
    assert_eq!(passes(&limit.account(Some(&id("web")), 1, at(0))), 50);
}

#[test]
fn rl_01_the_total_comes_first_and_costs_a_caller_nothing_of_its_own() {
    let limit = limit(Some("8/s"), Some("5/s"), &[]);
    let (web, api) = (limit.account(Some(&id("web")), 1, at(0)), limit.account(Some(&id("api")), 2, at(0)));
    assert_eq!((passes(&web), passes(&api)), (5, 3));
    assert_eq!(web.take(at(0)).unwrap_err().of, Limited::Total);
    // What the total refused was not taken from the caller: of its five it had three.
    let later = at(250);
    assert_eq!((0..9).filter(|_| api.take(later).is_ok()).count(), 2);
}

#[test]
fn rl_01_one_caller_that_floods_takes_nothing_of_the_total_beyond_its_own() {
    let limit = limit(Some("10/s"), Some("2/s"), &[]);
    let flood = limit.account(Some(&id("flood")), 1, at(0));
    assert_eq!((passes(&flood), passes(&flood)), (2, 0));
    for key in 2..6 {
        assert_eq!(passes(&limit.account(Some(&id("web")), key, at(0))), 2, "{key}");
    }
}

#[test]
fn rl_01_what_is_not_limited_is_not_remembered() {
    let limit = limit(None, None, &[("/jobs", "1/s")]);
    let web = limit.account(Some(&id("web")), 1, at(0));
    assert_eq!((passes(&web), limit.known()), (100, 0));
    assert!(web.is_at(&limit));
}
