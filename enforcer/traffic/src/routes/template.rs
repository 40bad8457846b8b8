//! Paths with named segments: `/users/{id}`. A template takes paths of exactly its number of segments.

use std::fmt;
use std::sync::Arc;

use enforcer_codec::canonical::{self, Path};
use percent_encoding::percent_decode_str;

/// A parsed template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    segments: Box<[Segment]>,
}

/// One segment of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(Box<str>),
    /// Any segment that is not empty.
    Param(Arc<str>),
}

/// The values of named segments, decoded, in the order of the path.
pub type Params = Vec<(Arc<str>, Box<str>)>;

impl Template {
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix('/').ok_or("it does not begin with /")?;
        let mut segments: Vec<Segment> = Vec::new();
        let mut literals = String::new();
        for segment in rest.split('/') {
            literals.push('/');
            let inner = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
            let parsed = match inner {
                Some(name) if !is_name(name) => {
                    return Err(format!("`{name}` is no name of a segment; use a-z, 0-9 and _"));
                }
                Some(name) => Segment::Param(name.into()),
                None if segment.contains(['{', '}']) => {
                    return Err(format!("`{segment}`: braces enclose a whole segment"));
                }
                None => Segment::Literal(segment.into()),
            };
            if let Segment::Param(name) = &parsed
                && segments.iter().any(|known| matches!(known, Segment::Param(known) if known == name))
            {
                return Err(format!("`{{{name}}}` stands there twice"));
            }
            literals.push_str(if inner.is_some() { "x" } else { segment });
            segments.push(parsed);
        }
        match canonical::path(literals.as_bytes()) {
            Ok(Path::Canonical(_)) => Ok(Self { segments: segments.into() }),
            Ok(Path::Other { rule, .. }) => Err(format!("it is not canonical ({rule})")),
            Err(flaw) => Err(flaw.to_string()),
        }
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Names of its segments.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Param(name) => Some(name),
            Segment::Literal(_) => None,
        })
    }

    pub(super) fn literals(&self) -> usize {
        self.segments.iter().filter(|segment| matches!(segment, Segment::Literal(_))).count()
    }

    /// Whether it takes that canonical path.
    pub fn matches(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix('/') else { return false };
        let mut found = rest.split('/');
        self.segments.iter().all(|segment| match (segment, found.next()) {
            (Segment::Literal(literal), Some(found)) => **literal == *found,
            (Segment::Param(_), Some(found)) => !found.is_empty(),
            (_, None) => false,
        }) && found.next().is_none()
    }

    /// This template with the segments that `from` names in a path that it takes, as they are spelled there.
    pub fn filled(&self, from: &Self, path: &str) -> String {
        let segments = || path.strip_prefix('/').unwrap_or_default().split('/');
        let named = |name: &Arc<str>| {
            let same = |known: &&Segment| matches!(known, Segment::Param(known) if known == name);
            from.segments.iter().zip(segments()).find(|(known, _)| same(known)).map(|(_, found)| found)
        };
        let mut filled = String::with_capacity(path.len());
        for segment in &self.segments {
            filled.push('/');
            filled.push_str(match segment {
                Segment::Literal(literal) => literal,
                Segment::Param(name) => named(name).unwrap_or_default(),
            });
        }
        filled
    }

    /// One named segment of a path that it takes.
    pub fn param(&self, path: &str, name: &str) -> Option<Box<str>> {
        let mut found = self.segments.iter().zip(path.strip_prefix('/').unwrap_or_default().split('/'));
        found.find_map(|(segment, found)| match segment {
            Segment::Param(known) if **known == *name => Some(decoded(found)),
            _ => None,
        })
    }

    /// The named segments of a path that it takes.
    pub fn params(&self, path: &str) -> Params {
        let found = path.strip_prefix('/').unwrap_or_default().split('/');
        let named = self.segments.iter().zip(found).filter_map(|(segment, found)| match segment {
            Segment::Param(name) => Some((Arc::clone(name), decoded(found))),
            Segment::Literal(_) => None,
        });
        named.collect()
    }
}

/// A canonical path holds UTF-8 only, so nothing is lost.
fn decoded(segment: &str) -> Box<str> {
    percent_decode_str(segment).decode_utf8_lossy().into()
}

/// Whether a segment can have that name.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Literal(literal) => write!(f, "/{literal}"),
            Segment::Param(name) => write!(f, "/{{{name}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rt_01_a_template_names_whole_segments() {
        let template = Template::parse("/users/{id}/orders/{order_2}").unwrap();
        assert_eq!(template.to_string(), "/users/{id}/orders/{order_2}");
        let params = template.params("/users/a%20b/orders/%C3%A9");
        let params: Vec<_> = params.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(params, [("id", "a b"), ("order_2", "é")]);
        let param = |name: &str| template.param("/users/a%20b/orders/%C3%A9", name);
        assert_eq!((param("order_2").as_deref(), param("users")), (Some("é"), None));
        for (path, is_match) in [
            ("/users/1/orders/2", true),
            ("/users//orders/2", false),
            ("/users/1/orders/", false),
            ("/users/1/orders/2/", false),
            ("/users/1/orders", false),
            ("/Users/1/orders/2", false),
            ("users/1/orders/2", false),
            ("*", false),
        ] {
            assert_eq!(template.matches(path), is_match, "{path}");
        }
        assert!(Template::parse("/a/{x}/").unwrap().matches("/a/b/"));
    }

    #[test]
    fn rt_01_a_template_that_is_none_says_why() {
        for (text, cause) in [
            ("users/{id}", "does not begin"),
            ("/{}", "is no name"),
            ("/{Id}", "is no name"),
            ("/a{id}", "whole segment"),
            ("/{id", "whole segment"),
            ("/{a}/{a}", "twice"),
            ("/{a}/../b", "CC-05"),
            ("/{a}//b", "CC-05"),
            ("/{a}/%41", "CC-04"),
            ("/{a}/b;c", "CC-06"),
            ("/{a}/ b", "CC-02"),
        ] {
            let found = Template::parse(text).unwrap_err();
            assert!(found.contains(cause), "{text}: {found}");
        }
    }
}
