//! What `[join]` means: which authority elsewhere this process is an agent of, and by what it is known at first.
//!
//! Refused: an authority that is known by nothing, or by two things; and beside the agent whatever that authority has for this
//! process already: an authority, policies, another agent.

use super::super::meant::{Join, KnownBy};
use super::super::read::Table;
use super::super::value::Address;
use super::Meaning;

/// How a fingerprint is written.
const SHA256: &str = "sha256:";

impl Meaning<'_> {
    pub(super) fn join(&mut self, section: &Table) -> Option<Join> {
        let (host, port) = match section.address("authority")? {
            Address::Socket { addr, .. } => (addr.ip().to_string(), addr.port()),
            Address::Name { host, port, .. } => (host.clone(), *port),
            Address::Unix(_) => return None,
        };
        let bundle = section.path("bundle").map(|path| self.resolve(path));
        let known_by = match (section.text("fingerprint"), bundle) {
            (Some(text), None) => KnownBy::Fingerprint(self.fingerprint(section, text)?),
            (None, Some(path)) => KnownBy::Bundle(path),
            (Some(_), Some(_)) => {
                let text = "`fingerprint` and `bundle` exclude each other".to_owned();
                self.push("PC0105", section, "bundle", text);
                return None;
            }
            (None, None) => {
                let text = "[join] needs `fingerprint` or `bundle`: without, anybody could be the authority";
                let fault = self.fault("PC0102", section, "authority", text.to_owned());
                self.messages
                    .push(fault.help("`portcullis agent token` prints the section at the authority"));
                return None;
            }
        };
        let token_file = section.path("token_file").map(|path| self.resolve(path));
        Some(Join { host, port, known_by, token_file })
    }

    fn fingerprint(&mut self, section: &Table, text: &str) -> Option<[u8; 32]> {
        let digits: String =
            text.strip_prefix(SHA256).unwrap_or(text).chars().filter(|letter| *letter != ':').collect();
        let mut bytes = [0_u8; 32];
        let pairs: Vec<_> = digits.as_bytes().chunks(2).map(std::str::from_utf8).collect();
        let mut is_one = pairs.len() == bytes.len();
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            match pair.map(|pair| u8::from_str_radix(pair, 16)) {
                Ok(Ok(value)) => *byte = value,
                _ => is_one = false,
            }
        }
        if !is_one {
            let text = format!("`{text}` is no SHA-256 fingerprint: sha256: and 64 hexadecimal digits");
            self.wrong(section, "fingerprint", text);
        }
        is_one.then_some(bytes)
    }

    /// What else may be in a process that joined: an agent and a gateway, which have identity and policies from the authority.
    pub(super) fn beside_join(&mut self, table: &Table) {
        let Some(join) = table.table("join") else { return };
        for (role, why, help) in [
            (
                "ca",
                "the authority of this process is the one that it joins",
                "a process with an authority joins no other; delete one of the two sections",
            ),
            (
                "policies",
                "the policies of the authority that it joins are in force here",
                "delete [policies]; write policies at the authority, and a save there is in force here within a second",
            ),
        ] {
            if let Some(section) = table.table(role) {
                let text = format!("[{role}] cannot be in a process with [join]: {why}");
                let fault = self.fault("PC0105", section, "", text);
                self.messages.push(fault.help(help));
            }
        }
        if let Some(section) =
            table.table("enforcer").filter(|section| section.address("workload_api").is_some())
        {
            let text =
                "the SVID of the enforcer comes from the agent of this process, or from a Workload API";
            let fault = self.fault("PC0105", section, "workload_api", text.to_owned());
            let help =
                "delete `workload_api`; the authority needs an entry that grants enforcer.id to this process";
            self.messages.push(fault.help(help));
        }
        if table.table("agent").is_none() {
            let text = "[join] needs [agent]: a process joins as an agent".to_owned();
            let fault = self.fault("PC0105", join, "", text);
            self.messages.push(fault.help("add [agent]"));
        }
    }
}
