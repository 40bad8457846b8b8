//! Refuses entity ids that only look like what they are: not in Unicode's composed form (NFC), or with characters that
//! turn text around or cannot be seen (VA2). Such an id never equals the one that people read. Called per policy.

use super::text::Chunk;
use crate::{Diagnostic, PolicySource};
use cedar_policy::EntityUid;
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// What is wrong with the first entity id that cannot be used.
pub(crate) fn unfit<'a>(
    source: &PolicySource,
    chunk: &Chunk,
    literals: impl IntoIterator<Item = &'a EntityUid>,
) -> Option<Diagnostic> {
    literals.into_iter().find_map(|uid| {
        let id: &str = uid.id().as_ref();
        let (message, help) = unfit_id(id)?;
        let start = source.text.get(chunk.range.clone()).and_then(|text| text.find(id));
        let (start, length) = match start {
            Some(at) => (chunk.range.start + at, id.len()),
            None => (chunk.effect_at, "permit".len()),
        };
        let found = Diagnostic::at("PC2121", &source.file, &source.text, start, length, message);
        Some(found.label("in this id").help(help))
    })
}

/// Why an entity id cannot be used, and what to do.
pub(crate) fn unfit_id(id: &str) -> Option<(String, String)> {
    if id.is_ascii() {
        return None;
    }
    match id.chars().find(|c| is_hidden(*c)) {
        Some(c) => Some((
            format!("`{}` holds the invisible character U+{:04X}", shown(id), u32::from(c)),
            "it looks like another id on a screen; remove the character".to_owned(),
        )),
        None if !is_nfc(id) => Some((
            format!("`{}` is not in Unicode's composed form (NFC)", shown(id)),
            format!("it never equals `{}`, which looks the same; write that", id.nfc().collect::<String>()),
        )),
        None => None,
    }
}

/// Characters that turn the direction of text, or take no room.
pub(crate) fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{ad}')
}

/// With every character that is not ASCII as its number.
fn shown(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::text::chunks;
    use cedar_policy::Policy;

    fn unfit_of(id: &str) -> Option<Diagnostic> {
        let text = format!("permit (principal == Group::\"{id}\", action, resource);");
        let policy = Policy::parse(None, &text).unwrap();
        let source = PolicySource::new("a.cedar", text);
        let chunk = chunks(&source.text).remove(0);
        unfit(&source, &chunk, &policy.entity_literals())
    }

    #[test]
    fn va2_ids_are_composed_and_have_nothing_hidden() {
        assert_eq!(unfit_of("caf\u{e9}"), None);
        assert_eq!(unfit_of("plain"), None);
        let found = unfit_of("cafe\u{301}").unwrap();
        assert_eq!((found.column, found.length, found.code), (30, 5, "PC2121"));
        assert!(found.help.unwrap().contains("`caf\u{e9}`"));
        let found = unfit_of("ad\u{202e}nim").unwrap();
        assert_eq!(found.message, "`ad\\u{202e}nim` holds the invisible character U+202E");
        assert!(unfit_of("ad\u{200b}min").is_some());
    }
}
