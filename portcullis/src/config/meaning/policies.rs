//! What `[policies]` means: a directory of this process, or a publisher that it follows with the key to believe.
//! Refuses both at once, a publisher without its key, and publishers on other hosts, which are followed by who joined them.

use policies_engine::Patience;
use policies_store::Verifier;

use super::super::meant::{Follow, Policies};
use super::super::read::{Origin, Table};
use super::super::value::Address;
use super::Meaning;

/// Keys that say how a publisher is followed.
const OF_FOLLOW: [&str; 2] = ["signer", "bootstrap"];

impl Meaning<'_> {
    pub(super) fn policies(&mut self, section: &Table) -> Option<Policies> {
        let dir = self.resolve(section.path("dir")?);
        let Some(address) = section.address("follow").cloned() else {
            for key in OF_FOLLOW.into_iter().filter(|key| section.entries.contains_key(key)) {
                let text = format!("`{key}` is about a publisher, and `follow` names none");
                let fault = self.fault("PC0105", section, key, text);
                self.messages.push(fault.help("add follow = \"unix:///path/to/admin.sock\""));
            }
            return Some(Policies { dir, follow: None });
        };
        if section.entries.get("dir").is_some_and(|(_, _, origin)| *origin != Origin::Default) {
            let text = "`dir` and `follow` exclude each other".to_owned();
            let fault = self.fault("PC0105", section, "follow", text);
            self.messages.push(fault.help("policies are written at the publisher; delete `dir` here"));
        }
        let socket = match address {
            Address::Unix(path) => self.resolve(&path),
            Address::Socket { .. } | Address::Name { .. } => {
                let text = "`follow` over https needs an identity that the publisher knows".to_owned();
                let help = "with [join] in place of [policies] the policies of that authority are in force here; a publisher on this host is followed by its admin socket, unix:///path/to/admin.sock";
                let fault = self.fault("PC0132", section, "follow", text).help(help);
                self.messages.push(fault);
                return None;
            }
        };
        let Some(written) = section.text("signer") else {
            let text =
                "`follow` needs `signer`, the public key that signs the publisher's policies".to_owned();
            let fault = self.fault("PC0102", section, "follow", text);
            let fault = fault.help("portcullis status prints it at the publisher, beside `policy key`");
            self.messages.push(fault);
            return None;
        };
        let signer = match written.parse::<Verifier>() {
            Ok(signer) => signer,
            Err(_no_key) => {
                let text = format!(
                    "`{written}` is no key that signs policies; it looks like example.org/policies+1f2e3d4c+AbCd.."
                );
                self.wrong(section, "signer", text);
                return None;
            }
        };
        let expected = format!("{}/policies", self.trust_domain.as_str());
        if signer.name() != expected {
            let text =
                format!("the key signs for `{}`, and this trust domain needs `{expected}`", signer.name());
            self.wrong(section, "signer", text);
        }
        let limit = |key: &str| section.duration(key).copied().filter(|limit| !limit.is_zero());
        let patience = Patience { stale_after: limit("stale_after"), deny_after: limit("deny_after") };
        let bootstrap = section.path("bootstrap").map(|path| self.resolve(path));
        Some(Policies { dir, follow: Some(Follow { socket, signer, bootstrap, patience }) })
    }
}
