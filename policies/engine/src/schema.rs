//! The schema: part 1 is ours and closed, part 2 is replaced by the site. Both texts are embedded.
//! Also the names a site makes visible to policies, which facts and records need.

use crate::{Diagnostic, compile, lint::on_large_stack};
use std::{collections::BTreeSet, sync::Arc};

const SITE: &str = "site.cedarschema";

/// Both parts of the schema, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaText {
    /// Part 1.
    pub core: Arc<str>,
    /// Part 2.
    pub site: Arc<str>,
    /// Name of the site's file, for findings.
    pub site_file: Arc<str>,
    /// Fragments of teams, each in namespaces of its own.
    pub teams: Vec<TeamSchema>,
}

/// A schema fragment of a team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamSchema {
    /// Name of its file, for findings.
    pub file: Arc<str>,
    /// Its text.
    pub text: Arc<str>,
}

impl Default for SchemaText {
    /// The shipped schema.
    fn default() -> Self {
        SchemaText {
            core: include_str!("../../schema/portcullis.cedarschema").into(),
            site: include_str!("../../schema/site.cedarschema").into(),
            site_file: SITE.into(),
            teams: Vec::new(),
        }
    }
}

impl SchemaText {
    /// The shipped part 1 with the site's own part 2.
    #[must_use]
    pub fn with_site(file: &str, text: &str) -> SchemaText {
        SchemaText { site: text.into(), site_file: file.into(), ..SchemaText::default() }
    }

    /// With another file: `site.cedarschema` is part 2 in place of the shipped one, every other name the fragment of a
    /// team.
    pub fn add(&mut self, file: &str, text: &str) {
        let (file, text): (Arc<str>, Arc<str>) = (file.into(), text.into());
        if file.rsplit('/').next() == Some(SITE) {
            self.site = text;
            self.site_file = file;
        } else {
            self.teams.push(TeamSchema { file, text });
        }
    }

    /// All texts, for a digest.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        [&*self.core, &*self.site].into_iter().chain(self.teams.iter().map(|team| &*team.text))
    }

    /// Its files by name, part 1 first.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &str)> {
        let teams = self.teams.iter().map(|team| (&*team.file, &*team.text));
        [("portcullis.cedarschema", &*self.core), (&*self.site_file, &*self.site)].into_iter().chain(teams)
    }

    /// Whether policies can be written against it.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn check(&self) -> Result<(), Vec<Diagnostic>> {
        let built = on_large_stack(|| compile::schema::build(self).map(drop));
        let failed =
            || Err(Box::new(Diagnostic::about("PC2009", &self.site_file, "this schema cannot be read")));
        built.unwrap_or_else(failed).map_err(|found| vec![*found])
    }
}

/// Names of headers, query members, route captures and claims that the site fragment declares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Declared {
    /// Header names, lower-case.
    pub headers: BTreeSet<Arc<str>>,
    /// Query names.
    pub query: BTreeSet<Arc<str>>,
    /// Route captures.
    pub params: BTreeSet<Arc<str>>,
    /// Claims of tokens.
    pub claims: BTreeSet<Arc<str>>,
}
