//! The second step of a match: a tree of path segments, the deepest node with a fitting route wins.

use std::collections::HashMap;

/// A node of the tree; the root stands for the path `/`.
#[derive(Debug, Default)]
pub(super) struct Tree {
    children: HashMap<Box<str>, Tree>,
    /// Routes that end here, most matchers first once sorted.
    ends: Vec<End>,
}

/// A route at its node.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) route: u32,
    /// Takes gRPC calls only.
    pub(super) grpc: bool,
    /// Takes calls of one listener only. Trees are built per listener, so this only ranks.
    pub(super) listener: bool,
}

impl End {
    fn matchers(self) -> u8 {
        u8::from(self.grpc).saturating_add(u8::from(self.listener))
    }
}

impl Tree {
    /// Adds a route; answers the route of equal rank that can take the same calls, if there is one.
    pub(super) fn insert<'a>(
        &mut self,
        mut segments: impl Iterator<Item = &'a str>,
        end: End,
    ) -> Result<(), u32> {
        if let Some(segment) = segments.next() {
            return self.children.entry(segment.into()).or_default().insert(segments, end);
        }
        // Any two ends of a node can take the same gRPC call.
        if let Some(other) = self.ends.iter().find(|other| other.matchers() == end.matchers()) {
            return Err(other.route);
        }
        self.ends.push(end);
        self.ends.sort_by_key(|end| std::cmp::Reverse(end.matchers()));
        Ok(())
    }

    /// The route of the longest prefix of the path.
    pub(super) fn find(&self, path: &str, grpc: bool) -> Option<u32> {
        let mut best = self.end(grpc);
        let mut node = self;
        for segment in path.strip_prefix('/').unwrap_or_default().split('/') {
            if node.children.is_empty() {
                break;
            }
            let Some(child) = node.children.get(segment) else {
                break;
            };
            node = child;
            best = node.end(grpc).or(best);
        }
        best
    }

    fn end(&self, grpc: bool) -> Option<u32> {
        self.ends.iter().find(|end| grpc || !end.grpc).map(|end| end.route)
    }
}
