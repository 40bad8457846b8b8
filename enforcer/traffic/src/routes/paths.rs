//! The second step of a match: the path (RT-02). Exact before templates, those with more literal segments first, then
//! the longest prefix, then patterns by their priority, then whoever takes any path.

use std::collections::{BTreeMap, HashMap};
use std::str::Split;

use enforcer_codec::{Call, NotCanonical};

use super::bucket::{Bucket, End, Hit};
use super::pattern::Anchored;
use super::template::{Segment, Template};
use crate::Arrival;

/// The condition of one route on the path, checked.
#[derive(Debug)]
pub(super) enum Shape {
    Any,
    Exact(Box<str>),
    /// Its segments; there is at least one.
    Prefix(Box<[Box<str>]>),
    Template(Template),
    Regex(Anchored, u32),
}

/// All paths of one host.
#[derive(Debug, Default)]
pub(super) struct Paths {
    exact: HashMap<Box<str>, Bucket>,
    templates: Templates,
    prefixes: Prefixes,
    /// By priority.
    patterns: BTreeMap<u32, Patterns>,
    any: Bucket,
}

/// Patterns of one priority. Whether one text matches two of them is not looked at, so their other conditions must
/// tell their routes apart.
#[derive(Debug, Default)]
struct Patterns {
    all: Bucket,
    each: Vec<(Anchored, End)>,
}

impl Paths {
    /// Adds a route; answers one of equal rank that can take the same call, if there is one.
    pub(super) fn insert(&mut self, shape: &Shape, end: End) -> Result<(), u32> {
        match shape {
            Shape::Any => self.any.insert(end),
            Shape::Exact(path) => self.exact.entry(path.clone()).or_default().insert(end),
            Shape::Prefix(segments) => self.prefixes.bucket(segments).insert(end),
            Shape::Template(template) => self.templates.insert(template, end),
            Shape::Regex(pattern, priority) => {
                let patterns = self.patterns.entry(*priority).or_default();
                patterns.all.insert(end.clone())?;
                patterns.each.push((pattern.clone(), end));
                Ok(())
            }
        }
    }

    /// The best route for the path of the call.
    pub(super) fn find(&self, call: &Call, arrival: &Arrival<'_>) -> Result<Option<u32>, NotCanonical> {
        let path = call.path();
        if let Some(bucket) = self.exact.get(path)
            && let Some(hit) = bucket.find(call, arrival)?
        {
            return Ok(Some(hit.route));
        }
        if let Some(rest) = path.strip_prefix('/') {
            if !self.templates.is_empty()
                && let Some(hit) = self.templates.find(rest, call, arrival)?
            {
                return Ok(Some(hit.route));
            }
            if let Some(hit) = self.prefixes.find(rest.split('/'), call, arrival)? {
                return Ok(Some(hit.route));
            }
            for patterns in self.patterns.values().rev() {
                if let Some(hit) = patterns.find(call, arrival)? {
                    return Ok(Some(hit.route));
                }
            }
        }
        Ok(self.any.find(call, arrival)?.map(|hit| hit.route))
    }
}

impl Patterns {
    /// Of all that match, the one with the most conditions.
    fn find(&self, call: &Call, arrival: &Arrival<'_>) -> Result<Option<Hit>, NotCanonical> {
        let mut best: Option<Hit> = None;
        for (pattern, end) in &self.each {
            if pattern.matches(call.path().as_bytes())
                && let Some(hit) = end.hit(call, arrival)?
                && best.is_none_or(|best| best.matchers < hit.matchers)
            {
                best = Some(hit);
            }
        }
        Ok(best)
    }
}

/// A tree of prefixes; the root itself, which takes any path, is never used.
#[derive(Debug, Default)]
struct Prefixes {
    children: HashMap<Box<str>, Prefixes>,
    ends: Bucket,
}

impl Prefixes {
    fn bucket(&mut self, segments: &[Box<str>]) -> &mut Bucket {
        match segments.split_first() {
            Some((first, rest)) => self.children.entry(first.clone()).or_default().bucket(rest),
            None => &mut self.ends,
        }
    }

