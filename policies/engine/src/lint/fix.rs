//! Puts the edits of findings into a text. Called by `policy lint --fix`, which compiles the result before it writes.

use crate::{Diagnostic, Fix};

/// `text` of `file` with the edits that do not touch each other, in order, and how many those are. One that overlaps
/// an earlier one is left for the next round.
#[must_use]
pub fn apply(file: &str, text: &str, found: &[Diagnostic]) -> (String, usize) {
    let mut fixes: Vec<&Fix> = found
        .iter()
        .filter(|finding| *finding.file == *file)
        .filter_map(|finding| finding.fix.as_ref())
        .collect();
    fixes.sort_by_key(|fix| (fix.range.start, fix.range.end));
    let mut fixed = String::with_capacity(text.len());
    let (mut at, mut count) = (0, 0);
    for fix in fixes {
        let Some(kept) = text.get(at..fix.range.start).filter(|_| fix.range.end <= text.len()) else {
            continue;
        };
        fixed.push_str(kept);
        fixed.push_str(&fix.text);
        at = fix.range.end;
        count += 1;
    }
    fixed.push_str(text.get(at..).unwrap_or_default());
    (fixed, count)
}
