//! Policies, configuration, certificates, origins and processes that change one after another.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::port::free_port;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check, own_uid};

use super::load::Load;
use super::origin::{Arrived, Origin};
use super::{KINDS, account, part_of, policy};
use crate::certificates;

const EDGE: &str = "spiffe://example.org/edge";

struct Chaos {
    /// Gives the gateway its identity.
    authority: Gateway,
    entry: String,
    gateway: Gateway,
    text: String,
    origins: [Origin; 2],
    flips: BTreeMap<u64, bool>,
}

/// Makes changes of one kind, and says how many.
type Change = fn(&mut Chaos) -> Result<usize>;

pub(super) fn all() -> Result {
    let arrived = Arrived::default();
    let mut chaos = Chaos::start(&arrived)?;
    let tls = chaos.authority.dir().join("tls");
    let load = Load::of(KINDS, chaos.gateway.address, &tls)?;
    let mut done = Ok(());
    let changes: [(&str, Change); 5] = [
        ("pushes of policies", Chaos::policies),
        ("reloads of the configuration", Chaos::configuration),
        ("rotations of the SVID", Chaos::identity),
        ("origins killed", Chaos::origins),
        ("upgrades", Chaos::upgrades),
    ];
    for (what, change) in changes {
        let begun = Instant::now();
        done = change(&mut chaos).map(|count| println!("{count} {what} in {:.1?}", begun.elapsed()));
        if done.is_err() {
            break;
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    let seen = load.stop()?;
    done.and_then(|()| account(&chaos.gateway, &arrived, &seen, &chaos.flips))
}

impl Chaos {
    fn start(arrived: &Arrived) -> Result<Self> {
        let authority = Gateway::before(Upstream::echo().address)?;
        authority.identity()?;
        let entry = json!({ "spiffe_id": EDGE, "selectors": [format!("unix:uid:{}", own_uid())], "dns_names": ["localhost"] });
        let made = authority.ask("POST", "/v1/entries", &[], Some(&entry))?;
        let entry = made.body["id"].as_str().ok_or_else(|| format!("no entry: {made:?}"))?.to_owned();
        let origins = [Origin::start(arrived)?, Origin::start(arrived)?];
        let mut site = Gateway::build()
            .identity_of(&authority, EDGE)
            .policy(&policy(true, 0))
            .listener("profile = \"mesh\"")
            .quic()
            .run(&["--drain-grace", "4s"])
            .service("site", &[])
            .section(&format!(
                "[[enforcer.cluster]]\nname = \"site\"\nendpoints = [\"http://{}\", \"http://{}\"]\n",
                origins[0].address, origins[1].address
            ));
        for kind in KINDS {
            let name = kind.path.trim_start_matches('/');
            site = site.section(&format!(
                "[[enforcer.route]]\nname = \"{name}\"\nservice = \"site\"\nmatch = {{ path = \"{}\" }}\ncluster = \"site\"\n",
                kind.path
            ));
        }
        let gateway = site.start()?;
        let text = fs::read_to_string(gateway.dir().join("portcullis.toml"))?;
        let flips = BTreeMap::from([(gateway.policies_version()?, true)]);
        Ok(Self { authority, entry, gateway, text, origins, flips })
    }

    fn policies(&mut self) -> Result<usize> {
        let pushes = part_of(600);
        for push in 1..=pushes {
            let flips = push % 2 == 0;
            let version = self.gateway.publish("web.cedar", &policy(flips, push))?;
            self.flips.insert(version, flips);
        }
        Ok(pushes)
    }

    /// Routes, clusters, listeners and certificates.
    fn configuration(&mut self) -> Result<usize> {
        let (reloads, ports) = (part_of(100), [free_port(), free_port()]);
        let place = self.gateway.dir().to_owned();
        certificates::make(&place, "shop", "DNS:shop.test")?;
        for reload in 0..reloads {
            let port = ports[reload / 2 % 2];
            if reload % 5 == 4 {
                certificates::make(&place, "shop", "DNS:shop.test")?;
            }
            let listener = format!(
                "[[enforcer.listener]]\nname = \"more\"\nbind = [\"tcp://127.0.0.1:{port}\", \"quic://127.0.0.1:{port}\"]\nhosts = [\"localhost\"]\n{}",
                certificates::section(&place, "shop")
            );
            let route = "[[enforcer.route]]\nname = \"more\"\nservice = \"site\"\nmatch = { path = \"/more\" }\ncluster = \"site\"\n";
            let [one, two] = self.origins.each_ref().map(|origin| origin.address.to_string());
            let swapped = self.text.replace(&one, "ORIGIN").replace(&two, &one).replace("ORIGIN", &two);
            let text = match reload % 5 {
                0 => format!("{}\n{listener}", self.text),
                1 => format!("{swapped}\n{listener}{route}"),
                2 => format!("{}\n{route}", self.text.replace("\"mesh\"", "\"mesh\"\nmax_age = \"20h\"")),
                3 => format!("{swapped}\n{listener}"),
                _ => format!("{}\n{listener}{route}", self.text),
            };
            fs::write(self.gateway.dir().join("portcullis.toml"), &text)?;
            let outcome = self.gateway.cli(&["config", "reload"])?;
            check!(outcome.code == 0, "reload {reload}: {outcome:?}\n{text}");
        }
        fs::write(self.gateway.dir().join("portcullis.toml"), &self.text)?;
        self.gateway.cli(&["config", "reload"])?;
        Ok(reloads)
    }

    /// Another SVID each second, with other names.
    fn identity(&mut self) -> Result<usize> {
        let rotations = part_of(60);
        let path = format!("/v1/entries/{}", self.entry);
        let serial = |gateway: &Gateway| -> Result<String> {
            Ok(gateway.json(&["status"])?["identity"]["serial"].to_string())
        };
        for rotation in 0..rotations {
            let (begun, before) = (Instant::now(), serial(&self.gateway)?);
            let tag = self.authority.ask("GET", &path, &[], None)?;
            let tag = tag.header("etag").ok_or("no etag")?.to_owned();
            let entry = json!({ "spiffe_id": EDGE, "selectors": [format!("unix:uid:{}", own_uid())], "dns_names": ["localhost", format!("r{rotation}.test")] });
            let changed = self.authority.ask("PUT", &path, &[("if-match", &tag)], Some(&entry))?;
            check!(changed.status == 200, "{changed:?}");
            while serial(&self.gateway)? == before {
                check!(
                    begun.elapsed() < Duration::from_secs(15),
                    "no other SVID came\n{}",
                    self.gateway.log()
                );
                std::thread::sleep(Duration::from_millis(20));
            }
            std::thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
        }
        Ok(rotations)
    }

    fn origins(&mut self) -> Result<usize> {
        let kills = part_of(40);
        for kill in 0..kills {
            let origin = &mut self.origins[kill % 2];
            origin.kill()?;
            std::thread::sleep(Duration::from_millis(300));
            origin.restart()?;
            self.until_open()?;
        }
        Ok(kills)
    }

    /// Both take calls: one that failed is left alone for a second, and the other must not be killed meanwhile.
    fn until_open(&self) -> Result {
        let begun = Instant::now();
        loop {
            let listed = self.gateway.ask("GET", "/v1/proxy/endpoints", &[], None)?;
            let endpoints = listed.body["items"].as_array().cloned().unwrap_or_default();
            if endpoints.len() == 2 && endpoints.iter().all(|endpoint| endpoint["state"] == "in use") {
                return Ok(());
            }
            check!(begun.elapsed() < Duration::from_secs(10), "an origin takes no calls: {listed:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn upgrades(&mut self) -> Result<usize> {
        let upgrades = part_of(20).max(2);
        for _ in 0..upgrades {
            let before = self.gateway.upgrade()?;
            check!(self.gateway.serving()? != before, "the same process");
            std::thread::sleep(Duration::from_millis(300));
        }
        Ok(upgrades)
    }
}
