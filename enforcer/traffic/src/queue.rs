//! Who waits for a full endpoint, and whose turn it is: by class, then by turns over principals, then by deadline (EL-02).
//!
//! A call that cannot be served in time is told so at once, instead of after it has waited for nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use base_ports::Mono;

/// A moving average of how long calls hold their place takes this part of each new one.
const NEW: f64 = 0.1;

/// Calls that wait, on one worker, for the endpoints of one cluster.
#[derive(Debug, Default)]
pub struct Queue {
    limit: usize,
    /// By class, the first one first.
    classes: BTreeMap<u8, Class>,
    places: HashMap<Ticket, (u8, u64, Mono)>,
    next: u64,
    service: Option<Duration>,
}

/// The calls of one class.
#[derive(Debug, Default)]
struct Class {
    /// Principals in the order of their turns; each stands here once while it waits for anything.
    turns: VecDeque<u64>,
    waiting: HashMap<u64, BTreeSet<(Mono, Ticket)>>,
}

/// The place of one call in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Why a call does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoWait {
    /// As many wait as may.
    Full,
    /// Its time would be over before its turn came.
    Late,
}

impl Queue {
    /// In which at most `limit` calls wait.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A call held its place for that long.
    pub fn served(&mut self, took: Duration) {
        let known = self.service.unwrap_or(took);
        self.service = Some(known.mul_f64(1.0 - NEW) + took.mul_f64(NEW));
    }

