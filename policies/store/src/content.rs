//! Everything one snapshot is made of, as values and as content-addressed objects (ST1).

use crate::{
    files::{BASELINE, ENTITIES, FileKind, Files, SITE},
    outside::Outside,
    registry,
    rules::{Rules, Shipped},
};
use aws_lc_rs::digest::{Context, SHA256, digest};
use policies_engine::{Diagnostic, EntitySet, Numbers, PolicySource, SchemaText, SnapshotInput};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{fmt, sync::Arc};

/// Rules, entities and routes that judge together (MO9).
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) rules: Rules,
    pub(crate) entities: Arc<EntitySet>,
    pub(crate) routes: Hash,
}

/// SHA-256; hexadecimal in text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Hash(pub(crate) [u8; 32]);

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A policy file; its id is its name.
    Policy,
    /// `core` or the file name of part 2.
    Schema,
    /// What configuration and registration tell, in parts (`registry`, `registry/..`), or `entities.json`.
    Entities,
    /// A file of cases, or a file that cases name.
    Tests,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Kind::Policy => "policy",
            Kind::Schema => "schema",
            Kind::Entities => "entities",
            Kind::Tests => "tests",
        }
    }
}

/// An object as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reference {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) sha256: Hash,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) baseline: bool,
}

/// An object with its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) reference: Reference,
    pub(crate) bytes: Vec<u8>,
}

const CORE: &str = "core";

impl Reference {
    /// Told by configuration and registration, not written by people: no version of policies.
    pub(crate) fn is_told(&self) -> bool {
        self.kind == Kind::Entities && registry::is_part(&self.id)
    }
}

impl Content {
    /// For the compiler. Entities of the file come after those we were told.
    pub(crate) fn input(&self, numbers: Numbers) -> SnapshotInput {
        let mut entities = Arc::clone(&self.entities);
        if let Some(written) = self.rules.extra.clone() {
            let all = Arc::make_mut(&mut entities);
            all.extra = match (all.extra.take(), &*written) {
                (Some(Value::Array(mut told)), Value::Array(written)) => {
                    told.extend(written.iter().cloned());
                    Some(Value::Array(told))
                }
                (_, written) => Some(written.clone()),
            };
        }
        SnapshotInput {
            numbers,
            schema: self.rules.schema(),
            policies: self.rules.policies().collect(),
            entities,
            routes_digest: self.routes.0,
        }
    }

    /// For the archive: policies in their order, then schema, entities, cases.
    pub(crate) fn objects(&self) -> Result<Vec<Object>, serde_json::Error> {
        let Content { rules, entities, .. } = self;
        let policy = |source: PolicySource| {
            let mut object = Object::new(Kind::Policy, &source.file, source.text.as_bytes().to_vec());
            object.reference.baseline = source.is_baseline;
            object
        };
        let mut objects: Vec<Object> = rules.policies().map(policy).collect();
        let schema = rules.schema();
        objects.push(Object::new(Kind::Schema, CORE, schema.core.as_bytes().to_vec()));
        objects.push(Object::new(Kind::Schema, &schema.site_file, schema.site.as_bytes().to_vec()));
        for team in &schema.teams {
            objects.push(Object::new(Kind::Schema, &team.file, team.text.as_bytes().to_vec()));
        }
        for (id, bytes) in registry::parts(entities)? {
            objects.push(Object::new(Kind::Entities, &id, bytes));
        }
        if let Some(text) = rules.files.get(ENTITIES) {
            objects.push(Object::new(Kind::Entities, ENTITIES, text.as_bytes().to_vec()));
        }
        for kind in [FileKind::Cases, FileKind::Facts] {
            let tests = rules.files.of(kind);
            objects.extend(
                tests.map(|(name, text)| {
                    Object::new(Kind::Tests, &rules.shown(name), text.as_bytes().to_vec())
                }),
            );
        }
        Ok(objects)
    }

    /// From the archive.
    pub(crate) fn from_objects<'a>(
        objects: impl IntoIterator<Item = (&'a Reference, Arc<str>)>,
        routes: Hash,
    ) -> Result<Content, String> {
        let mut files = Files::default();
        let mut shipped = Shipped { policies: Vec::new(), schema: SchemaText::default() };
        let mut has_site = false;
        let (mut prefix, mut told) = (None, registry::Parts::default());
        for (Reference { kind, id, baseline, .. }, text) in objects {
            let mut keep = |text| {
                let (before, name) = name_of(id);
                prefix.get_or_insert_with(|| before.to_owned());
                files.insert(name, text);
            };
            match (kind, id.as_str()) {
                (Kind::Policy, file) if *baseline && file.starts_with(BASELINE) => {
                    shipped
                        .policies
                        .push(PolicySource { is_baseline: true, ..PolicySource::new(file, text) });
                }
                (Kind::Policy, file) => {
                    if *baseline {
                        shipped.policies.push(Shipped::replaced(name_of(file).1));
                    }
                    keep(text);
                }
                (Kind::Tests, _) => keep(text),
                (Kind::Schema, CORE) => shipped.schema.core = text,
                (Kind::Schema, SITE) => {
                    shipped.schema.site = text;
                    has_site = true;
                }
                // Part 2 stands before the fragments of teams; the first builds gave it any name.
                (Kind::Schema, _) if !has_site => {
                    files.insert(SITE, text);
                    has_site = true;
                }
                (Kind::Schema, _) => keep(text),
                (Kind::Entities, ENTITIES) => files.insert(ENTITIES, text),
                (Kind::Entities, part) => told.read(part, text.as_bytes())?,
            }
        }
        let first = |found: Vec<Diagnostic>| found.first().map(ToString::to_string).unwrap_or_default();
        let rules =
            Rules::new(files, Arc::new(shipped), prefix.as_deref(), Outside::default()).map_err(first)?;
        Ok(Content { rules, entities: Arc::new(told.into_set()), routes })
    }
}

