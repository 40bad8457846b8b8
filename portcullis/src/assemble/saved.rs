//! The configuration file as others save it: brought into force when it looks other than it did, where that is asked for
//! (CF9). Editors and mounts put another file or link in its place, so its directory is watched. The certificates that it
//! names count as part of it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use base_ports::Tasks;
use policies_store::WatchedDir;

use super::configuration::Configuration;
use super::judge::Judge;
use crate::config::Config;

/// No file that is taken is larger.
const MOST: u64 = 4 << 20;

/// Follows the file for `owner`, if the configuration says so.
pub(super) fn follow(configuration: &Arc<Configuration>, judge: &Arc<Judge>, owner: u32, tasks: &Tasks) {
    let in_force = configuration.in_force();
    if !in_force.admin.is_reloaded {
        return;
    }
    let (configuration, judge) = (Arc::clone(configuration), Arc::clone(judge));
    tasks.spawn("configuration file", async move {
        let dir = in_force.source.parent().filter(|dir| !dir.as_os_str().is_empty());
        let watched = WatchedDir::new(dir.unwrap_or(Path::new(".")));
        let mut seen = look(&in_force).await;
        // It may have been saved since it was read.
        let mut is_outdated = configuration.on_disk().await.digest != Some(in_force.digest());
        loop {
            if !is_outdated {
                let is_other = || {
                    let (in_force, seen) = (configuration.in_force(), &seen);
                    async move { look(&in_force).await != *seen }
                };
                watched.changed(is_other).await;
            }
            is_outdated = false;
            seen = look(&configuration.in_force()).await;
            configuration.reload_unasked(&judge, owner, "file").await;
        }
    });
}

/// What stands in the file, and in those of its certificates; what cannot be read looks otherwise than what can.
async fn look(config: &Config) -> Vec<u8> {
    let listeners = config.enforcer.iter().flat_map(|enforcer| &enforcer.listeners);
    let certificates = listeners.flat_map(|listener| &listener.certificates);
    let mut files: Vec<PathBuf> = vec![config.source.clone()];
    files.extend(certificates.flat_map(|(chain, key)| [chain.clone(), key.clone()]));
    let read = move || {
        let mut digest = Context::new(&SHA256);
        for file in &files {
            let bytes = bytes_of(file).unwrap_or_else(|error| error.kind().to_string().into_bytes());
            digest.update(&bytes.len().to_be_bytes());
            digest.update(&bytes);
        }
        digest.finish().as_ref().to_vec()
    };
    // INVARIANT: reading ends with an error only when the process does.
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

/// So much of a plain file that a change shows; opening anything else could take for ever.
fn bytes_of(file: &Path) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(file)?.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    File::open(file)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}
