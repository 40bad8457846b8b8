//! `like` of Cedar: literal pieces between wildcards, matched in one pass.

use cedar_policy::pst::PatternElem;

/// A pattern, cut at its wildcards.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pattern {
    first: Box<str>,
    /// What follows each wildcard, in order; the last piece ends the text.
    after: Box<[Box<str>]>,
}

impl Pattern {
    pub(super) fn new(elements: &[PatternElem]) -> Pattern {
        let mut pieces = vec![String::new()];
        for element in elements {
            match (element, pieces.last_mut()) {
                (PatternElem::Char(c), Some(piece)) => piece.push(*c),
                _ => pieces.push(String::new()),
            }
        }
        let mut pieces = pieces.into_iter().map(String::into_boxed_str);
        Pattern { first: pieces.next().unwrap_or_default(), after: pieces.collect() }
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let Some((last, between)) = self.after.split_last() else { return *text == *self.first };
        let Some(mut rest) = text.strip_prefix(&*self.first) else { return false };
        for piece in between {
            match rest.split_once(&**piece) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(&**last)
    }
}
