//! `rate` of a listener or a route: how many calls it takes.

use ca_identity::IdPattern;
use enforcer_traffic::{Rate, RateSettings};

use super::super::read::Table;
use super::Meaning;
use super::cluster::count;

impl Meaning<'_> {
    /// What is written under `rate` in `table`.
    pub(super) fn rate(&mut self, table: &Table) -> Option<RateSettings> {
        let table = table.table("rate")?;
        let is_written = |key: &&str| table.entries.contains_key(*key);
        for (burst, rate) in [("total_burst", "total"), ("burst", "per_identity")] {
            if is_written(&burst) && !is_written(&rate) {
                self.wrong(table, burst, format!("`{burst}` needs `{rate}`"));
            }
        }
        if !["total", "per_identity", "override"].iter().any(is_written) {
            self.wrong(table, "", "`rate` limits nothing; write total, per_identity or override".to_owned());
        }
        let mut overrides = Vec::new();
        for other in table.tables("override") {
            let rate = self.calls(other, "rate", "burst");
            let identity = other.text("identity").and_then(|written| {
                let identity = IdPattern::parse(written);
                if identity.is_none() {
                    let forms = "spiffe://DOMAIN/PATH, spiffe://DOMAIN/PATH/* or spiffe://DOMAIN";
                    self.wrong(other, "identity", format!("`{written}` is none of {forms}"));
                }
                identity
            });
            overrides.extend(identity.zip(rate));
        }
        Some(RateSettings {
            total: self.calls(table, "total", "total_burst"),
            per_identity: self.calls(table, "per_identity", "burst"),
            overrides,
        })
    }

    fn calls(&mut self, table: &Table, key: &str, burst: &str) -> Option<Rate> {
        let written = table.text(key)?;
        let rate = Rate::parse(written, count(table, burst));
        if rate.is_none() {
            let most = Rate::MOST;
            self.wrong(
                table,
                key,
                format!("`{written}` is no rate; write 100/s, 600/m or 1000/h, from 1 to {most}"),
            );
        }
        rate
    }
}
