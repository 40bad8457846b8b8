//! A certificate of a name, from its two files: for listeners of the data plane and for discovery. Refuses a key that others
//! can read.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use ca_identity::tls::NamedCertificate;

use crate::messages::Message;

/// The chain and its key, for the listener of that name.
pub(super) fn read(listener: &str, chain: &Path, key: &Path) -> Result<Arc<NamedCertificate>, Message> {
    let bytes = |path: &Path| {
        std::fs::read(path)
            .map_err(|cause| Message::error("PC0107", format!("`{}`: {cause}", path.display())))
    };
    let mode = std::fs::metadata(key).map_or(0, |about| about.mode());
    if mode & 0o077 != 0 {
        let text = format!("`{}` has mode {:04o}: others can read the key", key.display(), mode & 0o777);
        return Err(Message::error("PC0108", text).next(format!("chmod 600 {}", key.display())));
    }
    let found = NamedCertificate::read(&bytes(chain)?, &bytes(key)?);
    let found = found.map_err(|cause| {
        let text = format!("`{}` with `{}`: {cause}", chain.display(), key.display());
        Message::error("PC1002", text)
    })?;
    tracing::info!(event = "certificate", listener, names = ?found.names(), ends = %found.not_after(), "a listener shows a certificate of its own");
    Ok(Arc::new(found))
}
