//! `[[enforcer.issuer]]`: who signs the tokens of people that may call.

use super::{Key, Kind, key, preset, required};

pub(super) static KEYS: &[Key] = &[
    key(
        "enforcer.issuer",
        Kind::Tables,
        "an issuer of OpenID Connect whose users may call",
        "[[enforcer.issuer]]",
    ),
    required(
        "enforcer.issuer.name",
        Kind::Text,
        "its alias: its users are User::\"corp/<sub>\" in policies; a-z, 0-9 and -, at most 32 characters",
        "\"corp\"",
    ),
    required(
        "enforcer.issuer.url",
        Kind::Text,
        "what `iss` of its tokens says, byte for byte",
        "\"https://id.example.org\"",
    ),
    required(
        "enforcer.issuer.audience",
        Kind::List(&Kind::Text),
        "tokens are taken whose `aud` names one of these",
        "[\"https://api.example.org\"]",
    ),
    key(
        "enforcer.issuer.jwks_url",
        Kind::Text,
        "where its keys are; https; absent = where url/.well-known/openid-configuration says",
        "\"https://id.example.org/keys\"",
    ),
    key(
        "enforcer.issuer.jwks_file",
        Kind::Path,
        "file with its keys, a JWK Set, read again every 10 s",
        "\"./corp.json\"",
    ),
    key(
        "enforcer.issuer.roots",
        Kind::Path,
        "PEM with the roots that verify the server with its keys; default: those of this machine",
        "\"./web-roots.pem\"",
    ),
    preset(
        "enforcer.issuer.groups_claim",
        Kind::Text,
        "groups",
        "the claim that names groups, or a member of one: UserGroup::\"corp/<name>\" in policies",
        "\"realm_access.roles\"",
    ),
    preset(
        "enforcer.issuer.forward",
        Kind::Choice(&["on", "off"]),
        "on",
        "whether endpoints receive the token",
        "\"off\"",
    ),
];
