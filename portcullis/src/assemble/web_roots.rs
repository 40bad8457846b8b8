//! The roots by which servers outside all trust domains are verified: of a file, or those that this machine keeps.

use std::collections::HashMap;
use std::path::Path;

use ca_identity::pem;
use ca_identity::tls::WebRoots;
use enforcer_traffic::{ClusterSpec, TlsSettings};

use crate::messages::Message;

/// Where systems keep them.
const OF_THE_MACHINE: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Reads them; none = those of the machine.
pub(super) fn read(path: Option<&Path>) -> Result<WebRoots, String> {
    let usual = || OF_THE_MACHINE.into_iter().map(Path::new).find(|path| path.exists());
    let path = path.or_else(usual).ok_or("this machine has no roots at the usual places; name a file")?;
    let bytes = std::fs::read(path).map_err(|error| format!("`{}`: {error}", path.display()))?;
    let found = pem::read_certificates(&bytes).map_err(|error| format!("`{}`: {error}", path.display()))?;
    WebRoots::new(found).map_err(|error| error.to_string())
}

/// The same clusters, with what verifies external ones; each file is read once.
pub(super) fn filled_in(clusters: &[ClusterSpec]) -> Result<Vec<ClusterSpec>, Message> {
    let (mut clusters, mut known) = (clusters.to_vec(), HashMap::new());
    for cluster in &mut clusters {
        let Some(TlsSettings::External { roots, .. }) = &mut cluster.tls else { continue };
        let found = match known.get(&roots.file) {
            Some(found) => WebRoots::clone(found),
            None => read(roots.file.as_deref()).map_err(|text| {
                let text = format!("the roots of the external cluster `{}`: {text}", cluster.name);
                Message::error("PC0107", text)
                    .help("[[enforcer.cluster]] roots is a PEM file with the roots that verify its endpoints")
            })?,
        };
        known.insert(roots.file.clone(), found.clone());
        roots.read = Some(found);
    }
    Ok(clusters)
}
