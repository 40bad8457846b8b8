//! What a snapshot consisted of, as it is stored (ST3, `portcullis-manifest/1`), and which number comes next (ST5).

use crate::content::{Content, Hash, Kind, Object, Reference};
use base_ports::UnixTime;
use policies_engine::Numbers;
use serde::{Deserialize, Serialize};

const FORMAT: &str = "portcullis-manifest/1";

/// One version. A manifest with a field we do not know is refused as a whole (PS8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    format: String,
    pub(crate) epoch: u64,
    pub(crate) snapshot: u64,
    pub(crate) policies: u64,
    /// SHA-256 of the manifest before it.
    parent: Option<Hash>,
    created: String,
    pub(crate) routes: Hash,
    pub(crate) objects: Vec<Reference>,
}

impl Manifest {
    /// The manifest of `content`: `head` itself when nothing differs from it, else the one after it.
    pub(crate) fn after(
        head: Option<&Manifest>,
        content: &Content,
        objects: &[Object],
        now: UnixTime,
    ) -> Result<Manifest, serde_json::Error> {
        let references: Vec<Reference> = objects.iter().map(|object| object.reference.clone()).collect();
        let Some(head) = head else {
            return Ok(Manifest {
                format: FORMAT.to_owned(),
                epoch: 1,
                snapshot: 1,
                policies: 1,
                parent: None,
                created: now.to_string(),
                routes: content.routes,
                objects: references,
            });
        };
        if head.objects == references && head.routes == content.routes {
            return Ok(head.clone());
        }
        let is_same_policies = policies(&head.objects).eq(policies(&references));
        Ok(Manifest {
            format: FORMAT.to_owned(),
            epoch: head.epoch,
            snapshot: head.snapshot.saturating_add(1),
            policies: head.policies.saturating_add(u64::from(!is_same_policies)),
            parent: Some(Hash::of(&head.to_json()?)),
            created: now.to_string(),
            routes: content.routes,
            objects: references,
        })
    }

    /// SHA-256 of the manifest before it.
    pub(crate) fn parent(&self) -> Option<Hash> {
        self.parent
    }

    pub(crate) fn numbers(&self) -> Numbers {
        Numbers { epoch: self.epoch, snapshot: self.snapshot, policies: self.policies }
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    pub(crate) fn from_json(bytes: &[u8]) -> Result<Manifest, String> {
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(|cause| cause.to_string())?;
        if manifest.format == FORMAT {
            Ok(manifest)
        } else {
            Err(format!("unknown format `{}`", manifest.format))
        }
    }
}

fn policies(objects: &[Reference]) -> impl Iterator<Item = &Reference> {
    objects.iter().filter(|reference| reference.kind == Kind::Policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Rules;
    use policies_engine::{EntitySet, PolicySource, SchemaText};
    use std::sync::Arc;

    fn content() -> Content {
        Content { rules: Rules::shipped(), entities: Arc::new(EntitySet::default()), routes: Hash([0; 32]) }
    }

    fn after(head: Option<&Manifest>, content: &Content) -> Manifest {
        Manifest::after(head, content, &content.objects().unwrap(), UnixTime::from_secs(0)).unwrap()
    }

    #[test]
    fn mo9_policies_count_changes_of_policies_and_snapshot_counts_every_change() {
        let first = after(None, &content());
        assert_eq!(first.numbers(), Numbers { epoch: 1, snapshot: 1, policies: 1 });
        assert_eq!(after(Some(&first), &content()), first, "nothing changed");

        let mut changed = content();
        changed.routes = Hash([1; 32]);
        let routes = after(Some(&first), &changed);
        changed.entities =
            Arc::new(EntitySet { trust_domain: Some("a.b".to_owned()), ..EntitySet::default() });
        let entities = after(Some(&routes), &changed);
        changed.rules.extra = Some(serde_json::json!([]));
        let file = after(Some(&entities), &changed);
        changed.rules.schema = SchemaText::with_site("site.cedarschema", "type SiteHeaders = {};");
        let schema = after(Some(&file), &changed);
        changed.rules.policies.push(PolicySource::new("a.cedar", ""));
        let policies = after(Some(&schema), &changed);
        let numbers = [&routes, &entities, &file, &schema, &policies].map(|m| (m.snapshot, m.policies));
        assert_eq!(numbers, [(2, 1), (3, 1), (4, 1), (5, 1), (6, 2)]);
        assert_eq!(
            after(Some(&policies), &content()).numbers().policies,
            3,
            "going back is a new number (ST5)"
        );
    }

    #[test]
    fn ps4_each_manifest_names_the_one_before_it() {
        let first = after(None, &content());
        let second = after(Some(&first), &Content { routes: Hash([1; 32]), ..content() });
        assert_eq!(second.parent, Some(Hash::of(&first.to_json().unwrap())));
    }

    #[test]
    fn ps8_a_manifest_is_read_as_written_or_refused_as_a_whole() {
        let first = after(None, &content());
        let text = String::from_utf8(first.to_json().unwrap()).unwrap();
        assert_eq!(Manifest::from_json(text.as_bytes()).unwrap(), first);
        for bad in [
            text.replace("portcullis-manifest/1", "portcullis-manifest/2"),
            text.replace("{\"format\"", "{\"signed_by\":\"x\",\"format\""),
            text.replace("\"kind\":\"schema\"", "\"kind\":\"template\""),
            text.replace("\"snapshot\":1", "\"snapshot\":-1"),
            text.split_at(text.len() / 2).0.to_owned(),
        ] {
            assert!(Manifest::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
