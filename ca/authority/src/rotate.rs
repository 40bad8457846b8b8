//! When roots, signing CAs and keys for tokens come and go: a pure plan over slots and time, carried out step by step by
//! the authority (AU-06).
//!
//! A new signing CA under a published root needs no wait; a root or a key for tokens is published before it signs (AU-05).
//! Every step is one transaction, so a crash between two steps is resumed by the next sweep.

use std::time::Duration;

use base_ports::UnixTime;
use ca_identity::KeyId;

use crate::keys::{KeyInfo, KeyKind, KeyState};

const DAY: Duration = Duration::from_secs(86_400);
/// How long an old key stays after the last thing that it signed can have expired.
const RETIRE_AFTER: Duration = DAY;
/// How long a root or a key for tokens is in the bundle before it signs: five times what others wait between two looks (TB-09).
pub(crate) const PUBLISHED_BEFORE: Duration = Duration::from_secs(5 * 300);
/// What this plan rotates. One whose turn cannot be taken holds up no other.
pub(crate) const KINDS: [KeyKind; 3] = [KeyKind::Root, KeyKind::Jwt, KeyKind::Signing];

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rotation {
    /// These keys were made.
    pub prepared: Vec<(KeyKind, KeyId)>,
    /// These sign from now on.
    pub activated: Vec<(KeyKind, KeyId)>,
    /// These are gone.
    pub retired: Vec<(KeyKind, KeyId)>,
    /// Rows of expired certificates and tokens that were removed.
    pub pruned: usize,
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Prepare,
    Activate(KeyId),
    Retire(KeyId),
}

/// The next step for keys of that kind, or nothing. Ask again after each.
pub(crate) fn next(kind: KeyKind, slots: &[KeyInfo], now: UnixTime) -> Option<Step> {
    let of = |state| slots.iter().find(move |slot| slot.kind == kind && slot.state == state);
    let prepared = of(KeyState::Prepared);
    let active = of(KeyState::Active);
    match (prepared, active) {
        // A prepared key that is itself at its end is no successor (RG-24): it is set aside and replaced.
        (Some(waiting), _) if is_due(waiting, now, ACTIVATE) => return Some(Step::Retire(waiting.key_id)),
        (Some(waiting), None) => return Some(Step::Activate(waiting.key_id)),
        (Some(waiting), Some(active))
            if is_due(active, now, ACTIVATE) && may_follow(waiting, active, now) =>
        {
            return Some(Step::Activate(waiting.key_id));
        }
        (None, None) => return Some(Step::Prepare),
        (None, Some(active)) if is_due(active, now, PREPARE) => return Some(Step::Prepare),
        _ => {}
    }
    let gone = |slot: &&KeyInfo| {
        let is_over = matches!(slot.state, KeyState::Old | KeyState::Revoked);
        slot.kind == kind && is_over && now > slot.not_after + RETIRE_AFTER
    };
    slots.iter().find(gone).map(|slot| Step::Retire(slot.key_id))
}

/// AU-05: verifiers have seen a root or a key for tokens before it signs. Where there is none to sign with, waiting helps nobody.
fn may_follow(waiting: &KeyInfo, active: &KeyInfo, now: UnixTime) -> bool {
    let is_known = now >= waiting.not_before + PUBLISHED_BEFORE;
    waiting.kind == KeyKind::Signing || is_known || now >= active.not_after
}

/// A part of the life and an absolute limit, of which the shorter counts (identity.md 3).
type Threshold = (u32, Duration);

const PREPARE: Threshold = (2, Duration::from_secs(30 * 86_400));
const ACTIVATE: Threshold = (6, Duration::from_secs(7 * 86_400));
/// Later than activation, also for roots, where an eighth of the life is more than the week before which they wait.
const ALARM: Threshold = (8, Duration::from_secs(5 * 86_400));

/// Whether a key is too near its end to begin with it (RG-24).
pub(crate) fn is_near_end(slot: &KeyInfo, now: UnixTime) -> bool {
    is_due(slot, now, ACTIVATE)
}

