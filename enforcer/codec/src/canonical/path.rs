//! Canonical paths: one pass that borrows when the path already is canonical, a rewrite when it is not.
//!
//! Some inputs have no canonical form at all and are refused; the rules stand in dataplane.md 5.

use crate::NotCanonical;

/// A path that can be served, or the form in which it could be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path<'a> {
    /// The input is canonical.
    Canonical(&'a str),
    /// The input spells this path in another way.
    Other {
        /// The canonical form.
        canonical: String,
        /// The first rule that the spelling breaks.
        rule: &'static str,
    },
}

/// Judges an origin-form path (without query).
///
/// # Errors
/// CC-01, CC-02, CC-03, CC-05 or CC-06 when the path has no canonical form.
pub fn path(bytes: &[u8]) -> Result<Path<'_>, NotCanonical> {
    if bytes.first() != Some(&b'/') {
        return Err(NotCanonical::bad("CC-01", "the path does not start with a slash"));
    }
    let mut slash = false;
    for &byte in bytes {
        let calm = match byte {
            b'/' | b'.' => !slash,
            b'%' | b';' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#' | b'\\' | b'?' => {
                false
            }
            0x21..=0x7e => true,
            _ => false,
        };
        if !calm {
            return rewrite(bytes);
        }
        slash = byte == b'/';
    }
    str::from_utf8(bytes)
        .map(Path::Canonical)
        .map_err(|_not_ascii| NotCanonical::bad("CC-02", "a byte outside visible ascii"))
}

/// The careful pass: refuses what has no canonical form, otherwise builds it and compares.
#[cold]
fn rewrite(bytes: &[u8]) -> Result<Path<'_>, NotCanonical> {
    let escaped = escape(bytes)?;
    let mut rule = if escaped.text.as_bytes() == bytes { None } else { Some(escaped.rule) };
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = escaped.text.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let odd = match segment {
            "" if last => {
                kept.push("");
                false
            }
            "" => true,
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
                true
            }
            _ => {
                kept.push(segment);
                false
            }
        };
        if odd {
            rule = rule.or(Some("CC-05"));
        }
    }
    // `/a//` and `/a/./` end in one slash, as `/a/` does.
    match rule {
        None => str::from_utf8(bytes)
            .map(Path::Canonical)
            .map_err(|_not_ascii| NotCanonical::bad("CC-02", "a byte outside visible ascii")),
        Some(rule) => Ok(Path::Other { canonical: format!("/{}", kept.join("/")), rule }),
    }
}

struct Escaped {
    text: String,
    rule: &'static str,
}

/// Percent-encoding in its one form: reserved bytes encoded, unreserved bytes plain, upper-case hex.
fn escape(bytes: &[u8]) -> Result<Escaped, NotCanonical> {
    let mut out = Escaped { text: String::with_capacity(bytes.len()), rule: "CC-02" };
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().copied();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let (Some(high), Some(low)) = (rest.next().and_then(hex), rest.next().and_then(hex)) else {
                    return Err(NotCanonical::bad("CC-03", "a malformed percent-encoding"));
                };
                let value = (high << 4) | low;
                match value {
                    0..=0x1f | 0x7f | b'/' | b'\\' => {
                        return Err(NotCanonical::bad("CC-03", "an encoded control, slash or backslash"));
                    }
                    _ if is_unreserved(value) => {
                        out.rule = "CC-04";
                        out.text.push(char::from(value));
                    }
                    _ => {
                        out.rule = "CC-04";
                        push_encoded(&mut out.text, value);
                    }
                }
                decoded.push(value);
            }
            b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                push_encoded(&mut out.text, byte);
                decoded.push(byte);
            }
            b'#' | b'\\' | b'?' => return Err(NotCanonical::bad("CC-02", "a byte that no path may have")),
            0x21..=0x7e => {
                out.text.push(char::from(byte));
                decoded.push(byte);
            }
            _ => return Err(NotCanonical::bad("CC-02", "a byte outside visible ascii")),
        }
    }
    if str::from_utf8(&decoded).is_err() {
        return Err(NotCanonical::bad("CC-03", "the decoded path is not utf-8"));
    }
    if out.text.contains(';') {
        let dots = out.text.split('/').any(|s| s.starts_with(".;") || s.starts_with("..;"));
        let rule = if dots { "CC-05" } else { "CC-06" };
        return Err(NotCanonical::bad(rule, "path parameters are not served"));
    }
    Ok(out)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn push_encoded(text: &mut String, byte: u8) {
    text.push('%');
    for nibble in [byte >> 4, byte & 15] {
        text.extend(char::from_digit(u32::from(nibble), 16).map(|c| c.to_ascii_uppercase()));
    }
}
