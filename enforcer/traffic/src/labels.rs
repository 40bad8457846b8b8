//! Labels of endpoints, and the subsets of a cluster that they make (LB-14).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::EndpointSpec;

/// What is said of an endpoint, or asked of one: `version=2`, `stage=canary`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<Arc<str>, Arc<str>>);

impl Labels {
    /// Reads `KEY=VALUE` words. Both are of ASCII letters, digits, `.`, `_`, `-` and `/`, and a key comes once.
    ///
    /// # Errors
    /// The first word that is no label.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let is_plain = |text: &str| {
            (1..=128).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte))
        };
        let mut labels = BTreeMap::new();
        for word in words {
            let (key, value) = word.split_once('=').ok_or(word)?;
            let is_new =
                is_plain(key) && is_plain(value) && labels.insert(key.into(), value.into()).is_none();
            if !is_new {
                return Err(word);
            }
        }
        Ok(Self(labels))
    }

    /// No label at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of `asked` are among these.
    #[must_use]
    pub fn have(&self, asked: &Self) -> bool {
        asked.0.iter().all(|(key, value)| self.0.get(key) == Some(value))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, (key, value)) in self.0.iter().enumerate() {
            write!(f, "{}{key}={value}", if nth == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Which endpoints take the calls of a subset that has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Fallback {
    /// None.
    #[default]
    None,
    /// All of the cluster.
    Any,
    /// Those of another subset.
    Default(Labels),
}

impl Fallback {
    /// The places of the endpoints that take calls for `subset`; asking for nothing asks for all.
    #[must_use]
    pub fn places(&self, subset: &Labels, endpoints: &[EndpointSpec]) -> Vec<usize> {
        let of = |subset: &Labels| -> Vec<usize> {
            let labelled = endpoints.iter().enumerate().filter(|(_, endpoint)| endpoint.labels.have(subset));
            labelled.map(|(place, _)| place).collect()
        };
        match (of(subset), self) {
            (found, Self::None) => found,
            (found, _) if !found.is_empty() => found,
            (_, Self::Any) => of(&Labels::default()),
            (_, Self::Default(subset)) => of(subset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UpstreamProtocol;
    use proptest::prelude::*;

    fn labels(text: &str) -> Labels {
        Labels::parse(text.split(' ').filter(|word| !word.is_empty())).unwrap()
    }

    fn endpoints(all: &[String]) -> Vec<EndpointSpec> {
        let new = |labels_of: &String| EndpointSpec {
            labels: labels(labels_of),
            ..EndpointSpec::new(UpstreamProtocol::Http1, std::net::SocketAddr::from(([10, 0, 0, 1], 80)))
        };
        all.iter().map(new).collect()
    }

    #[test]
    fn lb_14_a_label_is_a_key_and_a_value_and_a_key_comes_once() {
        assert_eq!(labels("stage=canary version=2").to_string(), "stage=canary, version=2");
        let long = format!("a={}", "x".repeat(129));
        for wrong in ["version", "=2", "version=", "ver sion=2", "version=2=3", "v\u{e9}r=2", &long] {
            assert_eq!(Labels::parse([wrong]), Err(wrong));
        }
        assert_eq!(Labels::parse(["a=1", "a=1"]), Err("a=1"));
    }

    #[test]
    fn lb_14_a_subset_without_endpoints_falls_back_as_the_cluster_says() {
        let all = endpoints(&["version=1".into(), "version=2 stage=canary".into(), "version=2".into()]);
        let places = |fallback: &Fallback, subset: &str| fallback.places(&labels(subset), &all);
        assert_eq!(places(&Fallback::None, "version=2"), [1, 2]);
        assert_eq!(places(&Fallback::None, "version=2 stage=canary"), [1]);
        assert_eq!(places(&Fallback::None, ""), [0, 1, 2]);
        assert_eq!(places(&Fallback::None, "version=3"), [0; 0]);
        assert_eq!(places(&Fallback::Any, "version=3"), [0, 1, 2]);
        assert_eq!(places(&Fallback::Default(labels("version=1")), "version=3"), [0]);
        assert_eq!(places(&Fallback::Default(labels("version=4")), "version=3"), [0; 0]);
    }

    proptest! {
        #[test]
        fn lb_14_a_subset_is_exactly_the_endpoints_that_have_all_its_labels(
            all in proptest::collection::vec("(a=[12] )?(b=[12] )?(c=[12])?", 0..12),
            asked in "(a=[12] )?(b=[12] )?(c=[12])?",
        ) {
            let (all, asked) = (endpoints(&all), labels(&asked));
            let words = asked.to_string();
            let has = |endpoint: &EndpointSpec| {
                let text = format!(", {}, ", endpoint.labels);
                words.split(", ").all(|word| word.is_empty() || text.contains(&format!(", {word}, ")))
            };
            let expected: Vec<_> = (0..all.len()).filter(|place| has(&all[*place])).collect();
            prop_assert_eq!(&Fallback::None.places(&asked, &all), &expected);
            let any = Fallback::Any.places(&asked, &all);
            prop_assert_eq!(any.len(), if expected.is_empty() { all.len() } else { expected.len() });
        }
    }
}