    /// The longest prefix whose conditions hold. Descends no deeper than the configuration is.
    fn find(
        &self,
        mut segments: Split<'_, char>,
        call: &Call,
        arrival: &Arrival<'_>,
    ) -> Result<Option<Hit>, NotCanonical> {
        if !self.children.is_empty()
            && let Some(child) = segments.next().and_then(|segment| self.children.get(segment))
            && let Some(hit) = child.find(segments, call, arrival)?
        {
            return Ok(Some(hit));
        }
        self.ends.find(call, arrival)
    }
}

/// A tree of templates: at each node a literal or any segment.
#[derive(Debug, Default)]
struct Templates {
    literals: HashMap<Box<str>, Templates>,
    any: Option<Box<Templates>>,
    ends: Bucket,
}

/// The best template so far: its literal segments, then its conditions.
type Best = Option<(usize, Hit)>;

impl Templates {
    fn is_empty(&self) -> bool {
        self.literals.is_empty() && self.any.is_none()
    }

    fn insert(&mut self, template: &Template, end: End) -> Result<(), u32> {
        self.meets(template.segments(), template.literals(), &end)?;
        let mut node = self;
        for segment in template.segments() {
            node = match segment {
                Segment::Literal(literal) => node.literals.entry(literal.clone()).or_default(),
                Segment::Param(_) => node.any.get_or_insert_default(),
            };
        }
        node.ends.insert(end)
    }

    /// Looks at every template with so many literals that takes a path which these segments take too.
    fn meets(&self, segments: &[Segment], literals: usize, end: &End) -> Result<(), u32> {
        let Some((segment, rest)) = segments.split_first() else {
            return if literals == 0 { self.ends.admits(end) } else { Ok(()) };
        };
        // An empty last segment is a literal that no name takes.
        let is_empty = matches!(segment, Segment::Literal(literal) if literal.is_empty());
        if let Some(any) = self.any.as_ref().filter(|_| !is_empty) {
            any.meets(rest, literals, end)?;
        }
        let Some(fewer) = literals.checked_sub(1) else { return Ok(()) };
        match segment {
            Segment::Literal(literal) => match self.literals.get(literal) {
                Some(child) => child.meets(rest, fewer, end),
                None => Ok(()),
            },
            Segment::Param(_) => self
                .literals
                .iter()
                .filter(|(literal, _)| !literal.is_empty())
                .try_for_each(|(_, child)| child.meets(rest, fewer, end)),
        }
    }

    fn find(&self, rest: &str, call: &Call, arrival: &Arrival<'_>) -> Result<Option<Hit>, NotCanonical> {
        let mut best = None;
        self.walk(rest.split('/'), 0, &mut best, &mut |ends| ends.find(call, arrival))?;
        Ok(best.map(|(_, hit)| hit))
    }

    fn walk(
        &self,
        mut segments: Split<'_, char>,
        literals: usize,
        best: &mut Best,
        find: &mut impl FnMut(&Bucket) -> Result<Option<Hit>, NotCanonical>,
    ) -> Result<(), NotCanonical> {
        let Some(segment) = segments.next() else {
            if let Some(hit) = find(&self.ends)?
                && best.is_none_or(|(more, known)| (more, known.matchers) < (literals, hit.matchers))
            {
                *best = Some((literals, hit));
            }
            return Ok(());
        };
        if let Some(child) = self.literals.get(segment) {
            child.walk(segments.clone(), literals.saturating_add(1), best, find)?;
        }
        match &self.any {
            Some(any) if !segment.is_empty() => any.walk(segments, literals, best, find),
            _ => Ok(()),
        }
    }
}

impl Shape {
    /// Whether it takes that canonical path, without any structure.
    pub(super) fn takes(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => **exact == *path,
            Self::Prefix(segments) => {
                let mut found = path.strip_prefix('/').unwrap_or_default().split('/');
                segments.iter().all(|segment| found.next() == Some(segment))
            }
            Self::Template(template) => template.matches(path),
            Self::Regex(pattern, _) => path.starts_with('/') && pattern.matches(path.as_bytes()),
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("any path"),
            Self::Exact(path) => write!(f, "exactly `{path}`"),
            Self::Prefix(segments) => write!(f, "`/{}` or below it", segments.join("/")),
            Self::Template(template) => write!(f, "`{template}`"),
            Self::Regex(pattern, _) => write!(f, "matching `{pattern}`"),
        }
    }
}
