//! Checks the annotations of one policy (`policy.md` 3): reserved keys have reserved values, and what looks like a
//! reserved key but is not does not go live (VA5).

use super::finding::Text;
use crate::{Audit, Diagnostic, Effect, rule::Notes};
use base_ports::UnixTime;
use std::sync::Arc;

const RESERVED: [&str; 8] = ["id", "owner", "advice", "audit", "mode", "expires", "ticket", "severity"];
const ANNOTATIONS: usize = 32;
const ANNOTATION_BYTES: usize = 1024;
const ADVICE_CHARS: usize = 512;
const ID_CHARS: usize = 128;

/// One policy text under examination.
pub(crate) struct Subject<'a> {
    pub(crate) at: &'a Text<'a>,
    pub(crate) annotations: Vec<(&'a str, &'a str)>,
    pub(crate) effect: Effect,
}

impl Subject<'_> {
    /// The id and the reserved annotations; findings go to `found`. No id, no policy.
    pub(crate) fn read(&self, found: &mut Vec<Diagnostic>) -> Option<(Arc<str>, Notes)> {
        let before = found.len();
        let mut notes = Notes::default();
        let mut id = None;
        if self.annotations.len() > ANNOTATIONS {
            let message = format!("more than {ANNOTATIONS} annotations on one policy");
            found.push(self.at.effect("PC2010", message).help("keep what records and people need"));
        }
        for (key, value) in self.annotations.iter().copied() {
            if value.len() > ANNOTATION_BYTES {
                let message =
                    format!("annotation `@{key}` has {} bytes; at most {ANNOTATION_BYTES}", value.len());
                found.push(
                    self.at("PC2010", key, message)
                        .help("name a ticket or a page instead of telling it here"),
                );
            }
            match key {
                "id" => id = self.id(value, found),
                _ => found.extend(self.note(key, value, &mut notes)),
            }
        }
        if id.is_none() && found.len() == before {
            found.push(self.at.effect("PC2101", "this policy has no `@id`").label("needs an id above").help(
                "write `@id(\"a-short-name\")` in the line before; it names the policy in every record",
            ));
        }
        let id = id?;
        (found.len() == before).then_some((id, notes))
    }

    fn id(&self, value: &str, found: &mut Vec<Diagnostic>) -> Option<Arc<str>> {
        match policy_id(value) {
            Ok(()) => Some(value.into()),
            Err(message) => {
                found.push(self.at("PC2101", "id", message).help(ID_SHAPE));
                None
            }
        }
    }

    fn note(&self, key: &str, value: &str, notes: &mut Notes) -> Option<Diagnostic> {
        match key {
            "owner" if value.is_empty() => {
                let found = self.at("PC2007", key, "`@owner` is empty");
                return Some(found.help("name the team that answers for this policy: `@owner(\"team\")`"));
            }
            "owner" => notes.owner = Some(value.to_owned()),
            "ticket" => notes.ticket = Some(value.to_owned()),
            "advice" if value.chars().count() > ADVICE_CHARS || value.chars().any(char::is_control) => {
                let help = "advice is shown to callers: at most 512 characters, no control characters";
                return Some(self.at("PC2007", key, "this `@advice` cannot be shown").help(help));
            }
            "advice" => notes.advice = Some(value.to_owned()),
            "audit" => match Audit::from_word(value) {
                Some(audit) => notes.audit = Some(audit),
                None => return Some(self.unknown_value(key, value, &["durable", "required", "best_effort"])),
            },
            "mode" => match value {
                "shadow" => notes.is_shadow = true,
                "live" => notes.is_shadow = false,
                _ => return Some(self.unknown_value(key, value, &["live", "shadow"])),
            },
            "expires" if self.effect == Effect::Deny => {
                let found = self.at("PC2008", key, "a forbid cannot expire");
                return Some(found.help("time must not loosen what is allowed; remove `@expires`"));
            }
            "expires" => match UnixTime::parse_rfc3339(value) {
                Ok(expires) => notes.expires = Some(expires),
                Err(cause) => {
                    let found = self.at("PC2007", key, format!("`{value}` is not a time: {cause}"));
                    return Some(found.help("write it like `@expires(\"2027-01-31T00:00:00Z\")`"));
                }
            },
            key if RESERVED.contains(&key) => {}
            key => return self.near_miss(key),
        }
        None
    }

    fn unknown_value(&self, key: &str, value: &str, valid: &[&str]) -> Diagnostic {
        let list = valid.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let found = self.at("PC2007", key, format!("`{value}` is not a value of `@{key}`"));
        match nearest(value, valid) {
            Some(word) => found.label(format!("did you mean `{word}`?")),
            None => found,
        }
        .help(format!("values are {list}"))
    }

    fn near_miss(&self, key: &str) -> Option<Diagnostic> {
        let reserved = nearest(key, &RESERVED)?;
        let found = self.at("PC2007", key, format!("unknown annotation `@{key}`"));
        Some(found.label(format!("did you mean `@{reserved}`?")).help(format!(
            "`@{reserved}` is reserved; a name this close to it is refused so that a typing error does not go live"
        )))
    }

    /// At the annotation of that name.
    fn at(&self, code: &'static str, key: &str, message: impl Into<String>) -> Diagnostic {
        let chunk = self.at.chunk;
        let place = chunk.annotations.iter().find(|(name, _)| name == key);
        let start = place.map_or(chunk.effect_at, |(_, start)| *start);
        self.at.at(code, start, key.len() + 1, message)
    }
}

const ID_SHAPE: &str = "an id has 1 to 128 of a-z, 0-9, `.`, `_`, `-` and starts with a letter or digit";

/// Whether that can be the id of a policy (VA4).
pub(crate) fn policy_id(value: &str) -> Result<(), String> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_valid = value.starts_with(is_word)
        && value.len() <= ID_CHARS
        && value.chars().all(|c| is_word(c) || matches!(c, '.' | '_' | '-'));
    match value {
        _ if is_valid => Ok(()),
        "" => Err("`@id` has no value".to_owned()),
        _ => Err(format!("`{value}` is not a policy id")),
    }
}

/// The word within edit distance 2, unless every letter of it would have to change.
fn nearest<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    let near = words.iter().map(|known| (strsim::levenshtein(word, known), *known));
    near.filter(|(distance, known)| *distance <= 2 && *distance < known.len()).min().map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn va5_what_is_near_is_found_and_what_is_short_is_left_alone() {
        assert_eq!(nearest("moed", &super::RESERVED), Some("mode"));
        assert_eq!(nearest("expire", &super::RESERVED), Some("expires"));
        assert_eq!(nearest("Id", &super::RESERVED), Some("id"));
        assert_eq!(nearest("by", &super::RESERVED), None);
        assert_eq!(nearest("team", &super::RESERVED), None);
    }
}
