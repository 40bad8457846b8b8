//! What `[admin]` means: who listens where, and which local users hold roles besides root and the owner of the data
//! directory. Refuses a user whom the socket would keep out: such a role would look given and not be.

use std::path::Path;

use policies_engine::Role;

use super::super::meant::{Admin, LocalUser};
use super::super::read::Table;
use super::{Meaning, address};

/// In the data directory, when nothing else is said.
pub(in super::super) const ADMIN_SOCKET: &str = "admin.sock";

impl Meaning<'_> {
    pub(super) fn admin(&mut self, section: &Table, data_dir: &Path) -> Option<Admin> {
        let listen: Vec<_> = section
            .list("listen")
            .iter()
            .filter_map(address)
            .filter_map(|address| address.socket())
            .collect();
        for addr in listen.iter().filter(|addr| !addr.ip().is_loopback()) {
            let text = format!("admin listener `http://{addr}` is not on loopback");
            let help = "it has no client certificates; other hosts reach the API over [ca] listen = \"https://..\" with an SVID";
            self.messages.push(self.fault("PC0131", section, "listen", text).help(help));
        }
        let (socket, socket_mode) = self.place_of_socket(section, &data_dir.join(ADMIN_SOCKET), 0o700);
        let users = self.users(section);
        let is_reachable = socket_mode & 0o022 != 0 && !socket.starts_with(data_dir);
        for (table, user) in section.tables("user").iter().zip(&users) {
            if user.uid != 0 && !is_reachable {
                let (uid, socket) = (user.uid, socket.display());
                let text =
                    format!("user {uid} cannot reach the admin socket `{socket}` (mode {socket_mode:04o})");
                let help = "the data directory is private: in [admin], set socket = \"unix:///run/portcullis/admin.sock\" and socket_mode = \"0777\", or \"0770\" and a group of its users";
                self.messages.push(self.fault("PC0108", table, "uid", text).help(help));
            }
        }
        let is_reloaded = section.text("reload").is_some_and(|word| word == "saved");
        let (pushed, log) = (self.pushed(section), section.text("log")?.clone());
        Some(Admin { listen, socket, socket_mode, users, is_reloaded, pushed, log })
    }

    fn users(&mut self, section: &Table) -> Vec<LocalUser> {
        let mut users: Vec<LocalUser> = Vec::new();
        for table in section.tables("user") {
            let Some(uid) = table.integer("uid").and_then(|uid| u32::try_from(*uid).ok()) else { continue };
            let roles: Vec<_> =
                table.texts("roles").iter().filter_map(|role| Role::from_word(role)).collect();
            if roles.is_empty() {
                self.wrong(table, "roles", "`roles` names no role".to_owned());
            }
            if users.iter().any(|known| known.uid == uid) {
                self.push("PC0106", table, "uid", format!("user {uid} is defined twice"));
            }
            users.push(LocalUser { uid, roles });
        }
        users
    }
}
