//! The roots by which servers outside all trust domains are verified: of a file, or those that this machine keeps.

use std::path::Path;
use std::sync::Arc;

use base_ports::SystemClock;
use ca_identity::tls::web_client_config;
use ca_identity::{CertificateDer, pem};
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
pub(super) fn read(path: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, String> {
    let usual = || OF_THE_MACHINE.into_iter().map(Path::new).find(|path| path.exists());
    let path = path.or_else(usual).ok_or("this machine has no roots at the usual places; name a file")?;
    let bytes = std::fs::read(path).map_err(|error| format!("`{}`: {error}", path.display()))?;
    pem::read_certificates(&bytes).map_err(|error| format!("`{}`: {error}", path.display()))
}

/// The same clusters, with what verifies external ones.
pub(super) fn filled_in(clusters: &[ClusterSpec]) -> Result<Vec<ClusterSpec>, Message> {
    let mut clusters = clusters.to_vec();
    for cluster in &mut clusters {
        let Some(TlsSettings::External { roots, .. }) = &mut cluster.tls else { continue };
        let found = read(roots.file.as_deref());
        let found =
            found.and_then(|found| match web_client_config(found.clone(), Arc::new(SystemClock), &[]) {
                Ok(_) => Ok(found),
                Err(error) => Err(error.to_string()),
            });
        let found = found.map_err(|text| {
            let text = format!("the roots of the external cluster `{}`: {text}", cluster.name);
            Message::error("PC0107", text)
                .help("[[enforcer.cluster]] roots is a PEM file with the roots that verify its endpoints")
        })?;
        roots.certificates = found.into();
    }
    Ok(clusters)
}