fn is_due(slot: &KeyInfo, now: UnixTime, (part, limit): Threshold) -> bool {
    let life = slot.not_after.saturating_since(slot.not_before);
    let threshold = life.checked_div(part).unwrap_or_default().min(limit);
    slot.not_after.saturating_since(now) < threshold
}

/// Keys in use whose end is nearer than rotation should ever let it come.
pub(crate) fn alarming(slots: &[KeyInfo], now: UnixTime) -> impl Iterator<Item = &KeyInfo> {
    slots.iter().filter(move |slot| slot.state == KeyState::Active && is_due(slot, now, ALARM))
}

#[cfg(test)]
mod tests {
    use ca_identity::testing::{self, TestCa};

    use super::*;

    /// A signing CA that lives a week from `start`.
    fn slot(state: KeyState, n: u8, start: UnixTime) -> KeyInfo {
        let certificate = TestCa::new("example.org", testing::now()).signing().clone();
        let mut slot = KeyInfo::of(KeyKind::Signing, state, certificate).unwrap();
        slot.key_id = KeyId::from_bytes([n; 20]);
        (slot.not_before, slot.not_after) = (start, start + DAY * 7);
        slot
    }

    #[test]
    fn au_06_a_signing_ca_is_prepared_at_half_life_and_activated_at_the_last_sixth() {
        let start = testing::now();
        let active = slot(KeyState::Active, 1, start);
        let at = |hours: u32| start + Duration::from_secs(3600) * hours;
        assert_eq!(next(KeyKind::Signing, std::slice::from_ref(&active), at(84)), None);
        assert_eq!(next(KeyKind::Signing, std::slice::from_ref(&active), at(85)), Some(Step::Prepare));
        let both = [active, slot(KeyState::Prepared, 2, at(85))];
        assert_eq!(next(KeyKind::Signing, &both, at(140)), None);
        assert_eq!(next(KeyKind::Signing, &both, at(141)), Some(Step::Activate(KeyId::from_bytes([2; 20]))));
    }

    #[test]
    fn au_06_after_a_month_asleep_a_new_ca_is_made_and_activated_at_once() {
        let start = testing::now();
        let late = start + DAY * 30;
        let active = slot(KeyState::Active, 1, start);
        assert_eq!(next(KeyKind::Signing, std::slice::from_ref(&active), late), Some(Step::Prepare));
        let both = [active.clone(), slot(KeyState::Prepared, 2, late)];
        assert_eq!(next(KeyKind::Signing, &both, late), Some(Step::Activate(KeyId::from_bytes([2; 20]))));
        assert_eq!(alarming(std::slice::from_ref(&active), late).count(), 1);
        assert_eq!(alarming(&[active], start).count(), 0);
        let old = [slot(KeyState::Old, 1, start), slot(KeyState::Active, 2, late)];
        assert_eq!(next(KeyKind::Signing, &old, late), Some(Step::Retire(KeyId::from_bytes([1; 20]))));
        assert_eq!(next(KeyKind::Signing, &old, start + DAY * 8), None);
    }

    #[test]
    fn rg_24_a_nearly_expired_ca_is_never_activated() {
        let start = testing::now();
        let late = start + DAY * 30;
        let both = [slot(KeyState::Active, 1, start), slot(KeyState::Prepared, 2, start)];
        assert_eq!(next(KeyKind::Signing, &both, late), Some(Step::Retire(KeyId::from_bytes([2; 20]))));
    }

    #[test]
    fn without_any_signing_ca_one_is_prepared_and_then_activated() {
        let start = testing::now();
        assert_eq!(next(KeyKind::Signing, &[], start), Some(Step::Prepare));
        let prepared = [slot(KeyState::Prepared, 1, start)];
        assert_eq!(
            next(KeyKind::Signing, &prepared, start),
            Some(Step::Activate(KeyId::from_bytes([1; 20])))
        );
    }

