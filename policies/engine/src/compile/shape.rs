//! The shape of a policy: its text without annotations, in which the ids of entities are only numbered. Cedar's validator
//! knows entities by their types, and by whether two of them are the same; so policies of one shape are as good as each
//! other, and of those that pass without a word one is asked about for all (EN12). Actions and enumerated types are
//! known by their ids, which therefore stay.
//!
//! Everything else of the text is part of the shape, comments too: two policies may have different shapes and mean the
//! same, never one shape and mean different things.

use super::text::tokens;
use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};

/// Shapes that are remembered at most.
const MOST: usize = 1 << 14;
/// Before a number in place of an id; no token is that long.
const NUMBER: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape([u8; 32]);

/// The shapes that passed, for one schema.
#[derive(Debug)]
pub(crate) struct Shapes {
    /// Types whose ids stay; none where that cannot be told.
    told_by_id: Option<HashSet<Box<str>>>,
    passed: RwLock<HashSet<Shape>>,
}

impl Shapes {
    /// For a schema of these texts.
    pub(crate) fn new<'a>(schema: impl IntoIterator<Item = &'a str>) -> Shapes {
        let mut told_by_id = Some(HashSet::from([Box::from("Action")]));
        for text in schema {
            match &mut told_by_id {
                // Cedar ends a comment there, and we do not.
                _ if text.contains('\r') => told_by_id = None,
                Some(types) => types.extend(enumerated(text)),
                None => {}
            }
        }
        Shapes { told_by_id, passed: RwLock::default() }
    }

    pub(crate) fn has_passed(&self, shape: Shape) -> bool {
        self.passed.read().contains(&shape)
    }

    pub(crate) fn pass(&self, shape: Shape) {
        let mut passed = self.passed.write();
        if passed.len() < MOST {
            passed.insert(shape);
        }
    }

    /// The shape of a policy that Cedar parsed.
    pub(crate) fn of(&self, policy: &str) -> Shape {
        let mut form = Form { bytes: Vec::with_capacity(policy.len()), ids: HashMap::new() };
        let mut before: [&str; 3] = [""; 3];
        let mut end = 0;
        let mut tokens = tokens(policy).peekable();
        while let Some(range) = tokens.next() {
            form.blank(policy.get(end..range.start).unwrap_or_default());
            end = range.end;
            let token = policy.get(range).unwrap_or_default();
            // An annotation with a value: `@name`, `(`, the value, `)`.
            if token.len() > 1 && token.starts_with('@') {
                if tokens.next_if(|next| policy.get(next.clone()) == Some("(")).is_some() {
                    let value = tokens.next();
                    let close = tokens.next();
                    end = close.or(value).map_or(end, |range| range.end);
                }
                continue;
            }
            match token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
                Some(id) if self.is_numbered(before, id) => form.id(id),
                _ => form.token(token),
            }
            before = [before[1], before[2], token];
        }
        form.blank(policy.get(end..).unwrap_or_default());
        Shape(digest(&SHA256, &form.bytes).as_ref().try_into().unwrap_or_default())
    }

    /// Whether a string after those tokens is the id of an entity that only its type matters of.
    fn is_numbered(&self, [kind, first, second]: [&str; 3], id: &str) -> bool {
        let is_plain = |byte: u8| (byte.is_ascii_graphic() || byte == b' ') && byte != b'\\';
        first == ":"
            && second == ":"
            && id.bytes().all(is_plain)
            && self.told_by_id.as_ref().is_some_and(|types| !types.contains(kind))
    }
}

/// The bytes a shape is the digest of.
struct Form<'a> {
    bytes: Vec<u8>,
    ids: HashMap<&'a str, u32>,
}

impl<'a> Form<'a> {
    fn token(&mut self, token: &str) {
        let length = u32::try_from(token.len()).unwrap_or(NUMBER - 1);
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend(token.as_bytes());
    }

    /// What stands between tokens, unless it is only space.
    fn blank(&mut self, blank: &str) {
        if !blank.bytes().all(|byte| matches!(byte, b' ' | b'\n' | b'\t')) {
            self.token(blank);
        }
    }

