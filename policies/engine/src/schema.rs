//! The schema: part 1 is ours and closed, part 2 is replaced by the site. Both texts are embedded.
//! Also the names a site makes visible to policies, which facts and records need.

use std::{collections::BTreeSet, sync::Arc};

/// Both parts of the schema, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaText {
    /// Part 1.
    pub core: Arc<str>,
    /// Part 2.
    pub site: Arc<str>,
    /// Name of the site's file, for findings.
    pub site_file: Arc<str>,
}

impl Default for SchemaText {
    /// The shipped schema.
    fn default() -> Self {
        SchemaText {
            core: include_str!("../../schema/portcullis.cedarschema").into(),
            site: include_str!("../../schema/site.cedarschema").into(),
            site_file: "site.cedarschema".into(),
        }
    }
}

impl SchemaText {
    /// The shipped part 1 with the site's own part 2.
    #[must_use]
    pub fn with_site(file: &str, text: &str) -> SchemaText {
        SchemaText { site: text.into(), site_file: file.into(), ..SchemaText::default() }
    }
}

/// Names of headers, query members and route captures that the site fragment declares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Declared {
    /// Header names, lower-case.
    pub headers: BTreeSet<Arc<str>>,
    /// Query names.
    pub query: BTreeSet<Arc<str>>,
    /// Route captures.
    pub params: BTreeSet<Arc<str>>,
}
