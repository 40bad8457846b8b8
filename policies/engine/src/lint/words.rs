//! Finds where an expression of the syntax tree, which has no places, stands in the text of its policy.
//! Both are compared word by word, without brackets and with `a["b"]` read as `a.b`. What is not found has no place.

use crate::compile::text::tokens;
use cedar_policy::pst::Expr;
use std::{collections::HashMap, ops::Range};

/// The words of one policy.
#[derive(Debug, Default)]
pub(crate) struct Words {
    words: Vec<Word>,
    /// Each bracket with its byte.
    brackets: Vec<(u8, usize)>,
}

#[derive(Debug)]
struct Word {
    text: String,
    range: Range<usize>,
}

impl Words {
    /// Of `text`, which stands in its file from byte `offset` on.
    pub(crate) fn of(text: &str, offset: usize) -> Words {
        let all: Vec<(&str, Range<usize>)> =
            tokens(text).filter_map(|range| Some((text.get(range.clone())?, range))).collect();
        let mut words = Words::default();
        let mut at = 0;
        while let Some((token, range)) = all.get(at) {
            let range = range.start + offset..range.end + offset;
            let next = |ahead: usize| all.get(at + ahead).map(|(token, _)| *token);
            match *token {
                "(" | ")" => {
                    words.brackets.push((token.as_bytes().first().copied().unwrap_or_default(), range.start))
                }
                "[" if words.ends_with_a_value()
                    && next(2) == Some("]")
                    && next(1).is_some_and(is_string) =>
                {
                    let end = all.get(at + 2).map_or(range.end, |(_, close)| close.end + offset);
                    words.push(".", range.start..range.start);
                    words.push(next(1).map(unquoted).unwrap_or_default(), range.start..end);
                    at += 2;
                }
                token if is_string(token) && words.last() == Some("has") => {
                    words.push(unquoted(token), range)
                }
                token => words.push(token, range),
            }
            at += 1;
        }
        words
    }

    fn push(&mut self, text: &str, range: Range<usize>) {
        self.words.push(Word { text: text.to_owned(), range });
    }

    fn last(&self) -> Option<&str> {
        self.words.last().map(|word| word.text.as_str())
    }

    /// Whether a `[` here would be an access and not a set.
    fn ends_with_a_value(&self) -> bool {
        const OPERATORS: [&str; 10] =
            ["in", "has", "like", "is", "if", "then", "else", "contains", "containsAll", "containsAny"];
        self.last().is_some_and(|word| {
            !OPERATORS.contains(&word)
                && word.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ']'))
        })
    }

    /// The bytes of the `nth` place, from 0, at which `needle` stands.
    fn find(&self, needle: &[String], nth: usize) -> Option<Range<usize>> {
        let is_here = |at: &usize| {
            needle
                .iter()
                .enumerate()
                .all(|(ahead, text)| self.words.get(at + ahead).is_some_and(|word| word.text == *text))
        };
        let first = (0..self.words.len()).filter(is_here).nth(nth)?;
        let last = first.checked_add(needle.len())?.checked_sub(1)?;
        let range = self.words.get(first)?.range.start..self.words.get(last)?.range.end;
        self.balanced(range)
    }

    /// With the closing brackets that belong to it; none when it opens fewer than it closes.
    fn balanced(&self, range: Range<usize>) -> Option<Range<usize>> {
        let mut open = 0_usize;
        let mut end = range.end;
        for (bracket, at) in self.brackets.iter().filter(|(_, at)| *at >= range.start) {
            let is_inside = *at < range.end;
            if !is_inside
                && (open == 0 || self.words.iter().any(|word| (range.end..*at).contains(&word.range.start)))
            {
                break;
            }
            if *bracket == b'(' {
                open += 1;
            } else {
                open = open.checked_sub(1)?;
                end = end.max(at + 1);
            }
        }
        (open == 0).then_some(range.start..end)
    }
}

/// Finds expressions one after the other, so that the second of two equal ones is found at the second place. It must
/// be asked for every expression of its kind in order, also for those that need no place.
#[derive(Debug)]
pub(crate) struct Finder<'a> {
    words: &'a Words,
    seen: HashMap<Vec<String>, usize>,
}

impl<'a> Finder<'a> {
    pub(crate) fn new(words: &'a Words) -> Finder<'a> {
        Finder { words, seen: HashMap::new() }
    }

    /// The bytes of the file that hold `expression`.
    pub(crate) fn range(&mut self, expression: &Expr) -> Option<Range<usize>> {
        let needle: Vec<String> =
            Words::of(&expression.to_string(), 0).words.into_iter().map(|word| word.text).collect();
        let seen = self.seen.entry(needle.clone()).or_default();
        let nth = *seen;
        *seen += 1;
        self.words.find(&needle, nth)
    }
}

fn is_string(token: &str) -> bool {
    token.starts_with('"')
}

fn unquoted(token: &str) -> &str {
    token.trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::walk::{Sign, clauses, each};
    use cedar_policy::Policy;

    /// Every expression below the condition is found at exactly its text.
    fn assert_found(condition: &str, wanted: &[&str]) {
        let text = format!("permit (principal, action, resource) when {{ {condition} }};");
        let template = Policy::parse(None, &text).unwrap().to_pst().unwrap();
        let words = Words::of(&text, 0);
        let mut finder = Finder::new(&words);
        let mut found = Vec::new();
        for (expression, sign) in clauses(template.body()) {
            each(expression, sign, &mut |part, _: Sign| {
                if matches!(part, Expr::BinaryOp { .. } | Expr::Like { .. } | Expr::HasAttr { .. }) {
                    found.push(finder.range(part).map(|range| text.get(range).unwrap()));
                }
            });
        }
        let wanted: Vec<_> = wanted.iter().map(|text| Some(*text)).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn expressions_are_found_where_they_were_written() {
        assert_found("context.a == 1", &["context.a == 1"]);
        assert_found(
            r#"context["a-b"].contains("x") && context.a.contains( "x" ) // why"#.split(" //").next().unwrap(),
            &[r#"context["a-b"].contains("x") && context.a.contains( "x" )"#, r#"context["a-b"].contains("x")"#, r#"context.a.contains( "x" )"#],
        );
        assert_found(
            r#"context.a like "x*" || context.a like "x*""#,
            &[
                r#"context.a like "x*" || context.a like "x*""#,
                r#"context.a like "x*""#,
                r#"context.a like "x*""#,
            ],
        );
        assert_found(r#"context has "a-b""#, &[r#"context has "a-b""#]);
        assert_found("context.a.b has c", &["context.a.b has c"]);
        assert_found("[1, 2].contains(context.a)", &["[1, 2].contains(context.a)"]);
    }

    #[test]
    fn the_second_of_two_equal_expressions_is_found_at_the_second_place() {
        let text = "permit (principal, action, resource) when { context.a == 1 } unless { context.a == 1 };";
        let template = Policy::parse(None, text).unwrap().to_pst().unwrap();
        let words = Words::of(text, 0);
        let mut finder = Finder::new(&words);
        let places: Vec<_> =
            clauses(template.body()).map(|(whole, _)| finder.range(whole).unwrap().start).collect();
        assert_eq!(places, [text.find("context").unwrap(), text.rfind("context").unwrap()]);
    }
}
