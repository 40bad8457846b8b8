//! A selector, `type:key:value`: one attested fact about a workload or a node that an entry asks for (EN-03).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Attestors of this product. An unknown type in an entry would silently match nothing, so it is refused.
const TYPES: [&str; 5] = ["unix", "systemd", "x509pop", "k8s_psat", "oidc"];
/// Keys of the unix attestor (WL-04).
const UNIX_KEYS: [&str; 8] =
    ["uid", "user", "gid", "group", "supplementary_gid", "supplementary_group", "path", "sha256"];
const LIMIT: usize = 1024;

/// One attested fact, such as `unix:uid:1000`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector(Arc<str>);

/// Why a text is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Not of the form `type:key:value` with three non-empty parts.
    #[error("selector `{0}` is not of the form type:key:value")]
    Form(String),
    /// No attestor makes selectors of this type.
    #[error("selector type `{found}` is unknown; did you mean `{near}`?")]
    Type {
        /// The type as written.
        found: String,
        /// The nearest type that exists.
        near: &'static str,
    },
    /// The unix attestor has no such key.
    #[error("selector key `unix:{found}` is unknown; did you mean `unix:{near}`?")]
    Key {
        /// The key as written.
        found: String,
        /// The nearest key that exists.
        near: &'static str,
    },
    /// Longer than 1 KiB.
    #[error("selector is longer than {LIMIT} bytes")]
    TooLong,
    /// A control byte.
    #[error("selector holds a control character")]
    Control,
}

impl Selector {
    /// Parses `type:key:value`; the value may hold further colons.
    ///
    /// # Errors
    /// Names the broken rule, and for an unknown type or unix key the nearest known one.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > LIMIT {
            return Err(SelectorError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(SelectorError::Control);
        }
        let form = || SelectorError::Form(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(form)?;
        let (key, value) = rest.split_once(':').ok_or_else(form)?;
        if kind.is_empty() || key.is_empty() || value.is_empty() {
            return Err(form());
        }
        if !TYPES.contains(&kind) {
            return Err(SelectorError::Type { found: kind.to_owned(), near: nearest(kind, &TYPES) });
        }
        if kind == "unix" && !UNIX_KEYS.contains(&key) {
            return Err(SelectorError::Key { found: key.to_owned(), near: nearest(key, &UNIX_KEYS) });
        }
        Ok(Self(Arc::from(text)))
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The attestor that makes it: the part before the first colon.
    pub fn kind(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }
}

/// The candidate with the smallest edit distance; the first wins a tie.
fn nearest(found: &str, candidates: &[&'static str]) -> &'static str {
    candidates.iter().copied().min_by_key(|candidate| distance(found, candidate)).unwrap_or_default()
}

/// Levenshtein distance over bytes, one row at a time.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, l) in left.bytes().enumerate() {
        let mut diagonal = above;
        let mut previous = above.saturating_add(1);
        let mut next = vec![previous];
        for (r, up) in right.bytes().zip(row.iter().skip(1)) {
            let substituted = diagonal.saturating_add(usize::from(l != r));
            previous = substituted.min(previous.saturating_add(1)).min(up.saturating_add(1));
            diagonal = *up;
            next.push(previous);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({})", self.0)
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn en_03_selectors_of_known_attestors_parse_and_keep_colons_in_the_value() {
        for text in ["unix:uid:1000", "unix:path:/usr/bin/a:b", "x509pop:subject:cn:node1"] {
            assert_eq!(Selector::parse(text).unwrap().as_str(), text);
        }
        assert_eq!(Selector::parse("unix:uid:0").unwrap().kind(), "unix");
    }

    #[test]
    fn en_03_an_unknown_type_or_key_names_the_nearest() {
        assert!(matches!(Selector::parse("unx:uid:1"), Err(SelectorError::Type { near: "unix", .. })));
        assert!(matches!(Selector::parse("unix:udi:1"), Err(SelectorError::Key { near: "uid", .. })));
    }

    #[test]
    fn en_03_malformed_selectors_are_refused() {
        for text in ["", "unix", "unix:uid", "unix:uid:", "unix::1", ":uid:1"] {
            assert!(matches!(Selector::parse(text), Err(SelectorError::Form(_))), "{text}");
        }
        assert_eq!(Selector::parse("unix:path:/a\nb"), Err(SelectorError::Control));
        let long = format!("unix:path:/{}", "a".repeat(LIMIT));
        assert_eq!(Selector::parse(&long), Err(SelectorError::TooLong));
        assert!(Selector::parse(long.get(..LIMIT).unwrap()).is_ok());
    }

    #[test]
    fn the_edit_distance_counts_substitutions_insertions_and_removals() {
        assert_eq!(distance("uid", "uid"), 0);
        assert_eq!(distance("udi", "uid"), 2);
        assert_eq!(distance("", "uid"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
