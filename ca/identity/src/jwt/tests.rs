//! Tokens against the rules of JWT-SVID: the sound ones pass, and each of more than eighty bad ones is refused for its
//! own reason.

mod conformance;

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::testing::{TokenForge, now};
use crate::{JwksReader, Revoked, TrustDomain};

/// Keys are made once: an RSA key for each case of a property takes minutes.
fn forge() -> &'static TokenForge {
    static FORGE: LazyLock<TokenForge> = LazyLock::new(|| TokenForge::new(now()));
    &FORGE
}

#[test]
fn jw_02_sound_tokens_of_every_algorithm_are_taken() {
    let forge = forge();
    for (name, token) in forge.sound() {
        let verified = forge.judge(&token).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert_eq!(verified.id.as_str(), "spiffe://example.org/web");
        assert_eq!(verified.audience, ["orders"]);
        assert_eq!(verified.expires, now() + Duration::from_secs(300));
    }
}

#[test]
fn vj_08_each_bad_token_is_refused_for_its_own_reason() {
    let forge = forge();
    let (bad, mut codes) = (forge.bad(), BTreeSet::new());
    assert!(bad.len() >= 80, "{}", bad.len());
    let names: BTreeSet<_> = bad.iter().map(|bad| bad.name).collect();
    assert_eq!(names.len(), bad.len(), "names say which");
    let judged = bad.iter().map(|bad| (bad, forge.judge(&bad.token).err()));
    let wrong: Vec<_> = judged
        .inspect(|(bad, _)| {
            codes.insert(bad.code);
        })
        .filter(|(bad, refusal)| *refusal != Some(bad.code))
        .map(|(bad, refusal)| (bad.name, bad.code, refusal))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(codes.len() >= 20, "{codes:?}");
}

#[test]
fn vj_07_jw_03_jw_05_df_01_df_08_what_we_compose_has_the_least_form_and_verifies() {
    let forge = forge();
    let token = forge.composed(Duration::from_secs(300));
    let part = |nth: usize| -> Value {
        use base64::Engine;
        let text = token.split('.').nth(nth).unwrap();
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap())
            .unwrap()
    };
    let kid = forge.signer().public().kid();
    assert_eq!(part(0), serde_json::json!({ "alg": "ES256", "kid": kid, "typ": "JWT" }));
    let seconds = now().as_secs();
    let expected = serde_json::json!({
        "sub": "spiffe://example.org/web", "aud": ["orders"], "exp": seconds + 300, "iat": seconds, "jti": "one",
    });
    assert_eq!(part(1), expected);
    let verified = forge.judge(&token).unwrap();
    assert_eq!((verified.key.as_str(), verified.jti.as_deref()), (kid, Some("one")));
    assert_eq!(Value::Object(verified.claims), expected);
}

#[test]
fn rv_03_a_token_that_was_good_is_judged_again_by_look_ups() {
    let forge = forge();
    let token = forge.judge(&forge.composed(Duration::from_secs(300))).unwrap();
    let mut snapshot = forge.snapshot();
    assert_eq!(snapshot.check_token(&token), Ok(()));
    snapshot.revoked.deny(&Revoked::Id(token.id.clone()));
    assert_eq!(snapshot.check_token(&token), Err(TokenRefusal::RevokedId));
    let mut snapshot = forge.snapshot();
    let domain = TrustDomain::parse("example.org").unwrap();
    snapshot.bundles.insert(Bundle::new(domain.clone(), Vec::new(), 8).unwrap().into()).unwrap();
    assert_eq!(snapshot.check_token(&token), Err(TokenRefusal::UnknownKey), "its key is gone");
    snapshot.bundles.remove(&domain);
    assert_eq!(snapshot.check_token(&token), Err(TokenRefusal::UnknownTrustDomain(domain)));
}

#[test]
fn vj_04_a_token_that_names_no_key_is_tried_with_those_that_fit() {
    let forge = forge();
    assert_eq!(forge.judge(&forge.without_kid()).unwrap().key, forge.signer().public().kid());
}

#[test]
fn jw_12_only_the_keys_of_the_domain_count_and_tb_05_none_means_none() {
    let forge = forge();
    let token = forge.composed(Duration::from_secs(300));
    let mut snapshot = forge.snapshot();
    let judge = |snapshot: &IdentitySnapshot| verify_jwt_svid(&token, "orders", snapshot, now());
    assert!(judge(&snapshot).is_ok());
    let domain = TrustDomain::parse("example.org").unwrap();
    let none = Bundle::new(domain.clone(), Vec::new(), 8).unwrap();
    snapshot.bundles.insert(none.into()).unwrap();
    assert_eq!(judge(&snapshot), Err(TokenRefusal::NoKeys));
    snapshot.bundles.remove(&domain);
    assert_eq!(judge(&snapshot), Err(TokenRefusal::UnknownTrustDomain(domain)));
    let stale = forge.bundle().with_stale_after(now() - Duration::from_secs(1));
    snapshot.bundles.insert(stale.into()).unwrap();
    assert_eq!(judge(&snapshot), Err(TokenRefusal::BundleStale));
}

