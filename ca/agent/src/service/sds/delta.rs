//! DeltaSecrets: each response holds what changed and what is gone.
//!
//! Driven by `stream`. What was sent counts as held, whether the client took it or not, so that what it refused is not
//! sent again until it changes (SD-02). Names are asked for and given back in any request, also in one whose word on a
//! response comes too late.

use std::collections::{BTreeMap, BTreeSet};

use tonic::Status;

use super::session::{Heard, Refused, Session, check_names, check_type, form_of, rejected};
use crate::{
    generated::sds::envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
    },
    secret::{Form, SECRET_TYPE, version},
    state::{Picked, Wanted},
};

/// The name that stands for all.
const ALL: &str = "*";

/// One stream.
#[derive(Debug, Default)]
pub(super) struct Delta {
    asked: Option<(Wanted, Form)>,
    /// How many responses were sent; the nonce of the last one.
    sent: u64,
    version: String,
    /// What the client has been sent and not been told to drop, by name: its version.
    held: BTreeMap<String, String>,
    /// Names that are asked for and that the client was told are gone.
    gone: BTreeSet<String>,
}

impl Session for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn take(&mut self, request: DeltaDiscoveryRequest) -> Result<Heard, Status> {
        check_type(&request.type_url)?;
        let (subscribe, unsubscribe) = (request.resource_names_subscribe, request.resource_names_unsubscribe);
        let known = self.asked.as_ref().map_or(0, |(wanted, _)| wanted.names.len());
        let versions = request.initial_resource_versions;
        let all = subscribe.iter().chain(&unsubscribe).chain(versions.keys());
        check_names(known.saturating_add(subscribe.len()).max(versions.len()), all)?;

        let Some((wanted, _)) = &mut self.asked else {
            let all = subscribe.is_empty() || subscribe.iter().any(|name| name == ALL);
            let names = subscribe.into_iter().filter(|name| name != ALL).collect();
            let wanted = Wanted { all, names };
            self.held = versions;
            self.held.retain(|name, _| wanted.all || wanted.names.contains(name));
            self.asked = Some((wanted, form_of(request.node.as_ref())));
            return Ok(Heard::Asked);
        };
        let is_changed = !subscribe.is_empty() || !unsubscribe.is_empty();
        for name in unsubscribe {
            if name == ALL {
                wanted.all = false;
                self.held.retain(|name, _| wanted.names.contains(name));
            } else {
                wanted.names.remove(&name);
                self.held.remove(&name);
                self.gone.remove(&name);
            }
        }
        for name in subscribe {
            if name == ALL {
                wanted.all = true;
            } else {
                // Whoever asks again may have forgotten it.
                self.held.remove(&name);
                self.gone.remove(&name);
                wanted.names.insert(name);
            }
        }
        let is_last = self.sent > 0 && request.response_nonce == self.sent.to_string();
        Ok(match &request.error_detail {
            Some(detail) if is_last => rejected(&self.version, detail),
            _ if is_changed => Heard::Asked,
            None if is_last => Heard::Acknowledged,
            _ => Heard::Stale,
        })
    }

    fn asked(&self) -> Option<(&Wanted, Form)> {
        self.asked.as_ref().map(|(wanted, form)| (wanted, *form))
    }

    fn answer(&mut self, picked: &Picked) -> Result<Option<DeltaDiscoveryResponse>, Refused> {
        let is_new = |name: &&String| !self.held.contains_key(*name) && !self.gone.contains(*name);
        let unknown: BTreeSet<String> = picked.unknown.iter().filter(is_new).cloned().collect();
        if !unknown.is_empty() {
            return Err(Refused::Unknown(unknown));
        }
        let resources: Vec<Resource> = picked
            .ready
            .iter()
            .filter(|secret| self.held.get(&secret.name) != Some(&secret.version))
            .map(|secret| Resource {
                name: secret.name.clone(),
                version: secret.version.clone(),
                resource: Some(secret.resource()),
            })
            .collect();
        // What is absent for now, because its renewal fails, stays where it is.
        let is_there = |name: &String| {
            picked.absent.contains(name) || picked.ready.iter().any(|secret| secret.name == *name)
        };
        let removed: Vec<String> = self.held.keys().filter(|name| !is_there(name)).cloned().collect();
        Ok(self.respond(resources, removed))
    }

    fn farewell(&mut self) -> Option<DeltaDiscoveryResponse> {
        let removed = self.held.keys().cloned().collect();
        self.respond(Vec::new(), removed)
    }
}

impl Delta {
    fn respond(
        &mut self,
        resources: Vec<Resource>,
        removed_resources: Vec<String>,
    ) -> Option<DeltaDiscoveryResponse> {
        if resources.is_empty() && removed_resources.is_empty() {
            return None;
        }
        for name in &removed_resources {
            self.held.remove(name);
            self.gone.insert(name.clone());
        }
        for resource in &resources {
            self.gone.remove(&resource.name);
            self.held.insert(resource.name.clone(), resource.version.clone());
        }
        self.sent = self.sent.saturating_add(1);
        self.version =
            version(self.held.iter().flat_map(|(name, version)| [name.as_bytes(), version.as_bytes()]));
        Some(DeltaDiscoveryResponse {
            system_version_info: self.version.clone(),
            resources,
            type_url: SECRET_TYPE.to_owned(),
            nonce: self.sent.to_string(),
            removed_resources,
        })
    }
}