    /// A call of a principal begins to wait until its deadline, for one of `slots` places that serve at a time.
    ///
    /// # Errors
    /// When it had better not.
    pub fn join(
        &mut self,
        class: u8,
        principal: u64,
        deadline: Mono,
        slots: u32,
        now: Mono,
    ) -> Result<Ticket, NoWait> {
        if self.len() >= self.limit {
            return Err(NoWait::Full);
        }
        let ahead = u32::try_from(self.ahead_of(class, principal)).unwrap_or(u32::MAX);
        let left = deadline.saturating_since(now);
        let wait = self.service.unwrap_or_default().saturating_mul(ahead) / slots.max(1);
        if left.is_zero() || wait > left {
            return Err(NoWait::Late);
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.places.insert(ticket, (class, principal, deadline));
        let class = self.classes.entry(class).or_default();
        let own = class.waiting.entry(principal).or_default();
        if own.is_empty() {
            class.turns.push_back(principal);
        }
        own.insert((deadline, ticket));
        Ok(ticket)
    }

    /// The call whose turn it is.
    #[must_use]
    pub fn first(&self) -> Option<Ticket> {
        let class = self.classes.values().next()?;
        let own = class.waiting.get(class.turns.front()?)?;
        own.first().map(|(_, ticket)| *ticket)
    }

    /// A call waits no longer. Was it its turn that came, the next principal has the next one.
    pub fn leave(&mut self, ticket: Ticket) {
        let was_first = self.first() == Some(ticket);
        let Some((number, principal, deadline)) = self.places.remove(&ticket) else { return };
        let Some(class) = self.classes.get_mut(&number) else { return };
        let is_gone = class.waiting.get_mut(&principal).is_none_or(|own| {
            own.remove(&(deadline, ticket));
            own.is_empty()
        });
        if was_first {
            class.turns.rotate_left(1);
        }
        if is_gone {
            class.waiting.remove(&principal);
            class.turns.retain(|turn| *turn != principal);
        }
        if class.turns.is_empty() {
            self.classes.remove(&number);
        }
    }

    /// How many come before a new call of that principal: all of earlier classes, and of its own class as many of each
    /// principal as it has itself, for they take turns.
    fn ahead_of(&self, class: u8, principal: u64) -> usize {
        let earlier = self.classes.range(..class).flat_map(|(_, class)| class.waiting.values());
        let earlier: usize = earlier.map(BTreeSet::len).sum();
        let Some(class) = self.classes.get(&class) else { return earlier };
        let own = class.waiting.get(&principal).map_or(0, BTreeSet::len);
        let turns = own + 1;
        earlier + class.waiting.values().map(|waiting| waiting.len().min(turns)).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balance::Dice;

    fn at(millis: u64) -> Mono {
        Mono::from_nanos(millis * 1_000_000)
    }

    fn order(queue: &mut Queue, tickets: &[(Ticket, &'static str)]) -> Vec<&'static str> {
        let mut order = Vec::new();
        while let Some(first) = queue.first() {
            order.push(tickets.iter().find(|(ticket, _)| *ticket == first).unwrap().1);
            queue.leave(first);
        }
        order
    }

    #[test]
    fn el_02_class_comes_first_then_principals_by_turns_then_the_deadline() {
        let mut queue = Queue::new(10);
        let mut join = |name, class, principal, deadline| {
            (queue.join(class, principal, at(deadline), 1, at(0)).unwrap(), name)
        };
        let tickets = [
            join("a late", 1, 1, 900),
            join("a soon", 1, 1, 100),
            join("a later", 1, 1, 950),
            join("b", 1, 2, 800),
            join("c", 1, 3, 200),
            join("urgent", 0, 9, 999),
        ];
        assert_eq!(order(&mut queue, &tickets), ["urgent", "a soon", "b", "c", "a late", "a later"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn el_02_who_cannot_be_served_in_time_is_told_at_once() {
        let mut queue = Queue::new(100);
        queue.served(Duration::from_millis(100));
        assert_eq!(queue.join(0, 1, at(0), 1, at(0)), Err(NoWait::Late), "no time is left");
        for _ in 0..5 {
            queue.join(0, 1, at(1_000), 2, at(0)).unwrap();
        }
        // Five are ahead, two are served at a time: a quarter of a second.
        assert_eq!(queue.join(0, 1, at(249), 2, at(0)), Err(NoWait::Late));
        assert!(queue.join(0, 1, at(251), 2, at(0)).is_ok());
        // Another principal takes turns with the first, so it comes second.
        assert_eq!(queue.join(0, 2, at(49), 2, at(0)), Err(NoWait::Late));
        assert!(queue.join(0, 2, at(51), 2, at(0)).is_ok());
    }

    #[test]
    fn el_01_no_more_wait_than_may() {
        let mut queue = Queue::new(2);
        let first = queue.join(0, 1, at(9), 1, at(0)).unwrap();
        queue.join(0, 2, at(9), 1, at(0)).unwrap();
        assert_eq!(queue.join(0, 3, at(9), 1, at(0)), Err(NoWait::Full));
        queue.leave(first);
        queue.leave(first);
        assert!(queue.join(0, 3, at(9), 1, at(0)).is_ok());
    }

    /// Ten principals ask for what two places can serve; one of them asks a hundred times as often as each other.
    #[test]
    fn el_02_a_principal_that_floods_takes_only_its_own_share() {
        const MILLIS: u64 = 20_000;
        let (mut queue, mut dice) = (Queue::new(128), Dice::new(3));
        let (mut asked, mut served) = ([0_u32; 10], [0_u32; 10]);
        let (mut waiting, mut busy): (HashMap<Ticket, (usize, u64)>, Vec<u64>) = (HashMap::new(), Vec::new());
        for now in 0..MILLIS {
            busy.retain(|ends| *ends > now);
            let gone: Vec<_> =
                waiting.iter().filter(|(_, (_, end))| *end <= now).map(|(one, _)| *one).collect();
            for ticket in gone {
                queue.leave(ticket);
                waiting.remove(&ticket);
            }
            // The others ask for half of what is there together: 9 times one in 90 ms of 10 ms each.
            for (principal, asked) in asked.iter_mut().enumerate() {
                let asks = if principal == 0 { 2 } else { usize::from(dice.below(90) == 0) };
                for _ in 0..asks {
                    *asked += 1;
                    if let Ok(ticket) = queue.join(0, principal as u64, at(now + 500), 2, at(now)) {
                        waiting.insert(ticket, (principal, now + 500));
                    }
                }
            }
            while busy.len() < 2
                && let Some(ticket) = queue.first()
            {
                queue.leave(ticket);
                queue.served(Duration::from_millis(10));
                served[waiting.remove(&ticket).unwrap().0] += 1;
                busy.push(now + 10);
            }
        }
        for principal in 1..10 {
            let share = f64::from(served[principal]) / f64::from(asked[principal]);
            assert!(share > 0.9, "{principal} got {share} of what it asked for: {served:?} of {asked:?}");
        }
        let all: u32 = served.iter().sum();
        assert!(f64::from(all) > 0.97 * 2.0 * MILLIS as f64 / 10.0, "{all}: places stood empty");
    }

    proptest! {
        #[test]
        fn el_02_nobody_is_lost_and_nobody_is_served_twice(
            steps in proptest::collection::vec((0_u8..3, 0_u64..4, 1_u64..50, any::<bool>()), 1..200),
        ) {
            let mut queue = Queue::new(20);
            let mut known = BTreeSet::new();
            for (class, principal, deadline, serves) in steps {
                if serves {
                    prop_assert_eq!(queue.first().is_some(), !known.is_empty());
                    if let Some(first) = queue.first() {
                        prop_assert!(known.remove(&first));
                        queue.leave(first);
                    }
                } else if let Ok(ticket) = queue.join(class, principal, at(deadline), 1, at(0)) {
                    prop_assert!(known.insert(ticket));
                }
                prop_assert_eq!(queue.len(), known.len());
                prop_assert!(queue.len() <= 20);
            }
        }
    }
}
