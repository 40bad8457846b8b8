//! What files would be if they were in force: compiled with the entities there are now, numbered nothing, stored
//! nowhere. For impact and suggestions, which replay recorded decisions against it (IM2, EX8).

use crate::{PolicyStore, content::Content, load::Rules};
use policies_engine::{Diagnostic, Numbers, PolicySource, Snapshot};
use std::sync::Arc;

impl PolicyStore {
    /// The snapshot that those files of a directory of policies would make: name and text of each. Blocks while it
    /// compiles.
    ///
    /// # Errors
    /// All findings, when at least one blocks.
    pub fn candidate(&self, files: &[(String, Arc<str>)]) -> Result<Arc<Snapshot>, Vec<Diagnostic>> {
        let rules = rules(files)?;
        let (entities, routes) = self.entities();
        let content = Content { rules, entities, routes };
        Snapshot::compile(content.input(Numbers::default())).map(Arc::new)
    }
}

fn rules(files: &[(String, Arc<str>)]) -> Result<Rules, Vec<Diagnostic>> {
    let mut rules = Rules::shipped();
    for (name, text) in files {
        let shown: Arc<str> = format!("policies/{name}").into();
        if PolicySource::is_named(name) {
            rules.policies.push(PolicySource::new(shown, Arc::clone(text)));
        } else if name.ends_with(".cedarschema") {
            rules.schema.add(&shown, text);
        } else if name == "entities.json" {
            let read = serde_json::from_str(text);
            rules.extra =
                Some(read.map_err(|cause| {
                    vec![Diagnostic::about("PC2003", &shown, format!("not JSON: {cause}"))]
                })?);
        }
    }
    Ok(rules)
}
