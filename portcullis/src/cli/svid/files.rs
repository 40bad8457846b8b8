//! One generation of an identity as files: certificate, key and bundle, replaced whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use base_ports::UnixTime;
use ca_agent::client::X509Context;
use ca_identity::{X509Svid, inspect, pem};

use super::first;
use crate::client::Fault;
use crate::messages::Message;
use crate::output::Exit;

pub(super) const CERTIFICATE: &str = "svid.pem";
pub(super) const KEY: &str = "svid.key";
pub(super) const BUNDLE: &str = "bundle.pem";

/// Writes the default identity: each file to a temporary name, synced, then renamed; the key first, so that a reader who
/// sees the new certificate finds its key.
pub(super) fn store<'a>(dir: &Path, context: &'a X509Context) -> Result<&'a X509Svid, Fault> {
    let Some(svid) = first(context) else {
        return Err(Fault::new(Exit::Failed, Message::error("PC1001", "the Workload API gave no SVID")));
    };
    let chain = pem::write_certificates(&svid.chain);
    let bundle = context.bundles.get(svid.id.trust_domain());
    let bundle = pem::write_certificates(bundle.into_iter().flat_map(|bundle| bundle.certificates()));
    let key = pem::write_private_key(&svid.key);
    let files = [(KEY, key.as_str(), 0o600), (BUNDLE, &bundle, 0o644), (CERTIFICATE, &chain, 0o644)];
    let write = || -> io::Result<()> {
        fs::create_dir_all(dir)?;
        for (name, text, mode) in &files {
            let temporary = dir.join(format!(".{name}.new"));
            if temporary.exists() {
                fs::remove_file(&temporary)?;
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(*mode).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
        }
        for (name, _, _) in &files {
            fs::rename(dir.join(format!(".{name}.new")), dir.join(name))?;
        }
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| {
        let text = format!("`{}` cannot be written: {error}", dir.display());
        Fault::new(Exit::Failed, Message::error("PC0107", text))
    })?;
    Ok(svid)
}

/// Until when what is there need not be renewed; none when that is now, or when a file is missing or unreadable.
pub(super) fn fresh_until(dir: &Path, now: UnixTime) -> Option<UnixTime> {
    let chain = pem::read_certificates(&fs::read(dir.join(CERTIFICATE)).ok()?).ok()?;
    let key = pem::read_private_key(&fs::read(dir.join(KEY)).ok()?).ok()?;
    let roots = pem::read_certificates(&fs::read(dir.join(BUNDLE)).ok()?).ok()?;
    let facts = inspect::certificate(chain.first()?).ok()?;
    X509Svid::new(chain, key).ok()?;
    let life = facts.not_after.saturating_since(facts.not_before);
    let due = facts.not_before + Duration::from_secs(life.as_secs() / 2);
    (due > now && !roots.is_empty()).then_some(due)
}
