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

/// What a path has that stands for itself only where a route says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// `%2F` in a segment (CC-03).
    pub slash: bool,
    /// `;` in a segment (CC-06).
    pub params: bool,
}

impl Kept {
    /// Why a path with these cannot be where only `those` are kept.
    #[must_use]
    pub fn beyond(self, those: Self) -> Option<NotCanonical> {
        if self.slash && !those.slash {
            Some(NotCanonical::bad("CC-03", "an encoded control, slash or backslash"))
        } else if self.params && !those.params {
            Some(NotCanonical::bad("CC-06", "path parameters are not served"))
        } else {
            None
        }
    }
}

/// Judges an origin-form path (without query).
///
/// # Errors
/// CC-01, CC-02, CC-03, CC-05 or CC-06 when the path has no canonical form.
pub fn path(bytes: &[u8]) -> Result<Path<'_>, NotCanonical> {
    let (path, kept) = spelled(bytes)?;
    kept.beyond(Kept::default()).map_or(Ok(path), Err)
}

/// The same of a path that may have what some routes keep; a canonical one has it as it stands.
///
/// # Errors
/// CC-01, CC-02, CC-03 or CC-05 when the path has no canonical form on any route.
pub fn spelled(bytes: &[u8]) -> Result<(Path<'_>, Kept), NotCanonical> {
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
    same(bytes).map(|path| (path, Kept::default()))
}

fn same(bytes: &[u8]) -> Result<Path<'_>, NotCanonical> {
    str::from_utf8(bytes)
        .map(Path::Canonical)
        .map_err(|_not_ascii| NotCanonical::bad("CC-02", "a byte outside visible ascii"))
}

/// The careful pass: refuses what has no canonical form, otherwise builds it and compares.
#[cold]
fn rewrite(bytes: &[u8]) -> Result<(Path<'_>, Kept), NotCanonical> {
    let escaped = escape(bytes)?;
    no_dots_within(&escaped.text)?;
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
    let path = match rule {
        None => same(bytes)?,
        Some(rule) => Path::Other { canonical: format!("/{}", kept.join("/")), rule },
    };
    Ok((path, escaped.kept))
}

/// Whoever decodes `%2F`, or cuts parameters off, must find no dot segment that was none before: such are refused on
/// every route.
fn no_dots_within(text: &str) -> Result<(), NotCanonical> {
    for segment in text.split('/') {
        let mut parts = segment.split("%2F");
        if parts.clone().any(|part| part.starts_with(".;") || part.starts_with("..;")) {
            return Err(NotCanonical::bad("CC-05", "a dot segment with path parameters"));
        }
        if segment.contains("%2F") && parts.any(|part| part == "." || part == "..") {
            return Err(NotCanonical::bad("CC-05", "a dot segment beside an encoded slash"));
        }
    }
    Ok(())
}

struct Escaped {
    text: String,
    rule: &'static str,
    kept: Kept,
}

/// Percent-encoding in its one form: reserved bytes encoded, unreserved bytes plain, upper-case hex.
fn escape(bytes: &[u8]) -> Result<Escaped, NotCanonical> {
    let mut out = Escaped { text: String::with_capacity(bytes.len()), rule: "CC-02", kept: Kept::default() };
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
                    0..=0x1f | 0x7f | b'\\' => {
                        return Err(NotCanonical::bad("CC-03", "an encoded control, slash or backslash"));
                    }
                    b'/' => {
                        out.rule = "CC-04";
                        out.kept.slash = true;
                        push_encoded(&mut out.text, value);
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
    out.kept.params = out.text.contains(';');
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
