//! Revocation lists are made anew whenever the deny set or the keys have changed, and at half of their time.

use std::sync::Arc;
use std::time::Duration;

use base_ports::Tasks;
use ca_authority::Authority;

/// So often it is looked whether their time comes: by the wall clock, which may jump.
const LOOK: Duration = Duration::from_secs(30);
/// Changes that come together are one list.
const TOGETHER: Duration = Duration::from_millis(100);

/// Keeps the revocation lists of `authority` as they must be.
pub(super) fn keep(authority: Arc<Authority>, tasks: &Tasks) {
    let (mut revoked, mut keys) = (authority.watch_revoked(), authority.watch_keys());
    tasks.spawn("revocation lists", async move {
        let mut is_due = true;
        loop {
            if is_due && let Err(error) = authority.refresh_crls().await {
                tracing::error!(event = "crl_failed", code = "PC1012", %error, "no new revocation lists; the former stay");
            }
            is_due = tokio::select! {
                moved = revoked.changed() => moved.is_ok(),
                moved = keys.changed() => moved.is_ok(),
                () = tokio::time::sleep(LOOK) => authority.crls_are_due(),
            };
            if revoked.has_changed().is_err() {
                return;
            }
            tokio::time::sleep(TOGETHER).await;
            revoked.mark_unchanged();
            keys.mark_unchanged();
        }
    });
}