    fn jwt(state: KeyState, n: u8, start: UnixTime) -> KeyInfo {
        KeyInfo { kind: KeyKind::Jwt, ..slot(state, n, start) }
    }

    #[test]
    fn au_05_a_key_for_tokens_is_published_before_it_signs() {
        let start = testing::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let step = |slots: &[KeyInfo], now| next(KeyKind::Jwt, slots, now);
        let activate = Some(Step::Activate(KeyId::from_bytes([2; 20])));
        // Made late, after days asleep: the old one still signs while the new one becomes known.
        let late = start + DAY * 7 - Duration::from_secs(3600);
        let both = [jwt(KeyState::Active, 1, start), jwt(KeyState::Prepared, 2, late)];
        assert_eq!(step(&both, late), None);
        assert_eq!(step(&both, late + PUBLISHED_BEFORE - Duration::from_secs(1)), None);
        assert_eq!(step(&both, late + PUBLISHED_BEFORE), activate);
        // Made in time, it waits for its turn, not for that.
        let both = [jwt(KeyState::Active, 1, start), jwt(KeyState::Prepared, 2, start + DAY * 4)];
        assert_eq!(step(&both, start + DAY * 5), None);
        assert_eq!(step(&both, start + DAY * 6), activate);
        // With nothing to sign with there is nothing to wait for.
        assert_eq!(step(&[jwt(KeyState::Prepared, 2, at(0))], at(0)), activate);
        let late = start + DAY * 7;
        assert_eq!(
            step(&[jwt(KeyState::Active, 1, start), jwt(KeyState::Prepared, 2, late)], late),
            activate
        );
        // Keys of other kinds are none of its business.
        assert_eq!(step(&[slot(KeyState::Active, 1, start)], start), Some(Step::Prepare));
    }

    /// Does to slots what the authority does for a step, without keys.
    fn take(slots: &mut Vec<KeyInfo>, step: &Step, n: u8, now: UnixTime, pattern: &KeyInfo) {
        match step {
            Step::Prepare => slots.push(KeyInfo {
                state: KeyState::Prepared,
                key_id: KeyId::from_bytes([n; 20]),
                not_before: now,
                not_after: now + DAY * 7,
                ..pattern.clone()
            }),
            Step::Activate(id) => {
                for slot in
                    slots.iter_mut().filter(|slot| slot.key_id == *id || slot.state == KeyState::Active)
                {
                    slot.state = if slot.key_id == *id { KeyState::Active } else { KeyState::Old };
                }
            }
            Step::Retire(id) => slots.retain(|slot| slot.key_id != *id),
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        /// However irregularly the sweep runs, after it exactly one CA is active with a sixth of its life ahead, and
        /// a CA that is removed has no leaf left: leaves live at most a sixth of seven days.
        #[test]
        fn au_06_after_every_sweep_one_signing_ca_can_still_issue_full_lifetimes(
            pauses in proptest::collection::vec(1_u32..400, 1..60),
        ) {
            let pattern = slot(KeyState::Active, 0, testing::now());
            let (mut slots, mut now, mut n) = (Vec::new(), testing::now(), 0_u8);
            for hours in pauses {
                now = now + Duration::from_secs(3600) * hours;
                let mut steps = 0;
                while let Some(step) = next(KeyKind::Signing, &slots, now) {
                    if let Step::Retire(id) = &step {
                        let gone = slots.iter().find(|slot| slot.key_id == *id).unwrap();
                        proptest::prop_assert!(gone.state == KeyState::Prepared || now > gone.not_after + DAY);
                    }
                    n = n.wrapping_add(1);
                    take(&mut slots, &step, n, now, &pattern);
                    steps += 1;
                    proptest::prop_assert!(steps < 8, "{slots:?}");
                }
                let active: Vec<_> = slots.iter().filter(|slot| slot.state == KeyState::Active).collect();
                proptest::prop_assert_eq!(active.len(), 1);
                proptest::prop_assert!(active[0].not_after.saturating_since(now) >= DAY * 7 / 6);
            }
        }
    }
}
