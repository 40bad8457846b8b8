//! What the keys about other trust domains mean: endpoints for the own bundle, and relationships (FB-01, FE-03).
//!
//! Refused: an endpoint for https_web without a certificate, a relationship that the authority would refuse at start.

use std::time::Duration;

use ca_authority::{NewRelationship, Profile};
use enforcer_traffic::Network;

use super::super::meant::{BundleEndpoints, Federation};
use super::super::read::Table;
use super::super::value::Address;
use super::Meaning;

impl Meaning<'_> {
    /// The endpoints for the own bundle.
    pub(super) fn bundle_endpoints(&mut self, section: &Table) -> Option<BundleEndpoints> {
        let bounds = Duration::from_secs(10)..=Duration::from_secs(3_600);
        let text = "`refresh_hint` must lie between 10s and 1h";
        let hint = self.duration_within(section, "refresh_hint", bounds, text)?;
        let at = |name: &str| section.address(name).and_then(Address::socket);
        let (spiffe, web) = (at("spiffe_listen"), at("web_listen"));
        let certificate = section.table("certificate");
        let files = certificate.and_then(|table| Some((table.path("chain")?, table.path("key")?)));
        let files = files.map(|(chain, key)| (self.resolve(chain), self.resolve(key)));
        match (web, &files) {
            (Some(_), None) => {
                let text =
                    "https_web needs [ca.bundle.certificate] with chain and key: clients know no SPIFFE";
                self.wrong(section, "web_listen", text.to_owned());
            }
            (None, Some(_)) => {
                self.wrong(section, "certificate", "a certificate is of use with web_listen only".to_owned());
            }
            _ => {}
        }
        Some(BundleEndpoints { spiffe, web: web.zip(files), hint })
    }

    /// The relationships, each as the authority takes it.
    pub(super) fn federation(&mut self, tables: &[Table]) -> Option<Vec<Federation>> {
        let mut all: Vec<Federation> = Vec::new();
        for table in tables {
            let trust_domain = table.trust_domain("trust_domain")?.clone();
            let (url, profile) = (table.text("url")?.clone(), table.text("profile")?);
            let profile = match Profile::of(profile, table.spiffe_id("endpoint_id").cloned()) {
                Ok(profile) => profile,
                Err(fault) => {
                    self.wrong(table, "endpoint_id", fault.to_string());
                    continue;
                }
            };
            let with = NewRelationship { trust_domain, url, profile };
            if let Err(fault) = with.check(self.trust_domain) {
                let key = if with.trust_domain == *self.trust_domain { "trust_domain" } else { "url" };
                self.wrong(table, key, fault.to_string());
            }
            if all.iter().any(|other| other.with.trust_domain == with.trust_domain) {
                self.push(
                    "PC0106",
                    table,
                    "trust_domain",
                    format!("`{}` is federated twice", with.trust_domain),
                );
            }
            let bundle = table.path("bundle").map(|path| self.resolve(path));
            if bundle.is_none() && with.needs_bundle() {
                let text = "the server proves itself with an SVID of the domain itself: name a file with its first bundle";
                self.wrong(table, "bundle", text.to_owned());
            }
            all.push(Federation { with, bundle });
        }
        Some(all)
    }

    /// Networks of special addresses that bundles may come from.
    pub(super) fn fetch_from(&mut self, section: &Table) -> Vec<Network> {
        self.networks(section, "fetch_from", "; write \"127.0.0.0/8\" or one address")
    }
}
