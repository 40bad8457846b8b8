//! StreamSecrets: each response holds everything that is asked for (the state of the world).
//!
//! Driven by `stream`. A response is compared with what was sent, whether the client took it or not: what it refused is
//! not sent again until it changes (SD-02). A request that speaks of an older response is left aside, since the client
//! repeats all it wants with its word on the newest.

use std::collections::{BTreeMap, BTreeSet};

use tonic::Status;

use super::session::{Heard, Refused, Session, check_names, check_type, form_of, rejected};
use crate::{
    generated::sds::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
    secret::{Form, SECRET_TYPE, version},
    state::{Picked, Wanted},
};

/// One stream.
#[derive(Debug, Default)]
pub(super) struct Whole {
    asked: Option<(Wanted, Form)>,
    /// How many responses were sent; the nonce of the last one.
    sent: u64,
    version: String,
    /// What the last responses held of what is asked for, by name: its version.
    held: BTreeMap<String, String>,
}

impl Session for Whole {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn take(&mut self, request: DiscoveryRequest) -> Result<Heard, Status> {
        check_type(&request.type_url)?;
        check_names(request.resource_names.len(), request.resource_names.iter())?;
        let names: BTreeSet<String> = request.resource_names.into_iter().collect();
        let wanted = Wanted { all: names.is_empty(), names };
        let Some((before, _)) = &mut self.asked else {
            self.asked = Some((wanted, form_of(request.node.as_ref())));
            return Ok(Heard::Asked);
        };
        // Before the first response there is no nonce to speak of.
        let is_last = match self.sent {
            0 => request.response_nonce.is_empty(),
            sent => request.response_nonce == sent.to_string(),
        };
        if !is_last {
            return Ok(Heard::Stale);
        }
        let is_changed = *before != wanted;
        if is_changed {
            // What is asked for again later is sent again: the client may have forgotten it meanwhile.
            if !wanted.all {
                self.held.retain(|name, _| wanted.names.contains(name));
            }
            *before = wanted;
        }
        Ok(match &request.error_detail {
            Some(detail) => rejected(&self.version, detail),
            None if is_changed => Heard::Asked,
            None => Heard::Acknowledged,
        })
    }

    fn asked(&self) -> Option<(&Wanted, Form)> {
        self.asked.as_ref().map(|(wanted, form)| (wanted, *form))
    }

    fn answer(&mut self, picked: &Picked) -> Result<Option<DiscoveryResponse>, Refused> {
        let (lost, unknown): (BTreeSet<_>, BTreeSet<_>) =
            picked.unknown.iter().cloned().partition(|name| self.held.contains_key(name));
        if !unknown.is_empty() {
            return Err(Refused::Unknown(unknown));
        }
        if !lost.is_empty() {
            return Err(Refused::Lost(lost));
        }
        let offered: BTreeMap<String, String> =
            picked.ready.iter().map(|secret| (secret.name.clone(), secret.version.clone())).collect();
        if self.sent > 0 && offered == self.held {
            return Ok(None);
        }
        self.sent = self.sent.saturating_add(1);
        let parts = offered.iter().flat_map(|(name, version)| [name.as_bytes(), version.as_bytes()]);
        self.version = version(parts);
        self.held = offered;
        Ok(Some(DiscoveryResponse {
            version_info: self.version.clone(),
            resources: picked.ready.iter().map(|secret| secret.resource()).collect(),
            type_url: SECRET_TYPE.to_owned(),
            nonce: self.sent.to_string(),
        }))
    }

    fn farewell(&mut self) -> Option<DiscoveryResponse> {
        None
    }
}
