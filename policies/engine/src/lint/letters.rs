//! PC2121 in the text itself: characters that turn text around or cannot be seen, also in comments. What they do to
//! names and strings, compilation has said already.

use crate::{Diagnostic, PolicySource, Severity, compile::letters::is_hidden};

/// One finding per line of `source` that `told` does not speak of yet.
pub(crate) fn hidden(source: &PolicySource, told: &[Diagnostic]) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = Vec::new();
    if source.text.is_ascii() {
        return found;
    }
    for (at, c) in source.text.char_indices().filter(|(_, c)| is_hidden(*c)) {
        let message = format!("the invisible character U+{:04X} stands here", u32::from(c));
        let next = Diagnostic::at("PC2121", &source.file, &source.text, at, c.len_utf8(), message);
        let is_told =
            |other: &Diagnostic| other.code == "PC2121" && other.file == next.file && other.line == next.line;
        if !told.iter().chain(&found).any(is_told) {
            let next = next.label("here").help("what people read is not what is meant; remove the character");
            found.push(Diagnostic { severity: Severity::Warning, ..next });
        }
    }
    found
}
