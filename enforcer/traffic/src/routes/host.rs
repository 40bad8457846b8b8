//! The first step of a match: the host, exact before the longest suffix before any.

use std::collections::HashMap;

use super::tree::Tree;
use enforcer_codec::{Scheme, canonical};

/// A host pattern of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Pattern {
    Any,
    Exact(String),
    /// The part after `*.`.
    Suffix(String),
}

impl Pattern {
    /// From its configured form: a name without port, or `*.suffix`. Case and a trailing dot do not matter.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let canonical = |host: &str| {
            let name = canonical::authority(host.as_bytes(), Scheme::Https).ok()?.into_owned();
            let is_ported = name.contains(':') && !name.ends_with(']');
            let was_ported = host.contains(':') && !host.ends_with(']');
            (!is_ported && !was_ported).then_some(name)
        };
        match text.strip_prefix("*.") {
            Some(suffix) if suffix.starts_with('[') => None,
            Some(suffix) => Some(Self::Suffix(canonical(suffix)?)),
            None => Some(Self::Exact(canonical(text)?)),
        }
    }
}

/// The trees of one listener by host.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: HashMap<Box<str>, Tree>,
    suffix: HashMap<Box<str>, Tree>,
    any: Tree,
}

impl Hosts {
    pub(super) fn tree(&mut self, pattern: &Pattern) -> &mut Tree {
        match pattern {
            Pattern::Any => &mut self.any,
            Pattern::Exact(host) => self.exact.entry(host.as_str().into()).or_default(),
            Pattern::Suffix(suffix) => self.suffix.entry(suffix.as_str().into()).or_default(),
        }
    }

    /// The best route: a more specific host wins when it has a route for the path at all.
    pub(super) fn find(&self, host: &str, path: &str, grpc: bool) -> Option<u32> {
        if let Some(route) = self.exact.get(host).and_then(|tree| tree.find(path, grpc)) {
            return Some(route);
        }
        if !self.suffix.is_empty() {
            let mut rest = host;
            while let Some((_, suffix)) = rest.split_once('.') {
                if let Some(route) = self.suffix.get(suffix).and_then(|tree| tree.find(path, grpc)) {
                    return Some(route);
                }
                rest = suffix;
            }
        }
        self.any.find(path, grpc)
    }
}