    fn id(&mut self, id: &'a str) {
        let next = u32::try_from(self.ids.len()).unwrap_or(NUMBER);
        let number = *self.ids.entry(id).or_insert(next);
        self.bytes.extend(NUMBER.to_be_bytes());
        self.bytes.extend(number.to_be_bytes());
    }
}

/// Types that a schema declares with their ids: `entity A, B enum [..]`.
fn enumerated(schema: &str) -> Vec<Box<str>> {
    let mut found = Vec::new();
    let mut names: Option<Vec<&str>> = None;
    for token in tokens(schema).filter_map(|range| schema.get(range)) {
        match (&mut names, token) {
            (Some(names), "enum") => found.extend(names.drain(..).map(Box::from)),
            (Some(_), ",") => {}
            (Some(names), name) if name.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                names.push(name);
            }
            (_, "entity") => names = Some(Vec::new()),
            _ => names = None,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> Shapes {
        Shapes::new(["entity A, B; entity Color, Tone enum [\"red\"]; type T = { entity: A, enum: B };"])
    }

    fn is_one(first: &str, second: &str) -> bool {
        let shapes = shapes();
        shapes.of(first) == shapes.of(second)
    }

    #[test]
    fn en12_policies_that_differ_in_names_only_have_one_shape() {
        let text = |who: &str, rest: &str| {
            format!("permit (principal == N::A::\"{who}\", action, resource) {rest};")
        };
        assert!(is_one(&text("x", ""), &format!("@id(\"b\") @note\n{}", text("y z", ""))));
        assert!(is_one(
            &text("x", "when { A::\"x\" == A::\"y\" }"),
            &text("1", "when {\n\tA::\"1\" == A::\"2\" }")
        ));
        assert!(is_one(&text("x", ""), &text("", "")));
    }

    #[test]
    fn en12_what_validation_can_depend_on_is_part_of_the_shape() {
        let text = |rest: &str| format!("permit (principal, action, resource) when {{ {rest} }};");
        let differ = [
            ("A::\"x\" == A::\"x\"", "A::\"x\" == A::\"y\""),
            ("A::\"x\" == B::\"y\"", "B::\"x\" == A::\"y\""),
            ("action == Action::\"a\"", "action == Action::\"b\""),
            ("principal == Color::\"red\"", "principal == Color::\"blue\""),
            ("principal == M::Tone::\"red\"", "principal == M::Tone::\"blue\""),
            ("principal == A::\"a\"", "principal == A::\"\u{430}\""),
            ("principal == A::\"a\"", "principal == A::\"\\0\""),
            ("principal.hasTag(\"a\")", "principal.hasTag(\"b\")"),
            ("principal has a", "principal has b"),
            ("true // a\r && false", "true // b\r && false"),
            ("1 + 12 == 3", "11 + 2 == 3"),
            ("ip(\"10.0.0.1\").isIpv4()", "ip(\"10.0.0.x\").isIpv4()"),
        ];
        for (one, other) in differ {
            assert!(!is_one(&text(one), &text(other)), "{one} {other}");
        }
        assert!(!is_one("permit (principal, action, resource);", "forbid (principal, action, resource);"));
    }

    #[test]
    fn a_schema_that_may_be_read_in_two_ways_leaves_every_id_in_place() {
        let shapes = Shapes::new(["// \rentity Color enum [\"red\"];"]);
        let text = |id: &str| format!("permit (principal == A::\"{id}\", action, resource);");
        assert_ne!(shapes.of(&text("x")), shapes.of(&text("y")));
        assert_eq!(shapes.of(&text("x")), shapes.of(&text("x")));
    }

    #[test]
    fn shapes_pass_one_by_one_and_only_so_many() {
        let shapes = shapes();
        let shape =
            |at: usize| shapes.of(&format!("permit (principal, action, resource) when {{ {at} == 1 }};"));
        assert!(!shapes.has_passed(shape(1)));
        (0..=MOST).for_each(|at| shapes.pass(shape(at)));
        assert!(shapes.has_passed(shape(1)) && !shapes.has_passed(shape(MOST)));
    }
}
