//! Rules of JWT-SVID one by one, over the tokens of the forge: what each refuses, and what it must let through.

use serde_json::json;

use super::*;

/// Those bad tokens are there, and each meets that refusal.
fn refused(code: &str, names: &[&str]) {
    let forge = forge();
    let bad = forge.bad();
    for name in names {
        let found = bad.iter().find(|bad| bad.name == *name).unwrap_or_else(|| panic!("no token `{name}`"));
        assert_eq!(forge.judge(&found.token).map(drop), Err(code), "{name}");
    }
}

fn payload() -> Value {
    let seconds = now().as_secs();
    let end = seconds.saturating_add(300);
    json!({ "sub": "spiffe://example.org/web", "aud": ["orders"], "exp": end, "iat": seconds })
}

/// What a token of that header and payload earns; its signature is good.
fn judged(header: &Value, payload: &Value) -> Result<(), &'static str> {
    let forge = forge();
    forge.judge(&forge.token(&header.to_string(), &payload.to_string())).map(drop)
}

fn header() -> Value {
    json!({ "alg": "ES256", "kid": forge().signer().public().kid() })
}

#[test]
fn jw_01_only_the_compact_form_is_composed_and_taken() {
    let token = forge().composed(Duration::from_secs(300));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    assert!(token.bytes().all(plain) && token.matches('.').count() == 2, "{token}");
    let forms = ["the JSON serialization", "two segments", "four segments", "padding", "the other alphabet"];
    refused("not_compact", &forms);
}

#[test]
fn jw_04_the_type_is_absent_or_says_jwt() {
    assert_eq!(judged(&header(), &payload()), Ok(()));
    for typ in ["JWT", "JOSE"] {
        let mut header = header();
        header["typ"] = typ.into();
        assert_eq!(judged(&header, &payload()), Ok(()), "{typ}");
    }
    refused(
        "type",
        &["a WIT", "an access token", "a type in lower case", "a number as type", "no type at all"],
    );
}

#[test]
fn jw_06_the_subject_is_a_spiffe_id_of_a_workload() {
    let names = ["another scheme", "upper case", "a query", "percent encoding", "dots in the path"];
    refused("subject", &names);
    refused("root_path", &["no path"]);
    refused("wrong_claim", &["a number as subject", "null as subject", "a list as subject"]);
    refused("missing_claim", &["no subject"]);
}

#[test]
fn jw_07_the_audience_is_text_or_a_list_and_holds_who_is_asked() {
    for audience in [json!("orders"), json!(["orders"]), json!(["billing", "orders"])] {
        let mut payload = payload();
        payload["aud"] = audience.clone();
        assert_eq!(judged(&header(), &payload), Ok(()), "{audience}");
    }
    refused("missing_claim", &["no audience"]);
    refused("no_audience", &["nobody as audience", "an empty audience", "an empty name in the audience"]);
    let others = ["another audience", "an audience that begins alike", "an audience of another case"];
    refused("wrong_audience", &others);
}

#[test]
fn jw_09_the_end_is_there_and_ahead_within_ten_seconds() {
    refused("missing_claim", &["no end"]);
    refused("expired", &["ended", "ended ten seconds ago", "ended in 1970"]);
    for (ago, answer) in [(0, Ok(())), (9, Ok(())), (10, Err("expired"))] {
        let mut payload = payload();
        payload["exp"] = (now().as_secs() - ago).into();
        assert_eq!(judged(&header(), &payload), answer, "{ago}");
    }
}

#[test]
fn vj_02_a_header_says_three_things_once_and_is_judged_before_any_key() {
    let unknown = ["jwk", "jku", "x5u", "x5c", "b64", "zip", "crit", "an unknown member"];
    refused("header_member", &unknown);
    refused("duplicate_member", &["an algorithm twice", "an algorithm twice, escaped", "a key twice"]);
    refused("algorithm", &["none", "HS256", "EdDSA", "no algorithm"]);
    refused("key_identifier", &["a number as key", "an empty key", "a long key"]);
    // With a key and a trust domain that nobody knows it is still the header that is told.
    let mut elsewhere = payload();
    elsewhere["sub"] = "spiffe://nobody.org/web".into();
    for (member, value, code) in [
        ("jku", "https://evil.test", "header_member"),
        ("alg", "none", "algorithm"),
        ("typ", "wit+jwt", "type"),
    ] {
        let mut header = json!({ "alg": "ES256", "kid": "nobody" });
        header[member] = value.into();
        assert_eq!(judged(&header, &elsewhere), Err(code));
    }
}

#[test]
fn vj_03_claims_have_their_types_and_a_wrong_one_is_not_an_absent_one() {
    let names = [
        "text as end",
        "null as end",
        "a fraction as end",
        "scientific notation",
        "a negative end",
        "an end beyond 64 bits",
        "text as beginning",
        "a number as issuer",
        "a number as token id",
        "a number as audience",
        "null as audience",
        "an object as audience",
        "a number in the audience",
    ];
    refused("wrong_claim", &names);
    refused("duplicate_member", &["a subject twice", "an audience twice", "an end twice", "twice, within"]);
    refused("not_json", &["depth 17", "a list as payload", "two payloads", "an endless end"]);
    for (claim, value) in
        [("iat", Value::Null), ("nbf", json!("0")), ("nbf", Value::Null), ("iat", json!([1]))]
    {
        let mut payload = payload();
        payload[claim] = value.clone();
        assert_eq!(judged(&header(), &payload), Err("wrong_claim"), "{claim} {value}");
    }
}

#[test]
fn wi_05_a_wit_is_no_token_by_its_type_nor_by_its_claims() {
    let mut wit = payload();
    wit["cnf"] = json!({ "jwk": { "kty": "EC" } });
    let claims = wit.as_object_mut().unwrap();
    claims.remove("aud");
    let mut typed = header();
    typed["typ"] = "wit+jwt".into();
    assert_eq!(judged(&typed, &payload()), Err("type"));
    assert_eq!(judged(&typed, &wit), Err("type"));
    assert_eq!(judged(&header(), &wit), Err("missing_claim"));
}

#[test]
fn id_11_the_subject_stands_in_the_signed_part() {
    use base64::Engine;
    let token = forge().composed(Duration::from_secs(300));
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let changed = String::from_utf8(engine.decode(payload).unwrap()).unwrap().replace("/web", "/wab");
    assert!(changed.contains("/wab"));
    let forged = format!("{header}.{}.{signature}", engine.encode(changed));
    assert_eq!(forge().judge(&forged).map(drop), Err("bad_signature"));
}
