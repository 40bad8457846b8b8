//! `[[enforcer.route]]`: which calls, and where they go.

use enforcer_traffic::{
    ClusterSpec, HashBy, MirrorSpec, Priority, RetrySettings, RouteSpec, Share, Timeouts,
};

use super::super::read::Table;
use super::Meaning;
use super::cluster::count;
use crate::messages::Message;

/// Keys that belong to the short form of a cluster.
const OF_SHORT_FORM: [&str; 2] = ["balancer", "connect_timeout"];

impl Meaning<'_> {
    /// The route, and the cluster that it has to itself.
    pub(super) fn route(&mut self, table: &Table) -> Option<(RouteSpec, Option<ClusterSpec>)> {
        let matches = self.matches(table);
        let handling = self.handling(table);
        let rate = self.rate(table);
        let (to, own) = self.destination(table)?;
        let route = RouteSpec {
            name: table.text("name")?.clone(),
            service: table.text("service")?.clone(),
            listener: table.text("listener").cloned(),
            matches,
            handling,
            connect: table.texts("connect"),
            passes: table.texts("pass_through"),
            to,
            split_by: self.split_by(table),
            timeouts: Timeouts {
                header: *table.duration("header_timeout")?,
                call: *table.duration("timeout")?,
                ..Timeouts::default()
            },
            mirror: self.mirror(table),
            retry: retry(table),
            rate,
            priority: match table.text("priority").map(String::as_str) {
                Some("high") => Priority::High,
                Some("low") => Priority::Low,
                _ => Priority::Normal,
            },
            observe: table.text("mode").map(|mode| mode == "observe"),
            stale_after: table.duration("stale_after").copied(),
            deny_after: table.duration("deny_after").copied(),
        };
        Some((route, own))
    }

    fn mirror(&mut self, route: &Table) -> Option<MirrorSpec> {
        let table = route.table("mirror")?;
        let subset = self.labels(table, "subset");
        let to = Share { subset, ..Share::all(table.text("cluster")?) };
        Some(MirrorSpec { to, share: u16::try_from(*table.integer("share")?).ok()? })
    }

    fn split_by(&mut self, table: &Table) -> Option<HashBy> {
        let written = table.text("split_by")?;
        if !table.entries.contains_key("split") {
            self.wrong(table, "split_by", "`split_by` says nothing without `split`".to_owned());
        }
        let found = HashBy::parse(written);
        if found.is_none() {
            let text = format!("`{written}` is none of {}", HashBy::FORMS);
            self.wrong(table, "split_by", text);
        }
        found
    }

    /// Where the calls of a route go: exactly one of `to`, `cluster` and `split` says it, unless it answers itself.
    fn destination(&mut self, table: &Table) -> Option<(Vec<Share>, Option<ClusterSpec>)> {
        let written: Vec<_> = ["redirect", "respond", "connect", "to", "cluster", "split"]
            .into_iter()
            .filter(|key| table.entries.contains_key(key))
            .collect();
        if let [first, second, ..] = written.as_slice() {
            if (*first, *second) == ("redirect", "respond") {
                return None; // told already
            }
            self.wrong(table, second, format!("{} exclude each other", written.join(" and ")));
            return None;
        }
        if written.first() != Some(&"to") {
            for key in OF_SHORT_FORM.into_iter().filter(|key| table.entries.contains_key(key)) {
                let text = format!("`{key}` belongs to the cluster; write it in [[enforcer.cluster]]");
                self.wrong(table, key, text);
            }
        }
        if written.first() != Some(&"cluster") && table.entries.contains_key("subset") {
            let text = "`subset` is a part of a cluster; write it beside `cluster`, or in split";
            self.wrong(table, "subset", text.to_owned());
        }
        match written.first() {
            Some(&("redirect" | "respond" | "connect")) => Some((Vec::new(), None)),
            Some(&"to") => {
                let own = self.cluster(table, "to")?;
                Some((vec![Share::all(&own.name)], Some(own)))
            }
            Some(&"cluster") => {
                let subset = self.labels(table, "subset");
                Some((vec![Share { subset, ..Share::all(table.text("cluster")?) }], None))
            }
            Some(_) => {
                let mut share = |table: &Table| {
                    let weight = u32::try_from(*table.integer("weight")?).unwrap_or(0);
                    let subset = self.labels(table, "subset");
                    Some(Share { cluster: table.text("cluster")?.clone(), weight, subset })
                };
                let split: Vec<_> = table.tables("split").iter().filter_map(&mut share).collect();
                if split.iter().all(|share| share.weight == 0) {
                    self.wrong(table, "split", "no cluster of `split` has a weight above 0".to_owned());
                }
                Some((split, None))
            }
            None => {
                let text = "`to` is missing in [[enforcer.route]]".to_owned();
                let fault: Message = self.fault("PC0102", table, "", text);
                let help = "endpoints, as to = [\"http://127.0.0.1:8000\"], or cluster = \"NAME\", or split";
                self.messages.push(fault.help(help));
                None
            }
        }
    }
}

fn retry(table: &Table) -> RetrySettings {
    let default = RetrySettings::default();
    let Some(table) = table.table("retry") else { return default };
    RetrySettings {
        attempts: count(table, "attempts").unwrap_or(default.attempts),
        try_timeout: table.duration("try_timeout").copied(),
        grpc_is_idempotent: table.text("grpc").is_some_and(|word| word == "idempotent"),
        budget_percent: count(table, "budget_percent").unwrap_or(default.budget_percent),
        budget_per_second: count(table, "budget_per_second").unwrap_or(default.budget_per_second),
    }
}
