//! Sockets that the service manager gave: each belongs to a listener of the configuration by its name, and where some are
//! given, none of those that calls arrive at is missing (LT-17).

use super::Process;
use crate::config::Config;
use crate::messages::Message;

/// Names of what is no listener of the data plane.
pub(super) const ADMIN: &str = "admin";
pub(super) const CA: &str = "ca";
pub(super) const WORKLOAD: &str = "workload";
pub(super) const OIDC: &str = "oidc";
pub(super) const BUNDLE_SPIFFE: &str = "bundle-spiffe";
pub(super) const BUNDLE_WEB: &str = "bundle-web";

/// Whether every listener of the data plane has its sockets, when the service manager gave any.
pub(super) fn check(config: &Config, process: &Process) -> Result<(), Message> {
    if !process.is_activated {
        return Ok(());
    }
    let wanted = config.enforcer.iter().flat_map(|enforcer| &enforcer.listeners).flat_map(|listener| {
        let tcp = listener.bind.iter().map(|address| format!("tcp://{address}"));
        let quic = listener.quic.iter().map(|address| format!("quic://{address}"));
        let unix = listener.sockets.iter().map(|path| format!("unix://{}", path.display()));
        tcp.chain(quic).chain(unix).map(|place| (listener.name.as_str(), place))
    });
    let missing: Vec<_> = wanted
        .filter(|(name, place)| !process.sockets.is_given(name, place))
        .map(|(name, place)| format!("`{name}` ({place})"))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(mismatch(&format!("no socket was given for {}", missing.join(", "))))
    }
}

/// Whether everything that was given found its listener.
pub(super) fn finish(process: &Process) -> Result<(), Message> {
    let surplus = process.sockets.unclaimed();
    if !process.is_activated || surplus.is_empty() {
        return Ok(());
    }
    Err(mismatch(&format!("no listener of the configuration is {}", surplus.join(", "))))
}

fn mismatch(text: &str) -> Message {
    Message::error("PC4002", text.to_owned()).help(
        "FileDescriptorName= of a socket unit is the name of its listener, or admin, bundle-spiffe, bundle-web, ca, oidc, workload",
    )
}
