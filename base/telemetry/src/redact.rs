//! Untrusted text made harmless (OU6): for terminals and logs, for JSON, and for spreadsheets.
//! Values of calls (names, paths, headers) go through here before anybody sees them.

use std::{borrow::Cow, fmt::Write};

/// Whether a character could move a cursor, change colours, hide, or reorder the text around it.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'                      // soft hyphen
            | '\u{61c}'                   // Arabic letter mark
            | '\u{180e}'                  // Mongolian vowel separator
            | '\u{200b}'..='\u{200f}'     // zero width, direction marks
            | '\u{2028}'..='\u{202e}'     // line separators, embeddings, overrides
            | '\u{2060}'..='\u{206f}'     // word joiner, isolates, deprecated formats
            | '\u{feff}'                  // byte order mark
            | '\u{fff9}'..='\u{fffb}'     // interlinear annotation
            | '\u{e0000}'..='\u{e007f}'   // tags
        )
}

/// Control bytes, ANSI sequences, invisible and bidirectional characters as visible escapes; other text as it is.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len().saturating_add(16));
    for c in text.chars() {
        if is_harmful(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Bytes as text; what is not UTF-8 as `\xff`, the rest as [`escape`] does.
#[must_use]
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(&escape(chunk.valid()));
        out.extend(chunk.invalid().iter().flat_map(|byte| byte.escape_ascii()).map(char::from));
    }
    out
}

/// Appends a JSON string, quotes included. What [`escape`] would change is written as `\u001b`, so that the text is
/// the same for a program that reads it and harmless for a person who looks at the raw line.
pub fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_harmful(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing into a string does not fail.
                    write!(out, "\\u{unit:04x}").unwrap_or_default();
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A CSV field that no spreadsheet takes for a formula, quoted as RFC 4180 wants.
#[must_use]
pub fn csv_field(text: &str) -> String {
    let escaped = escape(text);
    let guard = if escaped.starts_with(['=', '+', '-', '@', '\\']) { "'" } else { "" };
    if guard.is_empty() && !escaped.contains([',', '"', '\'']) {
        return escaped.into_owned();
    }
    format!("\"{guard}{}\"", escaped.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ou6_plain_text_is_not_copied() {
        assert!(matches!(escape("orders é 你好 👍 \\ \"x\""), Cow::Borrowed(_)));
    }

    #[test]
    fn ou6_what_a_terminal_would_obey_becomes_visible() {
        for (text, shown) in [
            ("a\u{1b}[31mb\n", "a\\u{1b}[31mb\\n"),
            ("a\u{9b}31mb", "a\\u{9b}31mb"),
            ("a\u{7f}\0b", "a\\u{7f}\\u{0}b"),
            ("a\u{202e}b\u{2066}", "a\\u{202e}b\\u{2066}"),
            ("ad\u{200b}min\u{feff}", "ad\\u{200b}min\\u{feff}"),
            ("x\u{e0041}", "x\\u{e0041}"),
        ] {
            assert_eq!(escape(text), shown);
        }
    }

    #[test]
    fn ou6_bytes_that_are_no_text_become_visible() {
        assert_eq!(escape_bytes(b"ok \xff\x1b[0m \xe2\x80"), "ok \\xff\\u{1b}[0m \\xe2\\x80");
    }

    #[test]
    fn ou6_formulas_are_guarded() {
        for (text, field) in [
            ("plain", "plain"),
            ("=1+1", "\"'=1+1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("-2", "\"'-2\""),
            ("\t=1", "\"'\\t=1\""),
            ("a,\"b\"", "\"a,\"\"b\"\"\""),
            ("two\nlines", "two\\nlines"),
        ] {
            assert_eq!(csv_field(text), field);
        }
    }

    #[test]
    fn ou6_json_is_harmless_to_look_at_and_the_same_to_read() {
        let mut out = String::new();
        push_json(&mut out, "a\"\\\n\u{1b}\u{202e}\u{e0041}é");
        assert_eq!(out, r#""a\"\\\n\u001b\u202e\udb40\udc41é""#);
    }

    proptest! {
        #[test]
        fn ou6_nothing_harmful_survives(text in any::<String>(), bytes in any::<Vec<u8>>()) {
            let shown = escape(&text);
            prop_assert!(!shown.chars().any(is_harmful));
            prop_assert_eq!(escape(&shown), shown.clone(), "escaping twice is escaping once");
            prop_assert!(!escape_bytes(&bytes).chars().any(is_harmful));
            let field = csv_field(&text);
            let quoted = field.strip_prefix('"').and_then(|field| field.strip_suffix('"'));
            let cell = quoted.map_or_else(|| field.clone(), |quoted| quoted.replace("\"\"", "\""));
            prop_assert!(!field.chars().any(is_harmful) && !cell.starts_with(['=', '+', '-', '@']));
            prop_assert_eq!(cell.trim_start_matches('\''), shown.trim_start_matches('\''));
            let mut json = String::new();
            push_json(&mut json, &text);
            prop_assert!(!json.chars().any(is_harmful));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
