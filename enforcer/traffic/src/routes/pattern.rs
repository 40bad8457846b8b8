//! A condition on one text: present, exact, by prefix, or by a pattern that takes linear time (RT-01).

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

use crate::ValueTest;

/// The compiled form may be so large, bytes.
const SIZE: usize = 1 << 20;

/// A compiled condition.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    Present,
    Exact(Box<str>),
    Prefix(Box<str>),
    Regex(Anchored),
}

/// A pattern that the whole text must match.
#[derive(Debug, Clone)]
pub(super) struct Anchored {
    written: Box<str>,
    regex: Regex,
}

impl Anchored {
    /// # Errors
    /// What is wrong with the pattern, in one line.
    pub(super) fn compile(pattern: &str) -> Result<Self, String> {
        let compile = |text: &str| {
            RegexBuilder::new(text).unicode(false).size_limit(SIZE).build().map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => "it is larger than 1 MiB when compiled".to_owned(),
                error => error.to_string().lines().last().unwrap_or_default().trim().to_owned(),
            })
        };
        // By itself first: what is no pattern alone could close the group that anchors it.
        compile(pattern)?;
        Ok(Self { written: pattern.into(), regex: compile(&format!(r"\A(?:{pattern})\z"))? })
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }
}

impl Pattern {
    /// # Errors
    /// What is wrong with the condition.
    pub(super) fn compile(test: &ValueTest) -> Result<Self, String> {
        Ok(match test {
            ValueTest::Present => Self::Present,
            ValueTest::Exact(text) => Self::Exact(text.as_str().into()),
            ValueTest::Prefix(text) if text.is_empty() => {
                return Err("an empty prefix says nothing".to_owned());
            }
            ValueTest::Prefix(text) => Self::Prefix(text.as_str().into()),
            ValueTest::Regex(pattern) => Self::Regex(Anchored::compile(pattern)?),
        })
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(wanted) => text == wanted.as_bytes(),
            Self::Prefix(start) => text.starts_with(start.as_bytes()),
            Self::Regex(pattern) => pattern.matches(text),
        }
    }

    /// True when certainly no text satisfies both.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(text), test) | (test, Self::Exact(text)) => !test.matches(text.as_bytes()),
            (Self::Prefix(a), Self::Prefix(b)) => !a.starts_with(&**b) && !b.starts_with(&**a),
            _ => false,
        }
    }
}

impl fmt::Display for Anchored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("present"),
            Self::Exact(text) => write!(f, "`{text}`"),
            Self::Prefix(start) => write!(f, "beginning with `{start}`"),
            Self::Regex(pattern) => write!(f, "matching `{pattern}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str) -> Result<Pattern, String> {
        Pattern::compile(&ValueTest::Regex(pattern.into()))
    }

    #[test]
    fn rt_01_a_pattern_matches_the_whole_text() {
        let pattern = regex("a|bc").unwrap();
        for (text, is_match) in
            [("a", true), ("bc", true), ("ab", false), ("xa", false), ("a\n", false), ("", false)]
        {
            assert_eq!(pattern.matches(text.as_bytes()), is_match, "{text:?}");
        }
        assert!(!regex("(?m)^a$").unwrap().matches(b"a\nb"));
        assert!(regex(r"/v\d+").unwrap().matches(b"/v12"));
    }

    #[test]
    fn rt_01_a_pattern_cannot_leave_its_anchors_and_is_bounded() {
        for bad in ["a)|(?:b", "(", "[", "a{", "(?x)a #", r"(a)\1", "(?=a)"] {
            assert!(regex(bad).is_err(), "{bad}");
        }
        assert_eq!(regex("(?:[a-z]{1000}){1000}").unwrap_err(), "it is larger than 1 MiB when compiled");
        assert!(Pattern::compile(&ValueTest::Prefix(String::new())).is_err());
    }

    #[test]
    fn rt_01_a_hostile_text_costs_linear_time() {
        // 2^30 steps for whoever tracks back.
        assert!(!regex("(a*)*b").unwrap().matches(&[b'a'; 30_000]));
    }

    #[test]
    fn rt_02_conditions_exclude_each_other_only_when_no_text_satisfies_both() {
        let exact = |text: &str| Pattern::Exact(text.into());
        let prefix = |text: &str| Pattern::Prefix(text.into());
        for (a, b, excludes) in [
            (exact("a"), exact("b"), true),
            (exact("a"), exact("a"), false),
            (exact("ab"), prefix("a"), false),
            (exact("b"), prefix("a"), true),
            (prefix("ab"), prefix("a"), false),
            (prefix("ab"), prefix("ac"), true),
            (exact("12"), regex("[0-9]+").unwrap(), false),
            (exact("x"), regex("[0-9]+").unwrap(), true),
            (prefix("x"), regex("[0-9]+").unwrap(), false),
            (Pattern::Present, exact("a"), false),
        ] {
            assert_eq!(a.excludes(&b), excludes, "{a} and {b}");
            assert_eq!(b.excludes(&a), excludes, "{b} and {a}");
        }
    }
}
