//! Header and claims of tokens: what is read before any key is looked at. The signature is nobody's, so nothing is believed.

use std::sync::{Arc, OnceLock};

use base_ports::UnixTime;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ca_identity::{
    Bundle, BundleMap, IdentitySnapshot, JwtSigner, PrivateKey, TrustDomain, inspect, verify_jwt_svid,
};

use super::Target;

fn trusted() -> &'static (IdentitySnapshot, String) {
    static TRUSTED: OnceLock<(IdentitySnapshot, String)> = OnceLock::new();
    TRUSTED.get_or_init(|| make().expect("a key is made"))
}

fn make() -> tests::Result<(IdentitySnapshot, String)> {
    let signer = JwtSigner::new(&PrivateKey::generate_p256()?)?;
    let bundle = Bundle::new(TrustDomain::parse("example.org")?, Vec::new(), 1)?;
    let bundle = bundle.with_jwt_keys(vec![signer.public().clone()])?;
    let bundles = BundleMap::of(Arc::new(bundle));
    let snapshot = IdentitySnapshot { bundles, ..IdentitySnapshot::default() };
    Ok((snapshot, signer.public().kid().to_owned()))
}

pub(super) const TOKEN: Target = Target {
    name: "token",
    run: |input| {
        let (snapshot, _) = trusted();
        let mut parts = input.splitn(2, |byte| *byte == b'\n');
        let (header, payload) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let token = format!("{}.{}.{}", encode(header), encode(payload), encode(&[7; 64]));
        let now = UnixTime::from_secs(1_800_000_000);
        let refusal = verify_jwt_svid(&token, "orders", snapshot, now).expect_err("nobody signed it");
        // What can be shown is what was refused for its key or later.
        let shown = inspect::token(&token);
        let is_formed = matches!(
            refusal.code(),
            "unknown_trust_domain" | "unknown_key" | "key_mismatch" | "bad_signature"
        );
        assert_eq!(shown.is_ok(), is_formed, "{refusal}");
        if let Ok(text) = str::from_utf8(input) {
            assert!(verify_jwt_svid(text, "orders", snapshot, now).is_err());
        }
        refusal.code().to_owned()
    },
    seeds: || {
        let (_, kid) = trusted();
        let claims =
            r#"{"sub":"spiffe://example.org/web","aud":["orders"],"exp":1800000300,"iat":1800000000}"#;
        let headers = [
            format!(r#"{{"alg":"ES256","kid":"{kid}","typ":"JWT"}}"#),
            r#"{"alg":"ES256"}"#.to_owned(),
            r#"{"alg":"RS256","kid":"other"}"#.to_owned(),
        ];
        headers.map(|header| format!("{header}\n{claims}").into_bytes()).into()
    },
    words: &[
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "\n",
        "null",
        "true",
        "1e999",
        "-1",
        "1800000300.0",
        "18446744073709551616",
        "\"alg\"",
        "\"crit\"",
        "\"none\"",
        "\"HS256\"",
        "\"wit+jwt\"",
        "\"sub\"",
        "\"aud\":\"\"",
        "\"nbf\":0",
        "\\u0061",
        "\\ud800",
    ],
};
