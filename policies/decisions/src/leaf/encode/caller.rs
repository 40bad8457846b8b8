//! Who asked, and what with. The id of a person is on record as the ledger is told to keep it.

use policies_engine::{Credential, Principal, PrincipalKind, Token};

use super::{Caps, Head, entity, key};
use crate::{
    cbor::{IntMap, TextMap},
    commit::{BEHALF, Commitment, PRINCIPAL},
    redact::Stands,
};

pub(super) fn principal(map: &mut IntMap<'_>, principal: &Principal, head: Head<'_>, caps: &mut Caps<'_>) {
    let kind = principal.entity_type();
    match head.redaction.stands(PRINCIPAL, principal, head.id) {
        Stands::Text(id) => entity(map, key::PRINCIPAL, kind, caps.name(PRINCIPAL, &id)),
        Stands::Committed(Commitment(hash)) => {
            map.key(key::PRINCIPAL).text_map(|map| {
                map.key("id").int_map(|map| map.key(0).bytes(&hash));
                map.key("type").text(kind);
            });
        }
    }
}

/// What a token of the call tells: its issuer, and on whose behalf the caller calls where that is not himself. Claims are not on
/// record: they are about a person.
pub(super) fn behalf(
    map: &mut IntMap<'_>,
    token: &Token,
    caller: &Principal,
    head: Head<'_>,
    caps: &mut Caps<'_>,
) {
    let person = Principal::user(token);
    map.key(key::JWT).text_map(|map| {
        if caller.kind() != PrincipalKind::User {
            match head.redaction.stands(BEHALF, &person, head.id) {
                Stands::Text(id) => map.key("id").text(caps.name(BEHALF, &id)),
                Stands::Committed(Commitment(hash)) => map.key("id").int_map(|map| map.key(0).bytes(&hash)),
            }
        }
        map.key("issuer").text(caps.value("jwt.issuer", &token.issuer));
    });
}

pub(super) fn credential_members(map: &mut TextMap<'_>, credential: &Credential, caps: &mut Caps<'_>) {
    map.key("kind").text(credential.kind.as_str());
    if let Some(issuer) = &credential.issuer {
        map.key("issuer").text(caps.value("credential.issuer", issuer));
    }
    if let Some(serial) = &credential.serial {
        map.key("serial").text(caps.value("credential.serial", serial));
    }
    if let Some(not_after) = credential.not_after {
        map.key("not_after").int(not_after.as_nanos());
    }
    if let Some(fingerprint) = &credential.fingerprint {
        map.key("fingerprint").bytes(fingerprint);
    }
}