/// Name of the directory, and of the file in it, from how a manifest names a file.
fn name_of(shown: &str) -> (&str, &str) {
    let at = shown.find('/').map_or(0, |slash| slash + 1);
    shown.split_at_checked(at).unwrap_or(("", shown))
}

/// The text of an object.
pub(crate) fn text(bytes: &[u8]) -> Result<Arc<str>, String> {
    std::str::from_utf8(bytes).map(Arc::from).map_err(|cause| cause.to_string())
}

impl Object {
    fn new(kind: Kind, id: &str, bytes: Vec<u8>) -> Object {
        let sha256 = Object::address(kind, id, &bytes);
        Object { reference: Reference { kind, id: id.to_owned(), sha256, baseline: false }, bytes }
    }

    /// SHA-256 over a header that names format, kind, id and length, and the bytes.
    pub(crate) fn address(kind: Kind, id: &str, bytes: &[u8]) -> Hash {
        let kind = kind.as_str();
        let mut context = Context::new(&SHA256);
        context.update(format!("portcullis-object/1\n{kind}\n{id}\n{}\n", bytes.len()).as_bytes());
        context.update(bytes);
        Hash::finish(context.finish().as_ref())
    }
}

impl Hash {
    pub(crate) fn of(bytes: &[u8]) -> Hash {
        Hash::finish(digest(&SHA256, bytes).as_ref())
    }

    pub(crate) fn finish(bytes: &[u8]) -> Hash {
        // INVARIANT: SHA-256 yields 32 bytes, so the default is never taken.
        Hash(bytes.try_into().unwrap_or_default())
    }

    fn parse(text: &str) -> Option<Hash> {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
        let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
        Some(Hash(bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()?))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        Hash::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no SHA-256")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn st1_objects_read_back_as_the_content_they_were_made_of() {
        let extra = r#"[{ "uid": { "type": "Group", "id": "g" }, "attrs": {}, "parents": [] }]"#;
        let files: Files = [
            ("a.cedar", "// é\npermit(principal, action, resource);"),
            ("baseline/roles.cedar", "// ours"),
            ("site.cedarschema", "type SiteHeaders = {};"),
            ("entities.json", extra),
            ("shop.cedarschema", "namespace Shop {}"),
            ("a.links.json", "[]"),
            ("a_test.json", "[]"),
            ("people.json", "[]"),
        ]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), Arc::from(text)))
        .collect();
        let rules = Rules::new(files, Shipped::here(), Some("rules/"), Outside::default()).unwrap();
        let entities =
            Arc::new(EntitySet { trust_domain: Some("example.org".to_owned()), ..EntitySet::default() });
        let content = Content { rules, entities, routes: Hash([7; 32]) };
        let objects = content.objects().unwrap();
        let written = objects.iter().filter(|object| !object.reference.is_told());
        assert!(written.clone().any(|object| object.reference.id == "rules/baseline/roles.cedar"));
        assert!(written.clone().all(|object| object.reference.id != "baseline/roles.cedar"));
        let texts = objects.iter().map(|object| (&object.reference, text(&object.bytes).unwrap()));
        let back = Content::from_objects(texts, content.routes).unwrap();
        assert_eq!(back.rules, content.rules);
        assert_eq!((back.entities, back.routes), (content.entities, content.routes));
        assert_eq!(back.rules.extra.unwrap()[0]["uid"]["id"], "g");
    }

    #[test]
    fn st1_the_address_covers_kind_id_and_length() {
        let addresses = [
            Object::address(Kind::Policy, "a", b"x"),
            Object::address(Kind::Schema, "a", b"x"),
            Object::address(Kind::Policy, "b", b"x"),
            Object::address(Kind::Policy, "a", b"xx"),
            Object::address(Kind::Policy, "a\n1", b""),
        ];
        for (at, one) in addresses.iter().enumerate() {
            assert!(!addresses[at + 1..].contains(one));
        }
        // sha256 of "portcullis-object/1\npolicy\na\n1\nx", computed with sha256sum.
        assert_eq!(addresses[0].to_string(), GOLDEN);
    }

    const GOLDEN: &str = "3b310a598edf2acfb1a31fbb1d10ec4c78f860bf24308c881735ebdbbb4e3beb";

    proptest! {
        #[test]
        fn a_hash_reads_back_from_its_text(bytes in any::<[u8; 32]>(), other in "[0-9a-g]{0,70}") {
            prop_assert_eq!(Hash::parse(&Hash(bytes).to_string()), Some(Hash(bytes)));
            if let Some(hash) = Hash::parse(&other) {
                prop_assert_eq!(hash.to_string(), other);
            }
        }
    }
}
