//! Cuts a policy file into its policies, so that each is parsed on its own with exact places (VA1).
//! Knows strings, comments and `;` only; what is inside a policy is for Cedar to judge.

use std::ops::Range;

/// One policy of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Its bytes, from the first annotation or keyword to its `;`.
    pub(crate) range: Range<usize>,
    /// Byte of the effect keyword in the file, or of the policy when it has none.
    pub(crate) effect_at: usize,
    /// Names of its annotations with the byte of their `@` in the file.
    pub(crate) annotations: Vec<(String, usize)>,
    /// Deepest nesting of brackets.
    pub(crate) depth: usize,
}

/// Cuts `text`. Text after the last `;` is a policy too, unless it is only space and comments.
pub(crate) fn chunks(text: &str) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut open: Option<Chunk> = None;
    let mut depth = 0_usize;
    let mut is_head = true;
    for token in Tokens::new(text) {
        let chunk = open.get_or_insert_with(|| Chunk {
            range: token.range.clone(),
            effect_at: token.range.start,
            annotations: Vec::new(),
            depth: 0,
        });
        chunk.range.end = token.range.end;
        match token.kind {
            Kind::Word(word) if is_head && matches!(word, "permit" | "forbid") => {
                chunk.effect_at = token.range.start;
                is_head = false;
            }
            Kind::Annotation(name) if is_head => chunk.annotations.push((name.to_owned(), token.range.start)),
            Kind::Open => {
                depth += 1;
                chunk.depth = chunk.depth.max(depth);
            }
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::End => {
                chunks.extend(open.take());
                depth = 0;
                is_head = true;
            }
            _ => {}
        }
    }
    chunks.extend(open);
    chunks
}

/// The places of all words, strings and single characters of `text`, without space and comments.
pub(crate) fn tokens(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    Tokens::new(text).map(|token| token.range)
}

#[derive(Debug)]
enum Kind<'a> {
    Word(&'a str),
    /// `@name`.
    Annotation(&'a str),
    Open,
    Close,
    End,
    Other,
}

#[derive(Debug)]
struct Token<'a> {
    kind: Kind<'a>,
    range: Range<usize>,
}

/// Words, strings and single characters; space and comments are skipped.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Tokens<'a> {
        Tokens { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            let comment = match rest.trim_start().strip_prefix("//") {
                Some(comment) => 2 + comment.find('\n').unwrap_or(comment.len()),
                None => 0,
            };
            if blank + comment == 0 {
                return;
            }
            self.at += blank + comment;
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let rest = self.rest();
        let first = rest.chars().next()?;
        let (kind, length) = match first {
            '"' => (Kind::Other, string_length(rest)),
            '@' => {
                let name = rest.get(1..).map(word).unwrap_or_default();
                (Kind::Annotation(name), 1 + name.len())
            }
            '(' | '[' | '{' => (Kind::Open, 1),
            ')' | ']' | '}' => (Kind::Close, 1),
            ';' => (Kind::End, 1),
            _ => match word(rest) {
                "" => (Kind::Other, first.len_utf8()),
                word => (Kind::Word(word), word.len()),
            },
        };
        let range = self.at..self.at + length;
        self.at = range.end;
        Some(Token { kind, range })
    }
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// Bytes of the string at the start of `text`, quotes included; all of it when it does not end.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_is_cut_at_the_end_of_each_policy() {
        let text = "// one; \n@id(\"a;\\\"b\") // x;\n@permit\npermit(principal, action, resource);\n\n forbid ( [{}] ) ; // end";
        let found = chunks(text);
        let piece = |at: usize| text.get(found[at].range.clone()).unwrap();
        assert_eq!(found.len(), 2);
        assert!(piece(0).starts_with("@id") && piece(0).ends_with(");"));
        assert!(text.get(found[0].effect_at..).unwrap().starts_with("permit(principal"));
        let names: Vec<_> = found[0].annotations.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["id", "permit"]);
        assert_eq!(piece(1), "forbid ( [{}] ) ;");
        assert_eq!(found[1].depth, 3);
    }

    #[test]
    fn an_unfinished_policy_is_a_policy_and_blank_text_is_none() {
        assert_eq!(chunks("permit(principal").len(), 1);
        assert_eq!(chunks("permit(\"never ends;").len(), 1);
        assert_eq!(chunks(" \n// nothing\n").len(), 0);
        assert_eq!(chunks("//").len(), 0);
        assert_eq!(chunks(";;").len(), 2);
    }

    proptest! {
        #[test]
        fn any_text_is_cut_into_ordered_pieces(text in "[@a-e\"\\\\;/(){}\\n é]{0,60}") {
            let mut end = 0;
            for chunk in chunks(&text) {
                prop_assert!(chunk.range.start >= end && chunk.range.end > chunk.range.start);
                prop_assert!(text.get(chunk.range.clone()).is_some() && chunk.range.contains(&chunk.effect_at));
                end = chunk.range.end;
            }
        }
    }
}
