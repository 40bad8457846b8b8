//! Faults that operators put into the calls of a route for a while, to see what callers make of them (RT-06): a wait, or an
//! answer in place of the service's, for a share of the calls.
//!
//! They end by themselves, no configuration starts them, and they end with the process. What asks for health is spared;
//! control traffic never comes here. A call without any costs one look at a flag.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use base_ports::Mono;
use parking_lot::Mutex;

/// What befalls calls of a route.
#[derive(Debug, Clone, PartialEq)]
pub struct Injection {
    /// Name of the route; there is one injection for each.
    pub route: Arc<str>,
    /// The share of its calls, from 0 to 1.
    pub share: f64,
    /// They wait so long before anything else.
    pub delay: Option<Duration>,
    /// They are answered with this status and reach no endpoint.
    pub abort: Option<u16>,
    /// When it ends.
    pub until: Mono,
}

/// The injections of a process.
#[derive(Debug, Default)]
pub(crate) struct Injections {
    is_any: AtomicBool,
    all: ArcSwap<Vec<Injection>>,
    changing: Mutex<()>,
}

impl Injections {
    /// Begins one, in place of another of the same route.
    pub(crate) fn begin(&self, injection: Injection, now: Mono) {
        self.change(now, |other| other.route != injection.route, Some(injection.clone()));
    }

    /// Ends that of a route, or all; how many there were.
    pub(crate) fn end(&self, route: Option<&str>, now: Mono) -> usize {
        self.change(now, |other| route.is_some_and(|route| *other.route != *route), None)
    }

    /// Those that run.
    pub(crate) fn all(&self, now: Mono) -> Vec<Injection> {
        self.all.load().iter().filter(|injection| now < injection.until).cloned().collect()
    }

    /// What befalls a call of that route.
    pub(crate) fn of(&self, route: &str, draw: impl FnOnce() -> f64, now: Mono) -> Option<Injection> {
        if !self.is_any.load(Ordering::Relaxed) {
            return None;
        }
        let all = self.all.load();
        let found = all.iter().find(|injection| *injection.route == *route && now < injection.until)?;
        // A share of 1 takes the call that draws 1 as well.
        (found.share >= 1.0 || draw() < found.share).then(|| found.clone())
    }

    /// Keeps what runs and is to stay; how many that ran do not.
    fn change(&self, now: Mono, stays: impl Fn(&Injection) -> bool, more: Option<Injection>) -> usize {
        let guard = self.changing.lock();
        let running = self.all(now);
        let before = running.len();
        let mut all: Vec<_> = running.into_iter().filter(stays).collect();
        let gone = before.saturating_sub(all.len());
        all.extend(more);
        self.is_any.store(!all.is_empty(), Ordering::Relaxed);
        self.all.store(Arc::new(all));
        drop(guard);
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Mono = Mono::from_nanos(1_000_000_000);

    fn of(route: &str, share: f64) -> Injection {
        let until = NOW + Duration::from_secs(60);
        Injection { route: route.into(), share, delay: None, abort: Some(503), until }
    }

    #[test]
    fn rt_06_an_injection_befalls_its_share_of_its_route_until_it_ends() {
        let injections = Injections::default();
        assert_eq!(injections.of("site", || 0.0, NOW), None);
        injections.begin(of("site", 0.25), NOW);
        injections.begin(of("shop", 1.0), NOW);
        assert!(injections.of("site", || 0.24, NOW).is_some());
        assert_eq!(injections.of("site", || 0.25, NOW), None);
        assert!(injections.of("shop", || 1.0, NOW).is_some(), "all of them");
        assert_eq!(injections.of("other", || 0.0, NOW), None);
        let later = NOW + Duration::from_secs(60);
        assert_eq!(injections.of("shop", || 0.0, later), None, "it ends by itself");
        assert!(injections.all(later).is_empty());
    }

    #[test]
    fn rt_06_a_route_has_one_and_each_can_be_ended() {
        let injections = Injections::default();
        injections.begin(of("site", 0.25), NOW);
        injections.begin(of("site", 0.5), NOW);
        assert_eq!(injections.all(NOW), [of("site", 0.5)]);
        injections.begin(of("shop", 1.0), NOW);
        assert_eq!(injections.end(Some("other"), NOW), 0);
        assert_eq!(injections.end(Some("site"), NOW), 1);
        assert_eq!(injections.all(NOW), [of("shop", 1.0)]);
        assert_eq!(injections.end(None, NOW), 1);
        assert_eq!(injections.of("shop", || 0.0, NOW), None);
    }
}
