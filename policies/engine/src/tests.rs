//! Tests of the whole crate over snapshots made from text.

mod baseline;

use crate::*;

pub(crate) fn snapshot_of(
    policies: &[(&str, &str)],
    entities: EntitySet,
) -> Result<Snapshot, Vec<Diagnostic>> {
    let mut sources = baseline();
    sources.extend(policies.iter().map(|(file, text)| PolicySource::new(*file, *text)));
    Snapshot::compile(SnapshotInput {
        numbers: Numbers { epoch: 1, snapshot: 1207, policies: 41 },
        schema: SchemaText::default(),
        policies: sources,
        entities,
        routes_digest: [0; 32],
    })
}
