//! What people write, by name: the files of one version of policies.
//!
//! Directories, changes, `pull`, history and blame all speak of these; what is shipped with the product is not among
//! them, unless a version replaces one of the shipped policy files.

use crate::content::Hash;
use aws_lc_rs::digest::{Context, SHA256};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

/// Where files stand that replace shipped ones.
pub(crate) const BASELINE: &str = "baseline/";
pub(crate) const ENTITIES: &str = "entities.json";
pub(crate) const SITE: &str = "site.cedarschema";
const LONGEST_NAME: usize = 255;

/// Texts by name, relative to the directory of policies: `orders.cedar`, `baseline/roles.cedar`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    texts: BTreeMap<String, Arc<str>>,
    /// Of the texts, once somebody asked.
    hash: OnceLock<Hash>,
}

impl PartialEq for Files {
    fn eq(&self, other: &Files) -> bool {
        self.texts == other.texts
    }
}

/// What a file is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// `orders.cedar`.
    Policy,
    /// `baseline/roles.cedar`, in place of the shipped file of that name.
    Baseline,
    /// `orders.links.json`: links of templates.
    Links,
    /// `site.cedarschema`, in place of the shipped part 2, or a fragment of a team.
    Schema,
    /// `entities.json`.
    Entities,
    /// `orders_test.json`.
    Cases,
    /// Another `*.json`, for cases to name.
    Facts,
}

impl FileKind {
    /// What a file of that name is; none when it has no place among policies.
    pub(crate) fn of(name: &str) -> Option<FileKind> {
        let is_clean = !name.contains(|c: char| c.is_control() || c == '/' || c == '\\');
        if let Some(name) = name.strip_prefix(BASELINE) {
            return (FileKind::of(name)? == FileKind::Policy).then_some(FileKind::Baseline);
        }
        if name.starts_with('.') || name.len() > LONGEST_NAME || !is_clean {
            return None;
        }
        let is = |ending: &str| name.len() > ending.len() && name.ends_with(ending);
        match name {
            ENTITIES => Some(FileKind::Entities),
            _ if is(".links.json") => Some(FileKind::Links),
            _ if is("_test.json") => Some(FileKind::Cases),
            _ if is(".json") => Some(FileKind::Facts),
            _ if is(".cedarschema") => Some(FileKind::Schema),
            _ if is(".cedar") => Some(FileKind::Policy),
            _ => None,
        }
    }
}

impl Files {
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<str>> {
        self.texts.get(name)
    }

    pub(crate) fn insert(&mut self, name: impl Into<String>, text: impl Into<Arc<str>>) {
        self.hash.take();
        self.texts.insert(name.into(), text.into());
    }

    /// Every file, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Arc<str>)> {
        self.texts.iter().map(|(name, text)| (name.as_str(), text))
    }

    /// Every file of a kind, by name.
    pub(crate) fn of(&self, kind: FileKind) -> impl Iterator<Item = (&str, &Arc<str>)> {
        self.iter().filter(move |(name, _)| FileKind::of(name) == Some(kind))
    }

    /// These files after `edits`; `None` takes a file away.
    pub(crate) fn edited<'a>(&self, edits: impl IntoIterator<Item = (&'a str, Option<Arc<str>>)>) -> Files {
        let mut files = self.clone();
        for (name, text) in edits {
            match text {
                Some(text) => files.insert(name, text),
                None => {
                    files.hash.take();
                    files.texts.remove(name);
                }
            }
        }
        files
    }

    /// Names whose text is another one, or on one side only.
    pub(crate) fn differing<'a>(&'a self, other: &'a Files) -> impl Iterator<Item = &'a str> {
        let gone = other.texts.keys().filter(|name| !self.texts.contains_key(*name));
        let changed = self.texts.iter().filter(|(name, text)| other.texts.get(*name) != Some(text));
        changed.map(|(name, _)| name).chain(gone).map(String::as_str)
    }

    /// SHA-256 over names and texts.
    pub(crate) fn hash(&self) -> Hash {
        *self.hash.get_or_init(|| {
            let mut context = Context::new(&SHA256);
            context.update(b"portcullis-files/1\n");
            for (name, text) in &self.texts {
                context.update(format!("{}\n{name}\n{}\n", name.len(), text.len()).as_bytes());
                context.update(text.as_bytes());
            }
            Hash::finish(context.finish().as_ref())
        })
    }
}

impl FromIterator<(String, Arc<str>)> for Files {
    fn from_iter<T: IntoIterator<Item = (String, Arc<str>)>>(files: T) -> Files {
        Files { texts: files.into_iter().collect(), hash: OnceLock::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn files(all: &[(&str, &str)]) -> Files {
        all.iter().map(|(name, text)| ((*name).to_owned(), Arc::from(*text))).collect()
    }

    #[test]
    fn a_name_says_what_a_file_is_and_no_name_leads_out() {
        let kinds = [
            ("orders.cedar", FileKind::Policy),
            ("baseline/roles.cedar", FileKind::Baseline),
            ("orders.links.json", FileKind::Links),
            ("site.cedarschema", FileKind::Schema),
            ("entities.json", FileKind::Entities),
            ("orders_test.json", FileKind::Cases),
            ("more.json", FileKind::Facts),
        ];
        for (name, kind) in kinds {
            assert_eq!(FileKind::of(name), Some(kind), "{name}");
        }
        for bad in [
            "",
            ".cedar",
            "x",
            "../a.cedar",
            "/a.cedar",
            "a/b.cedar",
            "baseline/a_test.json",
            "baseline/baseline/a.cedar",
            "baseline/../a.cedar",
            ".hidden.cedar",
            "a\n.cedar",
            "a\\b.cedar",
            &format!("{}.cedar", "x".repeat(LONGEST_NAME)),
        ] {
            assert_eq!(FileKind::of(bad), None, "{bad}");
        }
    }

    #[test]
    fn edits_add_replace_and_take_away() {
        let base = files(&[("a.cedar", "1"), ("b.cedar", "2")]);
        let next =
            base.edited([("a.cedar", None), ("b.cedar", Some("3".into())), ("c.cedar", Some("4".into()))]);
        assert_eq!(next, files(&[("b.cedar", "3"), ("c.cedar", "4")]));
        assert_eq!(next.differing(&base).collect::<Vec<_>>(), ["b.cedar", "c.cedar", "a.cedar"]);
    }

    proptest! {
        #[test]
        fn two_sets_of_files_hash_alike_only_when_they_are_the_same(
            one in prop::collection::btree_map("[ab\n0-9]{1,3}", "[ab\n0-9]{0,3}", 0..3),
            two in prop::collection::btree_map("[ab\n0-9]{1,3}", "[ab\n0-9]{0,3}", 0..3),
        ) {
            let of = |all: &BTreeMap<String, String>| -> Files {
                all.iter().map(|(name, text)| (name.clone(), Arc::from(text.as_str()))).collect()
            };
            prop_assert_eq!(of(&one).hash() == of(&two).hash(), one == two);
        }
    }
}
