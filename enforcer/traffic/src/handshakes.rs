//! How many handshakes may run at a time, in all and of one source: the work that costs a stranger least. When all places
//! are taken, the newest handshake of the busiest source makes room.

use std::collections::HashMap;
use std::hash::Hash;

/// The handshakes that run; `T` ends one.
#[derive(Debug)]
pub struct Handshakes<S, T> {
    most: usize,
    running: usize,
    next: u64,
    sources: HashMap<S, Vec<(u64, T)>>,
}

/// A handshake may begin.
#[derive(Debug, PartialEq, Eq)]
pub struct Begun<T> {
    /// Its number, by which it ends.
    pub number: u64,
    /// The one that must end instead.
    pub instead: Option<T>,
}

impl<S: Hash + Eq + Clone, T> Handshakes<S, T> {
    /// At most so many at a time.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, running: 0, next: 0, sources: HashMap::new() }
    }

    /// How many run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running
    }

    /// How many may run.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }

    /// One of `source` begins, which may have so many itself; none when it must not.
    pub fn begin(&mut self, source: S, most_of_source: usize, end: T) -> Option<Begun<T>> {
        let own = self.sources.get(&source).map_or(0, Vec::len);
        if own >= most_of_source {
            return None;
        }
        let mut instead = None;
        if self.running >= self.most {
            let busiest = self.sources.iter().max_by_key(|(_, running)| running.len());
            let (busiest, running) = busiest.filter(|(_, running)| running.len() > own + 1)?;
            let (busiest, newest) = (busiest.clone(), running.last()?.0);
            instead = self.end(&busiest, newest);
        }
        let number = self.next;
        self.next += 1;
        self.running += 1;
        self.sources.entry(source).or_default().push((number, end));
        Some(Begun { number, instead })
    }

    /// One ends; nothing when it ended before.
    pub fn end(&mut self, source: &S, number: u64) -> Option<T> {
        let running = self.sources.get_mut(source)?;
        let place = running.iter().position(|(known, _)| *known == number)?;
        let (_, end) = running.remove(place);
        if running.is_empty() {
            self.sources.remove(source);
        }
        self.running -= 1;
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn begin(all: &mut Handshakes<u8, u32>, source: u8, end: u32) -> Option<(u64, Option<u32>)> {
        all.begin(source, 3, end).map(|begun| (begun.number, begun.instead))
    }

    #[test]
    fn al_05_a_source_has_its_share_of_the_handshakes() {
        let mut all = Handshakes::new(100);
        for nth in 0..3 {
            assert_eq!(begin(&mut all, 1, 0), Some((nth, None)));
        }
        assert_eq!(begin(&mut all, 1, 0), None);
        assert_eq!(begin(&mut all, 2, 0), Some((3, None)));
        all.end(&1, 0);
        assert_eq!(begin(&mut all, 1, 0), Some((4, None)));
    }

    #[test]
    fn al_05_when_all_places_are_taken_the_newest_of_the_busiest_source_makes_room() {
        let mut all = Handshakes::new(4);
        for end in 10..13 {
            begin(&mut all, 1, end);
        }
        begin(&mut all, 2, 20);
        assert_eq!(begin(&mut all, 3, 30), Some((4, Some(12))));
        assert_eq!(all.running(), 4);
        assert_eq!(all.end(&1, 2), None, "it ended already");
        assert_eq!(begin(&mut all, 1, 13), None, "the busiest itself is refused");
        assert_eq!(begin(&mut all, 4, 40), Some((5, Some(11))));
        assert_eq!(begin(&mut all, 5, 50), None, "nobody has more than one");
        for (source, number) in [(1, 0), (2, 3), (3, 4), (4, 5)] {
            assert!(all.end(&source, number).is_some());
        }
        assert_eq!((all.running(), all.sources.len()), (0, 0));
    }

    proptest! {
        #[test]
        fn al_05_never_more_than_may_and_none_is_lost(steps in proptest::collection::vec((0_u8..5, any::<bool>()), 1..300)) {
            let mut all = Handshakes::new(6);
            let mut known: Vec<(u8, u64, u32)> = Vec::new();
            for (nth, (source, begins)) in (0_u32..).zip(steps) {
                if begins {
                    if let Some((number, instead)) = begin(&mut all, source, nth) {
                        known.retain(|(_, _, end)| Some(*end) != instead);
                        known.push((source, number, nth));
                    }
                } else if let Some(place) = known.iter().position(|(of, ..)| *of == source) {
                    let (of, number, end) = known.remove(place);
                    prop_assert_eq!(all.end(&of, number), Some(end));
                }
                prop_assert!(all.running() <= 6);
                prop_assert_eq!(all.running(), known.len());
                for source in 0..5 {
                    prop_assert!(known.iter().filter(|(of, ..)| *of == source).count() <= 3);
                }
            }
        }
    }
}
