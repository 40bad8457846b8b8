//! How relationships and bundles of other trust domains stand in the store: one row each, and one that is written when a
//! bundle was seen again unchanged.

use std::sync::Arc;

use base_ports::UnixTime;
use ca_identity::{Bundle, SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};

use super::{Held, NewRelationship, Profile, Relationship};
use crate::error::AuthorityError;
use crate::row;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RelationRow {
    v: u8,
    url: String,
    profile: String,
    endpoint_id: Option<String>,
    created_at_nanos: i64,
    from_configuration: bool,
}

/// The bundle, as it was published.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BundleRow {
    v: u8,
    document: String,
    at_nanos: i64,
    from: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckedRow {
    v: u8,
    at_nanos: i64,
}

pub(crate) fn relation_key(domain: &TrustDomain) -> Vec<u8> {
    format!("{}{domain}", row::FEDERATION).into_bytes()
}

pub(crate) fn bundle_key(domain: &TrustDomain) -> Vec<u8> {
    format!("{}{domain}", row::FEDERATED).into_bytes()
}

pub(crate) fn checked_key(domain: &TrustDomain) -> Vec<u8> {
    format!("{}{domain}", row::FEDERATED_SEEN).into_bytes()
}

pub(crate) fn relation_row(relation: &Relationship) -> Result<Vec<u8>, AuthorityError> {
    let NewRelationship { trust_domain, url, profile } = &relation.with;
    let row = RelationRow {
        v: 1,
        url: url.clone(),
        profile: profile.name().to_owned(),
        endpoint_id: profile.endpoint_id().map(ToString::to_string),
        created_at_nanos: relation.created_at.as_nanos(),
        from_configuration: relation.from_configuration,
    };
    row::write(&relation_key(trust_domain), &row)
}

/// The relationship of a row, without its bundle.
pub(crate) fn relation_of(key: &[u8], bytes: &[u8], revision: u64) -> Result<Relationship, AuthorityError> {
    let row: RelationRow = row::read(key, bytes)?;
    let name = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(row::FEDERATION));
    let domain = TrustDomain::parse(name.unwrap_or_default()).map_err(|fault| row::unreadable(key, fault))?;
    let id = row.endpoint_id.as_deref().map(SpiffeId::parse).transpose();
    let id = id.map_err(|fault| row::unreadable(key, fault))?;
    let profile = Profile::of(&row.profile, id).map_err(|fault| row::unreadable(key, fault.to_string()))?;
    Ok(Relationship {
        with: NewRelationship { trust_domain: domain, url: row.url, profile },
        from_configuration: row.from_configuration,
        created_at: UnixTime::from_nanos(row.created_at_nanos),
        revision,
        held: None,
    })
}

impl BundleRow {
    pub(crate) fn write(domain: &TrustDomain, held: &Held) -> Result<Vec<u8>, AuthorityError> {
        let (document, from) = (held.document.to_string(), held.from.clone());
        row::write(&bundle_key(domain), &Self { v: 1, document, at_nanos: held.at.as_nanos(), from })
    }

    pub(crate) fn read(domain: &TrustDomain, bytes: &[u8]) -> Result<Held, AuthorityError> {
        let key = bundle_key(domain);
        let row: Self = row::read(&key, bytes)?;
        let bundle = Bundle::from_jwks(domain.clone(), row.document.as_bytes());
        let bundle = bundle.map_err(|fault| row::unreadable(&key, fault))?;
        Ok(Held::new(bundle, Arc::from(row.document), UnixTime::from_nanos(row.at_nanos), row.from))
    }
}

pub(crate) fn checked_row(domain: &TrustDomain, at: UnixTime) -> Result<Vec<u8>, AuthorityError> {
    row::write(&checked_key(domain), &CheckedRow { v: 1, at_nanos: at.as_nanos() })
}

pub(crate) fn checked_at(domain: &TrustDomain, bytes: &[u8]) -> Result<UnixTime, AuthorityError> {
    let row: CheckedRow = row::read(&checked_key(domain), bytes)?;
    Ok(UnixTime::from_nanos(row.at_nanos))
}
