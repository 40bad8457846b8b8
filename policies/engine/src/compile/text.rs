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
    /// Line of that byte, from 1.
    pub(crate) line: usize,
    /// Byte after the brackets of the scope; beyond the text where there are none.
    pub(crate) scope_end: usize,
    /// Names of its annotations with the byte of their `@` in the file.
    pub(crate) annotations: Vec<(String, usize)>,
    /// Bytes of `?principal` and `?resource` in the file; a policy that has any is a template.
    pub(crate) slots: Vec<Range<usize>>,
    /// Deepest nesting of brackets.
    pub(crate) depth: usize,
}

/// Cuts `text`. Text after the last `;` is a policy too, unless it is only space and comments.
pub(crate) fn chunks(text: &str) -> Vec<Chunk> {
    Chunks::new(text).collect()
}

/// The policies of a text, one after another.
pub(crate) struct Chunks<'a>(Tokens<'a>);

impl<'a> Chunks<'a> {
    pub(crate) fn new(text: &'a str) -> Chunks<'a> {
        Chunks(Tokens::new(text))
    }

    /// Where the next policy is looked for: the start of the text, or the end of a policy.
    pub(crate) fn at(&self) -> usize {
        self.0.at
    }

    /// Goes on at the end of a policy that is known already.
    pub(crate) fn skip_to(&mut self, end: usize) {
        let skipped = self.0.text.as_bytes().get(self.0.at..end).unwrap_or_default();
        self.0.line += newlines(skipped);
        self.0.at = end;
    }
}

impl Iterator for Chunks<'_> {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        let mut open: Option<Chunk> = None;
        let mut depth = 0_usize;
        let mut is_head = true;
        for token in self.0.by_ref() {
            let chunk = open.get_or_insert_with(|| Chunk {
                range: token.range.clone(),
                effect_at: token.range.start,
                line: token.line,
                scope_end: usize::MAX,
                annotations: Vec::new(),
                slots: Vec::new(),
                depth: 0,
            });
            chunk.range.end = token.range.end;
            match token.kind {
                Kind::Word(word) if is_head && matches!(word, "permit" | "forbid") => {
                    chunk.effect_at = token.range.start;
                    chunk.line = token.line;
                    is_head = false;
                }
                Kind::Annotation(name) if is_head => {
                    chunk.annotations.push((name.to_owned(), token.range.start))
                }
                Kind::Slot => chunk.slots.push(token.range),
                Kind::Open => {
                    depth += 1;
                    chunk.depth = chunk.depth.max(depth);
                }
                Kind::Close => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 && !is_head {
                        chunk.scope_end = chunk.scope_end.min(token.range.end);
                    }
                }
                Kind::End => return open,
                _ => {}
            }
        }
        open
    }
}

/// Newlines of a text.
pub(crate) fn newlines(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}

/// The places of all words, strings and single characters of `text`, without space and comments.
pub(crate) fn tokens(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    Tokens::new(text).map(|token| token.range)
}

/// The comments of `text`, without what stands before and after them.
pub(crate) fn comments(text: &str) -> impl Iterator<Item = &str> {
    let mut end = 0;
    let between = tokens(text).chain(std::iter::once(text.len()..text.len()));
    let blanks = between.map(move |token| {
        let blank = end..token.start;
        end = token.end;
        blank
    });
    let blanks = blanks.filter_map(|blank| text.get(blank));
    blanks.flat_map(str::lines).map(str::trim).filter(|line| line.starts_with("//"))
}

#[derive(Debug)]
enum Kind<'a> {
    Word(&'a str),
    /// `@name`.
    Annotation(&'a str),
    /// `?name`.
    Slot,
    Open,
    Close,
    End,
    Other,
}

#[derive(Debug)]
struct Token<'a> {
    kind: Kind<'a>,
    range: Range<usize>,
    line: usize,
}

/// Words, strings and single characters; space and comments are skipped.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Tokens<'a> {
        Tokens { text, at: 0, line: 1 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Skips space and comments, counting lines. Byte by byte, because whole files of policies pass here on each change.
    fn skip_blank(&mut self) {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'\n' => {
                    self.line += 1;
                    self.at += 1;
                }
                b'/' if bytes.get(self.at + 1) == Some(&b'/') => {
                    let rest = self.rest();
                    self.at += rest.find('\n').unwrap_or(rest.len());
                }
                byte if byte.is_ascii_whitespace() || *byte == 0x0b => self.at += 1,
                byte if byte.is_ascii() => return,
                _ => match self.rest().chars().next().filter(|c| c.is_whitespace()) {
                    Some(blank) => self.at += blank.len_utf8(),
                    None => return,
                },
            }
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let line = self.line;
        let rest = self.rest();
        let first = rest.chars().next()?;
        let named = || rest.get(1..).map(word).unwrap_or_default();
        let (kind, length) = match first {
            '"' => {
                let length = string_length(rest);
                self.line += rest.bytes().take(length).filter(|byte| *byte == b'\n').count();
                (Kind::Other, length)
            }
            '@' => (Kind::Annotation(named()), 1 + named().len()),
            '?' if !named().is_empty() => (Kind::Slot, 1 + named().len()),
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
        Some(Token { kind, range, line })
    }
}

fn word(text: &str) -> &str {
    let end =
        text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii() && c.is_alphanumeric()));
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

/// Bytes of the string at the start of `text`, quotes included; all of it when it does not end.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
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
        assert_eq!((found[0].line, found[1].line), (4, 6));
    }

    #[test]
    fn slots_are_seen_outside_strings_and_comments() {
        let text = "permit(principal == ?principal, action, resource) // ?resource\nwhen { \"?resource\\\"\n\" == \"?\" };\nforbid(principal, action, resource in ?resource);";
        let found = chunks(text);
        let slots = |at: usize| -> Vec<&str> {
            found[at].slots.iter().map(|range| text.get(range.clone()).unwrap()).collect()
        };
        assert_eq!((slots(0), slots(1)), (vec!["?principal"], vec!["?resource"]));
        assert_eq!(found[1].line, 4, "a line within a string counts");
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
