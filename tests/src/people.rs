//! Several local users against one gateway: each is a uid that the kernel tells apart.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::binary::portcullis;
use crate::{Gateway, Outcome, Result};

impl Gateway {
    /// The admin socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.open
            .as_ref()
            .map_or_else(|| self.dir().join("data"), |open| open.path().to_owned())
            .join("admin.sock")
    }

    /// Runs a command of the binary as another user of this machine.
    pub fn cli_as(&self, uid: u32, arguments: &[&str]) -> Result<Outcome> {
        let id = uid.to_string();
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"])
            .arg(portcullis())
            .args(arguments)
            .args(["--server", &format!("unix://{}", self.admin_socket().display())])
            .current_dir("/")
            .stdin(Stdio::null());
        Outcome::of(command)
    }
}

pub(crate) fn open_to_all() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o755)
}

/// The user that the tests run as.
pub fn own_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").map_or(0, |about| about.uid())
}
