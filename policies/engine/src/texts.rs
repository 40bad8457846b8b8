//! The policies of a file as their author wrote them, with the comments that stand directly above: for history and
//! blame. Judges nothing; text that is no policy is cut all the same.

use crate::compile::text::chunks;

/// One policy of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyText {
    /// Its `@id`; none when it has none that can be read.
    pub id: Option<String>,
    /// Its lines, from the first comment above it to its `;`.
    pub text: String,
    /// Number of its first line in the file, from 1.
    pub line: usize,
}

/// Cuts a file into its policies.
#[must_use]
pub fn policy_texts(file: &str) -> Vec<PolicyText> {
    let mut end = 0;
    let mut texts = Vec::new();
    for chunk in chunks(file) {
        let start = with_comments(file, end, chunk.range.start);
        let head = file.get(chunk.range.clone()).unwrap_or_default();
        let at = chunk.annotations.iter().find(|(name, _)| name == "id").map(|(_, at)| *at);
        texts.push(PolicyText {
            id: at.and_then(|at| quoted(file.get(at..)?)),
            text: file.get(start..chunk.range.start).unwrap_or_default().to_owned() + head,
            line: file.get(..start).unwrap_or_default().matches('\n').count().saturating_add(1),
        });
        end = chunk.range.end;
    }
    texts
}

/// Where the comments begin that stand directly above `start`, none before `end`, where the policy before ends.
fn with_comments(file: &str, end: usize, start: usize) -> usize {
    let gap = file.get(end..start).unwrap_or_default();
    let mut first = start;
    // What follows the policy before on its last line belongs to that one.
    let is_first_policy = end == 0;
    let lines: Vec<&str> = gap.split_inclusive('\n').skip(usize::from(!is_first_policy)).collect();
    for line in lines.iter().rev() {
        let is_comment = line.trim_start().starts_with("//");
        let is_rest_of_line = !line.ends_with('\n') && line.trim().is_empty();
        if !is_comment && !is_rest_of_line {
            break;
        }
        first = first.saturating_sub(line.len());
    }
    // Indentation alone is no reason to begin earlier.
    if file.get(first..start).unwrap_or_default().trim().is_empty() { start } else { first }
}

/// The text in the first quotes.
fn quoted(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('"')?;
    Some(rest.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_policy_comes_with_the_comments_directly_above_it() {
        let file = "// About this file.\n\n// Reads.\n// Twice.\n@id(\"a\")\npermit (principal, action, resource); // ends here\n@id ( \"b\" ) forbid\n(principal, action, resource);\n\n  // last\n  @id(\"c\") permit (principal, action, resource);\nnonsense";
        let texts = policy_texts(file);
        let seen: Vec<(Option<&str>, usize, &str)> = texts
            .iter()
            .map(|text| (text.id.as_deref(), text.line, text.text.lines().next().unwrap()))
            .collect();
        assert_eq!(
            seen,
            [
                (Some("a"), 3, "// Reads."),
                (Some("b"), 7, "@id ( \"b\" ) forbid"),
                (Some("c"), 10, "  // last"),
                (None, 12, "nonsense"),
            ]
        );
        assert_eq!(texts[1].text, "@id ( \"b\" ) forbid\n(principal, action, resource);");
        assert!(policy_texts("// nothing\n").is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_cut_without_loss_of_place(file in "[@a\"();/ \n]{0,60}") {
            for text in policy_texts(&file) {
                let before: String = file.split_inclusive('\n').take(text.line - 1).collect();
                prop_assert!(file.get(before.len()..).is_some_and(|rest| rest.contains(&text.text)), "{text:?}");
            }
        }
    }
}
