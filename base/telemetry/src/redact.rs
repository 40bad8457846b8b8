//! Untrusted text made harmless (OU6): for terminals and logs, and for spreadsheets.

use std::borrow::Cow;

/// Whether a character could move a cursor, change colours, or reorder the text around it.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Control bytes, ANSI sequences and bidirectional marks as visible escapes; other text as it is.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if is_harmful(c) {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        out
    });
    Cow::Owned(escaped)
}

/// A CSV field that no spreadsheet takes for a formula, quoted as RFC 4180 wants.
#[must_use]
pub fn csv_field(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    let text = format!("{guard}{}", escape(text));
    if text.contains([',', '"', '\'']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_text_is_not_copied() {
        assert!(matches!(escape("orders é 你好"), Cow::Borrowed(_)));
        assert_eq!(escape("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\n");
        assert_eq!(escape("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn formulas_are_guarded() {
        assert_eq!(csv_field("=1+1"), "\"'=1+1\"");
        assert_eq!(csv_field("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(csv_field("plain"), "plain");
    }

    proptest! {
        #[test]
        fn nothing_harmful_survives(text in any::<String>()) {
            prop_assert!(!escape(&text).chars().any(is_harmful));
            prop_assert!(!csv_field(&text).starts_with(['=', '+', '-', '@']));
        }
    }
}