#[test]
fn vj_06_the_deny_set_ends_keys_identities_and_single_tokens() {
    let forge = forge();
    let token = forge.composed(Duration::from_secs(300));
    let domain = || TrustDomain::parse("example.org").unwrap();
    let judge = |deny: &dyn Fn(&mut crate::RevocationSet)| {
        let mut snapshot = forge.snapshot();
        deny(&mut snapshot.revoked);
        verify_jwt_svid(&token, "orders", &snapshot, now()).map(drop)
    };
    let kid = forge.signer().public().kid();
    assert_eq!(judge(&|set| set.deny(&Revoked::JwtKey(domain(), kid.into()))), Err(TokenRefusal::RevokedKey));
    assert_eq!(
        judge(&|set| set.deny(&Revoked::Token(domain(), "one".into()))),
        Err(TokenRefusal::RevokedToken)
    );
    let id = SpiffeId::new(&domain(), "/web").unwrap();
    assert_eq!(judge(&|set| set.deny(&Revoked::Id(id.clone()))), Err(TokenRefusal::RevokedId));
    let other = TrustDomain::parse("other.org").unwrap();
    assert_eq!(judge(&|set| set.deny(&Revoked::JwtKey(other.clone(), kid.into()))), Ok(()));
    assert_eq!(judge(&|set| set.deny(&Revoked::Token(domain(), "two".into()))), Ok(()));
}

#[test]
fn vj_01_an_empty_audience_is_never_asked_for() {
    let forge = forge();
    let token = forge.composed(Duration::from_secs(300));
    let judged = verify_jwt_svid(&token, "", &forge.snapshot(), now());
    assert_eq!(judged, Err(TokenRefusal::NoAudienceExpected));
}

#[test]
fn jw_11_df_02_df_03_every_key_has_its_name_and_the_use_of_its_place() {
    let forge = forge();
    let bundle = forge.bundle();
    let again = Bundle::from_jwks(bundle.trust_domain.clone(), bundle.to_jwks().as_bytes()).unwrap();
    assert_eq!(again.jwt_keys(), bundle.jwt_keys());
    let keys =
        |text: String| serde_json::from_str::<Value>(&text).unwrap()["keys"].as_array().unwrap().clone();
    for (keys, used_for, has_alg) in [
        (keys(bundle.to_jwks()), Some("jwt-svid"), false),
        (keys(bundle.to_jwt_jwks(JwksReader::WorkloadApi)), None, false),
        (keys(bundle.to_jwt_jwks(JwksReader::Oidc { names_use: true })), Some("sig"), true),
    ] {
        assert_eq!(keys.len(), 4);
        for key in keys {
            assert_eq!(key.get("use").and_then(Value::as_str), used_for);
            assert_eq!(key.get("alg").is_some(), has_alg);
            assert!(key["kid"].is_string());
        }
    }
}

#[test]
fn jw_11_unusable_keys_are_named_and_keys_of_other_uses_are_passed_over() {
    let read = |key: Value| {
        let document = serde_json::json!({ "keys": [key] }).to_string();
        Bundle::from_jwks(TrustDomain::parse("example.org").unwrap(), document.as_bytes())
    };
    let forge = forge();
    let sound: Value = serde_json::from_str(&forge.bundle().to_jwks()).unwrap();
    let sound = sound["keys"][0].clone();
    let with = |name: &str, value: Value| {
        let mut key = sound.clone();
        key[name] = value;
        key
    };
    assert_eq!(read(sound.clone()).unwrap().jwt_keys().len(), 1);
    for (name, value) in
        [("use", "sig"), ("use", "JWT-SVID"), ("use", "wit-svid"), ("kty", "OKP"), ("kty", "oct")]
    {
        assert!(read(with(name, value.into())).unwrap().jwt_keys().is_empty(), "{name} {value}");
    }
    for (name, value) in [
        ("kid", Value::Null),
        ("kid", "".into()),
        ("kid", "k".repeat(257).into()),
        ("crv", "P-224".into()),
        ("crv", "P-384".into()),
        ("x", "AA".into()),
        ("y", "!".into()),
        ("alg", "RS256".into()),
        ("alg", "HS256".into()),
        ("alg", 1.into()),
    ] {
        let error = read(with(name, value.clone())).unwrap_err().to_string();
        assert!(error.starts_with("key 1 of the bundle document: "), "{name} {value}: {error}");
    }
    let both = serde_json::json!({ "keys": [sound, sound] }).to_string();
    let twice = Bundle::from_jwks(TrustDomain::parse("example.org").unwrap(), both.as_bytes());
    assert!(twice.unwrap_err().to_string().contains("twice"));
}

#[test]
fn what_a_token_says_can_be_shown_without_believing_it() {
    let forge = forge();
    let facts = crate::inspect::token(&forge.composed(Duration::from_secs(300))).unwrap();
    assert_eq!((facts.id.path(), facts.audience.as_slice()), ("/web", &["orders".to_owned()][..]));
    assert_eq!((facts.issued, facts.expires), (Some(now()), now() + Duration::from_secs(300)));
    assert_eq!(facts.key.as_deref(), Some(forge.signer().public().kid()));
    assert_eq!((facts.algorithm.name(), facts.jti.as_deref(), facts.issuer), ("ES256", Some("one"), None));
    assert_eq!(crate::inspect::token("a.b").unwrap_err(), TokenRefusal::NotCompact);
}

proptest! {
    #[test]
    fn vj_01_any_text_is_refused_and_none_panics(text in ".{0,200}", dots in 0_usize..4) {
        let forge = forge();
        let text = text + &".e30".repeat(dots);
        prop_assert!(forge.judge(&text).is_err());
    }

    #[test]
    fn vj_05_no_changed_byte_goes_unnoticed(at in any::<proptest::sample::Index>(), bit in 0_u8..7) {
        let forge = forge();
        let mut token = forge.composed(Duration::from_secs(300)).into_bytes();
        let at = at.index(token.len());
        token[at] ^= 1 << bit;
        if let Ok(text) = String::from_utf8(token) {
            prop_assert_eq!(forge.judge(&text).map(drop).is_err(), true);
        }
    }
}
