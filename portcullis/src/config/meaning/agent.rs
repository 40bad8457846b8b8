//! What `[agent]` means: where the Workload API is served, what of it is on, and how Envoy names its secrets.
//!
//! Refused: two secrets of one name, and names that stand for something else.

use std::path::Path;

use ca_agent::{SdsNames, Settings};

use super::super::meant::Agent;
use super::super::read::Table;
use super::{Meaning, WORKLOAD_SOCKET};

impl Meaning<'_> {
    pub(super) fn agent(&mut self, section: &Table, data_dir: &Path) -> Agent {
        let (socket, socket_mode) = self.place_of_socket(section, &data_dir.join(WORKLOAD_SOCKET), 0o770);
        let tokens = section.flag("jwt").is_none_or(|jwt| *jwt);
        Agent { socket, socket_mode, served: Settings { tokens, sds: self.sds_names(section) } }
    }

    /// The fixed names of SDS: no two the same, and none that is a SPIFFE ID.
    fn sds_names(&mut self, section: &Table) -> SdsNames {
        let mut names = SdsNames::default();
        let mut seen: Vec<String> = Vec::new();
        for (key, name) in [
            ("sds_default", &mut names.certificate),
            ("sds_bundle", &mut names.bundle),
            ("sds_bundles", &mut names.bundles),
        ] {
            if let Some(written) = section.text(key) {
                name.clone_from(written);
            }
            if name.is_empty() || name == "*" || name.starts_with("spiffe://") {
                self.wrong(
                    section,
                    key,
                    format!("`{name}` cannot be the name of a secret beside SPIFFE IDs"),
                );
            } else if seen.contains(name) {
                self.wrong(section, key, format!("another secret has the name `{name}`"));
            }
            seen.push(name.clone());
        }
        names
    }
}
