//! Changes of header fields that a route declares: set, add, remove; never what frames, routes or is the proxy's own.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::headers::{Class, hyphenated, is_value};

/// Checked changes. Removed comes first, then set, then added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldEdits {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldEdit {
    /// In place of every field of that name.
    Set(String),
    /// Beside the fields of that name.
    Add(String),
    /// No field of that name.
    Remove,
}

impl FieldEdits {
    /// True when nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Adds a change of the field of that lower-case name.
    ///
    /// # Errors
    /// When nobody but the proxy itself may touch it, or name or value is none.
    pub fn push(&mut self, name: &str, edit: &FieldEdit) -> Result<(), String> {
        let key = HeaderName::from_lowercase(name.as_bytes())
            .map_err(|_odd| format!("`{name}` is no lower-case name of a header"))?;
        // A name with `_` is judged by its twin, as a parser does (H1-27).
        let class = Class::of(&hyphenated(name.as_bytes()));
        if !matches!(class, Class::Plain | Class::Single(_)) || name.starts_with("grpc-") {
            return Err(format!("`{name}` is framing, hop-by-hop or reserved, and no route may touch it"));
        }
        let value = |text: &str| match HeaderValue::from_str(text) {
            Ok(value) if is_value(text.as_bytes()) && text.trim() == text => Ok(value),
            _ => Err(format!("`{text}` is no value of a header")),
        };
        match edit {
            FieldEdit::Set(text) => self.set.push((key, value(text)?)),
            FieldEdit::Add(text) => self.add.push((key, value(text)?)),
            FieldEdit::Remove => self.remove.push(key),
        }
        Ok(())
    }

    /// The fields that an answer without fields of its own gets.
    pub fn added(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.set.iter().chain(&self.add).map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    pub(crate) fn apply(&self, map: &mut HeaderMap) {
        for name in &self.remove {
            map.remove(name);
        }
        for (name, value) in &self.set {
            map.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            map.append(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rt_04_no_route_touches_framing_hop_by_hop_or_reserved_fields() {
        let mut edits = FieldEdits::default();
        for name in [
            "content-length",
            "transfer-encoding",
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "upgrade",
            "host",
            "expect",
            "content-type",
            "portcullis-peer",
            "portcullis_peer",
            "x-forwarded-for",
            "x-envoy-a",
            "forwarded",
            "x-real-ip",
            "grpc-status",
            "grpc-timeout",
            "sec-websocket-key",
            "http2-settings",
            "proxy-connection",
            "content_length",
            "X-Upper",
            "a b",
            "",
        ] {
            for edit in [FieldEdit::Set("1".into()), FieldEdit::Add("1".into()), FieldEdit::Remove] {
                assert!(edits.push(name, &edit).is_err(), "{name}");
            }
        }
        for value in ["a\nb", "a\0", " a", "a\t", "é\u{7f}"] {
            assert!(edits.push("x-a", &FieldEdit::Set(value.into())).is_err(), "{value:?}");
        }
        assert!(edits.is_empty());
    }

    #[test]
    fn rt_04_fields_are_removed_then_set_then_added() {
        let mut edits = FieldEdits::default();
        for (name, edit) in [
            ("x-a", FieldEdit::Add("3".into())),
            ("x-a", FieldEdit::Set("2".into())),
            ("x-b", FieldEdit::Remove),
            ("authorization", FieldEdit::Set("Bearer t".into())),
        ] {
            edits.push(name, &edit).unwrap();
        }
        let mut map = HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-a", "0"), ("x-b", "1"), ("x-c", "1")] {
            map.append(name, HeaderValue::from_static(value));
        }
        edits.apply(&mut map);
        let all =
            |name: &str| map.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!((all("x-a"), all("x-b"), all("x-c")), (vec!["2", "3"], vec![], vec!["1"]));
        assert_eq!(all("authorization"), ["Bearer t"]);
    }
}
