//! Random events over changes and numbers: what can never be, whatever people try.

use super::*;
use proptest::prelude::*;

fn hash(n: u8) -> Hash {
    Hash([n; 32])
}

fn event() -> impl Strategy<Value = Event> {
    let content = || (0_u8..3).prop_map(hash);
    prop_oneof![
        3 => content().prop_map(|content| Event::Edit { content }),
        4 => (content(), any::<bool>()).prop_map(|(content, passed)| Event::Check { content, passed }),
        3 => (content(), "[a-c]").prop_map(|(content, by)| Event::Approve { content, by }),
        1 => (1_u64..9).prop_map(|policies| Event::Commit { policies }),
        2 => Just(Event::Activate),
        1 => Just(Event::Abandon),
    ]
}

/// What happened to the content that the change has now.
#[derive(Default)]
struct Seen {
    passed: bool,
    approvers: BTreeSet<String>,
    commits: usize,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn st6_nothing_is_committed_or_active_that_was_not_checked_as_it_is(events in prop::collection::vec(event(), 0..60)) {
        let mut life = Life::new(hash(0));
        let mut seen = Seen::default();
        for event in events {
            let Ok(next) = life.after(&event) else { continue };
            match &event {
                Event::Edit { content } if *content != life.content => seen = Seen { commits: seen.commits, ..Seen::default() },
                Event::Edit { .. } | Event::Abandon => {}
                Event::Check { content, passed } => {
                    prop_assert_eq!(*content, life.content);
                    seen.passed = *passed;
                    if !passed {
                        seen.approvers.clear();
                    }
                }
                Event::Approve { by, content } => {
                    prop_assert!(seen.passed && *content == life.content);
                    seen.approvers.insert(by.clone());
                }
                Event::Commit { policies } => {
                    prop_assert!(seen.passed, "committed unchecked");
                    prop_assert_eq!(next.version, Some(*policies));
                    seen.commits += 1;
                }
                Event::Activate => {
                    prop_assert!(seen.passed && seen.commits == 1);
                    prop_assert_eq!(life.stage, Stage::Committed);
                }
            }
            prop_assert!(seen.commits <= 1, "one commit for each change");
            prop_assert_eq!(&next.approvals, &seen.approvers, "an edit and a failed check drop approvals");
            prop_assert!(next.stage != Stage::Approved || !next.approvals.is_empty());
            if !life.stage.is_open() {
                prop_assert_eq!(next.content, life.content, "what is committed is never edited");
                prop_assert_eq!(next.version, life.version);
            }
            life = next;
        }
    }

    #[test]
    fn st5_numbers_only_grow_and_only_versions_come_into_force(steps in prop::collection::vec((any::<bool>(), 0_u64..12), 0..60)) {
        let mut now = Lineage::default();
        for (commits, policies) in steps {
            let next = if commits { Ok(now.committed()) } else { now.activated(policies) };
            match next {
                Ok(next) => {
                    prop_assert!(next.newest >= now.newest && next.active >= now.active);
                    prop_assert!(next.active.is_none_or(|active| (1..=next.newest).contains(&active)));
                    now = next;
                }
                Err(Refusal::NeverCommitted(_)) => prop_assert!(policies == 0 || policies > now.newest),
                Err(refusal) => {
                    let is_older = matches!(refusal, Refusal::Older { .. });
                    prop_assert!(is_older && Some(policies) < now.active);
                }
            }
        }
    }
}

#[test]
fn st6_an_edit_drops_checks_and_approvals_and_the_same_content_drops_nothing() {
    let mut life = Life::new(hash(0));
    for event in [
        Event::Check { content: hash(0), passed: true },
        Event::Approve { content: hash(0), by: "ann".to_owned() },
    ] {
        life = life.after(&event).unwrap();
    }
    assert_eq!(life.stage, Stage::Approved);
    assert_eq!(life.after(&Event::Edit { content: hash(0) }).unwrap(), life);
    assert_eq!(life.after(&Event::Edit { content: hash(1) }).unwrap(), Life::new(hash(1)));
    let failed = life.after(&Event::Check { content: hash(0), passed: false }).unwrap();
    assert_eq!((failed.stage, failed.approvals.len()), (Stage::Draft, 0));
}

#[test]
fn st6_every_refusal_says_why() {
    let life = Life::new(hash(0));
    let refused = |life: &Life, event: &Event| life.after(event).unwrap_err().to_string();
    let approve = Event::Approve { content: hash(0), by: "ann".to_owned() };
    assert_eq!(refused(&life, &approve), "the change was not checked as it is now");
    assert_eq!(refused(&life, &Event::Activate), "the change is draft, so it cannot be activated");
    let failed = life.after(&Event::Check { content: hash(0), passed: false }).unwrap();
    assert_eq!(refused(&failed, &Event::Commit { policies: 1 }), "the last check of the change failed");
    assert_eq!(failed.after(&Event::Check { content: hash(1), passed: true }), Err(Refusal::Moved));
    let ended = life.after(&Event::Abandon).unwrap();
    assert_eq!(refused(&ended, &approve), "the change is abandoned, so it cannot be approved");
    let mut many = life.after(&Event::Check { content: hash(0), passed: true }).unwrap();
    many.approvals = (0..MOST_APPROVALS).map(|n| n.to_string()).collect();
    assert_eq!(many.after(&approve), Err(Refusal::TooManyApprovals));
}
